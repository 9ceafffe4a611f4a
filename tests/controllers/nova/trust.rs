//! Several endpoints, and https with certificates on both sides.

use lab::Tls;
use lab::nova::{Front, facts};

use super::NOVA;
use super::cloud::{Node, uuid};

#[test]
fn an_endpoint_that_fails_is_replaced_by_the_next() {
    let facts = facts("plain").unwrap();
    let nova = NOVA.get().unwrap();
    let mut fronts = [(); 2].map(|()| Some(Front::start(nova.port(), None).unwrap()));
    let [one, two] = [0, 1].map(|front: usize| {
        let port = fronts[front].as_ref().map(Front::port).unwrap();
        format!("http://127.0.0.1:{port}")
    });
    // The first is nobody's: port 1 of loopback.
    let node = Node::start(&["http://127.0.0.1:1".to_owned(), one, two], "refresh_interval = '1s'\n");
    node.boot(&facts);
    node.wait_current();
    let state = node.wait("one is used", |state| state.endpoints.iter().any(|endpoint| endpoint.in_use));
    // Which is the first is up to chance.
    let used = state.endpoints.iter().position(|endpoint| endpoint.in_use).unwrap();
    let other = 3 - used;
    drop(fronts[used - 1].take());
    let state = node.wait("the other is used", |state| {
        state.endpoints[other].in_use && state.endpoints[used].error.is_some() && state.error.is_none()
    });
    assert!(state.broken.is_empty(), "{state:?}");
    assert_eq!(node.get(&uuid(&facts), "/1.0/meta-data/hostname").status, 200, "read through");
}

#[test]
fn https_wants_certificates_on_both_sides() {
    let directory = tempfile::tempdir().unwrap();
    let Tls { ca, cert, key, client_cert, client_key } = Tls::make(directory.path()).unwrap();
    let facts = facts("plain").unwrap();
    let nova = NOVA.get().unwrap();
    let front = Front::start(nova.port(), Some([&cert, &key, &ca])).unwrap();
    let url = [front.tls_url()];
    let trusting = format!("ca_file = '{}'\n", ca.display());
    let node = Node::start(&url, &trusting);
    node.boot(&facts);
    node.wait("a client without a certificate is refused", |state| state.error.is_some());
    let whole = format!("{trusting}cert_file = '{}'\nkey_file = '{}'\n", client_cert.display(), client_key.display());
    let node = Node::start(&url, &whole);
    node.boot(&facts);
    node.wait_current();
    assert_eq!(node.get(&uuid(&facts), "/latest/meta-data/hostname").text(), "plain.novalocal");
}
