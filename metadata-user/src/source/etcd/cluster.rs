//! Single requests to a cluster, each to the member that answered last: for the controller, and for what nodes write.
//!
//! Promises:
//! - one connection, shared by all clones; a member that fails, hangs or has lost its cluster is left for the next;
//! - every attempt is bounded in time, and so is every request: one attempt for each member, and one more;
//! - the state says which member is in use, or why there is none, and since when.
//!
//! Left out: following changes (`follow`); repeating what is not safe to repeat: [`Cluster::attempt`] is one attempt.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use etcd_client::{Client, Error as ClientError, Event, WatchOptions, WatchStream};
use parking_lot::Mutex;
use tokio::sync::{Mutex as AsyncMutex, watch};
use tracing::{debug, warn};

use super::connect::{self, ConnectError, Credentials};
use super::error::EtcdError;
use crate::config::etcd::Etcd;
use crate::error_text;

/// Largest answer that is received: a document of the largest size, with room for its envelope.
pub(crate) const LARGEST_ANSWER: usize = 24 << 20;

/// A cluster. Clones share the connection.
#[derive(Clone, Debug)]
pub struct Cluster(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    settings: Etcd,
    connection: AsyncMutex<Connection>,
    /// How often a member was left.
    left: watch::Sender<u64>,
    state: Mutex<ClusterState>,
    /// Endpoints that have not answered since one last did.
    silent: Mutex<BTreeSet<String>>,
}

#[derive(Debug, Default)]
struct Connection {
    member: usize,
    client: Option<Open>,
}

/// The client library's own type has no `Debug`.
struct Open(Client);

impl std::fmt::Debug for Open {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Client(..)")
    }
}

/// How the connection to a cluster is doing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClusterState {
    /// URL of the member that answered last.
    pub endpoint: Option<String>,
    /// Why requests fail, with the remedy, and since when; `None`: the last one succeeded, or none was sent.
    pub error: Option<(SystemTime, String)>,
}

/// Why a request to etcd failed. Its text has the remedy.
#[derive(Debug, thiserror::Error)]
#[error("etcd: {text}")]
pub struct ClusterError {
    text: String,
    /// Who is at fault.
    endpoint: Option<String>,
    trouble: Option<EtcdError>,
    was_sent: bool,
}

impl ClusterError {
    fn of(endpoint: &str, trouble: EtcdError) -> Self {
        let text = match &trouble {
            EtcdError::PermissionDenied(prefix) => {
                format!("permission denied: grant the user's role what docs/etcd.md has for it, under {prefix}/")
            }
            trouble => format!("{endpoint}: {trouble}"),
        };
        Self { text, endpoint: Some(endpoint.to_owned()), trouble: Some(trouble), was_sent: true }
    }

    fn of_connection(error: &ConnectError) -> Self {
        let (endpoint, trouble) = match error {
            ConnectError::Endpoint { endpoint, trouble } => (Some(endpoint.clone()), Some(trouble.clone())),
            _ => (None, None),
        };
        Self { text: error_text::chain(error), endpoint, trouble, was_sent: false }
    }

    /// The wait for an answer was ended.
    pub(crate) fn interrupted(why: &str) -> Self {
        Self { text: why.to_owned(), endpoint: None, trouble: None, was_sent: true }
    }

    /// Returns whether the request, or its answer, is too large for etcd.
    #[must_use]
    pub fn is_too_large(&self) -> bool {
        self.trouble == Some(EtcdError::TooLarge)
    }

    /// Returns whether the user's role does not allow the request, or the user is not one of etcd's.
    #[must_use]
    pub fn is_refused(&self) -> bool {
        matches!(
            self.trouble,
            Some(EtcdError::PermissionDenied(_) | EtcdError::WrongPassword(_) | EtcdError::NoUser(_))
        )
    }

    /// Returns whether another member may answer the request.
    pub(crate) fn is_of_member(&self) -> bool {
        self.trouble.as_ref().is_some_and(EtcdError::is_of_member)
    }

    /// Returns whether a request that writes may have been carried out all the same, now or later.
    pub(crate) fn is_ambiguous(&self) -> bool {
        let refused = [EtcdError::TooLarge, EtcdError::LoggedOut];
        self.was_sent && !self.is_refused() && !self.trouble.as_ref().is_some_and(|trouble| refused.contains(trouble))
    }

    /// Returns whether there is no such lease.
    pub(crate) fn is_without_lease(&self) -> bool {
        matches!(&self.trouble, Some(EtcdError::Other(text)) if text.contains("lease not found"))
    }

    /// Returns whether the revision that was asked for is compacted.
    pub(crate) fn is_compacted(&self) -> bool {
        self.trouble == Some(EtcdError::Compacted)
    }
}

/// A connection in use: how often a member was left before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Generation(u64);

