//! Clients made for EC2 itself: they find in Nova's tree what it has, and end cleanly where it has nothing.

use lab::Node;
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
