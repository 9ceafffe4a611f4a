//! When all servers are listed next, and which of them are read then: pure.
//!
//! Promises: a listing that is asked for begins after that, also where one is under way: that one may have read its part of the list before
//! what made another necessary.

use std::time::{Duration, Instant, SystemTime};

/// How long to wait for what else may be a reason to list.
const SOON: Duration = Duration::from_millis(500);
/// How long to wait after a listing that failed.
const AGAIN: Duration = Duration::from_secs(5);

/// Which instances a listing makes due, beside those that it shows to differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Compare {
    /// None: all were read since a change may have been missed.
    Known,
    /// Those that neither this leader nor a former one has read: a term begins.
    Unread,
    /// Those too that were last read before this time, at which changes may have been missed.
    Before(SystemTime),
}

/// The listings of a term.
#[derive(Debug)]
pub(super) struct Listing {
    at: Instant,
    is_under_way: bool,
    /// What the one that is under way, or else the next one, makes due.
    compare: Compare,
    /// What the next one makes due, if it was asked for since this one began.
    asked: Option<Compare>,
}

impl Listing {
    /// The first one, at once.
    pub(super) fn new(now: Instant) -> Self {
        Self { at: now, is_under_way: false, compare: Compare::Unread, asked: None }
    }

    /// Returns whether one is to begin now, and notes that it does.
    pub(super) fn begin(&mut self, now: Instant) -> bool {
        let begins = !self.is_under_way && self.at <= now;
        self.is_under_way |= begins;
        begins
    }

    /// Returns when the next one is to begin; `None`: not before the end of this one.
    pub(super) fn wake(&self) -> Option<Instant> {
        (!self.is_under_way).then_some(self.at)
    }

    /// Asks for one soon.
    pub(super) fn ask(&mut self, now: Instant, compare: Compare) {
        if self.is_under_way {
            self.asked = self.asked.max(Some(compare));
        } else {
            self.at = self.at.min(now + SOON);
            self.compare = self.compare.max(compare);
        }
    }

    /// Asks for one at once.
    pub(super) fn ask_at_once(&mut self, now: Instant) {
        self.ask(now, Compare::Known);
        self.at = now;
    }

    /// Notes that it has ended well. Returns what it makes due.
    pub(super) fn ended(&mut self, now: Instant, interval: Duration) -> Compare {
        self.is_under_way = false;
        let asked = self.asked.take();
        self.at = if asked.is_some() { now + SOON } else { now + interval };
        std::mem::replace(&mut self.compare, asked.unwrap_or(Compare::Known))
    }

    /// Notes that it has failed.
    pub(super) fn failed(&mut self, now: Instant) {
        self.is_under_way = false;
        self.compare = self.compare.max(self.asked.take().unwrap_or(Compare::Known));
        self.at = now + AGAIN;
    }

    /// Returns whether nothing is to be compared before the next interval ends.
    pub(super) fn is_settled(&self) -> bool {
        !self.is_under_way && self.compare == Compare::Known
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_secs(3600);
    const GAP: Compare = Compare::Before(SystemTime::UNIX_EPOCH);

    #[test]
    fn what_is_asked_for_during_a_listing_is_listed_after_it() {
        let now = Instant::now();
        let mut listing = Listing::new(now);
        assert!(listing.begin(now) && !listing.begin(now) && listing.wake().is_none());
        listing.ask(now, GAP);
        assert_eq!(listing.ended(now, HOUR), Compare::Unread);
        assert!(!listing.is_settled());
        assert_eq!(listing.wake(), Some(now + SOON));
        assert!(listing.begin(now + SOON));
        assert_eq!(listing.ended(now + SOON, HOUR), GAP);
        assert!(listing.is_settled());
        assert_eq!(listing.wake(), Some(now + SOON + HOUR));
    }

    #[test]
    fn one_that_is_asked_for_or_failed_does_not_wait_for_the_interval() {
        let now = Instant::now();
        let mut listing = Listing::new(now);
        assert!(listing.begin(now));
        listing.ask(now, GAP);
        listing.failed(now);
        assert!(!listing.begin(now) && listing.begin(now + AGAIN));
        assert_eq!(listing.ended(now, HOUR), GAP, "what was asked for meanwhile");
        listing.ask(now, Compare::Known);
        assert!(!listing.begin(now) && listing.begin(now + SOON));
        assert_eq!(listing.ended(now, HOUR), Compare::Known);
        listing.ask_at_once(now);
        assert!(listing.begin(now));
    }
}
