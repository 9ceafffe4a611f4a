//! Notifications as Nova and Neutron send them, and what they name.

use std::time::Duration;

use proptest::prelude::*;
use serde_json::json;

use super::*;

const INSTANCE: &str = "178b0921-8f85-4257-88b6-2e743b5a975c";
const PORT: &str = "ce531f90-199f-48c0-816c-13e38010b442";
const OTHER: &str = "08df5d2f-8b0d-4d3b-9f5d-0c3f8a6f1b11";

/// Checks what a message names, in all envelopes.
fn check(event_type: &str, payload: Value, kind: Kind, events: &[Event]) {
    let message = json!({
        "message_id": OTHER, "publisher_id": "nova-compute:host", "event_type": event_type, "priority": "INFO", "payload": payload,
        "timestamp": "2026-11-27 11:30:00.250000", "_unique_id": "0",
    });
    let enveloped = json!({"oslo.version": "2.0", "oslo.message": message.to_string()});
    let nested = json!({"oslo.version": "2.0", "oslo.message": message});
    for form in [&message, &enveloped, &nested] {
        let reading = read(form.to_string().as_bytes());
        assert_eq!((reading.kind, &*reading.events), (kind, events), "{event_type} {payload}");
        assert_eq!(reading.sent_at, Some(SystemTime::UNIX_EPOCH + Duration::from_millis(1_795_779_000_250)));
    }
}

fn id(text: &str) -> Uuid {
    text.parse().unwrap()
}

fn instance_event() -> Event {
    Event::Instance { id: InstanceId(id(INSTANCE)) }
}

fn versioned(name: &str, data: Value) -> Value {
    json!({"nova_object.name": name, "nova_object.namespace": "nova", "nova_object.version": "1.8", "nova_object.data": data})
}

#[test]
fn versioned_notifications_of_nova() {
    let named = [instance_event()];
    let data = json!({"uuid": INSTANCE, "host": "compute", "host_name": "some-server"});
    check("instance.update", versioned("InstanceUpdatePayload", data.clone()), Kind::Instance, &named);
    check(
        "instance.live_migration_pre.start",
        versioned("InstanceActionPayload", data.clone()),
        Kind::Instance,
        &named,
    );
    check("instance.something_new", versioned("ServerPayload", data.clone()), Kind::Instance, &named);
    check("volume.usage", versioned("VolumeUsagePayload", json!({"instance_uuid": INSTANCE})), Kind::Instance, &named);
    check(
        "compute_task.build_instances.error",
        versioned("ComputeTaskPayload", json!({"instance_uuid": INSTANCE, "state": "error"})),
        Kind::Instance,
        &named,
    );
    for (event_type, name) in [
        ("service.update", "ServiceStatusPayload"),
        ("aggregate.add_host.end", "AggregatePayload"),
        ("server_group.create", "ServerGroupPayload"),
    ] {
        check(event_type, versioned(name, json!({"uuid": OTHER, "host": "compute"})), Kind::Ignored, &[]);
    }
    check("keypair.create.end", versioned("KeypairPayload", json!({"name": "k", "user_id": "u"})), Kind::Ignored, &[]);
    check("instance.create.end", versioned("InstanceCreatePayload", json!({"uuid": "none"})), Kind::Ignored, &[]);
}

#[test]
fn unversioned_notifications_of_nova() {
    let named = [instance_event()];
    check("compute.instance.update", json!({"instance_id": INSTANCE, "state": "active"}), Kind::Instance, &named);
    check("volume.usage", json!({"instance_id": INSTANCE, "volume_id": OTHER}), Kind::Instance, &named);
    check("compute_task.rebuild_server", json!({"instance_uuid": INSTANCE}), Kind::Instance, &named);
    let request = json!({"request_spec": {"instance_properties": {"uuid": INSTANCE}}});
    check("scheduler.select_destinations.end", request, Kind::Instance, &named);
    check("keypair.create.end", json!({"key_name": "k", "user_id": "u"}), Kind::Ignored, &[]);
    check("compute.metrics.update", json!({"host": "compute", "metrics": []}), Kind::Ignored, &[]);
}

