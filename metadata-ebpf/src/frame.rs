//! The packet as a program sees it: direct views, the VLAN tag beside it, and redirects.

use core::{
    arch::asm,
    mem::{MaybeUninit, offset_of},
};

use aya_ebpf::{
    bindings::{
        __sk_buff, BPF_F_PSEUDO_HDR, TC_ACT_SHOT, TC_ACT_UNSPEC, bpf_sock_tuple,
        bpf_sock_tuple__bindgen_ty_1__bindgen_ty_2,
    },
    helpers::{
        bpf_check_mtu, bpf_redirect, bpf_redirect_peer, bpf_sk_release, bpf_skb_change_tail, bpf_skb_load_bytes,
        bpf_skb_vlan_pop, bpf_skb_vlan_push, bpf_skc_lookup_tcp,
    },
    programs::{TcContext, XdpContext},
};
use metadata_ebpf::{
    addr::{RESPONDER_IPV6, Vlan},
    checksum, mss,
    packet::{
        ETH_IPV6_LEN, ETHERTYPE_SERVICE_VLAN, ETHERTYPE_VLAN, PACKET_TOO_BIG_LEN, TCP_CHECKSUM, TCP_MIN_LEN, View,
    },
    translate::PathMtu,
};

use crate::maps::{OWN_MARK, PEER_ACCEPTS};

/// Not ours: go on with the next program, or the stack. `TCX_NEXT` and clsact's "unspecified" are the same number.
pub(crate) const PASS: i32 = TC_ACT_UNSPEC;

const _: () = assert!(PASS == -1 && TC_ACT_SHOT == 2);

/// `skb->pkt_type` of a frame to the interface's own MAC.
const PACKET_HOST: u32 = 0;

/// A program's context with the linear part of a frame.
pub(crate) trait Frame {
    /// Returns where it begins and ends.
    fn bounds(&self) -> (usize, usize);
}

impl Frame for TcContext {
    /// In assembly: to the compiler the fields have 32 bits, so it may keep these and widen them anew, which the verifier allows of no
    /// pointer.
    #[inline(always)]
    fn bounds(&self) -> (usize, usize) {
        let (begin, end): (usize, usize);
        // SAFETY: `skb` is the context that the kernel passed in; the verifier makes pointers of these loads.
        unsafe {
            asm!(
                "{begin} = *(u32 *)({skb} + {data})",
                "{end} = *(u32 *)({skb} + {data_end})",
                begin = out(reg) begin,
                end = lateout(reg) end,
                skb = in(reg) self.skb.skb,
                data = const offset_of!(__sk_buff, data),
                data_end = const offset_of!(__sk_buff, data_end),
                options(pure, readonly, nostack),
            );
        }
        (begin, end)
    }
}

impl Frame for XdpContext {
    #[inline(always)]
    fn bounds(&self) -> (usize, usize) {
        (self.data(), self.data_end())
    }
}

/// Returns the frame's bytes from `offset` on as `T`, if that many are in its linear part.
#[inline(always)]
pub(crate) fn view<T: View>(ctx: &impl Frame, offset: usize) -> Option<&T> {
    let (begin, end) = ctx.bounds();
    let start = begin + offset;
    if start + size_of::<T>() > end {
        return None;
    }
    // SAFETY: inside the packet (checked above, in the form the verifier knows); `View` promises alignment 1 and that
    // any bytes are a value. The caller lets go of it before a helper moves the packet; the verifier insists.
    Some(unsafe { &*(start as *const T) })
}

/// Returns the EtherType behind the outer VLAN tag, host order.
#[inline(always)]
pub(crate) fn ethertype(ctx: &TcContext) -> u16 {
    u16::from_be(ctx.skb.protocol() as u16)
}

