//! What `from_guest` does with what a guest sends.

use etherparse::{EtherType, Ethernet2Header, IpNumber, Ipv6Header, PacketBuilder, SlicedPacket};
use metadata_ebpf::{
    abi::{PORT_HELD, Port},
    addr::{IdentityAddress, METADATA_IPV4, METADATA_IPV6, METADATA_MAC, METADATA_SOLICITED_NODE, RESPONDER_IPV6},
};

use crate::fixture::{
    DROP, GATEWAY_MAC, GUEST, GUEST_V6, IFINDEX, Kernel, MAC, OTHER_MAC, Outcome, PASS, REDIRECT, TAG, port,
};

/// A TCP segment with a payload, from a source to an address.
fn tcp4(mac: [u8; 6], src: [u8; 4], dst: [u8; 4]) -> Vec<u8> {
    let builder = PacketBuilder::ethernet2(mac, GATEWAY_MAC).ipv4(src, dst, 61).tcp(40000, 80, 1, 500);
    built(|out| builder.write(out, b"GET / HTTP/1.1\r\n\r\n"))
}

fn tcp6(mac: [u8; 6], src: [u8; 16], dst: [u8; 16]) -> Vec<u8> {
    let builder = PacketBuilder::ethernet2(mac, GATEWAY_MAC).ipv6(src, dst, 61).tcp(40000, 80, 1, 500);
    built(|out| builder.write(out, b"GET / HTTP/1.1\r\n\r\n"))
}

fn udp4(dst: [u8; 4]) -> Vec<u8> {
    let builder = PacketBuilder::ethernet2(MAC, GATEWAY_MAC).ipv4(GUEST, dst, 64).udp(5000, 53);
    built(|out| builder.write(out, b"query"))
}

fn built<E: std::fmt::Debug>(write: impl FnOnce(&mut Vec<u8>) -> Result<(), E>) -> Vec<u8> {
    let mut frame = Vec::new();
    write(&mut frame).expect("the frame fits");
    frame
}

fn arp(operation: u8, sender: [u8; 4], target: [u8; 4]) -> Vec<u8> {
    let mut frame = [[0xff; 6], MAC].concat();
    frame.extend([8, 6, 0, 1, 8, 0, 6, 4, 0, operation]);
    frame.extend(MAC);
    frame.extend(sender);
    frame.extend([0; 6]);
    frame.extend(target);
    frame
}

/// A neighbour solicitation, with its source's link-layer option unless it is a probe.
fn solicitation(src: [u8; 16], dst: [u8; 16], target: [u8; 16], hop_limit: u8) -> Vec<u8> {
    let mut message = vec![0; 4];
    message.extend(target);
    if src != [0; 16] {
        message.extend([1, 1]);
        message.extend(MAC);
    }
    let builder = PacketBuilder::ethernet2(MAC, [0x33, 0x33, 0xff, 0xfe, 0xa9, 0xfe])
        .ipv6(src, dst, hop_limit)
        .icmpv6_raw(135, 0, [0; 4]);
    built(|out| builder.write(out, &message[4..]))
}

/// Checks the transport checksum of a frame, the pseudo header included.
fn assert_checksum(frame: &[u8]) {
    use etherparse::{NetSlice, TransportSlice};
    let packet = SlicedPacket::from_ethernet(frame).expect("a whole packet");
    let payload_of = |slice: &TransportSlice<'_>| match slice {
        TransportSlice::Tcp(tcp) => (tcp.to_header(), tcp.payload().to_vec()),
        other => panic!("not TCP: {other:?}"),
    };
    let (header, payload) = payload_of(packet.transport.as_ref().expect("a transport header"));
    let expected = match packet.net.expect("an IP header") {
        NetSlice::Ipv4(ip) => {
            let ip = ip.header().to_header();
            assert_eq!(ip.header_checksum, ip.calc_header_checksum(), "the IPv4 header's checksum");
            header.calc_checksum_ipv4(&ip, &payload)
        }
        NetSlice::Ipv6(ip) => header.calc_checksum_ipv6(&ip.header().to_header(), &payload),
        other => panic!("not IP: {other:?}"),
    }
    .expect("the length fits");
    assert_eq!(header.checksum, expected, "the TCP checksum");
}

