//! When links came up, and when their guests first asked for the service's MAC address (ARP, neighbour discovery).
//!
//! The kernel programs answer these themselves and only count them, so the first one is found by reading that counter: once a second in
//! the first ten minutes after the link came up, then every half minute, until it moves. So its time is known to the second.

use std::collections::BTreeMap;

use parking_lot::Mutex;

use crate::table::Table;

/// Milliseconds for which a counter is read each second.
const EAGER: u64 = 10 * 60 * 1000;

/// Milliseconds between two reads after that.
const PATIENT: u64 = 30 * 1000;

/// Whether a guest has asked for the service's MAC address.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Asked {
    /// Not since the link came up, or since the daemon started.
    #[default]
    Never,
    /// Before the daemon started.
    Before,
    /// At this time, in milliseconds of Unix time.
    At(u64),
}

/// What is known of a link.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LinkTimes {
    /// Whether the link has carrier: of a tap, a running guest.
    pub has_carrier: bool,
    /// When it came up, in milliseconds of Unix time; `None`: before the daemon started, or not yet.
    pub up_at: Option<u64>,
    /// Whether its guest has asked for the MAC address.
    pub asked: Asked,
    /// The counter when the link came up.
    pub counted: u64,
    /// How often the link has come up, as the kernel counts.
    pub carrier_ups: u32,
    /// Whether the boot that began with it has been counted.
    pub is_counted: bool,
    /// When the daemon began to read the counter.
    pub since: u64,
    /// When it last did.
    pub looked_at: u64,
}

/// A link as the kernel reports it.
#[derive(Clone, Copy, Debug, Default)]
pub struct LinkState {
    /// Its index.
    pub ifindex: u32,
    /// Whether it has carrier.
    pub has_carrier: bool,
    /// How often it has come up.
    pub carrier_ups: u32,
}

/// All links, by interface index.
#[derive(Debug, Default)]
pub struct Links {
    links: Table<u32, LinkTimes>,
    /// What an earlier daemon knew.
    former: Mutex<BTreeMap<u32, LinkTimes>>,
}

impl Links {
    /// Adds a link that was there before the daemon started, with its counter. Its times are those that an earlier daemon knew, if it has
    /// not come up since. `true`: it has.
    pub fn found(&self, link: LinkState, counted: u64, at: u64) -> bool {
        let LinkState { ifindex, has_carrier, carrier_ups } = link;
        let asked = if counted > 0 { Asked::Before } else { Asked::Never };
        let new = LinkTimes { has_carrier, asked, counted, carrier_ups, since: at, ..LinkTimes::default() };
        let former = self.former.lock().remove(&ifindex);
        let is_same = former.is_some_and(|former| former.carrier_ups == carrier_ups);
        let known = former.filter(|_| is_same).map(|former| LinkTimes { has_carrier, since: at, ..former });
        self.links.insert(ifindex, known.unwrap_or(new));
        former.is_some() && !is_same
    }

    /// Returns all links that are known, with their interface index.
    #[must_use]
    pub fn all(&self) -> Vec<(u32, LinkTimes)> {
        self.links.iter().map(|entry| (*entry.key(), *entry.value())).collect()
    }

    /// Takes what an earlier daemon knew.
    pub(super) fn restore(&self, links: Vec<(u32, LinkTimes)>) {
        *self.former.lock() = links.into_iter().collect();
    }

    /// Updates a link as the kernel reports it. `true`: it has just come up.
    pub fn changed(&self, link: LinkState, counted: impl FnOnce() -> u64, at: u64) -> bool {
        let LinkState { ifindex, has_carrier, carrier_ups } = link;
        let mut link = self.links.entry(ifindex).or_default();
        let comes_up = has_carrier && !link.has_carrier;
        if comes_up {
            *link = LinkTimes { up_at: Some(at), counted: counted(), since: at, ..LinkTimes::default() };
        }
        (link.has_carrier, link.carrier_ups) = (has_carrier, carrier_ups);
        comes_up
    }

    /// Removes a link.
    pub fn gone(&self, ifindex: u32) {
        self.links.remove(&ifindex);
    }

    /// Removes all links but these.
    pub fn retain(&self, is_there: impl Fn(u32) -> bool) {
        self.links.retain(|ifindex, _| is_there(*ifindex));
    }

    /// Returns the state of a link.
    #[must_use]
    pub fn get(&self, ifindex: u32) -> Option<LinkTimes> {
        self.links.get(&ifindex).map(|link| *link)
    }

    /// Marks the boot that began with a link as counted.
    pub(super) fn count(&self, ifindex: u32) {
        if let Some(mut link) = self.links.get_mut(&ifindex) {
            link.is_counted = true;
        }
    }

    /// Reads the counters of those links whose guest has not asked yet, where that is due.
    pub fn look(&self, at: u64, count: impl Fn(u32) -> u64) {
        for mut entry in self.links.iter_mut() {
            let (ifindex, link) = entry.pair_mut();
            let pause = if at.saturating_sub(link.since) < EAGER { 0 } else { PATIENT };
            if link.asked != Asked::Never || !link.has_carrier || at.saturating_sub(link.looked_at) < pause {
                continue;
            }
            link.looked_at = at;
            if count(*ifindex) > link.counted {
                link.asked = Asked::At(at);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINK: u32 = 3;

    fn state(has_carrier: bool, carrier_ups: u32) -> LinkState {
        LinkState { ifindex: LINK, has_carrier, carrier_ups }
    }

    #[test]
    fn times_of_an_earlier_daemon_hold_unless_the_link_came_up_since() {
        for (carrier_ups, up_at, came_up) in [(4, Some(2000), false), (5, None, true)] {
            let earlier = Links::default();
            earlier.changed(state(true, 4), || 0, 2000);
            let links = Links::default();
            links.restore(earlier.all());
            assert_eq!(links.found(state(true, carrier_ups), 1, 9000), came_up);
            assert_eq!(links.get(LINK).map(|link| link.up_at), Some(up_at));
            assert!(!links.found(state(true, 7), 1, 9000), "what is not known has not come up");
        }
    }

    #[test]
    fn the_first_question_after_the_link_came_up_is_found_by_the_counter() {
        let links = Links::default();
        links.found(state(true, 1), 5, 0);
        assert_eq!(links.get(LINK).map(|link| link.asked), Some(Asked::Before));
        assert!(!links.changed(state(false, 1), || 5, 1000));
        assert!(links.changed(state(true, 2), || 5, 2000));
        assert!(!links.changed(state(true, 2), || 5, 2500), "it is up already");
        links.look(3000, |_| 5);
        assert_eq!(links.get(LINK).map(|link| (link.up_at, link.asked)), Some((Some(2000), Asked::Never)));
        links.look(4000, |_| 6);
        links.look(5000, |_| 7);
        assert_eq!(links.get(LINK).map(|link| link.asked), Some(Asked::At(4000)));
    }

    #[test]
    fn a_guest_that_asks_late_or_never_is_looked_at_seldom() {
        let (links, looks) = (Links::default(), std::cell::Cell::new(0));
        links.found(state(true, 1), 0, 0);
        for second in 1..=1200 {
            links.look(second * 1000, |_| {
                looks.set(looks.get() + 1);
                0
            });
        }
        assert!((600..640).contains(&looks.get()), "{}", looks.get());
    }
}
