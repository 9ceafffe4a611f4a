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
        ECHO_LEN, ETHERNET_LEN, ETHERTYPE_IPV4, EthArp, EthIpv4, EthIpv6, NEXT_HEADER_FRAGMENT,
        PROTOCOL_ICMP, PROTOCOL_ICMPV6, PROTOCOL_TCP, TCP_MIN_LEN,
    },
};

/// What to do with an IP packet to a metadata address, as far as its IP header tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// TCP from an allowed source: translate it and hand it to the responder.
    Respond,
    /// ICMP or ICMPv6: look at the message. [`echo_source`] (and for ICMPv6 the type) decides further.
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
    if total_len < 20 || u32::from(total_len) + ETHERNET_LEN as u32 > frame_len {
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

/// Decides on an IPv6 packet to fe80::a9fe:a9fe. For [`Action::Message`] the source has not been looked at: a
/// solicitation is answered for anyone, an echo request needs [`source_ipv6`].
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
    if u32::from(payload_len) + size_of::<EthIpv6>() as u32 > frame_len {
        return Err(DropReason::Truncated);
    }
    match frame.next_header {
        PROTOCOL_TCP if payload_len < TCP_MIN_LEN => Err(DropReason::Truncated),
        PROTOCOL_TCP => {
            source_ipv6(frame, port)?;
            Ok(Action::Respond)
        }
        PROTOCOL_ICMPV6 if payload_len < ECHO_LEN => Err(DropReason::Truncated),
        PROTOCOL_ICMPV6 => Ok(Action::Message),
        _ => {
            source_ipv6(frame, port)?;
            Err(DropReason::NotAnswered)
        }
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
pub fn source_ipv4(frame: &EthIpv4, port: &Port) -> Result<(), DropReason> {
    if frame.src == METADATA_IPV4 {
        return Err(DropReason::SpoofedIp);
    }
    if port.flags & PORT_HELD != 0 {
        return Ok(());
    }
    let s = frame.src;
    let high = u64::from_be_bytes([s[0], s[1], s[2], s[3], 0, 0, 0, 0]);
    allowed(port, frame.src_mac, 4, high, 0, s[0] == 169 && s[1] == 254)
}

/// Checks that the IPv6 source is this port's, and one that the identity address can carry.
///
/// # Errors
/// [`DropReason::SpoofedMac`], [`DropReason::SpoofedIp`] or [`DropReason::SourceScope`].
#[inline(always)]
pub fn source_ipv6(frame: &EthIpv6, port: &Port) -> Result<(), DropReason> {
    if frame.src == METADATA_IPV6 {
        return Err(DropReason::SpoofedIp);
    }
    let s = frame.src;
    let high = u64::from_be_bytes([s[0], s[1], s[2], s[3], s[4], s[5], s[6], s[7]]);
    let low = u64::from_be_bytes([s[8], s[9], s[10], s[11], s[12], s[13], s[14], s[15]]);
    let link_local = high == 0xfe80 << 48;
    if port.flags & PORT_HELD == 0 {
        allowed(port, frame.src_mac, 6, high, low, link_local)?;
    }
    if link_local {
        Ok(())
    } else {
        Err(DropReason::SourceScope)
    }
}

/// Checks a source against the port's pairs; `high` and `low` are the address from its most significant bit on.
#[inline(always)]
fn allowed(
    port: &Port,
    mac: [u8; 6],
    family: u8,
    high: u64,
    low: u64,
    link_local: bool,
) -> Result<(), DropReason> {
    let own = mac == port.mac;
    if own && (link_local || port.flags & PORT_ANY_ADDRESS != 0) {
        return Ok(());
    }
    let mut known = own;
    for place in 0..MAX_SOURCES {
        if place >= port.source_count as usize {
            break;
        }
        let source = &port.sources[place];
        if source.mac != mac {
            continue;
        }
        known = true;
        if link_local || (source.family == family && covers(source, high, low)) {
            return Ok(());
        }
    }
    Err(if known {
        DropReason::SpoofedIp
    } else {
        DropReason::SpoofedMac
    })
}

/// Tells whether the prefix holds the address.
#[inline(always)]
fn covers(source: &Source, high: u64, low: u64) -> bool {
    let a = &source.addr;
    let source_high = u64::from_be_bytes([a[0], a[1], a[2], a[3], a[4], a[5], a[6], a[7]]);
    let source_low = u64::from_be_bytes([a[8], a[9], a[10], a[11], a[12], a[13], a[14], a[15]]);
    let len = u32::from(source.prefix_len);
    (source_high ^ high) & mask(len) == 0 && (source_low ^ low) & mask(len.saturating_sub(64)) == 0
}

/// A mask of the `len` most significant bits; all of them from 64 on.
#[inline(always)]
const fn mask(len: u32) -> u64 {
    if len == 0 {
        0
    } else if len >= 64 {
        u64::MAX
    } else {
        u64::MAX << (64 - len)
    }
}

#[cfg(test)]
mod tests;