impl Cluster {
    /// Prepares to send requests to the cluster; nothing is sent yet.
    #[must_use]
    pub fn new(settings: &Etcd) -> Self {
        Self(Arc::new(Shared {
            settings: settings.clone(),
            connection: AsyncMutex::default(),
            left: watch::Sender::new(0),
            state: Mutex::default(),
            silent: Mutex::default(),
        }))
    }

    /// Connects to the first member that answers and has a leader.
    ///
    /// # Errors
    /// [`ClusterError`] if there is none, or a file that is needed cannot be read.
    pub async fn connect(settings: &Etcd) -> Result<Self, ClusterError> {
        let cluster = Self::new(settings);
        cluster.request(cluster.limit(), |mut client| async move { client.status().await }).await?;
        Ok(cluster)
    }

    /// Returns how the connection is doing.
    #[must_use]
    pub fn state(&self) -> ClusterState {
        self.0.state.lock().clone()
    }

    pub(crate) fn settings(&self) -> &Etcd {
        &self.0.settings
    }

    /// Returns how long one attempt may take.
    pub(crate) fn limit(&self) -> Duration {
        self.0.settings.connect_timeout + self.0.settings.request_timeout
    }

    /// Sends a request, which is safe to repeat: to one member after the other, until one answers. Each attempt takes at
    /// most so long.
    pub(crate) async fn request<T, F>(
        &self,
        limit: Duration,
        ask: impl Fn(Client) -> F + Sync,
    ) -> Result<T, ClusterError>
    where
        F: Future<Output = Result<T, ClientError>> + Send,
    {
        let mut attempts = self.0.settings.endpoints.len();
        loop {
            match self.attempt(limit, &ask).await {
                Err(error) if error.is_of_member() && attempts > 0 => attempts -= 1,
                answer => return answer,
            }
        }
    }

    /// Sends a request once. If the member is at fault, the next attempt is at another.
    pub(crate) async fn attempt<T, F>(
        &self,
        limit: Duration,
        ask: impl Fn(Client) -> F + Sync,
    ) -> Result<T, ClusterError>
    where
        F: Future<Output = Result<T, ClientError>> + Send,
    {
        let (client, endpoint, generation) = self.client(limit).await?;
        let trouble = match tokio::time::timeout(limit, ask(client)).await {
            Ok(Ok(answer)) => {
                self.answered(&endpoint);
                return Ok(answer);
            }
            Ok(Err(error)) => EtcdError::of(&error, self.0.settings.table, &self.0.settings.prefix),
            Err(_) => EtcdError::Silent,
        };
        Err(self.at_fault(ClusterError::of(&endpoint, trouble), generation).await)
    }

    /// Connects to the member in use once more, for requests that wait for as long as it takes. The connection is to be
    /// given up when [`Self::left`] resolves.
    pub(crate) async fn patient(&self) -> Result<(Client, Generation), ClusterError> {
        let (_, endpoint, generation) = self.client(self.limit()).await?;
        let credentials = self.credentials()?;
        match connect::connect_patiently(&self.0.settings, &endpoint, &credentials).await {
            Ok(client) => Ok((client, generation)),
            Err(error) => {
                self.leave(generation).await;
                Err(self.failed(ClusterError::of_connection(&error)))
            }
        }
    }

    /// Waits until the member of a connection is left.
    pub(crate) async fn left(&self, generation: Generation) {
        let mut left = self.0.left.subscribe();
        // The sender is in `self`.
        let _ = left.wait_for(|now| *now != generation.0).await;
    }

    /// Classifies an error of a request over [`Self::patient`]'s connection, and leaves the member if it is at fault.
    pub(crate) async fn note(&self, error: &ClientError, generation: Generation) -> ClusterError {
        let trouble = EtcdError::of(error, self.0.settings.table, &self.0.settings.prefix);
        let endpoint = self.state().endpoint.unwrap_or_default();
        self.at_fault(ClusterError::of(&endpoint, trouble), generation).await
    }

    /// Leaves the member of a connection, if an error is its fault.
    async fn at_fault(&self, error: ClusterError, generation: Generation) -> ClusterError {
        if !error.is_of_member() {
            return error;
        }
        self.leave(generation).await;
        self.failed(error)
    }

    async fn ended(&self, generation: Generation) -> ClusterError {
        let trouble = EtcdError::Unreachable("the member ended the watch".to_owned());
        self.leave(generation).await;
        self.failed(ClusterError::of(&self.state().endpoint.unwrap_or_default(), trouble))
    }

    /// Watches the keys from `start` up to `end`, from a revision on.
    pub(crate) async fn watch(&self, start: &str, end: Vec<u8>, revision: i64) -> Result<Watch, ClusterError> {
        let generation = Generation(*self.0.left.borrow());
        let stream = self
            .attempt(self.limit(), |client| {
                let mut client = client.watch_client().max_decoding_message_size(LARGEST_ANSWER);
                let options = WatchOptions::new().with_range(end.clone()).with_start_revision(revision);
                let start = start.to_owned();
                async move { client.watch(start, Some(options)).await }
            })
            .await?;
        Ok(Watch { cluster: self.clone(), generation, stream, reached: revision - 1 })
    }

