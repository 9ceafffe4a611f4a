//! From a record to a document for people: what is default is left out.
//!
//! Promises: what `convert` fills in is what is left out here, so the document parses to an equal record.

use std::io;
use std::net::IpAddr;

use serde_json::{Map, Value, json};

use super::convert::{self, ec2_ids, port};
use super::write::InstanceText;
use crate::record::{InstanceRecord, PortRecord, SubnetRecord};

/// Returns the document, with a newline at its end.
pub(super) fn document(record: &InstanceRecord) -> io::Result<Vec<u8>> {
    let mut document = serde_json::to_value(InstanceText::of(record))?;
    if let Value::Object(document) = &mut document {
        instance(document, record);
    }
    let mut text = serde_json::to_vec_pretty(&document)?;
    text.push(b'\n');
    Ok(text)
}

/// Removes members that have these values.
fn remove(object: &mut Map<String, Value>, defaults: &[(&str, Value)]) {
    object.retain(|name, value| !defaults.iter().any(|(default, of)| default == name && of == value));
}

/// Calls a function for each object of a member that is a list.
fn each(object: &mut Map<String, Value>, member: &str, mut change: impl FnMut(usize, &mut Map<String, Value>)) {
    let list = object.get_mut(member).and_then(Value::as_array_mut);
    for (index, element) in list.into_iter().flatten().enumerate() {
        if let Value::Object(element) = element {
            change(index, element);
        }
    }
}

fn instance(document: &mut Map<String, Value>, record: &InstanceRecord) {
    each(document, "keypairs", |_, pair| remove(pair, &[("type", json!("ssh"))]));
    each(document, "block_device_mapping", |_, disk| {
        let destination = if disk["source_type"] == "blank" { "local" } else { "volume" };
        // Where it came from does not show; a volume came from one.
        match (disk["source_type"].as_str(), disk["destination_type"].as_str()) {
            (Some("image"), Some("volume")) => disk["source_type"] = json!("volume"),
            (Some("image"), _) => remove(disk, &[("destination_type", json!("local"))]),
            _ => {}
        }
        remove(
            disk,
            &[("destination_type", json!(destination)), ("device_name", Value::Null), ("guest_format", Value::Null)],
        );
    });
    each(document, "device_metadata", |_, device| {
        if let Some(bus) = device.get_mut("bus").and_then(Value::as_object_mut) {
            remove(bus, &[("address", Value::Null)]);
        }
        remove(device, &[("bus", Value::Null), ("tags", Value::Null), ("vf_trusted", json!(false))]);
    });
    each(document, "ports", |index, port| {
        if let Some(record) = record.ports.get(index) {
            self::port(port, record);
        }
    });
    if let Some(pages) = document.get_mut("pages").and_then(Value::as_object_mut) {
        for page in pages.values_mut().filter_map(Value::as_object_mut) {
            remove(page, &[("content_type", json!("text/plain; charset=UTF-8"))]);
        }
    }
    let ids = super::ec2_ids(record.uuid, record.image_ref.as_deref());
    if let Some(given) = document.get_mut("ec2_ids").and_then(Value::as_object_mut) {
        remove(
            given,
            &[
                ("instance_id", json!(ids.instance_id)),
                ("ami_id", json!(ids.ami_id)),
                ("kernel_id", json!(ids.kernel_id)),
                ("ramdisk_id", json!(ids.ramdisk_id)),
            ],
        );
    }
    let first = record.keypairs.first();
    let key_name = first.map(|pair| &*pair.name).filter(|name| !name.is_empty());
    // Without pairs, one would be made of name and data.
    let no_pairs = if record.key_name.is_some() && record.key_data.is_some() { Value::Null } else { json!([]) };
    let groups: Vec<&Box<str>> = record.ports.iter().flat_map(|port| &port.security_groups).collect();
    remove(
        document,
        &[
            ("display_name", json!(record.hostname)),
            ("availability_zone", Value::Null),
            ("launch_index", json!(0)),
            ("reservation_id", json!(ec2_ids::reservation(record.uuid.0))),
            ("flavor", Value::Null),
            ("image_ref", Value::Null),
            ("ec2_ids", json!({})),
            ("key_name", json!(key_name)),
            ("key_data", json!(first.map(|pair| &pair.public_key))),
            ("keypairs", no_pairs),
            ("metadata", json!({})),
            ("root_device_name", json!("/dev/vda")),
            ("default_ephemeral_device", Value::Null),
            ("default_swap_device", Value::Null),
            ("block_device_mapping", json!([])),
            ("device_metadata", json!([])),
            ("dedicated_cpus", json!([])),
            ("security_groups", json!(groups)),
            ("local_ipv4", json!(convert::local_ipv4(&record.ports))),
            ("password", Value::Null),
            ("boot_roles", Value::Null),
        ],
    );
}

