//! The lab itself: what a world made goes with it, so that tests cannot disturb each other.

use lab::{Namespace, Node};

#[test]
fn a_node_that_is_dropped_leaves_nothing_behind() {
    let node = Node::start().unwrap();
    let guest = node.guest("a").boot().unwrap();
    assert_eq!(guest.read_uuid(false).unwrap(), guest.uuid());
    let names = [node.namespace().name(), guest.namespace().name(), node.responder().name()].map(str::to_owned);
    let directory = node.instances();
    let process = node.daemon_id().unwrap();
    drop((guest, node));
    for name in names {
        assert!(!Namespace::existing(&name).exists(), "{name} is left");
    }
    assert!(!directory.exists());
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

#[test]
fn a_second_daemon_on_the_same_port_is_refused_and_takes_nothing_away() {
    let node = Node::start().unwrap();
    let guest = node.guest("a").boot().unwrap();
    // Only its admin socket is another one: what is left to stop it is that the first one listens.
    let text = std::fs::read_to_string(node.config()).unwrap();
    let other = node.path("other.toml");
    std::fs::write(&other, text.replace("admin.sock", "other.sock")).unwrap();
    let mut second = node.namespace().command("timeout").unwrap();
    second.arg("20").arg(lab::daemon::program().unwrap()).arg("run").arg("--config").arg(&other);
    let ended = second.output().unwrap();
    let output = String::from_utf8_lossy(&ended.stderr).into_owned() + &String::from_utf8_lossy(&ended.stdout);
    assert_eq!(ended.status.code(), Some(70), "{output}");
    assert!(output.contains("the listening socket, port"), "{output}");
    for over_ipv6 in [false, true] {
        assert_eq!(guest.read_uuid(over_ipv6).unwrap(), guest.uuid());
    }
}
