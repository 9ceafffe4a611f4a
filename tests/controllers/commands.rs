//! Operators' commands on documents, in a directory and in etcd.

use std::process::Output;

use anyhow::{Context as _, Result};
use lab::{Document, EtcdPlan, Guest, Node, NodePlan, daemon, wait};
use serde_json::{Value, json};

use crate::etcd::{NODE, key, source, world};

const A: &str = "0171c6ae-ed6b-4787-bf6b-45a1db501aa3";
/// Exit statuses that are more than "it failed".
const ABSENT: i32 = 66;
const TRY_AGAIN: i32 = 75;
const NO_PERMISSION: i32 = 77;

fn document() -> Document {
    let port = json!({"id": "71d7b07f-b17f-4aea-bf5c-9a565fd3c8b2", "mac_address": "fa:16:3e:11:22:01"});
    Document::new(A, "web", port)
}

/// Writes a document beside the node's own directory and returns its path.
fn file(node: &Node, document: &Document) -> Result<String> {
    let path = node.path("given.json");
    std::fs::write(&path, document.text()).context("writing a document")?;
    Ok(path.display().to_string())
}

/// Runs `metadatad instance WORDS`, whatever comes of it.
fn try_to(node: &Node, words: &[&str]) -> Result<Output> {
    let words = [&["instance"], words].concat();
    daemon::verb(node.namespace(), node.config(), &words)?.output().context("starting metadatad")
}

/// Runs `metadatad instance WORDS` and returns what it printed.
fn instance(node: &Node, words: &[&str]) -> Result<String> {
    node.ask(&[&["instance"], words].concat())
}

fn wait_host_name(guest: &Guest, expected: &str) -> Result<()> {
    wait::until(&format!("the guest is {expected}"), || {
        let answer = guest.get("/openstack/latest/meta_data.json")?;
        let text: Option<Value> = serde_json::from_str(&answer.text()).ok();
        Ok(text.is_some_and(|text| text["hostname"] == format!("{expected}.novalocal")).then_some(()))
    })
}

/// Changes a guest's document in every way, and looks at it from the guest.
fn a_guest_sees_every_change(node: &Node, guest: &Guest) -> Result<()> {
    let uuid = guest.uuid();
    assert_eq!(instance(node, &["get", uuid])?, guest.document().text());
    assert_eq!(instance(node, &["set", uuid, "--property", "hostname=one"])?, format!("{uuid}: changed\n"));
    wait_host_name(guest, "one")?;
    let given = file(node, &guest.document().clone().with("hostname", "two"))?;
    assert_eq!(instance(node, &["apply", &given])?, format!("{uuid}: changed\n"));
    wait_host_name(guest, "two")?;
    let broken = try_to(node, &["set", uuid, "--property", "ports.0.mac_address=x"])?;
    assert!(!broken.status.success() && String::from_utf8_lossy(&broken.stderr).contains("nothing is written"));
    wait_host_name(guest, "two")?;
    let list: Value = serde_json::from_str(&instance(node, &["list", "--json"])?).context("a list")?;
    assert_eq!((&list[0]["uuid"], &list[0]["problem"]), (&json!(uuid), &Value::Null), "{list}");
    assert_eq!(instance(node, &["delete", uuid])?, format!("{uuid}: deleted\n"));
    node.wait_held(guest.ifindex())?;
    assert_eq!(guest.get("/openstack")?.status, 503);
    assert_eq!(try_to(node, &["delete", uuid])?.status.code(), Some(ABSENT));
    assert_eq!(instance(node, &["apply", &given])?, format!("{uuid}: created\n"));
    node.wait_bound(guest.ifindex())?;
    wait_host_name(guest, "two")
}

/// Two writers set a property each, at the same time, a hundred times.
fn no_change_is_lost(node: &Node) -> Result<()> {
    instance(node, &["apply", &file(node, &document())?])?;
    for round in 0..100 {
        let values = ["left", "right"].map(|side| format!("metadata.{side}={round}"));
        let children = values.map(|value| {
            let words = ["instance", "set", A, "--property", &value];
            daemon::verb(node.namespace(), node.config(), &words)
                .and_then(|mut verb| Ok(verb.stdout(std::process::Stdio::null()).spawn()?))
        });
        for child in children {
            let status = child?.wait()?;
            assert!(status.success(), "round {round}: {status}");
        }
        let metadata: Value = serde_json::from_str(&instance(node, &["get", A, "--property", "metadata"])?)?;
        assert_eq!(metadata, json!({"left": round.to_string(), "right": round.to_string()}), "round {round}");
    }
    Ok(())
}

#[test]
fn a_guest_sees_what_is_written_into_the_directory() -> Result<()> {
    let node = NodePlan::default().ready_timeout("100ms").start()?;
    let guest = node.guest("a").boot()?;
    a_guest_sees_every_change(&node, &guest)
}

#[test]
fn a_guest_sees_what_is_written_into_etcd() -> Result<()> {
    let (node, etcd) = world(EtcdPlan::default())?;
    node.start_daemon()?;
    let guest = crate::etcd::boot(&node, &etcd, "a")?;
    a_guest_sees_every_change(&node, &guest)?;
    assert_eq!(
        etcd.etcdctl(&["get", "--print-value-only", &key(guest.uuid())])?.trim(),
        instance(&node, &["get", guest.uuid()])?.trim()
    );
    Ok(())
}

#[test]
fn two_writers_lose_nothing_in_a_directory() -> Result<()> {
    no_change_is_lost(&NodePlan::default().make()?)
}

