//! Tests of requests that ask for a tag, or wait for a change.

use tokio::time::sleep;

use super::*;
use crate::policy::Extensions;

const HOST: &str = "/latest/meta-data/local-hostname";

/// A node with instance 1, whose policy allows this.
fn node(extensions: Extensions) -> Node {
    let mut caller = Caller::default();
    caller.policy.extensions = extensions;
    let node = Node { caller, ..Node::new() };
    node.bind_to(1);
    node.store.put(record(1, "p", &["tap1"]));
    node
}

fn usual() -> Extensions {
    Caller::default().policy.extensions
}

fn rename(node: &Node, name: &str) {
    let record = crate::record::InstanceRecord { hostname: name.into(), ..record(1, "p", &["tap1"]) };
    assert!(node.store.put(record));
}

async fn ask(client: &mut DuplexStream, target: &str, header: &str) {
    client.write_all(format!("GET {target} HTTP/1.1\r\n{header}\r\n").as_bytes()).await.expect("sent");
}

/// Reads what comes until both are there: the head and, but for 304, its body.
async fn answer(client: &mut DuplexStream) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(client.read_u8().await.expect("more of the head"));
    }
    let mut text = String::from_utf8(head).expect("text");
    let length = text.lines().find_map(|line| line.strip_prefix("Content-Length: "));
    let mut body = vec![0; length.map_or(0, |length| length.parse().expect("a number"))];
    client.read_exact(&mut body).await.expect("the body");
    text.push_str(std::str::from_utf8(&body).expect("text"));
    text
}

fn tag_of(answer: &str) -> String {
    let tag = answer.lines().find_map(|line| line.strip_prefix("Etag: ")).expect("a tag");
    tag.trim_matches('"').to_owned()
}

async fn first(client: &mut DuplexStream) -> String {
    ask(client, &format!("{HOST}?wait_for_change=true&last_etag=0"), "").await;
    let answer = answer(client).await;
    assert!(answer.starts_with("HTTP/1.1 200 ") && answer.ends_with("\r\nhost.novalocal"), "{answer}");
    tag_of(&answer)
}

#[tokio::test]
async fn who_asks_for_no_tag_gets_none_and_who_has_the_document_gets_no_body() {
    let node = node(usual());
    let (mut client, _) = node.connect();
    for target in [HOST, &format!("{HOST}?a=b&last_etag=0&timeout_sec=x")] {
        ask(&mut client, target, "").await;
        let plain = answer(&mut client).await;
        assert!(plain.starts_with("HTTP/1.1 200 ") && !plain.contains("Etag"), "{plain}");
    }
    ask(&mut client, HOST, "If-None-Match: \"\"\r\n").await;
    let tag = tag_of(&answer(&mut client).await);
    ask(&mut client, HOST, &format!("If-None-Match: \"x\", W/\"{tag}\"\r\n")).await;
    assert_eq!(answer(&mut client).await, format!("HTTP/1.1 304 Not Modified\r\nEtag: \"{tag}\"\r\n\r\n"));
    ask(&mut client, "/latest/nonsense", "If-None-Match: *\r\n").await;
    let absent = answer(&mut client).await;
    assert!(absent.starts_with("HTTP/1.1 404 ") && !absent.contains("Etag"), "{absent}");
    assert_eq!(node.answers(), [(200, 3), (304, 1), (404, 1)]);
}

#[tokio::test]
async fn where_extensions_are_off_nothing_of_it_means_anything() {
    let node = node(Extensions { enabled: false, ..usual() });
    let (mut client, _) = node.connect();
    for query in ["?wait_for_change=true", "?wait_for_change=true&timeout_sec=x", "?recursive=true&alt=json"] {
        ask(&mut client, &format!("{HOST}{query}"), "If-None-Match: *\r\n").await;
        let plain = answer(&mut client).await;
        assert!(
            plain.starts_with("HTTP/1.1 200 ") && plain.ends_with("\r\nhost.novalocal") && !plain.contains("Etag"),
            "{plain}"
        );
    }
    ask(&mut client, "/openstack/latest/capabilities", "").await;
    assert!(answer(&mut client).await.starts_with("HTTP/1.1 404 "));
}

#[tokio::test(start_paused = true)]
async fn a_wait_ends_with_a_change_of_its_own_document_and_of_no_other() {
    let node = node(usual());
    let (mut client, _) = node.connect();
    let tag = first(&mut client).await;
    for (query, other) in [(format!("&last_etag={tag}"), "host"), (String::new(), "other")] {
        ask(&mut client, &format!("{HOST}?wait_for_change=true{query}"), "").await;
        sleep(Duration::from_secs(100)).await;
        assert_eq!(node.waits.open(), 1);
        // Another document of the instance.
        let one_more = crate::record::InstanceRecord {
            hostname: other.into(),
            launch_index: Some(7),
            ..record(1, "p", &["tap1"])
        };
        node.store.put(one_more);
        sleep(Duration::from_secs(1)).await;
        assert_eq!(node.waits.open(), 1);
        let changed = Instant::now();
        let name = format!("{other}s");
        rename(&node, &name);
        let given = answer(&mut client).await;
        assert!(
            given.ends_with(&format!("\r\n{name}.novalocal")) && changed.elapsed() < Duration::from_millis(1),
            "{given}"
        );
        rename(&node, "other");
    }
    assert_eq!((node.counters.waits_changed.get(), node.waits.open(), node.counters.waited.get()), (2, 0, 0));
}