fn dropped_for(reason: &'static str, frame: &[u8]) -> Outcome {
    Outcome { verdict: DROP, frame: frame.to_vec(), moved: vec![(reason, 1)] }
}

#[test]
fn ipv4_becomes_ipv6_from_the_identity_address() {
    let frame = tcp4(MAC, GUEST, METADATA_IPV4);
    let outcome = Kernel::new().run("from_guest", &frame);
    assert_eq!((outcome.verdict, outcome.moved), (REDIRECT, vec![("to_responder", 1)]));
    assert_checksum(&outcome.frame);
    let (ip, payload) = Ipv6Header::from_slice(&outcome.frame[14..]).expect("IPv6");
    assert_eq!((ip.hop_limit, ip.next_header, ip.destination), (61, IpNumber::TCP, RESPONDER_IPV6));
    let identity = IdentityAddress::decode(&ip.source).expect("an identity address");
    assert_eq!((identity.tag, identity.vlan.id), (TAG, 0));
    assert_eq!(identity.guest_address(), std::net::IpAddr::from(GUEST));
    assert_eq!(payload[..16], frame[34..50], "ports, numbers, window as the guest sent them");
    assert_eq!(payload[18..], frame[52..], "all after the checksum");
}

#[test]
fn ipv6_keeps_its_shape_from_the_identity_address() {
    let frame = tcp6(MAC, GUEST_V6, METADATA_IPV6);
    let outcome = Kernel::new().run("from_guest", &frame);
    assert_eq!((outcome.verdict, outcome.moved), (REDIRECT, vec![("to_responder", 1)]));
    assert_checksum(&outcome.frame);
    let (ip, payload) = Ipv6Header::from_slice(&outcome.frame[14..]).expect("IPv6");
    assert_eq!((ip.hop_limit, ip.destination), (61, RESPONDER_IPV6));
    let identity = IdentityAddress::decode(&ip.source).expect("an identity address");
    assert_eq!(identity.guest_address(), std::net::IpAddr::from(GUEST_V6));
    assert_eq!(payload[18..], frame[72..], "all after the checksum");
}

#[test]
fn every_tcp_port_goes_to_the_responder() {
    let builder = PacketBuilder::ethernet2(MAC, GATEWAY_MAC).ipv4(GUEST, METADATA_IPV4, 64).tcp(40000, 443, 1, 500);
    let frame = built(|out| builder.write(out, &[]));
    let outcome = Kernel::new().run("from_guest", &frame);
    assert_eq!((outcome.verdict, outcome.moved), (REDIRECT, vec![("to_responder", 1)]));
}

#[test]
fn foreign_traffic_passes_untouched_and_uncounted() {
    let other = [10, 0, 0, 9];
    let other_v6 = [0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 9];
    let mut neighbour_of_ours = METADATA_IPV6;
    neighbour_of_ours[8] = 7;
    let mut mpls = vec![0xff; 60];
    mpls[12..14].copy_from_slice(&[0x88, 0x47]);
    let mut kernel = Kernel::new();
    for (name, frame) in [
        ("tcp", tcp4(MAC, GUEST, other)),
        ("tcp from any source", tcp4(OTHER_MAC, [8, 8, 8, 8], other)),
        ("udp", udp4(other)),
        ("tcp over IPv6", tcp6(MAC, GUEST_V6, other_v6)),
        ("arp", arp(1, GUEST, other)),
        ("arp reply", arp(2, METADATA_IPV4, other)),
        ("a solicitation", solicitation(GUEST_V6, other_v6, other_v6, 255)),
        (
            "a solicitation for an address with the same solicited node",
            solicitation(GUEST_V6, METADATA_SOLICITED_NODE, neighbour_of_ours, 255),
        ),
        ("another EtherType", mpls),
        ("a short ARP packet", arp(1, GUEST, METADATA_IPV4)[..41].to_vec()),
    ] {
        assert_eq!(kernel.run("from_guest", &frame), Outcome { verdict: PASS, frame, moved: vec![] }, "{name}");
    }
}

#[test]
fn without_a_port_even_metadata_traffic_passes() {
    let mut kernel = Kernel::empty();
    for frame in [tcp4(MAC, GUEST, METADATA_IPV4), tcp6(MAC, GUEST_V6, METADATA_IPV6), arp(1, GUEST, METADATA_IPV4)] {
        assert_eq!(kernel.run("from_guest", &frame), Outcome { verdict: PASS, frame, moved: vec![] });
    }
}

