//! What becomes of a packet to a metadata address: the decision, without the kernel.
//!
//! Promises to the guest and to its neighbours:
//! - a packet is answered or handed to the responder only if its source MAC and address are this port's;
//! - link-local sources are always the port's, for their family;
//! - what is not understood whole (options, fragments, extension headers, short headers) is refused, never guessed at;
//! - everything to a metadata address ends here, one way or the other: nothing of it reaches the tenant's network.
//!
//! Left out: traffic to other addresses. It is not inspected, so nothing here polices it; that is Neutron's task.

use crate::{
    abi::{DropReason, MAX_SOURCES, PORT_ANY_ADDRESS, PORT_HELD, Port, Source},
    addr::{METADATA_IPV4, METADATA_IPV6},
    packet::{
        ECHO_LEN, ETHERTYPE_IPV4, EthArp, EthIpv4, EthIpv6, NEXT_HEADER_FRAGMENT, PROTOCOL_ICMP, PROTOCOL_ICMPV6,
        PROTOCOL_TCP, TCP_MIN_LEN,
    },
};

/// Length of an Ethernet header without tags.
const ETHERNET_LEN: u32 = 14;
/// Length of Ethernet and IPv6 headers together.
const ETH_IPV6_LEN: u32 = 54;

/// What to do with an IP packet to a metadata address, as far as its IP header tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// TCP from an allowed source: translate it and hand it to the responder.
    Respond,
    /// ICMP or ICMPv6 from an allowed source: an echo request is answered, nothing else.
    Message,
}

/// Decides on an IPv4 packet to 169.254.169.254. `frame_len` counts from the Ethernet header, without a VLAN tag.
///
/// # Errors
/// The reason for which it is dropped.
#[inline(always)]
pub fn ipv4(frame: &EthIpv4, frame_len: u32, port: &Port) -> Result<Action, DropReason> {
    if frame.version_ihl != 0x45 {
        return Err(if frame.version_ihl > 0x45 && frame.version_ihl <= 0x4f {
            DropReason::Ipv4Options
        } else {
            DropReason::Truncated
        });
    }
    let total_len = u16::from_be_bytes(frame.total_len);
    if total_len < 20 || frame_len < ETHERNET_LEN + u32::from(total_len) {
        return Err(DropReason::Truncated);
    }
    // More-fragments flag or an offset; "don't fragment" and the reserved bit do not matter.
    if u16::from_be_bytes(frame.fragment) & 0x3fff != 0 {
        return Err(DropReason::Fragment);
    }
    source_ipv4(frame, port)?;
    match frame.protocol {
        PROTOCOL_TCP if total_len < 20 + TCP_MIN_LEN => Err(DropReason::Truncated),
        PROTOCOL_TCP => Ok(Action::Respond),
        PROTOCOL_ICMP if total_len < 20 + ECHO_LEN => Err(DropReason::Truncated),
        PROTOCOL_ICMP => Ok(Action::Message),
        _ => Err(DropReason::NotAnswered),
    }
}

/// Decides on an IPv6 packet to fe80::a9fe:a9fe that is no neighbour solicitation (those are answered for anyone).
///
/// # Errors
/// The reason for which it is dropped.
#[inline(always)]
pub fn ipv6(frame: &EthIpv6, frame_len: u32, port: &Port) -> Result<Action, DropReason> {
    if frame.version_class_flow[0] >> 4 != 6 {
        return Err(DropReason::Truncated);
    }
    let payload_len = u16::from_be_bytes(frame.payload_len);
    match frame.next_header {
        NEXT_HEADER_FRAGMENT => return Err(DropReason::Fragment),
        // Hop-by-hop, routing, ESP, AH, destination options, mobility, HIP, shim6: IANA's list of extension headers.
        0 | 43 | 50 | 51 | 60 | 135 | 139 | 140 => return Err(DropReason::Ipv6Extension),
        _ => {}
    }
    if frame_len < ETH_IPV6_LEN + u32::from(payload_len) {
        return Err(DropReason::Truncated);
    }
    source_ipv6(frame, port)?;
    match frame.next_header {
        PROTOCOL_TCP if payload_len < TCP_MIN_LEN => Err(DropReason::Truncated),
        PROTOCOL_TCP => Ok(Action::Respond),
        PROTOCOL_ICMPV6 if payload_len < ECHO_LEN => Err(DropReason::Truncated),
        PROTOCOL_ICMPV6 => Ok(Action::Message),
        _ => Err(DropReason::NotAnswered),
    }
}

/// Tells whether an ARP packet for 169.254.169.254 is a request that can be answered (RFC 826).
#[inline(always)]
#[must_use]
pub fn is_arp_request(frame: &EthArp) -> bool {
    frame.hardware == [0, 1]
        && frame.protocol == ETHERTYPE_IPV4.to_be_bytes()
        && frame.hardware_len == 6
        && frame.protocol_len == 4
        && frame.operation == [0, 1]
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
    let link_local = high == u64::from_ne_bytes([0xfe, 0x80, 0, 0, 0, 0, 0, 0]);
    if port.flags & PORT_HELD == 0 {
        allowed(port, frame.src_mac, 6, high, low, link_local)?;
    }
    if link_local { Ok(()) } else { Err(DropReason::SourceScope) }
}

/// Checks a source against the port's pairs; `high` and `low` are the address, as [`halves`] makes them.
#[inline(always)]
fn allowed(port: &Port, mac: [u8; 6], family: u8, high: u64, low: u64, link_local: bool) -> Result<(), DropReason> {
    let own = mac == port.mac;
    if own && (link_local || port.flags & PORT_ANY_ADDRESS != 0) {
        return Ok(());
    }
    let wanted = u64::from_ne_bytes([mac[0], mac[1], mac[2], mac[3], mac[4], mac[5], family, 0]);
    // A link-local source needs one of the port's MACs, any other also a prefix that goes with it.
    if !link_local && covered(port, wanted, high, low) {
        return Ok(());
    }
    match own || has_mac(port, wanted) {
        true if link_local => Ok(()),
        true => Err(DropReason::SpoofedIp),
        false => Err(DropReason::SpoofedMac),
    }
}

/// Tells whether one of the port's pairs has the MAC and family of `wanted` (the first word of a
/// [`Source`](crate::abi::Source) without its prefix length) and holds the address.
///
/// Both searches are calls of their own, with plain arguments and one way on in their loops, so that the verifier is
/// soon done with them.
#[inline(never)]
fn covered(port: &Port, wanted: u64, high: u64, low: u64) -> bool {
    let without_len = u64::from_ne_bytes([0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0]);
    for place in 0..MAX_SOURCES {
        if !is_used(port, place) {
            break;
        }
        let source = &port.sources[place];
        let ((source_high, source_low), (mask_high, mask_low)) = (halves(&source.addr), halves(&source.mask));
        let difference = ((first_word(source) ^ wanted) & without_len)
            | ((source_high ^ high) & mask_high)
            | ((source_low ^ low) & mask_low);
        if difference == 0 {
            return true;
        }
    }
    false
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