#[test]
fn audits_of_nova_are_not_changes() {
    for (event_type, urgency) in [("instance.exists", Urgency::Slow), ("instance.update", Urgency::Change)] {
        let payload = versioned("InstanceExistsPayload", json!({"uuid": INSTANCE}));
        let message = json!({"event_type": event_type, "payload": payload});
        let reading = read(message.to_string().as_bytes());
        assert_eq!((reading.urgency, reading.events.len()), (urgency, 1));
    }
}

#[test]
fn ports() {
    let port = |device: &str, owner: &str| json!({"id": PORT, "device_id": device, "device_owner": owner});
    let event = |device_id: Option<&str>| Event::Port {
        id: PortId(id(PORT)),
        device_id: device_id.map(|device| InstanceId(id(device))),
    };
    check("port.create.end", json!({"port": port(INSTANCE, "compute:nova")}), Kind::Port, &[event(Some(INSTANCE))]);
    check("port.update.end", json!({"port": port("", "")}), Kind::Port, &[event(None)]);
    check("port.delete.end", json!({"port_id": PORT}), Kind::Port, &[event(None)]);
    let original = json!({"port": port(INSTANCE, "compute:nova"), "port_id": PORT});
    check("port.delete.end", original, Kind::Port, &[event(Some(INSTANCE))]);
    check("port.delete.end", json!({"port": {}, "port_id": PORT}), Kind::Port, &[event(None)]);
    let several = json!({"ports": [port(INSTANCE, "compute:nova"), port(OTHER, "compute:az2")]});
    check("port.create.end", several, Kind::Port, &[event(Some(INSTANCE)), event(Some(OTHER))]);
    check("port.update.end", json!({"port": port(OTHER, "network:dhcp")}), Kind::Ignored, &[]);
    check("port.update.end", json!({"port": port("dhcp5d-1", "network:router_interface")}), Kind::Ignored, &[]);
    check("port.update.start", json!({"port": {"name": "n"}, "id": PORT}), Kind::Ignored, &[]);
    check("port.delete.start", json!({"port_id": PORT}), Kind::Ignored, &[]);
}

#[test]
fn floating_ips_and_security_groups() {
    let address =
        json!({"id": OTHER, "port_id": PORT, "floating_ip_address": "192.0.2.7", "fixed_ip_address": "10.0.0.3"});
    let event = |port_id: Option<&str>, address: Option<&str>| Event::FloatingIp {
        id: id(OTHER),
        port_id: port_id.map(|port| PortId(id(port))),
        address: address.map(|address| address.parse().unwrap()),
    };
    check(
        "floatingip.update.end",
        json!({"floatingip": address}),
        Kind::FloatingIp,
        &[event(Some(PORT), Some("192.0.2.7"))],
    );
    let taken = json!({"id": OTHER, "port_id": null, "floating_ip_address": "192.0.2.7"});
    check("floatingip.update.end", json!({"floatingip": taken}), Kind::FloatingIp, &[event(None, Some("192.0.2.7"))]);
    check("floatingip.delete.end", json!({"floatingip_id": OTHER}), Kind::FloatingIp, &[event(None, None)]);
    let group = Event::SecurityGroup { id: id(OTHER) };
    let payload = json!({"security_group": {"id": OTHER, "name": "web", "security_group_rules": []}});
    check("security_group.update.end", payload, Kind::SecurityGroup, std::slice::from_ref(&group));
    check("security_group.delete.end", json!({"security_group_id": OTHER}), Kind::SecurityGroup, &[group]);
    // Rules are in no document.
    let rule = json!({"security_group_rule": {"id": OTHER, "security_group_id": OTHER}});
    check("security_group_rule.create.end", rule, Kind::Ignored, &[]);
    check("subnet.update.end", json!({"subnet": {"id": OTHER}}), Kind::Ignored, &[]);
    check("router.interface.create", json!({"router_interface": {"id": OTHER, "port_id": PORT}}), Kind::Ignored, &[]);
}

