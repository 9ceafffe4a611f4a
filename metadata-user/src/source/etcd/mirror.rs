//! The keys under the node's prefix, and which of their documents are served. No network and no waiting: the caller
//! passes in what arrived.
//!
//! Promises:
//! - a key with an unusable value keeps the last good version of its instance, and is reported once per content;
//! - a key that is deleted ends its instance at once, and so does one that a full answer lacks;
//! - but only if the answer is from the cluster that the content came from, and not from an earlier state of it.
//!
//! ## Another cluster
//! A cluster that was restored, replaced or confused with another one answers like the right one. What such an answer
//! *has* was written for this node and is taken: it is as explicit as it was before, and serving something older would be
//! wrong if the change was intended. What it *lacks* proves nothing: an empty or half-filled cluster lacks everything. So
//! those instances stay served, unconfirmed, until their key is written or deleted, the former cluster is back, or
//! the operator accepts. If a new document claims the tap of an unconfirmed instance, neither is served: an ambiguous
//! identity is never resolved by a guess. Until then the state names the former cluster, so that a daemon that starts
//! from the node's snapshot asks for the same confirmation again.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::Arc;
use std::time::SystemTime;

use tracing::{debug, info, warn};

use crate::record::{InstanceId, InstanceRecord};
use crate::source::refusal::Refusal;
use crate::source::wire::{DocumentError, MAX_DOCUMENT};
use crate::source::{EndpointState, Restored, SourceState};
use crate::store::Store;

/// Reads a document.
pub(super) type Parse = fn(&[u8]) -> Result<InstanceRecord, DocumentError>;

/// A state of a cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Position {
    pub(super) cluster: u64,
    pub(super) revision: i64,
}

impl Position {
    /// Whether this can be a later state of the same cluster, or the same state.
    fn follows(self, earlier: Self) -> bool {
        self.cluster == earlier.cluster && self.revision >= earlier.revision
    }
}

/// A full read in progress.
#[derive(Debug)]
struct Load {
    position: Position,
    seen: HashSet<InstanceId>,
    refused: BTreeSet<String>,
}

#[derive(Debug)]
pub(super) struct Mirror {
    /// What every key starts with; a key's name is the rest.
    prefix: String,
    parse: Parse,
    store: Arc<Store>,
    refusals: BTreeMap<String, Refusal>,
    load: Option<Load>,
    /// The state that was read, and followed since.
    position: Option<Position>,
    /// Whether the watch cannot resume from there.
    must_load: bool,
    /// The cluster state that the content is from. Differs from `position` while there are unconfirmed instances.
    origin: Option<Restored>,
    /// Instances of `origin` that the present cluster lacks.
    unconfirmed: BTreeSet<InstanceId>,
    synced_at: Option<SystemTime>,
    changed_at: Option<SystemTime>,
    loads: u64,
    /// Why etcd cannot be read, and since when it is not followed.
    trouble: Option<String>,
    lagging_since: Option<SystemTime>,
    pub(super) endpoints: Vec<EndpointState>,
}

impl Mirror {
    pub(super) fn new(
        prefix: String,
        parse: Parse,
        store: Arc<Store>,
        restored: Option<Restored>,
        urls: &[String],
    ) -> Self {
        let endpoint = |url: &String| EndpointState { url: url.clone(), in_use: false, answered_at: None, error: None };
        Self {
            prefix,
            parse,
            store,
            refusals: BTreeMap::new(),
            load: None,
            position: None,
            must_load: false,
            origin: restored,
            unconfirmed: BTreeSet::new(),
            synced_at: None,
            changed_at: None,
            loads: 0,
            trouble: None,
            lagging_since: None,
            endpoints: urls.iter().map(endpoint).collect(),
        }
    }

    pub(super) fn state(&self) -> SourceState {
        let broken = self.refusals.iter().map(|(name, refusal)| {
            let serves_last_good = name.parse().is_ok_and(|id| self.store.get(id).is_some());
            refusal.shown(format!("{}{name}", self.prefix), serves_last_good)
        });
        let errors: Vec<_> = self.question().into_iter().chain(self.trouble.clone()).collect();
        let origin = self.origin.clone().unwrap_or_default();
        SourceState {
            synced_at: self.synced_at,
            instances: self.store.len(),
            broken: broken.collect(),
            error: (!errors.is_empty()).then(|| errors.join("; also: ")),
            lagging_since: self.lagging_since,
            changed_at: self.changed_at,
            revision: origin.revision,
            cluster: origin.cluster,
            endpoints: self.endpoints.clone(),
            resyncs: self.loads.saturating_sub(1),
            unconfirmed: self.unconfirmed.iter().copied().collect(),
            ..SourceState::new("etcd", self.prefix.clone())
        }
    }

