//! `from_guest_xdp`: XDP of a tap, which is the guest *sending*, before the kernel has made a packet buffer.
//!
//! Promises: what [`from_guest`](super::from_guest) would drop in this instant for a limit of the port is dropped and counted here;
//! everything else goes on to it untouched, without taking a token. So the two may run both, either or, for some frames, only the
//! second: the limits are the same, and each packet is counted once.
//!
//! What is dropped is decided by [`metadata_ebpf::verdict::early`]. Attached only where the operator asks for it, in the driver itself.
//!
//! A VLAN tag is still in the frame here, where a virtual machine sends it. A veth may have put the outer of two tags beside the
//! frame, where no XDP program sees it: of such frames the inner tag is taken for the only one, and those to a metadata address are
//! limited, while `from_guest` lets all with two tags pass.
//!
//! Minimum kernel version: 5.18 (frames in several parts, `bpf_xdp_load_bytes`).

use aya_ebpf::{
    EbpfContext as _,
    bindings::xdp_action::{XDP_DROP, XDP_PASS},
    helpers::{bpf_xdp_get_buff_len, bpf_xdp_load_bytes},
    macros::xdp,
    programs::XdpContext,
};
use metadata_ebpf::{
    abi::{DropReason, PassList, Port},
    addr::{METADATA_IPV4, METADATA_IPV6, METADATA_SOLICITED_NODE},
    packet::{
        ETH_IPV4_LEN, ETH_IPV6_LEN, ETHERTYPE_ARP, ETHERTYPE_IPV4, ETHERTYPE_IPV6, ETHERTYPE_SERVICE_VLAN,
        ETHERTYPE_VLAN, EthArp, EthIpv4, EthIpv6, Ethernet, ICMPV6_SOLICITATION, Neighbour, PROTOCOL_ICMPV6, Tcp,
        Transport,
    },
    verdict::{
        self,
        early::{Left, Takes},
    },
};

use crate::{
    counters::{Seen, count_drop, is_sampled, report, sample},
    frame::view,
    limits::Tokens,
    maps::{self, PORTS, traced},
};

/// Length of the two MACs in front of a VLAN tag.
const MACS_LEN: usize = 12;
/// Length of a VLAN tag.
const TAG_LEN: usize = 4;

/// Drops what is beyond the port's limits.
#[xdp(frags)]
pub(crate) fn from_guest_xdp(ctx: XdpContext) -> u32 {
    match view::<Ethernet>(&ctx, 0).map(|frame| u16::from_be_bytes(frame.ethertype)) {
        Some(ETHERTYPE_VLAN | ETHERTYPE_SERVICE_VLAN) => limited::<TAG_LEN>(&ctx),
        Some(_) => limited::<0>(&ctx),
        None => XDP_PASS,
    }
}

/// Looks at a frame with a tag of this length in it.
#[inline(always)]
fn limited<const TAG: usize>(ctx: &XdpContext) -> u32 {
    let Some(inner) = view::<Ethernet>(ctx, TAG) else {
        return XDP_PASS;
    };
    let ethertype = u16::from_be_bytes(inner.ethertype);
    match ethertype {
        ETHERTYPE_IPV4 if view::<EthIpv4>(ctx, TAG).is_some_and(|frame| frame.dst == METADATA_IPV4) => {
            for_service::<TAG>(ctx, ethertype, ipv4::<TAG>)
        }
        ETHERTYPE_IPV6 if asks_ipv6::<TAG>(ctx) => for_service::<TAG>(ctx, ethertype, ipv6::<TAG>),
        ETHERTYPE_ARP if view::<EthArp>(ctx, TAG).is_some_and(|frame| frame.target == METADATA_IPV4) => {
            for_service::<TAG>(ctx, ethertype, arp::<TAG>)
        }
        _ => XDP_PASS,
    }
}

/// As `from_guest` decides it.
#[inline(always)]
fn asks_ipv6<const TAG: usize>(ctx: &XdpContext) -> bool {
    view::<EthIpv6>(ctx, TAG).is_some_and(|frame| {
        frame.dst == METADATA_IPV6
            || frame.dst == METADATA_SOLICITED_NODE
                && frame.next_header == PROTOCOL_ICMPV6
                && view::<Neighbour>(ctx, TAG + ETH_IPV6_LEN)
                    .is_some_and(|message| message.kind == ICMPV6_SOLICITATION && message.target == METADATA_IPV6)
    })
}

/// What a packet to the service, on a port that is served, takes of its limits.
type Decide = fn(&XdpContext, &Port, &PassList, Left) -> Takes;

