//! What a node shows of its guests' boots.

use lab::{Guest, Node, NodePlan, Request, wait};
use serde_json::Value;

const LIST: &str = "/openstack";
const DOCUMENT: &str = "/openstack/latest/meta_data.json";

fn ask(guest: &Guest, path: &str) {
    guest.send(&Request::get(path).header("User-Agent", "cloud-init/24.1")).unwrap();
}

/// Returns the boots of the guest's port, the latest first.
fn boots(node: &Node, guest: &Guest) -> Vec<Value> {
    let all: Value = serde_json::from_str(&node.ask(&["boots", "--json"]).unwrap()).unwrap();
    let port = all.as_array().unwrap().iter().find(|port| port["tap"] == guest.tap()).cloned();
    port.unwrap_or_else(|| panic!("no {}: {all:#}", guest.tap()))["boots"].as_array().unwrap().clone()
}

/// Waits until the guest's last boot is as expected, and returns its port's boots.
fn wait_for(node: &Node, guest: &Guest, what: &str, is: impl Fn(&Value) -> bool) -> Vec<Value> {
    let mut last = Vec::new();
    let waited = wait::until(what, || {
        last = boots(node, guest);
        Ok(is(&last[0]).then(|| last.clone()))
    });
    waited.unwrap_or_else(|error| panic!("{error:#}: {last:#?}"))
}

#[test]
fn a_boot_is_followed_from_its_link_to_its_last_document() {
    let node = Node::start().unwrap();
    let guest = node.guest("a").boot().unwrap();
    for path in [LIST, DOCUMENT, DOCUMENT, "/nonsense"] {
        ask(&guest, path);
    }
    let boots = wait_for(&node, &guest, "the first question is seen", |boot| boot["asked_at"].is_u64());
    let boot = &boots[0];
    assert_eq!((boots.len(), boot["outcome"].as_str().unwrap()), (1, "complete"), "{boot:#}");
    assert_eq!((boot["requests"].as_u64(), boot["early"].as_u64()), (Some(4), Some(0)));
    let time = |name: &str| boot[name].as_u64().unwrap_or_else(|| panic!("{name}: {boot:#}"));
    assert!(time("link_up_at") <= time("connected_at") && time("connected_at") <= time("last_at"), "{boot:#}");
    let reads: Vec<_> = boot["reads"].as_array().unwrap().iter().collect();
    let paths: Vec<_> = reads.iter().map(|read| read["path"].as_str().unwrap()).collect();
    assert_eq!(paths, [LIST, DOCUMENT, "/nonsense"]);
    assert_eq!((reads[1]["count"].as_u64(), reads[1]["status"].as_u64()), (Some(2), Some(200)));
    assert_eq!((reads[2]["status"].as_u64(), reads[2]["client"].as_str()), (Some(404), Some("cloud-init/24.1")));
    let timeline = node.ask(&["boots", guest.uuid()]).unwrap();
    for line in ["last boot: complete", "link up", "first connection", DOCUMENT, "(200, 2 times)", "last of 4 requests"]
    {
        assert!(timeline.contains(line), "{line}: {timeline}");
    }
    let table = node.ask(&["boots"]).unwrap();
    assert!(table.starts_with("INSTANCE") && table.contains("cloud-init/24.1"), "{table}");
    assert!(node.metrics().unwrap().contains("metadatad_ports_last_boot{outcome=\"complete\"} 1"));
    node.ask(&["boots", "0badcafe-0000-4000-9000-000000000001"]).unwrap_err();
}