/// Returns the outer VLAN tag. The kernel has taken it out of the frame before tc ingress (since 3.17).
#[inline(always)]
pub(crate) fn vlan_of(ctx: &TcContext) -> Vlan {
    // SAFETY: `skb` is the context that the kernel passed in.
    let (present, tci, protocol) =
        unsafe { ((*ctx.skb.skb).vlan_present, (*ctx.skb.skb).vlan_tci, (*ctx.skb.skb).vlan_proto) };
    if present == 0 {
        return Vlan { id: 0, service: false };
    }
    Vlan { id: tci as u16 & 0xfff, service: u16::from_be(protocol as u16) == ETHERTYPE_SERVICE_VLAN }
}

/// Takes the outer VLAN tag off, if there is one.
#[inline(always)]
pub(crate) fn pop_vlan(ctx: &TcContext) -> Result<(), i64> {
    // SAFETY: `skb` is the context that the kernel passed in.
    if unsafe { (*ctx.skb.skb).vlan_present } == 0 {
        return Ok(());
    }
    // SAFETY: as above.
    check(unsafe { bpf_skb_vlan_pop(ctx.skb.skb) })
}

/// Puts a VLAN tag on, unless it stands for none.
#[inline(always)]
pub(crate) fn push_vlan(ctx: &TcContext, vlan: Vlan) -> Result<(), i64> {
    if vlan.id == 0 {
        return Ok(());
    }
    let protocol = if vlan.service { ETHERTYPE_SERVICE_VLAN } else { ETHERTYPE_VLAN };
    // SAFETY: `skb` is the context that the kernel passed in.
    check(unsafe { bpf_skb_vlan_push(ctx.skb.skb, protocol.to_be(), vlan.id) })
}

/// Returns the state of the socket that the responder's kernel has for a guest's connection, 0 if it has none (`bpf_skc_lookup_tcp`,
/// Linux 5.2). `ports`: the guest's, and the service's.
#[inline(always)]
pub(crate) fn socket_state(ctx: &TcContext, identity: &[u8; 16], ports: [[u8; 2]; 2], netns: u32) -> u32 {
    // SAFETY: made of integers only.
    let mut tuple: bpf_sock_tuple = unsafe { core::mem::zeroed() };
    // SAFETY: an address has the size of four words, whatever their order.
    let words = |address: [u8; 16]| unsafe { core::mem::transmute::<[u8; 16], [u32; 4]>(address) };
    tuple.__bindgen_anon_1.ipv6 = bpf_sock_tuple__bindgen_ty_1__bindgen_ty_2 {
        saddr: words(*identity),
        daddr: words(RESPONDER_IPV6),
        sport: u16::from_ne_bytes(ports[0]),
        dport: u16::from_ne_bytes(ports[1]),
    };
    let size = size_of::<bpf_sock_tuple__bindgen_ty_1__bindgen_ty_2>() as u32;
    // SAFETY: `skb` is the context that the kernel passed in, and `tuple` has that many bytes.
    let socket = unsafe { bpf_skc_lookup_tcp(ctx.skb.skb.cast(), &raw mut tuple, size, u64::from(netns), 0) };
    if socket.is_null() {
        return 0;
    }
    // SAFETY: a socket that the kernel has given out, until it is released.
    let state = unsafe { core::ptr::read_volatile(&raw const (*socket).state) };
    // SAFETY: as above; it is not used any more.
    unsafe { bpf_sk_release(socket.cast()) };
    state
}

/// Marks the frame as addressed to this host, whatever MAC the guest sent it to: the stack drops other hosts' frames. Before 6.15 the
/// kernel keeps the mark across `bpf_redirect_peer`, later ones set it; where that is certain, this does nothing.
#[inline(always)]
pub(crate) fn accept_any_destination(ctx: &TcContext) -> Result<(), i64> {
    // SAFETY: `skb` is the context that the kernel passed in.
    if PEER_ACCEPTS.load() != 0 || unsafe { (*ctx.skb.skb).pkt_type } == PACKET_HOST {
        return Ok(());
    }
    ctx.change_type(PACKET_HOST)
}

