//! Writing what every node is to have.
//!
//! Promises:
//! - a write is one transaction: an instance that moves is under its new node and gone from the old one at once;
//! - etcd carries it out only while this controller leads and the documents are of its cloud. One that was sent, not answered,
//!   and arrives late has no effect (see [`Term`]'s epochs);
//! - what a node has already is not written again, and costs no request;
//! - what the next leader is to know of an instance is written with its documents, by the same transaction;
//! - the controller owns its instances' documents: what somebody else wrote (`metadatad instance set`) is noticed by the key's
//!   revision when the instance is next written, or by [`Writer::compare`]; it is counted, logged and written over.
//!
//! Left out: what is written, and when.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU64, Ordering};

use etcd_client::{Compare, CompareOp, TxnOp};
use parking_lot::Mutex;
use tracing::{info, warn};

use super::election::{Lost, Term};
use super::keys;
use super::known::{Digest, Known, Place, digest_of};
use super::pages;
use super::transaction::{SendError, Sent};
use crate::record::InstanceId;
use crate::source::etcd::cluster::{Cluster, ClusterError};

/// Operations of a transaction: etcd takes 128 by default, and the fence is one.
const MOST_OPERATIONS: usize = 100;
/// How often a write is decided anew, because somebody else changed its keys meanwhile.
const ATTEMPTS: usize = 8;

/// Writes the documents of one cloud, one term after another.
#[derive(Debug)]
pub struct Writer {
    cluster: Cluster,
    known: Known,
    /// The cloud that was claimed, in the term of this number.
    claimed: Mutex<Option<(i64, String)>>,
    counts: Counts,
}

#[derive(Debug, Default)]
struct Counts {
    written: AtomicU64,
    removed: AtomicU64,
    unchanged: AtomicU64,
    overwritten: AtomicU64,
}

/// What was written since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WriterCounts {
    /// Documents written, each under one node.
    pub written: u64,
    /// Documents removed, each from one node.
    pub removed: u64,
    /// Writes that changed nothing, and were not sent.
    pub unchanged: u64,
    /// Documents that somebody else had changed, and that were written over.
    pub overwritten: u64,
}

/// What a write did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Written {
    /// Nodes that the document was written for.
    pub written: usize,
    /// Nodes that it was removed from.
    pub removed: usize,
    /// Whether the note was written.
    pub noted: bool,
}

/// What the next leader is to know of an instance.
#[derive(Clone, Copy, Debug)]
pub struct Note<'a> {
    /// Its text.
    pub text: &'a [u8],
    /// Whether it is to be written also where no document changes.
    pub is_news: bool,
}

/// Why nothing was written.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// This controller leads no more. Another one writes it.
    #[error("this controller leads no more: {0}")]
    NotLeader(#[from] Lost),
    /// The documents in etcd are of another cloud.
    #[error(
        "the documents in etcd are of the cloud {found}, and this is the cloud {own}: correct keystone.auth_url or etcd.prefix; if \
         etcd's documents are to become this cloud's, `metadatad controller accept`"
    )]
    OtherCloud {
        /// The cloud that etcd has.
        found: String,
        /// The cloud that the controller reads.
        own: String,
    },
    /// The document is larger than etcd takes.
    #[error(
        "the document of instance {instance} has {bytes} bytes, more than etcd takes in a request: start each member with a larger \
         --max-request-bytes (1.5 MiB if it is not given), or make the instance's user data smaller"
    )]
    TooLarge {
        /// The instance.
        instance: InstanceId,
        /// Size of its document.
        bytes: usize,
    },
    /// A node's name cannot be in a key.
    #[error("`{0}` cannot be a node's name in a key of etcd: correct `host` of nova.conf there")]
    Node(String),
    /// Somebody else changes the instance's documents all the time.
    #[error(
        "somebody else changed the documents of instance {0} again and again: look for another controller of these keys"
    )]
    Raced(InstanceId),
    /// Nothing was read in this term.
    #[error("nothing was read from etcd in this term")]
    NotLoaded,
    /// etcd cannot be reached, or refuses.
    #[error(transparent)]
    Etcd(#[from] ClusterError),
}

impl From<SendError> for WriteError {
    fn from(error: SendError) -> Self {
        match error {
            SendError::NotLeader(lost) => Self::NotLeader(lost),
            SendError::Etcd(error) => Self::Etcd(error),
        }
    }
}

/// What an instance is to have.
#[derive(Clone, Copy)]
struct Wanted<'a> {
    /// `None`: nothing.
    document: Option<(&'a [u8], Digest)>,
    nodes: &'a BTreeSet<String>,
    note: Option<Note<'a>>,
}

