//! Requests that wait for content: how long, by client, and what becomes of those whose guest leaves.

use std::thread;

use lab::{Node, NodePlan, Request, wait};

const PATH: &str = "/openstack/latest/meta_data.json";

/// A node on which requests wait longer than any test does, but for one client's.
fn node() -> Node {
    let keys = "[http]\nidle_timeout = \"10m\"\nready_timeout = \"5m\"\n\n\
                [[http.patience]]\nagent = \"Quick/\"\nwait = \"100ms\"\n\n";
    NodePlan::default().further(keys).start().unwrap()
}

fn wait_for(node: &Node, counter: &str, count: u64) {
    let what = format!("{count} connections or requests are {counter}");
    wait::until(&what, || Ok((node.status()?["http"][counter] == count).then_some(()))).unwrap();
}

#[test]
fn each_client_waits_as_long_as_it_can_and_is_answered_when_the_content_comes() {
    let node = node();
    let guest = node.guest("a").undocumented().boot().unwrap();
    node.wait_held(guest.ifindex()).unwrap();
    thread::scope(|scope| {
        let patient = scope.spawn(|| guest.send(&Request::get(PATH).patience(wait::PATIENCE)));
        wait_for(&node, "waited", 1);
        for agent in ["Quick/1.0", "Botocore/1.44.5 md/Botocore#1.44.5"] {
            assert_eq!(guest.send(&Request::get(PATH).header("User-Agent", agent)).unwrap().status, 503, "{agent}");
        }
        assert!(!patient.is_finished());
        node.write(guest.document()).unwrap();
        assert_eq!(patient.join().unwrap().unwrap().json().unwrap()["uuid"], guest.uuid());
    });
}

#[test]
fn a_guest_that_leaves_while_its_requests_wait_gives_their_places_back() {
    let node = node();
    let guest = node.guest("a").undocumented().boot().unwrap();
    node.wait_held(guest.ifindex()).unwrap();
    for (round, resets) in [true, false].into_iter().enumerate() {
        let mut connections: Vec<_> = [Request::get(PATH), Request::get(PATH)]
            .iter()
            .map(|request| guest.namespace().run(|| request.connect()).unwrap())
            .collect();
        for connection in &mut connections {
            connection.send_raw(format!("GET {PATH} HTTP/1.1\r\n\r\n").as_bytes()).unwrap();
        }
        wait_for(&node, "waited", 2 * (round as u64 + 1));
        wait_for(&node, "open", 2);
        if !resets {
            for connection in &mut connections {
                connection.end_sending().unwrap();
                let answer = String::from_utf8(connection.wait_closed().unwrap()).unwrap();
                assert!(answer.starts_with("HTTP/1.1 503 "), "{answer}");
            }
        }
        drop(connections);
        wait_for(&node, "open", 0);
    }
}