/// Adjusts the TCP checksum at `offset` for a change of addresses from `old` to `new` (as bytes of the pseudo header).
#[inline(always)]
pub(crate) fn adjust_checksum(
    ctx: &TcContext,
    offset: usize,
    old: &[[u8; 16]; 2],
    new: &[[u8; 16]; 2],
) -> Result<(), i64> {
    ctx.l4_csum_replace(offset, 0, checksum::difference(old, new).into(), BPF_F_PSEUDO_HDR.into())
}

/// Returns an interface's MTU; 0 if there is no such interface. Minimum kernel version: 5.12.
#[inline(always)]
pub(crate) fn mtu_of(ctx: &TcContext, ifindex: u32) -> u32 {
    let mut mtu = 0;
    // SAFETY: `skb` is the context that the kernel passed in; the helper writes 4 bytes to `mtu`, which is that long.
    let _ = unsafe { bpf_check_mtu(ctx.skb.skb.cast(), ifindex, &raw mut mtu, 0, 0) };
    mtu
}

/// Returns the payload of each of the segments that the frame will be made into; 0 if it stays one.
#[inline(always)]
pub(crate) fn gso_size(ctx: &TcContext) -> u32 {
    // SAFETY: `skb` is the context that the kernel passed in.
    unsafe { (*ctx.skb.skb).gso_size }
}

/// Bounds the maximum segment size that `options_len` bytes of TCP options announce to `largest`; `tcp` is the header's
/// offset. A function of its own, so that its buffer is on a stack of its own.
#[inline(never)]
pub(crate) fn clamp_mss(ctx: &TcContext, tcp: usize, options_len: usize, largest: u16) -> i32 {
    let mut options = MaybeUninit::<mss::Options>::uninit();
    let start = tcp + TCP_MIN_LEN as usize;
    let mut place = 0;
    while place < mss::MAX_OPTIONS {
        // SAFETY: `place` is a multiple of 4 below 40, so the helper writes 4 bytes inside `options`. Where the frame has
        // fewer bytes it writes zeros, so what it returns does not matter.
        unsafe {
            let buffer = options.as_mut_ptr().byte_add(place);
            bpf_skb_load_bytes(ctx.skb.skb.cast(), (start + place) as u32, buffer.cast(), 4);
        }
        place += 4;
    }
    // SAFETY: the helper has written all 40 bytes.
    let options = unsafe { options.assume_init_ref() };
    let Some(clamp) = mss::clamp(options, options_len, largest) else {
        return 0;
    };
    let (old, new) = clamp.words;
    let changed = ctx
        .l4_csum_replace(tcp + TCP_CHECKSUM, u16::from_ne_bytes(old).into(), u16::from_ne_bytes(new).into(), 2)
        .and_then(|()| ctx.store(start + clamp.offset, &clamp.value, 0));
    if changed.is_ok() { 0 } else { -1 }
}

/// Puts a report about a path's MTU in the frame's place and hands it to the responder through the pair: returns the
/// program's value, or -1. Functions of their own, so that each part of the frame is on a stack of its own.
#[inline(always)]
pub(crate) fn report_path_mtu(ctx: &TcContext, path_mtu: &PathMtu, pair: u32) -> i32 {
    let resized = resize(ctx, PACKET_TOO_BIG_LEN as u32).and_then(|()| accept_any_destination(ctx));
    if resized.is_err() || store_header(ctx, path_mtu) != 0 || store_message(ctx, path_mtu) != 0 {
        return -1;
    }
    hand_to_peer(pair)
}

/// Writes the headers of a report about a path's MTU; 0 if that was possible.
#[inline(never)]
fn store_header(ctx: &TcContext, path_mtu: &PathMtu) -> i32 {
    ctx.store(0, &path_mtu.header(), 0).map_or(-1, |()| 0)
}

