//! Several endpoints, and https with certificates on both sides.

use std::path::PathBuf;
use std::process::Command;

use lab::command;
use lab::nova::{Front, Nova, facts};

use super::cloud::{Node, uuid};

#[test]
fn an_endpoint_that_fails_is_replaced_by_the_next() {
    let facts = facts("plain").unwrap();
    let nova = Nova::start(std::slice::from_ref(&facts)).unwrap();
    let front = Front::start(&nova, None).unwrap();
    let through = format!("http://127.0.0.1:{}", front.port());
    // The first is nobody's: port 1 of loopback.
    let node = Node::start(&["http://127.0.0.1:1".to_owned(), through, nova.url()], "refresh_interval = '1s'\n");
    node.boot(&facts);
    node.wait_current();
    drop(front);
    let state = node.wait("the last one is used", |state| {
        state.endpoints[2].in_use && state.endpoints[1].error.is_some() && state.error.is_none()
    });
    assert!(state.broken.is_empty(), "{state:?}");
    assert_eq!(node.get(&uuid(&facts), "/1.0/meta-data/hostname").status, 200, "read through");
}

/// Makes an authority, and a certificate of it for a server and a client: `openssl`, since the lab has no library of it.
fn certificates(folder: &std::path::Path) -> [PathBuf; 5] {
    let script = "set -e; cd \"$1\"\n\
        openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout ca.key -out ca.pem -days 2 -subj /CN=ca\n\
        for who in server client; do\n\
        openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout $who.key -out $who.csr -subj /CN=$who\n\
        printf 'subjectAltName=IP:127.0.0.1\\nbasicConstraints=CA:FALSE\\n' > $who.ext\n\
        openssl x509 -req -in $who.csr -CA ca.pem -CAkey ca.key -CAcreateserial -out $who.pem -days 2 -extfile $who.ext\n\
        done\n";
    command::run(Command::new("sh").args(["-c", script, "sh"]).arg(folder), "").unwrap();
    ["ca.pem", "server.pem", "server.key", "client.pem", "client.key"].map(|name| folder.join(name))
}

#[test]
fn https_wants_certificates_on_both_sides() {
    let folder = tempfile::tempdir().unwrap();
    let [ca, cert, key, client_cert, client_key] = certificates(folder.path());
    let facts = facts("plain").unwrap();
    let nova = Nova::start(std::slice::from_ref(&facts)).unwrap();
    let front = Front::start(&nova, Some([&cert, &key, &ca])).unwrap();
    let url = [format!("https://127.0.0.1:{}", front.port())];
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
