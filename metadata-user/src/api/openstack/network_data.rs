//! `network_data.json`.
//!
//! Of a network only the first IPv4 and the first IPv6 subnet are shown, as in Nova; ports of networks without a subnet
//! are left out.

use std::collections::HashSet;
use std::net::IpAddr;

use serde::{Serialize, Serializer};

use crate::api::json;
use crate::record::{Address, NetworkRecord, PortRecord, SubnetRecord};

/// Nova's `vif_type`s that a link shows; any other is `phy`.
const LINK_TYPES: [&str; 8] = ["bridge", "dvs", "hw_veb", "hyperv", "ovs", "tap", "vhostuser", "vif"];

/// Returns the document.
pub(in crate::api) fn render(ports: &[PortRecord]) -> Vec<u8> {
    if !ports.iter().any(|port| port.listed) {
        return b"{}".to_vec();
    }
    let mut data = NetworkData { links: Vec::new(), networks: Vec::new(), services: Vec::new() };
    let mut servers: HashSet<&Address> = HashSet::new();
    for (number, port) in with_subnets(ports).enumerate() {
        let link = match port.tap.as_deref() {
            Some(name) if !name.is_empty() => name.to_owned(),
            _ => format!("interface{number}"),
        };
        data.links.push(Link {
            id: link.clone(),
            vif_id: port.id.to_string(),
            r#type: LINK_TYPES.into_iter().find(|known| **known == *port.vif_type).unwrap_or("phy"),
            mtu: link_mtu(&port.network),
            ethernet_mac_address: port.mac_address.to_string(),
        });
        for family in Family::BOTH {
            let Some((subnet, address)) = first_subnet(port, family) else {
                continue;
            };
            let Some(address) = address else { continue };
            data.networks.push(network(port, subnet, address, family, &link, data.networks.len()));
            // A server that this very subnet names twice is listed twice; one that an earlier subnet named is not.
            data.services.extend(services(subnet).filter(|service| !servers.contains(service.address.0)));
            servers.extend(&subnet.dns_nameservers);
        }
    }
    json::to_vec(&data)
}

/// Returns the ports that guests see.
pub(super) fn with_subnets(ports: &[PortRecord]) -> impl Iterator<Item = &PortRecord> {
    ports.iter().filter(|port| port.listed && !port.network.subnets.is_empty())
}

/// An IP version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Family {
    V4,
    V6,
}

impl Family {
    pub(super) const BOTH: [Self; 2] = [Self::V4, Self::V6];

    fn of(subnet: &SubnetRecord) -> Self {
        if subnet.cidr.addr().is_ipv4() { Self::V4 } else { Self::V6 }
    }

    fn name(self) -> &'static str {
        match self {
            Self::V4 => "ipv4",
            Self::V6 => "ipv6",
        }
    }

    fn unspecified(self) -> IpAddr {
        match self {
            Self::V4 => std::net::Ipv4Addr::UNSPECIFIED.into(),
            Self::V6 => std::net::Ipv6Addr::UNSPECIFIED.into(),
        }
    }
}

/// Returns the network's first subnet of a family, with the port's first address in it.
pub(super) fn first_subnet(port: &PortRecord, family: Family) -> Option<(&SubnetRecord, Option<&Address>)> {
    let subnet = port.network.subnets.iter().find(|subnet| Family::of(subnet) == family)?;
    let address = subnet.fixed_ips.first().and_then(|&index| port.fixed_ips.get(index)).map(|ip| &ip.ip_address);
    Some((subnet, address))
}

/// The MTU is left to the DHCP server where one is recorded.
fn link_mtu(network: &NetworkRecord) -> Option<u32> {
    if network.subnets.iter().any(|subnet| subnet.dhcp_server) { None } else { network.mtu }
}

fn services(subnet: &SubnetRecord) -> impl Iterator<Item = Service<'_>> {
    subnet.dns_nameservers.iter().map(|address| Service { r#type: "dns", address: Shown(address) })
}

fn network<'a>(
    port: &PortRecord,
    subnet: &'a SubnetRecord,
    address: &'a Address,
    family: Family,
    link: &str,
    number: usize,
) -> Network<'a> {
    let id = format!("network{number}");
    let network_id = port.network.id.to_string();
    let link = link.to_owned();
    let r#type = match subnet.ipv6_address_mode {
        Some(mode) => format!("{}_{mode}", family.name()),
        None if subnet.dhcp_server || subnet.enable_dhcp => {
            return Network::Dhcp { id, r#type: format!("{}_dhcp", family.name()), link, network_id };
        }
        None => family.name().to_owned(),
    };
    let default = subnet.gateway_ip.as_ref().map(|gateway| Route {
        network: family.unspecified(),
        netmask: family.unspecified(),
        gateway: Some(Shown(gateway)),
    });
    let further = subnet.host_routes.iter().map(|route| Route {
        network: route.destination.network(),
        netmask: route.destination.netmask(),
        gateway: route.nexthop.as_ref().map(Shown),
    });
    Network::Full {
        id,
        r#type,
        link,
        ip_address: Shown(address),
        netmask: subnet.cidr.netmask(),
        routes: default.into_iter().chain(further).collect(),
        network_id,
        services: services(subnet).collect(),
    }
}

#[derive(Serialize)]
struct NetworkData<'a> {
    links: Vec<Link>,
    networks: Vec<Network<'a>>,
    services: Vec<Service<'a>>,
}

#[derive(Serialize)]
struct Link {
    id: String,
    vif_id: String,
    r#type: &'static str,
    mtu: Option<u32>,
    ethernet_mac_address: String,
}

#[derive(Serialize)]
#[serde(untagged)]
enum Network<'a> {
    /// The guest asks a DHCP server for the rest.
    Dhcp { id: String, r#type: String, link: String, network_id: String },
    Full {
        id: String,
        r#type: String,
        link: String,
        ip_address: Shown<'a>,
        netmask: IpAddr,
        routes: Vec<Route<'a>>,
        network_id: String,
        services: Vec<Service<'a>>,
    },
}

#[derive(Serialize)]
struct Route<'a> {
    network: IpAddr,
    netmask: IpAddr,
    gateway: Option<Shown<'a>>,
}

#[derive(Serialize)]
struct Service<'a> {
    r#type: &'static str,
    address: Shown<'a>,
}

/// An address as text.
struct Shown<'a>(&'a Address);

impl Serialize for Shown<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self.0)
    }
}