    fn credentials(&self) -> Result<Credentials, ClusterError> {
        Credentials::read(&self.0.settings).map_err(|error| self.failed(ClusterError::of_connection(&error)))
    }

    async fn client(&self, limit: Duration) -> Result<(Client, String, Generation), ClusterError> {
        let mut connection = self.0.connection.lock().await;
        let endpoint = self.0.settings.endpoints.get(connection.member).cloned().unwrap_or_default();
        let generation = Generation(*self.0.left.borrow());
        if let Some(Open(client)) = &connection.client {
            return Ok((client.clone(), endpoint, generation));
        }
        let credentials = self.credentials()?;
        let connecting = connect::connect_to(&self.0.settings, &endpoint, &credentials);
        let connected = match tokio::time::timeout(limit, connecting).await {
            Ok(connected) => connected,
            Err(_) => Err(ConnectError::Endpoint { endpoint: endpoint.clone(), trouble: EtcdError::Silent }),
        };
        match connected {
            Ok(client) => {
                debug!(endpoint, "connected to etcd");
                connection.client = Some(Open(client.clone()));
                Ok((client, endpoint, generation))
            }
            Err(error) => {
                self.next(&mut connection);
                drop(connection);
                Err(self.failed(ClusterError::of_connection(&error)))
            }
        }
    }

    /// Leaves the member of a connection, unless somebody else has.
    async fn leave(&self, generation: Generation) {
        let mut connection = self.0.connection.lock().await;
        if *self.0.left.borrow() == generation.0 {
            self.next(&mut connection);
        }
    }

    fn next(&self, connection: &mut Connection) {
        connection.member = (connection.member + 1) % self.0.settings.endpoints.len().max(1);
        connection.client = None;
        self.0.left.send_modify(|left| *left += 1);
    }

    fn answered(&self, endpoint: &str) {
        self.0.silent.lock().clear();
        let mut state = self.0.state.lock();
        if state.endpoint.as_deref() != Some(endpoint) {
            state.endpoint = Some(endpoint.to_owned());
        }
        state.error = None;
    }

    /// Notes an error, and says in it if the members that do not answer are too many for a quorum.
    fn failed(&self, mut error: ClusterError) -> ClusterError {
        let all = self.0.settings.endpoints.len();
        let mut silent = self.0.silent.lock();
        let had_quorum = is_quorum(all, silent.len());
        if let (Some(endpoint), Some(EtcdError::Unreachable(_) | EtcdError::Silent)) = (&error.endpoint, &error.trouble)
        {
            silent.insert(endpoint.clone());
        }
        let has_quorum = is_quorum(all, silent.len());
        if all > 1 && !has_quorum {
            let silent = silent.len();
            error.text = format!("{silent} of {all} members do not answer, so there is no quorum; {}", error.text);
        }
        drop(silent);
        let mut state = self.0.state.lock();
        let since = state.error.as_ref().map_or_else(SystemTime::now, |(since, _)| *since);
        let is_new = state.error.as_ref().is_none_or(|(_, text)| *text != error.text);
        if is_new && (had_quorum || has_quorum) {
            warn!("{error}");
        }
        state.error = Some((since, error.text.clone()));
        error
    }
}

/// Returns whether the members that are left may be a majority.
fn is_quorum(all: usize, silent: usize) -> bool {
    all - silent > all / 2
}

/// Changes of some keys, as they happen.
pub(crate) struct Watch {
    cluster: Cluster,
    generation: Generation,
    stream: WatchStream,
    reached: i64,
}

impl Watch {
    /// Returns the next changes; none with a message that has none. Cancel-safe.
    pub(crate) async fn next(&mut self) -> Result<Vec<Event>, ClusterError> {
        let message = match self.stream.message().await {
            Ok(Some(message)) => message,
            Ok(None) => return Err(self.cluster.ended(self.generation).await),
            Err(error) => return Err(self.cluster.note(&error, self.generation).await),
        };
        if message.canceled() {
            let settings = self.cluster.settings();
            let trouble = match message.compact_revision() {
                0 => EtcdError::of_text(message.cancel_reason(), settings.table, &settings.prefix),
                _ => EtcdError::Compacted,
            };
            return Err(ClusterError::of(&self.cluster.state().endpoint.unwrap_or_default(), trouble));
        }
        let events = message.events().to_vec();
        let revisions = events.iter().filter_map(|event| event.kv()).map(etcd_client::KeyValue::mod_revision);
        self.reached = revisions.fold(self.reached, i64::max);
        Ok(events)
    }

    /// Returns the revision up to which changes were returned.
    pub(crate) fn reached(&self) -> i64 {
        self.reached
    }
}

/// Returns the first key after all that start with `prefix`, which ends with a slash.
pub(crate) fn after(prefix: &str) -> Vec<u8> {
    let mut key = prefix.trim_end_matches('/').as_bytes().to_vec();
    key.push(b'/' + 1);
    key
}