/// A change of an instance's keys.
struct Plan {
    puts: Vec<(Place, Vec<u8>)>,
    deletes: Vec<Place>,
    /// The note that is written or, where there is none, removed; `None`: it stays as it is.
    note: Option<Option<Vec<u8>>>,
}

impl Plan {
    fn is_empty(&self) -> bool {
        self.puts.is_empty() && self.deletes.is_empty() && self.note.is_none()
    }

    fn note_operation(&self, key: String) -> Option<TxnOp> {
        self.note.as_ref().map(|note| match note {
            Some(text) => TxnOp::put(key, text.clone(), None),
            None => TxnOp::delete(key, None),
        })
    }
}

impl Writer {
    /// Prepares to write; nothing is sent yet.
    #[must_use]
    pub fn new(cluster: &Cluster) -> Self {
        Self { cluster: cluster.clone(), known: Known::default(), claimed: Mutex::new(None), counts: Counts::default() }
    }

    /// Returns what every node has. It is complete after [`Self::load`].
    #[must_use]
    pub fn known(&self) -> Known {
        self.known.clone()
    }

    /// Returns what was written since the start.
    #[must_use]
    pub fn counts(&self) -> WriterCounts {
        let of = |count: &AtomicU64| count.load(Ordering::Relaxed);
        WriterCounts {
            written: of(&self.counts.written),
            removed: of(&self.counts.removed),
            unchanged: of(&self.counts.unchanged),
            overwritten: of(&self.counts.overwritten),
        }
    }

    /// Begins a term: claims the keys for a cloud, unless another cloud has, and reads what every node has, at one revision; then what
    /// former leaders have left, each to `noted`.
    ///
    /// # Errors
    /// [`WriteError::OtherCloud`], [`WriteError::NotLeader`], [`WriteError::Etcd`].
    pub async fn load(
        &self,
        term: &Term,
        cloud: &str,
        mut noted: impl FnMut(&Known, InstanceId, &[u8]),
    ) -> Result<Known, WriteError> {
        *self.claimed.lock() = None;
        self.claim(term, cloud).await?;
        let known = Known::default();
        let nodes = keys::nodes(self.cluster.settings());
        pages::read_all(term, &nodes, false, |pair| {
            if let Some((node, id)) = keys::document(pair.key(), &nodes) {
                known.set(id, node, Some((pair.mod_revision(), Some(digest_of(pair.value())))));
            }
        })
        .await?;
        let (notes, mut stray) = (keys::notes(self.cluster.settings()), Vec::new());
        pages::read_all(term, &notes, false, |pair| match keys::noted(pair.key(), &notes) {
            Some(id) if known.fingerprint_of(id).is_some() => noted(&known, id, pair.value()),
            _ => stray.push(TxnOp::delete(pair.key(), None)),
        })
        .await?;
        for some in stray.chunks(MOST_OPERATIONS) {
            term.send(&[], some, &[]).await?;
        }
        self.known.replace(&known);
        *self.claimed.lock() = Some((term.number(), cloud.to_owned()));
        info!(instances = self.known.len(), "what every node has is read from etcd");
        Ok(self.known.clone())
    }

    /// Makes the keys this cloud's, whatever cloud they were of. Returns the former one. Only on the operator's word.
    ///
    /// # Errors
    /// [`WriteError::NotLeader`], [`WriteError::Etcd`].
    pub async fn accept(&self, term: &Term, cloud: &str) -> Result<Option<String>, WriteError> {
        let key = keys::cloud(self.cluster.settings());
        let former = self.cloud().await?;
        let put = TxnOp::put(key, cloud, None);
        term.send(&[], &[put], &[]).await?;
        let former = former.filter(|former| former != cloud);
        if let Some(former) = &former {
            warn!(former, cloud, "etcd's documents are this cloud's from here on: the operator accepted it");
        }
        Ok(former)
    }

    /// Returns the id of the cloud that etcd's documents are of; `None`: no controller has written any.
    ///
    /// # Errors
    /// [`ClusterError`] if etcd cannot be reached, or refuses.
    pub async fn cloud(&self) -> Result<Option<String>, ClusterError> {
        let key = keys::cloud(self.cluster.settings());
        let answer = self
            .cluster
            .request(self.cluster.limit(), |mut client| {
                let key = key.clone();
                async move { client.get(key, None).await }
            })
            .await?;
        Ok(answer.kvs().first().map(|pair| String::from_utf8_lossy(pair.value()).into_owned()))
    }

