//! Tables: what is a claim, and what is not.

use super::*;
use crate::addr::METADATA_MAC;
use crate::verdict::tests::{v4, v6};

const NEIGHBOUR: [u8; 6] = [0xfa, 0x16, 0x3e, 0, 0, 9];
const GUEST: [u8; 4] = [10, 0, 0, 5];
const LINK_LOCAL: [u8; 16] = [0xfe, 0x80, 0, 0, 0, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8];
const DNS: [(u8, u16); 1] = [(PROTOCOL_UDP, 53)];

fn four(src: [u8; 4]) -> EthIpv4 {
    EthIpv4 { protocol: PROTOCOL_UDP, dst: GUEST, ..v4(NEIGHBOUR, src) }
}

fn six(src: [u8; 16], next_header: u8) -> EthIpv6 {
    EthIpv6 { next_header, hop_limit: 255, dst: LINK_LOCAL, ..v6(NEIGHBOUR, &src) }
}

fn nd(kind: u8, target: [u8; 16]) -> Neighbour {
    Neighbour { kind, code: 0, checksum: [0; 2], flags: [0; 4], target }
}

#[test]
fn what_comes_from_the_address_is_a_claim_unless_its_port_is_left_to_the_network() {
    let (dns, http): (Transport, Transport) = ([0, 53, 0x9c, 0x40], [0, 80, 0x9c, 0x40]);
    assert!(is_from_ipv4(&four(METADATA_IPV4)) && !is_from_ipv4(&four([169, 254, 169, 253])));
    let own = four(METADATA_IPV4);
    for (name, frame, transport, without, with) in [
        ("an answer of DNS", own, Some(&dns), true, false),
        ("of HTTP", own, Some(&http), true, true),
        ("of DNS over TCP, which is not listed", EthIpv4 { protocol: PROTOCOL_TCP, ..own }, Some(&dns), true, true),
        ("ICMP that looks like it", EthIpv4 { protocol: 1, ..own }, Some(&dns), true, true),
        ("a first fragment", EthIpv4 { fragment: [0x20, 0], ..own }, Some(&dns), true, false),
        ("a later fragment", EthIpv4 { fragment: [0, 9], ..own }, Some(&dns), true, true),
        ("with options", EthIpv4 { version_ihl: 0x46, ..own }, Some(&dns), true, true),
        ("cut off", own, None, true, true),
    ] {
        assert_eq!(ipv4(&frame, transport, &PassList::EMPTY), without, "{name}");
        assert_eq!(ipv4(&frame, transport, &PassList::of(&DNS)), with, "{name}, with a resolver");
    }
    assert!(is_from_ipv6(&six(METADATA_IPV6, PROTOCOL_UDP)) && !is_from_ipv6(&six(LINK_LOCAL, PROTOCOL_UDP)));
    for (name, next_header, transport, without, with) in [
        ("an answer of DNS", PROTOCOL_UDP, Some(&dns), true, false),
        ("of HTTP", PROTOCOL_TCP, Some(&http), true, true),
        ("behind options", 0, Some(&dns), true, true),
        ("cut off", PROTOCOL_UDP, None, true, true),
    ] {
        let frame = six(METADATA_IPV6, next_header);
        assert_eq!(ipv6(&frame, transport, &PassList::EMPTY), without, "{name}");
        assert_eq!(ipv6(&frame, transport, &PassList::of(&DNS)), with, "{name}, with a resolver");
    }
    for (name, message, without, with) in [
        ("a question after the guest's MAC", nd(ICMPV6_SOLICITATION, LINK_LOCAL), true, false),
        ("a question after its own", nd(ICMPV6_SOLICITATION, METADATA_IPV6), true, true),
        ("an advertisement", nd(ICMPV6_ADVERTISEMENT, LINK_LOCAL), true, true),
        ("an echo", nd(128, LINK_LOCAL), true, true),
    ] {
        assert_eq!(own_message(&message, &PassList::EMPTY), without, "{name}");
        assert_eq!(own_message(&message, &PassList::of(&DNS)), with, "{name}, with a resolver");
    }
}

#[test]
fn an_arp_sender_with_the_address_is_a_claim() {
    let question = EthArp {
        dst_mac: [0xff; 6],
        src_mac: NEIGHBOUR,
        ethertype: [8, 6],
        hardware: [0, 1],
        protocol: [8, 0],
        hardware_len: 6,
        protocol_len: 4,
        operation: [0, 1],
        sender_mac: METADATA_MAC,
        sender: METADATA_IPV4,
        target_mac: [0; 6],
        target: GUEST,
    };
    for (name, frame, without, with) in [
        ("a question after the guest's MAC", question, true, false),
        ("an answer", EthArp { operation: [0, 2], ..question }, true, true),
        ("an announcement", EthArp { target: METADATA_IPV4, ..question }, true, true),
        ("a question after the service's MAC", EthArp { sender: [10, 0, 0, 9], ..question }, false, false),
        ("a probe for the address", EthArp { sender: [0; 4], target: METADATA_IPV4, ..question }, false, false),
    ] {
        assert_eq!(arp(&frame, &PassList::EMPTY), without, "{name}");
        assert_eq!(arp(&frame, &PassList::of(&DNS)), with, "{name}, with a resolver");
    }
}

#[test]
fn advertisements_and_redirects_of_the_address_are_claims() {
    for (kind, target, expected) in [
        (ICMPV6_ADVERTISEMENT, METADATA_IPV6, true),
        (ICMPV6_REDIRECT, METADATA_IPV6, true),
        (ICMPV6_ADVERTISEMENT, LINK_LOCAL, false),
        (ICMPV6_SOLICITATION, METADATA_IPV6, false),
        (134, METADATA_IPV6, false),
    ] {
        assert_eq!(message(&nd(kind, target)), expected, "{kind} {target:x?}");
    }
}

#[test]
fn extension_headers_are_as_long_as_they_say() {
    for (header, start, expected) in [
        (0, [58, 0], Next::Extension { next_header: 58, len: 8 }),
        (60, [0, 255], Next::Extension { next_header: 0, len: 2048 }),
        (44, [58, 77], Next::Extension { next_header: 58, len: 8 }),
        (51, [58, 4], Next::Extension { next_header: 58, len: 24 }),
        (58, [136, 0], Next::Message),
        (6, [0, 80], Next::Other),
        (59, [58, 0], Next::Other),
        (50, [58, 0], Next::Other),
    ] {
        assert_eq!(next(header, start), expected, "{header}");
    }
    assert!(is_tag(0x8100) && is_tag(0x88a8) && !is_tag(0x0800));
}
