//! Connections beyond a limit, and requests as raw bytes: who is served, who gives way, and which counters say so.

use lab::http::Connection;
use lab::{Guest, Node, NodePlan, Request};
use serde_json::json;

const PATH: &str = "/openstack/latest/meta_data.json";

/// A node on which a port may have four connections, and all ports together six. None ends for being slow.
fn node() -> Node {
    let limits = "[http]\nconnections_per_port = 4\nconnections = 6\nrequest_timeout = \"5m\"\nidle_timeout = \"5m\"\n";
    NodePlan::default().further(limits).start().unwrap()
}

fn connect(guest: &Guest) -> Connection {
    guest.namespace().run(|| Request::get(PATH).connect()).unwrap()
}

/// Asks on a connection, which stays.
fn asks(guest: &Guest, connection: &mut Connection) {
    let answer = connection.exchange(&Request::get(PATH)).unwrap();
    assert_eq!(answer.json().unwrap()["uuid"], guest.uuid());
}

/// Returns a connection that has asked once, and is idle. Tried again where the one before is not quite idle yet.
fn idle(guest: &Guest) -> Connection {
    let try_it = || {
        let mut connection = guest.namespace().run(|| Request::get(PATH).connect())?;
        connection.exchange(&Request::get(PATH))?;
        anyhow::Ok(connection)
    };
    lab::wait::until("a connection is answered", || Ok(try_it().ok())).unwrap()
}

/// Waits until so many of the connections stay, and never fewer do. One that gives way answers a request that came
/// meanwhile, so it is asked again after a pause.
fn wait_kept<'a>(count: usize, connections: impl IntoIterator<Item = &'a mut Connection>) {
    let mut connections: Vec<_> = connections.into_iter().collect();
    lab::wait::until("the other connections are closed", || {
        connections.retain_mut(|connection| connection.exchange(&Request::get(PATH)).is_ok());
        anyhow::ensure!(connections.len() >= count, "only {} connections stay", connections.len());
        Ok((connections.len() == count).then_some(()))
    })
    .unwrap();
}

fn counter(node: &Node, name: &str) -> u64 {
    node.status().unwrap()["http"][name].as_u64().unwrap()
}

/// Waits until so many connections have given way.
fn wait_gave_way(node: &Node, count: u64) {
    lab::wait::until("connections have given way", || Ok((counter(node, "gave_way") >= count).then_some(()))).unwrap();
}

#[test]
fn the_connection_that_is_idle_longest_gives_way_to_a_new_one_of_its_guest() {
    let node = node();
    let guest = node.guest("a").boot().unwrap();
    let mut before: Vec<_> = (0..4).map(|_| idle(&guest)).collect();
    let mut after: Vec<_> = (0..2).map(|_| idle(&guest)).collect();
    // Which ones are idle longest is a matter of microseconds here; a unit test knows it.
    wait_kept(4, before.iter_mut().chain(&mut after));
    wait_gave_way(&node, 2);
}

#[test]
fn connections_that_never_ask_give_way_and_half_a_request_does_not() {
    let node = node();
    let guest = node.guest("a").boot().unwrap();
    let mut half: Vec<_> = (0..3).map(|_| connect(&guest)).collect();
    for connection in &mut half {
        connection.send_raw(format!("GET {PATH} HTTP/1.1\r\nhos").as_bytes()).unwrap();
    }
    let _silent = connect(&guest);
    // The kernel keeps a connection to itself while nothing comes, but for a second at most.
    lab::wait::until("four connections are accepted", || Ok((counter(&node, "open") == 4).then_some(()))).unwrap();
    for _ in 0..3 {
        drop(idle(&guest));
    }
    for connection in &mut half {
        connection.send_raw(b"t: m\r\n\r\n").unwrap();
        asks(&guest, connection);
    }
    wait_gave_way(&node, 1);
}

#[test]
fn a_guest_of_which_all_connections_have_a_request_is_refused_more_and_others_are_served() {
    let node = node();
    let (guest, other) = (node.guest("a").boot().unwrap(), node.guest("b").boot().unwrap());
    let mut busy = Vec::new();
    lab::wait::until("a connection is refused", || {
        // It may be refused before it is of use.
        if let Ok(mut connection) = guest.namespace().run(|| Request::get(PATH).connect()) {
            let _ = connection.send_raw(b"GET / HTTP/1.1\r\n");
            busy.push(connection);
        }
        Ok((counter(&node, "refused_port_limit") > 0).then_some(()))
    })
    .unwrap();
    asks(&other, &mut connect(&other));
}

