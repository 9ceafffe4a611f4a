//! Ports and their networks.

use std::net::IpAddr;

use ipnet::IpNet;
use uuid::Uuid;

use super::super::document::{PortDocument, SubnetDocument};
use super::super::error::Fault;
use super::super::excerpt::quoted;
use super::super::place::Step;
use super::{fault, mode_name, subnets};
use crate::record::{AddressPair, FixedIp, NetworkRecord, PortId, PortRecord, Route, SubnetRecord};

/// The longest name of a network device: IFNAMSIZ without its final zero.
const DEVICE_NAME_LIMIT: usize = 15;

/// Makes a port's record.
pub(super) fn record(port: PortDocument, at: &[Step]) -> Result<PortRecord, Fault> {
    let id = PortId(port.id.0);
    let (key, tap) = match (port.tap, port.devname) {
        (Some(Some(tap)), Some(Some(devname))) if tap != devname => {
            let problem = format!("\"tap\" is {} and \"devname\" is {}", quoted(&tap), quoted(&devname));
            return Err(fault(below(at, ["tap"]), problem, "both name the port's tap: keep one of them"));
        }
        (Some(Some(tap)), _) => ("tap", Some(tap)),
        (_, Some(Some(devname))) => ("devname", Some(devname)),
        (None, None) => ("tap", Some(PortRecord::default_device_name(id).into())),
        (Some(None), _) | (_, Some(None)) => ("tap", None),
    };
    if let Some(name) = &tap
        && !is_device_name(name)
    {
        let problem = format!("{} is not the name of a network device", quoted(name));
        return Err(fault(below(at, [key]), problem, "write 1 to 15 bytes without slashes, colons and blanks"));
    }
    let index = subnets::Index::of(port.network.subnets.as_deref().unwrap_or_default());
    let mut subnets: Vec<SubnetRecord> = match port.network.subnets {
        Some(subnets) => subnets.into_iter().map(subnet).collect(),
        None => implied_subnets(port.fixed_ips.iter().map(|ip| ip.ip_address.0.ip())),
    };
    let mut fixed_ips = Vec::with_capacity(port.fixed_ips.len());
    for (number, ip) in port.fixed_ips.into_iter().enumerate() {
        let at = |field: &str| below(at, [Step::from("fixed_ips"), number.into(), field.into()]);
        let address = ip.ip_address.0;
        let outside = |remedy| {
            let problem = format!("{address} is in none of the network's subnets");
            fault(at("ip_address"), problem, remedy)
        };
        let place = match &ip.subnet_id {
            Some(wanted) => index.with_id(wanted).ok_or_else(|| {
                let problem = format!("no subnet has the id {}", quoted(wanted));
                fault(at("subnet_id"), problem, "give that id to a subnet of network")
            })?,
            None if index.is_empty() => {
                let is_of_family = |subnet: &SubnetRecord| subnet.cidr.addr().is_ipv4() == address.ip().is_ipv4();
                subnets
                    .iter()
                    .position(is_of_family)
                    .ok_or_else(|| outside("add its subnet to network.subnets, or leave that out"))?
            }
            None => index
                .that_holds(address.ip())
                .ok_or_else(|| outside("correct the address, or add its subnet to network.subnets"))?,
        };
        subnets[place].fixed_ips.push(number);
        let floating_ips = ip.floating_ips.into_iter().map(|ip| ip.0).collect();
        fixed_ips.push(FixedIp { ip_address: address, floating_ips });
    }
    let pairs = port
        .allowed_address_pairs
        .into_iter()
        .map(|pair| AddressPair { ip_address: pair.ip_address.0, mac_address: pair.mac_address.map(|mac| mac.0) });
    Ok(PortRecord {
        id,
        mac_address: port.mac_address.0,
        tap,
        port_security: port.port_security,
        listed: port.listed,
        vif_type: port.vif_type.unwrap_or_else(|| "tap".into()),
        fixed_ips,
        allowed_address_pairs: pairs.collect(),
        security_groups: port.security_groups,
        network: NetworkRecord {
            id: port.network.id.map_or(Uuid::nil(), |id| id.0),
            mtu: port.network.mtu,
            injected: port.network.injected,
            subnets,
        },
    })
}

fn below<S: Into<Step>>(at: &[Step], steps: impl IntoIterator<Item = S>) -> Vec<Step> {
    at.iter().cloned().chain(steps.into_iter().map(Into::into)).collect()
}

/// Tells whether a network device can have this name.
pub(in crate::source::wire) fn is_device_name(name: &str) -> bool {
    let is_plain = |c: char| !c.is_whitespace() && !c.is_control() && c != '/' && c != ':';
    (1..=DEVICE_NAME_LIMIT).contains(&name.len()) && name != "." && name != ".." && name.chars().all(is_plain)
}

fn subnet(subnet: SubnetDocument) -> SubnetRecord {
    let routes = subnet
        .host_routes
        .into_iter()
        .map(|route| Route { destination: route.destination.0, nexthop: route.nexthop.map(|nexthop| nexthop.0) });
    SubnetRecord {
        cidr: subnet.cidr.0,
        gateway_ip: subnet.gateway_ip.map(|gateway| gateway.0),
        dns_nameservers: subnet.dns_nameservers.into_iter().map(|server| server.0).collect(),
        host_routes: routes.collect(),
        enable_dhcp: subnet.enable_dhcp,
        dhcp_server: subnet.dhcp_server.is_some(),
        ipv6_address_mode: subnet.ipv6_address_mode.map(mode_name),
        fixed_ips: Vec::new(),
    }
}

/// Returns a subnet with DHCP for each IP version among the addresses, IPv4 first.
pub(in crate::source::wire) fn implied_subnets(addresses: impl Iterator<Item = IpAddr> + Clone) -> Vec<SubnetRecord> {
    let firsts = [addresses.clone().find(IpAddr::is_ipv4), addresses.clone().find(IpAddr::is_ipv6)];
    let subnets = firsts.into_iter().flatten().map(|address| SubnetRecord {
        cidr: IpNet::from(address),
        gateway_ip: None,
        dns_nameservers: Vec::new(),
        host_routes: Vec::new(),
        enable_dhcp: true,
        dhcp_server: false,
        ipv6_address_mode: None,
        fixed_ips: Vec::new(),
    });
    subnets.collect()
}
