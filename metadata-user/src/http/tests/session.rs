//! Session tokens and root-only reading, through a connection.

use super::*;
use crate::policy::{Access as AccessPolicy, AccessOverrides, PolicyOverrides, PrivilegedPaths, SessionMode};
use crate::record::InstanceRecord;

const GET: &str = "GET /openstack/latest/meta_data.json HTTP/1.1\r\n";
const PUT: &str = "PUT /latest/api/token HTTP/1.1\r\nX-aws-ec2-metadata-token-ttl-seconds: 60\r\n";

fn with(number: u128, access: AccessOverrides) -> InstanceRecord {
    let policy = PolicyOverrides { access, ..PolicyOverrides::default() };
    InstanceRecord { policy, ..record(number, "p", &["tap1"]) }
}

fn session(mode: SessionMode) -> AccessOverrides {
    AccessOverrides { session: Some(mode), ..AccessOverrides::default() }
}

/// A node whose one binding is instance 1's, with this policy.
fn node(access: AccessOverrides) -> Node {
    let node = Node::new();
    node.bind_to(1);
    node.store.put(with(1, access));
    node
}

impl Node {
    async fn ask(&self, request: &str) -> String {
        let (client, _) = self.connect();
        exchange(client, format!("{request}\r\n").as_bytes()).await
    }

    async fn status(&self, request: &str) -> u16 {
        let answer = self.ask(request).await;
        answer.split(' ').nth(1).and_then(|status| status.parse().ok()).expect(&answer)
    }