#[test]
fn a_link_that_comes_up_again_begins_another_boot() {
    let node = Node::start().unwrap();
    let guest = node.guest("a").boot().unwrap();
    ask(&guest, DOCUMENT);
    assert_eq!(boots(&node, &guest).len(), 1);
    guest.namespace().ip("link set eth0 down").unwrap();
    wait_for(&node, &guest, "nobody is at the tap", |boot| boot["requests"] == 1);
    guest.namespace().ip("link set eth0 up").unwrap();
    let boots = wait_for(&node, &guest, "another boot has begun", |boot| boot["began"] == "link");
    assert_eq!((boots.len(), boots[0]["requests"].as_u64(), boots[1]["requests"].as_u64()), (2, Some(0), Some(1)));
    assert_eq!((boots[0]["outcome"].as_str(), boots[1]["outcome"].as_str()), (Some("reading"), Some("complete")));
    wait::until("the boot that has ended is counted", || {
        Ok(node.metrics()?.contains("metadatad_boots_total{outcome=\"complete\"} 1").then_some(()))
    })
    .unwrap();
}

#[test]
fn who_never_asked_and_who_asked_before_the_content_came_are_told_apart() {
    let node = NodePlan::default().ready_timeout("100ms").make().unwrap();
    // Their links are up before the daemon looks, so it does not take them for booting.
    let silent = node.guest("a").at_once().boot().unwrap();
    let early = node.guest("b").undocumented().boot().unwrap();
    node.start_daemon().unwrap();
    node.wait_held(early.ifindex()).unwrap();
    ask(&early, LIST);
    let boot = wait_for(&node, &early, "the early one is known", |boot| boot["outcome"] == "early").remove(0);
    assert!(boot["reason"].as_str().unwrap().contains("before its content arrived, last for /openstack"), "{boot:#}");
    let boot = wait_for(&node, &silent, "the silent one is known", |boot| boot["outcome"] == "silent").remove(0);
    for reason in ["no address", "config drive", "SMBIOS"] {
        assert!(boot["reason"].as_str().unwrap().contains(reason), "{boot:#}");
    }
    let connect = || {
        let target = (std::net::Ipv4Addr::new(169, 254, 169, 254), 80);
        drop(std::net::TcpStream::connect_timeout(&target.into(), wait::PATIENCE)?);
        Ok(())
    };
    silent.namespace().run(connect).unwrap();
    let boot = wait_for(&node, &silent, "it connected", |boot| boot["outcome"] == "unconnected").remove(0);
    assert!(boot["reason"].as_str().unwrap().contains("sent no request"), "{boot:#}");
}

#[test]
fn a_restart_keeps_the_history_with_its_times() {
    let node = Node::start().unwrap();
    let guest = node.guest("a").boot().unwrap();
    ask(&guest, DOCUMENT);
    let before = wait_for(&node, &guest, "the first question is seen", |boot| boot["asked_at"].is_u64());
    node.stop_daemon().unwrap();
    node.start_daemon().unwrap();
    let after = wait_for(&node, &guest, "the link is known", |boot| boot["link_up_at"].is_u64());
    assert_eq!(after, before);
    node.take_over().unwrap();
    assert_eq!(wait_for(&node, &guest, "the link is known", |boot| boot["link_up_at"].is_u64()), before);
    // The guest boots again while no daemon runs.
    node.stop_daemon().unwrap();
    guest.namespace().ip("link set eth0 down").unwrap();
    guest.namespace().ip("link set eth0 up").unwrap();
    node.start_daemon().unwrap();
    let boots = wait_for(&node, &guest, "another boot is known", |boot| boot["began"] == "link");
    assert_eq!((boots.len(), boots[1]["connected_at"].as_u64()), (2, before[0]["connected_at"].as_u64()));
}

#[test]
fn without_a_history_a_boot_from_before_the_daemon_started_is_not_taken_for_one_that_went_wrong() {
    let node = NodePlan::default().snapshot("enabled = false\n").start().unwrap();
    let guest = node.guest("a").boot().unwrap();
    ask(&guest, DOCUMENT);
    node.stop_daemon().unwrap();
    node.start_daemon().unwrap();
    let boot = wait_for(&node, &guest, "the link is known", |boot| boot["outcome"] == "unknown").remove(0);
    assert_eq!(boot["reason"], "booted before the daemon started, and has asked for nothing since", "{boot:#}");
    ask(&guest, DOCUMENT);
    wait_for(&node, &guest, "it has asked again", |boot| boot["outcome"] == "complete");
}
