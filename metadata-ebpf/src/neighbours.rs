//! The MACs that the guest addresses of one binding were last seen with.
//!
//! Promises: a table belongs to one tag, so whatever a guest sends changes entries of its own binding only; a table does not
//! grow. Of [`WAYS`] addresses that share a place the one that was added first gives way to a new one, which costs that
//! address one retransmission.
//!
//! Processors write without a lock. An entry is two words, so one may be read with another address's MAC of the same
//! binding: the segment then reaches the right tap with a wrong MAC, and the guest's next segment corrects the entry.

use crate::abi::{NEIGHBOUR_SETS, NEIGHBOUR_WAYS, Neighbour, Neighbours};

/// Addresses that share a place.
pub const WAYS: usize = NEIGHBOUR_WAYS;

/// The part of a word that holds family and VLAN; the rest holds the MAC.
const PLACE: u64 = u64::from_ne_bytes([0xff, 0xff, 0, 0, 0, 0, 0, 0]);

impl Neighbour {
    /// No address.
    pub const EMPTY: Self = Self { guest: 0, link: 0 };

    /// Makes the entry of an identity address, of which prefix and tag are left out.
    #[inline(always)]
    #[must_use]
    pub const fn new(identity: &[u8; 16], mac: [u8; 6]) -> Self {
        let (i, m) = (identity, mac);
        Self {
            guest: u64::from_ne_bytes([i[8], i[9], i[10], i[11], i[12], i[13], i[14], i[15]]),
            link: u64::from_ne_bytes([i[2], i[3], m[0], m[1], m[2], m[3], m[4], m[5]]),
        }
    }

    /// Returns the MAC.
    #[inline(always)]
    #[must_use]
    pub const fn mac(&self) -> [u8; 6] {
        let [_, _, a, b, c, d, e, f] = self.link.to_ne_bytes();
        [a, b, c, d, e, f]
    }

    /// Tells whether two entries are of the same guest address, family and VLAN.
    #[inline(always)]
    const fn is_of(&self, guest: u64, link: u64) -> bool {
        (self.guest ^ guest) | ((self.link ^ link) & PLACE) == 0
    }
}

impl Neighbours {
    /// No addresses.
    pub const EMPTY: Self = Self { sets: [[Neighbour::EMPTY; NEIGHBOUR_WAYS]; NEIGHBOUR_SETS] };
}

/// Leaves of a word as many bits as count the places.
const SHIFT: u32 = u64::BITS - NEIGHBOUR_SETS.trailing_zeros();