#[test]
fn two_writers_lose_nothing_in_etcd() -> Result<()> {
    let (node, _etcd) = world(EtcdPlan::default())?;
    no_change_is_lost(&node)
}

#[test]
fn an_instance_moves_to_another_node() -> Result<()> {
    let (node, _etcd) = world(EtcdPlan::default())?;
    let given = file(&node, &document())?;
    instance(&node, &["apply", &given])?;
    instance(&node, &["apply", &given, "--node", "node-2"])?;
    assert_eq!(instance(&node, &["delete", A, "--node", NODE])?, format!("{A}: deleted\n"));
    assert_eq!(try_to(&node, &["get", A])?.status.code(), Some(ABSENT));
    let all: Value = serde_json::from_str(&instance(&node, &["list", "--all-nodes", "--json"])?)?;
    let nodes: Vec<_> = all.as_array().context("a list")?.iter().map(|one| &one["node"]).collect();
    assert_eq!(nodes, ["node-2"], "{all}");
    Ok(())
}

#[test]
fn a_revision_that_has_passed_is_refused() -> Result<()> {
    let (node, etcd) = world(EtcdPlan::default())?;
    let given = file(&node, &document())?;
    assert_eq!(instance(&node, &["apply", &given, "--if-revision", "0"])?, format!("{A}: created\n"));
    let late = try_to(&node, &["apply", &given, "--if-revision", "0"])?;
    assert_eq!(late.status.code(), Some(TRY_AGAIN), "{late:?}");
    let list: Value = serde_json::from_str(&instance(&node, &["list", "--json"])?)?;
    let revision = list[0]["revision"].to_string();
    etcd.put(&key("ffffffff-0000-4000-9000-000000000000"), "{ torn")?;
    let changed = file(&node, &document().with("hostname", "other"))?;
    assert_eq!(instance(&node, &["apply", &changed, "--if-revision", &revision])?, format!("{A}: changed\n"));
    let list = instance(&node, &["list"])?;
    assert!(list.contains("ffffffff-0000-4000-9000-000000000000  -") && list.contains("broken: line 1"), "{list}");
    Ok(())
}

#[test]
fn a_key_that_the_daemon_refuses_is_not_listed_as_good() -> Result<()> {
    let (node, etcd) = world(EtcdPlan::default())?;
    let text = document().text();
    for name in [A.to_uppercase(), format!("x/{A}"), "web".to_owned()] {
        etcd.put(&key(&name), &text)?;
    }
    let list: Value = serde_json::from_str(&instance(&node, &["list", "--json"])?)?;
    let problems: Vec<_> = list.as_array().context("a list")?.iter().map(|one| one["problem"].as_str()).collect();
    assert_eq!(problems.len(), 3, "{list}");
    assert!(problems.iter().all(|text| text.is_some_and(|text| text.contains("in lower case"))), "{list}");
    Ok(())
}

#[test]
fn many_documents_are_listed_page_by_page() -> Result<()> {
    let (node, _etcd) = world(EtcdPlan::default())?;
    let directory = node.path("many");
    std::fs::create_dir(&directory)?;
    // 60 of 100 KB: more than one answer of 4 MiB holds, and 600 in all: more than two pages.
    for number in 0..600 {
        let uuid = format!("{number:08x}-0000-4000-9000-000000000000");
        let port = json!({"id": uuid, "mac_address": "fa:16:3e:11:22:01"});
        let data = if number < 60 { vec![b'x'; 75_000] } else { vec![b'x'] };
        Document::new(&uuid, "many", port).with_user_data(&data).write(&directory)?;
    }
    let directory = directory.display().to_string();
    assert_eq!(
        instance(&node, &["apply", &directory])?.lines().filter(|line| line.ends_with(": created")).count(),
        600
    );
    let list: Value = serde_json::from_str(&instance(&node, &["list", "--json"])?)?;
    assert_eq!(list.as_array().map(Vec::len), Some(600));
    assert!(list.as_array().is_some_and(|list| list.iter().all(|one| one["problem"].is_null())));
    Ok(())
}

#[test]
fn a_user_without_the_right_is_told_so() -> Result<()> {
    let plan = EtcdPlan::default();
    let password = tempfile::NamedTempFile::new()?;
    std::fs::write(password.path(), "secret")?;
    let user = format!("username = \"reader\"\npassword_file = {:?}", password.path());
    let node = NodePlan::default().source(&source(&plan.endpoints(), &user)).make()?;
    let etcd = plan.start(node.namespace())?;
    for words in [
        &["user", "add", "root:root"][..],
        &["role", "add", "root"],
        &["user", "grant-role", "root", "root"],
        &["user", "add", "reader:secret"],
        &["role", "add", "reader"],
        &["role", "grant-permission", "--prefix=true", "reader", "read", "/metadatad/nodes/node-1/"],
        &["user", "grant-role", "reader", "reader"],
        &["auth", "enable"],
    ] {
        etcd.etcdctl(words)?;
    }
    assert!(try_to(&node, &["list"])?.status.success(), "it may read its own");
    let given = file(&node, &document())?;
    for words in [&["apply", &given][..], &["list", "--all-nodes"], &["get", A, "--node", "node-2"]] {
        let refused = try_to(&node, words)?;
        let text = String::from_utf8_lossy(&refused.stderr).into_owned();
        assert_eq!(refused.status.code(), Some(NO_PERMISSION), "{words:?}: {text}");
        assert!(text.contains("the user's role may not"), "{text}");
    }
    Ok(())
}
