//! What comes out of the responder's namespace, as the program `to_guest` decides and translates it.

use metadata_ebpf::abi::{PORT_ENDED, PORT_HELD, PORT_LEARN};
use metadata_ebpf::addr::{IDENTITY_PREFIX, METADATA_IPV4, METADATA_IPV6, METADATA_MAC, RESPONDER_IPV6};
use metadata_ebpf::packet::{ETH_IPV6_LEN, EthIpv6, PROTOCOL_ICMPV6, PROTOCOL_TCP, TCP_RESET, Tcp, view};
use metadata_ebpf::translate::{self, Outbound, PathMtu};
use metadata_ebpf::verdict::reply::{self, NextHop, Path};

use crate::frame::{bytes_of, is_header_right, is_right};
use crate::input::Input;

pub(super) fn run(mut input: Input<'_>) {
    let [flags, choice] = input.array();
    let (mtu, gso_size) = (u32::from(input.number()), u32::from(input.number() & 0x3fff));
    let (tag, mac) = (u32::from_be_bytes(input.array()), input.array());
    let bytes = input.rest();
    let Some(frame) = view::<EthIpv6>(bytes) else { return };
    let Ok(identity) = reply::destination(u16::from_be_bytes(frame.ethertype), frame) else { return };
    assert_eq!((frame.src, frame.next_header), (RESPONDER_IPV6, PROTOCOL_TCP), "a foreign frame reaches a guest");
    assert_eq!([frame.dst[0], frame.dst[1]], IDENTITY_PREFIX);
    assert_eq!(identity.tag.to_be_bytes(), frame.dst[4..8]);
    assert_eq!(identity.encode(), frame.dst, "an identity address has one spelling");

    let Some(tcp) = view::<Tcp>(&bytes[ETH_IPV6_LEN..]) else { return };
    let tag = if choice & 1 == 0 { identity.tag } else { tag };
    let flags = u16::from(flags) & (PORT_HELD | PORT_LEARN | PORT_ENDED);
    let path = Path { tag, ifindex: 3, mac, flags, place: 0 };
    let Ok(next_hop) = reply::next_hop(&identity, &path, tcp) else { return };
    assert_eq!(tag, identity.tag, "a segment of another binding");
    assert!(flags & PORT_ENDED == 0 || tcp.flags & TCP_RESET != 0, "data of a binding that has ended");
    assert_eq!(next_hop == NextHop::Learned, flags & (PORT_HELD | PORT_LEARN) != 0);

    let length = u32::try_from(bytes.len()).expect("short");
    let packet_len = reply::packet_len(length, gso_size, tcp, identity.family);
    if let Some(report) = reply::too_big(frame, tcp, packet_len, mtu, identity.family) {
        assert!(packet_len > mtu && mtu > 0);
        assert_eq!(report.identity, frame.dst);
        return check_report(&report);
    }
    let segment = &bytes[ETH_IPV6_LEN..];
    match translate::outbound(frame, &identity, mac) {
        None => assert!(u16::from_be_bytes(frame.payload_len) > u16::MAX - 20),
        Some(Outbound::Ipv4(header)) => {
            assert_eq!((header.src, header.dst), (METADATA_IPV4, identity.guest_ipv4()));
            assert_eq!((header.dst_mac, header.src_mac, header.ttl), (mac, METADATA_MAC, frame.hop_limit));
            assert_eq!(u16::from_be_bytes(header.total_len) - 20, u16::from_be_bytes(frame.payload_len));
            assert!(is_header_right(&bytes_of(&header)[14..]));
            check_segment(segment, [&frame.src, &frame.dst], [&header.src, &header.dst]);
        }
        Some(Outbound::Ipv6(header)) => {
            assert_eq!((header.src, header.dst), (METADATA_IPV6, identity.guest_ipv6()));
            assert_eq!((header.dst_mac, header.src_mac, header.hop_limit), (mac, METADATA_MAC, frame.hop_limit));
            assert_eq!(header.payload_len, frame.payload_len);
            check_segment(segment, [&frame.src, &frame.dst], [&header.src, &header.dst]);
        }
    }
}

/// A checksum that is right inside is right outside; the fuzzer need not guess one.
fn check_segment<const N: usize>(segment: &[u8], inside: [&[u8; 16]; 2], outside: [&[u8; N]; 2]) {
    use metadata_ebpf::checksum::adjusted;
    use metadata_ebpf::packet::TCP_CHECKSUM;
    let mut segment = segment.to_vec();
    let place = TCP_CHECKSUM..TCP_CHECKSUM + 2;
    segment[place.clone()].fill(0);
    let right = crate::frame::missing(PROTOCOL_TCP, &[inside[0], inside[1]], &segment).to_be_bytes();
    let changed = adjusted(right, &[*inside[0], *inside[1]], &[*outside[0], *outside[1]]);
    segment[place].copy_from_slice(&changed);
    assert!(is_right(PROTOCOL_TCP, &[outside[0], outside[1]], &segment), "the checksum is wrong outside");
}

/// A report to the responder is one that its kernel takes.
pub(super) fn check_report(report: &PathMtu) {
    let (header, message) = (report.header(), report.message());
    assert_eq!((header.src, header.dst, header.next_header), (report.identity, RESPONDER_IPV6, PROTOCOL_ICMPV6));
    assert_eq!((message.quoted.src, message.quoted.dst), (RESPONDER_IPV6, report.identity));
    assert!(report.mtu >= translate::IPV6_MIN_MTU);
    assert!(is_right(PROTOCOL_ICMPV6, &[&header.src, &header.dst], bytes_of(&message)));
}
