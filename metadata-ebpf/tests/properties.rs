//! What holds for every packet and address: the way in and the way back, identity addresses, checksums, options.

use etherparse::{IpNumber, Ipv4Header, Ipv6FlowLabel, Ipv6Header, TcpHeader, TcpOptions};
use metadata_ebpf::{
    addr::{Family, IdentityAddress, METADATA_IPV4, METADATA_IPV6, METADATA_MAC, RESPONDER_IPV6, Vlan},
    checksum,
    mss::{self, Options},
    packet::{ADVERTISEMENT_LEN, EthIpv4, EthIpv6, PACKET_TOO_BIG_LEN, PROTOCOL_TCP},
    translate::{self, Outbound, PathMtu},
};
use proptest::prelude::*;

fn vlan() -> impl Strategy<Value = Vlan> {
    (0u16..4095, any::<bool>()).prop_map(|(id, service)| Vlan { id, service })
}

fn tag() -> impl Strategy<Value = u32> {
    1..=u32::MAX
}

fn link_local(interface: [u8; 8]) -> [u8; 16] {
    let mut address = [0; 16];
    address[..2].copy_from_slice(&[0xfe, 0x80]);
    address[8..].copy_from_slice(&interface);
    address
}

/// A guest's IPv4 segment, as the verdict lets it through.
fn segment_ipv4() -> impl Strategy<Value = EthIpv4> {
    (any::<[u8; 6]>(), any::<u8>(), 40u16..=u16::MAX, any::<u8>(), any::<[u8; 4]>()).prop_map(
        |(src_mac, tos, total_len, ttl, src)| EthIpv4 {
            dst_mac: METADATA_MAC,
            src_mac,
            ethertype: [8, 0],
            version_ihl: 0x45,
            tos,
            total_len: total_len.to_be_bytes(),
            id: [0; 2],
            fragment: [0x40, 0],
            ttl,
            protocol: PROTOCOL_TCP,
            checksum: [0; 2],
            src,
            dst: METADATA_IPV4,
        },
    )
}

fn segment_ipv6() -> impl Strategy<Value = EthIpv6> {
    (any::<[u8; 6]>(), any::<[u8; 3]>(), any::<[u8; 2]>(), any::<u8>(), any::<[u8; 8]>()).prop_map(
        |(src_mac, [a, b, c], payload_len, hop_limit, interface)| EthIpv6 {
            dst_mac: METADATA_MAC,
            src_mac,
            ethertype: [0x86, 0xdd],
            version_class_flow: [0x60 | (a & 0xf), a, b, c],
            payload_len,
            next_header: PROTOCOL_TCP,
            hop_limit,
            src: link_local(interface),
            dst: METADATA_IPV6,
        },
    )
}

/// A reply to a packet of the responder's: its headers with the ends exchanged.
fn answered(packet: &EthIpv6) -> EthIpv6 {
    EthIpv6 { dst_mac: packet.src_mac, src_mac: packet.dst_mac, src: packet.dst, dst: packet.src, ..*packet }
}

