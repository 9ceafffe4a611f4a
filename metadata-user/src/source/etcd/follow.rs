//! Following etcd: one session after another, each with one member.
//!
//! A session logs in, asks for the cluster's state, reads everything if it cannot resume, and watches from the next
//! revision on. It ends at the first failure, and the next one begins with the next member. So one path handles a member
//! that is dead, hangs (keep-alive pings go unanswered), has lost its cluster (`hasleader`), has dropped the login or
//! belongs to another cluster. Nothing is polled: changes come from a watch.

use std::cell::RefCell;
use std::convert::Infallible;
use std::time::{Duration, Instant, SystemTime};

use etcd_client::{
    Client, EventType, GetOptions, GetResponse, KvClient, ResponseHeader, WatchOptions, WatchResponse, WatchStream,
};
use tracing::debug;

use super::cluster::{LARGEST_ANSWER, after};
use super::connect::{self, Credentials};
use super::error::EtcdError;
use super::mirror::{Mirror, Position};
use super::rotation::Rotation;
use crate::backoff;
use crate::config::etcd::Etcd;
use crate::error_text;
use crate::readiness::Blocker;
use crate::source::SourceView;

/// Documents in the first page. The size of later pages is chosen to come to about [`PAGE`].
const FIRST_PAGE: i64 = 64;
const MOST_IN_PAGE: i64 = 1000;
/// Target size of a page, in bytes. Far below what delays other users of the member.
const PAGE: usize = 2 << 20;
/// A session that lasted this long counts as a success, however it ended.
const LASTED: Duration = Duration::from_secs(3);

/// What a session works with.
pub(super) struct Follower {
    pub(super) settings: Etcd,
    pub(super) prefix: String,
    pub(super) mirror: RefCell<Mirror>,
    pub(super) state: SourceView,
}

impl Follower {
    /// Follows etcd; never completes. `first_scan` is dropped when everything was read, or every member failed.
    pub(super) async fn run(&self, first_scan: Blocker) -> Infallible {
        let mut first_scan = Some(first_scan);
        let members = self.settings.endpoints.len();
        let mut rotation = Rotation::new(members, backoff::random());
        let mut troubles: Vec<Option<String>> = vec![None; members];
        loop {
            let member = rotation.at();
            let mut established = None;
            let trouble = match self.session(member, &mut established, &mut first_scan).await {
                Ok(never) => match never {},
                Err(trouble) => trouble,
            };
            debug!(endpoint = self.settings.endpoints[member], "session with etcd ended: {trouble}");
            if established.is_some_and(|at: Instant| at.elapsed() >= LASTED) {
                rotation.succeeded();
                troubles.fill(None);
            }
            let wait = rotation.failed(backoff::random());
            self.failed(member, &trouble);
            troubles[member] = Some(trouble);
            if rotation.is_exhausted() || rotation.all_failed() {
                self.mirror.borrow_mut().unavailable(self.summary(&troubles));
                drop(first_scan.take());
            }
            self.publish();
            tokio::time::sleep(wait).await;
        }
    }

    /// Applies the operator's confirmation that the cluster is authoritative.
    pub(super) fn accept(&self) -> Option<usize> {
        let count = self.mirror.borrow_mut().accept();
        self.publish();
        count
    }

    fn publish(&self) {
        let state = self.mirror.borrow().state();
        self.state.publish(state);
    }

    /// Returns a message with each distinct error once, after the members that have it.
    fn summary(&self, troubles: &[Option<String>]) -> String {
        let mut errors: Vec<(&str, Vec<&str>)> = Vec::new();
        for (url, trouble) in self.settings.endpoints.iter().zip(troubles) {
            let Some(trouble) = trouble else { continue };
            match errors.iter_mut().find(|(known, _)| known == trouble) {
                Some((_, urls)) => urls.push(url),
                None => errors.push((trouble, vec![url])),
            }
        }
        let errors = errors.iter().map(|(trouble, urls)| format!("{}: {trouble}", urls.join(", ")));
        format!("etcd cannot be read: {}", errors.collect::<Vec<_>>().join("; "))
    }

