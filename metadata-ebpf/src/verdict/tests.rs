//! Tables: a header changed in one place, and what is decided.

use super::*;
use crate::{
    abi::{Limits, PORT_LEARN},
    packet::{QuotedIpv4, QuotedIpv6},
};

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
        place: 0,
        limits: Limits::NONE,
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

pub(super) fn v4(src_mac: [u8; 6], src: [u8; 4]) -> EthIpv4 {
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

pub(super) fn v6(src_mac: [u8; 6], src: &[u8; 16]) -> EthIpv6 {
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

/// To port 80, or, of ICMP, an echo request.
fn v4_verdict(frame: &EthIpv4, frame_len: u32, port: &Port) -> Result<Action, DropReason> {
    let transport = if frame.protocol == PROTOCOL_ICMP { [8, 0, 0, 0] } else { [0x9c, 0x40, 0, 80] };
    ipv4(frame, Some(&transport), frame_len, port, &PassList::EMPTY)
}

fn v6_verdict(frame: &EthIpv6, frame_len: u32, port: &Port) -> Result<Action, DropReason> {
    let transport = if frame.next_header == PROTOCOL_ICMPV6 { [128, 0, 0, 0] } else { [0x9c, 0x40, 0, 80] };
    ipv6(frame, Some(&transport), frame_len, port, &PassList::EMPTY)
}

const NOT_AN_ANSWER: Result<ArpAction, DropReason> = Err(DropReason::NotAnswered);

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
        assert_eq!(v4_verdict(&v4(mac, src), 74, &port()), expected, "{mac:x?} {src:?}");
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
        assert_eq!(v6_verdict(&v6(mac, &src), 94, &port()), expected, "{mac:x?} {src:x?}");
    }
}

#[test]
fn a_port_without_security_may_use_any_address_but_only_its_own_mac() {
    let open = Port { flags: PORT_ANY_ADDRESS, source_count: 0, ..port() };
    assert_eq!(v4_verdict(&v4(MAC, [8, 8, 8, 8]), 74, &open), Ok(Action::Respond));
    assert_eq!(v4_verdict(&v4(OTHER_MAC, [8, 8, 8, 8]), 74, &open), Err(DropReason::SpoofedMac));
    let closed = Port { flags: 0, source_count: 0, ..port() };
    assert_eq!(v4_verdict(&v4(MAC, [8, 8, 8, 8]), 74, &closed), Err(DropReason::SpoofedIp));
    assert_eq!(v4_verdict(&v4(MAC, [169, 254, 8, 8]), 74, &closed), Ok(Action::Respond));
}

