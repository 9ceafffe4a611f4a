//! Which member is asked next, and when.
//!
//! Promises: every member is tried before one is tried again; the first is a random one, so that a fleet spreads over the
//! cluster; delays grow while no member answers, up to [`LONGEST`], and are random, so that a fleet does not reconnect at
//! the same moment.

use std::time::Duration;

use crate::backoff::{self, Backoff};

/// Longest delay before the next member is tried after one failed.
const NEXT: Duration = Duration::from_millis(500);
/// Delay after the first round in which no member answered.
const FIRST_ROUND: Duration = Duration::from_millis(400);
/// Longest delay after a round.
const LONGEST: Duration = Duration::from_secs(10);
/// Delays after rounds.
const ROUNDS: Backoff = Backoff::new(FIRST_ROUND, LONGEST, 50);

#[derive(Debug)]
pub(super) struct Rotation {
    members: usize,
    at: usize,
    /// Failures since a success.
    failures: usize,
}

impl Rotation {
    pub(super) fn new(members: usize, random: u32) -> Self {
        let at = usize::try_from(random).unwrap_or(0) % members.max(1);
        Self { members: members.max(1), at, failures: 0 }
    }

    /// The member to try.
    pub(super) fn at(&self) -> usize {
        self.at
    }

    pub(super) fn succeeded(&mut self) {
        self.failures = 0;
    }

    /// Goes on to the next member. Returns how long to wait before.
    pub(super) fn failed(&mut self, random: u32) -> Duration {
        self.at = (self.at + 1) % self.members;
        self.failures += 1;
        if !self.is_exhausted() {
            return backoff::shorter(NEXT, 100, random);
        }
        let rounds = u32::try_from(self.failures / self.members).unwrap_or(u32::MAX);
        ROUNDS.delay(rounds, random)
    }

    /// Whether every member failed since the last success, just now the last of them.
    pub(super) fn is_exhausted(&self) -> bool {
        self.failures > 0 && self.failures.is_multiple_of(self.members)
    }

    /// Whether every member failed since the last success.
    pub(super) fn all_failed(&self) -> bool {
        self.failures >= self.members
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_member_is_tried_before_a_long_wait() {
        let mut rotation = Rotation::new(3, 7);
        assert_eq!(rotation.at(), 1);
        let mut tried = Vec::new();
        for round in 0..12 {
            for member in 0..3 {
                tried.push(rotation.at());
                let wait = rotation.failed(u32::MAX / 2);
                assert_eq!(rotation.is_exhausted(), member == 2);
                assert_eq!(rotation.all_failed(), round > 0 || member == 2);
                if member < 2 {
                    assert!(wait < NEXT);
                } else {
                    let longest = FIRST_ROUND.saturating_mul(1 << round).min(LONGEST);
                    assert!(longest / 2 <= wait && wait <= longest, "{wait:?} in round {round}");
                }
            }
        }
        assert_eq!(tried[..6], [1, 2, 0, 1, 2, 0]);
        rotation.succeeded();
        assert!(!rotation.all_failed() && !rotation.is_exhausted());
        assert!(rotation.failed(u32::MAX / 2) < NEXT);
    }
}
