//! An instance's ports and the networks they are on.

use ipnet::IpNet;
use uuid::Uuid;

use super::{Address, MacAddress, PortId, host_net};

/// A port: one network interface of an instance.
#[derive(Clone, Debug, PartialEq)]
pub struct PortRecord {
    /// The port.
    pub id: PortId,
    /// The guest's Ethernet address on it.
    pub mac_address: MacAddress,
    /// The name of its tap, as the controller recorded it. See [`PortRecord::device_name`] for where none is recorded.
    pub tap: Option<Box<str>>,
    /// Whether the guest may send only from its own addresses (Neutron's port security).
    pub port_security: bool,
    /// Whether guests see this port in their network data. A port that is not listed still identifies the guest.
    pub listed: bool,
    /// How the port is plugged: Nova's `vif_type`.
    pub vif_type: Box<str>,
    /// The guest's addresses, in order.
    pub fixed_ips: Vec<FixedIp>,
    /// Further addresses the guest may use.
    pub allowed_address_pairs: Vec<AddressPair>,
    /// Names of the port's security groups.
    pub security_groups: Vec<Box<str>>,
    /// The network.
    pub network: NetworkRecord,
}

impl PortRecord {
    /// Returns the name of the port's tap: the recorded name, or `tap` and the first 11 characters of the port's id.
    #[must_use]
    pub fn device_name(&self) -> String {
        match &self.tap {
            Some(name) => name.to_string(),
            None => Self::default_device_name(self.id),
        }
    }

    /// Returns the name that Neutron's and OVN's agents give to a port's tap.
    #[must_use]
    pub fn default_device_name(id: PortId) -> String {
        let mut text = id.to_string();
        text.truncate(11);
        format!("tap{text}")
    }

    /// Returns the guest's addresses in the order of the network's subnets, as Nova walks them.
    pub fn addresses(&self) -> impl Iterator<Item = &FixedIp> {
        let indices = self.network.subnets.iter().flat_map(|subnet| &subnet.fixed_ips);
        indices.filter_map(|&index| self.fixed_ips.get(index))
    }

    /// Returns the addresses from which the guest may send: its fixed addresses with the port's MAC, and the pairs.
    #[must_use]
    pub fn sources(&self) -> Vec<(MacAddress, IpNet)> {
        let fixed = self.fixed_ips.iter().map(|ip| (self.mac_address, host_net(ip.ip_address.ip())));
        let pairs = self
            .allowed_address_pairs
            .iter()
            .map(|pair| (pair.mac_address.unwrap_or(self.mac_address), pair.ip_address));
        fixed.chain(pairs).collect()
    }
}

/// An address of the guest.
#[derive(Clone, Debug, PartialEq)]
pub struct FixedIp {
    /// The address.
    pub ip_address: Address,
    /// Public addresses that lead to it.
    pub floating_ips: Vec<Address>,
}

/// An address, or a network of them, that the guest may use beside its own.
#[derive(Clone, Debug, PartialEq)]
pub struct AddressPair {
    /// The addresses.
    pub ip_address: IpNet,
    /// The Ethernet address that goes with them; `None` is the port's.
    pub mac_address: Option<MacAddress>,
}

/// A network, as one port sees it.
#[derive(Clone, Debug, PartialEq)]
pub struct NetworkRecord {
    /// The network.
    pub id: Uuid,
    /// Its MTU.
    pub mtu: Option<u32>,
    /// Whether its settings are written to a file for the guest (Nova's `flat_injected`).
    pub injected: bool,
    /// Its subnets, in order.
    pub subnets: Vec<SubnetRecord>,
}

/// A subnet, as one port sees it.
#[derive(Clone, Debug, PartialEq)]
pub struct SubnetRecord {
    /// Its addresses.
    pub cidr: IpNet,
    /// Its router.
    pub gateway_ip: Option<Address>,
    /// Its name servers, in order.
    pub dns_nameservers: Vec<Address>,
    /// Its further routes, in order.
    pub host_routes: Vec<Route>,
    /// Whether DHCP is on.
    pub enable_dhcp: bool,
    /// Whether a DHCP server's address is recorded: there is one with Neutron's DHCP agent, none with OVN.
    pub dhcp_server: bool,
    /// How an IPv6 guest gets its address: Neutron's `ipv6_address_mode`.
    pub ipv6_address_mode: Option<&'static str>,
    /// The port's addresses in this subnet: indices into [`PortRecord::fixed_ips`].
    pub fixed_ips: Vec<usize>,
}

/// A route.
#[derive(Clone, Debug, PartialEq)]
pub struct Route {
    /// Where to.
    pub destination: IpNet,
    /// Through which router.
    pub nexthop: Option<Address>,
}
