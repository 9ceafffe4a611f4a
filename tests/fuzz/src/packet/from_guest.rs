//! What a guest sends, as the program `from_guest` decides and translates it.

use metadata_ebpf::abi::{
    DropReason, Limits, MAX_SOURCES, PORT_ANY_ADDRESS, PORT_HELD, PORT_LEARN, PassList, Port, Source,
};
use metadata_ebpf::addr::{
    Family, IdentityAddress, METADATA_IPV4, METADATA_IPV6, METADATA_MAC, METADATA_SOLICITED_NODE, RESPONDER_IPV6, Vlan,
};
use metadata_ebpf::packet::{
    ARP_REPLY, ETH_IPV4_LEN, ETH_IPV6_LEN, ETHERTYPE_ARP, ETHERTYPE_IPV4, ETHERTYPE_IPV6, EthArp, EthIpv4, EthIpv6,
    FragmentationNeeded, Neighbour, PROTOCOL_ICMPV6, PROTOCOL_TCP, PacketTooBig, TCP_CHECKSUM, TCP_SYN, Tcp, Transport,
    view,
};
use metadata_ebpf::translate::{self, Outbound, PathMtu};
use metadata_ebpf::verdict::reply::{self, NextHop, Path};
use metadata_ebpf::verdict::{self, Action, ArpAction};
use metadata_ebpf::{checksum, mss};

use crate::frame::{bytes_of, is_right};
use crate::input::Input;

/// What the program knows of a port.
struct Knows {
    port: Port,
    pass: PassList,
    tag: u32,
    vlan: Vlan,
    mtu: u32,
}

pub(super) fn run(mut input: Input<'_>) {
    let [flags, pass, count, own] = input.array();
    let (vlan, mtu) = (super::vlan(input.number()), u32::from(input.number()));
    let tag = u32::from_be_bytes(input.array()) | 1;
    let mut sources = [Source::EMPTY; MAX_SOURCES];
    let count = usize::from(count % 5);
    for place in sources.iter_mut().take(count) {
        let [choice, length] = input.array();
        let family = if choice & 1 == 0 { 4 } else { 6 };
        let mac = if choice & 2 == 0 { [2, 0, 0, 0, 0, 1] } else { input.array() };
        let mut addr = [0; 16];
        if family == 4 {
            addr[..4].copy_from_slice(&input.array::<4>());
        } else {
            addr = input.array();
        }
        *place = Source::new(mac, family, addr, length % if family == 4 { 33 } else { 129 });
    }
    let fix = flags & 0x80 != 0;
    let mut frame = input.rest().to_vec();
    if frame.len() < 14 {
        return;
    }
    if fix {
        fix_checksum(&mut frame);
    }
    let mac = if own & 1 == 0 { [2, 0, 0, 0, 0, 1] } else { <[u8; 6]>::try_from(&frame[6..12]).expect("six bytes") };
    let port = Port {
        tag,
        ifindex: 3,
        mac,
        flags: u16::from(flags) & (PORT_HELD | PORT_ANY_ADDRESS | PORT_LEARN),
        source_count: u32::try_from(count).expect("few"),
        place: 0,
        limits: Limits::NONE,
        instance: [0; 16],
        sources,
    };
    let knows = Knows { port, pass: super::pass_list(pass), tag, vlan, mtu };
    match u16::from_be_bytes([frame[12], frame[13]]) {
        ETHERTYPE_IPV4 => ipv4(&knows, &frame),
        ETHERTYPE_IPV6 => ipv6(&knows, &frame),
        ETHERTYPE_ARP => arp(&knows, &frame),
        _ => {}
    }
}

