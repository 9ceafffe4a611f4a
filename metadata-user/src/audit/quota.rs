//! How many records a port may cause that are not of answered requests.
//!
//! A request is recorded whatever it is: how many there are is bounded by the limits of requests. What those limits refuse,
//! and what becomes of connections, costs a guest a few packets, so a flood of it must not push everything else out of the
//! log. Each port may cause [`BURST`] such records at once, and one per [`REFILL`] from then on; the next one that is
//! written says how many were left out.
//!
//! Promises: memory is fixed. Ports share a bucket only where more than [`BUCKETS`] bindings lie between them.

use std::num::NonZeroU32;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use governor::clock::{Clock, DefaultClock};
use governor::middleware::NoOpMiddleware;
use governor::state::{InMemoryState, NotKeyed};
use governor::{Quota, RateLimiter};

/// Records that a port may cause at once: a boot with a few hiccups.
const BURST: NonZeroU32 = NonZeroU32::new(16).expect("not zero");

/// After that, time per record: 4 MB a day of a guest that never stops.
const REFILL: Duration = Duration::from_secs(10);

/// Ports with a bucket of their own; tags are given away one after another.
const BUCKETS: usize = 1024;

/// The buckets.
pub(super) struct Quotas<C: Clock = DefaultClock> {
    buckets: Vec<Bucket<C>>,
}

struct Bucket<C: Clock> {
    limiter: RateLimiter<NotKeyed, InMemoryState, C, NoOpMiddleware<C::Instant>>,
    left_out: AtomicU64,
}

impl<C: Clock> std::fmt::Debug for Quotas<C> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Quotas").finish_non_exhaustive()
    }
}

impl Quotas {
    pub(super) fn new() -> Self {
        Self::with_clock(&DefaultClock::default())
    }
}

impl<C: Clock + Clone> Quotas<C> {
    fn with_clock(clock: &C) -> Self {
        let quota = Quota::with_period(REFILL).expect("not zero").allow_burst(BURST);
        let bucket =
            || Bucket { limiter: RateLimiter::direct_with_clock(quota, clock.clone()), left_out: AtomicU64::new(0) };
        Self { buckets: std::iter::repeat_with(bucket).take(BUCKETS).collect() }
    }

    /// Takes a place for a record of the port with this tag, and returns how many were left out since the last one; `None`:
    /// this one is left out too.
    pub(super) fn admit(&self, tag: u32) -> Option<u64> {
        let bucket = &self.buckets[usize::try_from(tag).unwrap_or(0) % BUCKETS];
        if bucket.limiter.check().is_ok() {
            Some(bucket.left_out.swap(0, Ordering::Relaxed))
        } else {
            bucket.left_out.fetch_add(1, Ordering::Relaxed);
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use governor::clock::FakeRelativeClock;

    use super::*;

    #[test]
    fn a_flood_of_one_port_is_cut_counted_and_no_other_ports() {
        let clock = FakeRelativeClock::default();
        let quotas = Quotas::with_clock(&clock);
        assert!((0..16).all(|_| quotas.admit(1) == Some(0)));
        assert!((0..1000).all(|_| quotas.admit(1).is_none()));
        assert_eq!(quotas.admit(2), Some(0));
        clock.advance(REFILL);
        assert_eq!((quotas.admit(1), quotas.admit(1)), (Some(1000), None));
        clock.advance(REFILL * 100);
        assert_eq!((quotas.admit(1), quotas.admit(1)), (Some(1), Some(0)));
    }
}
