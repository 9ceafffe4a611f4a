//! Copies of a frame's first headers, made word by word.
//!
//! Promises: a copy is whole or not there, and what is decided on it does not change any more. The words are aligned as they are in
//! the frame of a network card that puts the IP header at a multiple of 4, so every processor's verifier takes them.
//!
//! In assembly, since the frame of another card is not aligned at all: to Rust such a load is none of a word, and the compiler makes
//! one of each byte.

use core::{arch::asm, mem::transmute};

use metadata_ebpf::packet::{Aligned, EthIpv4, EthIpv6, View};

use crate::frame::Frame;

/// Loads a number of `$kind` from an address and a constant offset.
macro_rules! load {
    ($kind:ident, $from:expr, $offset:literal) => {{
        let value: u64;
        asm!(
            concat!("{value} = *(", stringify!($kind), " *)({from} + ", $offset, ")"),
            value = out(reg) value,
            from = in(reg) $from,
            options(pure, readonly, nostack),
        );
        value as $kind
    }};
}

/// Headers that can be copied.
pub(crate) trait Copied: View {
    /// Copies them.
    ///
    /// # Safety
    /// There are as many bytes at `from`, which the verifier knows.
    unsafe fn copy(from: usize) -> Aligned<Self>;
}

impl Copied for EthIpv4 {
    #[inline(always)]
    unsafe fn copy(from: usize) -> Aligned<Self> {
        #[repr(C)]
        struct Words(u16, u16, u32, [u64; 3], u32, u32);
        // SAFETY: the loads are of the header's 34 bytes. Both types have no padding but at their ends, and any bytes are values.
        unsafe {
            let middle = [load!(u64, from, 6), load!(u64, from, 14), load!(u64, from, 22)];
            transmute(Words(0, load!(u16, from, 0), load!(u32, from, 2), middle, load!(u32, from, 30), 0))
        }
    }
}

impl Copied for EthIpv6 {
    #[inline(always)]
    unsafe fn copy(from: usize) -> Aligned<Self> {
        #[repr(C)]
        struct Words(u16, u16, u32, [u64; 6]);
        // SAFETY: as above, of 54 bytes.
        unsafe {
            let [a, b, c] = [load!(u64, from, 6), load!(u64, from, 14), load!(u64, from, 22)];
            let [d, e, f] = [load!(u64, from, 30), load!(u64, from, 38), load!(u64, from, 46)];
            transmute(Words(0, load!(u16, from, 0), load!(u32, from, 2), [a, b, c, d, e, f]))
        }
    }
}

/// Returns a copy of the headers that the frame begins with, if all of them are in its linear part.
#[inline(always)]
pub(crate) fn headers<T: Copied>(ctx: &impl Frame) -> Option<Aligned<T>> {
    let (begin, end) = ctx.bounds();
    if begin + size_of::<T>() > end {
        return None;
    }
    // SAFETY: so many bytes are in the frame (checked above, in the form that the verifier knows).
    Some(unsafe { T::copy(begin) })
}

/// Returns the destination of an IPv4 packet, if it is in the frame's linear part.
#[inline(always)]
pub(crate) fn destination_ipv4(ctx: &impl Frame) -> Option<[u8; 4]> {
    let (begin, end) = ctx.bounds();
    if begin + size_of::<EthIpv4>() > end {
        return None;
    }
    // SAFETY: the last 4 bytes of the headers.
    Some(unsafe { load!(u32, begin, 30) }.to_ne_bytes())
}