fn ipv4(knows: &Knows, bytes: &[u8]) {
    let Some(frame) = view::<EthIpv4>(bytes).filter(|frame| frame.dst == METADATA_IPV4) else { return };
    let transport = view::<Transport>(&bytes[ETH_IPV4_LEN..]);
    let verdict = verdict::ipv4(frame, transport, len(bytes), &knows.port, &knows.pass);
    let is_ours =
        is_own(&knows.port, frame.src_mac, 4, &frame.src, frame.src[..2] == [169, 254]) && frame.src != METADATA_IPV4;
    match verdict {
        Err(reason) => assert!(!(is_ours && is_spoofed(reason)), "{reason:?}: an own source is refused"),
        Ok(Action::Pass) => assert!(!knows.pass.is_empty()),
        Ok(action) => {
            assert!(is_ours, "{action:?} of a source that is not the port's");
            let total = usize::from(u16::from_be_bytes(frame.total_len));
            let segment = &bytes[ETH_IPV4_LEN..14 + total];
            match action {
                Action::Respond => {
                    let identity = IdentityAddress::of_ipv4(knows.tag, knows.vlan, frame.src);
                    let inside = translate::inbound_ipv4(frame, identity.encode());
                    respond(knows, &identity, &inside, segment, [&frame.src, &METADATA_IPV4], frame.src_mac);
                }
                Action::PathMtu => {
                    // What is not there is refused by the program.
                    let Some(message) = view::<FragmentationNeeded>(&bytes[ETH_IPV4_LEN..]) else { return };
                    if let Ok(report) = verdict::fragmentation_needed(message, knows.tag, knows.vlan) {
                        assert_eq!(message.quoted.src, METADATA_IPV4);
                        path_mtu(knows, Family::Ipv4, &report);
                    }
                }
                Action::Echo | Action::Pass => {}
            }
        }
    }
}

fn ipv6(knows: &Knows, bytes: &[u8]) {
    let Some(frame) = view::<EthIpv6>(bytes) else { return };
    let message = view::<Neighbour>(&bytes[ETH_IPV6_LEN..]);
    let solicits = message.is_some_and(|message| verdict::is_solicitation(frame, message));
    let is_shared = frame.dst == METADATA_SOLICITED_NODE
        && solicits
        && message.is_some_and(|message| message.target == METADATA_IPV6);
    if frame.dst != METADATA_IPV6 && !is_shared {
        return;
    }
    if let Some(message) = message.filter(|_| solicits) {
        if let Ok(answer) = verdict::solicitation(frame, message) {
            assert_eq!((frame.hop_limit, message.target), (255, METADATA_IPV6));
            assert_eq!(
                (answer.ip.src, answer.ip.src_mac, answer.option_mac),
                (METADATA_IPV6, METADATA_MAC, METADATA_MAC)
            );
            let answer_bytes = bytes_of(&answer);
            assert!(is_right(PROTOCOL_ICMPV6, &[&answer.ip.src, &answer.ip.dst], &answer_bytes[ETH_IPV6_LEN..]));
            // To the sender, or to all nodes on this tap.
            assert!(answer.ip.dst == frame.src || answer.ip.dst[0] == 0xff);
        }
        return;
    }
    let transport = view::<Transport>(&bytes[ETH_IPV6_LEN..]);
    let verdict = verdict::ipv6(frame, transport, len(bytes), &knows.port, &knows.pass);
    let link_local = frame.src[..8] == [0xfe, 0x80, 0, 0, 0, 0, 0, 0];
    let is_ours = is_own(&knows.port, frame.src_mac, 6, &frame.src, link_local) && frame.src != METADATA_IPV6;
    match verdict {
        Err(reason) => assert!(!(is_ours && is_spoofed(reason)), "{reason:?}: an own source is refused"),
        Ok(Action::Pass) => assert!(!knows.pass.is_empty()),
        Ok(action) => {
            assert!(is_ours && link_local, "{action:?} of a source that is not the port's");
            let payload = usize::from(u16::from_be_bytes(frame.payload_len));
            let segment = &bytes[ETH_IPV6_LEN..ETH_IPV6_LEN + payload];
            match action {
                Action::Respond => {
                    let identity = IdentityAddress::of_ipv6(knows.tag, knows.vlan, &frame.src);
                    let inside = translate::inbound_ipv6(frame, identity.encode());
                    respond(knows, &identity, &inside, segment, [&frame.src, &METADATA_IPV6], frame.src_mac);
                }
                Action::PathMtu => {
                    let Some(message) = view::<PacketTooBig>(&bytes[ETH_IPV6_LEN..]) else { return };
                    if let Ok(report) = verdict::packet_too_big(message, knows.tag, knows.vlan) {
                        assert_eq!(message.quoted.src, METADATA_IPV6);
                        path_mtu(knows, Family::Ipv6, &report);
                    }
                }
                Action::Echo | Action::Pass => {}
            }
        }
    }
}

