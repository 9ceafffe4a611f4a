//! The `etcd` source: the documents of this node, under its own prefix of an etcd cluster.
//!
//! Promises:
//! - everything under the prefix is read at one revision, and every change from the next revision on is followed, in
//!   order; a change is in the store as soon as the member tells of it;
//! - any member may die, hang or lose its cluster: the next one is asked, and goes on at the revision where the former
//!   ended; only when that is compacted, everything is read again;
//! - whatever happens to etcd, what was read last stays served, and the state says since when and why;
//! - an answer of another cluster, or of an earlier state of this one, takes nothing away without the operator's word.
//!
//! Left out: writing. Fragments of one large change: more than 24 MiB at once is read again in full.
//!
//! It runs on a thread of its own, since parsing many documents would hold up others.

pub(crate) mod connect;
pub(crate) mod error;
mod follow;
mod mirror;
mod rotation;

use std::cell::RefCell;
use std::convert::Infallible;
use std::io;
use std::sync::Arc;

use tokio::sync::mpsc;
use tracing::warn;

use super::{Accept, Restored, SourceView, wire};
use crate::config;
use crate::error_text;
use crate::readiness::Blocker;
use crate::state_view::StateView;
use crate::store::Store;
use crate::worker::{Stop, Worker};
use follow::Follower;
use mirror::Mirror;

/// The running source. Dropping it ends it.
#[derive(Debug)]
pub struct Etcd {
    state: SourceView,
    accept: mpsc::UnboundedSender<Accept>,
    _worker: Worker,
}

impl Etcd {
    /// Starts to follow the controller. `first_scan` is dropped when everything was read once, or the controller cannot
    /// be reached.
    ///
    /// # Errors
    /// If no thread can be started.
    pub fn start(
        settings: config::etcd::Etcd,
        store: Arc<Store>,
        restored: Option<Restored>,
        first_scan: Blocker,
    ) -> io::Result<Self> {
        let (follower, state) = follower(settings, store, restored);
        let (accept, accepts) = mpsc::unbounded_channel();
        let worker = Worker::spawn("source", async move |mut stop: Stop| {
            tokio::select! {
                () = stop.requested() => {}
                never = follower.run(first_scan) => match never {},
                () = answer(accepts, &follower) => {}
            }
        })?;
        Ok(Self { state, accept, _worker: worker })
    }

    /// Follows the controller on the caller's thread, for good; returns the view of its state and what does it. As
    /// [`Self::start`], for many nodes in one process.
    pub fn follow(
        settings: config::etcd::Etcd,
        store: Arc<Store>,
        restored: Option<Restored>,
        first_scan: Blocker,
    ) -> (SourceView, impl Future<Output = Infallible>) {
        let (follower, state) = follower(settings, store, restored);
        (state, async move { follower.run(first_scan).await })
    }

    /// Returns a view of its state.
    #[must_use]
    pub fn state(&self) -> SourceView {
        self.state.clone()
    }

    pub(super) fn accepts(&self) -> mpsc::UnboundedSender<Accept> {
        self.accept.clone()
    }
}

/// Tells in words what is unwise, or names a file that cannot be used at present.
pub(super) fn warnings(settings: &config::etcd::Etcd) -> Vec<String> {
    let unusable = connect::Credentials::read(settings).err().map(|error| error_text::chain(&error));
    settings.warnings().into_iter().chain(unusable).collect()
}

/// Prepares to follow the controller, and returns the view of its state.
fn follower(settings: config::etcd::Etcd, store: Arc<Store>, restored: Option<Restored>) -> (Follower, SourceView) {
    for warning in settings.warnings() {
        warn!("{warning}");
    }
    let prefix = settings.node_prefix(&settings.node);
    let mirror = Mirror::new(prefix.clone(), wire::parse, store, restored, &settings.endpoints);
    let state = StateView::new(mirror.state());
    (Follower { settings, prefix, mirror: RefCell::new(mirror), state: state.clone() }, state)
}

/// Answers whoever accepts, also while no member does.
async fn answer(mut accepts: mpsc::UnboundedReceiver<Accept>, follower: &Follower) {
    while let Some(Accept(answer)) = accepts.recv().await {
        // Whoever asked may have gone.
        let _ = answer.send(follower.accept());
    }
}
