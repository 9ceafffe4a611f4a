//! The Internet checksum (RFC 1071), without the kernel.
//!
//! Promises: what these functions return, a receiver accepts; a property test compares them with another implementation.
//! Left out: checksums of TCP segments in the programs. Those are adjusted by the kernel's helper, which knows segments with a
//! checksum that the network card has yet to complete, by a [`difference`]; [`adjusted`] is the same sum.

use crate::packet::{ETH_IPV6_LEN, PROTOCOL_ICMPV6};

/// Offset of the addresses in a frame with an IPv6 header: its last 32 bytes.
const ADDRESSES: usize = ETH_IPV6_LEN - 32;

/// Adds the 16-bit words of `bytes` from `start` on, in network order. An odd last byte is not added.
#[inline(always)]
pub(crate) const fn sum<const N: usize>(bytes: &[u8; N], start: usize) -> u32 {
    let mut sum = 0;
    let mut at = start;
    while at + 1 < N {
        sum += u16::from_be_bytes([bytes[at], bytes[at + 1]]) as u32;
        at += 2;
    }
    sum
}

/// Folds a sum of words into 16 bits.
#[inline(always)]
#[must_use]
pub const fn fold(sum: u32) -> u16 {
    let sum = (sum & 0xffff) + (sum >> 16);
    let sum = (sum & 0xffff) + (sum >> 16);
    let [_, _, high, low] = sum.to_be_bytes();
    u16::from_be_bytes([high, low])
}

/// Returns the checksum of an ICMPv6 message (RFC 4443, section 2.3) of this length, which follows Ethernet and IPv6 headers and
/// ends with the frame. The message's own field has to be 0.
#[inline(always)]
#[must_use]
pub const fn icmpv6<const N: usize>(frame: &[u8; N], message_len: u8) -> [u8; 2] {
    let pseudo_header = message_len as u32 + PROTOCOL_ICMPV6 as u32;
    (!fold(sum(frame, ADDRESSES) + pseudo_header)).to_be_bytes()
}

/// Returns a checksum after the addresses of its pseudo header changed from `old` to `new` (RFC 1624, equation 3).
#[must_use]
pub const fn adjusted<const OLD: usize, const NEW: usize>(
    checksum: [u8; 2],
    old: &[[u8; OLD]; 2],
    new: &[[u8; NEW]; 2],
) -> [u8; 2] {
    let removed = fold(sum(&old[0], 0) + sum(&old[1], 0));
    let added = fold(sum(&new[0], 0) + sum(&new[1], 0));
    let result = !fold(!u16::from_be_bytes(checksum) as u32 + !removed as u32 + added as u32);
    result.to_be_bytes()
}

/// Returns by how much the sum of a pseudo header's words changes with its addresses, as `bpf_csum_diff` does: a sum of 32 bits in the
/// order of the host, for `bpf_l4_csum_replace`. Of constant addresses the compiler leaves one number.
#[inline(always)]
#[must_use]
pub const fn difference<const OLD: usize, const NEW: usize>(old: &[[u8; OLD]; 2], new: &[[u8; NEW]; 2]) -> u32 {
    let added = words(&new[0]) + words(&new[1]);
    // Complements, as subtracting is adding those.
    let removed = (OLD as u64 / 2) * u32::MAX as u64 - words(&old[0]) - words(&old[1]);
    let sum = added + removed;
    let sum = (sum & 0xffff_ffff) + (sum >> 32);
    let [a, b, c, d, ..] = ((sum & 0xffff_ffff) + (sum >> 32)).to_le_bytes();
    u32::from_le_bytes([a, b, c, d])
}

/// Adds the 32-bit words of `bytes`, in the order of the host. What is left of a word is not added.
#[inline(always)]
const fn words<const N: usize>(bytes: &[u8; N]) -> u64 {
    let mut sum = 0;
    let mut at = 0;
    while at + 3 < N {
        sum += u32::from_ne_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]) as u64;
        at += 4;
    }
    sum
}
