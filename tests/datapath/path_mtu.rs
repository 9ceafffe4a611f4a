//! Reports about a path's MTU, towards the responder, and segments that a tap could not carry.

use etherparse::{
    Icmpv4Type, Icmpv6Slice, Ipv6Header, NetSlice, PacketBuilder, SlicedPacket, TcpOptionElement, TransportSlice,
    icmpv4::DestUnreachableHeader,
};
use metadata_ebpf::{
    abi::PORT_HELD,
    addr::{Family, IdentityAddress, METADATA_IPV4, METADATA_IPV6, RESPONDER_IPV6, Vlan},
};

use crate::fixture::{DROP, GATEWAY_MAC, GUEST, GUEST_V6, Kernel, MAC, Outcome, REDIRECT, TAG, port, set_mtu};

/// A report of a router in the guest, about a segment of `source` to `destination`.
fn fragmentation_needed(mtu: u16, source: [u8; 4], destination: [u8; 4]) -> Vec<u8> {
    let mut quoted = Vec::new();
    PacketBuilder::ipv4(source, destination, 63).tcp(80, 40000, 77, 500).write(&mut quoted, &[7; 1400]).expect("fits");
    let header = DestUnreachableHeader::FragmentationNeeded { next_hop_mtu: mtu };
    let mut frame = Vec::new();
    PacketBuilder::ethernet2(MAC, GATEWAY_MAC)
        .ipv4(GUEST, METADATA_IPV4, 64)
        .icmpv4(Icmpv4Type::DestinationUnreachable(header))
        .write(&mut frame, &quoted)
        .expect("fits");
    frame
}

fn packet_too_big(mtu: u32, source: [u8; 16], destination: [u8; 16]) -> Vec<u8> {
    let mut quoted = Vec::new();
    PacketBuilder::ipv6(source, destination, 63).tcp(80, 40000, 77, 500).write(&mut quoted, &[7; 1400]).expect("fits");
    let mut frame = Vec::new();
    PacketBuilder::ethernet2(MAC, GATEWAY_MAC)
        .ipv6(GUEST_V6, METADATA_IPV6, 64)
        .icmpv6(etherparse::Icmpv6Type::PacketTooBig { mtu })
        .write(&mut frame, &quoted)
        .expect("fits");
    frame
}

/// Checks that the frame reports this MTU to the responder, about a segment to this identity address with ports and sequence
/// number of the frames above.
fn assert_reports(frame: &[u8], mtu: u32, identity: [u8; 16]) {
    let (ip, message) = Ipv6Header::from_slice(&frame[14..]).expect("IPv6");
    assert_eq!((ip.source, ip.destination), (identity, RESPONDER_IPV6));
    assert_eq!(frame[12..14], [0x86, 0xdd]);
    let icmp = Icmpv6Slice::from_slice(message).expect("ICMPv6");
    assert!(icmp.is_checksum_valid(ip.source, ip.destination), "the checksum");
    assert_eq!(icmp.icmp_type(), etherparse::Icmpv6Type::PacketTooBig { mtu });
    let (quoted, tcp) = Ipv6Header::from_slice(icmp.payload()).expect("a quoted header");
    assert_eq!((quoted.source, quoted.destination), (RESPONDER_IPV6, identity));
    assert_eq!(tcp, [0, 80, 0x9c, 0x40, 0, 0, 0, 77], "ports and sequence number");
}

fn identity(family: Family) -> [u8; 16] {
    match family {
        Family::Ipv4 => IdentityAddress::of_ipv4(TAG, Vlan::default(), GUEST),
        Family::Ipv6 => IdentityAddress::of_ipv6(TAG, Vlan::default(), &GUEST_V6),
    }
    .encode()
}

#[test]
fn a_routers_report_is_translated_to_the_responder() {
    for (name, frame, mtu, family) in [
        ("IPv4", fragmentation_needed(1400, METADATA_IPV4, GUEST), 1420, Family::Ipv4),
        ("IPv4, from before RFC 1191", fragmentation_needed(0, METADATA_IPV4, GUEST), 1280, Family::Ipv4),
        ("IPv6", packet_too_big(1400, METADATA_IPV6, GUEST_V6), 1400, Family::Ipv6),
        ("IPv6, too little", packet_too_big(576, METADATA_IPV6, GUEST_V6), 1280, Family::Ipv6),
    ] {
        let outcome = Kernel::new().run("from_guest", &frame);
        assert_eq!((outcome.verdict, outcome.moved), (REDIRECT, vec![("path_mtu", 1)]), "{name}");
        assert_reports(&outcome.frame, mtu, identity(family));
    }
}

#[test]
fn a_report_about_a_client_behind_the_guest_names_that_client() {
    let frame = fragmentation_needed(1400, METADATA_IPV4, [10, 50, 0, 2]);
    let outcome = Kernel::new().run("from_guest", &frame);
    let client = IdentityAddress::of_ipv4(TAG, Vlan::default(), [10, 50, 0, 2]);
    assert_reports(&outcome.frame, 1420, client.encode());
}

