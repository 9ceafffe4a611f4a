//! What Neutron says of ports: the fields that count here, and how they are read. Pure.

use std::net::IpAddr;

use serde::Deserialize;
use serde_json::Value;
use uuid::Uuid;

use super::server::Link;
use crate::record::{MacAddress, PortId};

/// A port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Port {
    /// Its id.
    pub id: PortId,
    /// What it belongs to: an instance's id, for those of compute.
    pub device_id: String,
    /// The kind of that: `compute:` and an availability zone, for instances.
    pub device_owner: String,
    /// Its MAC address.
    pub mac: MacAddress,
    /// Its addresses.
    pub fixed_ips: Vec<IpAddr>,
    /// Further addresses that it may send from, networks included.
    pub allowed_address_pairs: Vec<AllowedPair>,
    /// Whether it may only send from these; `None`: Neutron has no port security.
    pub port_security: Option<bool>,
    /// Ids of its security groups.
    pub security_groups: Vec<String>,
    /// Its network.
    pub network_id: String,
    /// The compute host that it is bound to, or being bound to.
    pub host: Option<String>,
    /// How the guest sees it: `normal`, `direct`, …
    pub vnic_type: String,
    /// How the host has it: `ovs`, `bridge`, `vhostuser`, `unbound`, …
    pub vif_type: String,
    /// Name of its tap on the host, where it has one: as Nova and Neutron make it from the id.
    pub devname: Option<String>,
}

/// An address pair.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AllowedPair {
    /// Address, or network in CIDR form.
    pub address: String,
    /// MAC address, if not the port's.
    pub mac: Option<MacAddress>,
}

impl Port {
    /// Returns whether it is a port of an instance.
    #[must_use]
    pub fn is_of_instance(&self) -> bool {
        self.device_owner.starts_with("compute:")
    }
}

/// Fields that Neutron is asked for.
pub(super) const FIELDS: [&str; 12] = [
    "id",
    "device_id",
    "device_owner",
    "mac_address",
    "fixed_ips",
    "allowed_address_pairs",
    "port_security_enabled",
    "security_groups",
    "network_id",
    "binding:host_id",
    "binding:vnic_type",
    "binding:vif_type",
];

/// Length of a tap's name (Linux: 15 bytes; Nova: 14).
const DEVNAME: usize = 14;

/// A page of `GET /ports`.
#[derive(Debug, Deserialize)]
pub(super) struct PortsAnswer {
    pub(super) ports: Vec<PortFields>,
    #[serde(default)]
    ports_links: Vec<Link>,
}

impl PortsAnswer {
    /// Returns the query of the next page, which may name another host than the endpoint's.
    pub(super) fn next(&self) -> Option<&str> {
        let next = self.ports_links.iter().find(|link| link.rel == "next")?;
        next.href.split_once('?').map(|(_, query)| query)
    }
}

/// `GET /floatingips`.
#[derive(Debug, Deserialize)]
pub(super) struct FloatingIpsAnswer {
    pub(super) floatingips: Vec<FloatingIpFields>,
}

#[derive(Debug, Deserialize)]
pub(super) struct FloatingIpFields {
    pub(super) floating_ip_address: IpAddr,
}

/// `GET /ports/{id}`.
#[derive(Debug, Deserialize)]
pub(super) struct PortAnswer {
    pub(super) port: PortFields,
}

#[derive(Debug, Deserialize)]
pub(super) struct PortFields {
    id: Uuid,
    #[serde(default)]
    device_id: String,
    #[serde(default)]
    device_owner: String,
    mac_address: String,
    #[serde(default)]
    fixed_ips: Vec<FixedIpFields>,
    #[serde(default)]
    allowed_address_pairs: Vec<PairFields>,
    #[serde(default)]
    port_security_enabled: Option<bool>,
    #[serde(default)]
    security_groups: Vec<String>,
    #[serde(default)]
    network_id: String,
    #[serde(default, rename = "binding:host_id")]
    host: Option<Value>,
    #[serde(default, rename = "binding:vnic_type")]
    vnic_type: Option<String>,
    #[serde(default, rename = "binding:vif_type")]
    vif_type: Option<String>,
}

