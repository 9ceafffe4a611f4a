//! `from_network`: tc *egress* of a tap, which is the guest *receiving*: from neighbours, routers and the node.
//!
//! Promises: a frame that claims to come from the metadata service, and that no program of metadatad has sent, does not reach
//! the guest of a port that is served; anything else passes after a few loads, untouched.
//!
//! What is a claim is decided by [`metadata_ebpf::verdict::impersonation`]; this file only looks, and drops. Attached only where
//! the operator asks for it.
//!
//! Minimum kernel version: as `from_guest`'s.

use aya_ebpf::{macros::classifier, programs::TcContext};
use metadata_ebpf::{
    abi::{DropReason, PassList},
    packet::{
        ETH_IPV4_LEN, ETH_IPV6_LEN, ETHERTYPE_ARP, ETHERTYPE_IPV4, ETHERTYPE_IPV6, EthArp, EthIpv4, EthIpv6, Ethernet,
        Neighbour, PROTOCOL_ICMPV6, PROTOCOL_TCP, PROTOCOL_UDP, Transport,
    },
    verdict::impersonation::{self, MAX_EXTENSIONS, MAX_TAGS, Next},
};

use crate::{
    counters::dropped,
    frame::{PASS, ifindex_of, take_own_mark, view},
    maps::{self, PORTS},
};

/// Offset of the EtherType in a frame without VLAN tags in it.
const ETHERTYPE: usize = 12;
/// Length of a VLAN tag.
const TAG_LEN: usize = 4;

/// Drops what claims to be the metadata service.
#[classifier]
pub(crate) fn from_network(ctx: TcContext) -> i32 {
    if !may_claim(&ctx) || take_own_mark(&ctx) {
        return PASS;
    }
    let ifindex = ifindex_of(&ctx);
    let (Some(port), Some(pass)) = (PORTS.get_ptr(ifindex), maps::PASS.get(0)) else {
        // Somebody else serves it.
        return PASS;
    };
    if !claims(&ctx, pass) {
        return PASS;
    }
    // SAFETY: points to a map element, which stays readable while the program runs.
    dropped(&ctx, ifindex, unsafe { (*port).place }, DropReason::Impersonation)
}

/// Tells soon of most frames that they are no claims.
#[inline(always)]
fn may_claim(ctx: &TcContext) -> bool {
    let Some(frame) = view::<Ethernet>(ctx, 0) else {
        return true;
    };
    match u16::from_be_bytes(frame.ethertype) {
        ETHERTYPE_IPV4 => view::<EthIpv4>(ctx, 0).is_none_or(impersonation::is_from_ipv4),
        ETHERTYPE_IPV6 => view::<EthIpv6>(ctx, 0).is_none_or(|frame| {
            impersonation::is_from_ipv6(frame) || !matches!(frame.next_header, PROTOCOL_TCP | PROTOCOL_UDP)
        }),
        ETHERTYPE_ARP => true,
        other => impersonation::is_tag(other),
    }
}

/// Looks at a frame whole. What is not in the linear part is copied: the frame is somebody else's.
#[inline(always)]
fn claims(ctx: &TcContext, pass: &PassList) -> bool {
    // In front of the network header, beside the 14 bytes of Ethernet.
    let mut shift = 0;
    let mut tags = 0;
    while tags <= MAX_TAGS {
        let Ok(ethertype) = ctx.load::<[u8; 2]>(shift + ETHERTYPE) else {
            return false;
        };
        match u16::from_be_bytes(ethertype) {
            ETHERTYPE_IPV4 => return ipv4(ctx, shift, pass),
            ETHERTYPE_IPV6 => return ipv6(ctx, shift, pass),
            ETHERTYPE_ARP => return arp(ctx, shift, pass),
            tag if impersonation::is_tag(tag) => shift += TAG_LEN,
            _ => return false,
        }
        tags += 1;
    }
    false
}

/// Loads a view that begins with an Ethernet header, `shift` bytes further on: with the VLAN tags in the place of MACs.
#[inline(always)]
fn load<T: Copy>(ctx: &TcContext, offset: usize) -> Option<T> {
    ctx.load::<T>(offset).ok()
}

#[inline(never)]
fn ipv4(ctx: &TcContext, shift: usize, pass: &PassList) -> bool {
    let Some(frame) = load::<EthIpv4>(ctx, shift) else {
        return false;
    };
    if !impersonation::is_from_ipv4(&frame) {
        return false;
    }
    let transport = load::<Transport>(ctx, shift + ETH_IPV4_LEN);
    impersonation::ipv4(&frame, transport.as_ref(), pass)
}

#[inline(never)]
fn arp(ctx: &TcContext, shift: usize, pass: &PassList) -> bool {
    load::<EthArp>(ctx, shift).is_some_and(|frame| impersonation::arp(&frame, pass))
}

#[inline(never)]
fn ipv6(ctx: &TcContext, shift: usize, pass: &PassList) -> bool {
    let Some(frame) = load::<EthIpv6>(ctx, shift) else {
        return false;
    };
    let start = shift + ETH_IPV6_LEN;
    if impersonation::is_from_ipv6(&frame) {
        if frame.next_header == PROTOCOL_ICMPV6 {
            return load::<Neighbour>(ctx, start).is_none_or(|message| impersonation::own_message(&message, pass));
        }
        return impersonation::ipv6(&frame, load::<Transport>(ctx, start).as_ref(), pass);
    }
    misleads(ctx, start, frame.next_header)
}

/// Tells whether a neighbour discovery message behind extension headers leads the guest astray.
#[inline(never)]
fn misleads(ctx: &TcContext, start: usize, first: u8) -> bool {
    let (mut offset, mut next_header) = (start, first);
    let mut extensions = 0;
    while extensions <= MAX_EXTENSIONS {
        let Some(bytes) = load::<[u8; 2]>(ctx, offset) else {
            return false;
        };
        match impersonation::next(next_header, bytes) {
            Next::Other => return false,
            Next::Message => {
                return load::<Neighbour>(ctx, offset).is_some_and(|message| impersonation::message(&message));
            }
            Next::Extension { next_header: following, len } => {
                next_header = following;
                offset += usize::from(len);
            }
        }
        extensions += 1;
    }
    true
}
