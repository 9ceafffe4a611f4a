//! What becomes of a packet: every decision of the programs, without the kernel.
//!
//! Here: what a guest sends to a metadata address. In [`reply`]: what the responder sends. In [`impersonation`]: what others send to
//! the guest in its name. In [`early`]: what is decided before a packet buffer exists. In [`moving`]: which connections are the
//! network's while a port moves to the responder or back.
//!
//! Promises to the guest and to its neighbours:
//! - a packet is answered or handed to the responder only if its source MAC and address are this port's;
//! - link-local sources are always the port's, for their family;
//! - what is not understood whole (options, fragments, extension headers, short headers) is refused, never guessed at;
//! - everything to a metadata address ends here, one way or the other, but for the protocols and ports that the operator leaves
//!   to the network ([`PassList`]), with what a resolver there needs to find the guest's MAC, and for a short time the connections of a
//!   port that moves ([`moving`]): nothing else of it reaches the tenant's network;
//! - a report about a path's MTU concerns connections of this port only, whatever it quotes.
//!
//! Left out: how much a port may send ([`crate::limit`]); traffic to other addresses, and to ports that pass. It is not
//! inspected, so nothing here polices it; that is Neutron's task. Checksums of ICMP messages are not verified.

pub mod early;
pub mod impersonation;
pub mod moving;
pub mod reply;

use crate::{
    abi::{DropReason, MAX_SOURCES, PORT_ANY_ADDRESS, PORT_HELD, PassList, Port, Source},
    addr::{IdentityAddress, METADATA_IPV4, METADATA_IPV6, METADATA_MAC, Vlan},
    packet::{
        ARP_REPLY, ARP_REQUEST, Advertisement, ECHO_LEN, ETHERTYPE_IPV4, EthArp, EthIpv4, EthIpv6,
        FRAGMENTATION_NEEDED_LEN, FragmentationNeeded, ICMP_ECHO_REQUEST, ICMP_FRAGMENTATION_NEEDED, ICMP_UNREACHABLE,
        ICMPV6_ADVERTISEMENT, ICMPV6_ECHO_REQUEST, ICMPV6_PACKET_TOO_BIG, ICMPV6_SOLICITATION, NEXT_HEADER_FRAGMENT,
        Neighbour, PACKET_TOO_BIG_MESSAGE_LEN, PROTOCOL_ICMP, PROTOCOL_ICMPV6, PROTOCOL_TCP, PROTOCOL_UDP,
        PacketTooBig, TCP_ACK, TCP_MIN_LEN, TCP_SYN, Tcp, Transport, UDP_LEN,
    },
    translate::PathMtu,
};

/// Length of an Ethernet header without tags.
const ETHERNET_LEN: u32 = 14;
/// Length of an IPv4 header without options.
const IPV4_LEN: u16 = 20;
/// Length of Ethernet and IPv6 headers together.
const ETH_IPV6_LEN: u32 = 54;

/// What to do with an IP packet to a metadata address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// To a port that the operator leaves to the network, from any source: let it pass untouched.
    Pass,
    /// TCP from an allowed source: translate it and hand it to the responder.
    Respond,
    /// An echo request from an allowed source: answer it in place.
    Echo,
    /// A report about a path's MTU from an allowed source: translate it and hand it to the responder.
    PathMtu,
}

/// Decides on an IPv4 packet to 169.254.169.254. `transport` is what follows its header, if that is there; `frame_len` counts
/// from the Ethernet header, without a VLAN tag.
///
/// # Errors
/// The reason for which it is dropped.
#[inline(always)]
pub fn ipv4(
    frame: &EthIpv4,
    transport: Option<&Transport>,
    frame_len: u32,
    port: &Port,
    pass: &PassList,
) -> Result<Action, DropReason> {
    if frame.version_ihl != 0x45 {
        return Err(if frame.version_ihl > 0x45 && frame.version_ihl <= 0x4f {
            DropReason::Ipv4Options
        } else {
            DropReason::Truncated
        });
    }
    let total_len = u16::from_be_bytes(frame.total_len);
    if total_len < IPV4_LEN || frame_len < ETHERNET_LEN + u32::from(total_len) {
        return Err(DropReason::Truncated);
    }
    // More-fragments flag or an offset; "don't fragment" and the reserved bit do not matter.
    if u16::from_be_bytes(frame.fragment) & 0x3fff != 0 {
        return Err(DropReason::Fragment);
    }
    let len = total_len - IPV4_LEN;
    if passes(frame.protocol, transport, len, pass) {
        return Ok(Action::Pass);
    }
    source_ipv4(frame, port)?;
    match (frame.protocol, transport) {
        (PROTOCOL_TCP, _) if len < TCP_MIN_LEN => Err(DropReason::Truncated),
        (PROTOCOL_TCP, _) => Ok(Action::Respond),
        (PROTOCOL_ICMP, _) if len < ECHO_LEN => Err(DropReason::Truncated),
        (PROTOCOL_ICMP, Some([ICMP_ECHO_REQUEST, 0, ..])) => Ok(Action::Echo),
        (PROTOCOL_ICMP, Some([ICMP_UNREACHABLE, ICMP_FRAGMENTATION_NEEDED, ..])) if len < FRAGMENTATION_NEEDED_LEN => {
            Err(DropReason::Truncated)
        }
        (PROTOCOL_ICMP, Some([ICMP_UNREACHABLE, ICMP_FRAGMENTATION_NEEDED, ..])) => Ok(Action::PathMtu),
        _ => Err(DropReason::NotAnswered),
    }
}

