//! A simulated server, in the forms in which Nova and Neutron show it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use metadata_user::api::{Cloud, RenderedInstance};
use metadata_user::record::{InstanceRecord, PortRecord};
use serde_json::{Map, Value, json};
use uuid::Uuid;

use super::shape::uuid;

/// A server.
#[derive(Debug)]
pub(super) struct Server {
    pub(super) record: Arc<InstanceRecord>,
    pub(super) host: String,
    /// The host that it moves to.
    pub(super) destination: Option<String>,
    pub(super) updated: Timestamp,
    /// What a worker of the metadata API remembers of it.
    remembered: Option<(Instant, RenderedInstance)>,
}

impl Server {
    pub(super) fn new(record: InstanceRecord, host: String) -> Self {
        Self { record: Arc::new(record), host, destination: None, updated: Timestamp::now(), remembered: None }
    }

    /// Changes what is in it.
    pub(super) fn change(&mut self, change: impl FnOnce(&mut InstanceRecord)) {
        let mut record = (*self.record).clone();
        change(&mut record);
        self.record = Arc::new(record);
        self.updated = Timestamp::now();
    }

    /// Returns its answers, of a moment at most so long ago.
    pub(super) fn answers(&mut self, cache: Duration, cloud: &Arc<Cloud>) -> RenderedInstance {
        if let Some((at, answers)) = &self.remembered
            && at.elapsed() < cache
        {
            return answers.clone();
        }
        let known = self
            .remembered
            .as_ref()
            .map(|(_, answers)| answers)
            .filter(|known| std::ptr::eq(known.record(), &raw const *self.record));
        let answers =
            known.cloned().unwrap_or_else(|| RenderedInstance::new(Arc::clone(&self.record), Arc::clone(cloud)));
        self.remembered = Some((Instant::now(), answers.clone()));
        answers
    }

    /// Returns it as Nova's compute API shows it at microversion 2.79.
    pub(super) fn of_nova(&self) -> Value {
        let record = &self.record;
        let id = record.uuid;
        let is_moving = self.destination.is_some();
        let properties: Map<String, Value> =
            record.metadata.iter().map(|(key, value)| (key.to_string(), json!(value))).collect();
        let links = json!([{"rel": "self", "href": format!("http://nova/v2.1/servers/{id}")},
            {"rel": "bookmark", "href": format!("http://nova/servers/{id}")}]);
        let image = record.image_ref.as_ref().filter(|id| !id.is_empty());
        let mut server = json!({
            "id": id.to_string(),
            "name": record.display_name,
            "status": if is_moving { "MIGRATING" } else { "ACTIVE" },
            "tenant_id": record.project_id.as_str(),
            "metadata": properties,
            "image": image.map_or_else(|| json!(""), |id| json!({"id": id, "links": []})),
            "flavor": {"vcpus": 1, "ram": 2048, "disk": 20, "ephemeral": 0, "swap": 0, "original_name": record.flavor, "extra_specs": {}},
            "updated": format!("{:.0}", self.updated),
            "addresses": self.addresses(),
            "links": links,
            "OS-EXT-AZ:availability_zone": record.availability_zone,
            "key_name": record.key_name,
            "OS-EXT-SRV-ATTR:host": self.host,
            "OS-EXT-SRV-ATTR:hypervisor_hostname": self.host,
            "OS-EXT-SRV-ATTR:reservation_id": record.reservation_id,
            "OS-EXT-SRV-ATTR:launch_index": record.launch_index,
            "OS-EXT-SRV-ATTR:hostname": record.hostname,
            "OS-EXT-SRV-ATTR:root_device_name": record.root_device_name,
            "OS-EXT-SRV-ATTR:user_data": record.user_data.as_ref().map(|data| STANDARD.encode(data)),
            "OS-EXT-STS:task_state": if is_moving { json!("migrating") } else { Value::Null },
        });
        if let (Some(server), Value::Object(same)) = (server.as_object_mut(), same()) {
            server.extend(same);
        }
        if !record.security_groups.is_empty() {
            server["security_groups"] = record.security_groups.iter().map(|name| json!({"name": name})).collect();
        }
        server
    }

