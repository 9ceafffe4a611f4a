//! Nova's endpoints and their health.
//!
//! Promises: all requests go to one endpoint as long as it answers, then to the next in the order of the configuration. An
//! endpoint that failed is left out for a time that grows with each failure, then probed whether needed or not. The first
//! one is chosen at random, which spreads the nodes of a cloud.

use std::time::{Duration, SystemTime};

use parking_lot::{Mutex, MutexGuard};
use tokio::time::Instant;
use tracing::{info, warn};

use super::{EndpointState, Names};
use crate::backoff::Backoff;
use crate::config::target::TargetUrl;

/// The first rest. Short, as a guest may wait for the next attempt.
const REST: Duration = Duration::from_millis(500);
/// The longest rest: a Nova that is back is noticed within this.
const LONGEST_REST: Duration = Duration::from_secs(5);
/// How long an endpoint that failed rests.
const RESTS: Backoff = Backoff::new(REST, LONGEST_REST, 25);

/// The kind of an endpoint's failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum EndpointFailure {
    /// It refuses the signature.
    Secret,
    /// It does not answer, or not as Nova does.
    Down,
}

#[derive(Debug, Default)]
struct Health {
    answered_at: Option<SystemTime>,
    failing: Option<Failing>,
}

#[derive(Clone, Debug)]
struct Failing {
    since: SystemTime,
    failure: EndpointFailure,
    error: String,
    times: u32,
    until: Instant,
}

#[derive(Debug)]
struct Table {
    health: Vec<Health>,
    preferred: usize,
}

/// All endpoints.
#[derive(Debug)]
pub(crate) struct Endpoints {
    urls: Vec<TargetUrl>,
    names: &'static Names,
    table: Mutex<Table>,
}

impl Endpoints {
    pub(crate) fn new(urls: Vec<TargetUrl>, names: &'static Names, random: u32) -> Self {
        let preferred = usize::try_from(random).unwrap_or(0) % urls.len().max(1);
        let health = urls.iter().map(|_| Health::default()).collect();
        Self { urls, names, table: Mutex::new(Table { health, preferred }) }
    }

    pub(crate) fn url(&self, index: usize) -> &TargetUrl {
        &self.urls[index]
    }

    /// Returns the endpoints that are not backing off, in the order in which they are to be tried.
    pub(crate) fn awake(&self) -> Vec<usize> {
        let (table, now) = (self.lock(), Instant::now());
        let order = (0..self.urls.len()).map(|step| (table.preferred + step) % self.urls.len());
        order.filter(|index| table.health[*index].failing.as_ref().is_none_or(|failing| failing.until <= now)).collect()
    }

    /// Returns the endpoints that failed and may be tried again.
    pub(crate) fn rested(&self) -> Vec<usize> {
        let (table, now) = (self.lock(), Instant::now());
        let has_rested = |health: &Health| health.failing.as_ref().is_some_and(|failing| failing.until <= now);
        (0..self.urls.len()).filter(|index| has_rested(&table.health[*index])).collect()
    }

    /// Records that the endpoint answered, and prefers it from now on.
    pub(crate) fn answered(&self, index: usize) {
        self.lock().preferred = index;
        self.mark_healthy(index);
    }

    /// Records that the endpoint answered; which one is preferred does not change.
    pub(crate) fn mark_healthy(&self, index: usize) {
        let mut table = self.lock();
        let health = &mut table.health[index];
        health.answered_at = Some(SystemTime::now());
        if health.failing.take().is_some() {
            info!(url = %self.urls[index], "Nova answers again");
        }
    }

    pub(crate) fn failed(&self, index: usize, failure: EndpointFailure, error: String, random: u32) {
        let mut table = self.lock();
        let health = &mut table.health[index];
        let before = health.failing.take();
        if before.as_ref().map(|before| before.failure) != Some(failure) {
            warn!(url = %self.urls[index], error, "Nova fails: the last good content stays served");
        }
        // Requests that were in flight together failed once.
        let now = Instant::now();
        let times = before.as_ref().map_or(1, |before| before.times.saturating_add(u32::from(before.until <= now)));
        let rest = RESTS.delay(times, random);
        let since = before.map_or_else(SystemTime::now, |before| before.since);
        health.failing = Some(Failing { since, failure, error, times, until: now + rest });
    }