/// Decides on an IPv6 packet to fe80::a9fe:a9fe that is no neighbour solicitation (those are answered for anyone).
///
/// # Errors
/// The reason for which it is dropped.
#[inline(always)]
pub fn ipv6(
    frame: &EthIpv6,
    transport: Option<&Transport>,
    frame_len: u32,
    port: &Port,
    pass: &PassList,
) -> Result<Action, DropReason> {
    if frame.version_class_flow[0] >> 4 != 6 {
        return Err(DropReason::Truncated);
    }
    let len = u16::from_be_bytes(frame.payload_len);
    match frame.next_header {
        NEXT_HEADER_FRAGMENT => return Err(DropReason::Fragment),
        // Hop-by-hop, routing, ESP, AH, destination options, mobility, HIP, shim6: IANA's list of extension headers.
        0 | 43 | 50 | 51 | 60 | 135 | 139 | 140 => return Err(DropReason::Ipv6Extension),
        _ => {}
    }
    if frame_len < ETH_IPV6_LEN + u32::from(len) {
        return Err(DropReason::Truncated);
    }
    if passes(frame.next_header, transport, len, pass) {
        return Ok(Action::Pass);
    }
    source_ipv6(frame, port)?;
    match (frame.next_header, transport) {
        (PROTOCOL_TCP, _) if len < TCP_MIN_LEN => Err(DropReason::Truncated),
        (PROTOCOL_TCP, _) => Ok(Action::Respond),
        (PROTOCOL_ICMPV6, _) if len < ECHO_LEN => Err(DropReason::Truncated),
        (PROTOCOL_ICMPV6, Some([ICMPV6_ECHO_REQUEST, 0, ..])) => Ok(Action::Echo),
        (PROTOCOL_ICMPV6, Some([ICMPV6_PACKET_TOO_BIG, 0, ..])) if len < u16::from(PACKET_TOO_BIG_MESSAGE_LEN) => {
            Err(DropReason::Truncated)
        }
        (PROTOCOL_ICMPV6, Some([ICMPV6_PACKET_TOO_BIG, 0, ..])) => Ok(Action::PathMtu),
        _ => Err(DropReason::NotAnswered),
    }
}

/// Tells whether a packet passes: a whole header of `protocol` names a port in the list. `len` counts from that header.
#[inline(always)]
fn passes(protocol: u8, transport: Option<&Transport>, len: u16, pass: &PassList) -> bool {
    let Some([kind, code, high, low]) = transport else {
        return false;
    };
    let shortest = match protocol {
        PROTOCOL_TCP => TCP_MIN_LEN,
        PROTOCOL_UDP => UDP_LEN,
        // As a reply of ARP: what is asked for is the guest's MAC.
        PROTOCOL_ICMPV6 => return (*kind, *code) == (ICMPV6_ADVERTISEMENT, 0) && !pass.is_empty(),
        _ => return false,
    };
    len >= shortest && pass.contains(protocol, u16::from_be_bytes([*high, *low]))
}

/// Tells whether an ICMPv6 message that follows these headers is a neighbour solicitation.
#[inline(always)]
#[must_use]
pub fn is_solicitation(frame: &EthIpv6, message: &Neighbour) -> bool {
    frame.next_header == PROTOCOL_ICMPV6 && message.kind == ICMPV6_SOLICITATION && message.code == 0
}

/// Decides on a neighbour solicitation, a neighbour's or a probe for the address being in use already, and returns its
/// answer. Checks what RFC 4861, section 7.1.1 asks for, but for the message's checksum. Any source may ask: the answer goes
/// back to this tap only.
///
/// # Errors
/// The reason for which it is dropped.
#[inline(always)]
pub fn solicitation(frame: &EthIpv6, message: &Neighbour) -> Result<Advertisement, DropReason> {
    if frame.hop_limit != 255 || message.target != METADATA_IPV6 {
        return Err(DropReason::NotAnswered);
    }
    Ok(frame.advertisement(METADATA_IPV6, METADATA_MAC))
}