#[test]
fn a_report_that_quotes_no_reply_is_dropped() {
    let global = [0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 9];
    let mut udp = fragmentation_needed(1400, METADATA_IPV4, GUEST);
    udp[34 + 8 + 9] = 17;
    let mut cut_off = fragmentation_needed(1400, METADATA_IPV4, GUEST);
    cut_off.truncate(69);
    let mut stranger = fragmentation_needed(1400, METADATA_IPV4, GUEST);
    stranger[26..30].copy_from_slice(&[10, 0, 0, 9]);
    for (name, reason, frame) in [
        ("of somebody else", "not_answered", fragmentation_needed(1400, [10, 0, 0, 9], GUEST)),
        ("of UDP", "not_answered", udp),
        ("cut off", "truncated", cut_off),
        ("from another address", "spoofed_ip", stranger),
        ("IPv6, of somebody else", "not_answered", packet_too_big(1400, GUEST_V6, GUEST_V6)),
        ("IPv6, to no link-local address", "not_answered", packet_too_big(1400, METADATA_IPV6, global)),
    ] {
        let outcome = Kernel::new().run("from_guest", &frame);
        assert_eq!(outcome, Outcome { verdict: DROP, frame, moved: vec![(reason, 1)] }, "{name}");
    }
}

#[test]
fn a_held_port_gets_reports_too() {
    let held = metadata_ebpf::abi::Port { flags: PORT_HELD, source_count: 0, ..port() };
    let outcome = Kernel::with(&held).run("from_guest", &fragmentation_needed(1400, METADATA_IPV4, GUEST));
    assert_eq!((outcome.verdict, outcome.moved), (REDIRECT, vec![("path_mtu", 1)]));
}

/// The first segment of a connection, with these options.
fn first_segment(family: Family, options: &[TcpOptionElement]) -> Vec<u8> {
    let mut frame = Vec::new();
    let ethernet = || PacketBuilder::ethernet2(MAC, GATEWAY_MAC);
    let ip = match family {
        Family::Ipv4 => ethernet().ipv4(GUEST, METADATA_IPV4, 64),
        Family::Ipv6 => ethernet().ipv6(GUEST_V6, METADATA_IPV6, 64),
    };
    let tcp = ip.tcp(40000, 80, 1, 500).syn().options(options).expect("few options");
    tcp.write(&mut frame, &[]).expect("fits");
    frame
}

/// The maximum segment size in a translated segment, with its checksum looked at.
fn announced(frame: &[u8]) -> Option<u16> {
    let packet = SlicedPacket::from_ethernet(frame).expect("a whole packet");
    let (Some(NetSlice::Ipv6(ip)), Some(TransportSlice::Tcp(tcp))) = (packet.net, packet.transport) else {
        panic!("not TCP over IPv6");
    };
    let header = tcp.to_header();
    let expected = header.calc_checksum_ipv6(&ip.header().to_header(), tcp.payload()).expect("fits");
    assert_eq!(header.checksum, expected, "the TCP checksum");
    tcp.options_iterator().flatten().find_map(|option| match option {
        TcpOptionElement::MaximumSegmentSize(size) => Some(size),
        _ => None,
    })
}

#[test]
fn a_first_segment_announces_no_more_than_the_tap_carries() {
    use TcpOptionElement::{MaximumSegmentSize, Noop, SelectiveAcknowledgementPermitted, Timestamp, WindowScale};
    let usual =
        |size| vec![MaximumSegmentSize(size), SelectiveAcknowledgementPermitted, Timestamp(1, 2), Noop, WindowScale(7)];
    let mut kernel = Kernel::new();
    set_mtu(1400);
    for (name, family, options, expected) in [
        ("a larger one", Family::Ipv4, usual(8960), Some(1360)),
        ("a larger one over IPv6", Family::Ipv6, usual(8940), Some(1340)),
        ("a smaller one", Family::Ipv4, usual(536), Some(536)),
        ("the same", Family::Ipv6, usual(1340), Some(1340)),
        ("at an odd place", Family::Ipv4, vec![Noop, MaximumSegmentSize(9000), Noop, Noop, Noop], Some(1360)),
        ("last", Family::Ipv6, vec![Timestamp(3, 4), WindowScale(2), MaximumSegmentSize(9000)], Some(1340)),
        ("none", Family::Ipv4, vec![SelectiveAcknowledgementPermitted], None),
        ("no options", Family::Ipv6, vec![], None),
    ] {
        let outcome = kernel.run("from_guest", &first_segment(family, &options));
        assert_eq!((outcome.verdict, outcome.moved), (REDIRECT, vec![("to_responder", 1)]), "{name}");
        assert_eq!(announced(&outcome.frame), expected, "{name}");
    }
}

/// A segment of the responder's that makes a packet of this length for the guest.
fn reply(family: Family, len: usize) -> Vec<u8> {
    let headers = if family == Family::Ipv4 { 40 } else { 60 };
    let mut frame = Vec::new();
    PacketBuilder::ethernet2([2; 6], [4; 6])
        .ipv6(RESPONDER_IPV6, identity(family), 64)
        .tcp(80, 40000, 77, 500)
        .write(&mut frame, &vec![7; len - headers])
        .expect("fits");
    frame
}

#[test]
fn a_reply_larger_than_the_taps_mtu_goes_back_as_a_report() {
    let mut kernel = Kernel::new();
    set_mtu(1400);
    for family in [Family::Ipv4, Family::Ipv6] {
        let outcome = kernel.run("to_guest", &reply(family, 1400));
        assert_eq!((outcome.verdict, outcome.moved), (REDIRECT, vec![("to_guest", 1)]), "{family:?}: it fits");
        let outcome = kernel.run("to_guest", &reply(family, 1401));
        assert_eq!((outcome.verdict, outcome.moved), (REDIRECT, vec![("path_mtu", 1)]), "{family:?}: it does not");
        let mtu = if family == Family::Ipv4 { 1420 } else { 1400 };
        assert_reports(&outcome.frame, mtu, identity(family));
    }
}