#[test]
fn what_is_no_notification_is_counted_as_that() {
    let kind = |body: &[u8]| read(body).kind;
    let deep = format!("{}{}", "[".repeat(10_000), "]".repeat(10_000));
    let messages: [&[u8]; 10] = [
        b"",
        b"\xff\xfe",
        b"{",
        b"[]",
        b"null",
        b"{}",
        b"{\"event_type\": 3}",
        b"{\"oslo.message\": 3}",
        b"{\"oslo.message\": \"{\"}",
        deep.as_bytes(),
    ];
    for body in messages {
        assert_eq!(kind(body), Kind::Malformed, "{}", String::from_utf8_lossy(body).get(..40).unwrap_or_default());
    }
    for body in [
        "{\"event_type\": \"\"}",
        "{\"event_type\": \"port.create.end\", \"payload\": []}",
        "{\"event_type\": \"x\", \"payload\": 1}",
    ] {
        assert_eq!(kind(body.as_bytes()), Kind::Ignored, "{body}");
    }
    assert_eq!(kind(&vec![b' '; LONGEST + 1]), Kind::TooLong);
    let ports: Vec<Value> = (0..2_000u128).map(|number| json!({"id": Uuid::from_u128(number)})).collect();
    let many = json!({"event_type": "port.create.end", "payload": {"ports": ports}});
    assert_eq!(read(many.to_string().as_bytes()).events.len(), MOST_EVENTS);
}

#[test]
fn times_are_utc_with_and_without_a_zone() {
    let at = |millis| Some(SystemTime::UNIX_EPOCH + Duration::from_millis(millis));
    assert_eq!(time("1970-01-01 00:00:01.500000"), at(1_500));
    assert_eq!(time("1970-01-01T00:00:01.5"), at(1_500));
    assert_eq!(time("1970-01-01 00:00:01"), at(1_000));
    assert_eq!(time("1970-01-01T01:00:01+01:00"), at(1_000));
    assert_eq!(time("1970-01-01T00:00:01Z"), at(1_000));
    assert_eq!(time("yesterday"), None);
}

#[test]
fn kinds_are_numbered_in_the_order_of_their_list() {
    for (number, kind) in Kind::ALL.into_iter().enumerate() {
        assert_eq!(kind as usize, number);
    }
}

/// Each file is one message as RabbitMQ delivered it from a real Nova or Neutron.
#[test]
fn messages_of_a_real_nova_and_neutron() {
    let directory =
        std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/controllers/openstack/notifications");
    let mut seen = 0;
    for entry in std::fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        let Some(name) = name.strip_suffix(".json") else { continue };
        let message: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
        let reading = read(message["body"].as_str().unwrap().as_bytes());
        let expected = match name.split('.').next().unwrap() {
            _ if name.ends_with(".start") && name.starts_with("port") => Kind::Ignored,
            "instance" | "scheduler" => Kind::Instance,
            "port" => Kind::Port,
            "floatingip" => Kind::FloatingIp,
            "security_group" => Kind::SecurityGroup,
            "binding" | "keypair" | "network" | "subnet" | "security_group_rule" => Kind::Ignored,
            other => panic!("what is {other}?"),
        };
        assert_eq!(reading.kind, expected, "{name}");
        assert_eq!(reading.events.len(), usize::from(expected != Kind::Ignored), "{name}: {:?}", reading.events);
        assert!(reading.sent_at.is_some(), "{name}");
        assert_eq!(reading.urgency == Urgency::Slow, name == "instance.exists", "{name}");
        match (&reading.events.first(), name) {
            (Some(Event::Port { device_id, .. }), _) => {
                assert!(device_id.is_some() || name == "port.create.end", "{name}")
            }
            (Some(Event::FloatingIp { address, port_id, .. }), _) => {
                assert!(address.is_some(), "{name}");
                assert_eq!(port_id.is_some(), name == "floatingip.update.end", "{name}");
            }
            _ => {}
        }
        seen += 1;
    }
    assert!(seen >= 35, "{seen}");
}

proptest! {
    #[test]
    fn any_bytes_are_read(body in prop::collection::vec(any::<u8>(), 0..200), event_type in "(instance|port|floatingip|security_group|x)\\.[a-z.]{0,20}",
        key in "(port|ports|port_id|nova_object.data|instance_id|request_spec|[a-z]{3})", value in "(3|null|\\[\\]|\\{\\}|\\[3\\]|\\[\\{\\}\\]|\"x\")") {
        prop_assert!(read(&body).events.is_empty());
        let value: Value = serde_json::from_str(&value).unwrap();
        let reading = read(json!({"event_type": event_type, "payload": {key: value}}).to_string().as_bytes());
        prop_assert!(reading.kind == Kind::Ignored && reading.events.is_empty());
    }
}
