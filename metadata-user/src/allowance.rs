//! How often something may be done: so many times at once, and again with time (token buckets of the crate governor).
//!
//! Promises: time is the runtime's, which tests can stop.
//!
//! A leaf: it uses nothing of this crate.

use std::num::NonZeroU32;
use std::time::{Duration, Instant};

use governor::clock::Clock;
use governor::middleware::NoOpMiddleware;
use governor::state::{InMemoryState, NotKeyed};
use governor::{Quota, RateLimiter};
use tokio::sync::Mutex;

/// The runtime's time.
#[derive(Clone, Copy, Debug, Default)]
pub struct RuntimeClock;

impl Clock for RuntimeClock {
    type Instant = Instant;

    fn now(&self) -> Instant {
        tokio::time::Instant::now().into_std()
    }
}

/// What one party may do.
#[derive(Debug)]
pub struct Allowance {
    limiter: RateLimiter<NotKeyed, InMemoryState, RuntimeClock, NoOpMiddleware<Instant>>,
    /// Held by the one whose turn is next.
    next: Mutex<()>,
}

impl Allowance {
    /// Allows `most` times at once, and one more each time that `every` has passed, which is not zero.
    #[must_use]
    pub fn new(most: NonZeroU32, every: Duration) -> Self {
        let every = every.max(Duration::from_nanos(1));
        let quota = Quota::with_period(every).unwrap_or(Quota::per_second(most)).allow_burst(most);
        Self { limiter: RateLimiter::direct_with_clock(quota, RuntimeClock), next: Mutex::default() }
    }

    /// Does it once. `false`: not now.
    #[must_use]
    pub fn take(&self) -> bool {
        self.limiter.check().is_ok()
    }

    /// Waits until it may be done, and does it once. Those that wait together are served in the order in which they came, and one of
    /// them is woken at a time.
    pub async fn turn(&self) {
        let _next = self.next.lock().await;
        while let Err(refusal) = self.limiter.check() {
            tokio::time::sleep(refusal.wait_time_from(RuntimeClock.now())).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn whoever_waits_for_a_turn_gets_one_at_the_rate() {
        let allowance = Allowance::new(NonZeroU32::new(2).expect("not zero"), Duration::from_millis(100));
        let begun = tokio::time::Instant::now();
        for _ in 0..12 {
            allowance.turn().await;
        }
        let passed = begun.elapsed();
        assert!((Duration::from_millis(1000)..Duration::from_millis(1100)).contains(&passed), "{passed:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn those_that_wait_together_come_in_turn() {
        let allowance = Allowance::new(NonZeroU32::MIN, Duration::from_millis(100));
        let come = std::sync::Mutex::new(Vec::new());
        let wait = async |number: usize| {
            allowance.turn().await;
            come.lock().expect("no panic").push(number);
        };
        tokio::join!(wait(0), wait(1), wait(2), wait(3));
        assert_eq!(come.into_inner().expect("no panic"), [0, 1, 2, 3]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_burst_is_allowed_and_then_one_with_each_period() {
        let allowance = Allowance::new(NonZeroU32::new(3).expect("not zero"), Duration::from_secs(5));
        let take_all = || (0..10).take_while(|_| allowance.take()).count();
        assert_eq!(take_all(), 3);
        tokio::time::advance(Duration::from_secs(4)).await;
        assert_eq!(take_all(), 0);
        tokio::time::advance(Duration::from_secs(7)).await;
        assert_eq!(take_all(), 2);
        tokio::time::advance(Duration::from_secs(3600)).await;
        assert_eq!(take_all(), 3);
    }
}
