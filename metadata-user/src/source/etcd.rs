//! The `etcd` source: the documents of this node, under its own prefix of an etcd cluster.
//!
//! Promises:
//! - everything under the prefix is read at one revision, and every change from the next revision on is followed, in
//!   order; a change is in the store as soon as the watch delivers it;
//! - any member may die, hang or lose its cluster: the watch resumes on the next member at the same revision;
//!   only if that revision is compacted, everything is read again;
//! - if etcd fails, what was read last stays served, and the state shows since when and why;
//! - a response from another cluster, or from an earlier state of this one, removes nothing until the operator confirms
//!   that it is authoritative;
//! - where the controller keeps the passwords that guests post, they are passed on to it (`passwords`);
//! - what guests write about themselves is written through (`attributes`).
//!
//! Left out: writing documents. Fragments of one large change: more than 24 MiB at once is read again in full.
//!
//! It runs on a thread of its own, since parsing many documents would hold up others.

mod attributes;
pub mod cluster;
pub(crate) mod connect;
pub(crate) mod error;
mod follow;
#[doc(hidden)]
pub mod fuzzing;
mod mirror;
pub(crate) mod passwords;
mod rotation;

use std::cell::RefCell;
use std::convert::Infallible;
use std::io;
use std::sync::Arc;

use tokio::sync::mpsc;
use tracing::warn;

use super::{Accept, Restored, SourceView, wire};
use crate::config;
use crate::config::etcd::Passwords;
use crate::error_text;
use crate::origin::{self, Origin};
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
    /// Where passwords go that the controller keeps.
    origin: Option<Origin>,
    _worker: Worker,
}

impl Etcd {
    /// Starts to follow the cluster. `first_scan` is dropped after the first complete read, or when no member can be
    /// reached.
    ///
    /// # Errors
    /// If no thread can be started.
    pub fn start(
        settings: config::etcd::Etcd,
        store: Arc<Store>,
        restored: Option<Restored>,
        first_scan: Blocker,
    ) -> io::Result<Self> {
        let to_controller = settings.passwords == Passwords::Controller;
        let (origin, asks) = origin::channel();
        let passing = to_controller.then(|| passwords::run(settings.clone(), Arc::clone(&store), asks));
        let writing = attributes::run(settings.clone(), Arc::clone(&store));
        let (follower, state) = follower(settings, store, restored);
        let (accept, accepts) = mpsc::unbounded_channel();
        let worker = Worker::spawn("source", async move |mut stop: Stop| {
            tokio::select! {
                () = stop.requested() => {}
                never = follower.run(first_scan) => match never {},
                () = answer(accepts, &follower) => {}
                () = pass(passing) => {}
                () = writing => {}
            }
        })?;
        Ok(Self { state, accept, origin: to_controller.then_some(origin), _worker: worker })
    }

    /// As [`Self::start`], for many nodes in one process: returns the view of the state, and a future that follows the
    /// cluster on the caller's thread and never completes.
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

    /// Returns where passwords go that guests post; `None`: this node keeps them.
    #[must_use]
    pub fn origin(&self) -> Option<Origin> {
        self.origin.clone()
    }

    pub(super) fn accepts(&self) -> mpsc::UnboundedSender<Accept> {
        self.accept.clone()
    }
}

/// Returns warnings: unwise settings, and files that are not usable now.
pub(super) fn warnings(settings: &config::etcd::Etcd) -> Vec<String> {
    let unusable = connect::Credentials::read(settings).err().map(|error| error_text::chain(&error));
    settings.warnings().into_iter().chain(unusable).collect()
}

/// Prepares to follow the cluster, and returns the view of its state.
fn follower(settings: config::etcd::Etcd, store: Arc<Store>, restored: Option<Restored>) -> (Follower, SourceView) {
    for warning in settings.warnings() {
        warn!("{warning}");
    }
    let prefix = settings.node_prefix(&settings.node);
    let mirror = Mirror::new(prefix.clone(), wire::parse, store, restored, &settings.endpoints);
    let state = StateView::new(mirror.state());
    (Follower { settings, prefix, mirror: RefCell::new(mirror), state: state.clone() }, state)
}

/// Passes passwords on, if the controller keeps them; does not end before their queue does.
async fn pass(passing: Option<impl Future<Output = ()>>) {
    match passing {
        Some(passing) => passing.await,
        None => std::future::pending().await,
    }
}

/// Handles the operator's confirmations, also while no member can be reached.
async fn answer(mut accepts: mpsc::UnboundedReceiver<Accept>, follower: &Follower) {
    while let Some(Accept(answer)) = accepts.recv().await {
        // The requester may have given up.
        let _ = answer.send(follower.accept());
    }
}
