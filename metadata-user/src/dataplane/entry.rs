//! What the programs are given about a port, and the map value that holds it.

use std::collections::BTreeMap;

use metadata_ebpf::abi::{Limits, MAX_SOURCES, PORT_ANY_ADDRESS, PORT_HELD, PORT_LEARN, Port, Source};

use super::{DataplaneError, IfIndex};
use crate::{
    identity::Tag,
    record::{InstanceId, MacAddress},
};

/// What `from_guest` and `to_guest` are given about a port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PortEntry {
    /// Let any source through to the responder, which answers 503.
    Held,
    /// Belongs to an instance.
    Bound {
        /// The instance.
        instance: InstanceId,
        /// The port's own MAC.
        mac: MacAddress,
        /// Allowed pairs of MAC and prefix, already joined: see [`join_sources`].
        sources: Vec<(MacAddress, ipnet::IpNet)>,
        /// Any source address, with the own MAC.
        any_address: bool,
    },
}

/// Joins sources: for each MAC, prefixes inside others go and neighbours become one.
#[must_use]
pub fn join_sources(sources: &[(MacAddress, ipnet::IpNet)]) -> Vec<(MacAddress, ipnet::IpNet)> {
    let mut by_mac: BTreeMap<[u8; 6], Vec<ipnet::IpNet>> = BTreeMap::new();
    for (mac, prefix) in sources {
        by_mac.entry(mac.0).or_default().push(prefix.trunc());
    }
    by_mac
        .into_iter()
        .flat_map(|(mac, prefixes)| {
            ipnet::IpNet::aggregate(&prefixes).into_iter().map(move |prefix| (MacAddress(mac), prefix))
        })
        .collect()
}

/// Returns the map value of a port, but for its limits and place.
pub(super) fn port_value(ifindex: IfIndex, tag: Tag, entry: &PortEntry) -> Result<Port, DataplaneError> {
    let mut port = Port {
        tag: tag.0,
        ifindex: ifindex.0,
        mac: [0; 6],
        flags: PORT_HELD,
        source_count: 0,
        place: 0,
        limits: Limits::NONE,
        instance: [0; 16],
        sources: [Source::EMPTY; MAX_SOURCES],
    };
    let PortEntry::Bound { instance, mac, sources, any_address } = entry else {
        return Ok(port);
    };
    let count = sources.len();
    if count > MAX_SOURCES {
        return Err(DataplaneError::TooManySources { ifindex, count });
    }
    port.mac = mac.0;
    port.instance = instance.0.into_bytes();
    port.flags = 0;
    if *any_address {
        port.flags |= PORT_ANY_ADDRESS;
    }
    if sources.iter().any(|(other, _)| other != mac) {
        port.flags |= PORT_LEARN;
    }
    for (place, (mac, prefix)) in port.sources.iter_mut().zip(sources) {
        *place = source_value(*mac, prefix);
        port.source_count += 1;
    }
    Ok(port)
}

