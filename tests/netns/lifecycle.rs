//! The lab itself: what a world made goes with it, so that tests cannot disturb each other.

use lab::{Namespace, Node};

#[test]
fn a_node_that_is_dropped_leaves_nothing_behind() {
    let node = Node::start().unwrap();
    let guest = node.guest("a").boot().unwrap();
    assert_eq!(guest.read_uuid(false).unwrap(), guest.uuid());
    let names = [node.namespace().name(), guest.namespace().name(), node.responder().name()].map(str::to_owned);
    let folder = node.instances();
    let process = node.daemon_id().unwrap();
    drop((guest, node));
    for name in names {
        assert!(!Namespace::existing(&name).exists(), "{name} is left");
    }
    assert!(!folder.exists());
    assert!(!std::path::Path::new(&format!("/proc/{process}")).exists(), "the daemon still runs");
}

#[test]
fn the_responder_is_reached_by_nobody_but_guests() {
    let node = Node::start().unwrap();
    let guest = node.guest("a").boot().unwrap();
    assert_eq!(guest.read_uuid(false).unwrap(), guest.uuid());
    let inside = node.responder().ip("-o addr show").unwrap();
    assert!(inside.contains("fd6d::a9fe:a9fe"), "{inside}");
    assert!(!inside.contains("inet 1") || inside.contains("inet 127."), "an IPv4 address: {inside}");
    // The node itself has no way to it: not by route, and not by asking on the pair.
    let address = "[fd6d::a9fe:a9fe]:80".parse().unwrap();
    let patience = std::time::Duration::from_millis(300);
    let reached =
        node.namespace().run(|| Ok(std::net::TcpStream::connect_timeout(&address, patience).is_ok())).unwrap();
    assert!(!reached, "the node reaches the responder");
}
