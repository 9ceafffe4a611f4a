//! cloud-init that is there before its document.

use std::fs::File;
use std::process::Stdio;

use lab::{Node, wait};
use serde_json::Value;

use crate::case::{Case, IPV4, IPV6};
use crate::client::{self, Python};

/// Starts a source while the port is held, writes the document once it was told to ask again, and returns what it read.
fn wait_for_document(source: &str, max_wait: &str, url: &str) -> (Case, Value) {
    let case = Case::load("plain").unwrap();
    let node = Node::start().unwrap();
    let guest = case.boot_without_document(&node).unwrap();
    let directory = tempfile::tempdir().unwrap();
    let (log, printed) = (directory.path().join("log"), directory.path().join("printed"));
    let mut command = client::command(&guest, Python::Debian, "cloud_init.py", &[source, max_wait, url]).unwrap();
    command.stdin(Stdio::null()).stdout(File::create(&printed).unwrap()).stderr(File::create(&log).unwrap());
    let mut process = command.spawn().unwrap();
    let logged = || std::fs::read_to_string(&log).unwrap();
    wait::until("cloud-init was told to ask again", || Ok(logged().contains("[503]").then_some(()))).unwrap();
    assert!(process.try_wait().unwrap().is_none(), "cloud-init gave up:\n{}", logged());
    case.publish(&node).unwrap();
    assert!(process.wait().unwrap().success(), "{}", logged());
    let crawled: Value = serde_json::from_slice(&std::fs::read(&printed).unwrap()).unwrap();
    assert_eq!((&crawled["found"], &crawled["address"]), (&Value::Bool(true), &Value::from(url)), "{}", logged());
    (case, crawled)
}

#[test]
fn the_openstack_source_waits_for_its_document_over_ipv4() {
    let (case, crawled) = wait_for_document("openstack", "60", IPV4);
    assert_eq!(crawled["metadata"]["uuid"], case.facts["instance"]["uuid"]);
}

#[test]
fn the_openstack_source_waits_for_its_document_over_ipv6() {
    let (case, crawled) = wait_for_document("openstack", "60", IPV6);
    assert_eq!(crawled["metadata"]["uuid"], case.facts["instance"]["uuid"]);
}

#[test]
fn the_ec2_source_waits_for_its_document_by_default() {
    for url in [IPV4, IPV6] {
        let (_, crawled) = wait_for_document("ec2", "-", url);
        assert_eq!(crawled["metadata"]["hostname"], "plain.novalocal");
    }
}