proptest! {
    #[test]
    fn an_identity_address_keeps_all_that_it_is_made_of(
        ipv4 in any::<bool>(), vlan in vlan(), tag in tag(), guest in any::<[u8; 8]>()
    ) {
        let [a, b, c, d, e, f, g, h] = guest;
        let (family, guest) =
            if ipv4 { (Family::Ipv4, [0, 0, 0, 0, e, f, g, h]) } else { (Family::Ipv6, [a, b, c, d, e, f, g, h]) };
        let identity = IdentityAddress { family, vlan, tag, guest };
        prop_assert_eq!(IdentityAddress::decode(&identity.encode()), Some(identity));
    }

    #[test]
    fn whatever_decodes_was_encoded(bytes in any::<[u8; 14]>()) {
        let mut address = [0xfd, 0x6d, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        address[2..].copy_from_slice(&bytes);
        if let Some(identity) = IdentityAddress::decode(&address) {
            prop_assert_eq!(identity.encode(), address);
        }
    }

    #[test]
    fn ipv4_headers_come_back_with_the_ends_exchanged(frame in segment_ipv4(), vlan in vlan(), tag in tag()) {
        let identity = IdentityAddress::of_ipv4(tag, vlan, frame.src);
        let inside = translate::inbound_ipv4(&frame, identity.encode());
        prop_assert_eq!((inside.src, inside.dst), (identity.encode(), RESPONDER_IPV6));
        let decoded = IdentityAddress::decode(&answered(&inside).dst).expect("an identity address");
        prop_assert_eq!(decoded, identity);
        let Some(Outbound::Ipv4(back)) = translate::outbound(&answered(&inside), &decoded, frame.src_mac) else {
            return Err(TestCaseError::fail("not IPv4"));
        };
        let expected = EthIpv4 {
            dst_mac: frame.src_mac, src_mac: METADATA_MAC, src: frame.dst, dst: frame.src, checksum: back.checksum, ..frame
        };
        prop_assert_eq!(back, expected);
        let header = Ipv4Header::from_slice(&headers_of(&back)).expect("an IPv4 header").0;
        prop_assert_eq!(header.header_checksum, header.calc_header_checksum());
    }

    #[test]
    fn ipv6_headers_come_back_with_the_ends_exchanged(frame in segment_ipv6(), vlan in vlan(), tag in tag()) {
        let identity = IdentityAddress::of_ipv6(tag, vlan, &frame.src);
        let inside = translate::inbound_ipv6(&frame, identity.encode());
        let decoded = IdentityAddress::decode(&answered(&inside).dst).expect("an identity address");
        prop_assert_eq!(decoded, identity);
        let back = translate::outbound(&answered(&inside), &decoded, frame.src_mac);
        let expected =
            EthIpv6 { dst_mac: frame.src_mac, src_mac: METADATA_MAC, src: frame.dst, dst: frame.src, ..frame };
        prop_assert_eq!(back, Some(Outbound::Ipv6(expected)));
    }

    #[test]
    fn a_tcp_checksum_over_ipv4_is_right_inside_and_on_the_way_back_as_it_is(
        src in any::<[u8; 4]>(), tag in tag(), vlan in vlan(), ports in any::<(u16, u16, u32)>(),
        payload in proptest::collection::vec(any::<u8>(), 0..100)
    ) {
        let tcp = TcpHeader::new(ports.0, ports.1, ports.2, 500);
        let identity = IdentityAddress::of_ipv4(tag, vlan, src).encode();
        let (there, back) = ((src, identity), (METADATA_IPV4, RESPONDER_IPV6));
        for ((src, inner_src), (dst, inner_dst)) in [(there, back), (back, there)] {
            let outside = Ipv4Header::new(0, 64, IpNumber::TCP, src, dst).expect("a header");
            let inside = ipv6_header(inner_src, inner_dst, IpNumber::TCP);
            let sums = (tcp.calc_checksum_ipv4(&outside, &payload), tcp.calc_checksum_ipv6(&inside, &payload));
            prop_assert_eq!(sums.0.expect("short"), sums.1.expect("short"));
        }
        // What the card still has to add up to, too: it knows the pseudo header as it was.
        let difference = checksum::difference(&[src, METADATA_IPV4], &[identity, RESPONDER_IPV6]);
        prop_assert_eq!(checksum::fold((difference & 0xffff) + (difference >> 16)), 0xffff);
    }

    #[test]
    fn a_tcp_checksum_over_ipv6_is_right_inside_and_on_the_way_back(
        interface in any::<[u8; 8]>(), tag in tag(), vlan in vlan(), ports in any::<(u16, u16, u32)>(),
        payload in proptest::collection::vec(any::<u8>(), 0..100)
    ) {
        let src = link_local(interface);
        let mut tcp = TcpHeader::new(ports.0, ports.1, ports.2, 500);
        let outside = ipv6_header(src, METADATA_IPV6, IpNumber::TCP);
        tcp.checksum = tcp.calc_checksum_ipv6(&outside, &payload).expect("short");
        let identity = IdentityAddress::of_ipv6(tag, vlan, &src).encode();
        let (old, new) = ([src, METADATA_IPV6], [identity, RESPONDER_IPV6]);
        let inside = checksum::adjusted(tcp.checksum.to_be_bytes(), &old, &new);
        let expected = tcp.calc_checksum_ipv6(&ipv6_header(identity, RESPONDER_IPV6, IpNumber::TCP), &payload);
        prop_assert_eq!(u16::from_be_bytes(inside), expected.expect("short"));
        prop_assert_eq!(checksum::adjusted(inside, &new, &old), tcp.checksum.to_be_bytes());
        // As the kernel applies what the programs give it (`csum_replace_by_diff`): words in the host's order.
        let difference = checksum::difference(&old, &new);
        let field = u16::from_ne_bytes(tcp.checksum.to_be_bytes());
        let applied = !checksum::fold(u32::from(!field) + (difference & 0xffff) + (difference >> 16));
        prop_assert_eq!(applied.to_ne_bytes(), inside);
    }

    #[test]
    fn an_advertisement_has_the_checksum_that_others_compute(frame in segment_ipv6(), probe in any::<bool>()) {
        let frame = EthIpv6 { src: if probe { [0; 16] } else { frame.src }, ..frame };
        let answer = frame.advertisement(METADATA_IPV6, METADATA_MAC);
        let bytes = bytes_of::<_, ADVERTISEMENT_LEN>(&answer);
        prop_assert_eq!(icmpv6_checksum(&bytes), answer.message.checksum);
    }

    #[test]
    fn a_report_about_a_path_has_the_checksum_that_others_compute(
        identity in any::<[u8; 16]>(), segment_len in any::<u16>(), tcp in any::<[u8; 8]>(), mtu in any::<u32>()
    ) {
        let report = PathMtu { identity, segment_len, tcp, mtu };
        let mut bytes = [0; PACKET_TOO_BIG_LEN];
        bytes[..54].copy_from_slice(&bytes_of::<_, 54>(&report.header()));
        bytes[54..].copy_from_slice(&bytes_of::<_, 56>(&report.message()));
        prop_assert_eq!(icmpv6_checksum(&bytes), report.message().checksum);
    }

    /// Whatever the options are, what others read as the maximum segment size is bounded afterwards, and the checksum right.
    #[test]
    fn a_maximum_segment_size_is_bounded_wherever_it_is(
        elements in proptest::collection::vec(option(), 0..8), largest in any::<u16>(), payload in any::<[u8; 5]>()
    ) {
        let bytes = elements.concat();
        prop_assume!(bytes.len() <= 40);
        let mut tcp = TcpHeader::new(1, 80, 7, 500);
        tcp.syn = true;
        tcp.options = TcpOptions::try_from_slice(&bytes).expect("40 bytes at most");
        let ip = Ipv4Header::new(0, 64, IpNumber::TCP, [10, 0, 0, 5], METADATA_IPV4).expect("a header");
        tcp.checksum = tcp.calc_checksum_ipv4(&ip, &payload).expect("short");
        let before = announced(&tcp);

        let len = tcp.options.len();
        let mut options: Options = [0; 40];
        options[..len].copy_from_slice(&tcp.options);
        if let Some(clamp) = mss::clamp(&options, len, largest) {
            options[clamp.offset..clamp.offset + 2].copy_from_slice(&clamp.value);
            let (old, new) = (u16::from_be_bytes(clamp.words.0), u16::from_be_bytes(clamp.words.1));
            let sum = u32::from(!tcp.checksum) + u32::from(!old) + u32::from(new);
            tcp.checksum = !checksum::fold(sum);
        }
        tcp.options = TcpOptions::try_from_slice(&options[..len]).expect("40 bytes at most");
        prop_assert_eq!(announced(&tcp), before.map(|size| size.min(largest)));
        let expected = tcp.calc_checksum_ipv4(&ip, &payload).expect("short");
        prop_assert_eq!(tcp.checksum, expected);
    }
}

/// An option as guests send it.
fn option() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        Just(vec![1]),
        any::<[u8; 2]>().prop_map(|[a, b]| vec![2, 4, a, b]),
        any::<u8>().prop_map(|shift| vec![3, 3, shift]),
        Just(vec![4, 2]),
        any::<[u8; 8]>().prop_map(|times| [[8, 10].as_slice(), &times].concat()),
        proptest::collection::vec(any::<u8>(), 0..6).prop_map(|cookie| {
            let len = u8::try_from(cookie.len() + 2).expect("short");
            [[34, len].as_slice(), &cookie].concat()
        }),
    ]
}

