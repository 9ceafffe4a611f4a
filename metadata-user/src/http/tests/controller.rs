//! Requests that wait for the controller of an unchanged OpenStack.

use super::*;

/// A node whose one instance is copied, and the other end of its origin.
fn copying() -> (Node, tokio::sync::mpsc::Receiver<origin::Ask>) {
    let (origin, asked) = origin::channel();
    let node = Node { origin: Some(origin), ..Node::new() };
    node.bind_to(1);
    node.store.put_nova_pages(copied(&[]));
    (node, asked)
}

fn copied(more: &[(&str, &'static str)]) -> NovaPages {
    let pages = [("", "latest"), ("openstack", "latest")].iter().chain(more);
    let page = |body: &'static str| Page::found(Some("text/plain"), bytes::Bytes::from_static(body.as_bytes()));
    NovaPages::new(id(1), pages.map(|(path, body)| ((*path).to_owned(), page(body))))
}

#[tokio::test]
async fn a_missing_path_waits_for_the_controller_and_no_other_request_does() {
    let (node, mut asked) = copying();
    let (mut client, _) = node.connect();
    client.write_all(b"GET /latest/meta-data HTTP/1.1\r\n\r\n").await.expect("sent");
    let ask = asked.recv().await.expect("asked");
    assert_eq!((ask.instance, ask.want), (id(1), Want::Page("latest/meta-data".to_owned())));
    for (target, status) in [("/openstack", 200), ("/nonsense", 404)] {
        assert_eq!(self::ask(&node, "GET", target, "").await.0, status);
    }
    node.store.put_nova_pages(copied(&[("latest/meta-data", "hostname")]));
    ask.done.send(Outcome::Fetched).expect("still waiting");
    assert!(one_answer(&mut client).await.ends_with("\r\n\r\nhostname"));
}

#[tokio::test(start_paused = true)]
async fn without_the_controller_a_missing_path_is_503() {
    let (node, mut asked) = copying();
    let request = b"GET /latest/meta-data HTTP/1.1\r\n\r\n";
    let (mut client, _) = node.connect();
    client.write_all(request).await.expect("sent");
    drop(asked.recv().await.expect("asked"));
    let answer = one_answer(&mut client).await;
    assert!(answer.starts_with("HTTP/1.1 503 ") && answer.contains("Retry-After: 1\r\n"), "{answer}");
    client.write_all(request).await.expect("sent");
    let before = Instant::now();
    assert!(one_answer(&mut client).await.starts_with("HTTP/1.1 503 "), "nobody says anything");
    assert_eq!(before.elapsed().as_secs(), Times::default().request.as_secs());
    let ask = asked.recv().await.expect("asked");
    assert!(ask.done.is_closed(), "whoever asks does not wait any more");
}

#[tokio::test]
async fn what_is_waited_for_is_never_given_to_another() {
    let (node, mut asked) = copying();
    let (mut client, served) = node.connect();
    client.write_all(b"GET /latest/meta-data HTTP/1.1\r\n\r\n").await.expect("sent");
    let ask = asked.recv().await.expect("asked");
    node.identities.end(Tag(7));
    node.store.put_nova_pages(copied(&[("latest/meta-data", "hostname")]));
    let _ = ask.done.send(Outcome::Fetched);
    served.await.expect("served");
    let mut rest = Vec::new();
    client.read_to_end(&mut rest).await.expect("read");
    assert!(rest.is_empty(), "{rest:?}");
    let counters = &node.counters;
    assert_eq!((counters.binding_ended.get(), counters.unanswered.get(), node.answers().len()), (1, 1, 0));
}

#[tokio::test]
async fn a_password_is_answered_with_the_controllers_status() {
    for (outcome, status) in [
        (Outcome::Posted(Written::Kept), 200),
        (Outcome::Posted(Written::Exists), 409),
        (Outcome::Unavailable, 503),
        (Outcome::Posted(Written::TooLarge), 400),
    ] {
        let (node, mut asked) = copying();
        let answering = async {
            let ask = asked.recv().await.expect("asked");
            assert_eq!(ask.want, Want::Page("openstack/latest/password".to_owned()));
            node.store.put_nova_pages(copied(&[("openstack/latest/password", "")]));
            ask.done.send(Outcome::Fetched).expect("waiting");
            let ask = asked.recv().await.expect("asked");
            let password = Password::new("cipher").expect("a password");
            assert_eq!(ask.want, Want::Password { path: "openstack/latest/password".to_owned(), password });
            ask.done.send(outcome).expect("waiting");
        };
        let (answer, ()) = tokio::join!(ask(&node, "POST", "/openstack/latest/password", "cipher"), answering);
        assert_eq!(answer.0, status);
    }
}
