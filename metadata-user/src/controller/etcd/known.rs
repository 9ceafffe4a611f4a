//! What every node has, as etcd has it: no documents, only their digests and revisions.
//!
//! Promises: what is here was read, or written by this controller since; 100,000 instances take some 20 MB.
//!
//! Left out: reading and writing (`writer`).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use parking_lot::Mutex;

use crate::record::InstanceId;
use crate::secret::{digest, hex};

/// A document's digest: enough of SHA-256 that no guest can write another document with the same.
pub(super) type Digest = [u8; 16];

/// Returns the digest of a document.
pub(super) fn digest_of(document: &[u8]) -> Digest {
    let mut short = Digest::default();
    short.copy_from_slice(&digest::sha256(document)[..16]);
    short
}

/// Returns a document's digest as notes have it.
#[must_use]
pub fn fingerprint(document: &[u8]) -> String {
    hex(&digest_of(document))
}

/// A document under a node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) node: Arc<str>,
    /// The key's `mod_revision`.
    pub(super) revision: i64,
    /// `None`: its content is unknown, and is written again.
    pub(super) digest: Option<Digest>,
}

/// What every node has. Clones show the same.
#[derive(Clone, Debug, Default)]
pub struct Known(Arc<Mutex<Inner>>);

#[derive(Debug, Default)]
struct Inner {
    instances: BTreeMap<InstanceId, Vec<Place>>,
    /// Each name once.
    nodes: BTreeSet<Arc<str>>,
}

impl Known {
    /// Returns the number of instances.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.lock().instances.len()
    }

    /// Returns whether no node has a document.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.lock().instances.is_empty()
    }

    /// Returns all instances, ascending.
    #[must_use]
    pub fn ids(&self) -> Vec<InstanceId> {
        self.0.lock().instances.keys().copied().collect()
    }

    /// Returns the nodes that have an instance's document; none: there is no document of it.
    #[must_use]
    pub fn nodes_of(&self, id: InstanceId) -> BTreeSet<String> {
        let inner = self.0.lock();
        inner.instances.get(&id).into_iter().flatten().map(|place| place.node.to_string()).collect()
    }

    /// Returns whether an instance's document is this one, under each of its nodes.
    #[must_use]
    pub fn has(&self, id: InstanceId, document: &[u8]) -> bool {
        let digest = Some(digest_of(document));
        self.0.lock().instances.get(&id).is_some_and(|places| places.iter().all(|place| place.digest == digest))
    }

    /// Returns the digest of an instance's document, as [`fingerprint`] has it; `None`: there is none, or nodes have different ones.
    #[must_use]
    pub fn fingerprint_of(&self, id: InstanceId) -> Option<String> {
        let inner = self.0.lock();
        let mut digests = inner.instances.get(&id)?.iter().map(|place| place.digest);
        let first = digests.next()??;
        digests.all(|digest| digest == Some(first)).then(|| hex(&first))
    }

    /// Returns the nodes that have documents, and how many, ascending.
    #[must_use]
    pub fn nodes(&self) -> BTreeMap<String, usize> {
        let mut nodes = BTreeMap::new();
        for place in self.0.lock().instances.values().flatten() {
            *nodes.entry(place.node.to_string()).or_default() += 1;
        }
        nodes
    }

    /// Returns the places of an instance's document.
    pub(super) fn places(&self, id: InstanceId) -> Vec<Place> {
        self.0.lock().instances.get(&id).cloned().unwrap_or_default()
    }

    /// Records what a key of an instance holds; `None`: it is gone.
    pub(super) fn set(&self, id: InstanceId, node: &str, found: Option<(i64, Option<Digest>)>) {
        let mut inner = self.0.lock();
        let node = match inner.nodes.get(node) {
            Some(node) => Arc::clone(node),
            None => {
                let node: Arc<str> = node.into();
                inner.nodes.insert(Arc::clone(&node));
                node
            }
        };
        let places = inner.instances.entry(id).or_default();
        places.retain(|place| place.node != node);
        if let Some((revision, digest)) = found {
            places.push(Place { node, revision, digest });
            places.shrink_to_fit();
        } else if places.is_empty() {
            inner.instances.remove(&id);
        }
    }

    /// Replaces everything by what another has.
    pub(super) fn replace(&self, other: &Self) {
        let other = std::mem::take(&mut *other.0.lock());
        *self.0.lock() = other;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_instance_is_known_under_each_of_its_nodes_until_the_last_key_is_gone() {
        let known = Known::default();
        let id: InstanceId = "12345678-1234-4234-8234-123456789abc".parse().unwrap();
        known.set(id, "a", Some((1, Some(digest_of(b"x")))));
        known.set(id, "b", Some((2, Some(digest_of(b"x")))));
        assert!(known.has(id, b"x") && !known.has(id, b"y"));
        known.set(id, "a", Some((3, None)));
        assert!(!known.has(id, b"x"), "its content is unknown");
        assert_eq!(known.nodes_of(id), ["a".to_owned(), "b".to_owned()].into());
        assert_eq!(known.nodes(), [("a".to_owned(), 1), ("b".to_owned(), 1)].into());
        known.set(id, "a", None);
        known.set(id, "b", None);
        known.set(id, "b", None);
        assert!(known.is_empty() && known.nodes_of(id).is_empty());
    }
}
