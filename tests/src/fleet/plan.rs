//! What a fleet is made of: how many nodes and instances, their names, and their documents.

use std::time::Duration;

use anyhow::{Context as _, Result};
use metadata_user::record::InstanceId;
use serde_json::json;

/// The size of a fleet, and what is measured.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Nodes.
    pub nodes: usize,
    /// Instances of each.
    pub instances: usize,
    /// Changes to measure, one after the other, and as many at a pace.
    pub changes: usize,
    /// Changes per second, when paced.
    pub rate: u32,
    /// How long etcd stays away in a storm.
    pub down: Duration,
    /// Threads that the nodes share.
    pub threads: usize,
}

impl Plan {
    /// A document as a cloud would have it, with a key and some user data.
    pub(super) fn document(&self, node: usize, instance: usize, change: usize) -> String {
        let number = node * self.instances + instance;
        let [_, _, a, b] = u32::try_from(number).unwrap_or(u32::MAX).to_be_bytes();
        json!({
            "uuid": uuid(node, instance),
            "project_id": "f7ac731cc11f40efbc03a9f9e1d1d21f",
            "display_name": format!("web {instance}"),
            "hostname": host_name(node, instance, change),
            "availability_zone": "az-1",
            "flavor": "m1.small",
            "image_ref": "70c1db56-66e8-4cf6-a6ec-1d8b2b9d0f4e",
            "keypairs": [{"name": "admin", "public_key": format!("ssh-rsa {} admin", "A".repeat(372))}],
            "metadata": {"role": "web", "owner": "team-7", "cost-centre": "4711"},
            "security_groups": ["default", "web"],
            "user_data": format!("#cloud-config\n{}", "# a line of user data as people write them, more or less\n".repeat(26)),
            "ports": [{
                "id": format!("{number:08x}-0000-4000-8000-000000000000"),
                "mac_address": format!("fa:16:3e:00:{a:02x}:{b:02x}"),
                "fixed_ips": [{"ip_address": format!("10.1.{a}.{b}"), "floating_ips": ["203.0.113.5"]}],
                "security_groups": ["default", "web"],
                "network": {
                    "id": "0a7b4b4e-0d59-4d62-a6c3-7c0f2a6f1111",
                    "mtu": 1450,
                    "subnets": [{"cidr": "10.1.0.0/16", "gateway_ip": "10.1.0.1", "dns_nameservers": ["10.1.0.2", "10.1.0.3"]}],
                },
            }],
        })
        .to_string()
    }
}

/// The name of a node.
pub(super) fn node_name(number: usize) -> String {
    format!("node-{number:05}")
}

fn uuid(node: usize, instance: usize) -> String {
    format!("{node:08x}-0000-4000-9000-{instance:012x}")
}

/// The id of an instance.
pub(super) fn id(node: usize, instance: usize) -> Result<InstanceId> {
    uuid(node, instance).parse().context("a uuid")
}

/// The key of a document in etcd.
pub(super) fn key(node: usize, instance: usize) -> String {
    format!("/metadatad/nodes/{}/instances/{}", node_name(node), uuid(node, instance))
}

/// The host name of an instance after a change.
pub(super) fn host_name(node: usize, instance: usize, change: usize) -> String {
    format!("web-{node}-{instance}-{change}")
}
