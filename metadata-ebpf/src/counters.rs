//! Counting what became of a packet, sampling the drops, and reporting on a traced tap.

use core::arch::asm;

use aya_ebpf::{EbpfContext, bindings::TC_ACT_SHOT, helpers::bpf_skb_load_bytes, programs::TcContext};
use aya_log_ebpf::info;
use metadata_ebpf::abi::{Counters, DropReason, Event, Verdict};

use crate::{
    frame::{ethertype, vlan_of},
    maps::{COUNTERS, EVENTS},
};

/// Adds one to a counter at a place of the map and returns the new value; 0 if there is no such place.
#[inline(always)]
fn add(place: u32, counter: usize) -> u64 {
    let Some(counters) = COUNTERS.get_ptr_mut(place) else {
        return 0;
    };
    let mut value = 1u64;
    // SAFETY: `Counters` is `Counters::LEN` aligned u64 in a row, and every `counter` is below that. Minimum kernel version: 5.12.
    unsafe {
        asm!(
            "{value} = atomic_fetch_add((u64 *)({counter} + 0), {value})",
            counter = in(reg) counters.cast::<u64>().add(counter),
            value = inout(reg) value,
            options(nostack),
        );
    }
    value + 1
}

/// What a program does with a packet: its return value, or the reason to drop it.
pub(crate) type Outcome = Result<i32, DropReason>;

/// Counts a packet that is not dropped.
#[inline(always)]
pub(crate) fn counted(place: u32, verdict: Verdict) {
    add(place, verdict as usize);
}

/// Counts a drop, samples it (the 1st, 2nd, 4th, 8th …) and returns the program's value.
#[inline(never)]
pub(crate) fn dropped(ctx: &TcContext, ifindex: u32, place: u32, reason: DropReason) -> i32 {
    let count = count_drop(place, reason);
    if is_sampled(count) {
        let seen = || Seen { ifindex, reason, count, len: ctx.len(), ethertype: ethertype(ctx), vlan: vlan_of(ctx).id };
        sample(seen, |head, len| {
            // SAFETY: the head has 64 bytes. Lengths that the verifier knows.
            let result = unsafe {
                if len >= 64 {
                    bpf_skb_load_bytes(ctx.as_ptr().cast(), 0, head.cast(), 64)
                } else if len >= 42 {
                    bpf_skb_load_bytes(ctx.as_ptr().cast(), 0, head.cast(), 42)
                } else {
                    bpf_skb_load_bytes(ctx.as_ptr().cast(), 0, head.cast(), 14)
                }
            };
            result == 0
        });
    }
    TC_ACT_SHOT
}

/// Counts a drop and returns its number; 0 if there is no such place.
#[inline(always)]
pub(crate) fn count_drop(place: u32, reason: DropReason) -> u64 {
    let counter = Counters::FIRST_DROP + reason as usize - 1;
    // A bound that the verifier can see: `reason` comes in a register.
    if counter >= Counters::LEN { 0 } else { add(place, counter) }
}

/// Tells whether the drop of this number is sampled.
#[inline(always)]
pub(crate) fn is_sampled(count: u64) -> bool {
    count & count.wrapping_sub(1) == 0 && count != 0
}

/// A drop to be sampled.
pub(crate) struct Seen {
    pub(crate) ifindex: u32,
    pub(crate) reason: DropReason,
    pub(crate) count: u64,
    pub(crate) len: u32,
    pub(crate) ethertype: u16,
    pub(crate) vlan: u16,
}

/// Writes an event. `seen` describes the drop, and is called only if the ring has room, which leaves the verifier fewer branches.
/// `load` copies the frame's head: 64 bytes, or 42 or 14 of a shorter frame, as what is shorter than an ARP request is of little
/// interest. A full ring loses the event, not the count.
#[inline(always)]
pub(crate) fn sample(seen: impl FnOnce() -> Seen, load: impl FnOnce(*mut [u8; 64], u32) -> bool) {
    let Some(mut entry) = EVENTS.reserve(0) else {
        return;
    };
    // Field by field, in the ring's own memory: an event on the stack would take half of what calls may have.
    let event: *mut Event = entry.as_mut_ptr();
    let seen = seen();
    // SAFETY: the ring gave `size_of::<Event>()` bytes, aligned to 8; each write is inside, and every byte is written.
    let head = unsafe {
        (*event).ifindex = seen.ifindex;
        (*event).reason = seen.reason as u32;
        (*event).count = seen.count;
        (*event).len = seen.len;
        (*event).ethertype = seen.ethertype;
        (*event).vlan = seen.vlan;
        let head = &raw mut (*event).head;
        head.cast::<[u64; 8]>().write([0; 8]);
        head
    };
    if load(head, seen.len) { entry.submit(0) } else { entry.discard(0) }
}

/// Reports what became of a packet of the traced tap. `what` ends so that a number may follow.
///
/// A call of its own, so that there is one copy of the writing; and with the text as an argument: as a part of the
/// format it would end up behind a pointer in constant data, which a BPF object cannot have.
#[inline(never)]
pub(crate) fn report<C: EbpfContext>(ctx: &C, what: &'static str, number: u32) {
    info!(ctx, "{}{}", what, number);
}
