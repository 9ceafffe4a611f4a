//! Session tokens and root-only reading, with real packets: what a token is good for, and for whom it is not.

use std::fs;
use std::time::Duration;

use lab::{Guest, Node, NodePlan, Request, Response, wait};
use serde_json::{Value, json};

const PATH: &str = "/openstack/latest/meta_data.json";
const TOKEN: &str = "X-aws-ec2-metadata-token";
const TTL: &str = "X-aws-ec2-metadata-token-ttl-seconds";

fn put(seconds: &str) -> Request {
    Request::get("/latest/api/token").method("PUT").header(TTL, seconds)
}

fn token(guest: &Guest, seconds: &str) -> String {
    let answer = guest.send(&put(seconds)).unwrap();
    assert_eq!((answer.status, answer.header("x-aws-ec2-metadata-token-ttl-seconds")), (200, Some(seconds)));
    answer.text()
}

fn read_with(guest: &Guest, token: &str) -> Response {
    guest.send(&Request::get(PATH).header(TOKEN, token)).unwrap()
}

fn status_with(guest: &Guest, token: &str) -> u16 {
    read_with(guest, token).status
}

fn required() -> NodePlan {
    NodePlan::default().further("[access]\nsession = \"required\"\n")
}

/// Waits until the guest's port is bound to this instance, whose requests need a token.
fn wait_for_instance(node: &Node, guest: &Guest, uuid: &str) {
    node.wait_port_shown(guest.tap(), "is rebound", |port| port["instance"] == uuid).unwrap();
    wait::until("the content is there", || Ok((guest.get(PATH)?.status == 401).then_some(()))).unwrap();
}

fn denied(node: &Node) -> Value {
    node.status().unwrap()["http"]["denied"].clone()
}

#[test]
fn a_token_is_good_for_both_trees_over_both_families_and_after_a_restart() {
    let node = required().start().unwrap();
    let guest = node.guest("a").boot().unwrap();
    assert_eq!((guest.get(PATH).unwrap().status, guest.get6(PATH).unwrap().status), (401, 401));
    assert_eq!(guest.get("/nonsense").unwrap().status, 401, "no path tells anything without a token");
    let token = token(&guest, "21600");
    for path in [PATH, "/latest/meta-data/instance-id", "/openstack"] {
        let request = Request::get(path).header(TOKEN, &token);
        assert_eq!(guest.send(&request).unwrap().status, 200, "{path}");
        assert_eq!(guest.send(&request.over_ipv6()).unwrap().status, 200, "{path}");
    }
    for path in ["/latest", "/openstack/latest", "/"] {
        let listing = guest.send(&Request::get(path).header(TOKEN, &token)).unwrap().text();
        assert!(!listing.contains("api"), "{path}: {listing}");
    }
    node.stop_daemon().unwrap();
    node.start_daemon().unwrap();
    assert_eq!(status_with(&guest, &token), 200, "the daemon is another one");
    assert!(!node.log().contains(&token), "the token is in the log");
}

#[test]
fn a_token_is_useless_at_another_port_and_instance() {
    let node = required().start().unwrap();
    let [guest, other] = ["a", "b"].map(|name| node.guest(name).boot().unwrap());
    let stolen = token(&guest, "60");
    assert_eq!((status_with(&guest, &stolen), status_with(&other, &stolen)), (200, 401));
    assert_eq!(denied(&node), json!({"token_foreign": 1}));
}

#[test]
fn a_token_is_useless_after_a_rebind_also_when_the_port_is_bound_as_before_again() {
    let node = required().start().unwrap();
    let guest = node.guest("a").boot().unwrap();
    let old = token(&guest, "21600");
    assert_eq!(status_with(&guest, &old), 200);
    let heir = "ffffffff-0000-4000-9000-000000000001";
    node.remove_document(guest.uuid()).unwrap();
    node.write(&guest.document().clone().with("uuid", heir)).unwrap();
    wait_for_instance(&node, &guest, heir);
    assert_eq!(status_with(&guest, &old), 401);
    let of_heir = token(&guest, "60");
    assert_eq!(read_with(&guest, &of_heir).json().unwrap()["uuid"], heir);

    node.remove_document(heir).unwrap();
    node.write(guest.document()).unwrap();
    wait_for_instance(&node, &guest, guest.uuid());
    assert_eq!((status_with(&guest, &old), status_with(&guest, &of_heir)), (401, 401));
}

#[test]
fn a_token_of_another_node_is_useless_and_so_is_one_of_another_key() {
    // The first guest of each node: the same instance and port.
    let nodes = [required().start().unwrap(), required().start().unwrap()];
    let guests = nodes.each_ref().map(|node| node.guest("a").boot().unwrap());
    assert_eq!(guests[0].uuid(), guests[1].uuid());
    let stolen = token(&guests[0], "21600");
    assert_eq!((status_with(&guests[0], &stolen), status_with(&guests[1], &stolen)), (200, 401));
    // The same binding, whose tag is kept, with the other node's key.
    nodes[0].stop_daemon().unwrap();
    fs::copy(nodes[1].path("snapshot.key"), nodes[0].path("snapshot.key")).unwrap();
    nodes[0].start_daemon().unwrap();
    assert_eq!(status_with(&guests[0], &stolen), 401);
    assert_eq!(denied(&nodes[0]), json!({"token_foreign": 1}));
}

