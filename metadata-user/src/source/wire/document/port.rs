//! The document's fields of a port and its network.

use schemars::JsonSchema;
use serde::Deserialize;

use crate::source::wire::value::{
    AddressOrCidrText, CidrText, IpText, MacText, UuidText, nullable, optional_choice, or_default, or_true,
};

/// A port: one network interface.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::source::wire) struct PortDocument {
    /// The port's UUID.
    pub(in crate::source::wire) id: UuidText,

    /// The guest's MAC address on this port.
    pub(in crate::source::wire) mac_address: MacText,

    /// The guest's addresses. Default: none.
    #[serde(default, deserialize_with = "or_default")]
    #[schemars(with = "Option<Vec<FixedIpDocument>>")]
    pub(in crate::source::wire) fixed_ips: Vec<FixedIpDocument>,

    /// The name of the port's tap on the node, at most 15 bytes. Default: `tap` and the first 11 characters of the port's
    /// id. Null: that tap too, but guests read `interface0` and so on as the link's name.
    #[serde(default, deserialize_with = "nullable")]
    #[schemars(with = "Option<String>", length(min = 1, max = 15))]
    pub(in crate::source::wire) tap: Option<Option<Box<str>>>,

    /// Nova's name for `tap`; one of the two is enough.
    #[serde(default, deserialize_with = "nullable")]
    #[schemars(with = "Option<String>", length(min = 1, max = 15))]
    pub(in crate::source::wire) devname: Option<Option<Box<str>>>,

    /// How the port is plugged, as Nova names it: `ovs`, `bridge`, `tap` and so on. Default: `tap`.
    #[serde(default)]
    pub(in crate::source::wire) vif_type: Option<Box<str>>,

    /// Whether the guest is held to its own MAC and IP addresses. Default: true.
    #[serde(default = "yes", deserialize_with = "or_true")]
    #[schemars(with = "Option<bool>")]
    pub(in crate::source::wire) port_security: bool,

    /// Further addresses that the guest may use. Default: none.
    #[serde(default, deserialize_with = "or_default")]
    #[schemars(with = "Option<Vec<AddressPairDocument>>")]
    pub(in crate::source::wire) allowed_address_pairs: Vec<AddressPairDocument>,

    /// The names of the port's security groups. Default: none.
    #[serde(default, deserialize_with = "or_default")]
    #[schemars(with = "Option<Vec<Box<str>>>")]
    pub(in crate::source::wire) security_groups: Vec<Box<str>>,

    /// Whether guests see the port in their network data. A port that is not listed still identifies the guest. Default:
    /// true.
    #[serde(default = "yes", deserialize_with = "or_true")]
    #[schemars(with = "Option<bool>")]
    pub(in crate::source::wire) listed: bool,

    /// The port's network. Default: one whose addresses the guest gets by DHCP.
    #[serde(default, deserialize_with = "or_default")]
    #[schemars(with = "Option<NetworkDocument>")]
    pub(in crate::source::wire) network: NetworkDocument,
}

fn yes() -> bool {
    true
}

/// An address of the guest.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::source::wire) struct FixedIpDocument {
    /// The address.
    pub(in crate::source::wire) ip_address: IpText,

    /// The `id` of its subnet. Default: the first subnet of the network that holds the address.
    #[serde(default)]
    pub(in crate::source::wire) subnet_id: Option<Box<str>>,

    /// Public addresses that lead to it. Default: none.
    #[serde(default, deserialize_with = "or_default")]
    #[schemars(with = "Option<Vec<IpText>>")]
    pub(in crate::source::wire) floating_ips: Vec<IpText>,
}

/// An address, or a network of them, that the guest may use beside its own.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::source::wire) struct AddressPairDocument {
    /// The address or network.
    pub(in crate::source::wire) ip_address: AddressOrCidrText,

    /// The MAC address that goes with it. Default: the port's.
    #[serde(default)]
    pub(in crate::source::wire) mac_address: Option<MacText>,
}

/// A network as one port sees it.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::source::wire) struct NetworkDocument {
    /// The network's UUID. Default: all zeros.
    #[serde(default)]
    pub(in crate::source::wire) id: Option<UuidText>,

    /// Its MTU. Default: unknown (null).
    #[serde(default)]
    pub(in crate::source::wire) mtu: Option<u32>,

    /// Whether guests also get its settings as a Debian interfaces file (Nova's `flat_injected`). Default: false.
    #[serde(default, deserialize_with = "or_default")]
    #[schemars(with = "Option<bool>")]
    pub(in crate::source::wire) injected: bool,

    /// Its subnets; guests see the first IPv4 and the first IPv6 one. Default: one with DHCP for each IP version that the
    /// port has an address of.
    #[serde(default)]
    pub(in crate::source::wire) subnets: Option<Vec<SubnetDocument>>,
}

/// A subnet.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::source::wire) struct SubnetDocument {
    /// A name for `subnet_id` to refer to. Default: none.
    #[serde(default)]
    pub(in crate::source::wire) id: Option<Box<str>>,

    /// Its addresses.
    pub(in crate::source::wire) cidr: CidrText,

    /// Its router. Default: none.
    #[serde(default)]
    pub(in crate::source::wire) gateway_ip: Option<IpText>,

    /// Its name servers, in order. Default: none.
    #[serde(default, deserialize_with = "or_default")]
    #[schemars(with = "Option<Vec<IpText>>")]
    pub(in crate::source::wire) dns_nameservers: Vec<IpText>,

    /// Its further routes, in order. Default: none.
    #[serde(default, deserialize_with = "or_default")]
    #[schemars(with = "Option<Vec<RouteDocument>>")]
    pub(in crate::source::wire) host_routes: Vec<RouteDocument>,

    /// Whether DHCP is on: guests are then configured to use it, and do not see the address. Default: true.
    #[serde(default = "yes", deserialize_with = "or_true")]
    #[schemars(with = "Option<bool>")]
    pub(in crate::source::wire) enable_dhcp: bool,

    /// The address of the DHCP server, where Neutron has a port for it. With it guests do not see the MTU. Default:
    /// none.
    #[serde(default)]
    pub(in crate::source::wire) dhcp_server: Option<IpText>,

    /// How an IPv6 guest gets its address. Default: not recorded.
    #[serde(default, deserialize_with = "optional_choice")]
    pub(in crate::source::wire) ipv6_address_mode: Option<Ipv6AddressMode>,
}

/// How an IPv6 guest gets its address.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub(in crate::source::wire) enum Ipv6AddressMode {
    /// From router advertisements.
    Slaac,
    /// From a DHCPv6 server.
    Dhcpv6Stateful,
    /// From router advertisements, with the rest from a DHCPv6 server.
    Dhcpv6Stateless,
}

/// A route.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::source::wire) struct RouteDocument {
    /// Where to.
    pub(in crate::source::wire) destination: CidrText,

    /// Through which router. Default: unknown (null).
    #[serde(default)]
    pub(in crate::source::wire) nexthop: Option<IpText>,
}
