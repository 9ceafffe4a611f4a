//! How long a service takes now: for requests that still wait for their answer, and for the last one that had it.
//!
//! Promises: a service that hangs shows at once, not only when its requests are given up; one that was slow shows for a while, and not
//! for ever where nothing is asked any more.

use std::collections::BTreeMap;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

/// From here on a request is slow: far above what a service needs that is well, and below its time-out.
const SLOW: Duration = Duration::from_secs(4);
/// How long the last request counts after its end.
const REMEMBERED: Duration = Duration::from_secs(30);

/// How long a service takes.
#[derive(Debug, Default)]
pub(crate) struct Slowness(Mutex<Times>);

#[derive(Debug, Default)]
struct Times {
    begun: u64,
    /// The oldest is the first.
    waiting: BTreeMap<u64, Instant>,
    /// When the last one ended, and what it took.
    last: Option<(Instant, Duration)>,
}

/// A request, until this is dropped.
#[derive(Debug)]
pub(crate) struct Timed<'a> {
    of: &'a Slowness,
    number: u64,
}

impl Slowness {
    /// Notes that a request is sent.
    pub(crate) fn begin(&self) -> Timed<'_> {
        let mut times = self.0.lock();
        times.begun += 1;
        let number = times.begun;
        times.waiting.insert(number, Instant::now());
        Timed { of: self, number }
    }

    /// Returns how long a request takes, if that is long.
    #[cfg_attr(all(not(feature = "etcd"), not(test)), expect(dead_code, reason = "the controller alone shows it"))]
    pub(crate) fn slow(&self) -> Option<Duration> {
        let (times, now) = (self.0.lock(), Instant::now());
        let waiting = times.waiting.first_key_value().map(|(_, begun)| now.duration_since(*begun));
        let last = times.last.filter(|(ended, _)| now.duration_since(*ended) < REMEMBERED).map(|(_, took)| took);
        waiting.max(last).filter(|took| *took >= SLOW)
    }
}

impl Drop for Timed<'_> {
    fn drop(&mut self) {
        let (mut times, now) = (self.of.0.lock(), Instant::now());
        if let Some(begun) = times.waiting.remove(&self.number) {
            times.last = Some((now, now.duration_since(begun)));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_hang_shows_while_it_lasts_and_a_slow_answer_for_a_while() {
        let slowness = Slowness::default();
        let first = slowness.begin();
        assert_eq!(slowness.slow(), None);
        tokio::time::advance(SLOW).await;
        assert_eq!(slowness.slow(), Some(SLOW));
        drop(slowness.begin());
        assert_eq!(slowness.slow(), Some(SLOW), "a quick one does not hide it");
        drop(first);
        assert_eq!(slowness.slow(), Some(SLOW));
        tokio::time::advance(REMEMBERED).await;
        assert_eq!(slowness.slow(), None);
        let slow = slowness.begin();
        tokio::time::advance(2 * SLOW).await;
        drop(slow);
        drop(slowness.begin());
        assert_eq!(slowness.slow(), None, "the last one was quick");
    }
}
