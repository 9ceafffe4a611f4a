//! Clients made for EC2 itself: they find in Nova's tree what it has, and end cleanly where it has nothing.

use lab::{Guest, Node, NodePlan};
use serde_json::json;

use crate::case::Case;
use crate::client::{self, Python};

#[test]
fn botocore_reads_the_zone_without_a_session_and_finds_no_role() {
    let node = Node::start().unwrap();
    let guest = Case::load("multi-nic").unwrap().boot(&node).unwrap();
    let fetched = client::run(&guest, Python::PyPi, "botocore_fetch.py", &[]).unwrap();
    // botocore takes the zone's last letter for the zone within the region: az-1.
    assert_eq!(fetched, json!({"credentials": {}, "region": "az-"}));
}

#[test]
fn ec2_metadata_is_told_as_by_nova_that_there_are_no_session_tokens() {
    let node = Node::start().unwrap();
    let guest = Case::load("plain").unwrap().boot(&node).unwrap();
    let printed = client::run(&guest, Python::PyPi, "ec2_metadata_read.py", &[]).unwrap();
    assert_eq!(printed, json!({"error": "Failed to fetch token: 404"}));
}

/// A case's guest, whose requests need a session token.
fn with_tokens(name: &str) -> (Node, Guest) {
    let node = NodePlan::default().further("[access]\nsession = \"required\"\n").start().unwrap();
    let guest = Case::load(name).unwrap().boot(&node).unwrap();
    (node, guest)
}

/// Looks at whether a client got tokens, and was never refused.
fn used_tokens(node: &Node) {
    let http = node.status().unwrap()["http"].clone();
    assert!(http["tokens_issued"].as_u64() > Some(0), "{http}");
    assert_eq!(http["denied"], json!(null), "{http}");
}

#[test]
fn botocore_reads_with_session_tokens_where_they_are_required() {
    let (node, guest) = with_tokens("multi-nic");
    let fetched = client::run(&guest, Python::PyPi, "botocore_fetch.py", &[]).unwrap();
    assert_eq!(fetched, json!({"credentials": {}, "region": "az-"}));
    used_tokens(&node);
}

#[test]
fn ec2_metadata_reads_with_session_tokens_where_they_are_required() {
    let (node, guest) = with_tokens("plain");
    let read = client::run(&guest, Python::PyPi, "ec2_metadata_read.py", &[]).unwrap();
    assert_eq!(read["instance_id"], Case::load("plain").unwrap().nova("/latest/meta-data/instance-id").unwrap());
    used_tokens(&node);
}
