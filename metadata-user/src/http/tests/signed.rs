//! Tests of what is signed for guests.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};
use tempfile::TempDir;

use super::*;
use crate::policy::{AccessOverrides, PrivilegedPaths, SessionMode};
use crate::record::InstanceRecord;
use crate::secret::jwt::tests::private_key;
use crate::signing::tests::signing;

const PATH: &str = "/openstack/latest/identity?audience=https://v.example&nonce=n-1";
const DOCUMENT: &str = "/latest/dynamic/instance-identity/document";

/// A node that signs for instance 1, so often per second.
fn node(per_second: u32) -> (Node, TempDir) {
    let mut caller = Caller::default();
    caller.policy.identity.enabled = true;
    caller.policy.identity.per_second = per_second;
    let (directory, keys) = signing(&private_key());
    let issuer = Issuer::new(Arc::new(keys), &caller.policy);
    let node = Node { caller, issuer: Some(Arc::new(issuer)), ..Node::new() };
    node.bind_to(1);
    node.store.put(record(1, "p", &["tap1"]));
    (node, directory)
}

async fn ask(node: &Node, target: &str, header: &str) -> (u16, String, String) {
    let (client, _) = node.connect();
    let answer = exchange(client, format!("GET {target} HTTP/1.1\r\n{header}\r\n").as_bytes()).await;
    let (head, body) = answer.split_once("\r\n\r\n").expect("a head");
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status");
    (status, head.to_owned(), body.to_owned())
}

fn claims(token: &str) -> Value {
    let part = token.split('.').nth(1).expect("three parts");
    let bytes = URL_SAFE_NO_PAD.decode(part).expect("base64");
    serde_json::from_slice(&bytes).expect("JSON")
}

#[tokio::test]
async fn a_token_is_about_the_instance_that_the_connection_is_bound_to() {
    let (node, _directory) = node(20);
    let (status, head, token) = ask(&node, PATH, "If-None-Match: x\r\n").await;
    assert!(status == 200 && head.contains("Content-Type: application/jwt\r\n") && !head.contains("Etag"), "{head}");
    let claims = self::claims(&token);
    assert_eq!((&claims["aud"], &claims["nonce"]), (&json!("https://v.example"), &json!("n-1")));
    assert_eq!(claims["sub"], format!("urn:uuid:{}", id(1)));
    let facts = json!({
        "instance_id": id(1).to_string(), "project_id": "p", "port_id": id(1).to_string(), "node": "node-1",
    });
    assert_eq!(claims["openstack"], facts);
    assert_eq!(claims["exp"].as_u64(), claims["iat"].as_u64().map(|at| at + 300));
    let again = ask(&node, PATH, "").await.2;
    assert_ne!(self::claims(&again)["jti"], claims["jti"], "each has a name of its own");
    assert_eq!(node.counters.identity_tokens.get(), 2);
}

#[tokio::test]
async fn ec2s_document_is_there_with_its_signature_and_in_no_listing_of_novas() {
    let (node, _directory) = node(20);
    for (path, expected) in
        [("/latest/dynamic/", "instance-identity/"), ("/2009-04-04/dynamic/instance-identity", "document\nsignature")]
    {
        let (status, _, body) = ask(&node, path, "").await;
        assert_eq!((status, &*body), (200, expected));
    }
    let (_, head, document) = ask(&node, DOCUMENT, "").await;
    let document: Value = serde_json::from_str(&document).expect(&head);
    assert_eq!(document["openstack"]["instance_id"], id(1).to_string());
    let (status, _, signature) = ask(&node, "/latest/dynamic/instance-identity/signature", "").await;
    assert!(status == 200 && crate::base64::decode(&signature).is_ok(), "{signature}");
    assert_eq!(node.counters.identity_documents.get(), 1);
    for listing in ["/latest/", "/2009-04-04", "/openstack/latest/"] {
        let (status, _, body) = ask(&node, listing, "").await;
        assert!(status == 200 && !body.contains("dynamic") && !body.contains("identity"), "{listing}: {body}");
    }
    assert_eq!(ask(&node, "/latest/dynamic/instance-identity/pkcs7", "").await.0, 404);
}