#[derive(Debug, Deserialize)]
struct FixedIpFields {
    ip_address: IpAddr,
}

#[derive(Debug, Deserialize)]
struct PairFields {
    ip_address: String,
    #[serde(default)]
    mac_address: Option<String>,
}

/// Neutron does not show bindings: only a role that policy allows sees them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum PortProblem {
    /// Policy hides the binding.
    BindingHidden,
    /// The MAC address is none.
    Mac,
}

impl PortFields {
    pub(super) fn port(self) -> Result<Port, PortProblem> {
        let vif_type = self.vif_type.ok_or(PortProblem::BindingHidden)?;
        let mac = self.mac_address.parse().map_err(|_| PortProblem::Mac)?;
        let pairs = self.allowed_address_pairs.into_iter().map(|pair| {
            let other = pair.mac_address.and_then(|mac| mac.parse().ok()).filter(|other| *other != mac);
            AllowedPair { address: pair.ip_address, mac: other }
        });
        let host = self.host.as_ref().and_then(Value::as_str).filter(|host| !host.is_empty());
        Ok(Port {
            id: PortId(self.id),
            device_id: self.device_id,
            device_owner: self.device_owner,
            mac,
            fixed_ips: self.fixed_ips.iter().map(|fixed| fixed.ip_address).collect(),
            allowed_address_pairs: pairs.collect(),
            port_security: self.port_security_enabled,
            security_groups: self.security_groups,
            network_id: self.network_id,
            host: host.map(str::to_owned),
            vnic_type: self.vnic_type.unwrap_or_default(),
            devname: devname(&vif_type, self.id),
            vif_type,
        })
    }
}

/// Returns the name of a port's tap, for the kinds that have one.
fn devname(vif_type: &str, id: Uuid) -> Option<String> {
    matches!(vif_type, "ovs" | "bridge" | "tap" | "midonet" | "distributed" | "ethernet").then(|| {
        let mut name = format!("tap{id}");
        name.truncate(DEVNAME);
        name
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const PORT: &str = r#"{"id": "ce531f90-199f-48c0-816c-13e38010b442", "device_id": "d", "device_owner": "compute:nova",
        "mac_address": "FA:16:3E:00:00:01", "fixed_ips": [{"subnet_id": "s", "ip_address": "10.0.0.5"}],
        "allowed_address_pairs": [{"ip_address": "10.9.0.0/24", "mac_address": "fa:16:3e:00:00:01"},
            {"ip_address": "10.0.0.9", "mac_address": "fa:16:3e:00:00:02"}],
        "port_security_enabled": true, "security_groups": ["g"], "network_id": "n", "binding:host_id": "cmp1",
        "binding:vnic_type": "normal", "binding:vif_type": "ovs"}"#;

    fn read(text: &str) -> Result<Port, PortProblem> {
        serde_json::from_str::<PortFields>(text).expect("fields").port()
    }

    #[test]
    fn a_port_is_read() {
        let port = read(PORT).expect("a port");
        assert_eq!((port.devname.as_deref(), port.host.as_deref()), (Some("tapce531f90-19"), Some("cmp1")));
        assert_eq!(port.allowed_address_pairs[0].mac, None, "it is the port's own");
        assert!(port.allowed_address_pairs[1].mac.is_some() && port.is_of_instance());
        let unbound = PORT.replace("\"ovs\"", "\"unbound\"").replace("\"cmp1\"", "\"\"");
        let unbound = read(&unbound).expect("a port");
        assert_eq!((unbound.devname, unbound.host), (None, None));
    }

    #[test]
    fn a_hidden_binding_is_no_port_without_one() {
        assert_eq!(read(&PORT.replace("binding:vif_type", "x")), Err(PortProblem::BindingHidden));
    }

    #[test]
    fn the_next_page_is_a_query() {
        let text = r#"{"ports": [], "ports_links": [{"rel": "previous", "href": "http://x/v2.0/ports?a=b"},
            {"rel": "next", "href": "http://internal:9696/v2.0/ports?limit=2&marker=c"}]}"#;
        let answer: PortsAnswer = serde_json::from_str(text).expect("an answer");
        assert_eq!(answer.next(), Some("limit=2&marker=c"));
    }
}
