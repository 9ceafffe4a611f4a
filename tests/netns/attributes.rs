//! What guests write about themselves for their operator: SSH host keys at their first boot.

use lab::{Guest, Node, NodePlan, Request};
use serde_json::{Value, json};

const PATH: &str = "/openstack/latest/guest-attributes";
const KEY: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIE5vIGtleSBvZiBhbnlib2R5J3MgYXQgYWxs root@a";

fn node(keys: &str) -> Node {
    NodePlan::default().further(&format!("[guests]\nattributes_per_instance = 4\n{keys}")).start().unwrap()
}

/// Writes an attribute, and returns the status.
fn write(guest: &Guest, path: &str, text: &str) -> u16 {
    let url = format!("http://169.254.169.254{PATH}{path}");
    let put = ["-sS", "-o", "/dev/null", "-w", "%{http_code}", "-X", "PUT", "--data-binary", text, &url];
    guest.curl(&put).unwrap().parse().unwrap()
}

/// What the operator reads of a guest.
fn shown(node: &Node, guest: &Guest) -> Value {
    let shown: Value = serde_json::from_str(&node.ask(&["guest-attributes", guest.uuid(), "--json"]).unwrap()).unwrap();
    assert_eq!(shown["instance"], guest.uuid());
    shown["attributes"].clone()
}

#[test]
fn host_keys_that_a_guest_writes_are_its_operators_to_read_also_after_a_restart_and_a_take_over() {
    let node = node("");
    let guests = ["a", "b"].map(|name| node.guest(name).boot().unwrap());
    let url = format!("http://169.254.169.254{PATH}/hostkeys/ed25519");
    guests[0].curl(&["-sS", "--fail", "-X", "PUT", "--data-binary", KEY, &url]).unwrap();
    let kept = json!({"hostkeys": {"ed25519": KEY}});
    assert_eq!((shown(&node, &guests[0]), shown(&node, &guests[1])), (kept.clone(), json!({})));
    let text = node.ask(&["guest-attributes", guests[0].uuid()]).unwrap();
    assert!(text.contains("NAMESPACE") && text.contains(KEY), "{text}");
    node.stop_daemon().unwrap();
    node.start_daemon().unwrap();
    node.wait_bound(guests[0].ifindex()).unwrap();
    assert_eq!(shown(&node, &guests[0]), kept);
    assert_eq!(write(&guests[1], "/hostkeys/rsa", "other"), 200);
    node.take_over().unwrap();
    assert_eq!((shown(&node, &guests[0]), shown(&node, &guests[1])), (kept, json!({"hostkeys": {"rsa": "other"}})));
    let read = guests[1].get(&format!("{PATH}/hostkeys/rsa")).unwrap();
    assert_eq!((read.status, read.text()), (200, "other".to_owned()));
}

#[test]
fn a_guest_writes_no_more_than_it_may_and_what_is_not_a_line_is_shown_as_one() {
    let node = node("");
    let guest = node.guest("a").boot().unwrap();
    for key in 1..=4 {
        assert_eq!(write(&guest, &format!("/a/{key}"), "x\u{1b}[2Jy\n"), 200);
    }
    assert_eq!(write(&guest, "/a/5", "x"), 413);
    assert_eq!(write(&guest, "/a/1", &"x".repeat(5000)), 413);
    let text = node.ask(&["guest-attributes", guest.uuid()]).unwrap();
    assert!(!text.contains('\u{1b}') && text.lines().count() == 5, "{text}");
    let document = guest.document().clone();
    node.remove_document(guest.uuid()).unwrap();
    node.wait_held(guest.ifindex()).unwrap();
    node.write(&document).unwrap();
    node.wait_bound(guest.ifindex()).unwrap();
    assert_eq!(shown(&node, &guest), json!({}), "they go with the instance");
}

#[test]
fn where_they_are_off_the_paths_are_novas() {
    let node = Node::start().unwrap();
    let guest = node.guest("a").boot().unwrap();
    let unknown = guest.get("/openstack/latest/nonsense").unwrap();
    let read = guest.get(PATH).unwrap();
    assert_eq!((read.status, read.text()), (404, unknown.text()));
    let put = |path: &str| guest.send(&Request::get(path).method("PUT")).unwrap();
    let (written, other) = (put(&format!("{PATH}/a/b")), put("/openstack/latest/nonsense"));
    assert_eq!((written.status, written.text()), (other.status, other.text()));
}
