//! Tables: a header changed in one place, and what is decided.

use super::*;
use crate::abi::PORT_LEARN;

const MAC: [u8; 6] = [0xfa, 0x16, 0x3e, 0, 0, 1];
const PAIR_MAC: [u8; 6] = [0, 0, 0x5e, 0, 1, 1];
const OTHER_MAC: [u8; 6] = [0xfa, 0x16, 0x3e, 0, 0, 2];

fn port() -> Port {
    let mut port = Port {
        tag: 1,
        ifindex: 7,
        mac: MAC,
        flags: PORT_LEARN,
        source_count: 0,
        reserved: 0,
        instance: [0; 16],
        sources: [Source::EMPTY; MAX_SOURCES],
    };
    let mut add = |mac, family, prefix_len, start: &[u8]| {
        let mut addr = [0; 16];
        addr[..start.len()].copy_from_slice(start);
        port.sources[port.source_count as usize] = Source::new(mac, family, addr, prefix_len);
        port.source_count += 1;
    };
    add(MAC, 4, 32, &[10, 0, 0, 5]);
    add(MAC, 4, 24, &[192, 168, 7]);
    add(PAIR_MAC, 4, 32, &[10, 0, 0, 100]);
    add(MAC, 6, 128, &[0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 5]);
    add(MAC, 6, 68, &[0x20, 1, 0xd, 0xb8, 0, 1, 0, 0, 0x30]);
    port
}

fn v4(src_mac: [u8; 6], src: [u8; 4]) -> EthIpv4 {
    EthIpv4 {
        dst_mac: [1; 6],
        src_mac,
        ethertype: [8, 0],
        version_ihl: 0x45,
        tos: 0,
        total_len: 60u16.to_be_bytes(),
        id: [0; 2],
        fragment: [0x40, 0],
        ttl: 64,
        protocol: PROTOCOL_TCP,
        checksum: [0; 2],
        src,
        dst: METADATA_IPV4,
    }
}

fn v6(src_mac: [u8; 6], src: &[u8; 16]) -> EthIpv6 {
    EthIpv6 {
        dst_mac: [1; 6],
        src_mac,
        ethertype: [0x86, 0xdd],
        version_class_flow: [0x60, 0, 0, 0],
        payload_len: [0, 40],
        next_header: PROTOCOL_TCP,
        hop_limit: 64,
        src: *src,
        dst: METADATA_IPV6,
    }
}

const LINK_LOCAL: [u8; 16] = [0xfe, 0x80, 0, 0, 0, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8];

#[test]
fn ipv4_sources_need_their_own_mac() {
    use DropReason::{SpoofedIp, SpoofedMac};
    for (mac, src, expected) in [
        (MAC, [10, 0, 0, 5], Ok(Action::Respond)),
        (MAC, [10, 0, 0, 6], Err(SpoofedIp)),
        (MAC, [192, 168, 7, 200], Ok(Action::Respond)),
        (MAC, [192, 168, 8, 1], Err(SpoofedIp)),
        (MAC, [169, 254, 3, 4], Ok(Action::Respond)),
        (MAC, METADATA_IPV4, Err(SpoofedIp)),
        (MAC, [0, 0, 0, 0], Err(SpoofedIp)),
        (PAIR_MAC, [10, 0, 0, 100], Ok(Action::Respond)),
        (PAIR_MAC, [10, 0, 0, 5], Err(SpoofedIp)),
        (PAIR_MAC, [169, 254, 3, 4], Ok(Action::Respond)),
        (OTHER_MAC, [10, 0, 0, 5], Err(SpoofedMac)),
        (OTHER_MAC, [169, 254, 3, 4], Err(SpoofedMac)),
    ] {
        assert_eq!(ipv4(&v4(mac, src), 74, &port()), expected, "{mac:x?} {src:?}");
    }
}

#[test]
fn ipv6_sources_are_link_local() {
    use DropReason::{SourceScope, SpoofedIp, SpoofedMac};
    let global = |last: u8| [0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, last];
    let in_prefix = [0x20, 1, 0xd, 0xb8, 0, 1, 0, 0, 0x3f, 9, 9, 9, 9, 9, 9, 9];
    let outside_prefix = [0x20, 1, 0xd, 0xb8, 0, 1, 0, 0, 0x4f, 9, 9, 9, 9, 9, 9, 9];
    let wide_link_local = [0xfe, 0x80, 0, 0, 0, 0, 0, 1, 1, 2, 3, 4, 5, 6, 7, 8];
    for (mac, src, expected) in [
        (MAC, LINK_LOCAL, Ok(Action::Respond)),
        (PAIR_MAC, LINK_LOCAL, Ok(Action::Respond)),
        (OTHER_MAC, LINK_LOCAL, Err(SpoofedMac)),
        (MAC, METADATA_IPV6, Err(SpoofedIp)),
        (MAC, global(5), Err(SourceScope)),
        (MAC, global(6), Err(SpoofedIp)),
        (MAC, in_prefix, Err(SourceScope)),
        (MAC, outside_prefix, Err(SpoofedIp)),
        (MAC, wide_link_local, Err(SpoofedIp)),
        (MAC, [0; 16], Err(SpoofedIp)),
    ] {
        assert_eq!(ipv6(&v6(mac, &src), 94, &port()), expected, "{mac:x?} {src:x?}");
    }
}

