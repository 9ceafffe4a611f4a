//! Connections that have to end: the daemon drains, or another one needs their place.

use super::*;

#[tokio::test]
async fn a_drain_ends_idle_connections_and_lets_a_request_finish() {
    let node = Node::new();
    let (mut idle, idle_served) = node.serve(fixed());
    let (mut posting, posting_served) = node.serve(fixed());
    idle.write_all(b"GET /nonsense HTTP/1.1\r\n\r\n").await.expect("sent");
    one_answer(&mut idle).await;
    posting.write_all(b"POST /nonsense HTTP/1.1\r\nContent-Length: 4\r\n\r\nab").await.expect("sent");
    tokio::task::yield_now().await;
    node.drain.close();
    idle_served.await.expect("closed");
    posting.write_all(b"cd").await.expect("the rest");
    let answer = one_answer(&mut posting).await;
    assert!(answer.starts_with("HTTP/1.1 404 "), "{answer}");
    posting_served.await.expect("closed");
}

#[tokio::test]
async fn a_connection_that_gives_way_answers_the_request_that_it_has_and_ends() {
    let node = Node::new();
    let (mut silent, silent_progress, silent_served) = node.serve_placed(fixed());
    let (mut idle, idle_progress, idle_served) = node.serve_placed(fixed());
    let (mut posting, posting_progress, posting_served) = node.serve_placed(fixed());
    idle.write_all(b"GET /nonsense HTTP/1.1\r\n\r\n").await.expect("sent");
    one_answer(&mut idle).await;
    assert!(idle_progress.idle_since().is_some() && silent_progress.idle_since().is_some());
    posting.write_all(b"POST /nonsense HTTP/1.1\r\nContent-Length: 4\r\n\r\nab").await.expect("sent");
    tokio::task::yield_now().await;
    assert!(posting_progress.idle_since().is_none());
    for progress in [&silent_progress, &idle_progress, &posting_progress] {
        progress.make_leave();
    }
    for (client, served) in [(&mut silent, silent_served), (&mut idle, idle_served)] {
        served.await.expect("closed");
        assert_eq!(client.read(&mut [0]).await.expect("read"), 0);
    }
    posting.write_all(b"cd").await.expect("the rest");
    let answer = one_answer(&mut posting).await;
    assert!(answer.starts_with("HTTP/1.1 404 ") && answer.contains("Connection: close\r\n"), "{answer}");
    posting_served.await.expect("closed");
    assert_eq!(node.counters.gave_way.get(), 3);
}

#[tokio::test]
async fn an_answer_that_is_not_written_yet_is_no_idle_connection() {
    let (mut client, server) = tokio::io::duplex(64);
    let node = Node::new();
    let (progress, served) = node.serve_on(server, fixed());
    client.write_all(b"GET /openstack/latest/meta_data.json HTTP/1.1\r\n\r\n").await.expect("sent");
    tokio::task::yield_now().await;
    let first = client.read_u8().await.expect("the answer begins");
    assert!(progress.idle_since().is_none(), "most of it is not written");
    progress.make_leave();
    let mut rest = Vec::new();
    client.read_to_end(&mut rest).await.expect("all of it");
    let text = String::from_utf8([&[first], &rest[..]].concat()).expect("text");
    let (head, body) = text.split_once("\r\n\r\n").expect("a head");
    assert!(head.contains(&format!("Content-Length: {}", body.len())), "{text}");
    served.await.expect("closed");
}
