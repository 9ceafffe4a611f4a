//! From a port as Neutron's API has it to the facts about it.

use std::net::IpAddr;

use ipnet::IpNet;

use super::PortFacts;
use crate::controller::openstack::{AllowedPair, Port};
use crate::record::AddressPair;

impl From<&Port> for PortFacts {
    fn from(port: &Port) -> Self {
        // Neutron has checked them.
        let pair = |pair: &AllowedPair| {
            let address = pair.address.parse::<IpNet>();
            let ip_address = address.or_else(|_| pair.address.parse::<IpAddr>().map(IpNet::from)).ok()?;
            Some(AddressPair { ip_address, mac_address: pair.mac })
        };
        Self {
            id: port.id,
            mac_address: port.mac,
            fixed_ips: port.fixed_ips.clone(),
            allowed_address_pairs: port.allowed_address_pairs.iter().filter_map(pair).collect(),
            // Without the extension, Neutron filters every port.
            port_security: port.port_security.unwrap_or(true),
            network: port.network_id.parse().ok(),
            tap: port.devname.as_deref().map(Into::into),
        }
    }
}
