//! Taking tokens out of a port's buckets. How they fill, [`metadata_ebpf::limit`] says.
//!
//! The clock is read only where there is a limit. Functions of their own that return a word: the verifier follows their
//! callers once, whatever limits there are.

use core::sync::atomic::AtomicU64;

use aya_ebpf::helpers::bpf_ktime_get_ns;
use metadata_ebpf::{abi::Bucket, limit, verdict::early::Left};

use crate::maps::LIMITS;

/// Takes a token of an interface for a packet; 0 if there is none.
#[inline(never)]
pub(crate) fn admit_packet(ifindex: u32) -> u32 {
    let Some(limits) = LIMITS.get_ptr_mut(ifindex) else {
        return 1;
    };
    // SAFETY: points to a map element, which stays readable while the program runs.
    take(unsafe { &raw mut (*limits).packets })
}

/// There were tokens.
pub(crate) const ADMITTED: u32 = 0;
/// There was no token for a packet.
pub(crate) const NO_PACKET: u32 = 1;
/// There was one for a packet, which is taken, and none for a connection.
pub(crate) const NO_CONNECTION: u32 = 2;

/// Takes a token of an interface for a segment, and one for a new connection if it `begins` one (not 0).
#[inline(never)]
pub(crate) fn admit_segment(ifindex: u32, begins: u32) -> u32 {
    let Some(limits) = LIMITS.get_ptr_mut(ifindex) else {
        return ADMITTED;
    };
    // SAFETY: as above.
    let (packets, connections) = unsafe { (&raw mut (*limits).packets, &raw mut (*limits).connections) };
    if take(packets) == 0 {
        NO_PACKET
    } else if begins != 0 && take(connections) == 0 {
        NO_CONNECTION
    } else {
        ADMITTED
    }
}

/// Returns what is left of an interface's tokens, as bits of [`Left`], and takes none.
#[inline(never)]
pub(crate) fn left(ifindex: u32) -> u32 {
    let Some(limits) = LIMITS.get_ptr(ifindex) else {
        return Left::PACKET | Left::CONNECTION;
    };
    // SAFETY: no pointers are involved.
    let now = unsafe { bpf_ktime_get_ns() };
    let has = |bucket: *const Bucket| {
        // SAFETY: points into a map element, which stays readable while the program runs; each number is one aligned load.
        let (interval, tolerance, due) =
            unsafe { ((*bucket).interval, (*bucket).tolerance, (&raw const (*bucket).due).read_volatile()) };
        limit::has_token(now, due, interval, tolerance)
    };
    // SAFETY: as above.
    let (packets, connections) = unsafe { (&raw const (*limits).packets, &raw const (*limits).connections) };
    let packet = if has(packets) { Left::PACKET } else { 0 };
    packet | if has(connections) { Left::CONNECTION } else { 0 }
}

#[inline(always)]
fn take(bucket: *mut Bucket) -> u32 {
    // SAFETY: points into a map element, as said above. Should it be another port's by now, that port loses a token.
    let (interval, tolerance) = unsafe { ((*bucket).interval, (*bucket).tolerance) };
    if interval == 0 {
        return 1;
    }
    // SAFETY: as above; aligned to 8, and written by nobody but programs, atomically.
    let due = unsafe { AtomicU64::from_ptr(&raw mut (*bucket).due) };
    // SAFETY: no pointers are involved.
    limit::take(due, interval, tolerance, unsafe { bpf_ktime_get_ns() }).into()
}
