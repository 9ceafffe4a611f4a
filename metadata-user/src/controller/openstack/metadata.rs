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
use crate::backoff::{self, Backoff};
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
/// When to look again whether the cache is over. Short at first: the operator may have set it to a second.
const LOOKS: Backoff = Backoff::new(Duration::from_millis(150), Duration::from_secs(3), 20);
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
    /// Looks in a row at a cache that was not over.
    looks: u32,
}

impl Recent {
    fn new() -> Self {
        let now = Instant::now();
        Self { started: now, cleared: now, reads: HashMap::new() }
    }

    /// Returns until when Nova may answer what was before `when`: a read before then has filled its cache. Who read before this process
    /// began is not known.
    fn stale_until(&self, id: InstanceId, when: Instant) -> Instant {
        let reads = self.reads.get(&id).into_iter().flat_map(|reads| &reads.at);
        let last = reads.copied().filter(|at| *at < when).max();
        last.unwrap_or(self.started) + CACHE
    }

    fn note(&mut self, id: InstanceId) {
        let now = Instant::now();
        if now.duration_since(self.cleared) > CACHE {
            self.cleared = now;
            self.reads.retain(|_, reads| reads.at.iter().any(|at| now.duration_since(*at) < CACHE));
        }
        let reads = self.reads.entry(id).or_default();
        reads.at.retain(|at| now.duration_since(*at) < CACHE);
        reads.at.push(now);
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
        let now = Instant::now();
        let (until, looks) = {
            let mut recent = self.recent.lock();
            let until = recent.stale_until(server.id, server.read_at);
            recent.note(server.id);
            let looks = recent.reads.get(&server.id).map_or(0, |reads| reads.looks);
            (until, looks)
        };
        let Some(read) = read else { return Ok(Reading::Unknown) };
        let behind = match &read {
            Ok(pages) => freshness::behind(server, pages),
            Err(what) => Some(*what),
        };
        // Somebody else may have read it before: then the cache ends this long after the server was read.
        let limit = until.max(server.read_at + CACHE);
        if let Some(what) = behind
            && limit > now
        {
            self.set_looks(server.id, looks.saturating_add(1));
            let again_after = LOOKS.delay(looks.saturating_add(1), backoff::random()).min(limit - now);
            debug!(instance = %server.id, what, ?again_after, "Nova's metadata API answers from its cache what was before");
            return Ok(Reading::Stale { again_after, what });
        }
        self.set_looks(server.id, 0);
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
        failed.map_or(Ok(None), Err)
    }

    fn set_looks(&self, id: InstanceId, looks: u32) {
        if let Some(reads) = self.recent.lock().reads.get_mut(&id) {
            reads.looks = looks;
        }
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
            (Failure::Unavailable, "does not answer for this server".to_owned())
        }
    };
    AskError::new(Service::Metadata, doing, failure, problem)
}
