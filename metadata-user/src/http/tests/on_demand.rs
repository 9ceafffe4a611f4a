//! Requests that wait for what services answer when a guest reads.

use super::*;
use crate::on_demand::{self, Member};

const REQUEST: &[u8] = b"GET /openstack/latest/vendor_data2.json HTTP/1.1\r\nIf-None-Match: \"x\"\r\n\r\n";

/// A node with one instance, and the other end of its services.
fn node() -> (Node, tokio::sync::mpsc::Receiver<on_demand::Ask>) {
    let (on_demand, asked) = on_demand::channel();
    let node = Node { on_demand: Some(on_demand), ..Node::new() };
    node.bind_to(1);
    node.store.put(record(1, "p", &["tap1"]));
    (node, asked)
}

fn member(value: &'static str) -> Vec<Member> {
    vec![Member { name: "jwt".to_owned(), value: bytes::Bytes::from_static(value.as_bytes()) }]
}

#[tokio::test]
async fn each_get_has_answers_of_its_own_and_nothing_else_asks() {
    let (node, mut asked) = node();
    for (method, target) in [
        ("GET", "/openstack/latest/vendor_data.json"),
        ("GET", "/openstack/2013-10-17/vendor_data2.json"),
        ("GET", "/openstack/latest/meta_data.json"),
        ("GET", "/latest/dynamic"),
    ] {
        ask(&node, method, target, "").await;
        assert!(asked.is_empty(), "{method} {target}");
    }
    let (client, _) = node.connect();
    exchange(client, b"HEAD /openstack/latest/vendor_data2.json HTTP/1.1\r\n\r\n").await;
    assert!(asked.is_empty(), "the answer to a HEAD would be lost");
    let (mut client, _) = node.connect();
    for value in ["\"1\"", "{\"x\": 2}"] {
        client.write_all(REQUEST).await.expect("sent");
        let ask = asked.recv().await.expect("asked");
        assert_eq!(ask.instance, id(1));
        ask.done.send(member(value)).expect("waited for");
        let answer = one_answer(&mut client).await;
        assert!(answer.ends_with(&format!("\r\n\r\n{{\"static\": {{}}, \"jwt\": {value}}}")), "{answer}");
        assert!(answer.starts_with("HTTP/1.1 200 ") && !answer.contains("ETag"), "{answer}");
    }
}

#[tokio::test(start_paused = true)]
async fn without_an_answer_in_time_a_guest_reads_the_rest() {
    let (node, mut asked) = node();
    let (mut client, _) = node.connect();
    client.write_all(REQUEST).await.expect("sent");
    drop(asked.recv().await.expect("asked"));
    assert!(one_answer(&mut client).await.ends_with("\r\n\r\n{\"static\": {}}"));
    client.write_all(REQUEST).await.expect("sent");
    let before = Instant::now();
    assert!(one_answer(&mut client).await.ends_with("\r\n\r\n{\"static\": {}}"));
    assert_eq!(before.elapsed().as_secs(), Times::default().request.as_secs());
    assert!(asked.recv().await.expect("asked").done.is_closed(), "nobody waits any more");
}

#[tokio::test]
async fn an_answer_for_one_instance_is_never_given_to_another() {
    let (node, mut asked) = node();
    let (mut client, served) = node.connect();
    client.write_all(REQUEST).await.expect("sent");
    let ask = asked.recv().await.expect("asked");
    node.identities.end(Tag(7));
    let _ = ask.done.send(member("\"secret\""));
    served.await.expect("served");
    let mut rest = Vec::new();
    client.read_to_end(&mut rest).await.expect("read");
    assert!(rest.is_empty(), "{rest:?}");
}
