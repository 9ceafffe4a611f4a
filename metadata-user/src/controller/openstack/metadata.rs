//! Reads of Nova's metadata API: all pages of an instance, and passwords that guests post.
//!
//! Promises:
//! - what is returned is not older than the server that it was asked for, as far as both can be compared (`freshness`); where Nova's
//!   cache may hide a change that cannot be compared, the caller is told when to read again;
//! - with cells that have a metadata API each, an instance is asked for in the cell of its host, and in all where that is not known.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;
use tracing::debug;

use super::error::{AskError, Failure, OpenStackError, Service};
use super::freshness;
use super::gate::{ServiceState, Urgency};
use super::server::Server;
use crate::allowance::Allowance;
use crate::api::{NovaPages, Password, Written};
use crate::config::nova::Nova;
use crate::config::target::TargetUrl;
use crate::nova_metadata::client::{self, Client, NovaError, Requester};
use crate::nova_metadata::endpoints::EndpointFailure;
use crate::nova_metadata::listings::Listings;
use crate::nova_metadata::prefetch::PROOF;
use crate::nova_metadata::refresh::{self, Manner};
use crate::nova_metadata::{self, Names};
use crate::record::InstanceId;

/// How long a worker of Nova keeps an instance: `metadata_cache_expiration` by default, and a moment.
const CACHE: Duration = Duration::from_millis(15_500);
/// Shortest and longest time to the next look whether the cache is over: short at first, as the operator may have set it to a second.
const LOOKS: (Duration, Duration) = (Duration::from_millis(150), Duration::from_secs(3));
/// Pages of one instance that are asked for at a time.
const WIDTH: usize = 6;

static NAMES: Names = Names {
    program: "the controller",
    endpoints: "metadata_api.endpoints",
    secret: "metadata_api.shared_secret_file",
    ca: "metadata_api.ca_file",
    cert: "metadata_api.cert_file",
    key: "metadata_api.key_file",
};

/// What came of reading an instance's pages.
#[derive(Clone, Debug)]
pub enum Reading {
    /// The metadata API does not know the instance, or not in this project.
    Unknown,
    /// Nova still answers from its cache what was before: read the server and its pages again after this time.
    Stale {
        /// Time until another attempt is of use.
        again_after: Duration,
        /// What is older.
        what: &'static str,
    },
    /// All pages.
    Pages {
        /// They.
        pages: NovaPages,
        /// Nova's cache may hide a change in them: read again after this time. `None`: it hides nothing.
        again_after: Option<Duration>,
    },
}

/// What asks the metadata API.
pub(super) struct Metadata {
    /// One for each cell that has its own; else one.
    groups: Vec<Client>,
    /// Which group knew the instances of a host last.
    by_host: Mutex<HashMap<String, usize>>,
    listings: Listings,
    recent: Mutex<Recent>,
}

/// Which instances were read a moment ago, so that Nova's cache may have them.
#[derive(Debug)]
struct Recent {
    started: Instant,
    cleared: Instant,
    reads: HashMap<InstanceId, Reads>,
}

#[derive(Debug, Default)]
struct Reads {
    at: Vec<Instant>,
    /// When the first server was read that the pages have been older than since; `None`: they are not.
    behind_since: Option<Instant>,
}

impl Recent {
    fn new() -> Self {
        let now = Instant::now();
        Self { started: now, cleared: now, reads: HashMap::new() }
    }

    /// Returns until when Nova may answer what was before `when`: a read before then has filled its cache. Who read before this controller
    /// began to lead is not known.
    fn stale_until(&self, id: InstanceId, when: Instant) -> Instant {
        let reads = self.reads.get(&id).into_iter().flat_map(|reads| &reads.at);
        let last = reads.copied().filter(|at| *at < when).max();
        last.unwrap_or(self.started) + CACHE
    }

    /// Notes that pages were read now for a server that was read at `read_at`, and whether they are older than it. Returns since when they
    /// are.
    fn note(&mut self, id: InstanceId, read_at: Instant, is_behind: bool) -> Option<Instant> {
        let now = Instant::now();
        if now.duration_since(self.cleared) > CACHE {
            self.cleared = now;
            // Longer than the cache, as an instance that is behind is read again when the cache is over.
            self.reads.retain(|_, reads| reads.at.iter().any(|at| now.duration_since(*at) < 2 * CACHE));
        }
        let reads = self.reads.entry(id).or_default();
        reads.at.retain(|at| now.duration_since(*at) < CACHE);
        reads.at.push(now);
        reads.behind_since = is_behind.then(|| reads.behind_since.unwrap_or(read_at));
        reads.behind_since
    }
}

