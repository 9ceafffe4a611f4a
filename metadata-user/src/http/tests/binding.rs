//! What becomes of a connection when its binding changes or ends.

use super::super::turns::Turns;
use super::*;

#[tokio::test]
async fn a_connection_follows_its_port_from_held_to_bound() {
    let node = Node::new();
    node.bind(Identity::Held);
    let (mut client, _) = node.connect();
    let request = b"GET /openstack/nonsense HTTP/1.1\r\n\r\n";
    client.write_all(request).await.expect("sent");
    assert!(one_answer(&mut client).await.starts_with("HTTP/1.1 503 "));
    node.bind_to(1);
    client.write_all(request).await.expect("sent");
    assert!(one_answer(&mut client).await.starts_with("HTTP/1.1 503 "), "bound, without content");
    node.store.put(record(1, "p", &["tap1"]));
    client.write_all(request).await.expect("sent");
    assert!(one_answer(&mut client).await.starts_with("HTTP/1.1 404 "));
    assert_eq!(node.answers(), [(404, 1), (503, 2)]);
}

#[tokio::test]
async fn no_byte_leaves_after_the_binding_ended() {
    let node = Node::new();
    node.bind_to(1);
    node.store.put(record(1, "p", &["tap1"]));
    let (idle, idle_served) = node.connect();
    let (mut asking, asking_served) = node.connect();
    asking.write_all(b"GET / HTTP/1.1\r\n\r\n").await.expect("sent");
    // Neither task has run yet: the request is there, and so is the end.
    node.identities.end(Tag(7));
    for (mut client, served) in [(idle, idle_served), (asking, asking_served)] {
        let mut answer = Vec::new();
        client.read_to_end(&mut answer).await.expect("closed");
        assert!(answer.is_empty(), "{answer:?}");
        served.await.expect("ended");
    }
    assert_eq!((node.counters.binding_ended.get(), node.answers().len()), (2, 0));
    assert!(node.identities.lease(Tag(7)).is_none());
}

#[tokio::test]
async fn a_connection_that_is_kept_after_its_answer_is_watched() {
    let rechecks = recheck::tests::running();
    for is_asked_again in [false, true] {
        let node = Node::new();
        node.bind_to(1);
        let (mut client, mut socket, _listener) = socket::tests::pair().await;
        socket.recheck_at(&rechecks);
        let turns = Arc::new(Turns::default());
        let (guest, place) = (node.guest(7), connection::Place { turn: Some(turns.place(Tag(7))), ..node.place() });
        let drain = node.drain.clone();
        let served = tokio::spawn(async move { connection::serve_placed(socket, guest, place, drain).await });
        for _ in 0..=u8::from(is_asked_again) {
            client.write_all(b"HEAD /openstack HTTP/1.1\r\n\r\n").await.expect("sent");
            let mut answer = Vec::new();
            while !answer.ends_with(b"\r\n\r\n") {
                answer.push(client.read_u8().await.expect("an answer"));
            }
            // It is looked at again meanwhile.
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        let lease = node.identities.lease(Tag(7)).expect("bound");
        assert!(!lease.keeps_connections(), "it has not ended yet");
        node.identities.end(Tag(7));
        let end = client.read(&mut [0; 16]).await.map_err(|error| error.kind());
        assert_eq!(end, Err(std::io::ErrorKind::ConnectionReset));
        served.await.expect("ended");
        assert_eq!((node.counters.binding_ended.get(), lease.keeps_connections()), (1, is_asked_again));
    }
}
