//! What an instance's policy forbids it: switches of the configuration and of its document.

use lab::{Guest, Node, NodePlan, wait};
use serde_json::json;

const OPENSTACK: &str = "/openstack/latest/meta_data.json";
const EC2: &str = "/latest/meta-data/instance-id";
const USER_DATA: [&str; 2] = ["/openstack/latest/user_data", "/latest/user-data"];

/// The statuses of a path over IPv4 and over IPv6.
fn statuses(guest: &Guest, path: &str) -> (u16, u16) {
    (guest.get(path).unwrap().status, guest.get6(path).unwrap().status)
}

/// Writes the guest's document with this policy, and waits until `path` has this status over IPv4.
fn set_policy(node: &Node, guest: &Guest, policy: serde_json::Value, path: &str, status: u16) {
    node.write(&guest.document().clone().with("policy", policy)).unwrap();
    wait::until("the policy is in force", || Ok((guest.get(path)?.status == status).then_some(()))).unwrap();
}

#[test]
fn switches_close_what_they_name_for_one_instance_and_at_once() {
    let node = Node::start().unwrap();
    let guest = node.guest("a").document(|document| document.with_user_data(b"x")).boot().unwrap();
    let other = node.guest("b").document(|document| document.with_user_data(b"x")).boot().unwrap();
    for path in [OPENSTACK, EC2, USER_DATA[0], USER_DATA[1]] {
        assert_eq!(statuses(&guest, path), (200, 200), "{path}");
    }
    set_policy(&node, &guest, json!({"metadata": false}), OPENSTACK, 403);
    for path in [OPENSTACK, EC2, "/", "/nonsense"] {
        assert_eq!(statuses(&guest, path), (403, 403), "{path}");
    }
    assert!(guest.get(OPENSTACK).unwrap().text().contains("switched off for this instance"));
    set_policy(&node, &guest, json!({"ipv6": false}), OPENSTACK, 200);
    assert_eq!(statuses(&guest, OPENSTACK), (200, 403));
    assert_eq!(statuses(&guest, EC2), (200, 403));
    set_policy(&node, &guest, json!({"ec2": false}), EC2, 404);
    assert_eq!(statuses(&guest, OPENSTACK), (200, 200));
    for path in ["/", "/ec2", "/latest", "/ec2/latest/meta-data/instance-id", USER_DATA[1]] {
        assert_eq!(statuses(&guest, path), (404, 404), "{path}");
    }
    set_policy(&node, &guest, json!({"user_data": "never"}), USER_DATA[0], 404);
    assert_eq!(statuses(&guest, USER_DATA[1]), (404, 404));
    assert_eq!(statuses(&guest, EC2), (200, 200));
    for path in [OPENSTACK, EC2, USER_DATA[0], USER_DATA[1]] {
        assert_eq!(statuses(&other, path), (200, 200), "{path}");
    }
}

#[test]
fn a_document_opens_what_the_configuration_closes() {
    let node = NodePlan::default().further("[access]\nmetadata = false\n").start().unwrap();
    let closed = node.guest("a").boot().unwrap();
    let open = node.guest("b").document(|document| document.with("policy", json!({"metadata": true}))).boot().unwrap();
    assert_eq!(statuses(&closed, OPENSTACK), (403, 403));
    assert_eq!(statuses(&open, OPENSTACK), (200, 200));
}

#[test]
fn user_data_is_closed_after_the_first_boot_also_after_a_restart_until_it_is_reset() {
    let access = "[access]\nuser_data = \"first-boot\"\nfirst_boot = \"1s\"\n";
    let node = NodePlan::default().further(access).start().unwrap();
    let guest = node.guest("a").document(|document| document.with_user_data(b"one")).boot().unwrap();
    let shown = || node.ask(&["instance", "user-data", "show", guest.uuid()]).unwrap();
    let wait_closed = || {
        let closed = || Ok((statuses(&guest, USER_DATA[0]) == (404, 404)).then_some(()));
        wait::until("the user data is closed", closed).unwrap();
        assert_eq!(statuses(&guest, USER_DATA[1]), (404, 404));
        assert_eq!(statuses(&guest, OPENSTACK), (200, 200));
    };
    assert!(shown().ends_with("never first read\n"), "{}", shown());
    let head = guest.send(&lab::Request::get(USER_DATA[0]).method("HEAD")).unwrap();
    assert_eq!(head.status, 200);
    assert!(shown().ends_with("never first read\n"), "HEAD reads nothing: {}", shown());
    assert_eq!(guest.get(USER_DATA[0]).unwrap().text(), "one");
    assert!(shown().contains("first read "), "{}", shown());
    wait_closed();

    node.stop_daemon().unwrap();
    node.start_daemon().unwrap();
    node.wait_bound(guest.ifindex()).unwrap();
    wait_closed();

    // Rebuilt with other user data.
    node.write(&guest.document().clone().with_user_data(b"two")).unwrap();
    wait::until("the new user data is read", || Ok((guest.get(USER_DATA[0])?.text() == "two").then_some(()))).unwrap();
    wait_closed();

    assert!(node.ask(&["instance", "user-data", "reset", guest.uuid()]).unwrap().contains("reset"));
    assert_eq!(guest.get(USER_DATA[1]).unwrap().text(), "two");
    wait_closed();
}
