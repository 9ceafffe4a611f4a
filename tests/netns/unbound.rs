//! Guests whose document is late, missing or wrong.

use std::io::{Read as _, Write as _};
use std::net::TcpListener;

use lab::{Namespace, Node, NodePlan, Request, wait};

/// A node that holds a request for content that is not there for a moment only.
fn quick_to_refuse() -> Node {
    NodePlan::default().ready_timeout("100ms").start().unwrap()
}

#[test]
fn an_unbound_port_is_told_to_ask_again_over_both_families() {
    let node = quick_to_refuse();
    let guest = node.guest("a").undocumented().boot().unwrap();
    node.wait_held(guest.ifindex()).unwrap();
    for response in [guest.get("/openstack"), guest.get6("/latest/meta-data/"), guest.get("/no/such/path")] {
        let response = response.unwrap();
        assert_eq!((response.status, response.header("retry-after")), (503, Some("1")));
    }
    node.write(guest.document()).unwrap();
    node.wait_bound(guest.ifindex()).unwrap();
    assert_eq!(guest.read_uuid(false).unwrap(), guest.uuid());
    assert_eq!(guest.read_uuid(true).unwrap(), guest.uuid());
}

#[test]
fn a_guest_that_asks_too_early_gets_its_document_without_asking_again() {
    let node = Node::start().unwrap();
    let guest = node.guest("a").undocumented().boot().unwrap();
    node.wait_held(guest.ifindex()).unwrap();
    std::thread::scope(|scope| {
        let early = [scope.spawn(|| guest.read_uuid(false)), scope.spawn(|| guest.read_uuid(true))];
        wait::until("both wait", || Ok((node.status()?["http"]["waited"] == 2).then_some(()))).unwrap();
        node.write(guest.document()).unwrap();
        for asked in early {
            assert_eq!(asked.join().unwrap().unwrap(), guest.uuid());
        }
    });
    let answers = node.status().unwrap()["http"]["answers"].clone();
    assert_eq!(answers, serde_json::json!({"200": 2}));
}

#[test]
fn an_unbound_port_is_left_to_others_where_the_operator_says_so() {
    let node = NodePlan::default().unbound("pass").start().unwrap();
    let other = Namespace::create("other").unwrap();
    let lines = format!(
        "link add br0 type bridge\nlink set br0 up\nlink add other type veth peer name eth0 netns {}\n\
         link set other master br0\nlink set other up\n",
        other.name()
    );
    node.namespace().ip_batch(&lines).unwrap();
    other.ip_batch("link set eth0 up\naddr add 169.254.169.254/32 dev eth0\nroute add 10.0.0.0/16 dev eth0\n").unwrap();
    let listener = other.run(|| Ok(TcpListener::bind("169.254.169.254:80")?)).unwrap();
    let server = std::thread::spawn(move || {
        let (mut connection, _) = listener.accept().unwrap();
        let mut request = [0; 1024];
        let length = connection.read(&mut request).unwrap();
        connection.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nother").unwrap();
        length
    });
    let guest = node.guest("a").bridge("br0").undocumented().boot().unwrap();
    assert_eq!(guest.get("/openstack").unwrap().text(), "other");
    assert!(server.join().unwrap() > 0);
    node.write(guest.document()).unwrap();
    node.wait_bound(guest.ifindex()).unwrap();
    assert_eq!(guest.read_uuid(true).unwrap(), guest.uuid(), "a port that has a document is served");
}

#[test]
fn a_broken_document_is_named_and_the_last_good_one_stays() {
    let node = Node::start().unwrap();
    let guest = node.guest("a").document(|document| document.with("user_data", "good")).boot().unwrap();
    let file = format!("{}.json", guest.uuid());
    std::fs::write(node.instances().join(&file), "{\n  \"uuid\": 17\n}\n").unwrap();
    let shown = wait::until("the status names the broken file", || {
        let status = node.told(&["status"])?;
        Ok(status.contains(&file).then_some(status))
    })
    .unwrap();
    assert!(shown.contains("line 2") || shown.contains(":2:"), "no line in {shown}");
    assert!(node.log().contains(&file), "no word of it in the log");
    assert_eq!(guest.get("/openstack/latest/user_data").unwrap().text(), "good");
    node.write(&guest.document().clone().with("user_data", "mended")).unwrap();
    wait::until("the mended document is served", || {
        Ok((guest.get("/openstack/latest/user_data")?.text() == "mended").then_some(()))
    })
    .unwrap();
    wait::until("the status has forgotten the error", || Ok((!node.told(&["status"])?.contains(&file)).then_some(())))
        .unwrap();
}

#[test]
fn a_document_written_in_place_is_read() {
    let node = Node::start().unwrap();
    let guest = node.guest("a").undocumented().boot().unwrap();
    node.wait_held(guest.ifindex()).unwrap();
    let text = guest.document().text();
    let (first, second) = text.split_at(text.len() / 2);
    let mut file = std::fs::File::create(node.instances().join(format!("{}.json", guest.uuid()))).unwrap();
    file.write_all(first.as_bytes()).unwrap();
    file.sync_all().unwrap();
    file.write_all(second.as_bytes()).unwrap();
    drop(file);
    node.wait_bound(guest.ifindex()).unwrap();
    assert_eq!(guest.read_uuid(false).unwrap(), guest.uuid());
}