#[test]
fn a_held_port_may_use_anything_but_the_services_own_address() {
    let held = Port { flags: PORT_HELD, source_count: 0, ..port() };
    assert_eq!(v4_verdict(&v4(OTHER_MAC, [8, 8, 8, 8]), 74, &held), Ok(Action::Respond));
    assert_eq!(v4_verdict(&v4(OTHER_MAC, METADATA_IPV4), 74, &held), Err(DropReason::SpoofedIp));
    assert_eq!(v6_verdict(&v6(OTHER_MAC, &LINK_LOCAL), 94, &held), Ok(Action::Respond));
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
        ("icmp", EthIpv4 { protocol: PROTOCOL_ICMP, ..good }, 74, Ok(Action::Echo)),
        ("short icmp", EthIpv4 { protocol: PROTOCOL_ICMP, total_len: [0, 27], ..good }, 74, Err(Truncated)),
    ] {
        assert_eq!(v4_verdict(&frame, frame_len, &port()), expected, "{name}");
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
        ("icmp", EthIpv6 { next_header: PROTOCOL_ICMPV6, ..good }, 94, Ok(Action::Echo)),
    ] {
        assert_eq!(v6_verdict(&frame, frame_len, &port()), expected, "{name}");
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

#[test]
fn messages_of_icmp_differ_by_type_and_code() {
    use DropReason::{NotAnswered, Truncated};
    let four = EthIpv4 { protocol: PROTOCOL_ICMP, ..v4(MAC, [10, 0, 0, 5]) };
    let six = EthIpv6 { next_header: PROTOCOL_ICMPV6, payload_len: [0, 60], ..v6(MAC, &LINK_LOCAL) };
    for (kind, code, of_four, of_six) in [
        (8, 0, Ok(Action::Echo), Err(NotAnswered)),
        (8, 1, Err(NotAnswered), Err(NotAnswered)),
        (0, 0, Err(NotAnswered), Err(NotAnswered)),
        (3, 4, Ok(Action::PathMtu), Err(NotAnswered)),
        (3, 3, Err(NotAnswered), Err(NotAnswered)),
        (128, 0, Err(NotAnswered), Ok(Action::Echo)),
        (128, 1, Err(NotAnswered), Err(NotAnswered)),
        (2, 0, Err(NotAnswered), Ok(Action::PathMtu)),
        (2, 1, Err(NotAnswered), Err(NotAnswered)),
        (136, 0, Err(NotAnswered), Err(NotAnswered)),
    ] {
        let transport = Some(&[kind, code, 0, 0]);
        assert_eq!(ipv4(&four, transport, 74, &port(), &PassList::EMPTY), of_four, "ICMP {kind} {code}");
        assert_eq!(ipv6(&six, transport, 114, &port(), &PassList::EMPTY), of_six, "ICMPv6 {kind} {code}");
    }
    let four = EthIpv4 { total_len: [0, 55], ..four };
    let six = EthIpv6 { payload_len: [0, 55], ..six };
    assert_eq!(ipv4(&four, Some(&[3, 4, 0, 0]), 74, &port(), &PassList::EMPTY), Err(Truncated));
    assert_eq!(ipv6(&six, Some(&[2, 0, 0, 0]), 114, &port(), &PassList::EMPTY), Err(Truncated));
    let stranger = EthIpv4 { src: [9, 9, 9, 9], ..four };
    assert_eq!(ipv4(&stranger, Some(&[3, 4, 0, 0]), 74, &port(), &PassList::EMPTY), Err(DropReason::SpoofedIp));
}

#[test]
fn what_the_operator_leaves_to_the_network_passes_from_anyone() {
    use DropReason::{Fragment, Ipv4Options, NotAnswered, SpoofedIp, Truncated};
    let pass = PassList::of(&[(PROTOCOL_UDP, 53), (PROTOCOL_TCP, 53)]);
    let (dns, http) = ([0x9c, 0x40, 0, 53], [0x9c, 0x40, 0, 80]);
    let tcp = v4(MAC, [10, 0, 0, 5]);
    let udp = EthIpv4 { protocol: PROTOCOL_UDP, ..tcp };
    let stranger = EthIpv4 { src: [9, 9, 9, 9], ..udp };
    for (name, frame, transport, expected) in [
        ("a query", udp, dns, Ok(Action::Pass)),
        ("a query over TCP", tcp, dns, Ok(Action::Pass)),
        ("a query of another source", stranger, dns, Ok(Action::Pass)),
        ("another port", udp, http, Err(NotAnswered)),
        ("another port of another source", stranger, http, Err(SpoofedIp)),
        ("a request", tcp, http, Ok(Action::Respond)),
        ("from port 53", tcp, [0, 53, 0, 80], Ok(Action::Respond)),
        ("another protocol", EthIpv4 { protocol: 132, ..tcp }, dns, Err(NotAnswered)),
        ("half a header", EthIpv4 { total_len: [0, 27], ..udp }, dns, Err(NotAnswered)),
        ("half a header of TCP", EthIpv4 { total_len: [0, 39], ..tcp }, dns, Err(Truncated)),
        ("a fragment", EthIpv4 { fragment: [0x20, 0], ..udp }, dns, Err(Fragment)),
        ("options", EthIpv4 { version_ihl: 0x46, ..udp }, dns, Err(Ipv4Options)),
    ] {
        assert_eq!(ipv4(&frame, Some(&transport), 74, &port(), &pass), expected, "{name}");
    }
    let global = [0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 6];
    for (name, src, next_header, transport, expected) in [
        ("a query", &LINK_LOCAL, PROTOCOL_UDP, dns, Ok(Action::Pass)),
        ("a query over TCP", &LINK_LOCAL, PROTOCOL_TCP, dns, Ok(Action::Pass)),
        ("a query of another source", &global, PROTOCOL_UDP, dns, Ok(Action::Pass)),
        ("another port", &LINK_LOCAL, PROTOCOL_UDP, http, Err(NotAnswered)),
        ("a request", &LINK_LOCAL, PROTOCOL_TCP, http, Ok(Action::Respond)),
        ("options before it", &LINK_LOCAL, 60, dns, Err(DropReason::Ipv6Extension)),
    ] {
        let frame = EthIpv6 { next_header, ..v6(MAC, src) };
        assert_eq!(ipv6(&frame, Some(&transport), 94, &port(), &pass), expected, "{name}");
    }
    assert_eq!(ipv4(&udp, None, 74, &port(), &pass), Err(NotAnswered), "no ports to be seen");
    let held = Port { flags: PORT_HELD, source_count: 0, ..port() };
    assert_eq!(ipv4(&udp, Some(&dns), 74, &held, &pass), Ok(Action::Pass));
}

#[test]
fn solicitations_and_arp_requests_are_answered_and_nothing_like_them() {
    let frame = EthIpv6 { next_header: PROTOCOL_ICMPV6, hop_limit: 255, ..v6(MAC, &LINK_LOCAL) };
    let message =
        Neighbour { kind: ICMPV6_SOLICITATION, code: 0, checksum: [0; 2], flags: [0; 4], target: METADATA_IPV6 };
    assert!(is_solicitation(&frame, &message) && solicitation(&frame, &message).is_ok());
    assert!(!is_solicitation(&frame, &Neighbour { kind: 136, ..message }));
    assert!(!is_solicitation(&frame, &Neighbour { code: 1, ..message }));
    assert!(!is_solicitation(&EthIpv6 { next_header: PROTOCOL_TCP, ..frame }, &message));
    let not_answered = Err(DropReason::NotAnswered);
    assert_eq!(solicitation(&EthIpv6 { hop_limit: 254, ..frame }, &message), not_answered);
    assert_eq!(solicitation(&frame, &Neighbour { target: LINK_LOCAL, ..message }), not_answered);

    let request = EthArp {
        dst_mac: [0xff; 6],
        src_mac: MAC,
        ethertype: [8, 6],
        hardware: [0, 1],
        protocol: [8, 0],
        hardware_len: 6,
        protocol_len: 4,
        operation: [0, 1],
        sender_mac: MAC,
        sender: [10, 0, 0, 5],
        target_mac: [0; 6],
        target: METADATA_IPV4,
    };
    let pass = PassList::of(&[(PROTOCOL_UDP, 53)]);
    let reply = EthArp { operation: [0, 2], ..request };
    let answer = Ok(ArpAction::Answer(request.reply(METADATA_MAC)));
    for (name, frame, nothing_passes, something_passes) in [
        ("a request", request, answer, answer),
        ("a reply", reply, Err(DropReason::NotAnswered), Ok(ArpAction::Pass)),
        ("another operation", EthArp { operation: [0, 3], ..request }, NOT_AN_ANSWER, NOT_AN_ANSWER),
        ("another hardware", EthArp { hardware: [0, 6], ..request }, NOT_AN_ANSWER, NOT_AN_ANSWER),
        ("a reply of another hardware", EthArp { hardware: [0, 6], ..reply }, NOT_AN_ANSWER, NOT_AN_ANSWER),
    ] {
        assert_eq!(arp(&frame, &PassList::EMPTY), nothing_passes, "{name}");
        assert_eq!(arp(&frame, &pass), something_passes, "{name}");
    }
    let advertisement = EthIpv6 { payload_len: [0, 32], ..frame };
    let transport = Some(&[136, 0, 0, 0]);
    assert_eq!(ipv6(&advertisement, transport, 94, &port(), &pass), Ok(Action::Pass));
    assert_eq!(ipv6(&advertisement, transport, 94, &port(), &PassList::EMPTY), Err(DropReason::NotAnswered));
    assert_eq!((answering_mac(MAC), answering_mac([0x33; 6])), (MAC, METADATA_MAC));
}

#[test]
fn a_report_about_a_path_quotes_a_reply_and_reaches_this_ports_connections_only() {
    let vlan = Vlan { id: 7, service: false };
    let four = FragmentationNeeded {
        kind: 3,
        code: 4,
        checksum: [0; 2],
        unused: [0; 2],
        mtu: 1400u16.to_be_bytes(),
        quoted: QuotedIpv4 {
            version_ihl: 0x45,
            tos: 0,
            total_len: 1500u16.to_be_bytes(),
            fragment: [0; 4],
            ttl: 63,
            protocol: PROTOCOL_TCP,
            checksum: [0; 2],
            src: METADATA_IPV4,
            dst: [10, 50, 0, 2],
        },
        tcp: [0, 80, 0x9c, 0x40, 1, 2, 3, 4],
    };
    let report = fragmentation_needed(&four, 9, vlan).expect("a report");
    assert_eq!(IdentityAddress::decode(&report.identity), Some(IdentityAddress::of_ipv4(9, vlan, [10, 50, 0, 2])));
    assert_eq!((report.mtu, report.segment_len, report.tcp), (1420, 1480, four.tcp));
    let old_router = FragmentationNeeded { mtu: [0, 0], ..four };
    assert_eq!(fragmentation_needed(&old_router, 9, vlan).map(|report| report.mtu), Ok(1280));
    for quoted in [
        QuotedIpv4 { src: [10, 0, 0, 9], ..four.quoted },
        QuotedIpv4 { protocol: PROTOCOL_UDP, ..four.quoted },
        QuotedIpv4 { version_ihl: 0x46, ..four.quoted },
    ] {
        assert_eq!(
            fragmentation_needed(&FragmentationNeeded { quoted, ..four }, 9, vlan),
            Err(DropReason::NotAnswered)
        );
    }

    let six = PacketTooBig {
        kind: 2,
        code: 0,
        checksum: [0; 2],
        mtu: 1300u32.to_be_bytes(),
        quoted: QuotedIpv6 {
            version_class_flow: [0x60, 0, 0, 0],
            payload_len: 1460u16.to_be_bytes(),
            next_header: PROTOCOL_TCP,
            hop_limit: 63,
            src: METADATA_IPV6,
            dst: LINK_LOCAL,
        },
        tcp: four.tcp,
    };
    let report = packet_too_big(&six, 9, vlan).expect("a report");
    assert_eq!(IdentityAddress::decode(&report.identity), Some(IdentityAddress::of_ipv6(9, vlan, &LINK_LOCAL)));
    assert_eq!((report.mtu, report.segment_len), (1300, 1460));
    let tiny = PacketTooBig { mtu: [0; 4], ..six };
    assert_eq!(packet_too_big(&tiny, 9, vlan).map(|report| report.mtu), Ok(1280));
    for quoted in [
        QuotedIpv6 { src: LINK_LOCAL, ..six.quoted },
        QuotedIpv6 { next_header: PROTOCOL_UDP, ..six.quoted },
        QuotedIpv6 { dst: [0x20; 16], ..six.quoted },
    ] {
        assert_eq!(packet_too_big(&PacketTooBig { quoted, ..six }, 9, vlan), Err(DropReason::NotAnswered));
    }
}

fn tcp(flags: u8, data_offset: u8) -> Tcp {
    Tcp {
        src: [0; 2],
        dst: [0; 2],
        sequence: [0; 4],
        acknowledgment: [0; 4],
        data_offset,
        flags,
        window: [0; 2],
        checksum: [0; 2],
        urgent: [0; 2],
    }
}

#[test]
fn a_connection_begins_with_a_segment_that_acknowledges_nothing() {
    for (name, flags, expected) in [
        ("SYN", 2, true),
        ("SYN with ECN", 0xc2, true),
        ("SYN with FIN and URG, which the responder may take", 0x23, true),
        ("SYN and ACK", 0x12, false),
        ("ACK", 0x10, false),
        ("RST", 4, false),
        ("none", 0, false),
    ] {
        assert_eq!(begins_connection(&tcp(flags, 0x50)), expected, "{name}");
    }
}

#[test]
fn only_first_segments_announce_options() {
    for (flags, data_offset, expected) in
        [(2, 0xa0, Some(20)), (0x12, 0xf0, Some(40)), (2, 0x50, None), (2, 0x40, None), (0x10, 0xa0, None)]
    {
        assert_eq!(options_of_first(&tcp(flags, data_offset)), expected, "{flags:x} {data_offset:x}");
    }
}