    /// Returns why nothing can be asked, if all endpoints fail: the failure that the operator has to repair, and the first error.
    pub(crate) fn failure(&self) -> Option<(EndpointFailure, String)> {
        let table = self.lock();
        let failing: Option<Vec<_>> = table.health.iter().map(|health| health.failing.as_ref()).collect();
        let failing = failing?;
        let refuses = failing.iter().any(|failing| failing.failure == EndpointFailure::Secret);
        let failure = if refuses { EndpointFailure::Secret } else { EndpointFailure::Down };
        Some((failure, failing.first().map(|failing| failing.error.clone()).unwrap_or_default()))
    }

    /// Returns why nothing can be asked, if all endpoints fail, and the remedy.
    pub(crate) fn trouble(&self) -> Option<String> {
        let Names { secret, program, endpoints: key, .. } = self.names;
        self.failure().map(|(failure, error)| match failure {
            EndpointFailure::Secret => format!(
                "Nova refuses the signature: write metadata_proxy_shared_secret of its nova.conf into {secret}, and start \
                 {program} again"
            ),
            EndpointFailure::Down => {
                format!("Nova cannot be asked: {error}; look at {key}, and whether nova-api-metadata runs")
            }
        })
    }

    pub(crate) fn states(&self) -> Vec<EndpointState> {
        let table = self.lock();
        let states = self.urls.iter().zip(&table.health).enumerate().map(|(index, (url, health))| EndpointState {
            url: url.to_string(),
            in_use: index == table.preferred && health.failing.is_none() && health.answered_at.is_some(),
            answered_at: health.answered_at,
            error: health.failing.as_ref().map(|failing| (failing.since, failing.error.clone())),
        });
        states.collect()
    }

    fn lock(&self) -> MutexGuard<'_, Table> {
        self.table.lock()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    static NAMES: Names = Names { program: "p", endpoints: "e", secret: "s", ca: "ca", cert: "c", key: "k" };

    #[tokio::test(start_paused = true)]
    async fn one_that_fails_rests_and_the_next_is_asked() {
        let urls = ["http://a", "http://b", "http://c"].map(|url| TargetUrl::parse(url).unwrap());
        let endpoints = Endpoints::new(urls.to_vec(), &NAMES, 4);
        assert_eq!(endpoints.awake(), [1, 2, 0], "the first is up to chance");
        endpoints.failed(1, EndpointFailure::Down, "gone".to_owned(), 0);
        assert_eq!(endpoints.awake(), [2, 0]);
        endpoints.answered(0);
        assert_eq!((endpoints.awake(), endpoints.trouble()), (vec![0, 2], None));
        tokio::time::advance(REST).await;
        assert_eq!(endpoints.awake(), [0, 1, 2], "it is tried again, and is not the first");
        for times in 0..9 {
            tokio::time::advance(LONGEST_REST).await;
            endpoints.failed(1, EndpointFailure::Down, "gone".to_owned(), 0);
            let _ = times;
        }
        tokio::time::advance(LONGEST_REST).await;
        assert!(endpoints.awake().contains(&1));
        endpoints.failed(0, EndpointFailure::Down, "no".to_owned(), 0);
        endpoints.failed(1, EndpointFailure::Down, "no".to_owned(), 0);
        endpoints.failed(2, EndpointFailure::Down, "no".to_owned(), 0);
        assert!(endpoints.trouble().unwrap().starts_with("Nova cannot be asked: no"));
        endpoints.failed(2, EndpointFailure::Secret, "403".to_owned(), 0);
        assert!(endpoints.trouble().unwrap().contains("into s, and start p again"), "somebody answers, and refuses");
        assert!(endpoints.states().iter().all(|state| state.error.is_some() && !state.in_use));
    }
}