/// What to do with an ARP packet for 169.254.169.254.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ArpAction {
    /// A reply, and something passes: whatever answers on the guest's link has asked for its MAC. Let it pass untouched.
    Pass,
    /// A request: answer it with this.
    Answer(EthArp),
}

/// Decides on an ARP packet for 169.254.169.254 (RFC 826). Any sender may ask: the answer goes back to this tap only.
///
/// # Errors
/// The reason for which it is dropped.
#[inline(always)]
pub fn arp(frame: &EthArp, pass: &PassList) -> Result<ArpAction, DropReason> {
    match frame.operation {
        [0, ARP_REQUEST] if is_arp_for_ipv4(frame) => Ok(ArpAction::Answer(frame.reply(METADATA_MAC))),
        [0, ARP_REPLY] if is_arp_for_ipv4(frame) && !pass.is_empty() => Ok(ArpAction::Pass),
        _ => Err(DropReason::NotAnswered),
    }
}

/// Returns the MAC that an answer in place comes from: the one that was asked, unless that was a group (first bit set).
#[inline(always)]
#[must_use]
pub const fn answering_mac(asked: [u8; 6]) -> [u8; 6] {
    if asked[0] & 1 == 0 { asked } else { METADATA_MAC }
}

/// Decides on a router's report that a reply of ours does not fit an IPv4 path. It has to quote one; which of this port's
/// connections it is about is for the responder's kernel to find.
///
/// # Errors
/// The reason for which it is dropped.
#[inline(always)]
pub fn fragmentation_needed(message: &FragmentationNeeded, tag: u32, vlan: Vlan) -> Result<PathMtu, DropReason> {
    let quoted = &message.quoted;
    if quoted.version_ihl != 0x45 || quoted.protocol != PROTOCOL_TCP || quoted.src != METADATA_IPV4 {
        return Err(DropReason::NotAnswered);
    }
    Ok(message.path_mtu(&IdentityAddress::of_ipv4(tag, vlan, quoted.dst)))
}

/// As [`fragmentation_needed`], of an IPv6 path.
///
/// # Errors
/// The reason for which it is dropped.
#[inline(always)]
pub fn packet_too_big(message: &PacketTooBig, tag: u32, vlan: Vlan) -> Result<PathMtu, DropReason> {
    let quoted = &message.quoted;
    if quoted.next_header != PROTOCOL_TCP || quoted.src != METADATA_IPV6 || !is_link_local(&quoted.dst) {
        return Err(DropReason::NotAnswered);
    }
    Ok(message.path_mtu(&IdentityAddress::of_ipv6(tag, vlan, &quoted.dst)))
}

/// Tells whether a segment begins a connection, so that it may announce a maximum segment size; returns the length of its
/// options. `None` for other segments, and for those without options.
#[inline(always)]
#[must_use]
pub fn options_of_first(tcp: &Tcp) -> Option<usize> {
    let header_len = usize::from(tcp.data_offset >> 4) * 4;
    if tcp.flags & TCP_SYN == 0 || header_len <= size_of::<Tcp>() {
        return None;
    }
    Some(header_len - size_of::<Tcp>())
}

/// Tells whether a segment asks for a new connection.
#[inline(always)]
#[must_use]
pub const fn begins_connection(tcp: &Tcp) -> bool {
    tcp.flags & (TCP_SYN | TCP_ACK) == TCP_SYN
}

/// Tells whether an ARP packet resolves an IPv4 address on Ethernet.
#[inline(always)]
fn is_arp_for_ipv4(frame: &EthArp) -> bool {
    frame.hardware == [0, 1]
        && frame.protocol == ETHERTYPE_IPV4.to_be_bytes()
        && frame.hardware_len == 6
        && frame.protocol_len == 4
}

/// Checks that the IPv4 source is this port's.
///
/// # Errors
/// [`DropReason::SpoofedMac`] or [`DropReason::SpoofedIp`].
#[inline(always)]
fn source_ipv4(frame: &EthIpv4, port: &Port) -> Result<(), DropReason> {
    if frame.src == METADATA_IPV4 {
        return Err(DropReason::SpoofedIp);
    }
    if port.flags & PORT_HELD != 0 {
        return Ok(());
    }
    let s = frame.src;
    let high = u64::from_ne_bytes([s[0], s[1], s[2], s[3], 0, 0, 0, 0]);
    allowed(port, frame.src_mac, 4, high, 0, s[0] == 169 && s[1] == 254)
}

