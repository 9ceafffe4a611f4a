//! When the snapshot is written. Pure: the caller passes the time.
//!
//! Promises: a change is written soon, and a steady stream of changes still once per interval; a removal is written at
//! once; neither takes more of the thread's time than its share.

use std::time::{Duration, Instant};

/// How long changes that come together are waited for.
const TOGETHER: Duration = Duration::from_millis(50);

/// Pauses between writes of changes are at least this many times as long as the last write: a twentieth is spent.
const REST: u32 = 19;

/// How long is waited after a write that failed.
const RETRY: Duration = Duration::from_secs(10);

/// Why something is to be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Reason {
    /// Content came or changed.
    Change,
    /// An instance was removed, or the source has confirmed everything.
    Urgent,
}

#[derive(Debug)]
pub(super) struct Pace {
    interval: Duration,
    /// What waits to be written, and since when.
    waiting: Option<(Reason, Instant)>,
    /// When the last write ended, how long it took, and whether it failed.
    last: Option<(Instant, Duration, bool)>,
}

impl Pace {
    pub(super) fn new(interval: Duration) -> Self {
        Self { interval, waiting: None, last: None }
    }

    /// Takes note that there is something to write.
    pub(super) fn wants(&mut self, reason: Reason, now: Instant) {
        self.waiting = Some(match self.waiting {
            Some((before, since)) => (before.max(reason), since),
            None => (reason, now),
        });
    }

    /// Returns when to write; `None` while there is nothing to write.
    pub(super) fn due(&self) -> Option<Instant> {
        let (reason, since) = self.waiting?;
        let soonest = match reason {
            Reason::Change => since + TOGETHER,
            Reason::Urgent => since,
        };
        let rested = self.last.map(|(end, took, failed)| match reason {
            _ if failed => end + RETRY,
            Reason::Change => end + self.interval.max(took * REST),
            // As long as the write took: half of the time is spent at most.
            Reason::Urgent => end + took,
        });
        Some(rested.map_or(soonest, |rested| rested.max(soonest)))
    }

    /// Returns whether there is something to write.
    pub(super) fn is_waiting(&self) -> bool {
        self.waiting.is_some()
    }

    /// Takes note that everything up to `began` was written.
    pub(super) fn wrote(&mut self, began: Instant, now: Instant) {
        self.waiting = None;
        self.last = Some((now, now.duration_since(began), false));
    }

    /// Takes note that it could not be written.
    pub(super) fn failed(&mut self, began: Instant, now: Instant) {
        self.last = Some((now, now.duration_since(began), true));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn ms(milliseconds: u64) -> Duration {
        Duration::from_millis(milliseconds)
    }

    #[test]
    fn a_first_change_is_written_soon_and_the_next_after_the_interval() {
        let start = Instant::now();
        let mut pace = Pace::new(ms(2000));
        assert_eq!(pace.due(), None);
        pace.wants(Reason::Change, start);
        pace.wants(Reason::Change, start + ms(40));
        assert_eq!(pace.due(), Some(start + TOGETHER), "a steady stream puts nothing off");
        pace.wrote(start + ms(50), start + ms(60));
        assert_eq!(pace.due(), None);
        pace.wants(Reason::Change, start + ms(61));
        assert_eq!(pace.due(), Some(start + ms(2060)));
        pace.wrote(start + ms(2060), start + ms(2070));
        pace.wants(Reason::Change, start + ms(9000));
        assert_eq!(pace.due(), Some(start + ms(9050)));
    }

    #[test]
    fn a_removal_is_written_at_once_but_not_all_the_time() {
        let start = Instant::now();
        let mut pace = Pace::new(ms(2000));
        pace.wants(Reason::Change, start);
        pace.wants(Reason::Urgent, start + ms(1));
        assert_eq!(pace.due(), Some(start));
        pace.wrote(start, start + ms(300));
        pace.wants(Reason::Urgent, start + ms(310));
        pace.wants(Reason::Change, start + ms(320));
        assert_eq!(pace.due(), Some(start + ms(600)));
    }

    #[test]
    fn long_writes_are_rare_and_failed_ones_are_tried_again() {
        let start = Instant::now();
        let mut pace = Pace::new(ms(2000));
        pace.wants(Reason::Change, start);
        pace.wrote(start, start + ms(500));
        pace.wants(Reason::Change, start + ms(500));
        assert_eq!(pace.due(), Some(start + ms(500 + 19 * 500)));
        pace.failed(start + ms(10_000), start + ms(10_001));
        assert!(pace.is_waiting());
        assert_eq!(pace.due(), Some(start + ms(10_001) + RETRY));
    }
}
