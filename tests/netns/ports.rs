//! Taps that come, go, change their names and come back, in any order with respect to documents.

use lab::{Guest, Node, NodePlan, Request};

fn reads_own(guest: &Guest) {
    assert_eq!(guest.read_uuid(false).unwrap(), guest.uuid());
    assert_eq!(guest.read_uuid(true).unwrap(), guest.uuid());
}

#[test]
fn a_link_may_come_before_its_document_or_after_it() {
    let node = Node::start().unwrap();
    let early = node.guest("early").undocumented().boot().unwrap();
    node.wait_held(early.ifindex()).unwrap();
    node.write(early.document()).unwrap();
    node.wait_bound(early.ifindex()).unwrap();
    reads_own(&early);
    let late = node.guest("late").boot().unwrap();
    reads_own(&late);
}

#[test]
fn links_that_were_there_before_the_daemon_are_served() {
    let node = lab::NodePlan::default().make().unwrap();
    let guest = node.guest("a").at_once().boot().unwrap();
    node.start_daemon().unwrap();
    node.wait_bound(guest.ifindex()).unwrap();
    reads_own(&guest);
}

#[test]
fn a_renamed_tap_belongs_to_whoever_claims_its_new_name() {
    let node = NodePlan::default().ready_timeout("100ms").start().unwrap();
    let guest = node.guest("a").boot().unwrap();
    let rename = |from: &str, to: &str| {
        let lines = format!("link set {from} down\nlink set {from} name {to}\nlink set {to} up\n");
        node.namespace().ip_batch(&lines).unwrap();
    };
    rename(guest.tap(), "tapelse");
    node.wait_held(guest.ifindex()).unwrap();
    assert_eq!(guest.get("/openstack").unwrap().status, 503);
    rename("tapelse", "vif9");
    node.wait_unknown(guest.ifindex()).unwrap();
    rename("vif9", guest.tap());
    node.wait_bound(guest.ifindex()).unwrap();
    reads_own(&guest);
}

#[test]
fn a_tap_deleted_and_made_again_with_the_same_name_is_served_again() {
    let node = Node::start().unwrap();
    let mut guest = node.guest("a").boot().unwrap();
    let before = guest.ifindex();
    guest.unplug(&node).unwrap();
    node.wait_unknown(before).unwrap();
    guest.plug(&node, None).unwrap();
    node.wait_bound(guest.ifindex()).unwrap();
    reads_own(&guest);
}

#[test]
fn a_tap_made_again_with_the_same_index_is_served_as_its_new_self() {
    let node = Node::start().unwrap();
    let mut old = node.guest("old").boot().unwrap();
    let mut new = node.guest("new").at_once().boot().unwrap();
    node.wait_bound(new.ifindex()).unwrap();
    let (index, request) = (old.ifindex(), Request::get("/openstack/latest/meta_data.json"));
    let tag = node.ports().unwrap()[&index].tag;
    let mut connection = old.namespace().run(|| request.connect()).unwrap();
    assert_eq!(connection.exchange(&request).unwrap().json().unwrap()["uuid"], old.uuid());
    // Both links go and another guest's takes the index, as fast as the kernel lets it.
    new.unplug(&node).unwrap();
    old.unplug(&node).unwrap();
    new.plug(&node, Some(index)).unwrap();
    assert_eq!(new.ifindex(), index);
    lab::wait::until("the index has another tag", || {
        Ok(node.ports()?.get(&index).is_some_and(|port| port.tag != tag).then_some(()))
    })
    .unwrap();
    node.wait_bound(index).unwrap();
    reads_own(&new);
}

#[test]
fn an_index_taken_again_at_once_under_the_same_name_reads_its_own_data() {
    let node = Node::start().unwrap();
    let mut guest = node.guest("a").boot().unwrap();
    for _ in 0..10 {
        let index = guest.ifindex();
        guest.unplug(&node).unwrap();
        guest.plug(&node, Some(index)).unwrap();
        lab::wait::until("the guest is served again", || {
            // Between the links there may be no answer, or 503; another guest's data never.
            let response = guest.send(&Request::get("/openstack/latest/meta_data.json").patience(PATIENCE));
            Ok(response.ok().filter(|response| response.status == 200))
        })
        .unwrap();
        reads_own(&guest);
    }
}

const PATIENCE: std::time::Duration = std::time::Duration::from_millis(300);

#[test]
fn a_port_given_to_another_instance_closes_the_connections_of_the_first() {
    let node = Node::start().unwrap();
    let guest = node.guest("a").boot().unwrap();
    let request = Request::get("/openstack/latest/meta_data.json");
    let mut connection = guest.namespace().run(|| request.connect()).unwrap();
    assert_eq!(connection.exchange(&request).unwrap().json().unwrap()["uuid"], guest.uuid());
    let heir = "ffffffff-0000-4000-9000-000000000001";
    node.remove_document(guest.uuid()).unwrap();
    node.write(&guest.document().clone().with("uuid", heir)).unwrap();
    lab::wait::until("the heir's data is served", || {
        // A request that is under way when the binding ends is reset; what is answered is whole.
        let Ok(response) = guest.get("/openstack/latest/meta_data.json") else {
            return Ok(None);
        };
        Ok((response.status == 200 && response.json()?["uuid"] == heir).then_some(()))
    })
    .unwrap();
    assert_eq!(connection.wait_closed().unwrap(), b"");
}

#[test]
fn two_documents_that_claim_one_tap_are_refused() {
    let node = NodePlan::default().ready_timeout("100ms").start().unwrap();
    let guest = node.guest("a").boot().unwrap();
    let rival = guest.document().clone().with("uuid", "ffffffff-0000-4000-9000-000000000002");
    node.write(&rival).unwrap();
    node.wait_held(guest.ifindex()).unwrap();
    assert_eq!(guest.get("/openstack").unwrap().status, 503);
    node.remove_document(rival.uuid()).unwrap();
    node.wait_bound(guest.ifindex()).unwrap();
    reads_own(&guest);
}

#[test]
fn a_vanished_ports_connection_is_closed() {
    let node = Node::start().unwrap();
    let mut guest = node.guest("a").boot().unwrap();
    let request = Request::get("/openstack");
    let mut connection = guest.namespace().run(|| request.connect()).unwrap();
    assert_eq!(connection.exchange(&request).unwrap().status, 200);
    guest.unplug(&node).unwrap();
    node.wait_unknown(guest.ifindex()).unwrap();
    lab::wait::until("the responder has no connection left", || {
        let mut ss = node.responder().command("ss")?;
        let shown = lab::command::run(ss.args(["-Htn", "state", "established"]), "")?;
        Ok(shown.trim().is_empty().then_some(()))
    })
    .unwrap();
}
