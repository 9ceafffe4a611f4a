//! The `etcd` source, with a real etcd.

mod attributes;
mod passwords;
mod security;
mod trouble;

use anyhow::{Context as _, Result};
use lab::{Etcd, EtcdPlan, Guest, Node, NodePlan};
use serde_json::Value;

/// A node's name in the keys.
pub(crate) const NODE: &str = "node-1";
/// The first part of every key.
pub(crate) const PREFIX: &str = "/metadatad";
/// Where the asker looks.
pub(crate) const USER_DATA: &str = "/openstack/latest/user_data";

/// Returns the key of an instance of [`NODE`].
pub(crate) fn key(uuid: &str) -> String {
    format!("{PREFIX}/nodes/{NODE}/instances/{uuid}")
}

/// Returns `[source]` for these endpoints, with further keys of its table.
pub(crate) fn source(endpoints: &[String], further: &str) -> String {
    format!(
        "kind = \"etcd\"\n[source.etcd]\nendpoints = {endpoints:?}\nnode = \"{NODE}\"\nrequest_timeout = \"2s\"\n{further}\n"
    )
}

/// Makes a node whose documents come from etcd, and the etcd in its namespace. The daemon is not started.
pub(crate) fn world(plan: EtcdPlan) -> Result<(Node, Etcd)> {
    let node = NodePlan::default().source(&source(&plan.endpoints(), "")).ready_timeout("100ms").make()?;
    let etcd = plan.start(node.namespace())?;
    Ok((node, etcd))
}

/// Boots a guest whose document is in etcd.
pub(crate) fn boot(node: &Node, etcd: &Etcd, name: &str) -> Result<Guest> {
    let guest = node.guest(name).document(|document| document.with_user_data(b"0")).at_once().boot()?;
    etcd.put(&key(guest.uuid()), &guest.document().text())?;
    node.wait_bound(guest.ifindex())?;
    Ok(guest)
}

/// Writes the guest's document with other user data.
pub(crate) fn change(etcd: &Etcd, guest: &Guest, user_data: &str) -> Result<()> {
    etcd.put(&key(guest.uuid()), &guest.document().clone().with_user_data(user_data.as_bytes()).text())
}

/// Waits until the guest reads this user data.
pub(crate) fn wait_reads(guest: &Guest, user_data: &str) -> Result<()> {
    lab::wait::until(&format!("the guest reads {user_data}"), || {
        let answer = guest.get(USER_DATA)?;
        Ok((answer.status == 200 && answer.text() == user_data).then_some(()))
    })
}

/// Returns the state of the source.
pub(crate) fn source_state(node: &Node) -> Result<Value> {
    node.source()
}

/// Waits until the source's state is such.
pub(crate) fn wait_source(node: &Node, what: &str, is: impl Fn(&Value) -> bool) -> Result<Value> {
    let mut last = Value::Null;
    let waited = lab::wait::until(what, || {
        last = source_state(node)?;
        Ok(is(&last).then_some(()))
    });
    waited.with_context(|| format!("it is {last:#}\nmetadatad's log:\n{}", node.log()))?;
    Ok(last)
}

/// Whether the source is in step and has nothing to complain of.
pub(crate) fn is_well(state: &Value) -> bool {
    state["error"].is_null() && state["lagging_since"].is_null() && !state["synced_at"].is_null()
}

#[test]
fn documents_come_change_and_go_with_their_keys() {
    let (node, etcd) = world(EtcdPlan::default()).unwrap();
    node.start_daemon().unwrap();
    let guest = boot(&node, &etcd, "a").unwrap();
    assert_eq!(guest.read_uuid(false).unwrap(), guest.uuid());
    change(&etcd, &guest, "1").unwrap();
    wait_reads(&guest, "1").unwrap();
    let state = wait_source(&node, "etcd is followed", is_well).unwrap();
    assert_eq!((&state["kind"], &state["instances"]), (&"etcd".into(), &1.into()));
    assert!(state["revision"].as_i64().unwrap() >= 3, "{state}");
    assert_eq!(state["endpoints"][0]["in_use"], true);
    etcd.etcdctl(&["del", &key(guest.uuid())]).unwrap();
    node.wait_held(guest.ifindex()).unwrap();
    assert_eq!(guest.get(USER_DATA).unwrap().status, 503);
    assert_eq!(source_state(&node).unwrap()["instances"], 0);
}
