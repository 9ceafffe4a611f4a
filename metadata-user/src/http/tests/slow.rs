//! Guests that are slow: with a request, with an answer, or with everything.

use super::*;

/// Asks for much more than fits between server and client.
async fn ask_much(node: &Node) -> (DuplexStream, JoinHandle<()>) {
    let (mut client, server) = tokio::io::duplex(8 << 10);
    let (_, served) = node.serve_on(server, fixed());
    let requests = "GET /openstack/latest/meta_data.json HTTP/1.1\r\n\r\n".repeat(160);
    client.write_all(requests.as_bytes()).await.expect("sent");
    (client, served)
}

/// Reads this much at a time, with this pause after each, until the server closes. Returns how long that took.
async fn read_slowly(client: &mut DuplexStream, bytes: usize, pause: Duration) -> Duration {
    let (start, mut buffer) = (Instant::now(), vec![0; bytes]);
    while client.read(&mut buffer).await.is_ok_and(|length| length > 0) {
        tokio::time::sleep(pause).await;
    }
    start.elapsed()
}

#[tokio::test(start_paused = true)]
async fn who_always_takes_a_little_of_an_answer_is_ended_after_the_time_of_a_request() {
    let node = Node::new();
    let (mut client, served) = ask_much(&node).await;
    let took = read_slowly(&mut client, 100, Duration::from_secs(1)).await;
    served.await.expect("ended");
    let request = Times::default().request;
    assert!((request..request * 20).contains(&took), "{took:?}");
    assert_eq!(node.counters.timed_out.get(), 1);
}

#[tokio::test(start_paused = true)]
async fn who_pauses_once_and_then_takes_all_is_served() {
    let node = Node::new();
    let (mut client, served) = ask_much(&node).await;
    for _ in 0..3 {
        tokio::time::sleep(Times::default().request / 2).await;
        let mut much = vec![0; 200 << 10];
        let mut taken = 0;
        // What the pause was worth, and more.
        while taken < 100 << 10 {
            let read = tokio::time::timeout(Duration::from_secs(1), client.read(&mut much)).await;
            match read {
                Ok(length) => taken += length.expect("open"),
                // All of the answers.
                Err(_) => break,
            }
        }
    }
    assert_eq!(node.counters.timed_out.get(), 0);
    drop(client);
    served.await.expect("ended");
}

/// Waits, in the runtime's own time, until the server closes; returns how long that took.
async fn closed_after(client: &mut DuplexStream, start: Instant) -> Duration {
    let mut rest = Vec::new();
    client.read_to_end(&mut rest).await.expect("closed");
    start.elapsed()
}

#[tokio::test(start_paused = true)]
async fn silence_and_slowness_end_a_connection() {
    let node = Node::new();
    let start = Instant::now();
    let (mut silent, _) = node.serve(fixed());
    assert_eq!(closed_after(&mut silent, start).await.as_secs(), 30);

    let start = Instant::now();
    let (mut slow, served) = node.serve(fixed());
    let drip = async {
        // A byte every second is never idle, but never done.
        for byte in b"GET / HTTP/1.1\r\nX: yyyyyyyyyyyyyyyyyyyyyyy" {
            if slow.write_all(&[*byte]).await.is_err() {
                break;
            }
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    };
    tokio::select! { () = drip => panic!("never cut off"), result = served => result.expect("served") }
    assert!((10..=11).contains(&start.elapsed().as_secs()), "{:?}", start.elapsed());

    let (mut polite, _) = node.serve(fixed());
    tokio::time::sleep(Duration::from_secs(25)).await;
    let start = Instant::now();
    polite.write_all(b"GET /nonsense HTTP/1.1\r\n\r\n").await.expect("sent");
    assert_eq!(closed_after(&mut polite, start).await.as_secs(), 30, "idle from the last answer on");

    let start = Instant::now();
    let (mut body, _) = node.serve(fixed());
    body.write_all(b"POST /openstack/latest/password HTTP/1.1\r\nContent-Length: 9\r\n\r\n").await.expect("sent");
    assert_eq!(closed_after(&mut body, start).await.as_secs(), 10, "a body that never comes");
    assert_eq!(node.counters.timed_out.get(), 4);
}