    fn failed(&self, member: usize, trouble: &str) {
        let mut mirror = self.mirror.borrow_mut();
        mirror.abort_load();
        mirror.lags();
        let endpoint = &mut mirror.endpoints[member];
        endpoint.in_use = false;
        let since = endpoint.error.as_ref().map_or_else(SystemTime::now, |(since, _)| *since);
        endpoint.error = Some((since, trouble.to_owned()));
    }

    fn answered(&self, member: usize) {
        let endpoint = &mut self.mirror.borrow_mut().endpoints[member];
        endpoint.answered_at = Some(SystemTime::now());
    }

    /// One session with a member; returns what ended it.
    async fn session(
        &self,
        member: usize,
        established: &mut Option<Instant>,
        first_scan: &mut Option<Blocker>,
    ) -> Result<Infallible, String> {
        let url = &self.settings.endpoints[member];
        let credentials = Credentials::read(&self.settings).map_err(|error| error_text::chain(&error))?;
        let connected = connect::connect_to(&self.settings, url, &credentials).await;
        // The caller adds the member's URL.
        let client = connected.map_err(|error| match error {
            connect::ConnectError::Endpoint { trouble, .. } => trouble.to_string(),
            error => error_text::chain(&error),
        })?;
        loop {
            match self.read_and_watch(&client, member, established, first_scan).await {
                Ok(never) => match never {},
                // Read everything again.
                Err(EtcdError::Compacted | EtcdError::TooLarge) => {
                    let mut mirror = self.mirror.borrow_mut();
                    mirror.abort_load();
                    mirror.lags();
                    mirror.read_again();
                }
                Err(trouble) => return Err(trouble.to_string()),
            }
        }
    }

    async fn read_and_watch(
        &self,
        client: &Client,
        member: usize,
        established: &mut Option<Instant>,
        first_scan: &mut Option<Blocker>,
    ) -> Result<Infallible, EtcdError> {
        let mut kv = client.kv_client().max_decoding_message_size(LARGEST_ANSWER);
        // A member that has a leader answers this with the cluster's current state.
        let answer = self.get(&mut kv, self.prefix.as_str(), self.range().with_limit(1).with_keys_only()).await?;
        self.answered(member);
        let now = position(answer.header())?;
        let resumes_at = self.mirror.borrow().resumes_at(now);
        let revision = match resumes_at {
            Some(revision) => revision,
            None => self.load(&mut kv, member).await?,
        };
        let mut watch = self.watch(client, revision + 1).await?;
        loop {
            let message =
                watch.message().await.map_err(|error| EtcdError::of(&error, self.settings.table, &self.prefix))?;
            let message = message.ok_or_else(|| EtcdError::Unreachable("the member ended the watch".to_owned()))?;
            self.answered(member);
            self.take(&message)?;
            if message.created() {
                *established = Some(Instant::now());
                let mut mirror = self.mirror.borrow_mut();
                mirror.in_step();
                mirror.endpoints[member].in_use = true;
                mirror.endpoints[member].error = None;
                drop(first_scan.take());
            }
            self.publish();
        }
    }

