//! How long changes took, from the notification to etcd: a histogram since the start, and quantiles of the last ones.

use std::collections::VecDeque;
use std::time::Duration;

use crate::metrics::state::controller::LAG_BOUNDS;

/// The last changes that quantiles are of.
const LAST: usize = 1_000;

/// How long changes took.
#[derive(Clone, Debug, Default)]
pub struct Lag {
    buckets: [u64; LAG_BOUNDS.len() + 1],
    sum: f64,
    last: VecDeque<Duration>,
}

impl Lag {
    /// Adds a change that was written.
    pub fn add(&mut self, took: Duration) {
        let seconds = took.as_secs_f64();
        let bucket = LAG_BOUNDS.iter().position(|bound| seconds <= *bound).unwrap_or(LAG_BOUNDS.len());
        self.buckets[bucket] += 1;
        self.sum += seconds;
        if self.last.len() == LAST {
            self.last.pop_front();
        }
        self.last.push_back(took);
    }

    /// Returns the number of changes in each bucket, those above the last bound at the end.
    #[must_use]
    pub fn buckets(&self) -> [u64; LAG_BOUNDS.len() + 1] {
        self.buckets
    }

    /// Returns the number of changes.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.buckets.iter().sum()
    }

    /// Returns the sum of all times, in seconds.
    #[must_use]
    pub fn sum(&self) -> f64 {
        self.sum
    }

    /// Returns the time within which so many hundredths of the last 1,000 changes were written; `None` without any.
    #[must_use]
    pub fn quantile(&self, hundredths: usize) -> Option<Duration> {
        let mut sorted: Vec<Duration> = self.last.iter().copied().collect();
        let rank = (sorted.len() * hundredths.min(100)).div_ceil(100).max(1) - 1;
        (rank < sorted.len()).then(|| *sorted.select_nth_unstable(rank).1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes_are_counted_by_bucket_and_the_last_ones_give_quantiles() {
        let mut lag = Lag::default();
        assert_eq!((lag.quantile(50), lag.count()), (None, 0));
        lag.add(Duration::from_secs(1_000));
        assert_eq!(lag.quantile(99), Some(Duration::from_secs(1_000)));
        for ms in 1..=1_000 {
            lag.add(Duration::from_millis(ms));
        }
        let quantiles = [0, 50, 99, 100].map(|hundredths| lag.quantile(hundredths));
        assert_eq!(
            quantiles,
            [1, 500, 990, 1_000].map(|ms| Some(Duration::from_millis(ms))),
            "the first one is too long ago"
        );
        assert_eq!(lag.buckets(), [50, 50, 100, 100, 200, 500, 0, 0, 0, 0, 0, 0, 1]);
        assert_eq!(lag.count(), 1_001);
        assert!((lag.sum() - 1_500.5).abs() < 1e-6);
    }
}
