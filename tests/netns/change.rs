//! Guests that wait for a change: who is answered, when, and what becomes of those who wait when the daemon ends, their place is
//! needed, or they are too many.

use std::time::Instant;

use lab::http::Connection;
use lab::{Guest, Node, NodePlan, Request, Response, wait};
use serde_json::json;

const PATH: &str = "/openstack/latest/meta_data.json";

/// A node on which requests wait longer than any test does.
fn node(keys: &str) -> Node {
    NodePlan::default().further(&format!("[guests]\nlongest_wait = \"60m\"\n{keys}")).start().unwrap()
}

/// Asks for a document that differs from what the guest has, and returns that with its tag.
fn first(guest: &Guest) -> (Response, String) {
    let answer = guest.get(&format!("{PATH}?wait_for_change=true&last_etag=0")).unwrap();
    assert_eq!(answer.status, 200);
    let tag = answer.header("etag").unwrap().trim_start_matches("W/").trim_matches('"').to_owned();
    (answer, tag)
}

fn waiting_request(tag: &str) -> Request {
    Request::get(&format!("{PATH}?wait_for_change=true&last_etag={tag}")).patience(wait::PATIENCE)
}

/// Begins so many waits, each on a connection of its own.
fn waits(guest: &Guest, count: usize) -> Vec<Connection> {
    let request = waiting_request(&first(guest).1);
    let begin = |_| {
        let mut connection = guest.namespace().run(|| request.connect()).unwrap();
        connection.begin(&request).unwrap();
        connection
    };
    (0..count).map(begin).collect()
}

fn http(node: &Node, name: &str) -> u64 {
    node.status().unwrap()["http"][name].as_u64().unwrap()
}

fn wait_waiting(node: &Node, count: u64) {
    wait::until(&format!("{count} requests wait"), || Ok((http(node, "waiting") == count).then_some(()))).unwrap();
}

/// Kilobytes of physical memory that the daemon has.
fn resident(node: &Node) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", node.daemon_id().unwrap())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

/// How many waits ended in this way.
fn ended(node: &Node, outcome: &str) -> u64 {
    let line = format!("metadatad_http_waits_total{{outcome=\"{outcome}\"}} ");
    let metrics = node.metrics().unwrap();
    metrics.lines().find_map(|found| found.strip_prefix(&line)).unwrap().parse().unwrap()
}

fn change(node: &Node, guest: &Guest, role: &str) {
    node.write(&guest.document().clone().with("metadata", json!({"role": role}))).unwrap();
}

#[test]
fn a_thousand_requests_wait_on_one_node_and_each_is_answered_when_its_own_instance_changes() {
    const GUESTS: usize = 10;
    const EACH: usize = 100;
    let node = node("waits_per_instance = 100\n");
    let guests: Vec<_> = (0..GUESTS).map(|at| node.guest(&format!("g{at}")).boot().unwrap()).collect();
    let before = resident(&node);
    let mut waiting: Vec<_> = guests.iter().map(|guest| waits(guest, EACH)).collect();
    let all = (GUESTS * EACH) as u64;
    wait_waiting(&node, all);
    println!("{all} requests that wait take {} KB of memory", resident(&node).saturating_sub(before));
    assert_eq!((http(&node, "waited"), ended(&node, "changed")), (0, 0));
    for (at, role) in [(3, "first"), (7, "second")] {
        let begun = Instant::now();
        change(&node, &guests[at], role);
        for connection in &mut waiting[at] {
            let answer = connection.receive().unwrap();
            assert_eq!(answer.json().unwrap()["meta"]["role"], role);
        }
        println!("{EACH} answers of {all} that wait came within {:?} after a document was written", begun.elapsed());
    }
    wait_waiting(&node, all - 2 * EACH as u64);
    for guest in &guests {
        change(&node, guest, "last");
    }
    for (at, connections) in waiting.iter_mut().enumerate().filter(|(at, _)| ![3, 7].contains(at)) {
        for connection in connections {
            assert_eq!(connection.receive().unwrap().json().unwrap()["meta"]["role"], "last", "guest {at}");
        }
    }
    wait_waiting(&node, 0);
    assert_eq!((ended(&node, "changed"), ended(&node, "timed_out"), ended(&node, "lost")), (all, 0, 0));
}