/// Checks that the IPv6 source is this port's, and one that the identity address can carry.
///
/// # Errors
/// [`DropReason::SpoofedMac`], [`DropReason::SpoofedIp`] or [`DropReason::SourceScope`].
#[inline(always)]
fn source_ipv6(frame: &EthIpv6, port: &Port) -> Result<(), DropReason> {
    if frame.src == METADATA_IPV6 {
        return Err(DropReason::SpoofedIp);
    }
    let (high, low) = halves(&frame.src);
    let link_local = is_link_local(&frame.src);
    if port.flags & PORT_HELD == 0 {
        allowed(port, frame.src_mac, 6, high, low, link_local)?;
    }
    if link_local { Ok(()) } else { Err(DropReason::SourceScope) }
}

/// Tells whether an address is in fe80::/64, where an identity address can carry it.
#[inline(always)]
fn is_link_local(addr: &[u8; 16]) -> bool {
    halves(addr).0 == u64::from_ne_bytes([0xfe, 0x80, 0, 0, 0, 0, 0, 0])
}

/// Checks a source against the port's pairs; `high` and `low` are the address, as [`halves`] makes them.
#[inline(always)]
fn allowed(port: &Port, mac: [u8; 6], family: u8, high: u64, low: u64, link_local: bool) -> Result<(), DropReason> {
    let own = mac == port.mac;
    if own && (link_local || port.flags & PORT_ANY_ADDRESS != 0) {
        return Ok(());
    }
    let wanted = u64::from_ne_bytes([mac[0], mac[1], mac[2], mac[3], mac[4], mac[5], family, 0]);
    // A link-local source needs one of the port's MACs, any other also a prefix that goes with it. Nearly always it is that of the
    // first pair, which is looked at without a call.
    let is_first = || is_used(port, 0) && holds(&port.sources[0], wanted, high, low);
    if !link_local && (is_first() || covered(port, wanted, high, low)) {
        return Ok(());
    }
    match own || has_mac(port, wanted) {
        true if link_local => Ok(()),
        true => Err(DropReason::SpoofedIp),
        false => Err(DropReason::SpoofedMac),
    }
}

/// Tells whether one of the port's pairs [`holds`] the address. `wanted` is the first word of a [`Source`](crate::abi::Source) without
/// its prefix length.
///
/// Both searches are calls of their own, with plain arguments and one way on in their loops, so that the verifier is
/// soon done with them.
#[inline(never)]
fn covered(port: &Port, wanted: u64, high: u64, low: u64) -> bool {
    for place in 0..MAX_SOURCES {
        if !is_used(port, place) {
            break;
        }
        if holds(&port.sources[place], wanted, high, low) {
            return true;
        }
    }
    false
}

/// Tells whether a pair has the MAC and family of `wanted` and holds the address.
#[inline(always)]
fn holds(source: &Source, wanted: u64, high: u64, low: u64) -> bool {
    let without_len = u64::from_ne_bytes([0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0]);
    let ((source_high, source_low), (mask_high, mask_low)) = (halves(&source.addr), halves(&source.mask));
    let difference = ((first_word(source) ^ wanted) & without_len)
        | ((source_high ^ high) & mask_high)
        | ((source_low ^ low) & mask_low);
    difference == 0
}

/// Tells whether one of the port's pairs has the MAC of `wanted`.
#[inline(never)]
fn has_mac(port: &Port, wanted: u64) -> bool {
    let of_mac = u64::from_ne_bytes([0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0, 0]);
    for place in 0..MAX_SOURCES {
        if !is_used(port, place) {
            break;
        }
        if (first_word(&port.sources[place]) ^ wanted) & of_mac == 0 {
            return true;
        }
    }
    false
}

/// Tells whether the port has a pair at this place.
///
/// The count is read anew each time, so that the compiler cannot make one bound of it and of [`MAX_SOURCES`], and end the
/// loop where they are equal: Linux 6.1 does not conclude from an equality, and refuses the program.
#[inline(always)]
fn is_used(port: &Port, place: usize) -> bool {
    // SAFETY: a reference is readable.
    place < unsafe { core::ptr::read_volatile(&raw const port.source_count) } as usize
}

/// Returns MAC, family and prefix length as one word, bytes in their order.
#[inline(always)]
fn first_word(source: &Source) -> u64 {
    let m = &source.mac;
    u64::from_ne_bytes([m[0], m[1], m[2], m[3], m[4], m[5], source.family, source.prefix_len])
}

/// Returns an address as two words, bytes in their order.
#[inline(always)]
const fn halves(a: &[u8; 16]) -> (u64, u64) {
    (
        u64::from_ne_bytes([a[0], a[1], a[2], a[3], a[4], a[5], a[6], a[7]]),
        u64::from_ne_bytes([a[8], a[9], a[10], a[11], a[12], a[13], a[14], a[15]]),
    )
}

#[cfg(test)]
mod tests;
