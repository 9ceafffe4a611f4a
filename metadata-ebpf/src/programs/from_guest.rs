//! `from_guest`: tc *ingress* of a tap, which is the guest *sending*.
//!
//! Promises: traffic that is not to a metadata address passes after a few loads, untouched; traffic that is, ends here.
//! What is done with it is decided by [`metadata_ebpf::verdict`], and how much of it by [`metadata_ebpf::limit`]; this file only does
//! it.
//!
//! Minimum kernel version: 5.12 (`bpf_redirect_peer` is of 5.10, `bpf_check_mtu` of 5.12).

use aya_ebpf::{macros::classifier, programs::TcContext};
use metadata_ebpf::{
    abi::{DropReason, Neighbour, PORT_HELD, PORT_LEARN, PassList, Port, Verdict},
    addr::{IdentityAddress, METADATA_IPV4, METADATA_IPV6, METADATA_SOLICITED_NODE, RESPONDER_IPV6},
    mss, neighbours,
    packet::{
        ADVERTISEMENT_LEN, Aligned, ETH_IPV4_LEN, ETH_IPV6_LEN, ETHERTYPE_ARP, ETHERTYPE_IPV4, ETHERTYPE_IPV6, EthArp,
        EthIpv4, EthIpv6, FragmentationNeeded, ICMP_ECHO_REPLY, ICMP_ECHO_REQUEST, ICMPV6_ECHO_REPLY,
        ICMPV6_ECHO_REQUEST, ICMPV6_SOLICITATION, Neighbour as NeighbourMessage, PACKET_TOO_BIG_LEN, PROTOCOL_ICMPV6,
        PROTOCOL_TCP, PacketTooBig, TCP_CHECKSUM, Tcp, Transport,
    },
    translate::{self, PathMtu},
    verdict::{self, Action, ArpAction, moving},
};

use crate::{
    counters::{Outcome, counted, dropped, report},
    frame::{
        PASS, accept_any_destination, adjust_checksum, clamp_mss, ethertype, hand_to_peer, ifindex_of, mtu_of,
        pop_vlan, pull, report_path_mtu, resize, send_out, socket_state, view, vlan_of,
    },
    headers::{Copied, destination_ipv4, headers},
    limits::{self, Tokens},
    maps::{self, NEIGHBOURS, PAIR_IFINDEX, PORTS, RESPONDER_NETNS, traced},
};

/// Bytes that the decisions read at most, but for the options of a connection's first segment: the longest of the headers is a report
/// about an IPv6 path's MTU.
const HEAD_LEN: usize = PACKET_TOO_BIG_LEN;

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
    match destination_ipv4(ctx) {
        Some(dst) => dst == METADATA_IPV4,
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
    let (dst, next_header) = match headers::<EthIpv6>(ctx) {
        Some(head) => (head.headers.dst, head.headers.next_header),
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
        && match view(ctx, ETH_IPV6_LEN) {
            Some(message) => asks_for_service(message),
            None => ctx.load(ETH_IPV6_LEN).is_ok_and(|message| asks_for_service(&message)),
        }
}

/// Tells whether a message asks for the MAC of the service's address.
#[inline(always)]
fn asks_for_service(message: &NeighbourMessage) -> bool {
    message.kind == ICMPV6_SOLICITATION && message.target == METADATA_IPV6
}

/// A packet to the service, on a port that is served.
struct Arrival<'a> {
    ctx: &'a TcContext,
    port: &'a Port,
    pass: &'a PassList,
    tokens: Tokens,
    tag: u32,
    ifindex: u32,
}