#[test]
fn who_waits_when_the_daemon_stops_is_answered_and_waits_on_at_the_next_one() {
    let node = node("");
    let guest = node.guest("a").boot().unwrap();
    let (before, tag) = first(&guest);
    let mut waiting = waits(&guest, 20);
    wait_waiting(&node, 20);
    node.stop_daemon().unwrap();
    for connection in &mut waiting {
        let answer = connection.receive().unwrap();
        assert_eq!((answer.status, answer.header("connection")), (200, Some("close")));
        assert_eq!(answer.header("etag"), before.header("etag"));
    }
    node.start_daemon().unwrap();
    node.wait_bound(guest.ifindex()).unwrap();
    let request = waiting_request(&tag);
    let mut connection = guest.namespace().run(|| request.connect()).unwrap();
    connection.begin(&request).unwrap();
    // The tag is of the document, not of the daemon.
    wait_waiting(&node, 1);
    change(&node, &guest, "other");
    assert_eq!(connection.receive().unwrap().json().unwrap()["meta"]["role"], "other");
}

#[test]
fn an_instance_has_so_many_waits_and_a_guest_that_leaves_gives_its_own_back() {
    let node = node("waits_per_instance = 3\n");
    let (guest, other) = (node.guest("a").boot().unwrap(), node.guest("b").boot().unwrap());
    let waiting = waits(&guest, 3);
    wait_waiting(&node, 3);
    let refused = guest.send(&waiting_request(&first(&guest).1)).unwrap();
    assert_eq!((refused.status, refused.header("retry-after")), (429, Some("1")));
    assert!(refused.text().contains("wait for a change"), "{}", refused.text());
    let others = waits(&other, 3);
    wait_waiting(&node, 6);
    drop(waiting);
    wait_waiting(&node, 3);
    assert_eq!(ended(&node, "lost"), 3);
    let again = waits(&guest, 3);
    wait_waiting(&node, 6);
    assert_eq!(http(&node, "waits_refused"), 1);
    let counted = "metadatad_http_waits_refused_total 1";
    assert!(node.metrics().unwrap().lines().any(|line| line == counted));
    let anomalies = node.ask(&["anomalies"]).unwrap();
    assert!(anomalies.contains(guest.uuid()) && anomalies.contains("limit_reached"), "{anomalies}");
    drop((others, again));
}

#[test]
fn a_wait_gives_its_place_to_another_connection_and_is_answered_for_that() {
    let node = node("[http]\nconnections_per_port = 3\n");
    let guest = node.guest("a").boot().unwrap();
    let request = waiting_request(&first(&guest).1);
    let mut waiting = Vec::new();
    for count in 1..=3 {
        let mut connection = guest.namespace().run(|| request.connect()).unwrap();
        connection.begin(&request).unwrap();
        waiting.push(connection);
        wait_waiting(&node, count);
    }
    assert_eq!(guest.get(PATH).unwrap().status, 200);
    let answer = waiting[0].receive().unwrap();
    assert_eq!((answer.status, answer.header("connection")), (200, Some("close")));
    wait_waiting(&node, 2);
    assert_eq!((ended(&node, "closed"), http(&node, "refused_port_limit")), (1, 0));
}

#[test]
fn maintenance_that_an_operator_schedules_reaches_an_agent_that_waits_for_it() {
    let node = node("");
    let guest = node.guest("a").boot().unwrap();
    let events = "/openstack/latest/events";
    assert_eq!(guest.get(events).unwrap().json().unwrap(), json!({"events": []}));
    let request = Request::get(&format!("{events}?wait_for_change=true")).patience(wait::PATIENCE);
    let mut connection = guest.namespace().run(|| request.connect()).unwrap();
    for (property, state) in [
        (r#"events:=[{"id": "evt-1", "type": "migration", "time": "2026-12-01T02:00:00Z"}]"#, "scheduled"),
        ("events.0.state=started", "started"),
        ("events.0.state=completed", "completed"),
    ] {
        connection.begin(&request).unwrap();
        wait_waiting(&node, 1);
        node.ask(&["instance", "set", guest.uuid(), "--property", property]).unwrap();
        let event = &connection.receive().unwrap().json().unwrap()["events"][0];
        assert_eq!((&event["id"], &event["state"]), (&json!("evt-1"), &json!(state)), "{event}");
    }
    node.ask(&["instance", "set", guest.uuid(), "--property", "tags.team=web"]).unwrap();
    let tag = || Ok(Some(guest.get("/latest/meta-data/tags/instance/team")?).filter(|answer| answer.status == 200));
    assert_eq!(wait::until("the tag is there", tag).unwrap().text(), "web");
}