    /// Returns the confirmation that is needed from the operator, as a message.
    fn question(&self) -> Option<String> {
        let position = self.position.filter(|_| !self.unconfirmed.is_empty())?;
        let Restored { cluster, revision } = self.origin.clone().unwrap_or_default();
        let now = hex(position.cluster);
        let change = match (cluster, revision) {
            (Some(was), Some(revision)) if was == now => {
                format!("etcd went back from revision {revision} to an earlier one, as after restoring a backup")
            }
            (Some(was), _) => format!("etcd is now cluster {now}, not {was} as before"),
            (None, _) => format!("etcd is cluster {now}, which may not be the one that the content is from"),
        };
        let count = self.unconfirmed.len();
        Some(format!(
            "{change}, and has no documents for {count} of this node's instances, which stay served: write their \
             documents into it, or correct source.etcd.endpoints; to remove the instances, `metadatad source accept`"
        ))
    }

    /// Returns the revision at which the watch resumes, if it can in this state of the cluster.
    pub(super) fn resumes_at(&self, now: Position) -> Option<i64> {
        self.position.filter(|position| !self.must_load && now.follows(*position)).map(|position| position.revision)
    }

    /// Begins a full read.
    pub(super) fn begin_load(&mut self, position: Position) {
        self.load = Some(Load { position, seen: HashSet::new(), refused: BTreeSet::new() });
    }

    /// Aborts a full read. What it has brought stays, so the next must be a full one too.
    pub(super) fn abort_load(&mut self) {
        if self.load.take().is_some() {
            self.read_again();
        }
    }

    /// Makes the next read a full one.
    pub(super) fn read_again(&mut self) {
        self.must_load = true;
    }

    /// Records that a full read is complete.
    pub(super) fn end_load(&mut self) {
        let Some(Load { position, seen, refused }) = self.load.take() else { return };
        self.refusals.retain(|name, _| refused.contains(name));
        self.unconfirmed.retain(|id| !seen.contains(id));
        let is_known = match &self.origin {
            Some(Restored { cluster, revision }) => {
                cluster.as_ref() == Some(&hex(position.cluster))
                    && revision.is_none_or(|then| position.revision >= then)
            }
            None => false,
        };
        let goes_on = self.position.is_some_and(|before| position.follows(before));
        let unconfirmed = &mut self.unconfirmed;
        if is_known {
            unconfirmed.clear();
        }
        if is_known || goes_on {
            let gone = self.store.keep_only(|id| seen.contains(&id) || unconfirmed.contains(&id));
            for id in gone {
                self.changed_at = Some(SystemTime::now());
                info!(instance = %id, "content removed: it has no document");
            }
        } else {
            unconfirmed.extend(self.store.ids().into_iter().filter(|id| !seen.contains(id)));
        }
        self.loads += 1;
        self.must_load = false;
        self.position = Some(position);
        info!(instances = self.store.len(), revision = position.revision, "all documents read from etcd");
        if let Some(question) = self.question() {
            warn!("source: {question}");
        }
        self.settle();
    }

    /// Records that everything up to a revision has arrived.
    pub(super) fn reached(&mut self, revision: i64) {
        if let Some(position) = &mut self.position {
            position.revision = position.revision.max(revision);
        }
        self.settle();
    }

    /// Unless an instance is unconfirmed, the content is from the state that was read.
    fn settle(&mut self) {
        if let Some(position) = self.position.filter(|_| self.unconfirmed.is_empty()) {
            self.origin = Some(Restored { cluster: Some(hex(position.cluster)), revision: Some(position.revision) });
        }
    }

    /// Records the operator's confirmation that the present cluster is authoritative. Returns how many instances were
    /// removed, or `None` if no confirmation was pending.
    pub(super) fn accept(&mut self) -> Option<usize> {
        if self.unconfirmed.is_empty() {
            return None;
        }
        let mut count = 0;
        for id in std::mem::take(&mut self.unconfirmed) {
            if self.store.remove(id) {
                count += 1;
                self.changed_at = Some(SystemTime::now());
                info!(instance = %id, "content removed: the operator accepted a cluster that lacks it");
            }
        }
        self.settle();
        Some(count)
    }