    async fn token(&self) -> String {
        let answer = self.ask(PUT).await;
        let (head, token) = answer.split_once("\r\n\r\n").expect("a body");
        assert!(head.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
        token.to_owned()
    }

    fn denials(&self) -> Vec<(&'static str, u64)> {
        self.counters.denials().collect()
    }
}

fn token_header(token: &str) -> String {
    format!("X-aws-ec2-metadata-token: {token}\r\n")
}

#[tokio::test]
async fn where_tokens_are_off_the_put_is_novas_404_and_the_header_means_nothing() {
    let node = node(AccessOverrides::default());
    let put = node.ask(PUT).await;
    let unknown = node.ask("PUT /latest/api/nothing HTTP/1.1\r\n").await;
    assert!(put.starts_with("HTTP/1.1 404 Not Found\r\n"), "{put}");
    assert_eq!(put, unknown);
    assert_eq!(node.status(&format!("{GET}{}", token_header("nonsense"))).await, 200);
    assert!(node.denials().is_empty());
    assert!(node.usages.view(id(1)).expect("it asked").clients.is_empty());
}

#[tokio::test]
async fn a_token_opens_what_needs_one_and_shows_its_life() {
    let node = node(session(SessionMode::Required));
    assert_eq!(node.status(GET).await, 401);
    let answer = node.ask(PUT).await;
    let (head, token) = answer.split_once("\r\n\r\n").expect("a body");
    assert!(head.contains("\r\nX-Aws-Ec2-Metadata-Token-Ttl-Seconds: 60"), "{head}");
    assert!(head.contains("\r\nContent-Type: text/plain"), "{head}");
    assert_eq!(token.len(), 76);
    let read = node.ask(&format!("{GET}{}", token_header(token))).await;
    assert!(read.starts_with("HTTP/1.1 200 OK\r\n"), "{read}");
    assert!(read.contains("\r\nX-Aws-Ec2-Metadata-Token-Ttl-Seconds: "), "{read}");
    let method = node.ask("GET /latest/api/token HTTP/1.1\r\n").await;
    assert!(method.starts_with("HTTP/1.1 405 ") && method.contains("\r\nAllow: PUT\r\n"), "{method}");
    assert_eq!(node.status("PUT /latest/api/token HTTP/1.1\r\n").await, 400);
    assert_eq!(node.status(&format!("{PUT}X-Forwarded-For: 10.0.0.1\r\n")).await, 403);
    assert_eq!(node.status("OPTIONS /openstack/latest/meta_data.json HTTP/1.1\r\n").await, 401);
    let expected = [("token_missing", 2), ("token_forwarded", 1), ("token_ttl", 1), ("token_method", 1)].to_vec();
    assert_eq!(node.denials(), expected);
    let (issued, valid, absent) =
        (node.counters.tokens_issued.get(), node.counters.with_token.get(), node.counters.without_token.get());
    assert_eq!((issued, valid, absent), (1, 1, 2));
}

#[tokio::test]
async fn a_token_of_another_binding_instance_port_or_node_is_refused() {
    let home = node(session(SessionMode::Optional));
    let token = token_header(&home.token().await);
    assert_eq!(home.status(&format!("{GET}{token}")).await, 200);

    let other_key = node(session(SessionMode::Optional));
    assert_eq!(other_key.status(&format!("{GET}{token}")).await, 401, "another node");

    let tokens = Arc::clone(&home.tokens);
    for (number, tag, port) in [(2, 7, 1), (1, 8, 1), (1, 7, 2)] {
        let node = Node { tokens: Arc::clone(&tokens), ..Node::new() };
        node.store.put(with(number, session(SessionMode::Optional)));
        let bound = Identity::Bound { instance: id(number), port: Some(PortId(id(port).0)) };
        node.identities.bind(Tag(tag), bound).expect("a new binding");
        let (client, _) = node.serve(node.guest(tag));
        let answer = exchange(client, format!("{GET}{token}\r\n").as_bytes()).await;
        let expected = if (number, tag, port) == (1, 7, 1) { "200" } else { "401" };
        assert!(answer.starts_with(&format!("HTTP/1.1 {expected} ")), "{number} {tag} {port}: {answer}");
        assert_eq!(node.denials(), [("token_foreign", 1)]);
    }
    assert_eq!(home.status(&format!("{GET}{token}{token}")).await, 401, "two tokens are none");
    for nonsense in ["", "x", &"A".repeat(76), &"A".repeat(10_000)] {
        assert_eq!(home.status(&format!("{GET}{}", token_header(nonsense))).await, 401, "{nonsense}");
    }
    assert_eq!(home.status(GET).await, 200, "none is required");
}

#[tokio::test]
async fn an_operator_sees_who_comes_without_a_token_before_one_is_required() {
    let node = node(session(SessionMode::Optional));
    for agent in ["Ohai", "Ohai", "curl/8\t\u{e9}"] {
        assert_eq!(node.status(&format!("{GET}User-Agent: {agent}\r\n")).await, 200);
    }
    let token = token_header(&node.token().await);
    assert_eq!(node.status(&format!("{GET}User-Agent: botocore\r\n{token}")).await, 200);
    let view = node.usages.view(id(1)).expect("it asked");
    assert_eq!((view.issued, view.with_token, view.without_token, view.refused_token), (1, 1, 3, 0));
    let mut clients: Vec<_> = view.clients.iter().map(|client| (&*client.agent, client.requests)).collect();
    clients.sort_unstable();
    assert_eq!(clients, [(&b"Ohai"[..], 2), ("curl/8\t\u{e9}".as_bytes(), 1)]);
}

#[tokio::test]
async fn only_privileged_ports_read_what_is_protected_and_the_others_are_counted() {
    let overrides = AccessOverrides { privileged: Some(PrivilegedPaths::PASSWORD), ..AccessOverrides::default() };
    let mut node = node(overrides);
    let password = "GET /openstack/latest/password HTTP/1.1\r\n";
    assert_eq!((node.status(password).await, node.status(GET).await), (403, 200));
    let view = node.usages.view(id(1)).expect("it asked");
    let unprivileged: u64 = view.unprivileged.iter().map(|(_, count)| count).sum();
    assert_eq!((view.refused_unprivileged, unprivileged), (1, 1));
    assert_eq!(node.denials(), [("unprivileged", 1)]);
    node.caller.source_port = 1023;
    assert_eq!((node.status(password).await, node.status(GET).await), (200, 200));
    let access = AccessPolicy { privileged: PrivilegedPaths::EVERYTHING, ..node.caller.policy.access };
    node.caller.policy.access = access;
    assert_eq!(node.status(GET).await, 200);
    node.store.put(with(1, AccessOverrides::default()));
    node.caller.source_port = 1024;
    assert_eq!((node.status(GET).await, node.status("GET / HTTP/1.1\r\n").await), (403, 403));
}