/// Finds the port, lets `protocol` decide and act, and counts a drop.
#[inline(always)]
fn for_service(ctx: &TcContext, protocol: impl FnOnce(&Arrival<'_>) -> Outcome) -> i32 {
    let ifindex = ifindex_of(ctx);
    let (Some(port), Some(pass)) = (PORTS.get_ptr_mut(ifindex), maps::PASS.get(0)) else {
        return PASS;
    };
    // SAFETY: the first word of a `Port` is its tag and interface index, and is aligned; one load reads both.
    let word: [u32; 2] = unsafe { core::mem::transmute(core::ptr::read_volatile(port.cast_const().cast::<u64>())) };
    // SAFETY: points to a map element, which stays readable while the program runs. Its contents may be another
    // port's by now; that is why the tag is taken only from the word above.
    let arrival = Arrival { ctx, port: unsafe { &*port }, pass, tokens: Tokens::of(port), tag: word[0], ifindex };
    if word[1] != ifindex {
        return dropped(ctx, ifindex, arrival.place(), DropReason::KernelError);
    }
    match protocol(&arrival) {
        Ok(verdict) => verdict,
        Err(reason) => {
            let reason = refused(arrival.tokens, reason);
            if traced(ifindex) {
                report(ctx, "from_guest: dropped, reason ", reason as u32);
            }
            dropped(ctx, ifindex, arrival.place(), reason)
        }
    }
}

/// Takes one of the port's tokens for a packet that is refused, unless it has taken one; returns the reason for the drop.
#[inline(always)]
fn refused(tokens: Tokens, reason: DropReason) -> DropReason {
    let has_token = matches!(reason, DropReason::LimitPackets | DropReason::LimitConnections | DropReason::KernelError);
    if has_token || tokens.admit_packet() { reason } else { DropReason::LimitPackets }
}

/// Answers a request for the service's MAC in place.
#[inline(always)]
fn arp(arrival: &Arrival<'_>) -> Outcome {
    if moving::leaves(arrival.port.flags) {
        return Ok(arrival.leave());
    }
    pull(arrival.ctx, size_of::<EthArp>());
    let frame = view::<EthArp>(arrival.ctx, 0).ok_or(DropReason::Truncated)?;
    match verdict::arp(frame, arrival.pass)? {
        ArpAction::Pass => Ok(arrival.pass()),
        ArpAction::Answer(reply) => {
            arrival.admit_packet()?;
            arrival.ctx.store(0, &reply, 0).map_err(|_| DropReason::KernelError)?;
            Ok(arrival.answer(Verdict::AnsweredArp))
        }
    }
}

/// Returns a copy of a packet's headers. What the decisions read is in the linear part then: of a segment the TCP header, else all of
/// [`HEAD_LEN`].
#[inline(always)]
fn head<T: Copied>(ctx: &TcContext, protocol: impl Fn(&T) -> u8) -> Result<Aligned<T>, DropReason> {
    pull(ctx, size_of::<T>() + size_of::<Tcp>());
    let head = headers::<T>(ctx).ok_or(DropReason::Truncated)?;
    if protocol(&head.headers) == PROTOCOL_TCP {
        return Ok(head);
    }
    pull(ctx, HEAD_LEN);
    Ok(head)
}

#[inline(always)]
fn ipv4(arrival: &Arrival<'_>) -> Outcome {
    let ctx = arrival.ctx;
    let head = head::<EthIpv4>(ctx, |frame| frame.protocol)?;
    let frame = &head.headers;
    let transport = view::<Transport>(ctx, ETH_IPV4_LEN);
    match verdict::ipv4(frame, transport, ctx.len(), arrival.port, arrival.pass)? {
        Action::Pass => Ok(arrival.pass()),
        Action::Respond => {
            let identity = IdentityAddress::of_ipv4(arrival.tag, vlan_of(ctx), frame.src).encode();
            let tcp = view::<Tcp>(ctx, ETH_IPV4_LEN).ok_or(DropReason::Truncated)?;
            if arrival.is_networks(tcp, &identity) {
                return Ok(arrival.leave());
            }
            arrival.admit_segment(tcp)?;
            let header = translate::inbound_ipv4(frame, identity);
            arrival.learn(identity, header.src_mac);
            arrival.bound_segments(tcp, ETH_IPV4_LEN, false)?;
            // The identity address is checksum-neutral.
            ctx.change_proto(ETHERTYPE_IPV6.to_be(), 0).map_err(|_| DropReason::KernelError)?;
            arrival.respond(&header)
        }
        Action::Echo => {
            arrival.admit_packet()?;
            let reply = Echo {
                header_len: ETH_IPV4_LEN,
                kinds: [ICMP_ECHO_REQUEST, ICMP_ECHO_REPLY],
                macs: [frame.src_mac, verdict::answering_mac(frame.dst_mac)],
                addresses: [METADATA_IPV4, frame.src],
            };
            arrival.echo(&reply)
        }
        Action::PathMtu => {
            let message = view::<FragmentationNeeded>(ctx, ETH_IPV4_LEN).ok_or(DropReason::Truncated)?;
            let path_mtu = verdict::fragmentation_needed(message, arrival.tag, vlan_of(ctx))?;
            arrival.admit_packet()?;
            ctx.change_proto(ETHERTYPE_IPV6.to_be(), 0).map_err(|_| DropReason::KernelError)?;
            arrival.path_mtu(&path_mtu)
        }
    }
}

#[inline(always)]
fn ipv6(arrival: &Arrival<'_>) -> Outcome {
    let ctx = arrival.ctx;
    let head = head::<EthIpv6>(ctx, |frame| frame.next_header)?;
    let frame = &head.headers;
    if let Some(message) = view::<NeighbourMessage>(ctx, ETH_IPV6_LEN)
        && verdict::is_solicitation(frame, message)
    {
        if moving::leaves(arrival.port.flags) {
            return Ok(arrival.leave());
        }
        let reply = verdict::solicitation(frame, message)?;
        arrival.admit_packet()?;
        // A probe has no link-layer option, so it is shorter than its answer.
        resize(ctx, ADVERTISEMENT_LEN as u32)
            .and_then(|()| ctx.store(0, &Aligned::new(reply).headers, 0))
            .map_err(|_| DropReason::KernelError)?;
        return Ok(arrival.answer(Verdict::AnsweredNeighbour));
    }
    let transport = view::<Transport>(ctx, ETH_IPV6_LEN);
    match verdict::ipv6(frame, transport, ctx.len(), arrival.port, arrival.pass)? {
        Action::Pass => Ok(arrival.pass()),
        Action::Respond => {
            let src = frame.src;
            let identity = IdentityAddress::of_ipv6(arrival.tag, vlan_of(ctx), &src).encode();
            let tcp = view::<Tcp>(ctx, ETH_IPV6_LEN).ok_or(DropReason::Truncated)?;
            if arrival.is_networks(tcp, &identity) {
                return Ok(arrival.leave());
            }
            arrival.admit_segment(tcp)?;
            let header = translate::inbound_ipv6(frame, identity);
            arrival.learn(identity, header.src_mac);
            arrival.bound_segments(tcp, ETH_IPV6_LEN, true)?;
            adjust_checksum(ctx, ETH_IPV6_LEN + TCP_CHECKSUM, &[src, METADATA_IPV6], &[identity, RESPONDER_IPV6])
                .map_err(|_| DropReason::KernelError)?;
            arrival.respond(&header)
        }
        Action::Echo => {
            arrival.admit_packet()?;
            let reply = Echo {
                header_len: ETH_IPV6_LEN,
                kinds: [ICMPV6_ECHO_REQUEST, ICMPV6_ECHO_REPLY],
                macs: [frame.src_mac, verdict::answering_mac(frame.dst_mac)],
                addresses: [METADATA_IPV6, frame.src],
            };
            arrival.echo(&reply)
        }
        Action::PathMtu => {
            let message = view::<PacketTooBig>(ctx, ETH_IPV6_LEN).ok_or(DropReason::Truncated)?;
            let path_mtu = verdict::packet_too_big(message, arrival.tag, vlan_of(ctx))?;
            arrival.admit_packet()?;
            arrival.path_mtu(&path_mtu)
        }
    }
}

/// What an echo reply changes in its request. Source and destination addresses are the last bytes of the IP header; swapping
/// them leaves checksums as they were.
struct Echo<const N: usize> {
    /// Length of Ethernet and IP headers.
    header_len: usize,
    /// Types of request and reply.
    kinds: [u8; 2],
    /// The new destination and source MAC.
    macs: [[u8; 6]; 2],
    /// The new source and destination address.
    addresses: [[u8; N]; 2],
}

impl Arrival<'_> {
    /// Returns the place of the port's counters.
    #[inline(always)]
    fn place(&self) -> u32 {
        self.port.place
    }

    /// Takes one of the port's tokens for a packet that is answered or handed over; what passes takes none.
    #[inline(always)]
    fn admit_packet(&self) -> Result<(), DropReason> {
        if self.tokens.admit_packet() { Ok(()) } else { Err(DropReason::LimitPackets) }
    }

    /// Takes one of the port's tokens for a segment, and one for a new connection if it begins one. A refused segment is dropped
    /// without an answer, so the guest sends it again a second later.
    #[inline(always)]
    fn admit_segment(&self, tcp: &Tcp) -> Result<(), DropReason> {
        match self.tokens.admit_segment(verdict::begins_connection(tcp)) {
            limits::ADMITTED => Ok(()),
            limits::NO_PACKET => Err(DropReason::LimitPackets),
            _ => Err(DropReason::LimitConnections),
        }
    }

    /// Remembers the MAC of a guest address, on ports where it could be one of several.
    #[inline(always)]
    fn learn(&self, identity: [u8; 16], mac: [u8; 6]) {
        if self.port.flags & (PORT_HELD | PORT_LEARN) == 0 {
            return;
        }
        // Without a table the reply is dropped and counted.
        let Some(table) = NEIGHBOURS.get_ptr_mut(self.tag) else {
            return;
        };
        let Neighbour { guest, link } = Neighbour::new(&identity, mac);
        // SAFETY: points to a map element, which stays writable while the program runs. What other processors do with it at
        // the same time, `neighbours` allows for.
        neighbours::learn(unsafe { &mut *table }, guest, link);
    }

    /// Bounds the segments that the responder will send on this connection to what the tap can carry. The guest's own
    /// announcement may be for a network behind it, with a larger MTU than the tap's. `offset` is the header's.
    #[inline(always)]
    fn bound_segments(&self, tcp: &Tcp, offset: usize, ipv6: bool) -> Result<(), DropReason> {
        let Some(options_len) = verdict::options_of_first(tcp) else {
            return Ok(());
        };
        pull(self.ctx, offset + size_of::<Tcp>() + mss::MAX_OPTIONS);
        let mtu = mtu_of(self.ctx, self.ifindex);
        if mtu != 0 && clamp_mss(self.ctx, offset, options_len, mss::largest(mtu, ipv6)) != 0 {
            return Err(DropReason::KernelError);
        }
        Ok(())
    }

    /// Lets the frame pass, and counts it.
    #[inline(always)]
    fn pass(&self) -> i32 {
        if traced(self.ifindex) {
            report(self.ctx, "from_guest: passes, as ports.pass says, bytes: ", self.ctx.len());
        }
        counted(self.place(), Verdict::Passed);
        PASS
    }

    /// Tells whether a segment is of a connection that the network has, while the port moves.
    #[inline(always)]
    fn is_networks(&self, tcp: &Tcp, identity: &[u8; 16]) -> bool {
        let flags = self.port.flags;
        if !moving::moves(flags) {
            return false;
        }
        let (begins, ports) = (verdict::begins_connection(tcp), [tcp.src, tcp.dst]);
        moving::is_networks(flags, begins, socket_state(self.ctx, identity, ports, RESPONDER_NETNS.load()))
    }

    /// Leaves the frame to the network, while the port moves, and counts it.
    #[inline(always)]
    fn leave(&self) -> i32 {
        if traced(self.ifindex) {
            report(self.ctx, "from_guest: the network's, as the port moves, bytes: ", self.ctx.len());
        }
        counted(self.place(), Verdict::Passed);
        PASS
    }

    /// Makes an echo request its reply and sends it back.
    #[inline(always)]
    fn echo<const N: usize>(&self, reply: &Echo<N>) -> Outcome {
        let [request_kind, reply_kind] = reply.kinds;
        let word = |kind: u8| u16::from_ne_bytes([kind, 0]).into();
        self.ctx
            .l4_csum_replace(reply.header_len + 2, word(request_kind), word(reply_kind), 2)
            .and_then(|()| self.ctx.store(reply.header_len, &reply_kind, 0))
            .and_then(|()| self.ctx.store(reply.header_len - 2 * N, &reply.addresses, 0))
            .and_then(|()| self.ctx.store(0, &reply.macs, 0))
            .map_err(|_| DropReason::KernelError)?;
        Ok(self.answer(Verdict::AnsweredEcho))
    }

    /// Sends the frame, rewritten in place, back to the guest.
    #[inline(always)]
    fn answer(&self, verdict: Verdict) -> i32 {
        if traced(self.ifindex) {
            report(self.ctx, "from_guest: answered in place, bytes: ", self.ctx.len());
        }
        counted(self.place(), verdict);
        send_out(self.ctx, self.ifindex)
    }

    /// Hands a report about a path's MTU to the responder.
    #[inline(always)]
    fn path_mtu(&self, path_mtu: &PathMtu) -> Outcome {
        pop_vlan(self.ctx).map_err(|_| DropReason::KernelError)?;
        if traced(self.ifindex) {
            report(self.ctx, "from_guest: path MTU, to the responder: ", path_mtu.mtu);
        }
        let value = report_path_mtu(self.ctx, path_mtu, PAIR_IFINDEX.load());
        if value < 0 {
            return Err(DropReason::KernelError);
        }
        counted(self.place(), Verdict::PathMtu);
        Ok(value)
    }

    /// Writes the headers of the translated packet and hands it to the responder.
    #[inline(always)]
    fn respond(&self, header: &EthIpv6) -> Outcome {
        pop_vlan(self.ctx)
            .and_then(|()| self.ctx.store(0, &Aligned::new(*header).headers, 0))
            .and_then(|()| accept_any_destination(self.ctx))
            .map_err(|_| DropReason::KernelError)?;
        if traced(self.ifindex) {
            report(self.ctx, "from_guest: to the responder, bytes: ", self.ctx.len());
        }
        counted(self.place(), Verdict::ToResponder);
        Ok(hand_to_peer(PAIR_IFINDEX.load()))
    }
}