#[test]
fn a_removed_document_ends_what_the_guest_may_read() {
    let node = quick_to_refuse();
    let guest = node.guest("a").boot().unwrap();
    let request = Request::get("/openstack");
    let mut connection = guest.namespace().run(|| request.connect()).unwrap();
    assert_eq!(connection.exchange(&request).unwrap().status, 200);
    node.remove_document(guest.uuid()).unwrap();
    node.wait_held(guest.ifindex()).unwrap();
    assert_eq!(connection.wait_closed().unwrap(), b"");
    assert_eq!(guest.get("/openstack").unwrap().status, 503);
}

/// A document of this guest that allows 150 addresses which no prefix joins, beside the guest's own.
fn with_many_sources(guest: &lab::Guest) -> lab::Document {
    let pairs: Vec<_> = (0..150)
        .map(|number| serde_json::json!({"ip_address": format!("10.20.{}.{}", number / 100, 2 * (number % 100) + 1)}))
        .collect();
    guest.document().clone().with_port("allowed_address_pairs", pairs)
}

#[test]
fn a_port_with_more_sources_than_the_kernel_holds_is_served_and_says_so() {
    let node = Node::start().unwrap();
    let guest = node.guest("a").undocumented().boot().unwrap();
    node.write(&with_many_sources(&guest)).unwrap();
    node.wait_bound(guest.ifindex()).unwrap();
    assert_eq!(guest.read_uuid(false).unwrap(), guest.uuid());
    assert_eq!(guest.read_uuid(true).unwrap(), guest.uuid());
    // Each documented address is still allowed.
    guest.namespace().ip("addr add 10.20.1.99/32 dev eth0").unwrap();
    guest.namespace().ip("route replace 169.254.169.254 dev eth0 src 10.20.1.99").unwrap();
    assert_eq!(guest.read_uuid(false).unwrap(), guest.uuid());
    let port = node.port(guest.tap()).unwrap();
    assert!(port["reason"].as_str().unwrap().contains("151 allowed (MAC, prefix) pairs"), "{port}");
    assert_eq!(node.status().unwrap()["ports_widened"], 1);
    let shown = node.told(&["status"]).unwrap();
    assert!(shown.contains("1 with more allowed sources"), "{shown}");
    node.write(guest.document()).unwrap();
    wait::until("nothing is widened", || Ok((node.status()?["ports_widened"] == 0).then_some(()))).unwrap();
    assert!(node.port(guest.tap()).unwrap()["reason"].is_null());
}

/// Makes the kernel refuse every change of a port, for good: user space cannot write to a frozen map.
fn freeze_ports(node: &Node) {
    let mut bpftool = node.namespace().command("bpftool").unwrap();
    lab::command::run(bpftool.args(["map", "freeze", "pinned"]).arg(node.pins().join("PORTS")), "").unwrap();
}

#[test]
fn rules_that_the_kernel_refuses_leave_the_former_ones_and_a_rebound_tap_gets_nothing() {
    let node = Node::start().unwrap();
    let guest = node.guest("a").boot().unwrap();
    assert_eq!(guest.read_uuid(false).unwrap(), guest.uuid());
    freeze_ports(&node);
    node.write(&with_many_sources(&guest)).unwrap();
    node.wait_port_shown(guest.tap(), "keeps its rules", |port| {
        port["state"] == "failed" && port["reason"].as_str().is_some_and(|reason| reason.contains("stay in force"))
    })
    .unwrap();
    assert_eq!(guest.read_uuid(false).unwrap(), guest.uuid());
    let request = Request::get("/openstack/latest/meta_data.json").patience(std::time::Duration::from_millis(300));
    let mut connection = guest.namespace().run(|| request.connect()).unwrap();
    assert_eq!(connection.exchange(&request).unwrap().status, 200);
    // Another instance's tap by now, and the kernel cannot be told so: nobody's data is served on it.
    node.remove_document(guest.uuid()).unwrap();
    node.write(&guest.document().clone().with("uuid", "ffffffff-0000-4000-9000-000000000003")).unwrap();
    assert_eq!(connection.wait_closed().unwrap(), b"");
    for _ in 0..3 {
        let answer = guest.send(&request);
        assert!(answer.as_ref().map_or(true, |answer| answer.status == 503), "{answer:?}");
    }
}

#[test]
fn a_port_that_the_kernel_refuses_for_good_is_held_under_one_tag_with_the_reason() {
    let node = quick_to_refuse();
    let guest = node.guest("a").undocumented().boot().unwrap();
    node.wait_held(guest.ifindex()).unwrap();
    let reason = node.port(guest.tap()).unwrap()["reason"].clone();
    assert!(reason.as_str().unwrap().contains("no document"), "{reason}");
    let tag = node.ports().unwrap()[&guest.ifindex()].tag;
    freeze_ports(&node);
    for attempt in 0..5 {
        node.write(&guest.document().clone().with("user_data", format!("attempt {attempt}"))).unwrap();
        node.wait_port_shown(guest.tap(), "has failed", |port| {
            port["state"] == "failed" && port["reason"].as_str().is_some_and(|reason| reason.contains("map PORTS"))
        })
        .unwrap();
        for response in [guest.get("/openstack/latest/meta_data.json"), guest.get6("/openstack")] {
            let response = response.unwrap();
            assert_eq!((response.status, response.header("retry-after")), (503, Some("1")));
        }
    }
    assert_eq!(node.ports().unwrap()[&guest.ifindex()].tag, tag, "each attempt takes another tag");
    assert_eq!(node.port(guest.tap()).unwrap()["tag"], tag);
}