#[test]
fn a_port_without_security_may_use_any_address_but_only_its_own_mac() {
    let open = Port { flags: PORT_ANY_ADDRESS, source_count: 0, ..port() };
    assert_eq!(ipv4(&v4(MAC, [8, 8, 8, 8]), 74, &open), Ok(Action::Respond));
    assert_eq!(ipv4(&v4(OTHER_MAC, [8, 8, 8, 8]), 74, &open), Err(DropReason::SpoofedMac));
    let closed = Port { flags: 0, source_count: 0, ..port() };
    assert_eq!(ipv4(&v4(MAC, [8, 8, 8, 8]), 74, &closed), Err(DropReason::SpoofedIp));
    assert_eq!(ipv4(&v4(MAC, [169, 254, 8, 8]), 74, &closed), Ok(Action::Respond));
}

#[test]
fn a_held_port_may_use_anything_but_the_services_own_address() {
    let held = Port { flags: PORT_HELD, source_count: 0, ..port() };
    assert_eq!(ipv4(&v4(OTHER_MAC, [8, 8, 8, 8]), 74, &held), Ok(Action::Respond));
    assert_eq!(ipv4(&v4(OTHER_MAC, METADATA_IPV4), 74, &held), Err(DropReason::SpoofedIp));
    assert_eq!(ipv6(&v6(OTHER_MAC, &LINK_LOCAL), 94, &held), Ok(Action::Respond));
}

#[test]
fn ipv4_headers_are_whole_and_plain() {
    use DropReason::{Fragment, Ipv4Options, NotAnswered, Truncated};
    let good = v4(MAC, [10, 0, 0, 5]);
    for (name, frame, frame_len, expected) in [
        ("options", EthIpv4 { version_ihl: 0x46, ..good }, 78, Err(Ipv4Options)),
        ("short header length", EthIpv4 { version_ihl: 0x44, ..good }, 74, Err(Truncated)),
        ("another version", EthIpv4 { version_ihl: 0x65, ..good }, 74, Err(Truncated)),
        ("longer than the frame", good, 73, Err(Truncated)),
        ("padded frame", good, 80, Ok(Action::Respond)),
        ("no room for TCP", EthIpv4 { total_len: [0, 39], ..good }, 74, Err(Truncated)),
        ("length below the header", EthIpv4 { total_len: [0, 19], ..good }, 74, Err(Truncated)),
        ("more fragments", EthIpv4 { fragment: [0x20, 0], ..good }, 74, Err(Fragment)),
        ("last fragment", EthIpv4 { fragment: [0, 7], ..good }, 74, Err(Fragment)),
        ("may fragment", EthIpv4 { fragment: [0, 0], ..good }, 74, Ok(Action::Respond)),
        ("udp", EthIpv4 { protocol: 17, ..good }, 74, Err(NotAnswered)),
        ("icmp", EthIpv4 { protocol: PROTOCOL_ICMP, ..good }, 74, Ok(Action::Message)),
        ("short icmp", EthIpv4 { protocol: PROTOCOL_ICMP, total_len: [0, 27], ..good }, 74, Err(Truncated)),
    ] {
        assert_eq!(ipv4(&frame, frame_len, &port()), expected, "{name}");
    }
}

#[test]
fn ipv6_headers_are_whole_and_plain() {
    use DropReason::{Fragment, Ipv6Extension, NotAnswered, Truncated};
    let good = v6(MAC, &LINK_LOCAL);
    for (name, frame, frame_len, expected) in [
        ("fragment", EthIpv6 { next_header: 44, ..good }, 94, Err(Fragment)),
        ("hop by hop", EthIpv6 { next_header: 0, ..good }, 94, Err(Ipv6Extension)),
        ("destination options", EthIpv6 { next_header: 60, ..good }, 94, Err(Ipv6Extension)),
        ("longer than the frame", good, 93, Err(Truncated)),
        ("no room for TCP", EthIpv6 { payload_len: [0, 19], ..good }, 94, Err(Truncated)),
        ("another version", EthIpv6 { version_class_flow: [0x40, 0, 0, 0], ..good }, 94, Err(Truncated)),
        ("udp", EthIpv6 { next_header: 17, ..good }, 94, Err(NotAnswered)),
        ("icmp", EthIpv6 { next_header: PROTOCOL_ICMPV6, ..good }, 94, Ok(Action::Message)),
    ] {
        assert_eq!(ipv6(&frame, frame_len, &port()), expected, "{name}");
    }
}

#[test]
fn prefixes_of_every_length_cover_what_they_say() {
    let covers = |source: Source, addr: u128| {
        let port = Port { source_count: 1, sources: [source; MAX_SOURCES], ..port() };
        let (high, low) = halves(&addr.to_be_bytes());
        allowed(&port, MAC, 6, high, low, false).is_ok()
    };
    for len in 0..=128u8 {
        let source = Source::new(MAC, 6, [0xff; 16], len);
        assert_eq!(u128::from_be_bytes(source.addr).leading_ones(), u32::from(len));
        assert!(covers(source, u128::MAX), "/{len}");
        if len > 0 {
            assert!(!covers(source, u128::MAX ^ (1 << (128 - u32::from(len)))), "/{len}: its last bit");
        }
        if len < 128 {
            assert!(covers(source, u128::MAX ^ (1 << (127 - u32::from(len)))), "/{len}: the bit after it");
        }
    }
}
