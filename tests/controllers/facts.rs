//! Local facts: a real ovsdb-server, and domain XML as libvirt writes it.

mod libvirt;
mod ovs;

use lab::{Guest, Node, NodePlan};

/// The guest reads this instance's document over both families, and before that at most that it is to ask again: a
/// document may come after its tap is bound.
#[track_caller]
fn reads(guest: &Guest, uuid: &str) {
    lab::wait::until("the instance's content is there", || Ok((guest.get("/openstack")?.status != 503).then_some(())))
        .unwrap();
    assert_eq!(guest.read_uuid(false).unwrap(), uuid);
    assert_eq!(guest.read_uuid(true).unwrap(), uuid);
}

/// The guest is told to ask again.
#[track_caller]
fn is_held(guest: &Guest) {
    assert_eq!(guest.get("/openstack").unwrap().status, 503);
}

/// A node that holds a request for content that is not there for a moment only.
#[track_caller]
fn start() -> Node {
    NodePlan::default().ready_timeout("100ms").start().unwrap()
}

/// A node with a guest that only facts can bind.
#[track_caller]
fn world() -> (Node, Guest) {
    let node = start();
    let guest = node.guest("a").undocumented().boot().unwrap();
    node.write(&portless(&guest)).unwrap();
    (node, guest)
}

/// The document of this guest, which names another port and another device: only facts can bind its tap.
fn portless(guest: &Guest) -> lab::Document {
    let other = format!("eeeeeeee{}", &guest.port()[8..]);
    guest.document().clone().with_port("id", other).with_port("devname", "tapelsewhere")
}

/// Waits until the tap is bound to an instance, and says on whose word.
#[track_caller]
fn wait_bound_by(node: &Node, guest: &Guest, instance: &str, origin: &str) {
    let is =
        |port: &serde_json::Value| port["state"] == "bound" && port["instance"] == instance && port["origin"] == origin;
    node.wait_port_shown(guest.tap(), &format!("is bound to {instance} by {origin}"), is).unwrap();
}

/// Waits until the tap is refused for a reason with these words.
#[track_caller]
fn wait_refused(node: &Node, guest: &Guest, words: &[&str]) {
    let is = |port: &serde_json::Value| {
        let reason = port["reason"].as_str().unwrap_or_default();
        port["state"] == "refused" && words.iter().all(|word| reason.contains(word))
    };
    node.wait_port_shown(guest.tap(), &format!("is refused with {words:?}"), is).unwrap();
}

fn disagreements(node: &Node) -> u64 {
    node.status().unwrap()["ports_disagreements"].as_u64().unwrap()
}

/// What `metadatad status --json` says of an observer.
fn observer(node: &Node, name: &str) -> serde_json::Value {
    let status = node.status().unwrap();
    let all = status["facts"].as_array().unwrap();
    all.iter().find(|observer| observer["name"] == name).cloned().unwrap_or_default()
}

/// Waits until the status says something of an observer.
#[track_caller]
fn wait_observer(node: &Node, name: &str, what: &str, is: impl Fn(&serde_json::Value) -> bool) {
    lab::wait::until(&format!("{name} {what}"), || Ok(is(&observer(node, name)).then_some(()))).unwrap();
}

fn tag(node: &Node, guest: &Guest) -> u32 {
    node.ports().unwrap()[&guest.ifindex()].tag
}