#[test]
fn arp_requests_are_answered_in_place() {
    for (name, sender) in [("from the port's address", GUEST), ("a probe", [0; 4]), ("from another", [8, 8, 8, 8])] {
        let outcome = Kernel::new().run("from_guest", &arp(1, sender, METADATA_IPV4));
        let mut expected = arp(2, METADATA_IPV4, sender);
        expected[..12].copy_from_slice(&[MAC, METADATA_MAC].concat());
        expected[22..28].copy_from_slice(&METADATA_MAC);
        expected[32..38].copy_from_slice(&MAC);
        assert_eq!(outcome, Outcome { verdict: REDIRECT, frame: expected, moved: vec![("answered_arp", 1)] }, "{name}");
    }
}

#[test]
fn arp_that_is_no_request_is_dropped() {
    let frame = arp(2, GUEST, METADATA_IPV4);
    assert_eq!(Kernel::new().run("from_guest", &frame), dropped_for("not_answered", &frame));
}

#[test]
fn solicitations_are_answered_in_place() {
    for (name, src, dst, expected_dst, flags) in [
        ("a multicast question", GUEST_V6, METADATA_SOLICITED_NODE, GUEST_V6, 0x60),
        ("a unicast question", GUEST_V6, METADATA_IPV6, GUEST_V6, 0x60),
        (
            "a probe",
            [0; 16],
            METADATA_SOLICITED_NODE,
            std::net::Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1).octets(),
            0x20,
        ),
    ] {
        let outcome = Kernel::new().run("from_guest", &solicitation(src, dst, METADATA_IPV6, 255));
        assert_eq!((outcome.verdict, outcome.moved), (REDIRECT, vec![("answered_neighbour", 1)]), "{name}");
        let (ip, message) = Ipv6Header::from_slice(&outcome.frame[14..]).expect("IPv6");
        assert_eq!((ip.source, ip.destination, ip.hop_limit), (METADATA_IPV6, expected_dst, 255), "{name}");
        assert_eq!((message.len(), message[0], message[4]), (32, 136, flags), "{name}");
        assert_eq!(message[8..24], METADATA_IPV6, "{name}");
        assert_eq!(message[24..], [[2, 1, 0x02, 0x00], [0xa9, 0xfe, 0xa9, 0xfe]].concat(), "{name}");
        let header = etherparse::Icmpv6Header::from_slice(message).expect("ICMPv6").0;
        let sum = header.icmp_type.calc_checksum(ip.source, ip.destination, &message[8..]).expect("the length fits");
        assert_eq!(header.checksum, sum, "{name}");
    }
}

#[test]
fn a_solicitation_from_beyond_the_link_is_dropped() {
    let frame = solicitation(GUEST_V6, METADATA_IPV6, METADATA_IPV6, 64);
    assert_eq!(Kernel::new().run("from_guest", &frame), dropped_for("not_answered", &frame));
}

#[test]
fn echo_requests_are_answered_in_place() {
    let v4 = built(|out| {
        PacketBuilder::ethernet2(MAC, GATEWAY_MAC)
            .ipv4(GUEST, METADATA_IPV4, 64)
            .icmpv4_echo_request(7, 9)
            .write(out, b"payload of the echo")
    });
    let outcome = Kernel::new().run("from_guest", &v4);
    let expected = built(|out| {
        PacketBuilder::ethernet2(GATEWAY_MAC, MAC)
            .ipv4(METADATA_IPV4, GUEST, 64)
            .icmpv4_echo_reply(7, 9)
            .write(out, b"payload of the echo")
    });
    assert_eq!(outcome, Outcome { verdict: REDIRECT, frame: expected, moved: vec![("answered_echo", 1)] });

    let v6 = built(|out| {
        PacketBuilder::ethernet2(MAC, METADATA_MAC)
            .ipv6(GUEST_V6, METADATA_IPV6, 64)
            .icmpv6_echo_request(7, 9)
            .write(out, b"payload of the echo")
    });
    let outcome = Kernel::new().run("from_guest", &v6);
    let expected = built(|out| {
        PacketBuilder::ethernet2(METADATA_MAC, MAC)
            .ipv6(METADATA_IPV6, GUEST_V6, 64)
            .icmpv6_echo_reply(7, 9)
            .write(out, b"payload of the echo")
    });
    assert_eq!(outcome, Outcome { verdict: REDIRECT, frame: expected, moved: vec![("answered_echo", 1)] });
}