#[test]
fn a_token_of_a_node_with_the_same_snapshot_and_key_is_useless() {
    let nodes = [required().start().unwrap(), required().start().unwrap()];
    // The same instance, and the same port.
    let guests = nodes.each_ref().map(|node| node.guest("a").boot().unwrap());
    assert_eq!(guests[0].uuid(), guests[1].uuid());
    let stolen = token(&guests[0], "21600");
    // It is written at the end, whatever its interval.
    nodes.iter().for_each(|node| node.stop_daemon().unwrap());
    for (from, to) in
        [(nodes[0].path("snapshot.key"), nodes[1].path("snapshot.key")), (nodes[0].snapshot(), nodes[1].snapshot())]
    {
        fs::copy(from, to).unwrap();
    }
    nodes.iter().for_each(|node| node.start_daemon().unwrap());
    for (node, guest) in nodes.iter().zip(&guests) {
        node.wait_bound(guest.ifindex()).unwrap();
    }
    assert_eq!((status_with(&guests[0], &stolen), status_with(&guests[1], &stolen)), (200, 401));
    assert_eq!(denied(&nodes[1]), json!({"token_foreign": 1}));
}

#[test]
fn tokens_that_are_expired_altered_cut_or_overlong_are_refused_by_reason() {
    let node = required().start().unwrap();
    let guest = node.guest("a").boot().unwrap();
    let short = token(&guest, "1");
    let long = token(&guest, "21600");
    wait::until("the token has expired", || Ok((status_with(&guest, &short) == 401).then_some(()))).unwrap();
    let mut altered = long.clone().into_bytes();
    for place in [0, 5, 20, 40, 75] {
        altered[place] = if altered[place] == b'A' { b'B' } else { b'A' };
        assert_eq!(status_with(&guest, std::str::from_utf8(&altered).unwrap()), 401, "{place}");
        altered[place] = long.as_bytes()[place];
    }
    for malformed in [&long[..75], &long[1..], &format!("{long}A"), &"A".repeat(10_000), "", "x"] {
        assert_eq!(status_with(&guest, malformed), 401, "{malformed}");
    }
    assert_eq!(status_with(&guest, &long), 200);
    let denied = denied(&node);
    assert!(["token_expired", "token_foreign", "token_malformed"].iter().all(|reason| denied[reason] != Value::Null));
    assert_eq!(denied.as_object().unwrap().len(), 3, "{denied}");
}

#[test]
fn the_put_answers_as_ec2_does() {
    let node = required().start().unwrap();
    let guest = node.guest("a").boot().unwrap();
    for (request, status) in [
        (put("1"), 200),
        (put("0"), 400),
        (put("21601"), 400),
        (put("x"), 400),
        (Request::get("/latest/api/token").method("PUT"), 400),
        (put("60").header("X-Forwarded-For", "10.0.0.9"), 403),
        (put("60").method("GET"), 405),
        (put("60").method("POST"), 405),
        (Request::get("/latest/api/tokens").method("PUT").header(TTL, "60"), 401),
    ] {
        for request in [request.clone(), request.over_ipv6()] {
            let answer = guest.send(&request).unwrap();
            assert_eq!(answer.status, status, "{request:?}");
            assert_eq!(answer.header("allow"), (status == 405).then_some("PUT"), "{request:?}");
        }
    }
}

#[test]
fn without_the_option_the_put_is_novas_404() {
    let node = Node::start().unwrap();
    let guest = node.guest("a").boot().unwrap();
    let answer = guest.send(&put("60")).unwrap();
    let unknown = guest.send(&Request::get("/latest/api/nothing").method("PUT")).unwrap();
    assert_eq!((answer.status, answer.text()), (404, unknown.text()));
    assert_eq!(status_with(&guest, "nonsense"), 200);
}

/// The TTL or hop limit of each packet from the service that carried a part of an answer while `ask` ran.
fn hops_of_answers(guest: &Guest, ask: impl FnOnce()) -> Vec<u8> {
    let frames = guest.frames().unwrap();
    ask();
    let mut hops = Vec::new();
    // What the client has read was seen here before.
    while let Some(frame) = frames.receive(Duration::from_millis(1)).unwrap() {
        let (hop, tcp, end) = match frame.get(12..14) {
            Some([0x08, 0x00]) if frame[26..30] == [169, 254, 169, 254] && frame[23] == 6 => {
                let length = usize::from(u16::from_be_bytes([frame[16], frame[17]]));
                (frame[22], 14 + 20, 14 + length)
            }
            Some([0x86, 0xdd]) if frame[34..38] == [0xa9, 0xfe, 0xa9, 0xfe] && frame[20] == 6 => {
                let length = usize::from(u16::from_be_bytes([frame[18], frame[19]]));
                (frame[21], 14 + 40, 14 + 40 + length)
            }
            _ => continue,
        };
        let header = usize::from(frame[tcp + 12] >> 4) * 4;
        if tcp + header < end {
            hops.push(hop);
        }
    }
    assert!(!hops.is_empty(), "no part of an answer was seen");
    hops
}

