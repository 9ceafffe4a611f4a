//! A real OpenStack control plane: it starts, its fake hosts boot instances, and what it sends is what docs/controller.md says.

use std::fs;
use std::path::Path;

use lab::Shared;
use lab::openstack::{Cloud, Plan, Recorder, Service};
use serde_json::json;

/// The cloud of all tests that neither stop its services nor replace its databases: starting one takes long.
pub(crate) static CLOUD: Shared<Cloud> = Shared::new(|| Cloud::start(Plan::default()));

#[test]
fn an_instance_boots_on_a_fake_host() {
    let cloud = CLOUD.get().unwrap();
    let id = cloud.create_server("boots", "host1").unwrap();
    let server = cloud.server(&id).unwrap();
    assert_eq!(server["OS-EXT-SRV-ATTR:host"], "host1");
    let ports = cloud.ports_of(&id).unwrap();
    assert_eq!(ports.len(), 1);
    assert_eq!(ports[0]["binding:host_id"], "host1");
    assert_eq!(ports[0]["binding:vif_type"], "ovs");
}

#[test]
fn calls_send_the_notifications_that_the_documentation_says() {
    let cloud = CLOUD.get().unwrap();
    let recorder = Recorder::start(&cloud).unwrap();
    let id = cloud.create_server("says", "host1").unwrap();
    let port = cloud.ports_of(&id).unwrap()[0]["id"].as_str().unwrap().to_owned();
    let documented = documented();
    let (instance, same_port) = (id.clone(), port.clone());
    // What comes for other tests' instances is passed over.
    let expect = |call: &str, kind: &str| {
        assert!(
            documented.contains(&format!("`{kind}`")) || documented.contains(&wildcard(kind)),
            "{kind} is not in the documentation"
        );
        let found = recorder.until(&format!("{kind} after {call}"), |found| {
            found.event_type == kind
                && (found.body.contains(&instance)
                    || found.body.contains(&same_port)
                    || kind.starts_with("security_group"))
        });
        found.unwrap().pop().unwrap()
    };
    expect("creating", "instance.create.end");

    cloud.openstack(&["server", "set", "--property", "role=web", &id]).unwrap();
    let update = expect("the client's set --property", "instance.update");
    assert_eq!(update.payload["nova_object.data"]["metadata"], json!({"role": "web"}));
    assert_eq!((update.exchange.as_str(), update.routing_key.as_str()), ("nova", "versioned_notifications.info"));
    cloud.unset_property(&id, "role").unwrap();
    assert_eq!(expect("removing a property", "instance.update").payload["nova_object.data"]["metadata"], json!({}));
    cloud.rename(&id, "said").unwrap();
    assert_eq!(expect("renaming", "instance.update").payload["nova_object.data"]["display_name"], "said");

    let second = cloud.attach_port(&id).unwrap();
    expect("attaching", "instance.interface_attach.end");
    cloud.detach_port(&id, &second).unwrap();
    expect("detaching", "instance.interface_detach.end");

    cloud.set_port(&port, &json!({"allowed_address_pairs": [{"ip_address": "10.9.9.9"}]})).unwrap();
    let update = expect("changing a port", "port.update.end");
    assert_eq!(update.payload["port"]["device_id"], id.as_str());
    assert_eq!((update.exchange.as_str(), update.routing_key.as_str()), ("neutron", "notifications.info"));
    let (floating, _) = cloud.add_floating_ip(&port).unwrap();
    expect("a floating IP", "floatingip.create.end");
    let body = json!({"floatingip": {"port_id": null}});
    cloud.call(&Service::Neutron, "PUT", &format!("/v2.0/floatingips/{floating}"), Some(&body)).unwrap();
    let gone = recorder.until("floatingip.update.end", |found| found.event_type == "floatingip.update.end").unwrap();
    assert!(gone.last().unwrap().payload["floatingip"]["port_id"].is_null());
    cloud.delete_floating_ip(&floating).unwrap();

    let group = cloud.create_security_group("says").unwrap();
    cloud.rename_security_group(&group, "said").unwrap();
    expect("renaming a group", "security_group.update.end");

    cloud.rebuild(&id).unwrap();
    expect("rebuilding", "instance.rebuild.end");
    cloud.live_migrate(&id, "host2").unwrap();
    expect("moving", "instance.live_migration_pre.start");
    expect("moving", "instance.live_migration_post_dest.end");
    cloud.delete_server(&id).unwrap();
    expect("deleting", "instance.delete.end");
}

/// Returns the table's way to write both `kind.start` and `kind.end`.
fn wildcard(kind: &str) -> String {
    let stem = kind.rsplit_once('.').map_or(kind, |(stem, _)| stem);
    format!("`{stem}.*`")
}

/// Returns the documentation's section about notifications.
fn documented() -> String {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/controller.md");
    let text = fs::read_to_string(page).unwrap();
    text.split("## Which call sends what").nth(1).unwrap().to_owned()
}
