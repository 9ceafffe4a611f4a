//! Frames to a guest, from anywhere but metadatad, that claim to come from the metadata service.
//!
//! What a guest sends to the metadata addresses ends at its tap, so no neighbour can answer in the service's place. What
//! a neighbour can do is send first: segments that pretend to be of a connection to the service, or answers to questions after
//! the service's MAC. The guard at a tap's egress drops those.
//!
//! Promises: an IPv4 or IPv6 packet from a metadata address, an ARP packet whose sender has it, and a neighbour
//! advertisement or redirect whose target it is, are claims, with up to three VLAN tags and behind IPv6 extension headers.
//! Nothing else is.
//!
//! Not claims, where the operator leaves ports to the network ([`PassList`]): what comes from such a port, and a resolver's
//! questions after the guest's MAC. They lead no packet of the guest astray: wherever it sends those, they end at its tap.
//!
//! Left out: neighbour discovery in fragments, which receivers ignore (RFC 6980); tunnels.

use crate::{
    abi::PassList,
    addr::{METADATA_IPV4, METADATA_IPV6},
    packet::{
        ARP_REQUEST, ETHERTYPE_SERVICE_VLAN, ETHERTYPE_VLAN, EthArp, EthIpv4, EthIpv6, ICMPV6_ADVERTISEMENT,
        ICMPV6_REDIRECT, ICMPV6_SOLICITATION, NEXT_HEADER_FRAGMENT, Neighbour, PROTOCOL_ICMPV6, PROTOCOL_TCP,
        PROTOCOL_UDP, Transport,
    },
};

/// VLAN tags that are looked behind, beside one that the kernel keeps beside the frame.
pub const MAX_TAGS: usize = 2;
/// IPv6 extension headers that are looked behind. What has more is taken for a claim: nobody sends so many in earnest.
pub const MAX_EXTENSIONS: usize = 8;

/// Tells whether an EtherType is a VLAN tag's.
#[inline(always)]
#[must_use]
pub const fn is_tag(ethertype: u16) -> bool {
    ethertype == ETHERTYPE_VLAN || ethertype == ETHERTYPE_SERVICE_VLAN
}

/// Tells whether an ARP packet claims to be the service's.
#[inline(always)]
#[must_use]
pub fn arp(frame: &EthArp, pass: &PassList) -> bool {
    let asks_for_the_guest = frame.operation == [0, ARP_REQUEST] && frame.target != METADATA_IPV4;
    frame.sender == METADATA_IPV4 && (pass.is_empty() || !asks_for_the_guest)
}

/// Tells whether an IPv4 packet comes from a metadata address.
#[inline(always)]
#[must_use]
pub fn is_from_ipv4(frame: &EthIpv4) -> bool {
    frame.src == METADATA_IPV4
}

/// Tells whether an IPv4 packet from a metadata address, with `transport` behind a header without options, is a claim.
#[inline(always)]
#[must_use]
pub fn ipv4(frame: &EthIpv4, transport: Option<&Transport>, pass: &PassList) -> bool {
    let is_whole = frame.version_ihl == 0x45 && u16::from_be_bytes(frame.fragment) & 0x1fff == 0;
    !(is_whole && comes_from_passed(frame.protocol, transport, pass))
}

/// Tells whether an IPv6 packet comes from a metadata address.
#[inline(always)]
#[must_use]
pub fn is_from_ipv6(frame: &EthIpv6) -> bool {
    frame.src == METADATA_IPV6
}

/// Tells whether an IPv6 packet from a metadata address that is no ICMPv6 message is a claim; `transport` is what follows
/// the header.
#[inline(always)]
#[must_use]
pub fn ipv6(frame: &EthIpv6, transport: Option<&Transport>, pass: &PassList) -> bool {
    !comes_from_passed(frame.next_header, transport, pass)
}

/// Tells whether an ICMPv6 message from a metadata address is a claim.
#[inline(always)]
#[must_use]
pub fn own_message(message: &Neighbour, pass: &PassList) -> bool {
    let asks_for_the_guest = message.kind == ICMPV6_SOLICITATION && message.target != METADATA_IPV6;
    pass.is_empty() || !asks_for_the_guest
}

/// Tells whether an ICMPv6 message, of any source, leads guests to another MAC for the service's address.
#[inline(always)]
#[must_use]
pub fn message(message: &Neighbour) -> bool {
    // A redirect has its target in the same place (RFC 4861, section 4.5).
    matches!(message.kind, ICMPV6_ADVERTISEMENT | ICMPV6_REDIRECT) && message.target == METADATA_IPV6
}

/// What follows an IPv6 header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// An extension header of this many bytes, and then this one.
    Extension {
        /// What follows it.
        next_header: u8,
        /// Its length in bytes.
        len: u16,
    },
    /// An ICMPv6 message.
    Message,
    /// Neither.
    Other,
}

/// Tells what a header of this number is; `start` are its first bytes.
#[inline(always)]
#[must_use]
pub const fn next(next_header: u8, start: [u8; 2]) -> Next {
    let [following, len] = start;
    let len = match next_header {
        PROTOCOL_ICMPV6 => return Next::Message,
        // Hop-by-hop, routing, destination options, mobility, HIP, shim6 (RFC 6564), then a fragment's and AH (RFC 4302).
        0 | 43 | 60 | 135 | 139 | 140 => (len as u16 + 1) * 8,
        NEXT_HEADER_FRAGMENT => 8,
        51 => (len as u16 + 2) * 4,
        _ => return Next::Other,
    };
    Next::Extension { next_header: following, len }
}

#[inline(always)]
fn comes_from_passed(protocol: u8, transport: Option<&Transport>, pass: &PassList) -> bool {
    let Some([high, low, ..]) = transport else {
        return false;
    };
    matches!(protocol, PROTOCOL_TCP | PROTOCOL_UDP) && pass.contains(protocol, u16::from_be_bytes([*high, *low]))
}

#[cfg(test)]
mod tests;