/// Returns the place of an address: below [`NEIGHBOUR_SETS`].
#[inline(always)]
const fn set_of(guest: u64, link: u64) -> usize {
    // The golden ratio's bits, as in Knuth's multiplicative hashing: the highest bits depend on all others.
    let mixed = (guest ^ (link & PLACE)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    (mixed >> SHIFT) as usize
}

/// Returns the MAC that an identity address was last seen with, if it is in the table.
#[inline(always)]
#[must_use]
pub fn find(table: &Neighbours, identity: &[u8; 16]) -> Option<[u8; 6]> {
    let Neighbour { guest, link } = Neighbour::new(identity, [0; 6]);
    mac_of(link_of(table, guest, link))
}

/// Returns the MAC in the second word of an entry; `None` for 0, which no entry has.
#[inline(always)]
#[must_use]
pub const fn mac_of(link: u64) -> Option<[u8; 6]> {
    if link == 0 { None } else { Some(Neighbour { guest: 0, link }.mac()) }
}

/// Returns the second word of the address's entry, for [`mac_of`]; 0 if there is none. `link` needs no MAC.
#[inline(always)]
#[must_use]
pub fn link_of(table: &Neighbours, guest: u64, link: u64) -> u64 {
    for known in &table.sets[set_of(guest, link)] {
        if known.is_of(guest, link) {
            return known.link;
        }
    }
    0
}

/// Puts an entry into the table, as its two words: in place of the former one of the same address, or of the oldest at its
/// place. A function of its own with plain arguments, so that the verifier is soon done with it.
#[inline(never)]
pub fn learn(table: &mut Neighbours, guest: u64, link: u64) {
    let set = &mut table.sets[set_of(guest, link)];
    for known in &mut *set {
        if known.is_of(guest, link) {
            // Written only where it changes: other processors read the same line.
            if known.link != link {
                known.link = link;
            }
            return;
        }
    }
    let mut place = NEIGHBOUR_WAYS - 1;
    while place > 0 {
        set[place] = set[place - 1];
        place -= 1;
    }
    set[0] = Neighbour { guest, link };
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::addr::{IdentityAddress, Vlan};

    fn identity(number: u64, vlan: u16) -> [u8; 16] {
        let vlan = Vlan { id: vlan, service: false };
        let mut source = [0xfe, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        source[8..].copy_from_slice(&number.to_be_bytes());
        IdentityAddress::of_ipv6(7, vlan, &source).encode()
    }

    fn mac(number: u64) -> [u8; 6] {
        let [.., a, b, c, d, e] = number.to_be_bytes();
        [2, a, b, c, d, e]
    }

    fn put(table: &mut Neighbours, identity: &[u8; 16], mac: [u8; 6]) {
        let Neighbour { guest, link } = Neighbour::new(identity, mac);
        learn(table, guest, link);
    }

    #[test]
    fn an_address_is_found_with_the_mac_that_it_was_last_seen_with() {
        let mut table = Neighbours::EMPTY;
        assert_eq!(find(&table, &identity(1, 0)), None);
        put(&mut table, &identity(1, 0), mac(1));
        put(&mut table, &identity(1, 5), mac(2));
        let four = IdentityAddress::of_ipv4(7, Vlan::default(), [0, 0, 0, 1]).encode();
        assert_eq!(find(&table, &four), None, "IPv6's ::1 is not IPv4's 0.0.0.1");
        put(&mut table, &four, mac(3));
        assert_eq!(find(&table, &identity(1, 0)), Some(mac(1)));
        assert_eq!(find(&table, &identity(1, 5)), Some(mac(2)));
        assert_eq!(find(&table, &four), Some(mac(3)));
        put(&mut table, &identity(1, 0), mac(9));
        assert_eq!((find(&table, &identity(1, 0)), find(&table, &identity(1, 5))), (Some(mac(9)), Some(mac(2))));
    }

    #[test]
    fn as_many_addresses_as_share_a_place_always_fit() {
        // Whatever else there is, the last ones of a place are known.
        let mut table = Neighbours::EMPTY;
        for number in 0..100_000 {
            put(&mut table, &identity(number, 0), mac(number));
            assert_eq!(find(&table, &identity(number, 0)), Some(mac(number)));
        }
        let place = |number| {
            let entry = Neighbour::new(&identity(number, 0), [0; 6]);
            set_of(entry.guest, entry.link)
        };
        let last: std::vec::Vec<u64> =
            (0..100_000).rev().filter(|number| place(*number) == place(0)).take(WAYS + 1).collect();
        for number in &last[..WAYS] {
            assert_eq!(find(&table, &identity(*number, 0)), Some(mac(*number)));
        }
        assert_eq!(find(&table, &identity(last[WAYS], 0)), None, "the oldest gives way");
    }

    #[test]
    fn addresses_spread_over_the_places() {
        for spread in [1u64, 2, 1 << 8, 1 << 16, 1 << 24, 1 << 40, 1 << 56] {
            let mut table = Neighbours::EMPTY;
            for number in 0..32 {
                put(&mut table, &identity(spread.wrapping_mul(number), 0), mac(number));
            }
            let known = (0..32).filter(|number| find(&table, &identity(spread.wrapping_mul(*number), 0)).is_some());
            assert!(known.count() >= 16, "{spread}");
        }
    }

    proptest! {
        #[test]
        fn what_is_found_was_put_there(
            puts in proptest::collection::vec((0u64..40, 0u16..3, any::<u64>()), 0..200), asked in 0u64..40, vlan in 0u16..3
        ) {
            let mut table = Neighbours::EMPTY;
            for (number, vlan, seen) in &puts {
                put(&mut table, &identity(*number, *vlan), mac(*seen));
            }
            let last = puts.iter().rev().find(|(number, of, _)| (*number, *of) == (asked, vlan)).map(|put| mac(put.2));
            if let Some(found) = find(&table, &identity(asked, vlan)) {
                prop_assert_eq!(Some(found), last);
            }
        }
    }
}