    /// Has an instance's document under these nodes, and under no other, with a note for the next leader. No nodes: it is removed.
    ///
    /// # Errors
    /// [`WriteError`]. Except for [`WriteError::Etcd`], nothing was changed; with that, it may have been.
    pub async fn put(
        &self,
        term: &Term,
        id: InstanceId,
        document: &[u8],
        nodes: &BTreeSet<String>,
        note: Option<Note<'_>>,
    ) -> Result<Written, WriteError> {
        if let Some(node) = nodes.iter().find(|node| !keys::is_node(node)) {
            return Err(WriteError::Node(node.clone()));
        }
        self.write(term, id, Wanted { document: Some((document, digest_of(document))), nodes, note }).await
    }

    /// Removes an instance's document from every node.
    ///
    /// # Errors
    /// As [`Self::put`].
    pub async fn remove(&self, term: &Term, id: InstanceId) -> Result<Written, WriteError> {
        self.write(term, id, Wanted { document: None, nodes: &BTreeSet::new(), note: None }).await
    }

    /// Compares the revisions of all keys with what is known, without reading a document. Returns the instances whose keys
    /// somebody else has changed: their documents are unknown from here on, so that the next write is not taken for unchanged.
    ///
    /// # Errors
    /// [`WriteError::NotLeader`], [`WriteError::Etcd`].
    pub async fn compare(&self, term: &Term) -> Result<Vec<InstanceId>, WriteError> {
        let before = self.known.ids();
        let found = Known::default();
        let nodes = keys::nodes(self.cluster.settings());
        let at = pages::read_all(term, &nodes, true, |pair| {
            if let Some((node, id)) = keys::document(pair.key(), &nodes) {
                found.set(id, node, Some((pair.mod_revision(), None)));
            }
        })
        .await?;
        let mut changed = Vec::new();
        let all: BTreeSet<_> = before.into_iter().chain(found.ids()).collect();
        for id in all {
            let (known, found) = (self.known.places(id), found.places(id));
            // What was written since the keys were read differs, and is right.
            if known.iter().any(|place| place.revision > at) {
                continue;
            }
            let differs =
                |place: &&Place| !known.iter().any(|is| is.node == place.node && is.revision == place.revision);
            let differing: Vec<_> = found.iter().filter(differs).collect();
            let gone: Vec<_> = known.iter().filter(|place| !found.iter().any(|is| is.node == place.node)).collect();
            if differing.is_empty() && gone.is_empty() {
                continue;
            }
            for place in differing {
                self.known.set(id, &place.node, Some((place.revision, None)));
            }
            for place in gone {
                self.known.set(id, &place.node, None);
            }
            self.note_overwritten(id);
            changed.push(id);
        }
        Ok(changed)
    }

    async fn write(&self, term: &Term, id: InstanceId, wanted: Wanted<'_>) -> Result<Written, WriteError> {
        let mut written = Written::default();
        for _ in 0..ATTEMPTS {
            let plan = self.plan(id, wanted);
            if plan.puts.is_empty() && plan.deletes.is_empty() && written == Written::default() {
                self.counts.unchanged.fetch_add(1, Ordering::Relaxed);
            }
            if plan.is_empty() {
                return Ok(written);
            }
            let digest = wanted.document.map(|(_, digest)| digest);
            match self.carry_out(term, id, &plan, digest).await {
                Ok(true) => {
                    written.written += plan.puts.len();
                    written.removed += plan.deletes.len();
                    written.noted = matches!(plan.note, Some(Some(_)));
                    self.counts.written.fetch_add(plan.puts.len() as u64, Ordering::Relaxed);
                    self.counts.removed.fetch_add(plan.deletes.len() as u64, Ordering::Relaxed);
                    return Ok(written);
                }
                Ok(false) => {}
                // One node after the other; it leaves the others only then.
                Err(WriteError::TooLarge { .. }) if plan.puts.len() > 1 => {
                    for put in plan.puts {
                        let one = Plan { puts: vec![put], deletes: Vec::new(), note: None };
                        if self.carry_out(term, id, &one, digest).await? {
                            written.written += 1;
                            self.counts.written.fetch_add(1, Ordering::Relaxed);
                        }
                    }
                }
                Err(error) => return Err(error),
            }
        }
        Err(WriteError::Raced(id))
    }

