//! Guest attributes, written through to etcd.

use lab::{Etcd, EtcdPlan, Guest, NodePlan, wait};
use serde_json::{Value, json};

use super::{NODE, PREFIX, boot, key, source};

/// Writes an attribute (`None`: removes it), and returns the status.
fn write(guest: &Guest, path: &str, text: Option<&str>) -> u16 {
    let url = format!("http://169.254.169.254/openstack/latest/guest-attributes/{path}");
    let method = if text.is_some() { "PUT" } else { "DELETE" };
    let mut words = vec!["-sS", "-o", "/dev/null", "-w", "%{http_code}", "-X", method, &url];
    words.extend(text.iter().flat_map(|text| ["--data-binary", text]));
    guest.curl(&words).unwrap().parse().unwrap()
}

/// Waits until etcd has these attributes of a guest; `null`: no key.
fn wait_kept(etcd: &Etcd, guest: &Guest, expected: &Value) {
    let key = format!("{PREFIX}/attributes/{NODE}/{}", guest.uuid());
    wait::until(&format!("etcd has {expected} at {key}"), || {
        let text = etcd.etcdctl(&["get", &key, "--print-value-only"])?;
        let found = if text.trim().is_empty() { Value::Null } else { serde_json::from_str(&text)? };
        Ok((found == *expected).then_some(()))
    })
    .unwrap();
}

#[test]
fn what_a_guest_writes_is_in_etcd_also_after_an_outage_and_goes_with_the_instance() {
    let plan = EtcdPlan::default();
    let node = NodePlan::default().source(&source(&plan.endpoints(), "")).ready_timeout("100ms");
    let node = node.further("[guests]\nattributes_per_instance = 4\n").make().unwrap();
    let etcd = plan.start(node.namespace()).unwrap();
    node.start_daemon().unwrap();
    let guests = ["a", "b"].map(|name| boot(&node, &etcd, name).unwrap());
    assert_eq!(etcd.etcdctl(&["get", &format!("{PREFIX}/attributes/"), "--prefix"]).unwrap().trim(), "");
    assert_eq!(write(&guests[0], "hostkeys/ed25519", Some("key")), 200);
    wait_kept(&etcd, &guests[0], &json!({"hostkeys": {"ed25519": "key"}}));

    // The guest does not wait for etcd, which has the newest once it is back.
    etcd.pause(0).unwrap();
    for text in ["one", "two"] {
        assert_eq!(write(&guests[0], "boot/state", Some(text)), 200);
    }
    assert_eq!(write(&guests[1], "boot/state", Some("other")), 200);
    etcd.resume(0).unwrap();
    wait_kept(&etcd, &guests[0], &json!({"boot": {"state": "two"}, "hostkeys": {"ed25519": "key"}}));
    wait_kept(&etcd, &guests[1], &json!({"boot": {"state": "other"}}));

    assert_eq!(write(&guests[1], "boot/state", None), 200);
    wait_kept(&etcd, &guests[1], &Value::Null);
    etcd.etcdctl(&["del", &key(guests[0].uuid())]).unwrap();
    node.wait_held(guests[0].ifindex()).unwrap();
    wait_kept(&etcd, &guests[0], &Value::Null);
}