impl Metadata {
    pub(super) fn new(
        settings: &Nova,
        cells: &[Vec<TargetUrl>],
        pace: &Arc<Allowance>,
    ) -> Result<Self, OpenStackError> {
        let endpoints = if cells.is_empty() { vec![settings.endpoints.clone()] } else { cells.to_vec() };
        let groups = endpoints.into_iter().map(|endpoints| {
            let settings = Nova { endpoints, ..settings.clone() };
            nova_metadata::set_up(&settings, &NAMES).map(|client| client.paced(Arc::clone(pace)))
        });
        Ok(Self {
            groups: groups.collect::<Result<_, _>>()?,
            by_host: Mutex::default(),
            listings: Listings::default(),
            recent: Mutex::new(Recent::new()),
        })
    }

    /// Reads all pages of an instance.
    pub(super) async fn pages(&self, server: &Server, urgency: Urgency) -> Result<Reading, AskError> {
        let doing = format!("reading the pages of the server {}", server.id);
        let who = requester(server, &doing)?;
        let manner = Manner {
            urgency: match urgency {
                Urgency::Background => client::Urgency::Background,
                Urgency::Change => client::Urgency::Change,
            },
            width: WIDTH,
            listings: Some(&self.listings),
        };
        let may_be_stale = self.recent.lock().stale_until(server.id, server.read_at) > Instant::now();
        let read = async |group: &Client| {
            if may_be_stale {
                let proof = group.page(&who, PROOF, manner.urgency).await?;
                if let Some(what) = freshness::in_meta_data(server, &proof) {
                    return Ok(Err(what));
                }
            }
            refresh::whole(group, &who, &[], None, manner).await.map(Ok)
        };
        let read = self.in_group(server, &doing, read).await?;
        let behind = match &read {
            Some(Ok(pages)) => freshness::behind(server, pages),
            Some(Err(what)) => Some(*what),
            None => None,
        };
        let now = Instant::now();
        let (until, behind_since) = {
            let mut recent = self.recent.lock();
            let until = recent.stale_until(server.id, server.read_at);
            (until, recent.note(server.id, server.read_at, behind.is_some()))
        };
        let Some(read) = read else { return Ok(Reading::Unknown) };
        if let Some((what, since)) = behind.zip(behind_since) {
            // Whatever Nova's workers had when that server was read has gone by then.
            let limit = since + CACHE;
            if limit > now {
                let (shortest, longest) = LOOKS;
                let again_after = now.duration_since(since).clamp(shortest, longest).min(limit - now);
                debug!(instance = %server.id, what, ?again_after, "Nova's metadata API answers from its cache what was before");
                return Ok(Reading::Stale { again_after, what });
            }
            debug!(instance = %server.id, what, "Nova's two APIs differ for longer than its cache lasts");
        }
        let pages = match read {
            Ok(pages) => pages,
            // The cache is over, and the two still differ: it is not for its age.
            Err(_) => match self
                .in_group(server, &doing, async |group: &Client| refresh::whole(group, &who, &[], None, manner).await)
                .await?
            {
                Some(pages) => pages,
                None => return Ok(Reading::Unknown),
            },
        };
        // Where they differ, another change may be hidden behind what is believed to differ for good.
        let until = if behind.is_some() { now + CACHE } else { until };
        let again_after = (until > now).then(|| until - now);
        Ok(Reading::Pages { pages: NovaPages::new(server.id, pages), again_after })
    }

    /// Posts a password for a guest.
    pub(super) async fn post(&self, server: &Server, path: &str, password: &Password) -> Result<Written, AskError> {
        let doing = format!("posting the password of the server {}", server.id);
        let who = requester(server, &doing)?;
        let posted =
            self.in_group(server, &doing, async |group: &Client| group.post(&who, path, password).await).await?;
        posted.ok_or_else(|| {
            let problem = "does not know the server, or not in its project";
            AskError::new(Service::Metadata, &doing, Failure::NotUnderstood, problem)
        })
    }