fn source_value(mac: MacAddress, prefix: &ipnet::IpNet) -> Source {
    let mut addr = [0; 16];
    let family = match prefix.network() {
        std::net::IpAddr::V4(network) => {
            addr[..4].copy_from_slice(&network.octets());
            4
        }
        std::net::IpAddr::V6(network) => {
            addr = network.octets();
            6
        }
    };
    Source::new(mac.0, family, addr, prefix.prefix_len())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mac(last: u8) -> MacAddress {
        MacAddress([0xfa, 0x16, 0x3e, 0, 0, last])
    }

    fn net(text: &str) -> ipnet::IpNet {
        text.parse().expect("a prefix")
    }

    #[test]
    fn sources_are_joined_for_each_mac_alone() {
        let joined = join_sources(&[
            (mac(1), net("10.0.0.0/25")),
            (mac(1), net("10.0.0.128/25")),
            (mac(1), net("10.0.0.7/32")),
            (mac(2), net("10.0.0.7/32")),
            (mac(1), net("2001:db8::5/64")),
        ]);
        assert_eq!(
            joined,
            [(mac(1), net("10.0.0.0/24")), (mac(1), net("2001:db8::/64")), (mac(2), net("10.0.0.7/32"))]
        );
    }

    #[test]
    fn a_second_mac_makes_the_port_learn() {
        let bound = |sources| PortEntry::Bound {
            instance: InstanceId(uuid::Uuid::from_u128(7)),
            mac: mac(1),
            sources,
            any_address: false,
        };
        let one = port_value(IfIndex(3), Tag(9), &bound(vec![(mac(1), net("10.0.0.5/32"))])).expect("fits");
        assert_eq!((one.flags, one.source_count, one.tag, one.ifindex), (0, 1, 9, 3));
        let two = port_value(IfIndex(3), Tag(9), &bound(vec![(mac(2), net("10.0.0.5/32"))])).expect("fits");
        assert_eq!(two.flags, PORT_LEARN);
        let held = port_value(IfIndex(3), Tag(9), &PortEntry::Held).expect("fits");
        assert_eq!((held.flags, held.instance), (PORT_HELD, [0; 16]));
    }

    #[test]
    fn too_many_sources_are_refused_by_number() {
        let sources = (0..=64).map(|last| (mac(1), net(&format!("10.0.{last}.1/32")))).collect();
        let entry = PortEntry::Bound {
            instance: InstanceId(uuid::Uuid::from_u128(7)),
            mac: mac(1),
            sources,
            any_address: false,
        };
        let error = port_value(IfIndex(3), Tag(9), &entry).expect_err("65 do not fit");
        assert!(error.to_string().contains("65"), "{error}");
    }

    mod properties {
        use std::net::IpAddr;

        use metadata_ebpf::{
            abi::{DropReason, PassList},
            addr::{METADATA_IPV4, METADATA_IPV6},
            packet::{EthIpv4, EthIpv6, PROTOCOL_TCP},
            verdict::{self, Action},
        };
        use proptest::prelude::*;

        use super::*;

        /// A prefix of few addresses, so that they meet: 10.0.0.0/24 and 2001:db8::/120, of every length inside.
        fn prefix() -> impl Strategy<Value = ipnet::IpNet> {
            (any::<bool>(), any::<u8>(), 0u8..=8).prop_map(|(ipv6, last, bits)| {
                let text = if ipv6 {
                    format!("2001:db8::{last:x}/{}", 120 + bits)
                } else {
                    format!("10.0.0.{last}/{}", 24 + bits)
                };
                text.parse().expect("a prefix")
            })
        }

        /// What the programs decide on a segment from this source: allowed or not.
        fn allows(port: &Port, source: MacAddress, address: IpAddr) -> bool {
            let transport = Some(&[0x9c, 0x40, 0, 80]);
            match address {
                IpAddr::V4(address) => {
                    let frame = EthIpv4 {
                        dst_mac: [2; 6],
                        src_mac: source.0,
                        ethertype: [8, 0],
                        version_ihl: 0x45,
                        tos: 0,
                        total_len: [0, 40],
                        id: [0; 2],
                        fragment: [0x40, 0],
                        ttl: 64,
                        protocol: PROTOCOL_TCP,
                        checksum: [0; 2],
                        src: address.octets(),
                        dst: METADATA_IPV4,
                    };
                    verdict::ipv4(&frame, transport, 54, port, &PassList::EMPTY) == Ok(Action::Respond)
                }
                IpAddr::V6(address) => {
                    let frame = EthIpv6 {
                        dst_mac: [2; 6],
                        src_mac: source.0,
                        ethertype: [0x86, 0xdd],
                        version_class_flow: [0x60, 0, 0, 0],
                        payload_len: [0, 20],
                        next_header: PROTOCOL_TCP,
                        hop_limit: 64,
                        src: address.octets(),
                        dst: METADATA_IPV6,
                    };
                    // Allowed, but not an address that an identity address can carry.
                    let allowed = Err(DropReason::SourceScope);
                    verdict::ipv6(&frame, transport, 74, port, &PassList::EMPTY) == allowed
                }
            }
        }

        proptest! {
            #[test]
            fn joined_sources_allow_what_one_of_them_holds(
                sources in proptest::collection::vec((1u8..4, prefix()), 0..12),
                from in 1u8..5, ipv6 in any::<bool>(), last in any::<u8>()
            ) {
                let sources: Vec<_> = sources.into_iter().map(|(last, prefix)| (mac(last), prefix)).collect();
                let entry = PortEntry::Bound {
                    instance: InstanceId(uuid::Uuid::from_u128(7)),
                    mac: mac(1),
                    sources: join_sources(&sources),
                    any_address: false,
                };
                let port = port_value(IfIndex(3), Tag(9), &entry).expect("12 fit");
                let address: IpAddr = if ipv6 {
                    format!("2001:db8::{last:x}").parse().expect("an address")
                } else {
                    format!("10.0.0.{last}").parse().expect("an address")
                };
                let expected = sources.iter().any(|(mac, prefix)| *mac == super::mac(from) && prefix.contains(&address));
                prop_assert_eq!(allows(&port, mac(from), address), expected, "{} {} of {:?}", from, address, sources);
            }
        }
    }
}
