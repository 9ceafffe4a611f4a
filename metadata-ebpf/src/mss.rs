//! The maximum segment size that a guest announces, bounded by its tap's MTU.
//!
//! Promises: after the change the option allows no segment that the tap could not carry, whatever network behind the guest
//! the announcement was made for; a smaller announcement stays; a malformed list of options stays.

use crate::packet::TCP_MIN_LEN;

/// Most bytes of options in a TCP header.
pub const MAX_OPTIONS: usize = 40;

/// Options of a segment; what follows them does not matter.
pub type Options = [u8; MAX_OPTIONS];

/// Length of an IPv4 header without options.
const IPV4_LEN: u32 = 20;
/// Length of an IPv6 header.
const IPV6_LEN: u32 = 40;
/// End of the list of options (RFC 9293, section 3.2).
const END: u8 = 0;
/// One byte of padding.
const NO_OPERATION: u8 = 1;
/// The maximum segment size.
const MSS: u8 = 2;
/// Length of that option.
const MSS_LEN: usize = 4;
/// Last place at which that option fits.
const LAST: usize = MAX_OPTIONS - MSS_LEN;

/// A change of an option: where, to what, and the words of the checksum that change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Clamp {
    /// Offset of the two bytes in the list of options.
    pub offset: usize,
    /// The new value, network order.
    pub value: [u8; 2],
    /// The old word and the new one, as the checksum counts them: bytes swapped where the value is at an odd offset.
    pub words: ([u8; 2], [u8; 2]),
}

/// Returns the largest segment without options that fits a packet of `mtu` bytes.
#[inline(always)]
#[must_use]
pub fn largest(mtu: u32, ipv6: bool) -> u16 {
    let headers = u32::from(TCP_MIN_LEN) + if ipv6 { IPV6_LEN } else { IPV4_LEN };
    u16::try_from(mtu.saturating_sub(headers)).unwrap_or(u16::MAX)
}

/// Returns the change that bounds the maximum segment size in `len` bytes of options to `largest`; `None` if there is
/// nothing to change.
///
/// The loop goes over every byte, and skips what belongs to another option, instead of going from option to option: so all
/// its indexes are constants, and the verifier is soon done with it.
#[inline(always)]
#[must_use]
pub fn clamp(options: &Options, len: usize, largest: u16) -> Option<Clamp> {
    let mut skip = 0;
    let mut place = 0;
    while place <= LAST {
        if place + MSS_LEN > len {
            return None;
        }
        if skip > 0 {
            skip -= 1;
        } else {
            match (options[place], options[place + 1]) {
                (END, _) => return None,
                (NO_OPERATION, _) => {}
                (MSS, 4) => return bound([options[place + 2], options[place + 3]], place, largest),
                (MSS, _) | (_, 0 | 1) => return None,
                (_, size) => skip = size - 1,
            }
        }
        place += 1;
    }
    None
}

/// Returns the change of the option at `place`, if its value is larger than `largest`.
#[inline(always)]
fn bound(old: [u8; 2], place: usize, largest: u16) -> Option<Clamp> {
    if u16::from_be_bytes(old) <= largest {
        return None;
    }
    let value = largest.to_be_bytes();
    let odd = place & 1 != 0;
    let word = |bytes: [u8; 2]| if odd { [bytes[1], bytes[0]] } else { bytes };
    Some(Clamp { offset: place + 2, value, words: (word(old), word(value)) })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(bytes: &[u8]) -> (Options, usize) {
        let mut options = [0; MAX_OPTIONS];
        options[..bytes.len()].copy_from_slice(bytes);
        (options, bytes.len())
    }

    #[test]
    fn only_a_larger_announcement_is_changed_wherever_it_is() {
        let changed = |offset, words| Some(Clamp { offset, value: [5, 0x78], words });
        for (name, bytes, expected) in [
            ("first", &[2, 4, 5, 0xb4][..], changed(2, ([5, 0xb4], [5, 0x78]))),
            ("after a byte of padding", &[1, 2, 4, 5, 0xb4, 0, 0, 0], changed(3, ([0xb4, 5], [0x78, 5]))),
            ("after others", &[4, 2, 3, 3, 7, 1, 2, 4, 5, 0xb4, 0, 0], changed(8, ([5, 0xb4], [5, 0x78]))),
            ("small enough", &[2, 4, 5, 0x78], None),
            ("none", &[1, 1, 4, 2], None),
            ("after the end of the list", &[0, 2, 4, 5, 0xb4, 0, 0, 0], None),
            ("cut off", &[1, 1, 2, 4], None),
            ("of another length", &[2, 3, 5, 0xb4], None),
            ("behind an option without a length", &[8, 0, 2, 4, 5, 0xb4, 0, 0], None),
        ] {
            let (options, len) = options(bytes);
            assert_eq!(clamp(&options, len, 1400), expected, "{name}");
        }
    }

    #[test]
    fn the_last_possible_place_is_found() {
        let mut bytes = [1; 40];
        bytes[36..].copy_from_slice(&[2, 4, 0xff, 0xff]);
        let (options, len) = options(&bytes);
        assert_eq!(clamp(&options, len, 1).map(|clamp| clamp.offset), Some(38));
    }

    #[test]
    fn the_largest_segment_leaves_room_for_both_headers() {
        assert_eq!((largest(1500, false), largest(1500, true)), (1460, 1440));
        assert_eq!((largest(30, false), largest(65_536, false), largest(u32::MAX, true)), (0, 65_496, 0xffff));
    }
}