#[test]
fn on_a_full_node_a_guest_that_has_none_gets_a_connection_of_the_one_that_has_most() {
    let node = node();
    let names = ["a", "b", "c"];
    let [first, second, third] = names.map(|name| node.guest(name).boot().unwrap());
    let mut most: Vec<_> = (0..4).map(|_| idle(&first)).collect();
    let mut few: Vec<_> = (0..2).map(|_| idle(&second)).collect();
    let mut new = idle(&third);
    wait_kept(5, most.iter_mut().chain(&mut few));
    asks(&third, &mut new);
    wait_gave_way(&node, 1);
}

#[test]
fn odd_methods_and_targets_get_novas_answer_and_never_a_tunnel() {
    let node = Node::start().unwrap();
    let guest = node.guest("a").boot().unwrap();
    for (line, status) in [
        ("CONNECT 169.254.169.254:80 HTTP/1.1", 404),
        ("CONNECT example.org:443 HTTP/1.1", 404),
        ("CONNECT /openstack HTTP/1.1", 404),
        ("GET 169.254.169.254:80 HTTP/1.1", 404),
        ("GET * HTTP/1.1", 404),
        ("GET http://169.254.169.254/openstack HTTP/1.1", 200),
        ("BREW /openstack HTTP/1.1", 200),
        ("GET /latest/a<b HTTP/1.1", 404),
        ("GET /latest/a>b HTTP/1.1", 404),
        ("GET /latest/a`b HTTP/1.1", 404),
        ("GET /latest/a|b\"{c}\\d^ HTTP/1.1", 404),
        ("GET /latest/\u{fc} HTTP/1.1", 404),
        ("GET /openstack?<`> HTTP/1.1", 200),
    ] {
        let mut connection = connect(&guest);
        connection.send_raw(format!("{line}\r\nHost: m\r\nConnection: close\r\n\r\n").as_bytes()).unwrap();
        let answer = String::from_utf8_lossy(&connection.wait_closed().unwrap()).into_owned();
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{line}: {answer}");
        assert_eq!(answer.contains("The resource could not be found."), status == 404, "{line}: {answer}");
    }
}

#[test]
fn a_document_says_how_many_connections_its_guest_may_have_from_the_next_one_on() {
    let node = node();
    let guest = node.guest("a").document(|document| document.with("policy", json!({"connections_per_port": 2})));
    let guest = guest.boot().unwrap();
    let mut connections: Vec<_> = (0..3).map(|_| idle(&guest)).collect();
    wait_kept(2, &mut connections);
    wait_gave_way(&node, 1);
    node.write(&guest.document().clone().with("policy", json!({"connections_per_port": 5}))).unwrap();
    lab::wait::until("five connections are kept", || {
        let mut five: Vec<_> = (0..5).map(|_| idle(&guest)).collect();
        Ok(five.iter_mut().all(|one| one.exchange(&Request::get(PATH)).is_ok()).then_some(()))
    })
    .unwrap();
}

#[test]
fn a_guest_that_asks_too_much_is_answered_429_over_both_families_and_another_is_not() {
    let limits = "[http]\nrequests_per_second = 1\nrequest_burst = 3\n";
    let node = NodePlan::default().further(limits).start().unwrap();
    let (guest, other) = (node.guest("a").boot().unwrap(), node.guest("b").boot().unwrap());
    let mut refused = Vec::new();
    lab::wait::until("it is refused over both families", || {
        for over_ipv6 in [false, true] {
            let response = if over_ipv6 { guest.get6(PATH)? } else { guest.get(PATH)? };
            if response.status == 429 {
                assert_eq!(response.header("retry-after"), Some("1"));
                assert!(response.text().starts_with("429 Too Many Requests\n"));
                refused.push(over_ipv6);
            }
        }
        Ok((refused.contains(&false) && refused.contains(&true)).then_some(()))
    })
    .unwrap();
    assert_eq!(other.read_uuid(false).unwrap(), other.uuid());
    assert!(counter(&node, "limited") >= 2);
    node.write(&guest.document().clone().with("policy", json!({"requests_per_second": 0}))).unwrap();
    lab::wait::until("its document lifts the limit", || {
        let all = (0..10).map(|_| guest.get(PATH)).collect::<anyhow::Result<Vec<_>>>()?;
        Ok(all.iter().all(|response| response.status == 200).then_some(()))
    })
    .unwrap();
}