fn arp(knows: &Knows, bytes: &[u8]) {
    let Some(frame) = view::<EthArp>(bytes).filter(|frame| frame.target == METADATA_IPV4) else { return };
    match verdict::arp(frame, &knows.pass) {
        Ok(ArpAction::Answer(answer)) => {
            assert_eq!(
                (answer.dst_mac, answer.target_mac, answer.target),
                (frame.src_mac, frame.sender_mac, frame.sender)
            );
            assert_eq!(
                (answer.sender, answer.sender_mac, answer.operation),
                (METADATA_IPV4, METADATA_MAC, [0, ARP_REPLY])
            );
        }
        Ok(ArpAction::Pass) => assert!(!knows.pass.is_empty() && frame.operation == [0, ARP_REPLY]),
        Err(reason) => assert_eq!(reason, DropReason::NotAnswered),
    }
}

/// A segment on its way to the responder, and an answer to it on its way back.
fn respond<const N: usize>(
    knows: &Knows,
    identity: &IdentityAddress,
    inside: &EthIpv6,
    segment: &[u8],
    outside: [&[u8; N]; 2],
    mac: [u8; 6],
) {
    assert_eq!((inside.dst, inside.next_header), (RESPONDER_IPV6, PROTOCOL_TCP));
    assert_eq!(usize::from(u16::from_be_bytes(inside.payload_len)), segment.len());
    let found = IdentityAddress::decode(&inside.src).expect("an identity address");
    assert_eq!((found, found.tag, found.vlan), (*identity, knows.tag, knows.vlan));
    assert_eq!(found.guest_address().is_ipv4(), N == 4);

    // The checksum: right inside if it was outside, the announced size bounded.
    let tcp = view::<Tcp>(segment).expect("a whole header");
    let mut segment_inside = segment.to_vec();
    let was_right = is_right(PROTOCOL_TCP, &[outside[0], outside[1]], segment);
    let header_len = usize::from(tcp.data_offset >> 4) * 4;
    bound_segments(knows, tcp, &mut segment_inside, N == 16);
    let field: [u8; 2] = [segment_inside[TCP_CHECKSUM], segment_inside[TCP_CHECKSUM + 1]];
    let (old, new) = ([*outside[0], *outside[1]], [inside.src, inside.dst]);
    segment_inside[TCP_CHECKSUM..TCP_CHECKSUM + 2].copy_from_slice(&checksum::adjusted(field, &old, &new));
    if was_right && header_len <= segment.len() {
        assert!(is_right(PROTOCOL_TCP, &[&inside.src, &inside.dst], &segment_inside), "the checksum is wrong inside");
    }

    // The way back of an answer.
    let answer = EthIpv6 { src: inside.dst, dst: inside.src, ..*inside };
    let back = reply::destination(ETHERTYPE_IPV6, &answer).expect("an answer");
    assert_eq!(back, *identity);
    let path = Path { tag: knows.tag, ifindex: 3, mac, flags: 0, place: 0 };
    assert_eq!(reply::next_hop(&back, &path, tcp), Ok(NextHop::Mac(mac)));
    match translate::outbound(&answer, &back, mac) {
        Some(Outbound::Ipv4(header)) => {
            assert_eq!((&header.dst[..], header.src, header.dst_mac), (&outside[0][..], METADATA_IPV4, mac));
        }
        Some(Outbound::Ipv6(header)) => {
            assert_eq!((&header.dst[..], header.src, header.dst_mac), (&outside[0][..], METADATA_IPV6, mac));
        }
        None => assert!(N == 4 && segment.len() + 20 > 0xffff),
    }
}