/// Writes the message of a report about a path's MTU; 0 if that was possible.
#[inline(never)]
fn store_message(ctx: &TcContext, path_mtu: &PathMtu) -> i32 {
    ctx.store(ETH_IPV6_LEN, &path_mtu.message(), 0).map_or(-1, |()| 0)
}

/// Makes the frame this long: cuts its end off, or adds zeros. A frame of several segments becomes one. Most are one of this length.
#[inline(always)]
pub(crate) fn resize(ctx: &TcContext, len: u32) -> Result<(), i64> {
    if ctx.len() == len && gso_size(ctx) == 0 {
        return Ok(());
    }
    // SAFETY: `skb` is the context that the kernel passed in.
    check(unsafe { bpf_skb_change_tail(ctx.skb.skb, len, 0) })
}

/// Marks the frame as the programs' own and sends it out of an interface.
///
/// The mark is in `skb->cb`, which stays as it is between the redirect and the interface's own hook, and which nothing but
/// BPF programs sets: other than `skb->mark`, no firewall or switch uses it.
#[inline(always)]
pub(crate) fn send_out(ctx: &TcContext, ifindex: u32) -> i32 {
    let mark = OWN_MARK.load();
    set_mark(ctx, mark);
    // SAFETY: no pointers are involved.
    unsafe { bpf_redirect(ifindex, 0) as i32 }
}

/// Tells whether the frame is one of the programs' own, on its way out, and takes the mark off. What others send has at this place
/// what its way through the kernel left there: 128 random bits are not among it.
#[inline(always)]
pub(crate) fn take_own_mark(ctx: &TcContext) -> bool {
    let mark = OWN_MARK.load();
    // SAFETY: `skb` is the context that the kernel passed in.
    let found = unsafe { (*ctx.skb.skb).cb };
    if found[0] != mark[0] || found[1] != mark[1] || found[2] != mark[2] || found[3] != mark[3] {
        return false;
    }
    set_mark(ctx, [0; 4]);
    true
}

/// Writes the mark: word by word, as the verifier allows no other access to the context.
#[inline(always)]
fn set_mark(ctx: &TcContext, mark: [u32; 4]) {
    // SAFETY: `skb` is the context that the kernel passed in; programs at tc may write to `cb`, which has five words.
    unsafe {
        let cb = &raw mut (*ctx.skb.skb).cb;
        (&raw mut (*cb)[0]).write_volatile(mark[0]);
        (&raw mut (*cb)[1]).write_volatile(mark[1]);
        (&raw mut (*cb)[2]).write_volatile(mark[2]);
        (&raw mut (*cb)[3]).write_volatile(mark[3]);
    }
}

/// Hands the frame to the other end of a pair, in its namespace, without a queue in between.
/// Minimum kernel version: 5.10.
#[inline(always)]
pub(crate) fn hand_to_peer(ifindex: u32) -> i32 {
    // SAFETY: no pointers are involved.
    unsafe { bpf_redirect_peer(ifindex, 0) as i32 }
}

/// Turns a helper's return value into a result.
#[inline(always)]
fn check(value: i64) -> Result<(), i64> {
    if value == 0 { Ok(()) } else { Err(value) }
}

/// Returns the interface that the frame is at.
#[inline(always)]
pub(crate) fn ifindex_of(ctx: &TcContext) -> u32 {
    // SAFETY: `skb` is the context that the kernel passed in.
    unsafe { (*ctx.skb.skb).ifindex }
}

/// Makes the first `len` bytes (or all, if fewer) linear. Where they are, they are the kernel's own copy already: memory that a guest
/// can still write is in no packet's linear part.
#[inline(always)]
pub(crate) fn pull(ctx: &TcContext, len: usize) {
    let len = if (ctx.len() as usize) < len { ctx.len() as usize } else { len };
    let (begin, end) = ctx.bounds();
    if begin + len > end {
        let _ = ctx.pull_data(len as u32);
    }
}