#[test]
fn what_is_not_allowed_is_dropped_for_its_reason() {
    let good = tcp4(MAC, GUEST, METADATA_IPV4);
    let good_v6 = tcp6(MAC, GUEST_V6, METADATA_IPV6);
    let change = |frame: &[u8], at: usize, bytes: &[u8]| {
        let mut frame = frame.to_vec();
        frame[at..at + bytes.len()].copy_from_slice(bytes);
        frame
    };
    let global = [0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 5];
    let echo_from = |src| {
        built(|out| {
            PacketBuilder::ethernet2(MAC, GATEWAY_MAC)
                .ipv4(src, METADATA_IPV4, 64)
                .icmpv4_echo_request(7, 9)
                .write(out, b"")
        })
    };
    let mut kernel = Kernel::new();
    for (reason, name, frame) in [
        ("spoofed_mac", "IPv4", tcp4(OTHER_MAC, GUEST, METADATA_IPV4)),
        ("spoofed_mac", "IPv6", tcp6(OTHER_MAC, GUEST_V6, METADATA_IPV6)),
        ("spoofed_ip", "IPv4", tcp4(MAC, [10, 0, 0, 6], METADATA_IPV4)),
        ("spoofed_ip", "IPv4 echo", echo_from([10, 0, 0, 6])),
        ("spoofed_ip", "the service's own", tcp4(MAC, METADATA_IPV4, METADATA_IPV4)),
        ("spoofed_ip", "IPv6, not link-local", tcp6(MAC, global, METADATA_IPV6)),
        ("ipv4_options", "IPv4 options", change(&good, 14, &[0x46])),
        ("fragment", "a first fragment", change(&good, 20, &[0x20, 0])),
        ("fragment", "a later fragment", change(&good, 20, &[0, 1])),
        ("fragment", "an IPv6 fragment", change(&good_v6, 20, &[44])),
        ("ipv6_extension", "hop-by-hop options", change(&good_v6, 20, &[0])),
        ("truncated", "an IPv4 length beyond the frame", change(&good, 16, &[5, 220])),
        ("truncated", "an IPv6 length beyond the frame", change(&good_v6, 18, &[5, 220])),
        ("truncated", "an IPv4 header without TCP", change(&good, 16, &[0, 20])),
        ("not_answered", "UDP", udp4(METADATA_IPV4)),
        ("not_answered", "UDP over IPv6", change(&good_v6, 20, &[17])),
    ] {
        assert_eq!(kernel.run("from_guest", &frame), dropped_for(reason, &frame), "{name}");
    }
}

#[test]
fn drops_are_sampled() {
    use aya::maps::RingBuf;
    let mut kernel = Kernel::new();
    for _ in 0..9 {
        kernel.run_alone("from_guest", &udp4(METADATA_IPV4));
    }
    let mut ring = RingBuf::try_from(kernel.ring()).expect("a ring");
    let mut seen = Vec::new();
    while let Some(item) = ring.next() {
        assert_eq!(item[..8], [IFINDEX.to_ne_bytes(), 7u32.to_ne_bytes()].concat());
        seen.push(u64::from_ne_bytes(item[8..16].try_into().expect("eight bytes")));
        assert_eq!(item[24..24 + 12], [GATEWAY_MAC, MAC].concat(), "the frame's head");
    }
    let (cpu_changes, last) = (seen.windows(2).filter(|pair| pair[0] >= pair[1]).count(), seen.last());
    assert!(seen.iter().all(|count| count.is_power_of_two()), "{seen:?}");
    assert!(cpu_changes > 0 || (seen == [1, 2, 4, 8] && last == Some(&8)), "{seen:?}");
}

#[test]
fn a_held_port_learns_the_mac_of_any_source() {
    let held = Port { flags: PORT_HELD, source_count: 0, mac: [0; 6], ..port() };
    let mut kernel = Kernel::with(&held);
    let outcome = kernel.run("from_guest", &tcp4(OTHER_MAC, [8, 8, 8, 8], METADATA_IPV4));
    assert_eq!((outcome.verdict, outcome.moved), (REDIRECT, vec![("to_responder", 1)]));
    let source: [u8; 16] = outcome.frame[22..38].try_into().expect("sixteen bytes");
    assert_eq!(kernel.learned_mac(source), Some(OTHER_MAC));
}

