//! The `etcd` source: the documents of this node, under its own prefix of an etcd cluster.

pub(crate) mod connect;
pub(crate) mod trouble;

use std::io;
use std::sync::Arc;

use super::{Restored, SourceState, StateView};
use crate::config;
use crate::facts::Facts;
use crate::readiness::Blocker;
use crate::store::Store;

/// The running source. Dropping it ends it.
#[derive(Debug)]
pub struct Etcd {
    state: StateView,
}

impl Etcd {
    /// Starts to follow the controller. `first_scan` is dropped when everything was read once, or the controller cannot
    /// be reached.
    ///
    /// # Errors
    /// If no thread can be started.
    pub fn start(
        _settings: config::etcd::Etcd,
        _store: Arc<Store>,
        _facts: Facts,
        _restored: Option<Restored>,
        first_scan: Blocker,
    ) -> io::Result<Self> {
        drop(first_scan);
        Ok(Self { state: StateView::new(SourceState::new("etcd", String::new())) })
    }

    /// Returns a view of its state.
    #[must_use]
    pub fn state(&self) -> StateView {
        self.state.clone()
    }
}