    /// Asks the group that knows the server's host, then the others. `None`: all know nothing of it.
    async fn in_group<T>(
        &self,
        server: &Server,
        doing: &str,
        ask: impl AsyncFn(&Client) -> Result<T, NovaError>,
    ) -> Result<Option<T>, AskError> {
        let first = server.host.as_ref().and_then(|host| self.by_host.lock().get(host).copied()).unwrap_or(0);
        let others = (0..self.groups.len()).filter(|index| *index != first);
        let mut failed = None;
        for index in std::iter::once(first).chain(others) {
            let Some(group) = self.groups.get(index) else { continue };
            match ask(group).await {
                Ok(answer) => {
                    if let Some(host) = server.host.as_ref().filter(|_| self.groups.len() > 1) {
                        self.by_host.lock().insert(host.clone(), index);
                    }
                    return Ok(Some(answer));
                }
                Err(NovaError::Unknown) => {}
                Err(error) => drop(failed.get_or_insert_with(|| failure(group, doing, error))),
            }
        }
        // One cell says nothing of the others.
        let of_cell = |error: AskError| match error.failure {
            Failure::Unavailable if self.groups.len() > 1 => AskError { failure: Failure::OneRequest, ..error },
            _ => error,
        };
        failed.map_or(Ok(None), |error| Err(of_cell(error)))
    }

    /// Asks the endpoints that did not answer when they were last asked.
    pub(super) async fn look_after(&self) {
        // They answer the same for each instance that they do not know.
        let nobody = InstanceId(uuid::Uuid::nil());
        futures_util::future::join_all(self.groups.iter().map(|group| group.look_after(nobody))).await;
    }

    /// Forgets which instances were read: somebody else may have read them meanwhile.
    pub(super) fn forget_reads(&self) {
        *self.recent.lock() = Recent::new();
    }

    pub(super) fn state(&self) -> ServiceState {
        let sum = |count: fn(&client::Counts) -> u64| self.groups.iter().map(|group| count(group.counts())).sum();
        let in_flight = self.groups.iter().map(|group| group.counts().in_flight.load(Ordering::Relaxed)).sum();
        let endpoints = self.groups.iter().flat_map(|group| group.endpoints.states()).collect::<Vec<_>>();
        let failing = self.groups.iter().find(|group| group.endpoints.failure().is_some());
        let error = failing.and_then(|group| {
            let error = failure(group, "asking for pages", NovaError::Unavailable);
            let since =
                group.endpoints.states().into_iter().filter_map(|state| state.error).map(|(since, _)| since).max()?;
            Some((since, error.to_string()))
        });
        ServiceState {
            service: Service::Metadata,
            endpoints,
            requests: sum(|counts| counts.requests.load(Ordering::Relaxed)),
            failures: sum(|counts| counts.failures.load(Ordering::Relaxed)),
            in_flight,
            error,
            slow: self.groups.iter().filter_map(|group| group.counts().slowness.slow()).max(),
        }
    }
}

fn requester(server: &Server, doing: &str) -> Result<Requester, AskError> {
    if !client::can_be_sent(&server.project) {
        let problem = "cannot be asked: the server's project is not a possible id";
        return Err(AskError::new(Service::Metadata, doing, Failure::NotUnderstood, problem));
    }
    Ok(Requester { instance: server.id, project: server.project.clone(), address: server.requester_address() })
}

fn failure(group: &Client, doing: &str, error: NovaError) -> AskError {
    let (failure, problem) = match (error, group.endpoints.failure()) {
        (NovaError::Unavailable, Some((EndpointFailure::Secret, problem))) => (Failure::Refused, problem),
        (NovaError::Unavailable, Some((EndpointFailure::Down, problem))) => {
            (Failure::Unavailable, format!("cannot be asked: {problem}"))
        }
        (NovaError::Unavailable, None) => (Failure::Unavailable, "did not answer a moment ago".to_owned()),
        (NovaError::Unknown | NovaError::Crash | NovaError::Broken, _) => {
            (Failure::OneRequest, "does not answer for this server".to_owned())
        }
    };
    AskError::new(Service::Metadata, doing, failure, problem)
}

#[cfg(test)]
mod tests {
    use super::super::server::tests::server;
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[tokio::test(start_paused = true)]
    async fn what_stays_behind_is_so_since_it_was_first_seen_until_it_agrees_or_is_long_unread() {
        let (id, other) = (server().id, InstanceId(uuid::Uuid::from_u128(1)));
        let mut recent = Recent::new();
        let first = Instant::now();
        assert_eq!(recent.note(id, first, true), Some(first));
        for seconds in [10, 20] {
            tokio::time::advance(seconds * SECOND).await;
            recent.note(other, Instant::now(), false);
            assert_eq!(recent.note(id, Instant::now(), true), Some(first), "read after {seconds} s");
        }
        assert_eq!(recent.note(id, Instant::now(), false), None);
        let second = Instant::now();
        assert_eq!(recent.note(id, second, true), Some(second));
        tokio::time::advance(40 * SECOND).await;
        recent.note(other, Instant::now(), false);
        let third = Instant::now();
        assert_eq!(recent.note(id, third, true), Some(third));
    }
}
