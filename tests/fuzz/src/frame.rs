//! Sums over the bytes of frames, as a receiver makes them (RFC 1071): written anew here, to check the programs' own.

use metadata_ebpf::packet::View;

/// Returns whether an IPv4 header's checksum is right.
pub(crate) fn is_header_right(header: &[u8]) -> bool {
    sum(&[header]) == 0xffff
}

/// Returns whether the checksum of a TCP segment or an ICMPv6 message is right, between these addresses.
pub(crate) fn is_right(protocol: u8, addresses: &[&[u8]], payload: &[u8]) -> bool {
    missing(protocol, addresses, payload) == 0
}

/// Returns what has to be added to a word of it for that.
pub(crate) fn missing(protocol: u8, addresses: &[&[u8]], payload: &[u8]) -> u16 {
    let length = u32::try_from(payload.len()).expect("short");
    !sum(&[addresses[0], addresses[1], &length.to_be_bytes(), &[0, 0, 0, protocol], payload])
}

/// Adds up words; every part but the last has an even length.
fn sum(parts: &[&[u8]]) -> u16 {
    let mut sum = 0_u64;
    for part in parts {
        for word in part.chunks(2) {
            sum += u64::from(u16::from_be_bytes([word[0], word.get(1).copied().unwrap_or(0)]));
        }
    }
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    u16::try_from(sum).expect("folded")
}

/// Returns the bytes of a header.
pub(crate) fn bytes_of<T: View>(view: &T) -> &[u8] {
    // SAFETY: as long as the view, which promises bytes without padding.
    unsafe { std::slice::from_raw_parts(std::ptr::from_ref(view).cast(), size_of::<T>()) }
}