    fn addresses(&self) -> Value {
        let mut all = Map::new();
        for port in &self.record.ports {
            let name = format!("net-{}", port.network.id.as_fields().0);
            let mac = port.mac_address.to_string();
            let of = |address: std::net::IpAddr, kind: &str| {
                json!({"version": if address.is_ipv4() { 4 } else { 6 }, "addr": address, "OS-EXT-IPS:type": kind,
                    "OS-EXT-IPS-MAC:mac_addr": mac})
            };
            let list = all.entry(name).or_insert_with(|| json!([]));
            let fixed = port.fixed_ips.iter().map(|fixed| of(fixed.ip_address.ip(), "fixed"));
            let floating = floating(port).map(|address| of(address, "floating"));
            if let Some(list) = list.as_array_mut() {
                list.extend(fixed.chain(floating));
            }
        }
        Value::Object(all)
    }

    /// Returns its moves that are not over, as Nova shows them.
    pub(super) fn moves(&self) -> Vec<Value> {
        let unfinished = self.destination.iter().map(|destination| {
            json!({"id": 1, "uuid": uuid("move", 0), "instance_uuid": self.record.uuid.to_string(), "status": "running",
                "migration_type": "live-migration", "source_compute": self.host, "dest_compute": destination})
        });
        unfinished.collect()
    }

    /// Returns one of its ports, as Neutron shows it.
    pub(super) fn port(&self, port: &PortRecord) -> Value {
        let fixed: Vec<Value> = port
            .fixed_ips
            .iter()
            .map(|fixed| json!({"subnet_id": port.network.id, "ip_address": fixed.ip_address.to_string()}))
            .collect();
        let pairs: Vec<Value> = port
            .allowed_address_pairs
            .iter()
            .map(|pair| {
                let mac = pair.mac_address.unwrap_or(port.mac_address).to_string();
                json!({"ip_address": pair.ip_address.to_string(), "mac_address": mac})
            })
            .collect();
        json!({
            "id": port.id.to_string(),
            "device_id": self.record.uuid.to_string(),
            "device_owner": "compute:nova",
            "mac_address": port.mac_address.to_string(),
            "fixed_ips": fixed,
            "allowed_address_pairs": pairs,
            "port_security_enabled": port.port_security,
            "security_groups": [uuid("group", 0)],
            "network_id": port.network.id,
            "binding:host_id": self.host,
            "binding:vnic_type": "normal",
            "binding:vif_type": &*port.vif_type,
        })
    }

    /// Returns the ids of its ports.
    pub(super) fn port_ids(&self) -> impl Iterator<Item = Uuid> {
        self.record.ports.iter().map(|port| port.id.0)
    }
}

/// Returns what Nova shows of every server here.
fn same() -> Value {
    json!({
        "user_id": "b730db4ce4f74313946610d07be97ab9",
        "hostId": "d4b1c8f9a1f0f3f5f0a2c1e58c7d1f0a5b1f9d0e6f7c3b2a1d0e9f8c",
        "created": "2026-11-01T10:00:00Z",
        "accessIPv4": "",
        "accessIPv6": "",
        "progress": 0,
        "config_drive": "",
        "locked": false,
        "locked_reason": null,
        "description": null,
        "tags": [],
        "trusted_image_certificates": null,
        "host_status": "UP",
        "server_groups": [],
        "OS-DCF:diskConfig": "MANUAL",
        "OS-SRV-USG:launched_at": "2026-11-01T10:03:00.000000",
        "OS-SRV-USG:terminated_at": null,
        "OS-EXT-SRV-ATTR:instance_name": "instance-00000001",
        "OS-EXT-SRV-ATTR:kernel_id": "",
        "OS-EXT-SRV-ATTR:ramdisk_id": "",
        "OS-EXT-STS:vm_state": "active",
        "OS-EXT-STS:power_state": 1,
        "os-extended-volumes:volumes_attached": [],
    })
}

/// Returns the floating IPs of a port.
pub(super) fn floating(port: &PortRecord) -> impl Iterator<Item = std::net::IpAddr> {
    port.fixed_ips.iter().flat_map(|fixed| &fixed.floating_ips).map(metadata_user::record::Address::ip)
}