/// The first maximum segment size in the options, found by walking from one to the next (RFC 9293, section 3.1).
fn announced(tcp: &TcpHeader) -> Option<u16> {
    let mut rest = tcp.options.as_slice();
    loop {
        rest = match rest {
            [1, rest @ ..] => rest,
            [2, 4, high, low, ..] => return Some(u16::from_be_bytes([*high, *low])),
            [0, ..] | [] => return None,
            [_, len, ..] if *len >= 2 && usize::from(*len) <= rest.len() => &rest[usize::from(*len)..],
            _ => return None,
        };
    }
}

fn ipv6_header(source: [u8; 16], destination: [u8; 16], next_header: IpNumber) -> Ipv6Header {
    Ipv6Header {
        traffic_class: 0,
        flow_label: Ipv6FlowLabel::ZERO,
        payload_length: 0,
        next_header,
        hop_limit: 64,
        source,
        destination,
    }
}

/// The bytes of an IPv4 header.
fn headers_of(frame: &EthIpv4) -> Vec<u8> {
    bytes_of::<_, 34>(frame)[14..].to_vec()
}

/// The bytes of a view.
fn bytes_of<T: metadata_ebpf::packet::View, const N: usize>(view: &T) -> [u8; N] {
    assert_eq!(size_of::<T>(), N);
    // SAFETY: as long as the view (asserted above); `View` promises bytes without padding.
    unsafe { *std::ptr::from_ref(view).cast::<[u8; N]>() }
}

/// The checksum that an ICMPv6 message in a frame should have, by another implementation.
fn icmpv6_checksum(frame: &[u8]) -> [u8; 2] {
    let (ip, message) = Ipv6Header::from_slice(&frame[14..]).expect("an IPv6 header");
    let (kind, code, rest) = (message[0], message[1], &message[4..]);
    let unknown = etherparse::Icmpv6Type::Unknown {
        type_u8: kind,
        code_u8: code,
        bytes5to8: [rest[0], rest[1], rest[2], rest[3]],
    };
    unknown.calc_checksum(ip.source, ip.destination, &rest[4..]).expect("short").to_be_bytes()
}
