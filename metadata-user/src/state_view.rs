//! A state that one task publishes and others read: always the latest, never locked.
//!
//! A leaf: it uses nothing of this crate.

use std::sync::Arc;

use arc_swap::{ArcSwap, Guard};

/// A view of a state. Clones show the same state. Cheap to clone.
#[derive(Debug)]
pub struct StateView<S>(Arc<ArcSwap<S>>);

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

    /// Returns the latest state for a moment: it costs no count that other threads write, and each thread has a few of these.
    #[must_use]
    pub fn look(&self) -> Guard<Arc<S>> {
        self.0.load()
    }

    /// Returns the latest state.
    #[must_use]
    pub fn get(&self) -> Arc<S> {
        self.0.load_full()
    }

    /// Replaces the state.
    pub fn publish(&self, state: S) {
        self.0.store(Arc::new(state));
    }
}
