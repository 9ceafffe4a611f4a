//! Requests that are too large, and connections that are too old.

use super::*;

#[tokio::test]
async fn what_a_head_may_have_is_configured() {
    let node = Node { heads: Heads { bytes: 8192, fields: 16, target: 300 }, ..Node::new() };
    let target = |length: usize| format!("GET /{} HTTP/1.1\r\n\r\n", "a".repeat(length - 1));
    let fields = |count: usize| format!("GET /a HTTP/1.1\r\n{}\r\n", "X: y\r\n".repeat(count));
    let bytes = |length: usize| format!("GET /a HTTP/1.1\r\nX: {}\r\n\r\n", "y".repeat(length));
    for (request, status) in [
        (target(300), "404 Not Found"),
        (target(301), "414 URI Too Long"),
        (fields(16), "404 Not Found"),
        (fields(17), "431 Request Header Fields Too Large"),
        (bytes(8000), "404 Not Found"),
        (bytes(8200), "431 Request Header Fields Too Large"),
    ] {
        let (client, served) = node.serve(fixed());
        let answer = exchange(client, request.as_bytes()).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status}\r\n")), "{status}: {answer}");
        served.await.expect("served");
    }
}

#[tokio::test(start_paused = true)]
async fn a_connection_ends_after_its_time_but_not_within_a_request() {
    let node = Node { connection: Duration::from_secs(20), ..Node::new() };
    let start = Instant::now();
    let (mut client, served) = node.serve(fixed());
    let request = b"GET /nonsense HTTP/1.1\r\n\r\n";
    for _ in 0..19 {
        tokio::time::sleep(Duration::from_secs(1)).await;
        client.write_all(request).await.expect("sent");
        one_answer(&mut client).await;
    }
    client.write_all(&request[..9]).await.expect("sent");
    tokio::time::sleep(Duration::from_secs(5)).await;
    client.write_all(&request[9..]).await.expect("sent");
    assert!(one_answer(&mut client).await.starts_with("HTTP/1.1 404 "));
    served.await.expect("ended");
    assert!((24..=25).contains(&start.elapsed().as_secs()), "{:?}", start.elapsed());
    assert_eq!(node.counters.timed_out.get(), 0);
}
