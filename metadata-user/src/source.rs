//! Where content comes from.
//!
//! Promises: a source only writes the store, and nothing that answers guests waits for one; whatever happens to a
//! source, the last good content stays served and the state says since when.

pub mod directory;
pub mod vendordata;
pub mod wire;

use std::sync::Arc;
use std::time::SystemTime;

use arc_swap::ArcSwap;

/// How a source is doing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SourceState {
    /// What kind of source, as in the configuration.
    pub kind: &'static str,
    /// Where it reads: a folder, an address.
    pub place: String,
    /// When everything was last read completely; `None`: not yet.
    pub synced_at: Option<SystemTime>,
    /// Instances that come from it.
    pub instances: usize,
    /// Documents that cannot be used, by name.
    pub broken: Vec<BrokenDocument>,
    /// Why it cannot be read at present, and the remedy.
    pub error: Option<String>,
}

/// A document that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BrokenDocument {
    /// Name of the document: of the file.
    pub name: String,
    /// Line from 1, where there is one.
    pub line: Option<usize>,
    /// Column from 1, where there is one.
    pub column: Option<usize>,
    /// What is wrong, and the remedy.
    pub problem: String,
    /// Whether an earlier good version of it is still served.
    pub serves_last_good: bool,
}

impl SourceState {
    /// Tells whether there is nothing to repair.
    #[must_use]
    pub fn is_healthy(&self) -> bool {
        self.broken.is_empty() && self.error.is_none()
    }
}

/// A view of a source's state that is always the latest. Cheap to clone.
#[derive(Debug)]
pub struct StateView<S = SourceState>(Arc<ArcSwap<S>>);

impl<S> Clone for StateView<S> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<S> StateView<S> {
    /// Returns a view that shows this state until [`Self::publish`].
    #[must_use]
    pub fn new(state: S) -> Self {
        Self(Arc::new(ArcSwap::from_pointee(state)))
    }

    /// Returns the state.
    #[must_use]
    pub fn get(&self) -> Arc<S> {
        self.0.load_full()
    }

    /// Replaces the state.
    pub fn publish(&self, state: S) {
        self.0.store(Arc::new(state));
    }
}
