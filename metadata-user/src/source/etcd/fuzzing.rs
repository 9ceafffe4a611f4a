//! The etcd source for fuzzers: what arrives from a cluster is passed in, and nothing waits.

use std::sync::Arc;

use super::mirror::{self, Position};
use crate::source::{Restored, SourceState, wire};
use crate::store::Store;

/// The keys under a prefix.
#[derive(Debug)]
pub struct Mirror(mirror::Mirror);

impl Mirror {
    /// Returns one of this prefix, which puts its documents into the store.
    #[must_use]
    pub fn new(prefix: &str, store: Arc<Store>, restored: Option<Restored>) -> Self {
        Self(mirror::Mirror::new(prefix.to_owned(), wire::parse, store, restored, &["http://a:1".to_owned()]))
    }

    /// Begins a full read of a cluster, at a revision.
    pub fn begin_load(&mut self, cluster: u64, revision: i64) {
        self.0.begin_load(Position { cluster, revision });
    }

    /// The full read has failed.
    pub fn abort_load(&mut self) {
        self.0.abort_load();
    }

    /// The full read is complete.
    pub fn end_load(&mut self) {
        self.0.end_load();
    }

    /// A key has a value.
    pub fn put(&mut self, key: &[u8], value: &[u8]) {
        self.0.put(key, value);
    }

    /// A key has a value that was not received.
    pub fn put_unreceived(&mut self, key: &[u8]) {
        self.0.put_unreceived(key);
    }

    /// A key was deleted.
    pub fn delete(&mut self, key: &[u8]) {
        self.0.delete(key);
    }

    /// Everything up to a revision has arrived.
    pub fn reached(&mut self, revision: i64) {
        self.0.reached(revision);
    }

    /// The operator confirms the cluster.
    pub fn accept(&mut self) {
        self.0.accept();
    }

    /// Returns how the source is doing.
    #[must_use]
    pub fn state(&self) -> SourceState {
        self.0.state()
    }
}