#[test]
fn a_token_leaves_with_the_hop_limit_of_its_instance() {
    let node = NodePlan::default().further("[access]\nsession = \"optional\"\nhop_limit = 1\n").start().unwrap();
    let near = node.guest("a").boot().unwrap();
    let policy = json!({"hop_limit": 3});
    let far = node.guest("b").document(|document| document.with("policy", policy)).boot().unwrap();
    for (guest, expected) in [(&near, 1), (&far, 3)] {
        for request in [put("60"), put("60").over_ipv6()] {
            let hops = hops_of_answers(guest, || assert_eq!(guest.send(&request).unwrap().status, 200));
            assert!(hops.iter().all(|hops| *hops == expected), "{request:?}: {hops:?}");
        }
        for request in [Request::get(PATH), Request::get(PATH).over_ipv6()] {
            let hops = hops_of_answers(guest, || assert_eq!(guest.send(&request).unwrap().status, 200));
            assert!(hops.iter().all(|hops| *hops == 64), "{request:?}: {hops:?}");
        }
    }
    // The token's answer and the next may leave in one packet.
    let one =
        |method: &str, path: &str, end: &str| format!("{method} {path} HTTP/1.1\r\nhost: x\r\n{TTL}: 60\r\n{end}\r\n");
    let both = one("PUT", "/latest/api/token", "") + &one("GET", PATH, "connection: close\r\n");
    let hops = hops_of_answers(&near, || {
        let pipelined = || {
            let mut connection = put("60").connect()?;
            connection.send_raw(both.as_bytes())?;
            connection.wait_closed()
        };
        let answers = near.namespace().run(pipelined).unwrap();
        assert_eq!(String::from_utf8_lossy(&answers).matches("HTTP/1.1 200 OK").count(), 2);
    });
    assert!(hops.iter().all(|hops| *hops == 1), "{hops:?}");
}

#[test]
fn an_operator_sees_who_would_break_before_tokens_and_low_ports_are_required() {
    let node = NodePlan::default().further("[access]\nsession = \"optional\"\n").start().unwrap();
    let guest = node.guest("a").document(|document| document.with_user_data(b"x")).boot().unwrap();
    let get = Request::get("/latest/user-data").header("User-Agent", "Ohai \u{e9}");
    assert_eq!(guest.send(&get).unwrap().status, 200);
    let token = token(&guest, "60");
    assert_eq!(guest.send(&get.clone().header(TOKEN, &token).from_port(1023)).unwrap().status, 200);
    let shown: Value = serde_json::from_str(&node.ask(&["access", guest.uuid(), "--json"]).unwrap()).unwrap();
    let shown = &shown[0];
    assert_eq!(shown["session"], "optional");
    let counts = ["tokens_issued", "with_token", "without_token", "refused_token"].map(|name| shown[name].clone());
    assert_eq!(counts, [1, 1, 1, 0].map(Value::from));
    assert_eq!((&shown["unprivileged"]["user_data"], &shown["unprivileged"]["token"]), (&json!(1), &json!(1)));
    assert_eq!(shown["clients"].as_array().unwrap().len(), 1);
    assert_eq!(shown["clients"][0]["user_agent"], "Ohai \\xc3\\xa9");
    let text = node.ask(&["access", guest.uuid()]).unwrap();
    assert!(text.contains("CLIENT WITHOUT A TOKEN") && !text.contains(&token), "{text}");
}

#[test]
fn only_low_source_ports_read_what_is_protected() {
    let node = NodePlan::default().further("[access]\nprivileged = [\"user_data\"]\n").start().unwrap();
    let guest = node.guest("a").document(|document| document.with_user_data(b"x")).boot().unwrap();
    let everything = json!({"privileged": ["everything"]});
    let closed = node.guest("b").document(|document| document.with("policy", everything)).boot().unwrap();
    for path in ["/latest/user-data", "/openstack/latest/user_data"] {
        for request in [Request::get(path), Request::get(path).over_ipv6()] {
            assert_eq!(guest.send(&request).unwrap().status, 403, "{request:?}");
            assert_eq!(guest.send(&request.clone().from_port(1024)).unwrap().status, 403, "{request:?}");
            assert_eq!(guest.send(&request.from_port(1023)).unwrap().status, 200, "{path}");
        }
    }
    assert_eq!((guest.get(PATH).unwrap().status, closed.get(PATH).unwrap().status), (200, 403));
    assert_eq!(closed.send(&Request::get(PATH).from_port(1)).unwrap().status, 200);
    assert_eq!(denied(&node), json!({"unprivileged": 9}));
}