#[test]
fn what_a_port_learns_is_its_own() {
    let held = Port { flags: PORT_HELD, source_count: 0, mac: [0; 6], ..port() };
    let mut kernel = Kernel::with(&held);
    let outcome = kernel.run("from_guest", &tcp6(OTHER_MAC, GUEST_V6, METADATA_IPV6));
    let source: [u8; 16] = outcome.frame[22..38].try_into().expect("sixteen bytes");
    kernel.make_neighbours(TAG + 1);
    let mut ports: aya::maps::HashMap<_, u32, Port> = kernel.map("PORTS");
    ports.insert(IFINDEX, Port { tag: TAG + 1, ..held }, 0).expect("PORTS takes the port");
    for last in 0..=255 {
        for address in [[0xfe, 0x80, 0, 0, 0, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, last], GUEST_V6] {
            kernel.run("from_guest", &tcp6(MAC, address, METADATA_IPV6));
        }
    }
    assert_eq!(kernel.learned_mac(source), Some(OTHER_MAC), "the other tag's");
}

#[test]
fn an_entry_of_another_interface_is_not_believed() {
    let frame = tcp4(MAC, GUEST, METADATA_IPV4);
    let outcome = Kernel::with(&Port { ifindex: 99, ..port() }).run("from_guest", &frame);
    assert_eq!(outcome, dropped_for("kernel_error", &frame));
}

#[test]
fn large_and_padded_frames_go_through() {
    // The most that such a test run takes; tests/netns sends jumbo frames.
    let payload = vec![0x5a; 3000];
    let large = built(|out| {
        PacketBuilder::ethernet2(MAC, GATEWAY_MAC)
            .ipv4(GUEST, METADATA_IPV4, 64)
            .tcp(40000, 80, 1, 500)
            .write(out, &payload)
    });
    let outcome = Kernel::new().run("from_guest", &large);
    assert_eq!(outcome.verdict, REDIRECT);
    assert_checksum(&outcome.frame);

    let mut padded = built(|out| {
        PacketBuilder::ethernet2(MAC, GATEWAY_MAC).ipv4(GUEST, METADATA_IPV4, 64).tcp(40000, 80, 1, 500).write(out, &[])
    });
    padded.resize(60, 0);
    let outcome = Kernel::new().run("from_guest", &padded);
    assert_eq!((outcome.verdict, outcome.frame.len()), (REDIRECT, 80));
    assert_checksum(&outcome.frame);
}

#[test]
fn the_frames_of_these_tests_are_what_they_say() {
    let header = Ethernet2Header::from_slice(&tcp4(MAC, GUEST, METADATA_IPV4)).expect("Ethernet").0;
    assert_eq!((header.source, header.ether_type), (MAC, EtherType::IPV4));
}

/// Old kernels give up after a million instructions, and verify anew at each start of the daemon.
#[test]
fn the_verifier_is_soon_done() {
    /// The kernel gives up at 1,000,000. Linux 6.1 looks at some 105,000, newer ones at fewer.
    const MOST: u32 = 150_000;
    for (program, instructions) in Kernel::new().verified_instructions() {
        println!("{program}: {instructions} instructions verified");
        assert!(instructions < MOST, "{program}: {instructions}");
    }
}

#[test]
fn the_traced_programs_load_and_decide_the_same() {
    let mut kernel = Kernel::tracing(IFINDEX);
    let frame = tcp4(MAC, GUEST, METADATA_IPV4);
    assert_eq!(kernel.run("from_guest", &frame).verdict, PASS, "no port");
    let mut ports: aya::maps::HashMap<_, u32, Port> = kernel.map("PORTS");
    ports.insert(IFINDEX, port(), 0).expect("PORTS takes the port");
    assert_eq!(kernel.run("from_guest", &frame).verdict, REDIRECT);
    assert_eq!(kernel.run("from_guest", &udp4(METADATA_IPV4)).verdict, DROP);
    assert_eq!(kernel.run("from_guest", &arp(1, GUEST, METADATA_IPV4)).verdict, REDIRECT);
}
