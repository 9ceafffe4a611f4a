//! Taking tokens out of a port's buckets. How they fill, [`metadata_ebpf::limit`] says.
//!
//! The clock is read only where there is a limit. What reads it are functions of their own that return a word: the verifier follows
//! their callers once, whatever limits there are.

use core::sync::atomic::AtomicU64;

use aya_ebpf::helpers::bpf_ktime_get_ns;
use metadata_ebpf::{
    abi::{Bucket, Limits, Port},
    limit,
    verdict::early::Left,
};

/// There were tokens.
pub(crate) const ADMITTED: u32 = 0;
/// There was no token for a packet.
pub(crate) const NO_PACKET: u32 = 1;
/// There was one for a packet, which is taken, and none for a connection.
pub(crate) const NO_CONNECTION: u32 = 2;

/// The limits of a port, as an element of the map has them. Should the element be another port's by now, that port loses a token.
#[derive(Clone, Copy)]
pub(crate) struct Tokens(*mut Limits);

impl Tokens {
    /// Of an element of the map, which stays readable and writable while the program runs.
    #[inline(always)]
    pub(crate) fn of(port: *mut Port) -> Self {
        // SAFETY: a place inside of the element.
        Self(unsafe { &raw mut (*port).limits })
    }

    /// Takes a token for a packet; `false` if there is none.
    #[inline(always)]
    pub(crate) fn admit_packet(self) -> bool {
        // SAFETY: `of` was given an element.
        let (packets, interval) = unsafe { (&raw mut (*self.0).packets, (*self.0).packets.interval) };
        interval == 0 || take(packets) != 0
    }

    /// Takes a token for a segment, and one for a new connection if it `begins` one; says which were there.
    #[inline(always)]
    pub(crate) fn admit_segment(self, begins: bool) -> u32 {
        // SAFETY: as above.
        let is_limited = unsafe { (*self.0).packets.interval | (*self.0).connections.interval } != 0;
        if is_limited { admit_limited(self.0, begins.into()) } else { ADMITTED }
    }

    /// Returns what is left of the tokens, as bits of [`Left`], and takes none.
    #[inline(always)]
    pub(crate) fn left(self) -> u32 {
        left(self.0)
    }
}

#[inline(never)]
fn admit_limited(limits: *mut Limits, begins: u32) -> u32 {
    // SAFETY: points into a map element.
    let (packets, connections) = unsafe { (&raw mut (*limits).packets, &raw mut (*limits).connections) };
    if take_of(packets) == 0 {
        NO_PACKET
    } else if begins != 0 && take_of(connections) == 0 {
        NO_CONNECTION
    } else {
        ADMITTED
    }
}

#[inline(never)]
fn take(bucket: *mut Bucket) -> u32 {
    take_of(bucket)
}

#[inline(always)]
fn take_of(bucket: *mut Bucket) -> u32 {
    // SAFETY: points into a map element.
    let (interval, tolerance) = unsafe { ((*bucket).interval, (*bucket).tolerance) };
    if interval == 0 {
        return 1;
    }
    // SAFETY: as above; aligned to 8, and written by nobody but programs, atomically.
    let due = unsafe { AtomicU64::from_ptr(&raw mut (*bucket).due) };
    // SAFETY: no pointers are involved.
    limit::take(due, interval, tolerance, unsafe { bpf_ktime_get_ns() }).into()
}

#[inline(never)]
fn left(limits: *const Limits) -> u32 {
    // SAFETY: no pointers are involved.
    let now = unsafe { bpf_ktime_get_ns() };
    let has = |bucket: *const Bucket| {
        // SAFETY: points into a map element; each number is one aligned load.
        let (interval, tolerance, due) =
            unsafe { ((*bucket).interval, (*bucket).tolerance, (&raw const (*bucket).due).read_volatile()) };
        limit::has_token(now, due, interval, tolerance)
    };
    // SAFETY: as above.
    let (packets, connections) = unsafe { (&raw const (*limits).packets, &raw const (*limits).connections) };
    let packet = if has(packets) { Left::PACKET } else { 0 };
    packet | if has(connections) { Left::CONNECTION } else { 0 }
}
