//! `from_guest`: tc *ingress* of a tap, which is the guest *sending*.
//!
//! Promises: traffic that is not to a metadata address passes after a few loads, untouched; traffic that is, ends here.
//! What is done with it is decided by [`metadata_ebpf::verdict`]; this file only does it.
//!
//! Minimum kernel version: 5.10 (`bpf_redirect_peer`).

use aya_ebpf::{helpers::bpf_csum_diff, macros::classifier, programs::TcContext};
use metadata_ebpf::{
    abi::{Answered, DropReason, Neighbour as LearnedMac, PORT_HELD, PORT_LEARN, Port},
    addr::{
        Family, IdentityAddress, METADATA_IPV4, METADATA_IPV6, METADATA_MAC, METADATA_SOLICITED_NODE, RESPONDER_IPV6,
    },
    packet::{
        ADVERTISEMENT_LEN, ADVERTISEMENT_MESSAGE_LEN, ETH_IPV4_LEN, ETH_IPV6_LEN, ETHERTYPE_ARP, ETHERTYPE_IPV4,
        ETHERTYPE_IPV6, EthArp, EthIpv4, EthIpv6, ICMP_ECHO_REPLY, ICMP_ECHO_REQUEST, ICMPV6_ECHO_REPLY,
        ICMPV6_ECHO_REQUEST, ICMPV6_SOLICITATION, Icmp, Neighbour, PROTOCOL_ICMPV6, TCP_CHECKSUM,
    },
    verdict::{self, Action},
};

use crate::{
    counters::{answered, dropped, report},
    frame::{
        PASS, accept_any_destination, adjust_checksum, ethertype, hand_to_peer, ifindex_of, pop_vlan, pull, send_out,
        view, vlan_of,
    },
    maps::{NEIGHBOURS, PAIR_IFINDEX, PORTS, traced},
};

/// Bytes that the decisions read at most: Ethernet, IPv6 and a solicitation.
const HEAD_LEN: u32 = (ETH_IPV6_LEN + size_of::<Neighbour>()) as u32;

/// Recognises, answers, redirects or drops what a guest sends to the metadata addresses.
#[classifier]
pub(crate) fn from_guest(ctx: TcContext) -> i32 {
    match ethertype(&ctx) {
        ETHERTYPE_IPV4 if asks_ipv4(&ctx) => for_service(&ctx, ipv4),
        ETHERTYPE_IPV6 if asks_ipv6(&ctx) => for_service(&ctx, ipv6),
        ETHERTYPE_ARP if asks_arp(&ctx) => for_service(&ctx, arp),
        _ => PASS,
    }
}

#[inline(always)]
fn asks_ipv4(ctx: &TcContext) -> bool {
    match view::<EthIpv4>(ctx, 0) {
        Some(frame) => frame.dst == METADATA_IPV4,
        // Not in the linear part, or not there at all: copy instead of moving somebody else's packet about.
        None => ctx.load::<[u8; 4]>(ETH_IPV4_LEN - 4).is_ok_and(|dst| dst == METADATA_IPV4),
    }
}

#[inline(always)]
fn asks_arp(ctx: &TcContext) -> bool {
    match view::<EthArp>(ctx, 0) {
        Some(frame) => frame.target == METADATA_IPV4,
        None => ctx.load::<[u8; 4]>(size_of::<EthArp>() - 4).is_ok_and(|target| target == METADATA_IPV4),
    }
}

#[inline(always)]
fn asks_ipv6(ctx: &TcContext) -> bool {
    let (dst, next_header) = match view::<EthIpv6>(ctx, 0) {
        Some(frame) => (frame.dst, frame.next_header),
        None => match ctx.load::<EthIpv6>(0) {
            Ok(frame) => (frame.dst, frame.next_header),
            Err(_) => return false,
        },
    };
    if dst == METADATA_IPV6 {
        return true;
    }
    // The solicited-node address is shared with every address that ends in the same 24 bits: only our own is ours.
    dst == METADATA_SOLICITED_NODE
        && next_header == PROTOCOL_ICMPV6
        && ctx
            .load::<Neighbour>(ETH_IPV6_LEN)
            .is_ok_and(|message| message.kind == ICMPV6_SOLICITATION && message.target == METADATA_IPV6)
}

