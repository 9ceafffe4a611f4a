//! Counting what became of a packet, and sampling the drops.

use aya_ebpf::{bindings::TC_ACT_SHOT, programs::TcContext};
use metadata_ebpf::abi::{Answered, Counters, DropReason, Event};

use crate::{
    frame::{ethertype, vlan_of},
    maps::{COUNTERS, EVENTS},
};

/// Adds one at a place of an interface's counters and returns the new value; 0 if the interface has none.
#[inline(always)]
fn add(ifindex: u32, place: usize) -> u64 {
    let Some(counters) = COUNTERS.get_ptr_mut(ifindex) else {
        return 0;
    };
    // SAFETY: `Counters` is `Counters::LEN` u64 in a row and every `place` is a constant below that; the element is
    // this CPU's own, and a program is not interrupted by itself.
    unsafe {
        let value = counters.cast::<u64>().add(place);
        *value += 1;
        *value
    }
}

/// Counts a packet that was answered or handed on.
#[inline(always)]
pub(crate) fn answered(ifindex: u32, what: Answered) {
    add(ifindex, what as usize);
}

/// Counts a drop, samples it (the 1st, 2nd, 4th, 8th … of this CPU) and returns the program's verdict.
#[inline(never)]
pub(crate) fn dropped(ctx: &TcContext, ifindex: u32, reason: DropReason) -> i32 {
    let place = Counters::FIRST_DROP + reason as usize - 1;
    // A bound that the verifier can see: `reason` comes in a register.
    if place >= Counters::LEN {
        return TC_ACT_SHOT;
    }
    let count = add(ifindex, place);
    if count & count.wrapping_sub(1) == 0 && count != 0 {
        sample(ctx, ifindex, reason, count);
    }
    TC_ACT_SHOT
}

/// Writes an event. A full ring loses it: the counters do not.
#[inline(always)]
fn sample(ctx: &TcContext, ifindex: u32, reason: DropReason, count: u64) {
    let Some(mut entry) = EVENTS.reserve(0) else {
        return;
    };
    let event = Event {
        ifindex,
        reason: reason as u32,
        count,
        len: ctx.len(),
        ethertype: ethertype(ctx),
        vlan: vlan_of(ctx).id,
        head: [0; 64],
    };
    let event = entry.write(event);
    // Frames of this data path have at least the 42 bytes of an ARP request, or too few to be of interest.
    let loaded = if event.len >= 64 {
        ctx.load_bytes(0, &mut event.head)
    } else if event.len >= 42 {
        ctx.load_bytes(0, &mut event.head[..42])
    } else {
        ctx.load_bytes(0, &mut event.head[..14])
    };
    match loaded {
        Ok(_) => entry.submit(0),
        Err(_) => entry.discard(0),
    }
}