#[tokio::test(start_paused = true)]
async fn a_wait_whose_time_is_over_is_answered_with_what_there_is() {
    let node = node(usual());
    let (mut client, served) = node.connect();
    let tag = first(&mut client).await;
    let longest = usual().longest_wait.as_secs();
    let conditional = format!("If-None-Match: \"{tag}\"\r\n");
    for (query, header, status, seconds) in [
        ("&timeout_sec=100", "", "200", 100),
        ("&timeout_sec=0", "", "200", 0),
        ("", "", "200", longest),
        ("&timeout_sec=100000", "", "200", longest),
        ("&timeout_sec=3", conditional.as_str(), "304", 3),
    ] {
        let before = Instant::now();
        ask(&mut client, &format!("{HOST}?wait_for_change=true&last_etag={tag}{query}"), header).await;
        let given = answer(&mut client).await;
        assert!(given.starts_with(&format!("HTTP/1.1 {status} ")) && tag_of(&given) == tag, "{given}");
        assert_eq!(before.elapsed().as_secs(), seconds, "{query}");
    }
    assert_eq!(node.counters.waits_timed_out.get(), 4);
    // It ends as if the request had come just now.
    let before = Instant::now();
    served.await.expect("served");
    assert_eq!(before.elapsed().as_secs(), Times::default().idle.as_secs());
}

/// What happens to a connection whose request waits.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Event {
    Drain,
    PlaceNeeded,
    BindingEnded,
    ContentGone,
}

#[tokio::test(start_paused = true)]
async fn a_wait_ends_cleanly_when_its_connection_must() {
    for (event, expected) in [
        (Event::Drain, Some("200")),
        (Event::PlaceNeeded, Some("200")),
        (Event::BindingEnded, None),
        // The content is not there any more, and nobody waits for another.
        (Event::ContentGone, Some("503")),
    ] {
        let node = node(usual());
        let (mut client, progress, served) = node.serve_placed(node.guest(7));
        ask(&mut client, &format!("{HOST}?wait_for_change=true"), "").await;
        sleep(Duration::from_secs(50)).await;
        assert!(progress.idle_since().is_some(), "it may give way");
        let before = Instant::now();
        match event {
            Event::Drain => node.drain.close(),
            Event::PlaceNeeded => progress.make_leave(),
            Event::BindingEnded => node.identities.end(Tag(7)),
            Event::ContentGone => assert!(node.store.remove(id(1))),
        }
        match expected {
            None => {}
            Some(status) => {
                let given = answer(&mut client).await;
                assert!(given.starts_with(&format!("HTTP/1.1 {status} ")), "{event:?}: {given}");
                let closes = given.contains("Connection: close");
                assert_eq!(closes, matches!(event, Event::Drain | Event::PlaceNeeded), "{event:?}: {given}");
            }
        }
        assert!(before.elapsed() < Duration::from_secs(1), "{event:?}");
        if event != Event::ContentGone {
            served.await.expect("served");
        }
        let counters = &node.counters;
        let ends = [&counters.waits_changed, &counters.waits_closed, &counters.waits_lost].map(|counter| counter.get());
        let place = match event {
            Event::ContentGone => 0,
            Event::Drain | Event::PlaceNeeded => 1,
            Event::BindingEnded => 2,
        };
        assert_eq!(ends, std::array::from_fn(|at| u64::from(at == place)), "{event:?}");
        assert_eq!(node.waits.open(), 0);
    }
}

#[tokio::test(start_paused = true)]
async fn an_instance_has_so_many_waits_and_one_more_is_429() {
    let node = node(Extensions { waits_per_instance: 2, ..usual() });
    let mut clients = Vec::new();
    for _ in 0..2 {
        let (mut client, _) = node.connect();
        ask(&mut client, &format!("{HOST}?wait_for_change=true"), "").await;
        clients.push(client);
    }
    sleep(Duration::from_secs(1)).await;
    let (mut client, _) = node.connect();
    ask(&mut client, &format!("{HOST}?wait_for_change=true"), "").await;
    let refused = answer(&mut client).await;
    assert!(refused.starts_with("HTTP/1.1 429 ") && refused.contains("\r\nRetry-After: 1\r\n"), "{refused}");
    first(&mut client).await;
    assert_eq!((node.waits.open(), node.counters.waits_refused.get()), (2, 1));
}

#[tokio::test(start_paused = true)]
async fn a_wait_counts_as_one_request_when_it_begins() {
    let mut settings = crate::config::Config::default();
    (settings.http.requests_per_second, settings.http.request_burst) = (1, 2);
    let node = Node { rates: Some(Arc::new(Rates::new(settings.policy()))), ..node(usual()) };
    let (mut waiting, _) = node.connect();
    ask(&mut waiting, &format!("{HOST}?wait_for_change=true"), "").await;
    sleep(Duration::from_secs(60)).await;
    let (mut client, _) = node.connect();
    for status in ["200", "200", "429"] {
        ask(&mut client, HOST, "").await;
        let given = answer(&mut client).await;
        assert!(given.starts_with(&format!("HTTP/1.1 {status} ")), "{given}");
    }
    rename(&node, "other");
    let given = answer(&mut waiting).await;
    assert!(given.starts_with("HTTP/1.1 200 "), "its end is no request, however many others there are: {given}");
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_is_kept_long_enough_ends_with_its_wait() {
    let node = Node { connection: Duration::from_secs(60), ..node(usual()) };
    let (mut client, served) = node.connect();
    ask(&mut client, &format!("{HOST}?wait_for_change=true"), "").await;
    let before = Instant::now();
    let given = answer(&mut client).await;
    assert!(given.starts_with("HTTP/1.1 200 "), "{given}");
    served.await.expect("served");
    assert_eq!((before.elapsed().as_secs(), node.counters.waits_timed_out.get()), (60, 1));
}