/// What a protocol made of a packet: the program's return value, or the reason to drop it.
type Outcome = Result<i32, DropReason>;

/// A packet to the service, on a port that is served.
struct Arrival<'a> {
    ctx: &'a TcContext,
    port: &'a Port,
    tag: u32,
    ifindex: u32,
}

/// Finds the port, lets `protocol` decide and act, and counts a drop.
#[inline(always)]
fn for_service(ctx: &TcContext, protocol: impl FnOnce(&Arrival<'_>) -> Outcome) -> i32 {
    let ifindex = ifindex_of(ctx);
    let Some(port) = PORTS.get_ptr(ifindex) else {
        return PASS;
    };
    // SAFETY: the first word of a `Port` is its tag and interface index, and is aligned; one load reads both.
    let word: [u32; 2] = unsafe { core::mem::transmute(core::ptr::read_volatile(port.cast::<u64>())) };
    // SAFETY: points to a map element, which stays readable while the program runs. Its contents may be another
    // port's by now; that is why the tag is taken only from the word above.
    let arrival = Arrival { ctx, port: unsafe { &*port }, tag: word[0], ifindex };
    if word[1] != ifindex {
        return dropped(ctx, ifindex, DropReason::KernelError);
    }
    pull(ctx, HEAD_LEN);
    match protocol(&arrival) {
        Ok(verdict) => verdict,
        Err(reason) => {
            if traced(ifindex) {
                report(ctx, "from_guest: dropped, reason ", reason as u32);
            }
            dropped(ctx, ifindex, reason)
        }
    }
}

/// Answers a request for the service's MAC in place. Any sender may ask: the answer goes back to this tap only.
#[inline(always)]
fn arp(arrival: &Arrival<'_>) -> Outcome {
    let frame = view::<EthArp>(arrival.ctx, 0).ok_or(DropReason::Truncated)?;
    if !verdict::is_arp_request(frame) {
        return Err(DropReason::NotAnswered);
    }
    let reply = frame.reply(METADATA_MAC);
    arrival.ctx.store(0, &reply, 0).map_err(|_| DropReason::KernelError)?;
    Ok(arrival.answer(Answered::Arp))
}

#[inline(always)]
fn ipv4(arrival: &Arrival<'_>) -> Outcome {
    let frame = view::<EthIpv4>(arrival.ctx, 0).ok_or(DropReason::Truncated)?;
    match verdict::ipv4(frame, arrival.ctx.len(), arrival.port)? {
        Action::Respond => {
            let [a, b, c, d] = frame.src;
            let identity = arrival.identity(Family::Ipv4, [0, 0, 0, 0, a, b, c, d]);
            let (mac, src, header) = (frame.src_mac, frame.src, frame.to_ipv6(identity, RESPONDER_IPV6));
            arrival.learn(identity, mac);
            adjust_checksum(
                arrival.ctx,
                ETH_IPV4_LEN + TCP_CHECKSUM,
                &[src, METADATA_IPV4],
                &[identity, RESPONDER_IPV6],
            )
            .and_then(|()| arrival.ctx.change_proto(ETHERTYPE_IPV6.to_be(), 0))
            .map_err(|_| DropReason::KernelError)?;
            arrival.respond(&header)
        }
        Action::Message => {
            let (src_mac, dst_mac, src) = (frame.src_mac, frame.dst_mac, frame.src);
            let message = view::<Icmp>(arrival.ctx, ETH_IPV4_LEN).ok_or(DropReason::Truncated)?;
            if (message.kind, message.code) != (ICMP_ECHO_REQUEST, 0) {
                return Err(DropReason::NotAnswered);
            }
            let ctx = arrival.ctx;
            ctx.l4_csum_replace(
                ETH_IPV4_LEN + 2,
                u16::from_be_bytes([ICMP_ECHO_REQUEST, 0]).to_be().into(),
                u16::from_be_bytes([ICMP_ECHO_REPLY, 0]).to_be().into(),
                2,
            )
            .and_then(|()| ctx.store(ETH_IPV4_LEN, &ICMP_ECHO_REPLY, 0))
            // Swapping the addresses leaves the header's checksum as it was.
            .and_then(|()| ctx.store(ETH_IPV4_LEN - 8, &[METADATA_IPV4, src], 0))
            .and_then(|()| ctx.store(0, &[src_mac, answering_mac(dst_mac)], 0))
            .map_err(|_| DropReason::KernelError)?;
            Ok(arrival.answer(Answered::Echo))
        }
    }
}

#[inline(always)]
fn ipv6(arrival: &Arrival<'_>) -> Outcome {
    let ctx = arrival.ctx;
    let frame = view::<EthIpv6>(ctx, 0).ok_or(DropReason::Truncated)?;
    if frame.next_header == PROTOCOL_ICMPV6
        && let Some(message) = view::<Neighbour>(ctx, ETH_IPV6_LEN)
        && (message.kind, message.code) == (ICMPV6_SOLICITATION, 0)
    {
        return solicitation(arrival, frame, message);
    }
    match verdict::ipv6(frame, ctx.len(), arrival.port)? {
        Action::Respond => {
            let s = frame.src;
            let identity = arrival.identity(Family::Ipv6, [s[8], s[9], s[10], s[11], s[12], s[13], s[14], s[15]]);
            let header = EthIpv6 { src: identity, dst: RESPONDER_IPV6, ..*frame };
            arrival.learn(identity, header.src_mac);
            adjust_checksum(ctx, ETH_IPV6_LEN + TCP_CHECKSUM, &[s, METADATA_IPV6], &[identity, RESPONDER_IPV6])
                .map_err(|_| DropReason::KernelError)?;
            arrival.respond(&header)
        }
        Action::Message => {
            let (src_mac, dst_mac, src) = (frame.src_mac, frame.dst_mac, frame.src);
            let message = view::<Icmp>(ctx, ETH_IPV6_LEN).ok_or(DropReason::Truncated)?;
            if (message.kind, message.code) != (ICMPV6_ECHO_REQUEST, 0) {
                return Err(DropReason::NotAnswered);
            }
            // Swapping the addresses leaves the pseudo header's sum as it was.
            ctx.l4_csum_replace(
                ETH_IPV6_LEN + 2,
                u16::from_be_bytes([ICMPV6_ECHO_REQUEST, 0]).to_be().into(),
                u16::from_be_bytes([ICMPV6_ECHO_REPLY, 0]).to_be().into(),
                2,
            )
            .and_then(|()| ctx.store(ETH_IPV6_LEN, &ICMPV6_ECHO_REPLY, 0))
            .and_then(|()| ctx.store(ETH_IPV6_LEN - 32, &[METADATA_IPV6, src], 0))
            .and_then(|()| ctx.store(0, &[src_mac, answering_mac(dst_mac)], 0))
            .map_err(|_| DropReason::KernelError)?;
            Ok(arrival.answer(Answered::Echo))
        }
    }
}

/// Answers a solicitation in place: a question from a neighbour, or a probe for the address being in use already.
/// Checks what RFC 4861, section 7.1.1 asks for, but for the message's checksum.
#[inline(always)]
fn solicitation(arrival: &Arrival<'_>, frame: &EthIpv6, message: &Neighbour) -> Outcome {
    let ctx = arrival.ctx;
    if frame.hop_limit != 255 || message.target != METADATA_IPV6 {
        return Err(DropReason::NotAnswered);
    }
    let mut reply = frame.advertisement(METADATA_IPV6, METADATA_MAC);
    let pseudo_header: [u8; 8] = [0, 0, 0, ADVERTISEMENT_MESSAGE_LEN, 0, 0, 0, PROTOCOL_ICMPV6];
    // SAFETY: all buffers are on the stack, of the given sizes (multiples of 4): the addresses are the last 32 bytes
    // of the IPv6 header and the message follows them.
    let sum = unsafe {
        let tail = bpf_csum_diff(core::ptr::null_mut(), 0, pseudo_header.as_ptr().cast_mut().cast(), 8, 0);
        bpf_csum_diff(
            core::ptr::null_mut(),
            0,
            core::ptr::from_ref(&reply).cast::<u8>().add(ETH_IPV6_LEN - 32).cast_mut().cast(),
            32 + u32::from(ADVERTISEMENT_MESSAGE_LEN),
            tail as u32,
        )
    };
    let sum = (sum as u32 & 0xffff) + (sum as u32 >> 16);
    let sum = (sum & 0xffff) + (sum >> 16);
    // The kernel sums words in host order; so written back, in host order, the checksum is right on either endianness.
    reply.message.checksum = (!sum as u16).to_ne_bytes();
    // A probe has no link-layer option, so it is shorter than its answer.
    // SAFETY: `skb` is the context that the kernel passed in.
    if unsafe { aya_ebpf::helpers::bpf_skb_change_tail(ctx.skb.skb, ADVERTISEMENT_LEN as u32, 0) } != 0 {
        return Err(DropReason::KernelError);
    }
    ctx.store(0, &reply, 0).map_err(|_| DropReason::KernelError)?;
    Ok(arrival.answer(Answered::Neighbour))
}

/// The MAC that a reply comes from: the one that was asked, unless that was a group (first bit set).
#[inline(always)]
fn answering_mac(asked: [u8; 6]) -> [u8; 6] {
    if asked[0] & 1 == 0 { asked } else { METADATA_MAC }
}

impl Arrival<'_> {
    #[inline(always)]
    fn identity(&self, family: Family, guest: [u8; 8]) -> [u8; 16] {
        IdentityAddress { family, vlan: vlan_of(self.ctx), tag: self.tag, guest }.encode()
    }

    /// Remembers the MAC of a guest address, on ports where it could be one of several.
    #[inline(always)]
    fn learn(&self, identity: [u8; 16], mac: [u8; 6]) {
        if self.port.flags & (PORT_HELD | PORT_LEARN) == 0 {
            return;
        }
        let learned = LearnedMac { mac, reserved: 0 };
        // SAFETY: read at once, before anything could change the element; a stale MAC is only written anew.
        if unsafe { NEIGHBOURS.get(identity) }.is_none_or(|known| *known != learned) {
            // Full map or contention: the reply is dropped and counted, and the guest sends again.
            let _ = NEIGHBOURS.insert(identity, learned, 0);
        }
    }

    /// Sends the frame, rewritten in place, back to the guest.
    #[inline(always)]
    fn answer(&self, what: Answered) -> i32 {
        if traced(self.ifindex) {
            report(self.ctx, "from_guest: answered in place, bytes: ", self.ctx.len());
        }
        answered(self.ifindex, what);
        send_out(self.ifindex)
    }

    /// Writes the headers of the translated packet and hands it to the responder.
    #[inline(always)]
    fn respond(&self, header: &EthIpv6) -> Outcome {
        pop_vlan(self.ctx)
            .and_then(|()| self.ctx.store(0, header, 0))
            .and_then(|()| accept_any_destination(self.ctx))
            .map_err(|_| DropReason::KernelError)?;
        if traced(self.ifindex) {
            report(self.ctx, "from_guest: to the responder, bytes: ", self.ctx.len());
        }
        answered(self.ifindex, Answered::ToResponder);
        Ok(hand_to_peer(PAIR_IFINDEX.load()))
    }
}