/// Bounds the announced maximum segment size, as the program does.
fn bound_segments(knows: &Knows, tcp: &Tcp, segment: &mut [u8], ipv6: bool) {
    let Some(options_len) = verdict::options_of_first(tcp) else { return };
    assert!(tcp.flags & TCP_SYN != 0 && options_len <= mss::MAX_OPTIONS);
    let largest = mss::largest(knows.mtu, ipv6);
    let mut options: mss::Options = [0; mss::MAX_OPTIONS];
    let start = size_of::<Tcp>();
    for place in (0..mss::MAX_OPTIONS).step_by(4) {
        if let Some(four) = segment.get(start + place..start + place + 4) {
            options[place..place + 4].copy_from_slice(four);
        }
    }
    let Some(clamp) = mss::clamp(&options, options_len, largest) else { return };
    assert_eq!(clamp.value, largest.to_be_bytes());
    assert!(clamp.offset + 2 <= options_len);
    let place = start + clamp.offset..start + clamp.offset + 2;
    if place.end > segment.len() {
        // The helper that writes it fails, and the segment, which ends within the option, is dropped.
        return;
    }
    assert!(u16::from_be_bytes([segment[place.start], segment[place.start + 1]]) > largest, "a smaller one is changed");
    segment[place].copy_from_slice(&clamp.value);
    let field = u16::from_be_bytes([segment[TCP_CHECKSUM], segment[TCP_CHECKSUM + 1]]);
    let (old, new) = (u16::from_be_bytes(clamp.words.0), u16::from_be_bytes(clamp.words.1));
    let sum = !checksum::fold(u32::from(!field) + u32::from(!old) + u32::from(new));
    segment[TCP_CHECKSUM..TCP_CHECKSUM + 2].copy_from_slice(&sum.to_be_bytes());
}

/// A report about a path is about this port's connections, and right.
fn path_mtu(knows: &Knows, family: Family, report: &PathMtu) {
    let identity = IdentityAddress::decode(&report.identity).expect("an identity address");
    assert_eq!((identity.tag, identity.vlan, identity.family), (knows.tag, knows.vlan, family));
    super::to_guest::check_report(report);
}

/// Tells whether a source is the port's, by RFC and documentation instead of by masks and words.
fn is_own(port: &Port, mac: [u8; 6], family: u8, source: &[u8], link_local: bool) -> bool {
    if port.flags & PORT_HELD != 0 {
        return true;
    }
    let sources = port.sources.iter().take(usize::try_from(port.source_count).expect("few"));
    let mut of_mac = sources.filter(|source| source.mac == mac);
    if link_local {
        return mac == port.mac || of_mac.next().is_some();
    }
    if mac == port.mac && port.flags & PORT_ANY_ADDRESS != 0 {
        return true;
    }
    of_mac.any(|pair| {
        let bit = |bytes: &[u8], place: usize| bytes[place / 8] >> (7 - place % 8) & 1;
        pair.family == family
            && (0..usize::from(pair.prefix_len)).all(|place| bit(&pair.addr, place) == bit(source, place))
    })
}

/// Makes the checksum of a TCP segment right, which a fuzzer seldom guesses.
fn fix_checksum(frame: &mut [u8]) {
    let (start, addresses) = match u16::from_be_bytes([frame[12], frame[13]]) {
        ETHERTYPE_IPV4 => (ETH_IPV4_LEN, 26..34),
        ETHERTYPE_IPV6 => (ETH_IPV6_LEN, 22..54),
        _ => return,
    };
    let Some(length) = view::<EthIpv4>(frame).map(|ip| usize::from(u16::from_be_bytes(ip.total_len))) else { return };
    let length = view::<EthIpv6>(frame)
        .filter(|_| start == ETH_IPV6_LEN)
        .map_or(length.saturating_sub(20), |ip| usize::from(u16::from_be_bytes(ip.payload_len)));
    let end = start + length;
    if length < size_of::<Tcp>() || end > frame.len() {
        return;
    }
    let addresses = frame[addresses].to_vec();
    let (source, destination) = addresses.split_at(addresses.len() / 2);
    let place = start + TCP_CHECKSUM;
    frame[place..place + 2].fill(0);
    let missing = crate::frame::missing(PROTOCOL_TCP, &[source, destination], &frame[start..end]);
    frame[place..place + 2].copy_from_slice(&missing.to_be_bytes());
}

fn is_spoofed(reason: DropReason) -> bool {
    matches!(reason, DropReason::SpoofedMac | DropReason::SpoofedIp)
}

fn len(bytes: &[u8]) -> u32 {
    u32::try_from(bytes.len()).expect("short")
}
