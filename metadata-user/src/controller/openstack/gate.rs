//! How much one service is asked at a time, what became of it, and since when it fails.
//!
//! Promises:
//! - no more requests are in flight than configured, and a quarter of the places is kept for changes;
//! - a request that no change caused waits for its turn at the configured rate;
//! - a service that does not answer is left alone for a moment, then asked by one request at a time until it answers: the others fail at
//!   once, rather than each after its time-out.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, SystemTime};

use parking_lot::Mutex;
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::Instant;
use tracing::{info, warn};

use super::error::{AskError, Failure, Service};
use crate::allowance::Allowance;
use crate::backoff::{self, Backoff};
use crate::nova_metadata::EndpointState;
use crate::slowness::{Slowness, Timed};

/// As the services' access logs name us.
pub(super) const AGENT: &str = concat!("metadatad/", env!("CARGO_PKG_VERSION"));

/// How long a service that does not answer is left alone.
const RESTS: Backoff = Backoff::new(Duration::from_millis(250), Duration::from_secs(5), 25);

/// What a request is for: decides which ones wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Urgency {
    /// The comparison with everything that OpenStack has: at the configured rate.
    Background,
    /// Something changed, or a guest waits.
    Change,
}

/// The state of a service, for status and metrics.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServiceState {
    /// Which one.
    pub service: Service,
    /// Its endpoints, without anything secret: one, or those of the metadata API. Empty until the catalogue was read.
    pub endpoints: Vec<EndpointState>,
    /// Requests so far.
    pub requests: u64,
    /// Those that failed.
    pub failures: u64,
    /// Requests in flight.
    pub in_flight: usize,
    /// The last error, and since when requests fail; `None`: the last one succeeded.
    pub error: Option<(SystemTime, String)>,
    /// What a request takes, lists of all servers aside; `None`: not long.
    pub slow: Option<Duration>,
}

/// What all requests to one service pass.
#[derive(Debug)]
pub(super) struct Gate {
    service: Service,
    all: Semaphore,
    background: Semaphore,
    pace: Arc<Allowance>,
    requests: AtomicU64,
    failures: AtomicU64,
    in_flight: AtomicUsize,
    slowness: Slowness,
    health: Mutex<Health>,
}

#[derive(Debug, Default)]
struct Health {
    endpoint: Option<String>,
    answered_at: Option<SystemTime>,
    failing: Option<Failing>,
    /// A request is in flight that finds out whether it answers again.
    is_probed: bool,
}

#[derive(Debug)]
struct Failing {
    since: SystemTime,
    error: AskError,
    times: u32,
    /// Until then it is left alone.
    until: Option<Instant>,
}

/// A request's places; it is in flight until they are dropped.
#[derive(Debug)]
pub(super) struct Places<'a> {
    gate: &'a Gate,
    is_probe: bool,
    _timed: Option<Timed<'a>>,
    _background: Option<SemaphorePermit<'a>>,
    _all: Option<SemaphorePermit<'a>>,
}

