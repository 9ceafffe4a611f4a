//! Guests that ask too much.

use super::*;
use crate::config::Config;

const REQUEST: &[u8] = b"GET /openstack/nonsense HTTP/1.1\r\n\r\n";

/// A node whose instances may ask twice at once, and once more every second.
fn node() -> Node {
    let mut settings = Config::default();
    (settings.http.requests_per_second, settings.http.request_burst) = (1, 2);
    Node { rates: Some(Arc::new(Rates::new(settings.policy()))), ..Node::new() }
}

/// Asks, and returns the status line with how long the answer took.
async fn asks(client: &mut DuplexStream) -> (String, Duration) {
    let start = Instant::now();
    client.write_all(REQUEST).await.expect("sent");
    (one_answer(client).await, start.elapsed())
}

#[tokio::test(start_paused = true)]
async fn beyond_its_rate_an_instance_is_answered_429_on_all_its_connections_after_a_moment() {
    let node = node();
    let (mut one, _) = node.serve(fixed());
    let (mut two, _) = node.serve(fixed());
    for client in [&mut one, &mut two] {
        let (answer, took) = asks(client).await;
        assert!(answer.starts_with("HTTP/1.1 404 ") && took.is_zero(), "{answer}");
    }
    let (answer, took) = asks(&mut two).await;
    let expected = "HTTP/1.1 429 Too Many Requests\r\nContent-Type: text/plain; charset=UTF-8\r\nRetry-After: 1\r\n\
                    Content-Length: 92\r\n\r\n429 Too Many Requests\n\n\
                    The client has sent too many requests in a given amount of time.\n\n   ";
    assert_eq!(answer, expected);
    assert_eq!(took, super::super::rate::HOLD);
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert!(asks(&mut one).await.0.starts_with("HTTP/1.1 404 "), "it may ask again");
    assert_eq!(node.answers(), [(404, 3), (429, 1)]);
    assert_eq!(node.counters.limited.get(), 1);
}

#[tokio::test(start_paused = true)]
async fn who_asks_a_little_too_early_waits_and_is_answered() {
    let node = node();
    let (mut client, _) = node.serve(fixed());
    asks(&mut client).await;
    asks(&mut client).await;
    tokio::time::sleep(Duration::from_millis(900)).await;
    let (answer, took) = asks(&mut client).await;
    assert!(answer.starts_with("HTTP/1.1 404 "), "{answer}");
    assert_eq!(took, super::super::rate::HOLD);
}

#[tokio::test(start_paused = true)]
async fn a_port_without_content_is_counted_too() {
    let node = node();
    node.bind(Identity::Held);
    let (mut client, _) = node.connect();
    for status in ["503", "503", "429"] {
        assert!(asks(&mut client).await.0.starts_with(&format!("HTTP/1.1 {status} ")));
    }
}
