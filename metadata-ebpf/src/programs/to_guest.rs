//! `to_guest`: tc *ingress* of the pair's end in the node's namespace, which is the responder *sending*.
//!
//! Promises: a reply goes to the tap that its binding belongs to, and only while that binding lasts; anything else that
//! comes out of the responder's namespace is dropped and counted.
//!
//! Minimum kernel version: 5.10.

use aya_ebpf::{macros::classifier, programs::TcContext};
use metadata_ebpf::{
    abi::{Answered, DropReason, PORT_ENDED, PORT_HELD, PORT_LEARN},
    addr::{Family, IDENTITY_PREFIX, IdentityAddress, METADATA_IPV4, METADATA_IPV6, METADATA_MAC, RESPONDER_IPV6},
    packet::{
        ETH_IPV4_LEN, ETH_IPV6_LEN, ETHERTYPE_IPV4, ETHERTYPE_IPV6, EthIpv4, EthIpv6, PROTOCOL_TCP, TCP_CHECKSUM,
        TCP_FLAGS, TCP_RESET,
    },
};

use crate::{
    counters::{answered, dropped, report},
    frame::{adjust_checksum, ethertype, ifindex_of, pull, push_vlan, send_out, view},
    maps::{NEIGHBOURS, TAGS, traced},
};

/// Translates the responder's replies back and sends them out of the guest's tap.
#[classifier]
pub(crate) fn to_guest(ctx: TcContext) -> i32 {
    match reply(&ctx) {
        Ok(verdict) => verdict,
        Err((ifindex, reason)) => dropped(&ctx, ifindex, reason),
    }
}

/// The reason of a drop, and the interface under which it counts.
type Refusal = (u32, DropReason);

#[inline(always)]
fn reply(ctx: &TcContext) -> Result<i32, Refusal> {
    let pair = ifindex_of(ctx);
    let stray = (pair, DropReason::StrayFromResponder);
    if ethertype(ctx) != ETHERTYPE_IPV6 {
        return Err(stray);
    }
    pull(ctx, ETH_IPV6_LEN as u32);
    let frame = *view::<EthIpv6>(ctx, 0).ok_or(stray)?;
    if frame.src != RESPONDER_IPV6 || frame.next_header != PROTOCOL_TCP || frame.dst[..2] != IDENTITY_PREFIX {
        return Err(stray);
    }
    let identity = IdentityAddress::decode(&frame.dst).ok_or(stray)?;

    let ended = (pair, DropReason::TagEnded);
    let path = TAGS.get_ptr(identity.tag).ok_or(ended)?;
    // SAFETY: the first word of a `ReturnPath` is its tag and interface index, and is aligned; one load reads both.
    let word: [u32; 2] = unsafe { core::mem::transmute(core::ptr::read_volatile(path.cast::<u64>())) };
    if word[0] != identity.tag {
        return Err(ended);
    }
    let ifindex = word[1];
    // SAFETY: points to a map element, which stays readable while the program runs. Should it be another binding's by
    // now, the frame still goes to the right tap, with a MAC that nobody there has.
    let (mac, flags) = unsafe { ((*path).mac, (*path).flags) };
    if flags & PORT_ENDED != 0
        && ctx.load::<u8>(ETH_IPV6_LEN + TCP_FLAGS).map_err(|_| (ifindex, DropReason::Truncated))? & TCP_RESET == 0
    {
        return Err((ifindex, DropReason::TagEnded));
    }
    let dst_mac = if flags & (PORT_HELD | PORT_LEARN) == 0 {
        mac
    } else {
        // SAFETY: copied at once.
        unsafe { NEIGHBOURS.get(frame.dst) }.ok_or((ifindex, DropReason::MacUnknown))?.mac
    };

    let header = EthIpv6 { dst_mac, src_mac: METADATA_MAC, ..frame };
    let checksum = ETH_IPV6_LEN + TCP_CHECKSUM;
    match identity.family {
        Family::Ipv4 => {
            let g = identity.guest;
            let guest = [g[4], g[5], g[6], g[7]];
            let header: EthIpv4 = header.to_ipv4(METADATA_IPV4, guest).ok_or((ifindex, DropReason::Truncated))?;
            adjust_checksum(ctx, checksum, &[RESPONDER_IPV6, frame.dst], &[METADATA_IPV4, guest])
                .and_then(|()| ctx.change_proto(ETHERTYPE_IPV4.to_be(), 0))
                .and_then(|()| ctx.store(0, &header, 0))
        }
        Family::Ipv6 => {
            let g = identity.guest;
            let guest = [0xfe, 0x80, 0, 0, 0, 0, 0, 0, g[0], g[1], g[2], g[3], g[4], g[5], g[6], g[7]];
            let header = EthIpv6 { src: METADATA_IPV6, dst: guest, ..header };
            adjust_checksum(ctx, checksum, &[RESPONDER_IPV6, frame.dst], &[METADATA_IPV6, guest])
                .and_then(|()| ctx.store(0, &header, 0))
        }
    }
    .and_then(|()| push_vlan(ctx, identity.vlan))
    .map_err(|_| (ifindex, DropReason::KernelError))?;

    if traced(ifindex) {
        report(ctx, "to_guest: to the guest, bytes: ", ctx.len());
    }
    answered(ifindex, Answered::ToGuest);
    Ok(send_out(ifindex))
}

const _: () = assert!(ETH_IPV4_LEN < ETH_IPV6_LEN);