    /// Reads everything at one revision, and returns that revision.
    async fn load(&self, kv: &mut KvClient, member: usize) -> Result<i64, EtcdError> {
        let (mut limit, mut start, mut revision) = (FIRST_PAGE, self.prefix.clone().into_bytes(), None);
        loop {
            let mut options = self.range().with_limit(limit);
            if let Some(revision) = revision {
                // The first request was linearizable, so this member has the revision itself.
                options = options.with_revision(revision).with_serializable();
            }
            let (mut page, names_only) = match self.get(kv, start.clone(), options.clone()).await {
                Err(EtcdError::TooLarge) if limit > 1 => {
                    limit = (limit / 4).max(1);
                    continue;
                }
                // One document alone is too large.
                Err(EtcdError::TooLarge) => {
                    let names = self.get(kv, start.clone(), options.with_keys_only()).await?;
                    (names, true)
                }
                page => (page?, false),
            };
            self.answered(member);
            let position = position(page.header())?;
            let at = *revision.get_or_insert_with(|| {
                self.mirror.borrow_mut().begin_load(position);
                position.revision
            });
            let more = page.more();
            let mut bytes = 0;
            for entry in page.take_kvs() {
                let (key, value) = entry.into_key_value();
                bytes += value.len();
                let mut mirror = self.mirror.borrow_mut();
                if names_only {
                    mirror.put_unreceived(&key);
                } else {
                    mirror.put(&key, &value);
                }
                start = key;
                start.push(0);
            }
            if !more {
                self.mirror.borrow_mut().end_load();
                return Ok(at);
            }
            self.publish();
            limit = match bytes {
                bytes if bytes > PAGE => (limit / 2).max(1),
                bytes if bytes < PAGE / 2 => (limit * 2).min(MOST_IN_PAGE),
                _ => limit,
            };
        }
    }

    fn range(&self) -> GetOptions {
        GetOptions::new().with_range(after(&self.prefix))
    }

    async fn get(
        &self,
        kv: &mut KvClient,
        key: impl Into<Vec<u8>>,
        options: GetOptions,
    ) -> Result<GetResponse, EtcdError> {
        self.in_time(kv.get(key, Some(options))).await
    }

    async fn watch(&self, client: &Client, revision: i64) -> Result<WatchStream, EtcdError> {
        let mut client = client.watch_client().max_decoding_message_size(LARGEST_ANSWER);
        let options =
            WatchOptions::new().with_range(after(&self.prefix)).with_start_revision(revision).with_progress_notify();
        self.in_time(client.watch(self.prefix.as_str(), Some(options))).await
    }

    /// The client's own time-out does not cover an answer's body.
    async fn in_time<T>(&self, request: impl Future<Output = Result<T, etcd_client::Error>>) -> Result<T, EtcdError> {
        match tokio::time::timeout(self.settings.connect_timeout + self.settings.request_timeout, request).await {
            Ok(answer) => answer.map_err(|error| EtcdError::of(&error, self.settings.table, &self.prefix)),
            Err(_) => Err(EtcdError::Silent),
        }
    }

    /// Applies a response of the watch.
    fn take(&self, message: &WatchResponse) -> Result<(), EtcdError> {
        if message.canceled() {
            return Err(match message.compact_revision() {
                0 => EtcdError::of_text(message.cancel_reason(), self.settings.table, &self.prefix),
                _ => EtcdError::Compacted,
            });
        }
        let mut mirror = self.mirror.borrow_mut();
        let mut reached = 0;
        for event in message.events() {
            let Some(entry) = event.kv() else { continue };
            match event.event_type() {
                EventType::Put => mirror.put(entry.key(), entry.value()),
                EventType::Delete => mirror.delete(entry.key()),
            }
            reached = reached.max(entry.mod_revision());
        }
        // A progress notification means that everything up to its revision has arrived; except one that was requested
        // (it has no watch id), and the first message, which may precede the events it refers to.
        let is_progress = message.events().is_empty() && !message.created() && message.watch_id() >= 0;
        if let Some(header) = message.header().filter(|_| is_progress) {
            reached = header.revision();
        }
        mirror.reached(reached);
        Ok(())
    }
}

fn position(header: Option<&ResponseHeader>) -> Result<Position, EtcdError> {
    let header = header.ok_or_else(|| EtcdError::Other("an answer without a header".to_owned()))?;
    Ok(Position { cluster: header.cluster_id(), revision: header.revision() })
}
