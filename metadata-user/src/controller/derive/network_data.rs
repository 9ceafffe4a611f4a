//! `network_data.json`, read: links with their networks, and the list of name servers.
//!
//! Left out: what a document would show in another form. A text with it is none of ours, and is kept as a page.

use std::net::IpAddr;

use ipnet::{IpNet, ip_mask_to_prefix};
use serde_json::{Map, Value};
use uuid::Uuid;

use super::injected::network;
use crate::record::{Address, MacAddress, PortId, Route};

/// Most links that are read: several times what an instance can have.
const MOST: usize = 256;

/// A link.
#[derive(Clone, Debug)]
pub(super) struct Link {
    pub(super) name: Box<str>,
    pub(super) port: PortId,
    pub(super) kind: Box<str>,
    pub(super) mtu: Option<u32>,
    pub(super) mac_address: MacAddress,
    /// At most one of each IP version, IPv4 first.
    pub(super) networks: Vec<Entry>,
}

/// A network of a link.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub(super) is_ipv4: bool,
    pub(super) mode: Mode,
    /// What is shown of it, unless the guest asks a DHCP server for that.
    pub(super) settings: Option<Settings>,
    pub(super) network: Uuid,
}

/// How a guest gets its address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mode {
    Static,
    Dhcp,
    /// As `ipv6_address_mode` says.
    Named(&'static str),
}

/// A network's settings.
#[derive(Clone, Debug)]
pub(super) struct Settings {
    pub(super) address: Address,
    pub(super) cidr: IpNet,
    pub(super) gateway: Option<Address>,
    pub(super) routes: Vec<Route>,
    pub(super) servers: Vec<Address>,
}

/// The whole.
#[derive(Clone, Debug)]
pub(super) struct NetworkData {
    pub(super) links: Vec<Link>,
    pub(super) servers: Vec<Address>,
}

/// Reads it; `None` if it is of another form.
pub(super) fn read(data: &Map<String, Value>) -> Option<NetworkData> {
    let list = |name: &str| data.get(name)?.as_array();
    if list("links")?.len() > MOST {
        return None;
    }
    let mut networks = list("networks")?.iter().peekable();
    let mut links = Vec::new();
    for value in list("links")? {
        let mut link = link(value)?;
        let is_of_link = |network: &&Value| text(network, "link") == Some(&*link.name);
        while let Some(value) = networks.next_if(is_of_link) {
            let entry = entry(value)?;
            // IPv4 before IPv6, and one of each.
            if link.networks.last().is_some_and(|last: &Entry| !last.is_ipv4 || entry.is_ipv4) {
                return None;
            }
            link.networks.push(entry);
        }
        if links.iter().any(|other: &Link| other.port == link.port) {
            return None;
        }
        links.push(link);
    }
    if networks.next().is_some() {
        return None;
    }
    Some(NetworkData { links, servers: servers(list("services")?)? })
}

fn text<'a>(value: &'a Value, name: &str) -> Option<&'a str> {
    value.get(name)?.as_str()
}

fn link(value: &Value) -> Option<Link> {
    Some(Link {
        name: text(value, "id")?.into(),
        port: text(value, "vif_id")?.parse().ok()?,
        kind: text(value, "type")?.into(),
        mtu: match value.get("mtu")? {
            Value::Null => None,
            mtu => Some(mtu.as_u64()?.try_into().ok()?),
        },
        mac_address: text(value, "ethernet_mac_address")?.parse().ok()?,
        networks: Vec::new(),
    })
}

fn entry(value: &Value) -> Option<Entry> {
    let kind = text(value, "type")?;
    let (is_ipv4, mode) = match kind.strip_prefix("ipv4") {
        Some(mode) => (true, mode),
        None => (false, kind.strip_prefix("ipv6")?),
    };
    let mode = match mode {
        "" => Mode::Static,
        "_dhcp" => Mode::Dhcp,
        "_slaac" => Mode::Named("slaac"),
        "_dhcpv6-stateful" => Mode::Named("dhcpv6-stateful"),
        "_dhcpv6-stateless" => Mode::Named("dhcpv6-stateless"),
        _ => return None,
    };
    let settings = if mode == Mode::Dhcp { None } else { Some(settings(value, is_ipv4)?) };
    Some(Entry { is_ipv4, mode, settings, network: text(value, "network_id")?.parse().ok()? })
}

fn settings(value: &Value, is_ipv4: bool) -> Option<Settings> {
    let address: Address = text(value, "ip_address")?.parse().ok()?;
    let netmask: IpAddr = text(value, "netmask")?.parse().ok()?;
    if netmask.is_ipv4() != is_ipv4 {
        return None;
    }
    let prefix = ip_mask_to_prefix(netmask).ok()?;
    // An address may be in a subnet of the other IP version, by its `subnet_id`.
    let cidr = if address.ip().is_ipv4() == is_ipv4 {
        network(address.ip(), prefix)?
    } else {
        IpNet::new(unspecified(is_ipv4), prefix).ok()?
    };
    let mut routes = value.get("routes")?.as_array()?.iter().map(route).collect::<Option<Vec<_>>>()?;
    let is_default = |route: &Route| {
        route.destination.prefix_len() == 0 && route.destination.addr().is_ipv4() == is_ipv4 && route.nexthop.is_some()
    };
    let gateway = routes.first().filter(|route| is_default(route)).and_then(|route| route.nexthop.clone());
    if gateway.is_some() {
        routes.remove(0);
    }
    Some(Settings { address, cidr, gateway, routes, servers: servers(value.get("services")?.as_array()?)? })
}

fn route(value: &Value) -> Option<Route> {
    let destination: IpAddr = text(value, "network")?.parse().ok()?;
    let prefix = ip_mask_to_prefix(text(value, "netmask")?.parse().ok()?).ok()?;
    Some(Route {
        destination: network(destination, prefix)?,
        nexthop: match value.get("gateway")? {
            Value::Null => None,
            gateway => Some(gateway.as_str()?.parse().ok()?),
        },
    })
}

fn servers(services: &[Value]) -> Option<Vec<Address>> {
    services.iter().map(|service| text(service, "address")?.parse().ok()).collect()
}

/// Returns the address that means none, of an IP version.
pub(super) fn unspecified(is_ipv4: bool) -> IpAddr {
    if is_ipv4 { std::net::Ipv4Addr::UNSPECIFIED.into() } else { std::net::Ipv6Addr::UNSPECIFIED.into() }
}
