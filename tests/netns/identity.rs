//! Each guest reads its own data and nobody else's, however alike two guests are.

use std::sync::Barrier;
use std::thread;

use anyhow::{Result, ensure};
use lab::{Guest, Node, Request};

const TIMES: usize = 1000;
const MAC: [u8; 6] = [0xfa, 0x16, 0x3e, 0x11, 0x22, 0x33];

/// Asks from the same source port at the same time, over and over; returns how often each guest read its own uuid.
fn race(a: &Guest, b: &Guest, request: &Request) -> Result<[usize; 2]> {
    let together = Barrier::new(2);
    let ask = |guest: &Guest| {
        guest.namespace().run(|| {
            let mut own = 0;
            for turn in 0..TIMES {
                together.wait();
                // An error is a turn without an own answer; both guests keep in step whatever happens.
                match request.send().and_then(|response| response.json()) {
                    Ok(json) if json["uuid"] == guest.uuid() => own += 1,
                    other => eprintln!("{}, turn {turn}: {other:?}", guest.name()),
                }
            }
            Ok(own)
        })
    };
    thread::scope(|scope| {
        let first = scope.spawn(|| ask(a));
        let second = ask(b)?;
        let first = first.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
        Ok([first, second])
    })
}

fn two_alike(node: &Node) -> Result<[Guest; 2]> {
    let boot = |name| node.guest(name).mac(MAC).ipv4("10.0.0.5/16").boot();
    let [a, b] = [boot("a")?, boot("b")?];
    ensure!(a.uuid() != b.uuid());
    Ok([a, b])
}

#[test]
fn guests_with_equal_mac_and_ipv4_and_source_port_each_read_their_own() {
    let node = Node::start().unwrap();
    let [a, b] = two_alike(&node).unwrap();
    let request = Request::get("/openstack/latest/meta_data.json").from_port(40_000);
    assert_eq!(race(&a, &b, &request).unwrap(), [TIMES, TIMES]);
}

#[test]
fn guests_with_equal_mac_and_ipv6_and_source_port_each_read_their_own() {
    let node = Node::start().unwrap();
    let [a, b] = two_alike(&node).unwrap();
    assert_eq!(a.link_local(), b.link_local());
    let request = Request::get("/openstack/latest/meta_data.json").over_ipv6().from_port(40_000);
    assert_eq!(race(&a, &b, &request).unwrap(), [TIMES, TIMES]);
}

#[test]
fn a_changed_document_is_seen_by_the_guest() {
    let node = Node::start().unwrap();
    let guest = node.guest("a").document(|document| document.with("user_data", "before")).boot().unwrap();
    assert_eq!(guest.get("/openstack/latest/user_data").unwrap().text(), "before");
    node.write(&guest.document().clone().with("user_data", "after")).unwrap();
    lab::wait::until("the guest reads the changed document", || {
        Ok((guest.get("/openstack/latest/user_data")?.text() == "after").then_some(()))
    })
    .unwrap();
    assert_eq!(guest.get6("/openstack/latest/user_data").unwrap().text(), "after");
}