#[tokio::test]
async fn what_cannot_be_signed_is_refused_by_reason() {
    let (node, directory) = node(20);
    let refused = || node.counters.signatures_refused().collect::<Vec<_>>();
    for (target, header, status) in [
        ("/openstack/latest/identity", "", 400),
        ("/openstack/latest/identity?audience=", "", 400),
        ("/openstack/latest/identity?audience=a&nonce=", "", 400),
        (PATH, "X-Forwarded-For: 10.0.0.1\r\n", 403),
        (DOCUMENT, "X-Forwarded-For: \r\n", 403),
    ] {
        assert_eq!(ask(&node, target, header).await.0, status, "{target}");
    }
    assert_eq!(refused(), [("audience", 2), ("nonce", 1), ("forwarded", 2)]);
    let without_keys = {
        let keys = signing("").1;
        Node { issuer: Some(Arc::new(Issuer::new(Arc::new(keys), &node.caller.policy))), ..node }
    };
    let (status, head, _) = ask(&without_keys, PATH, "").await;
    assert!(status == 503 && head.contains("Retry-After: 1"), "{head}");
    assert_eq!(without_keys.counters.signatures_refused().last(), Some(("no_key", 1)));
    assert_eq!(without_keys.counters.identity_tokens.get(), 0);
    drop(directory);
}

#[tokio::test(start_paused = true)]
async fn an_instance_gets_so_many_per_second() {
    let (node, _directory) = node(2);
    for _ in 0..2 {
        assert_eq!(ask(&node, PATH, "").await.0, 200);
    }
    for target in [PATH, DOCUMENT] {
        let (status, head, _) = ask(&node, target, "").await;
        assert!(status == 429 && head.contains("Retry-After: 1"), "{head}");
    }
    assert_eq!(ask(&node, "/latest/meta-data/instance-id", "").await.0, 200, "all else is there");
    tokio::time::advance(Duration::from_secs(1)).await;
    assert_eq!(ask(&node, PATH, "").await.0, 200);
}

#[tokio::test]
async fn root_only_reading_session_tokens_and_switches_apply() {
    let (node, _directory) = node(20);
    let with = |access: AccessOverrides| {
        let mut changed = record(1, "p", &["tap1"]);
        changed.policy.access = access;
        node.store.put(InstanceRecord { ..changed });
    };
    for (access, paths) in [
        (
            AccessOverrides { privileged: Some(PrivilegedPaths::IDENTITY), ..Default::default() },
            [(PATH, 403), (DOCUMENT, 403)],
        ),
        (
            AccessOverrides { session: Some(SessionMode::Required), ..Default::default() },
            [(PATH, 401), (DOCUMENT, 401)],
        ),
        (AccessOverrides { ec2: Some(false), ..Default::default() }, [(PATH, 200), (DOCUMENT, 404)]),
        (AccessOverrides { metadata: Some(false), ..Default::default() }, [(PATH, 403), (DOCUMENT, 403)]),
    ] {
        with(access);
        for (path, status) in paths {
            assert_eq!(ask(&node, path, "").await.0, status, "{path}");
        }
    }
}

#[tokio::test]
async fn where_nothing_signs_its_paths_are_novas() {
    let node = Node::new();
    node.bind_to(1);
    node.store.put(record(1, "p", &["tap1"]));
    let unknown = ask(&node, "/openstack/latest/nonsense", "").await;
    assert_eq!(unknown.0, 404);
    for path in [PATH, "/openstack/latest/identity", DOCUMENT, "/latest/dynamic"] {
        assert_eq!(ask(&node, path, "").await, unknown, "{path}");
    }
}