    /// Applies a key's value.
    pub(super) fn put(&mut self, key: &[u8], value: &[u8]) {
        let Some(name) = self.name(key) else { return };
        let Some(id) = instance(&name) else {
            let problem =
                "the last part of the key is not an instance's UUID in lower case; rename the key, or delete it";
            return self.refuse(name, value, None, problem.to_owned());
        };
        self.note_present(id);
        if value.len() > MAX_DOCUMENT {
            return self.too_large(name, value);
        }
        let record = match (self.parse)(value) {
            Ok(record) => record,
            Err(error) => return self.refuse(name, value, Some((error.line, error.column)), error.to_string()),
        };
        if record.uuid != id {
            let problem =
                format!("it describes instance {}, but its key names {id}; correct one of the two", record.uuid);
            return self.refuse(name, value, None, problem);
        }
        if self.refusals.remove(&name).is_some() {
            info!(instance = %id, "the document is valid again");
        }
        if self.store.put(record) {
            self.changed_at = Some(SystemTime::now());
            if self.load.is_some() {
                debug!(instance = %id, "content changed");
            } else {
                info!(instance = %id, "content changed");
            }
        }
    }

    /// Records a key with a value that is too large to be received.
    pub(super) fn put_unreceived(&mut self, key: &[u8]) {
        let Some(name) = self.name(key) else { return };
        if let Some(id) = instance(&name) {
            self.note_present(id);
        }
        self.too_large(name, b"");
    }

    /// Records that a key is deleted.
    pub(super) fn delete(&mut self, key: &[u8]) {
        let Some(name) = self.name(key) else { return };
        self.refusals.remove(&name);
        let Some(id) = instance(&name) else { return };
        self.unconfirmed.remove(&id);
        if self.store.remove(id) {
            self.changed_at = Some(SystemTime::now());
            info!(instance = %id, "content removed");
        }
    }

    /// Records that the mirror is in step with etcd.
    pub(super) fn in_step(&mut self) {
        self.synced_at = Some(SystemTime::now());
        self.lagging_since = None;
        if self.trouble.take().is_some() {
            info!("source: connected to etcd again");
        }
    }

    /// Records that the mirror is no longer in step with etcd.
    pub(super) fn lags(&mut self) {
        self.lagging_since.get_or_insert_with(SystemTime::now);
    }

    /// Records why etcd cannot be read. Content stays.
    pub(super) fn unavailable(&mut self, trouble: String) {
        self.lags();
        if self.trouble.as_ref() != Some(&trouble) {
            warn!(instances = self.store.len(), "source: {trouble}; the last content stays served");
            self.trouble = Some(trouble);
        }
    }

    fn name(&self, key: &[u8]) -> Option<String> {
        Some(String::from_utf8_lossy(key.strip_prefix(self.prefix.as_bytes())?).into_owned())
    }

    /// Records that an instance's key exists, whatever its value.
    fn note_present(&mut self, id: InstanceId) {
        self.unconfirmed.remove(&id);
        if let Some(load) = &mut self.load {
            load.seen.insert(id);
        }
    }

    fn too_large(&mut self, name: String, value: &[u8]) {
        let problem = format!("it is larger than {} MiB; make its user data smaller", MAX_DOCUMENT >> 20);
        self.refuse(name, value, None, problem);
    }

    fn refuse(&mut self, name: String, value: &[u8], place: Option<(usize, usize)>, problem: String) {
        if let Some(load) = &mut self.load {
            load.refused.insert(name.clone());
        }
        let refusal = Refusal::new(value, place, problem);
        if !refusal.repeats(self.refusals.get(&name)) {
            let kept = instance(&name).filter(|id| self.store.get(*id).is_some()).map(|id| id.to_string());
            let (line, column) = place.unzip();
            let key = format!("{}{name}", self.prefix);
            warn!(key, line, column, last_good_version_served_for = kept, "document refused: {}", refusal.problem);
        }
        self.refusals.insert(name, refusal);
    }
}

/// Returns the instance that a key names. Only one spelling is valid, so that no two keys name the same instance.
fn instance(name: &str) -> Option<InstanceId> {
    name.parse().ok().filter(|id: &InstanceId| id.to_string() == name)
}

/// Writes a cluster's id as etcdctl does with `--hex`.
fn hex(cluster: u64) -> String {
    format!("{cluster:x}")
}

#[cfg(test)]
mod tests;
