//! A password that a guest posts: the operator reads and clears it, and each step survives a restart of the daemon.

use lab::{Guest, Node};

const PATH: &str = "/openstack/latest/password";

/// Posts a password, and returns the status.
fn post(guest: &Guest, password: &str) -> String {
    let url = format!("http://169.254.169.254{PATH}");
    guest.curl(&["--output", "/dev/null", "--write-out", "%{http_code}", "--data-binary", password, &url]).unwrap()
}

/// Returns the password that the guest reads.
fn read(guest: &Guest) -> String {
    let answer = guest.get(PATH).unwrap();
    assert_eq!(answer.status, 200);
    answer.text()
}

fn restart(node: &Node, guest: &Guest) {
    node.stop_daemon().unwrap();
    node.start_daemon().unwrap();
    node.wait_bound(guest.ifindex()).unwrap();
}

#[test]
fn an_operator_reads_and_clears_a_posted_password() {
    let node = Node::start().unwrap();
    let guest = node.guest("a").boot().unwrap();
    let other = node.guest("b").boot().unwrap();
    let verb = |verb: &str, guest: &Guest| {
        let secrets: &[&str] = if verb == "get" { &["--secrets"] } else { &[] };
        node.told(&[&["instance", "password", verb, guest.uuid()], secrets].concat()).unwrap()
    };
    assert_eq!(verb("get", &guest), "", "there is none yet");
    assert!(node.ask(&["instance", "password", "get", guest.uuid()]).is_err(), "which the exit status says, too");

    assert_eq!(post(&guest, "first"), "200");
    assert_eq!(verb("get", &guest), "first\n");
    let shown = node.told(&["instance", "password", "get", guest.uuid()]).unwrap();
    assert!(shown.contains("has a password") && !shown.contains("first"), "{shown}");
    assert_eq!(post(&guest, "second"), "409", "a password is posted once");
    restart(&node, &guest);
    assert_eq!((verb("get", &guest), read(&guest)), ("first\n".to_owned(), "first".to_owned()));
    assert_eq!(post(&guest, "second"), "409");

    assert!(verb("clear", &guest).contains(guest.uuid()));
    assert_eq!((verb("get", &guest), read(&guest)), (String::new(), String::new()));
    restart(&node, &guest);
    assert_eq!((verb("get", &guest), read(&guest)), (String::new(), String::new()), "what is cleared stays cleared");

    assert_eq!(post(&guest, "second"), "200");
    assert_eq!(verb("get", &guest), "second\n");
    assert_eq!((verb("get", &other), read(&other)), (String::new(), String::new()), "it is this instance's only");
}
