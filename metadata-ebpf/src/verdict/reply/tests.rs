//! Tables: one thing about a reply changed, and what is decided.

use super::*;
use crate::{addr::Vlan, packet::PROTOCOL_UDP};

const TAG: u32 = 7;
const MAC: [u8; 6] = [0xfa, 0x16, 0x3e, 0, 0, 1];

fn identity(family: Family) -> IdentityAddress {
    IdentityAddress { family, vlan: Vlan::default(), tag: TAG, guest: [0, 0, 0, 0, 10, 0, 0, 5] }
}

fn frame() -> EthIpv6 {
    EthIpv6 {
        dst_mac: [1; 6],
        src_mac: [2; 6],
        ethertype: [0x86, 0xdd],
        version_class_flow: [0x60, 0, 0, 0],
        payload_len: [0, 40],
        next_header: PROTOCOL_TCP,
        hop_limit: 64,
        src: RESPONDER_IPV6,
        dst: identity(Family::Ipv4).encode(),
    }
}

fn tcp(flags: u8) -> Tcp {
    Tcp {
        src: [0, 80],
        dst: [0x9c, 0x40],
        sequence: [1, 2, 3, 4],
        acknowledgment: [0; 4],
        data_offset: 0x80,
        flags,
        window: [0; 2],
        checksum: [0; 2],
        urgent: [0; 2],
    }
}

#[test]
fn only_tcp_of_the_responder_to_an_identity_address_is_a_reply() {
    let good = frame();
    assert_eq!(destination(ETHERTYPE_IPV6, &good), Ok(identity(Family::Ipv4)));
    let mut no_tag = good.dst;
    no_tag[4..8].fill(0);
    for (name, ethertype, frame) in [
        ("another EtherType", 0x0800, good),
        ("another source", ETHERTYPE_IPV6, EthIpv6 { src: good.dst, ..good }),
        ("another protocol", ETHERTYPE_IPV6, EthIpv6 { next_header: PROTOCOL_UDP, ..good }),
        ("another prefix", ETHERTYPE_IPV6, EthIpv6 { dst: [0xfe; 16], ..good }),
        ("no tag", ETHERTYPE_IPV6, EthIpv6 { dst: no_tag, ..good }),
        ("itself", ETHERTYPE_IPV6, EthIpv6 { dst: RESPONDER_IPV6, ..good }),
    ] {
        assert_eq!(destination(ethertype, &frame), Err(DropReason::StrayFromResponder), "{name}");
    }
}

#[test]
fn a_binding_gets_its_replies_until_it_ends() {
    const ACK: u8 = 0x10;
    let path = |tag, flags| Path { tag, ifindex: 3, mac: MAC, flags, place: 9 };
    for (name, path, flags, expected) in [
        ("bound", path(TAG, 0), ACK, Ok(NextHop::Mac(MAC))),
        ("held", path(TAG, PORT_HELD), ACK, Ok(NextHop::Learned)),
        ("of several MACs", path(TAG, PORT_LEARN), ACK, Ok(NextHop::Learned)),
        ("another binding's element", path(TAG + 1, 0), ACK, Err(DropReason::TagEnded)),
        ("another binding's element, a reset", path(TAG + 1, 0), TCP_RESET, Err(DropReason::TagEnded)),
        ("retired", path(TAG, PORT_ENDED), ACK, Err(DropReason::TagEnded)),
        ("retired, a reset", path(TAG, PORT_ENDED), TCP_RESET | ACK, Ok(NextHop::Mac(MAC))),
        ("retired, of several MACs, a reset", path(TAG, PORT_ENDED | PORT_LEARN), TCP_RESET, Ok(NextHop::Learned)),
    ] {
        assert_eq!(next_hop(&identity(Family::Ipv4), &path, &tcp(flags)), expected, "{name}");
    }
}

#[test]
fn a_packet_is_measured_as_the_guest_gets_it() {
    for (name, frame_len, gso_size, family, expected) in [
        ("IPv6", 1514, 0, Family::Ipv6, 1500),
        ("IPv4", 1534, 0, Family::Ipv4, 1500),
        // 40 bytes of IPv6 header, 32 of TCP header.
        ("segments, IPv6", 60_000, 1428, Family::Ipv6, 1500),
        ("segments, IPv4", 60_000, 1428, Family::Ipv4, 1480),
        ("next to nothing", 10, 0, Family::Ipv4, 0),
    ] {
        assert_eq!(packet_len(frame_len, gso_size, &tcp(0x10), family), expected, "{name}");
    }
}

#[test]
fn what_exceeds_the_taps_mtu_is_reported_in_the_responders_terms() {
    let reported = |len, mtu, family| too_big(&frame(), &tcp(0x10), len, mtu, family).map(|path_mtu| path_mtu.mtu);
    for (len, mtu, family, expected) in [
        (1500, 1500, Family::Ipv6, None),
        (1501, 1500, Family::Ipv6, Some(1500)),
        (1501, 1500, Family::Ipv4, Some(1520)),
        (1281, 1280, Family::Ipv6, Some(1280)),
        (1281, 1000, Family::Ipv4, Some(1280)),
        (9000, 0, Family::Ipv4, None),
    ] {
        assert_eq!(reported(len, mtu, family), expected, "{len} of {mtu}");
    }
    let report = too_big(&frame(), &tcp(0x10), 1501, 1500, Family::Ipv6).expect("too big");
    assert_eq!((report.identity, report.segment_len), (frame().dst, 40));
    assert_eq!(report.tcp, [0, 80, 0x9c, 0x40, 1, 2, 3, 4], "ports and sequence number of the segment");
    assert!(surely_fits(576) && !surely_fits(577));
}