fn port(document: &mut Map<String, Value>, record: &PortRecord) {
    let subnets = &record.network.subnets;
    let is_implied = *subnets == implied(record);
    let needs_no_ids = is_implied || finds_itself(record);
    each(document, "fixed_ips", |_, ip| {
        if needs_no_ids {
            ip.retain(|name, _| name != "subnet_id");
        }
        remove(ip, &[("floating_ips", json!([]))]);
    });
    each(document, "allowed_address_pairs", |_, pair| remove(pair, &[("mac_address", Value::Null)]));
    if let Some(network) = document.get_mut("network").and_then(Value::as_object_mut) {
        each(network, "subnets", |_, subnet| {
            if needs_no_ids {
                subnet.retain(|name, _| name != "id");
            }
            each(subnet, "host_routes", |_, route| remove(route, &[("nexthop", Value::Null)]));
            remove(
                subnet,
                &[
                    ("gateway_ip", Value::Null),
                    ("dns_nameservers", json!([])),
                    ("host_routes", json!([])),
                    ("enable_dhcp", json!(true)),
                    ("dhcp_server", Value::Null),
                    ("ipv6_address_mode", Value::Null),
                ],
            );
        });
        if is_implied {
            network.retain(|name, _| name != "subnets");
        }
        remove(network, &[("id", json!(uuid::Uuid::nil())), ("mtu", Value::Null), ("injected", json!(false))]);
    }
    remove(
        document,
        &[
            ("tap", json!(PortRecord::default_device_name(record.id))),
            ("port_security", json!(true)),
            ("listed", json!(true)),
            ("vif_type", json!("tap")),
            ("fixed_ips", json!([])),
            ("allowed_address_pairs", json!([])),
            ("security_groups", json!([])),
            ("network", json!({})),
        ],
    );
}

/// Returns the subnets that a port without subnets gets.
fn implied(record: &PortRecord) -> Vec<SubnetRecord> {
    let addresses = || record.fixed_ips.iter().map(|ip| ip.ip_address.ip());
    let mut subnets = port::implied_subnets(addresses());
    for (index, address) in addresses().enumerate() {
        let is_of_family = |subnet: &&mut SubnetRecord| subnet.cidr.addr().is_ipv4() == address.is_ipv4();
        if let Some(subnet) = subnets.iter_mut().find(is_of_family) {
            subnet.fixed_ips.push(index);
        }
    }
    subnets
}

/// Tells whether every address lies in its own subnet and in none before it, so that it need not name it.
fn finds_itself(record: &PortRecord) -> bool {
    let subnets = &record.network.subnets;
    let holding = |address: IpAddr| subnets.iter().position(|subnet| subnet.cidr.contains(&address));
    let of = |index: usize| record.fixed_ips.get(index).map(|ip| ip.ip_address.ip());
    subnets
        .iter()
        .enumerate()
        .all(|(place, subnet)| subnet.fixed_ips.iter().all(|&index| of(index).and_then(holding) == Some(place)))
}