/// Drops a packet to the service if it is beyond a limit. Only then is it looked at whole.
#[inline(always)]
fn for_service<const TAG: usize>(ctx: &XdpContext, ethertype: u16, decide: Decide) -> u32 {
    let ifindex = ctx.ingress_ifindex() as u32;
    let (Some(port), Some(pass)) = (PORTS.get_ptr_mut(ifindex), maps::PASS.get(0)) else {
        return XDP_PASS;
    };
    let tokens = Tokens::of(port);
    let left = Left::from_bits(tokens.left());
    if left.is_enough() {
        return XDP_PASS;
    }
    // SAFETY: points to a map element, which stays readable while the program runs. Its contents may become another port's:
    // then one packet of this guest is judged by the other's addresses.
    let port = unsafe { &*port };
    if port.ifindex != ifindex {
        return XDP_PASS;
    }
    let takes = decide(ctx, port, pass, left);
    match takes.beyond(left) {
        None => XDP_PASS,
        Some(DropReason::LimitConnections) if !tokens.admit_packet() => {
            dropped::<TAG>(ctx, port, ethertype, DropReason::LimitPackets)
        }
        Some(reason) => dropped::<TAG>(ctx, port, ethertype, reason),
    }
}

#[inline(always)]
fn arp<const TAG: usize>(ctx: &XdpContext, _: &Port, pass: &PassList, _: Left) -> Takes {
    match view::<EthArp>(ctx, TAG) {
        Some(frame) => Takes::of_arp(verdict::arp(frame, pass)),
        None => Takes::Packet,
    }
}

#[inline(always)]
fn ipv4<const TAG: usize>(ctx: &XdpContext, port: &Port, pass: &PassList, left: Left) -> Takes {
    let (Some(frame), Some(macs)) = (view::<EthIpv4>(ctx, TAG), view::<Ethernet>(ctx, 0)) else {
        return Takes::Packet;
    };
    // The MACs are in front of the tag.
    let frame = EthIpv4 { src_mac: macs.src_mac, ..*frame };
    let start = TAG + ETH_IPV4_LEN;
    Takes::of_ipv4(&frame, (view::<Transport>(ctx, start), view::<Tcp>(ctx, start)), len::<TAG>(ctx), port, pass, left)
}

#[inline(always)]
fn ipv6<const TAG: usize>(ctx: &XdpContext, port: &Port, pass: &PassList, left: Left) -> Takes {
    let (Some(frame), Some(macs)) = (view::<EthIpv6>(ctx, TAG), view::<Ethernet>(ctx, 0)) else {
        return Takes::Packet;
    };
    let frame = EthIpv6 { src_mac: macs.src_mac, ..*frame };
    let start = TAG + ETH_IPV6_LEN;
    Takes::of_ipv6(&frame, (view::<Transport>(ctx, start), view::<Tcp>(ctx, start)), len::<TAG>(ctx), port, pass, left)
}

/// Returns the length of the frame without its tag, as `from_guest` sees it.
#[inline(always)]
fn len<const TAG: usize>(ctx: &XdpContext) -> u32 {
    // SAFETY: `ctx` is the context that the kernel passed in.
    (unsafe { bpf_xdp_get_buff_len(ctx.ctx) } as u32).saturating_sub(TAG as u32)
}

/// Counts a drop, samples it as `from_guest` does, and returns the program's value.
#[inline(always)]
fn dropped<const TAG: usize>(ctx: &XdpContext, port: &Port, ethertype: u16, reason: DropReason) -> u32 {
    let ifindex = ctx.ingress_ifindex() as u32;
    if traced(ifindex) {
        report(ctx, "from_guest_xdp: dropped, reason ", reason as u32);
    }
    let count = count_drop(port.place, reason);
    if is_sampled(count) {
        let vlan = || if TAG == 0 { 0 } else { vlan(ctx) };
        let seen = || Seen { ifindex, reason, count, len: len::<TAG>(ctx), ethertype, vlan: vlan() };
        sample(seen, |head, len| load_head::<TAG>(ctx, head, len));
    }
    XDP_DROP
}

/// Returns the identifier of the tag behind the MACs.
#[inline(always)]
fn vlan(ctx: &XdpContext) -> u16 {
    // Where another frame has its EtherType, this one has the tag's type; the tag follows.
    view::<[u8; 4]>(ctx, MACS_LEN + 2).map_or(0, |tag| u16::from_be_bytes([tag[0], tag[1]]) & 0xfff)
}

/// Copies the frame's head without its tag: 64 bytes, those of an ARP packet, or of an Ethernet header.
#[inline(always)]
fn load_head<const TAG: usize>(ctx: &XdpContext, head: *mut [u8; 64], len: u32) -> bool {
    let head = head.cast::<u8>();
    let behind = (MACS_LEN + TAG) as u32;
    // SAFETY: the head has 64 bytes, of which the first call writes 12 and the second at most 52 behind them.
    let results = unsafe {
        let rest = head.add(MACS_LEN);
        let macs = bpf_xdp_load_bytes(ctx.as_ptr().cast(), 0, head.cast(), MACS_LEN as u32);
        let rest = if len >= 64 {
            bpf_xdp_load_bytes(ctx.as_ptr().cast(), behind, rest.cast(), 52)
        } else if len >= 42 {
            bpf_xdp_load_bytes(ctx.as_ptr().cast(), behind, rest.cast(), 30)
        } else {
            bpf_xdp_load_bytes(ctx.as_ptr().cast(), behind, rest.cast(), 2)
        };
        (macs, rest)
    };
    results == (0, 0)
}
