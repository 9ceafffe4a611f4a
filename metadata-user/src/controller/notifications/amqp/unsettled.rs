//! Messages that wait for their receipt: pure.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// The delivery tags of messages that are not acknowledged, with the times at which they came. Tags grow.
#[derive(Debug)]
pub(super) struct Unsettled {
    most: usize,
    longest: Duration,
    tags: BTreeMap<u64, Instant>,
}

impl Unsettled {
    /// Returns none, of which at most so many wait, at most so long.
    pub(super) fn new(most: usize, longest: Duration) -> Self {
        Self { most, longest, tags: BTreeMap::new() }
    }

    /// Notes a message that came.
    pub(super) fn add(&mut self, tag: u64, now: Instant) {
        self.tags.insert(tag, now);
    }

    /// Notes a receipt. Returns whether the message is still to be acknowledged.
    pub(super) fn settle(&mut self, tag: u64) -> bool {
        self.tags.remove(&tag).is_some()
    }

    /// Takes the messages that are to be acknowledged without their receipt: the oldest ones, as many as are too many or too old.
    pub(super) fn take_early(&mut self, now: Instant) -> Vec<u64> {
        let mut early = Vec::new();
        while let Some((&tag, &came)) = self.tags.first_key_value()
            && (self.tags.len() > self.most || now.saturating_duration_since(came) >= self.longest)
        {
            self.tags.remove(&tag);
            early.push(tag);
        }
        early
    }

    /// Returns how many wait.
    pub(super) fn len(&self) -> usize {
        self.tags.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_are_settled_early_when_they_are_too_many_or_too_old() {
        let (now, second) = (Instant::now(), Duration::from_secs(1));
        let mut unsettled = Unsettled::new(3, 10 * second);
        for tag in 1..=5 {
            unsettled.add(tag, now + u32::try_from(tag).unwrap() * second);
        }
        assert!(unsettled.settle(3) && !unsettled.settle(3));
        assert_eq!(unsettled.take_early(now + 5 * second), [1]);
        assert!(!unsettled.settle(1), "its receipt comes late");
        assert_eq!(unsettled.take_early(now + 11 * second), Vec::<u64>::new());
        assert_eq!(unsettled.take_early(now + 14 * second), [2, 4]);
        assert_eq!(unsettled.len(), 1);
    }
}
