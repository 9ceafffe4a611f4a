//! Tests of what guests write about themselves.

use super::*;
use crate::policy::{AccessOverrides, SessionMode};
use crate::record::{EventKind, EventRecord, EventState, InstanceRecord, LONGEST_ATTRIBUTE, Notices};

const PATH: &str = "/openstack/latest/guest-attributes";

/// A node whose instance 1 may write so many.
fn node(most: usize) -> Node {
    let mut caller = Caller::default();
    caller.policy.extensions.attributes_per_instance = most;
    let node = Node { caller, ..Node::new() };
    node.bind_to(1);
    node.store.put(record(1, "p", &["tap1"]));
    node
}

fn event(id: &str, acknowledge: bool) -> EventRecord {
    EventRecord {
        id: id.into(),
        kind: EventKind::Reboot,
        state: EventState::Scheduled,
        time: "2026-12-01T02:00:00Z".into(),
        description: None,
        acknowledge,
    }
}

/// Gives instance 1 these events, and no others.
fn put(node: &Node, events: Vec<EventRecord>) {
    let notices = Notices { events, ..Notices::default() };
    node.store.put(InstanceRecord { notices: Some(Box::new(notices)), ..record(1, "p", &["tap1"]) });
}

async fn ask(node: &Node, method: &str, path: &str, body: &str) -> (u16, String) {
    super::ask(node, method, &format!("{PATH}{path}"), body).await
}

#[tokio::test]
async fn what_a_guest_writes_it_reads_and_its_operator_too_until_it_removes_it() {
    let node = node(4);
    assert_eq!(ask(&node, "GET", "", "").await, (200, String::new()));
    assert_eq!(ask(&node, "PUT", "/hostkeys/ed25519", "AAAA\n").await, (200, String::new()));
    assert_eq!(ask(&node, "PUT", "/hostkeys/ed25519", "BBBB").await.0, 200);
    assert_eq!(ask(&node, "GET", "/hostkeys/ed25519", "").await, (200, "BBBB".to_owned()));
    assert_eq!(ask(&node, "GET", "/", "").await.1, "hostkeys/");
    assert_eq!(ask(&node, "GET", "/hostkeys", "").await.1, "ed25519");
    let texts = node.store.attributes(id(1)).expect("attributes").texts();
    assert_eq!(texts["hostkeys"]["ed25519"], "BBBB");
    assert_eq!(ask(&node, "DELETE", "/hostkeys/ed25519", "").await.0, 200);
    assert_eq!(ask(&node, "GET", "/hostkeys/ed25519", "").await.0, 404);
    assert_eq!(node.store.attributes(id(1)), None, "an instance without any costs nothing");
    assert_eq!((node.counters.attributes_written.get(), node.counters.attributes_refused.get()), (3, 0));
}

#[tokio::test]
async fn what_cannot_be_kept_is_refused_and_changes_nothing() {
    let node = node(2);
    let longest = "x".repeat(LONGEST_ATTRIBUTE);
    for (method, path, body, status) in [
        ("PUT", "/a/1", longest.as_str(), 200),
        ("PUT", "/a/1", &format!("{longest}x"), 413),
        ("PUT", "/a/2", "", 200),
        ("PUT", "/a/3", "", 413),
        ("PUT", "/a/2", "a\0", 400),
        ("PUT", "/a", "x", 405),
        ("PUT", "", "x", 405),
        ("POST", "/a/1", "x", 405),
        ("PUT", "/a/b/c", "x", 404),
        ("PUT", "/a/%20", "x", 404),
        ("DELETE", "/a/9", "", 200),
    ] {
        assert_eq!(ask(&node, method, path, body).await.0, status, "{method} {path}");
    }
    assert_eq!(ask(&node, "GET", "/a", "").await.1, "1\n2");
    assert_eq!(ask(&node, "GET", "/a/1", "").await.1, longest);
    let (client, _) = node.connect();
    let text = [format!("PUT {PATH}/a/2 HTTP/1.1\r\nContent-Length: 1\r\n\r\n").as_bytes(), b"\xff"].concat();
    assert!(exchange(client, &text).await.starts_with("HTTP/1.1 400 "), "it is not UTF-8");
    assert_eq!(node.counters.attributes_refused.get(), 4);
}

