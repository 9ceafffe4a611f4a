//! Back-off: exponential delays with an upper bound and random jitter, so that nodes that failed together do not retry
//! together.
//!
//! Promises: the first delay and the longest one are exact bounds; nothing overflows, however many attempts have failed.
//! It uses no clock and no randomness: the caller passes [`random`], and tests pass a number.
//!
//! A leaf: it uses nothing of this crate.

use std::time::Duration;

/// How delays grow. Each is twice the one before, up to the longest, less a random share of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backoff {
    first: Duration,
    longest: Duration,
    /// By how many hundredths of itself a delay may be shorter.
    jitter: u32,
}

impl Backoff {
    /// Returns delays from `first` to `longest`, each shorter by up to `jitter` hundredths of itself.
    #[must_use]
    pub const fn new(first: Duration, longest: Duration, jitter: u32) -> Self {
        assert!(jitter <= 100);
        Self { first, longest, jitter }
    }

    /// Returns the delay after so many failures in a row; the first one is 1.
    #[must_use]
    pub fn delay(&self, failures: u32, random: u32) -> Duration {
        let doublings = failures.saturating_sub(1);
        let delay = self.first.saturating_mul(2u32.saturating_pow(doublings)).min(self.longest);
        shorter(delay, self.jitter, random)
    }
}

/// Returns a duration that is shorter by a random share of up to so many hundredths.
#[must_use]
pub fn shorter(duration: Duration, hundredths: u32, random: u32) -> Duration {
    let most = duration.saturating_mul(hundredths.min(100)) / 100;
    duration - most.mul_f64(f64::from(random) / f64::from(u32::MAX)).min(most)
}

/// Returns a random number. Zero, the longest delay, from a kernel without a random generator.
#[must_use]
pub fn random() -> u32 {
    getrandom::u32().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn delays_double_up_to_the_longest() {
        let backoff = Backoff::new(100 * MS, 1000 * MS, 50);
        let delays = (0..7).map(|failures| backoff.delay(failures, 0));
        let expected = [100, 100, 200, 400, 800, 1000, 1000].map(|ms| ms * MS);
        assert_eq!(delays.collect::<Vec<_>>(), expected);
        assert_eq!(backoff.delay(3, u32::MAX), 200 * MS);
        assert_eq!(backoff.delay(u32::MAX, 0), 1000 * MS);
        assert_eq!(Backoff::new(Duration::MAX, Duration::MAX, 0).delay(u32::MAX, 7), Duration::MAX);
    }

    proptest! {
        #[test]
        fn a_delay_stays_within_its_bounds(
            first in 1..10_000_u32, more in 0..10_000_u32, jitter in 0..=100_u32, failures: u32, random: u32
        ) {
            let (first, longest) = (first * MS, (first + more) * MS);
            let delay = Backoff::new(first, longest, jitter).delay(failures, random);
            prop_assert!(delay <= longest);
            prop_assert!(delay + MS >= first * (100 - jitter) / 100);
        }
    }
}
