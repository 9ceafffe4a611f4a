//! What the file of an injected network says: it has addresses that `network_data.json` leaves to DHCP.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr};

use ipnet::{IpNet, ipv4_mask_to_prefix};

use crate::record::Address;

/// The settings of one interface and IP version.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Block {
    pub(super) address: Address,
    pub(super) cidr: IpNet,
    pub(super) gateway: Option<Address>,
    pub(super) servers: Vec<Address>,
}

/// What a file says.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Injected {
    /// The numbers of the interfaces in it.
    pub(super) interfaces: Vec<usize>,
    /// By number, and whether it is IPv4.
    pub(super) blocks: HashMap<(usize, bool), Block>,
}

/// Reads the file. What makes no sense is passed over.
pub(super) fn read(text: &str) -> Injected {
    let mut injected = Injected::default();
    let mut lines = text.lines().peekable();
    while let Some(line) = lines.next() {
        let words: Vec<&str> = line.split(' ').collect();
        match words[..] {
            ["auto", name] => injected.interfaces.extend(number(name)),
            ["iface", name, family @ ("inet" | "inet6"), "static"] => {
                let mut fields: HashMap<&str, &str> = HashMap::new();
                while let Some(field) = lines.next_if(|line| line.starts_with("    ")) {
                    let (name, value) = field.trim_start().split_once(' ').unwrap_or_default();
                    fields.insert(name, value);
                }
                if let Some((number, block)) = number(name).zip(block(&fields, family == "inet")) {
                    injected.blocks.insert((number, family == "inet"), block);
                }
            }
            _ => {}
        }
    }
    injected
}

fn number(name: &str) -> Option<usize> {
    name.strip_prefix("eth")?.parse().ok()
}

fn block(fields: &HashMap<&str, &str>, is_ipv4: bool) -> Option<Block> {
    let address: Address = fields.get("address")?.parse().ok()?;
    let netmask = fields.get("netmask")?;
    let prefix =
        if is_ipv4 { ipv4_mask_to_prefix(netmask.parse::<Ipv4Addr>().ok()?).ok()? } else { netmask.parse().ok()? };
    let broadcast = fields.get("broadcast").and_then(|broadcast| broadcast.parse().ok());
    let servers = fields.get("dns-nameservers").map(|servers| servers.split(' ').map(str::parse).collect());
    Some(Block {
        // The broadcast address is the subnet's also where the guest's address is not in it.
        cidr: network(broadcast.unwrap_or(address.ip()), prefix)?,
        address,
        gateway: fields.get("gateway").map(|gateway| gateway.parse()).transpose().ok()?,
        servers: servers.transpose().ok()?.unwrap_or_default(),
    })
}

/// Returns the network of an address.
pub(super) fn network(address: IpAddr, prefix: u8) -> Option<IpNet> {
    IpNet::new(address, prefix).ok().map(|network| network.trunc())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_are_read_and_the_rest_is_passed_over() {
        let text = "# x\nauto lo\niface lo inet loopback\n\nauto eth2\niface eth2 inet static\n    hwaddress ether \
                    fa:16:3e:00:00:01\n    address 10.0.0.5\n    netmask 255.255.255.0\n    broadcast 10.0.0.255\n    \
                    gateway 10.0.0.1\n    dns-nameservers 1.1.1.1 8.8.8.8\niface eth2 inet6 static\n    address 2001:DB8::5\n    \
                    netmask 64\niface eth3 inet static\n    address x\n";
        let injected = read(text);
        assert_eq!(injected.interfaces, [2]);
        let address = |text: &str| text.parse::<Address>().unwrap();
        let v4 = &injected.blocks[&(2, true)];
        assert_eq!((v4.cidr.to_string(), v4.servers.len()), ("10.0.0.0/24".to_owned(), 2));
        assert_eq!((&v4.address, v4.gateway.as_ref()), (&address("10.0.0.5"), Some(&address("10.0.0.1"))));
        let v6 = &injected.blocks[&(2, false)];
        assert_eq!(
            (v6.address.to_string(), v6.cidr.to_string()),
            ("2001:DB8::5".to_owned(), "2001:db8::/64".to_owned())
        );
        assert_eq!(injected.blocks.len(), 2);
    }
}