#[tokio::test(start_paused = true)]
async fn an_instances_attributes_have_so_many_bytes_together() {
    let node = node(1000);
    let longest = "x".repeat(LONGEST_ATTRIBUTE);
    // The sixteenth has no room for its names.
    for at in 1..=16 {
        let status = ask(&node, "PUT", &format!("/a/{at}"), &longest).await.0;
        assert_eq!(status, if at < 16 { 200 } else { 413 }, "{at}");
    }
    assert_eq!(ask(&node, "PUT", "/a/16", &longest[..LONGEST_ATTRIBUTE - 100]).await.0, 200);
    assert_eq!(ask(&node, "DELETE", "/a/1", "").await.0, 200);
    assert_eq!(ask(&node, "PUT", "/a/16", &longest).await.0, 200);
}

/// A node whose instance has written as much at once as it may.
async fn out_of_breath() -> Node {
    let node = node(4);
    put(&node, vec![event("one", true)]);
    for at in 0..40 {
        assert_eq!(ask(&node, "PUT", "/a/b", &at.to_string()).await.0, 200);
    }
    node
}

#[tokio::test(start_paused = true)]
async fn an_instance_writes_so_many_per_second_and_reads_as_it_likes() {
    let node = out_of_breath().await;
    let acknowledge = "/openstack/latest/events/one/acknowledge";
    for request in [format!("PUT {PATH}/a/b"), format!("DELETE {PATH}/a/b"), format!("POST {acknowledge}")] {
        let (client, _) = node.connect();
        let answer = exchange(client, format!("{request} HTTP/1.1\r\nContent-Length: 0\r\n\r\n").as_bytes()).await;
        assert!(answer.starts_with("HTTP/1.1 429 ") && answer.contains("\r\nRetry-After: 1\r\n"), "{answer}");
    }
    assert_eq!(ask(&node, "GET", "/a/b", "").await.1, "39");
    assert_eq!((node.counters.attributes_written.get(), node.counters.attributes_refused.get()), (40, 3));
    tokio::time::advance(Duration::from_secs(1)).await;
    assert_eq!(ask(&node, "PUT", "/a/b", "in time").await.0, 200);
    assert_eq!(super::ask(&node, "POST", acknowledge, "").await.0, 200);
}

#[tokio::test]
async fn a_guest_acknowledges_the_events_that_ask_for_it_and_no_others() {
    let node = node(0);
    let post =
        async |id: &str| super::ask(&node, "POST", &format!("/openstack/latest/events/{id}/acknowledge"), "").await.0;
    assert_eq!(post("one").await, 404, "no event at all");
    put(&node, vec![event("one", true), event("two", true), event("told", false)]);
    for (id, status) in [("one", 200), ("one", 200), ("told", 404), ("none", 404), ("one/x", 404), ("", 404)] {
        assert_eq!(post(id).await, status, "{id}");
    }
    let (status, events) = super::ask(&node, "GET", "/openstack/latest/events", "").await;
    let events: serde_json::Value = serde_json::from_str(&events).expect("JSON");
    let acknowledged: Vec<_> =
        events["events"].as_array().expect("a list").iter().map(|event| event.get("acknowledged")).collect();
    assert_eq!((status, acknowledged), (200, vec![Some(&true.into()), Some(&false.into()), None]));
    assert_eq!(super::ask(&node, "GET", "/openstack/latest/events/one/acknowledge", "").await.0, 404);
    // The operator's eyes.
    let texts = node.store.attributes(id(1)).expect("attributes").texts();
    assert_eq!(texts["@events"].keys().collect::<Vec<_>>(), ["one"]);
    put(&node, vec![event("two", true)]);
    assert_eq!(post("two").await, 200);
    let texts = node.store.attributes(id(1)).expect("attributes").texts();
    assert_eq!(texts["@events"].keys().collect::<Vec<_>>(), ["two"], "what is over is forgotten");
}

#[tokio::test]
async fn where_they_are_off_or_the_policy_forbids_it_nothing_is_written() {
    let off = node(0);
    for method in ["GET", "PUT", "DELETE"] {
        assert_eq!(ask(&off, method, "/a/b", "").await.0, 404, "{method}");
    }
    let node = node(4);
    let mut changed = record(1, "p", &["tap1"]);
    changed.policy.access = AccessOverrides { session: Some(SessionMode::Required), ..Default::default() };
    node.store.put(changed);
    assert_eq!(ask(&node, "PUT", "/a/b", "x").await.0, 401);
    assert_eq!(node.store.attributes(id(1)), None);
}
