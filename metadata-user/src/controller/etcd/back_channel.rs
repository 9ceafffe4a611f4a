//! Passwords that guests post, on their way to Nova: the controller's half of the back channel.
//!
//! Promises:
//! - each password that is not answered yet is returned once in a term, also those that were posted before it, and while etcd was
//!   away;
//! - an answer is written only by the leader, only for the request that it answers, and goes with it.
//!
//! Left out: posting to Nova. The node's half, and the form of keys and values: `source/etcd/passwords.rs`.

use std::collections::{HashMap, VecDeque};
use std::fmt;

use etcd_client::{Compare, CompareOp, EventType, GetOptions, KeyValue, PutOptions, TxnOp};

use super::election::Term;
use super::transaction::SendError;
use super::writer::WriteError;
use crate::api::{Password, Written};
use crate::record::InstanceId;
use crate::source::etcd::cluster::{Cluster, ClusterError, Watch, after};
use crate::source::etcd::passwords::{Answer, Name, Posted, answer_key, key, prefix};

/// A password that a guest posted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// The node that the guest is on.
    pub node: String,
    /// The guest's instance.
    pub instance: InstanceId,
    /// The path that the guest posted it to.
    pub path: String,
    /// The password; its `Debug` output does not show it.
    pub password: Password,
    /// The key's `mod_revision`.
    revision: i64,
    /// The key's lease.
    lease: i64,
}

/// The passwords that wait for an answer, as they come.
pub struct Requests {
    cluster: Cluster,
    watch: Option<Watch>,
    /// Where the next watch begins; `None`: everything is to be read.
    next: Option<i64>,
    ready: VecDeque<Request>,
    /// Keys that were returned, or are ready, with their revisions.
    seen: HashMap<Vec<u8>, i64>,
}

impl fmt::Debug for Requests {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Requests").field("ready", &self.ready.len()).finish_non_exhaustive()
    }
}

/// Returns the passwords that wait for an answer: those that are there, and every one that comes. Made anew in each term.
#[must_use]
pub fn requests(cluster: &Cluster) -> Requests {
    Requests { cluster: cluster.clone(), watch: None, next: None, ready: VecDeque::new(), seen: HashMap::new() }
}

impl Requests {
    /// Waits for the next one. Cancel-safe.
    ///
    /// # Errors
    /// [`ClusterError`] if etcd cannot be reached, or refuses. The next call goes on where this one failed, and none is lost.
    pub async fn next(&mut self) -> Result<Request, ClusterError> {
        loop {
            if let Some(request) = self.ready.pop_front() {
                return Ok(request);
            }
            match self.read_more().await {
                Err(error) if error.is_compacted() => {
                    self.watch = None;
                    self.next = None;
                }
                read => read?,
            }
        }
    }

    async fn read_more(&mut self) -> Result<(), ClusterError> {
        let prefix = prefix(self.cluster.settings());
        let from = match self.next {
            Some(from) => from,
            None => self.read_all(&prefix).await?,
        };
        if self.watch.is_none() {
            self.watch = Some(self.cluster.watch(&prefix, after(&prefix), from).await?);
        }
        let Some(watch) = &mut self.watch else { return Ok(()) };
        let events = match watch.next().await {
            Ok(events) => events,
            Err(error) => {
                self.watch = None;
                return Err(error);
            }
        };
        self.next = Some(watch.reached() + 1);
        for event in events {
            let Some(pair) = event.kv() else { continue };
            match event.event_type() {
                EventType::Put => self.take(pair, &prefix),
                EventType::Delete => drop(self.seen.remove(pair.key())),
            }
        }
        Ok(())
    }

    /// Reads all that are there, and returns the revision after it.
    async fn read_all(&mut self, prefix: &str) -> Result<i64, ClusterError> {
        let answer = self
            .cluster
            .request(self.cluster.limit(), |mut client| {
                let options = GetOptions::new().with_range(after(prefix));
                let prefix = prefix.to_owned();
                async move { client.get(prefix, Some(options)).await }
            })
            .await?;
        let next = answer.header().map_or(0, |header| header.revision()) + 1;
        let answers: HashMap<_, _> = answer.kvs().iter().filter_map(|pair| answered(pair, prefix)).collect();
        for pair in answer.kvs() {
            if answers.get(pair.key()) != Some(&pair.mod_revision()) {
                self.take(pair, prefix);
            }
        }
        let is_there: HashMap<_, _> = answer.kvs().iter().map(|pair| (pair.key(), ())).collect();
        self.seen.retain(|key, _| is_there.contains_key(&**key));
        self.next = Some(next);
        Ok(next)
    }

    /// Takes a key in, unless it was before.
    fn take(&mut self, pair: &KeyValue, prefix: &str) {
        let Some(Name::Password(node, instance)) = Name::of(pair.key(), prefix) else { return };
        let (revision, lease) = (pair.mod_revision(), pair.lease());
        // What holds no password was not written by a node of ours: it goes with its lease, or stays.
        let Some(Posted { path, password }) = Posted::read(pair.value()) else { return };
        if self.seen.insert(pair.key().to_vec(), revision) != Some(revision) {
            self.ready.push_back(Request { node: node.to_owned(), instance, path, password, revision, lease });
        }
    }
}

/// Returns the key that an answer is for, and the revision of that.
fn answered(pair: &KeyValue, prefix: &str) -> Option<(Vec<u8>, i64)> {
    let Some(Name::Answer(of)) = Name::of(pair.key(), prefix) else { return None };
    Some((of.as_bytes().to_vec(), Answer::read(pair.value())?.request))
}

/// Answers a request, and so the guest. Returns whether the request was still there.
///
/// # Errors
/// [`WriteError::NotLeader`], [`WriteError::Etcd`].
pub async fn answer(term: &Term, request: &Request, written: Written) -> Result<bool, WriteError> {
    let own = key(term.cluster().settings(), &request.node, request.instance);
    let value = Answer { request: request.revision, written }.write();
    let is_there = Compare::mod_revision(own.clone(), CompareOp::Equal, request.revision);
    let put = TxnOp::put(answer_key(&own), value, Some(PutOptions::new().with_lease(request.lease)));
    match term.send(&[is_there], &[put], &[]).await {
        Ok(sent) => Ok(sent.succeeded),
        // The request went with its lease in between.
        Err(SendError::Etcd(error)) if error.is_without_lease() => Ok(false),
        Err(error) => Err(error.into()),
    }
}
