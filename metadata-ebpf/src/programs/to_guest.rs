//! `to_guest`: tc *ingress* of the pair's end in the node's namespace, which is the responder *sending*.
//!
//! Promises: a reply goes to the tap that its binding belongs to, and only while that binding lasts; anything else that
//! comes out of the responder's namespace is dropped and counted.
//!
//! What is done is decided by [`metadata_ebpf::verdict::reply`]; this file looks up what the decisions need, and does it.
//!
//! Minimum kernel version: 5.12 (`bpf_check_mtu`).

use aya_ebpf::{macros::classifier, programs::TcContext};
use metadata_ebpf::{
    abi::{DropReason, Neighbour, PAIR_PLACE, ReturnPath, Verdict},
    addr::{METADATA_IPV6, RESPONDER_IPV6},
    neighbours,
    packet::{Aligned, ETH_IPV4_LEN, ETH_IPV6_LEN, ETHERTYPE_IPV4, EthIpv6, TCP_CHECKSUM, Tcp},
    translate::{self, Outbound},
    verdict::reply::{self, NextHop, Path},
};

use crate::{
    counters::{Outcome, counted, dropped, report},
    frame::{
        adjust_checksum, ethertype, gso_size, ifindex_of, mtu_of, pull, push_vlan, report_path_mtu, send_out, view,
    },
    headers::headers,
    maps::{NEIGHBOURS, TAGS, traced},
};

/// Bytes that the decisions read: Ethernet, IPv6 and TCP headers without options.
const HEAD_LEN: usize = ETH_IPV6_LEN + size_of::<Tcp>();

/// Translates the responder's replies back and sends them out of the guest's tap.
#[classifier]
pub(crate) fn to_guest(ctx: TcContext) -> i32 {
    // A drop counts under the pair until it is known which tap the packet is for.
    let (mut ifindex, mut place) = (ifindex_of(&ctx), PAIR_PLACE);
    match reply(&ctx, &mut ifindex, &mut place) {
        Ok(value) => value,
        Err(reason) => dropped(&ctx, ifindex, place, reason),
    }
}

#[inline(always)]
fn reply(ctx: &TcContext, ifindex: &mut u32, place: &mut u32) -> Outcome {
    let pair = *ifindex;
    pull(ctx, HEAD_LEN);
    let head = headers::<EthIpv6>(ctx).ok_or(DropReason::StrayFromResponder)?;
    let frame = head.headers;
    let identity = reply::destination(ethertype(ctx), &frame)?;
    let path = path_of(TAGS.get_ptr(identity.tag).ok_or(DropReason::TagEnded)?);
    if path.tag == identity.tag {
        (*ifindex, *place) = (path.ifindex, path.place);
    }
    let tcp = view::<Tcp>(ctx, ETH_IPV6_LEN).ok_or(DropReason::Truncated)?;
    let next_hop = reply::next_hop(&identity, &path, tcp)?;
    let packet_len = reply::packet_len(ctx.len(), gso_size(ctx), tcp, identity.family);
    if !reply::surely_fits(packet_len)
        && let Some(path_mtu) = reply::too_big(&frame, tcp, packet_len, mtu_of(ctx, path.ifindex), identity.family)
    {
        if traced(path.ifindex) {
            report(ctx, "to_guest: longer than the tap's MTU, back to the responder: ", packet_len);
        }
        let value = report_path_mtu(ctx, &path_mtu, pair);
        if value < 0 {
            return Err(DropReason::KernelError);
        }
        counted(path.place, Verdict::PathMtu);
        return Ok(value);
    }

    // One word until it is needed: the stack is nearly full.
    let link = match next_hop {
        NextHop::Mac(mac) => Neighbour::new(&frame.dst, mac).link,
        NextHop::Learned => learned(ctx, identity.tag),
    };
    let mac = neighbours::mac_of(link).ok_or(DropReason::MacUnknown)?;
    match translate::outbound(&frame, &identity, mac).ok_or(DropReason::Truncated)? {
        // The identity address is checksum-neutral.
        Outbound::Ipv4(header) => {
            ctx.change_proto(ETHERTYPE_IPV4.to_be(), 0).and_then(|()| ctx.store(0, &Aligned::new(header).headers, 0))
        }
        Outbound::Ipv6(header) => {
            let [old, new] = [[RESPONDER_IPV6, frame.dst], [METADATA_IPV6, header.dst]];
            adjust_checksum(ctx, ETH_IPV6_LEN + TCP_CHECKSUM, &old, &new)
                .and_then(|()| ctx.store(0, &Aligned::new(header).headers, 0))
        }
    }
    .and_then(|()| push_vlan(ctx, identity.vlan))
    .map_err(|_| DropReason::KernelError)?;

    if traced(path.ifindex) {
        report(ctx, "to_guest: to the guest, bytes: ", ctx.len());
    }
    counted(path.place, Verdict::ToGuest);
    Ok(send_out(ctx, path.ifindex))
}

/// Returns the word with the MAC that the frame's destination, of this binding, was last seen with; 0 if there is none. A
/// function of its own that copies the address from the frame, for the sake of the caller's stack.
#[inline(never)]
fn learned(ctx: &TcContext, tag: u32) -> u64 {
    let (Ok(identity), Some(table)) = (ctx.load::<[u8; 16]>(ETH_IPV6_LEN - 16), NEIGHBOURS.get_ptr(tag)) else {
        return 0;
    };
    let Neighbour { guest, link } = Neighbour::new(&identity, [0; 6]);
    // SAFETY: points to a map element, which stays readable while the program runs. Other processors may write to it, or it
    // may be another binding's by now: then the MAC may be one that no interface has behind the tap, which is the right one.
    neighbours::link_of(unsafe { &*table }, guest, link)
}

/// Copies what the map says of a tag.
#[inline(always)]
fn path_of(path: *const ReturnPath) -> Path {
    // SAFETY: the first word of a `ReturnPath` is its tag and interface index, and is aligned; one load reads both.
    let word: [u32; 2] = unsafe { core::mem::transmute(core::ptr::read_volatile(path.cast::<u64>())) };
    // SAFETY: points to a map element, which stays readable while the program runs. Should it be another binding's by
    // now, the frame still goes to the right tap, with a MAC that no interface there has.
    let (mac, flags, place) = unsafe { ((*path).mac, (*path).flags, (*path).place) };
    Path { tag: word[0], ifindex: word[1], mac, flags, place }
}

const _: () = assert!(ETH_IPV4_LEN < ETH_IPV6_LEN);
