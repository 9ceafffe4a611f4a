//! Numbers, names and sums.

use super::*;

#[test]
fn reasons_are_numbered_without_gaps_and_named_as_their_counter() {
    for (number, reason) in (1u32..).zip(DropReason::ALL) {
        assert_eq!(reason as u32, number);
        assert_eq!(DropReason::from_number(number), Some(reason));
        assert!(!reason.name().is_empty());
    }
    assert_eq!(DropReason::from_number(0), None);
    assert_eq!(DropReason::StrayFromHost.name(), "stray_from_host");
    let counters = Counters { drop_stray_from_host: 3, ..Counters::default() };
    assert_eq!(counters.values()[Counters::FIRST_DROP + DropReason::StrayFromHost as usize - 1], 3);
}

#[test]
fn counters_add_place_by_place() {
    let mut sum = Counters { answered_arp: 1, drop_fragment: 2, ..Counters::default() };
    sum.add(&Counters { answered_arp: 10, to_guest: 5, ..Counters::default() });
    assert_eq!(sum, Counters { answered_arp: 11, to_guest: 5, drop_fragment: 2, ..Counters::default() });
}
