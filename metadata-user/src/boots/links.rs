//! When links came up, and when their guests first asked for the service's MAC address (ARP, neighbour discovery).
//!
//! The kernel programs answer these themselves and only count them, so the first one is found by reading that counter: once a second in
//! the first ten minutes after the link came up, then every half minute, until it moves. So its time is known to the second.

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
    pub(super) counted: u64,
    pub(super) since: u64,
    pub(super) looked_at: u64,
}

/// All links, by interface index.
#[derive(Debug, Default)]
pub struct Links(Table<u32, LinkTimes>);

impl Links {
    /// Adds a link that was there before the daemon started, with its counter.
    pub fn found(&self, ifindex: u32, has_carrier: bool, counted: u64, at: u64) {
        let asked = if counted > 0 { Asked::Before } else { Asked::Never };
        self.0.insert(ifindex, LinkTimes { has_carrier, asked, counted, since: at, ..LinkTimes::default() });
    }

    /// Updates a link as the kernel reports it. `true`: it has just come up.
    pub fn changed(&self, ifindex: u32, has_carrier: bool, counted: impl FnOnce() -> u64, at: u64) -> bool {
        let mut link = self.0.entry(ifindex).or_default();
        let comes_up = has_carrier && !link.has_carrier;
        if comes_up {
            *link = LinkTimes { up_at: Some(at), counted: counted(), since: at, ..LinkTimes::default() };
        }
        link.has_carrier = has_carrier;
        comes_up
    }

    /// Removes a link.
    pub fn gone(&self, ifindex: u32) {
        self.0.remove(&ifindex);
    }

    /// Removes all links but these.
    pub fn retain(&self, is_there: impl Fn(u32) -> bool) {
        self.0.retain(|ifindex, _| is_there(*ifindex));
    }

    /// Returns the state of a link.
    #[must_use]
    pub fn get(&self, ifindex: u32) -> Option<LinkTimes> {
        self.0.get(&ifindex).map(|link| *link)
    }

    /// Reads the counters of those links whose guest has not asked yet, where that is due.
    pub fn look(&self, at: u64, count: impl Fn(u32) -> u64) {
        for mut entry in self.0.iter_mut() {
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

    #[test]
    fn the_first_question_after_the_link_came_up_is_found_by_the_counter() {
        let links = Links::default();
        links.found(LINK, true, 5, 0);
        assert_eq!(links.get(LINK).map(|link| link.asked), Some(Asked::Before));
        assert!(!links.changed(LINK, false, || 5, 1000));
        assert!(links.changed(LINK, true, || 5, 2000));
        assert!(!links.changed(LINK, true, || 5, 2500), "it is up already");
        links.look(3000, |_| 5);
        assert_eq!(links.get(LINK).map(|link| (link.up_at, link.asked)), Some((Some(2000), Asked::Never)));
        links.look(4000, |_| 6);
        links.look(5000, |_| 7);
        assert_eq!(links.get(LINK).map(|link| link.asked), Some(Asked::At(4000)));
    }

    #[test]
    fn a_guest_that_asks_late_or_never_is_looked_at_seldom() {
        let (links, looks) = (Links::default(), std::cell::Cell::new(0));
        links.found(LINK, true, 0, 0);
        for second in 1..=1200 {
            links.look(second * 1000, |_| {
                looks.set(looks.get() + 1);
                0
            });
        }
        assert!((600..640).contains(&looks.get()), "{}", looks.get());
    }
}
