//! Ports, from what guests see of them and from Neutron.
//!
//! Promises: interfaces come in Nova's order, then Neutron's other ports by id. A port that Neutron has is as Neutron says; Nova
//! adds what only guests see: which address is shown, and the settings of its subnet.

use std::collections::HashMap;
use std::net::IpAddr;

use ipnet::IpNet;
use uuid::Uuid;

use super::answers::Answers;
use super::injected::{self, Injected};
use super::network_data::{self, Entry, Link, Mode, unspecified};
use super::{PortFacts, services};
use crate::record::{Address, AddressPair, FixedIp, NetworkRecord, PortId, PortRecord, SubnetRecord};
use crate::source::wire;

/// Returns the ports; none if neither Nova nor Neutron has any.
pub(super) fn of(answers: &Answers<'_>, facts: &[PortFacts]) -> Vec<PortRecord> {
    let by_id: HashMap<PortId, &PortFacts> = facts.iter().map(|port| (port.id, port)).collect();
    let data = answers.network_data.as_ref();
    let read = data.and_then(network_data::read);
    let injected = answers.injected().map(injected::read).unwrap_or_default();
    let mut ports = Vec::new();
    if let Some(data) = read.as_ref() {
        let mut servers = servers(&data.links, &data.servers, &injected).into_iter();
        let mut local = answers.leaf("local-ipv4").and_then(|text| text.parse::<Address>().ok());
        for (number, link) in data.links.iter().enumerate() {
            let servers: Vec<_> = servers.by_ref().take(link.networks.len()).collect();
            // It is the first IPv4 address of all.
            let local = if link.networks.iter().any(|entry| entry.is_ipv4) { local.take() } else { None };
            let link = Interface { number, link, servers, local, injected: &injected };
            ports.push(link.port(by_id.get(&link.link.port).copied()));
        }
    }
    let mut others: Vec<&PortFacts> =
        by_id.into_values().filter(|port| ports.iter().all(|listed: &PortRecord| listed.id != port.id)).collect();
    others.sort_unstable_by_key(|port| port.id);
    // Nova does not show an interface without subnets, but it is there.
    let is_shown = |port: &PortFacts| match (data, &read) {
        (Some(data), _) if data.is_empty() => false,
        (_, Some(_)) => port.fixed_ips.is_empty(),
        (_, None) => true,
    };
    ports.extend(others.into_iter().map(|port| unseen(port, is_shown(port))));
    ports
}

/// Returns the name servers of each network of each link.
fn servers(links: &[Link], list: &[Address], injected: &Injected) -> Vec<Vec<Address>> {
    let entries =
        links.iter().enumerate().flat_map(|(number, link)| link.networks.iter().map(move |entry| (number, entry)));
    let subnets: Vec<services::Subnet> = entries
        .map(|(number, entry)| {
            let block = injected.blocks.get(&(number, entry.is_ipv4)).map(|block| &block.servers);
            let servers = entry.settings.as_ref().map(|settings| &settings.servers).or(block);
            services::Subnet { is_ipv4: entry.is_ipv4, servers: servers.cloned() }
        })
        .collect();
    services::assign(&subnets, list)
        .unwrap_or_else(|| subnets.into_iter().map(|subnet| subnet.servers.unwrap_or_default()).collect())
}

/// An interface that guests see.
struct Interface<'a> {
    number: usize,
    link: &'a Link,
    /// The name servers of its networks.
    servers: Vec<Vec<Address>>,
    /// The address that the EC2 tree shows, if it is this interface's.
    local: Option<Address>,
    injected: &'a Injected,
}

impl Interface<'_> {
    fn port(&self, facts: Option<&PortFacts>) -> PortRecord {
        let Link { name, port, kind, mtu, mac_address, networks } = self.link;
        let mut left = facts.map(sorted).unwrap_or_default();
        let mut layout = Layout::default();
        for is_ipv4 in [true, false] {
            let entry = networks.iter().zip(&self.servers).find(|(entry, _)| entry.is_ipv4 == is_ipv4);
            if let Some((entry, servers)) = entry {
                let (mut subnet, shown) = self.subnet(entry, servers, &left);
                let addresses = match facts {
                    // What Neutron does not have is no address of the port's.
                    Some(_) => shown.map(|shown| take(&mut left, &shown, &subnet.cidr)).unwrap_or_default(),
                    None => shown.into_iter().collect(),
                };
                if let (Some(first), None) = (addresses.first(), &entry.settings)
                    && !self.injected.blocks.contains_key(&(self.number, is_ipv4))
                {
                    subnet.cidr = IpNet::from(first.ip());
                }
                layout.push(subnet, addresses);
            } else if left.iter().any(|ip| ip.is_ipv4() == is_ipv4) {
                // Nova shows the first subnet only, and it has no address of the port's.
                layout.push(blank(unspecified(is_ipv4)), Vec::new());
            }
        }
        for ip in left {
            layout.push(blank(ip), vec![ip.into()]);
        }
        if layout.subnets.is_empty() {
            // Without a subnet Nova would not show the interface.
            layout.push(blank(unspecified(true)), Vec::new());
        }
        let shown = networks.first().map(|entry| entry.network);
        let network = NetworkRecord {
            id: shown.or(facts.and_then(|facts| facts.network)).unwrap_or(Uuid::nil()),
            mtu: *mtu,
            injected: self.injected.interfaces.contains(&self.number),
            subnets: layout.subnets,
        };
        let tap = match &**name {
            name if name == format!("interface{}", self.number) => None,
            name if wire::is_device_name(name) => Some(name.into()),
            _ => Some(PortRecord::default_device_name(*port).into()),
        };
        PortRecord {
            id: *port,
            mac_address: facts.map_or(*mac_address, |facts| facts.mac_address),
            tap,
            port_security: facts.is_none_or(|facts| facts.port_security),
            listed: true,
            vif_type: kind.clone(),
            fixed_ips: layout.fixed_ips,
            allowed_address_pairs: facts.map(pairs).unwrap_or_default(),
            security_groups: Vec::new(),
            network,
        }
    }

    /// Returns the subnet that guests see, and the address in it that they see or ask a DHCP server for.
    fn subnet(&self, entry: &Entry, servers: &[Address], left: &[IpAddr]) -> (SubnetRecord, Option<Address>) {
        let block = self.injected.blocks.get(&(self.number, entry.is_ipv4));
        let (cidr, gateway, routes, shown) = match (&entry.settings, block) {
            (Some(settings), _) => {
                let address = Some(settings.address.clone());
                (
                    block.map_or(settings.cidr, |block| block.cidr),
                    settings.gateway.clone(),
                    settings.routes.clone(),
                    address,
                )
            }
            (None, Some(block)) => (block.cidr, block.gateway.clone(), Vec::new(), Some(block.address.clone())),
            (None, None) => {
                let of_family = || left.iter().filter(|ip| ip.is_ipv4() == entry.is_ipv4);
                let local = self.local.as_ref().filter(|local| entry.is_ipv4 && local.ip().is_ipv4());
                let is_local = |ip: &&IpAddr| local.is_some_and(|local| **ip == local.ip());
                let found = of_family().find(is_local).or_else(|| of_family().next());
                let shown = found.map(|ip| Address::from(*ip)).or_else(|| local.cloned());
                (IpNet::from(unspecified(entry.is_ipv4)), None, Vec::new(), shown)
            }
        };
        let subnet = SubnetRecord {
            cidr,
            gateway_ip: gateway,
            dns_nameservers: servers.to_vec(),
            host_routes: routes,
            enable_dhcp: entry.mode != Mode::Static,
            dhcp_server: false,
            ipv6_address_mode: match entry.mode {
                Mode::Named(mode) => Some(mode),
                Mode::Static | Mode::Dhcp => None,
            },
            fixed_ips: Vec::new(),
        };
        (subnet, shown)
    }
}