    /// Decides what is to change.
    fn plan(&self, id: InstanceId, Wanted { document, nodes, note }: Wanted<'_>) -> Plan {
        let places = self.known.places(id);
        let deletes: Vec<Place> = places.iter().filter(|place| !nodes.contains(&*place.node)).cloned().collect();
        let mut puts = Vec::new();
        if let Some((document, digest)) = document {
            for node in nodes {
                let place = places.iter().find(|place| *place.node == **node);
                if place.is_some_and(|place| place.digest == Some(digest)) {
                    continue;
                }
                let absent = || Place { node: node.as_str().into(), revision: 0, digest: None };
                puts.push((place.cloned().unwrap_or_else(absent), document.to_vec()));
            }
        }
        let is_changed = !puts.is_empty() || !deletes.is_empty();
        let note = match note {
            Some(note) => (is_changed || note.is_news).then(|| Some(note.text.to_vec())),
            // What was left counts no more.
            None => is_changed.then_some(None),
        };
        Plan { puts, deletes, note }
    }

    /// Carries out a plan. Returns whether it is: otherwise it is to be made anew.
    async fn carry_out(
        &self,
        term: &Term,
        id: InstanceId,
        plan: &Plan,
        digest: Option<Digest>,
    ) -> Result<bool, WriteError> {
        let cloud = match &*self.claimed.lock() {
            Some((number, cloud)) if *number == term.number() => cloud.clone(),
            _ => return Err(WriteError::NotLoaded),
        };
        let settings = self.cluster.settings();
        let places: Vec<_> = plan.puts.iter().map(|(place, _)| place).chain(&plan.deletes).collect();
        let key = |place: &Place| settings.key(&place.node, id);
        let mut compares = vec![Compare::value(keys::cloud(settings), CompareOp::Equal, cloud.as_str())];
        let of_place = |place: &&Place| Compare::mod_revision(key(place), CompareOp::Equal, place.revision);
        compares.extend(places.iter().map(of_place));
        let puts = plan.puts.iter().map(|(place, document)| TxnOp::put(key(place), document.clone(), None));
        let deletes = plan.deletes.iter().map(|place| TxnOp::delete(key(place), None));
        let operations: Vec<_> = puts.chain(deletes).chain(plan.note_operation(keys::note(settings, id))).collect();
        let look = std::iter::once(TxnOp::get(keys::cloud(settings), None));
        let look: Vec<_> = look.chain(places.iter().map(|place| TxnOp::get(key(place), None))).collect();
        let Sent { succeeded, revision, found } = match term.send(&compares, &operations, &look).await {
            Err(SendError::Etcd(error)) if error.is_too_large() => {
                let bytes = plan.puts.first().map_or(0, |(_, document)| document.len());
                return Err(WriteError::TooLarge { instance: id, bytes });
            }
            sent => sent?,
        };
        if succeeded {
            for (place, _) in &plan.puts {
                self.known.set(id, &place.node, Some((revision, digest)));
            }
            for place in &plan.deletes {
                self.known.set(id, &place.node, None);
            }
            return Ok(true);
        }
        let mut found = found.into_iter();
        if let Some(is) = found.next() {
            let is = is.kvs().first().map(|pair| String::from_utf8_lossy(pair.value()).into_owned());
            if is.as_deref() != Some(cloud.as_str()) {
                *self.claimed.lock() = None;
                return Err(WriteError::OtherCloud { found: is.unwrap_or_else(|| "(none)".to_owned()), own: cloud });
            }
        }
        let puts = plan.puts.len();
        for (at, (place, found)) in places.into_iter().zip(found).enumerate() {
            let is = found.kvs().first().map(|pair| (pair.mod_revision(), Some(digest_of(pair.value()))));
            if is.map_or(0, |(revision, _)| revision) == place.revision {
                continue;
            }
            // What is there may be of this very write, whose answer was lost.
            let wanted = digest.filter(|_| at < puts);
            if is.and_then(|(_, digest)| digest) != wanted {
                self.note_overwritten(id);
            }
            self.known.set(id, &place.node, is);
        }
        Ok(false)
    }

    /// Claims the keys for a cloud, or finds that it has them.
    async fn claim(&self, term: &Term, cloud: &str) -> Result<(), WriteError> {
        let key = keys::cloud(self.cluster.settings());
        let absent = Compare::create_revision(key.clone(), CompareOp::Equal, 0);
        let put = TxnOp::put(key.clone(), cloud, None);
        let sent = term.send(&[absent], &[put], &[TxnOp::get(key, None)]).await?;
        let found = sent.found.first().and_then(|found| found.kvs().first());
        match found.map(|pair| String::from_utf8_lossy(pair.value())) {
            Some(found) if found != cloud => {
                Err(WriteError::OtherCloud { found: found.into_owned(), own: cloud.to_owned() })
            }
            _ => Ok(()),
        }
    }

    fn note_overwritten(&self, id: InstanceId) {
        self.counts.overwritten.fetch_add(1, Ordering::Relaxed);
        warn!(instance = %id, "somebody else changed the document in etcd: it is written over, since the controller owns it");
    }
}
