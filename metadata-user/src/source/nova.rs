//! The `nova` source: what an unchanged OpenStack's metadata API answers, for each instance that lives here.

use std::io;
use std::sync::Arc;

use super::{SourceState, StateView};
use crate::config;
use crate::facts::Facts;
use crate::origin::{self, Origin};
use crate::readiness::Blocker;
use crate::store::Store;

/// The running source. Dropping it ends it.
#[derive(Debug)]
pub struct Nova {
    state: StateView,
    origin: Origin,
}

impl Nova {
    /// Starts to follow the controller. `first_scan` is dropped when everything was read once, or the controller cannot
    /// be reached.
    ///
    /// # Errors
    /// If no thread can be started.
    pub fn start(
        _settings: config::nova::Nova,
        _store: Arc<Store>,
        _facts: Facts,
        first_scan: Blocker,
    ) -> io::Result<Self> {
        drop(first_scan);
        let (origin, _) = origin::channel();
        Ok(Self { origin, state: StateView::new(SourceState::new("nova", String::new())) })
    }

    /// Returns where guests' requests ask for what was not read ahead.
    #[must_use]
    pub fn origin(&self) -> Origin {
        self.origin.clone()
    }

    /// Returns a view of its state.
    #[must_use]
    pub fn state(&self) -> StateView {
        self.state.clone()
    }
}
