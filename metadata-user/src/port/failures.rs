//! Taps that failed, and when each is tried again.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::Instant;

use crate::backoff::{self, Backoff};
use crate::dataplane::IfIndex;

/// Delays between attempts. What fails for good costs an attempt a minute, what fails for a moment is mended in seconds.
const RETRIES: Backoff = Backoff::new(Duration::from_secs(2), Duration::from_secs(60), 20);

/// Taps that failed.
#[derive(Debug, Default)]
pub(super) struct Failures(BTreeMap<IfIndex, Failure>);

#[derive(Debug)]
struct Failure {
    in_a_row: u32,
    due: Instant,
}

impl Failures {
    /// Adds a failure of a tap.
    pub(super) fn add(&mut self, ifindex: IfIndex, now: Instant) {
        let failure = self.0.entry(ifindex).or_insert(Failure { in_a_row: 0, due: now });
        failure.in_a_row = failure.in_a_row.saturating_add(1);
        failure.due = now + RETRIES.delay(failure.in_a_row, backoff::random());
    }

    /// Forgets a tap that no longer fails, or is gone.
    pub(super) fn remove(&mut self, ifindex: IfIndex) {
        self.0.remove(&ifindex);
    }

    /// Returns when the next tap is tried again.
    pub(super) fn next(&self) -> Option<Instant> {
        self.0.values().map(|failure| failure.due).min()
    }

    /// Returns the taps that are to be tried again now.
    pub(super) fn due(&self, now: Instant) -> Vec<IfIndex> {
        self.0.iter().filter(|(_, failure)| failure.due <= now).map(|(ifindex, _)| *ifindex).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tap_that_keeps_failing_is_tried_less_and_less_often() {
        let (mut failures, mut now) = (Failures::default(), Instant::now());
        assert_eq!(failures.next(), None);
        let mut delays = Vec::new();
        for _ in 0..10 {
            failures.add(IfIndex(1), now);
            let due = failures.next().expect("one is due");
            delays.push(due - now);
            assert!(failures.due(now).is_empty());
            assert_eq!(failures.due(due), [IfIndex(1)]);
            now = due;
        }
        assert!(delays[0] <= Duration::from_secs(2) && delays[9] >= Duration::from_secs(48), "{delays:?}");
        failures.remove(IfIndex(1));
        failures.add(IfIndex(1), now);
        assert!(failures.next().expect("one is due") - now <= Duration::from_secs(2), "it starts afresh");
        failures.remove(IfIndex(1));
        assert_eq!(failures.next(), None);
    }
}
