//! `/openstack/content/0000`: the settings of injected networks, as a Debian interfaces file.

use std::fmt::Write as _;

use ipnet::IpNet;

use super::network_data::{Family, first_subnet, with_subnets};
use crate::record::{Address, PortRecord, SubnetRecord};

/// The start of the file: what Nova's template says.
const OPENING: &str = "\
# Injected by Nova on instance boot
#
# This file describes the network interfaces available on your system
# and how to activate them. For more information, see interfaces(5).

# The loopback network interface
auto lo
iface lo inet loopback
";

/// Returns the file; `None` if no network is injected.
pub(in crate::api) fn render(ports: &[PortRecord]) -> Option<String> {
    // Every port with a subnet takes a number, whether it is written or not.
    let written: Vec<_> = with_subnets(ports).enumerate().filter(|(_, port)| is_written(port)).collect();
    if written.is_empty() {
        return None;
    }
    let mut out = OPENING.to_owned();
    for (number, port) in written {
        let _ = write!(out, "\nauto eth{number}\n");
        for family in Family::BOTH {
            if let Some((subnet, Some(address))) = first_subnet(port, family) {
                block(&mut out, number, port, subnet, address);
            }
        }
    }
    Some(out)
}

/// A port is left to DHCP where a server is recorded; `enable_dhcp` alone does not count here.
fn is_written(port: &PortRecord) -> bool {
    port.network.injected
        && Family::BOTH
            .into_iter()
            .filter_map(|family| first_subnet(port, family))
            .all(|(subnet, _)| !subnet.dhcp_server)
}

fn block(out: &mut String, number: usize, port: &PortRecord, subnet: &SubnetRecord, address: &Address) {
    let mac = port.mac_address;
    let _ = match subnet.cidr {
        IpNet::V4(cidr) => {
            let netmask = cidr.netmask();
            // Networks of one or two addresses have no broadcast address, and Python says so.
            let broadcast = if cidr.prefix_len() < 31 { cidr.broadcast().to_string() } else { "None".to_owned() };
            write!(
                out,
                "iface eth{number} inet static\n    hwaddress ether {mac}\n    address {address}\n    netmask {netmask}\n    \
                 broadcast {broadcast}\n"
            )
        }
        IpNet::V6(cidr) => {
            let prefix = cidr.prefix_len();
            write!(
                out,
                "iface eth{number} inet6 static\n    hwaddress ether {mac}\n    address {address}\n    netmask {prefix}\n"
            )
        }
    };
    if let Some(gateway) = &subnet.gateway_ip {
        let _ = writeln!(out, "    gateway {gateway}");
    }
    if !subnet.dns_nameservers.is_empty() {
        let servers: Vec<String> = subnet.dns_nameservers.iter().map(ToString::to_string).collect();
        let _ = writeln!(out, "    dns-nameservers {}", servers.join(" "));
    }
}