impl Drop for Places<'_> {
    fn drop(&mut self) {
        if self.is_probe {
            self.gate.health.lock().is_probed = false;
        }
        self.gate.in_flight.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Gate {
    pub(super) fn new(service: Service, most: usize, pace: Arc<Allowance>) -> Self {
        let kept = (most / 4).max(1);
        Self {
            service,
            all: Semaphore::new(most),
            background: Semaphore::new(most.saturating_sub(kept).max(1)),
            pace,
            requests: AtomicU64::new(0),
            failures: AtomicU64::new(0),
            in_flight: AtomicUsize::new(0),
            slowness: Slowness::default(),
            health: Mutex::default(),
        }
    }

    /// Waits for a place.
    ///
    /// # Errors
    /// The last error, if the service is being left alone.
    pub(super) async fn enter(&self, urgency: Urgency) -> Result<Places<'_>, AskError> {
        rest(&self.health.lock())?;
        let background = match urgency {
            Urgency::Background => {
                self.pace.turn().await;
                // It is never closed.
                self.background.acquire().await.ok()
            }
            Urgency::Change => None,
        };
        let all = self.all.acquire().await.ok();
        let is_probe = self.probe()?;
        self.requests.fetch_add(1, Ordering::Relaxed);
        self.in_flight.fetch_add(1, Ordering::Relaxed);
        // A page of all servers may well take its time.
        let timed = (urgency == Urgency::Change).then(|| self.slowness.begin());
        Ok(Places { gate: self, is_probe, _timed: timed, _background: background, _all: all })
    }

    /// Returns whether a request is the one that finds out whether the service answers again.
    fn probe(&self) -> Result<bool, AskError> {
        let mut health = self.health.lock();
        rest(&health)?;
        let is_probe = health.failing.as_ref().is_some_and(|failing| failing.until.is_some());
        health.is_probed |= is_probe;
        Ok(is_probe)
    }

    /// Records that the service answered as itself.
    pub(super) fn answered(&self) {
        // Another cloud answers, too.
        self.well(|failing| failing.error.failure != Failure::OtherCloud);
    }

    /// Records that the service answers, which says nothing about what it would answer to a request that needs more.
    pub(super) fn reached(&self) {
        self.well(|failing| failing.error.failure == Failure::Unavailable);
    }

    /// Records that the service is that of the expected cloud.
    pub(super) fn confirmed(&self) {
        self.well(|_| true);
    }

    fn well(&self, ends: impl Fn(&Failing) -> bool) {
        let mut health = self.health.lock();
        health.answered_at = Some(SystemTime::now());
        if health.failing.as_ref().is_some_and(ends) {
            health.failing = None;
            info!(service = self.service.as_str(), "{} answers again", self.service);
        }
    }

    /// Records a failure, and returns it. `rests`: it is one of the service, which is left alone for a moment.
    pub(super) fn failed(&self, error: AskError, rests: bool) -> AskError {
        self.failures.fetch_add(1, Ordering::Relaxed);
        let mut health = self.health.lock();
        let is_other = |failing: &Failing| failing.error.failure == Failure::OtherCloud;
        if health.failing.as_ref().is_some_and(is_other) && error.failure != Failure::OtherCloud && !rests {
            // That is what has to be repaired first.
            return error;
        }
        let (now, before) = (Instant::now(), health.failing.take());
        if before.as_ref().is_none_or(|before| before.error.failure != error.failure) {
            warn!(service = self.service.as_str(), %error, "{} fails: documents stay as they are", self.service);
        }
        // Requests that were in flight together failed once.
        let is_new = before.as_ref().is_none_or(|before| before.until.is_none_or(|until| until <= now));
        let times = before.as_ref().map_or(0, |before| before.times) + u32::from(is_new && rests);
        let until = rests.then(|| now + RESTS.delay(times, backoff::random()));
        let until = until.or(before.as_ref().and_then(|before| before.until));
        let since = before.map_or_else(SystemTime::now, |before| before.since);
        health.failing = Some(Failing { since, error: error.clone(), times, until });
        error
    }

    /// Returns whether the last request failed.
    pub(super) fn is_failing(&self) -> bool {
        self.health.lock().failing.is_some()
    }

    /// Sets where it is.
    pub(super) fn set_endpoint(&self, endpoint: &str) {
        let mut health = self.health.lock();
        if health.endpoint.as_deref() != Some(endpoint) {
            health.endpoint = Some(endpoint.to_owned());
        }
    }

    /// Records a failure of one answer, which says nothing about the service.
    pub(super) fn count_failure(&self, error: AskError) -> AskError {
        self.failures.fetch_add(1, Ordering::Relaxed);
        error
    }

    pub(super) fn state(&self) -> ServiceState {
        let health = self.health.lock();
        let error = health.failing.as_ref().map(|failing| (failing.since, failing.error.to_string()));
        let endpoints = health.endpoint.iter().map(|url| EndpointState {
            url: url.clone(),
            in_use: error.is_none() && health.answered_at.is_some(),
            answered_at: health.answered_at,
            error: error.clone(),
        });
        ServiceState {
            service: self.service,
            endpoints: endpoints.collect(),
            requests: self.requests.load(Ordering::Relaxed),
            failures: self.failures.load(Ordering::Relaxed),
            in_flight: self.in_flight.load(Ordering::Relaxed),
            error,
            slow: self.slowness.slow(),
        }
    }
}

/// Returns the last error, if the service is left alone now.
fn rest(health: &Health) -> Result<(), AskError> {
    match health.failing.as_ref() {
        Some(Failing { until: Some(until), error, .. }) if health.is_probed || *until > Instant::now() => {
            Err(error.clone())
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn what_no_change_causes_waits_for_its_turn() {
        let gate = Gate::new(Service::Nova, 4, Arc::new(Allowance::new(NonZeroU32::MIN, Duration::from_millis(100))));
        let begun = tokio::time::Instant::now();
        for _ in 0..11 {
            drop(gate.enter(Urgency::Background).await.expect("a place"));
        }
        assert!(begun.elapsed() >= Duration::from_secs(1));
        let before = begun.elapsed();
        for _ in 0..100 {
            drop(gate.enter(Urgency::Change).await.expect("a place"));
        }
        assert_eq!(begun.elapsed(), before, "changes do not wait");
        let passed = AtomicUsize::new(0);
        let held: Vec<_> = futures_util::future::join_all((0..3).map(|_| gate.enter(Urgency::Background))).await;
        tokio::select! {
            biased;
            _ = gate.enter(Urgency::Background) => { passed.fetch_add(1, Ordering::Relaxed); }
            () = tokio::time::sleep(Duration::from_secs(60)) => {}
        }
        assert_eq!(passed.load(Ordering::Relaxed), 0, "a place is kept for changes");
        assert!(gate.enter(Urgency::Change).await.is_ok());
        drop(held);
    }

    #[tokio::test(start_paused = true)]
    async fn whether_a_service_answers_again_is_found_out_by_one_request_at_a_time() {
        let gate = Gate::new(Service::Nova, 4, Arc::new(Allowance::new(NonZeroU32::MIN, Duration::from_millis(1))));
        let fail =
            |gate: &Gate, rests| drop(gate.failed(AskError::new(Service::Nova, "x", Failure::Unavailable, "y"), rests));
        fail(&gate, false);
        assert!(gate.enter(Urgency::Change).await.is_ok(), "one answer says nothing about the service");
        fail(&gate, true);
        assert!(gate.enter(Urgency::Change).await.is_err());
        for _ in 0..5 {
            tokio::time::advance(Duration::from_secs(6)).await;
            let probe = gate.enter(Urgency::Change).await.expect("a probe");
            assert!(gate.enter(Urgency::Change).await.is_err() && gate.enter(Urgency::Background).await.is_err());
            drop(probe);
            fail(&gate, true);
        }
        tokio::time::advance(Duration::from_secs(6)).await;
        drop(gate.enter(Urgency::Change).await.expect("a probe"));
        gate.answered();
        let all = futures_util::future::join_all((0..4).map(|_| gate.enter(Urgency::Change))).await;
        assert!(all.iter().all(Result::is_ok));
    }
}
