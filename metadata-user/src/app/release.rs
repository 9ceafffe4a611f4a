//! Letting go of every tap while the daemon runs (`metadatad detach`): its guests are answered by the network again.
//!
//! The order, and why:
//! 1. each answer says that its connection ends with it, so that clients open another one;
//! 2. the programs let what begins a connection pass: it is the network's. Connections that were begun here are answered here;
//! 3. these end, within `http.drain_timeout`;
//! 4. the programs go off every tap.
//!
//! Promises: it is done once, and to its end, whoever asks and goes away meanwhile; taps that kept a program are tried again when it is
//! asked for again. The process stays: ended, the service manager would start it, and the next one attaches.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::sync::Mutex;
use tracing::{info, warn};

use super::kernel::Kernel;
use super::{Shared, show_status};
use crate::admin::ReleaseError;
use crate::drain::Drain;
use crate::port::NotReleased;
use crate::readiness::Readiness;
use crate::state_view::StateView;

/// What was let go of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Released {
    /// When it was done.
    pub(super) at: SystemTime,
    /// How many taps were let go of.
    pub(super) taps: usize,
    /// Whether connections were still open after `http.drain_timeout`.
    pub(super) cut: bool,
    /// Taps that still have a program.
    pub(super) left: Vec<NotReleased>,
}

/// Lets go of every tap. Clones share their state.
#[derive(Clone, Debug)]
pub(super) struct Release {
    readiness: Readiness,
    drain: Drain,
    kernel: Kernel,
    timeout: StateView<Duration>,
    state: StateView<Option<Released>>,
    /// One at a time.
    turn: Arc<Mutex<()>>,
}

impl Release {
    pub(super) fn new(shared: &Shared, timeout: StateView<Duration>) -> Self {
        Self {
            readiness: shared.readiness.clone(),
            drain: shared.drain.clone(),
            kernel: shared.kernel.clone(),
            timeout,
            state: StateView::new(None),
            turn: Arc::default(),
        }
    }

    /// Returns what was let go of; `None`: nothing yet.
    pub(super) fn state(&self) -> Arc<Option<Released>> {
        self.state.get()
    }

    /// Lets go of every tap, unless that is done, and returns what became of it.
    pub(super) async fn run(&self) -> Result<Released, ReleaseError> {
        let release = self.clone();
        // A task of its own: whoever asks may go away in between.
        tokio::spawn(async move { release.in_turn().await }).await.unwrap_or(Err(ReleaseError::Ending))
    }

    async fn in_turn(&self) -> Result<Released, ReleaseError> {
        let _turn = self.turn.lock().await;
        let (taps, cut) = match self.state.get().as_ref() {
            Some(released) if released.left.is_empty() => return Ok(released.clone()),
            Some(released) => (released.taps, released.cut),
            None => self.end_connections().await?,
        };
        let before = self.state.get().as_ref().as_ref().map_or(0, |released| released.left.len());
        let left = self.kernel.release().await.ok_or(ReleaseError::Ending)?;
        let taps = (taps + before).saturating_sub(left.len());
        let released = Released { at: SystemTime::now(), taps, cut, left };
        self.state.publish(Some(released.clone()));
        show_status("released: guests' requests go on to the network; a restart attaches to the taps again");
        info!(
            taps,
            left = released.left.len(),
            "released the taps, as `metadatad detach` asked: guests' requests go on to the network. `systemctl disable --now metadatad`, \
             then `metadatad detach`, removes the rest; a restart attaches again"
        );
        Ok(released)
    }

    /// Ends the connections, and returns how many taps there are and whether connections were left.
    async fn end_connections(&self) -> Result<(usize, bool), ReleaseError> {
        if !self.readiness.pending().is_empty() {
            return Err(ReleaseError::Starting);
        }
        if self.drain.has_begun() {
            return Err(ReleaseError::Ending);
        }
        info!("releasing the taps, as `metadatad detach` asks: ending guests' connections");
        show_status("releasing the guests' taps");
        self.drain.begin();
        self.kernel.leave().await.ok_or(ReleaseError::Ending)?;
        let finished = self.drain.run_accepting(*self.timeout.get()).await;
        if !finished {
            warn!("connections were still open after http.drain_timeout: they end with the release");
        }
        Ok((self.kernel.ports().len(), !finished))
    }
}
