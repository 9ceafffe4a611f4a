//! The AWS SDK for JavaScript, with session tokens required, optional and off.

use lab::{Guest, Node, NodePlan};
use serde_json::{Value, json};

use crate::case::Case;
use crate::client;

/// Reads with the SDK, and returns what the daemon counted.
fn read(session: &str) -> Value {
    let node = NodePlan::default().further(&format!("[access]\nsession = \"{session}\"\n")).start().unwrap();
    let case = Case::load("plain").unwrap();
    let guest: Guest = case.boot(&node).unwrap();
    let read = client::run_node(&guest, "aws_sdk.cjs").unwrap();
    assert_eq!(read["id"], case.nova("/latest/meta-data/instance-id").unwrap(), "{session}: {read}");
    assert_eq!(read["document"]["uuid"], guest_uuid(&node), "{session}: {read}");
    // There is no role, as with Nova; it is not for want of a token.
    assert_eq!(read["credentials"]["error"], "ProviderError", "{session}: {read}");
    assert_eq!(read["credentials"]["status"], 404, "{session}: {read}");
    node.status().unwrap()["http"].clone()
}

/// Returns the one instance that the node has.
fn guest_uuid(node: &Node) -> Value {
    let shown: Value = serde_json::from_str(&node.ask(&["ports", "--json"]).unwrap()).unwrap();
    shown[0]["instance"].clone()
}

#[test]
fn the_aws_sdk_for_javascript_reads_with_tokens_wherever_there_are_some_and_is_never_refused() {
    for session in ["required", "optional"] {
        let http = read(session);
        assert!(http["tokens_issued"].as_u64() > Some(0), "{http}");
        assert_eq!(http["denied"], Value::Null, "{http}");
    }
}

#[test]
fn the_aws_sdk_for_javascript_goes_on_without_tokens_where_there_are_none() {
    let http = read("off");
    assert_eq!(http["tokens_issued"], json!(0), "{http}");
}