/// Takes from Neutron's addresses those of a subnet: the one that guests see, in Nova's spelling, first. None if Neutron does not
/// have it.
fn take(left: &mut Vec<IpAddr>, shown: &Address, cidr: &IpNet) -> Vec<Address> {
    let Some(place) = left.iter().position(|ip| *ip == shown.ip()) else { return Vec::new() };
    left.remove(place);
    let others = left.extract_if(.., |ip| cidr.contains(&*ip)).map(Address::from);
    std::iter::once(shown.clone()).chain(others).collect()
}

/// Returns a port of Neutron's that guests see nothing of.
fn unseen(facts: &PortFacts, listed: bool) -> PortRecord {
    let mut layout = Layout::default();
    for is_ipv4 in [true, false] {
        let of_family = sorted(facts).into_iter().filter(|ip| ip.is_ipv4() == is_ipv4);
        let addresses: Vec<Address> = of_family.map(Address::from).collect();
        if let Some(first) = addresses.first() {
            layout.push(blank(first.ip()), addresses);
        }
    }
    let tap = facts.tap.clone().filter(|name| wire::is_device_name(name));
    PortRecord {
        id: facts.id,
        mac_address: facts.mac_address,
        tap: Some(tap.unwrap_or_else(|| PortRecord::default_device_name(facts.id).into())),
        port_security: facts.port_security,
        listed,
        vif_type: "tap".into(),
        fixed_ips: layout.fixed_ips,
        allowed_address_pairs: pairs(facts),
        security_groups: Vec::new(),
        network: NetworkRecord {
            id: facts.network.unwrap_or(Uuid::nil()),
            mtu: None,
            injected: false,
            subnets: layout.subnets,
        },
    }
}

/// Addresses and the subnets that they are in.
#[derive(Default)]
struct Layout {
    fixed_ips: Vec<FixedIp>,
    subnets: Vec<SubnetRecord>,
}

impl Layout {
    fn push(&mut self, mut subnet: SubnetRecord, addresses: Vec<Address>) {
        let from = self.fixed_ips.len();
        subnet.fixed_ips = (from..from + addresses.len()).collect();
        let fixed = addresses.into_iter().map(|ip_address| FixedIp { ip_address, floating_ips: Vec::new() });
        self.fixed_ips.extend(fixed);
        self.subnets.push(subnet);
    }
}

/// Returns a subnet of which nothing is known but one address.
fn blank(address: IpAddr) -> SubnetRecord {
    SubnetRecord {
        cidr: IpNet::from(address),
        gateway_ip: None,
        dns_nameservers: Vec::new(),
        host_routes: Vec::new(),
        enable_dhcp: true,
        dhcp_server: false,
        ipv6_address_mode: None,
        fixed_ips: Vec::new(),
    }
}

/// Returns a port's addresses, ascending, each once.
fn sorted(facts: &PortFacts) -> Vec<IpAddr> {
    let mut addresses = facts.fixed_ips.clone();
    addresses.sort_unstable();
    addresses.dedup();
    addresses
}

/// Returns a port's address pairs, ascending, without MACs that are the port's own.
fn pairs(facts: &PortFacts) -> Vec<AddressPair> {
    let own = facts.mac_address;
    let pairs = facts.allowed_address_pairs.iter();
    let mut pairs: Vec<AddressPair> = pairs
        .map(|pair| AddressPair {
            ip_address: pair.ip_address,
            mac_address: pair.mac_address.filter(|mac| *mac != own),
        })
        .collect();
    pairs.sort_by_key(|pair| (pair.ip_address, pair.mac_address));
    pairs.dedup();
    pairs
}
