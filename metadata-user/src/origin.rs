//! The two requests that may wait for a controller: a path that was not read ahead, and a password.
//!
//! Promises: whoever asks is told within its own patience, or goes away without harm; what was read is in the store when
//! that is said. Nothing here knows which controller it is.
//!
//! Left out: who answers (`source`), and how long is waited (`http`).

use bytes::Bytes;
use tokio::sync::{mpsc, oneshot};

use crate::record::InstanceId;

/// Requests that may wait to be taken; beyond, guests are told to ask again.
const WAITING: usize = 1024;

/// What is wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Want {
    /// The page of this path in the store.
    Page(String),
    /// This password where it belongs.
    Password {
        /// The path that it is posted to.
        path: String,
        /// What the guest posted.
        password: Bytes,
    },
}

/// What became of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The page is in the store.
    Kept,
    /// The controller answered a password with this status.
    Posted(u16),
    /// Nobody can say now: the guest shall ask again.
    Unavailable,
}

/// A request on its way.
#[derive(Debug)]
pub struct Ask {
    /// Whose.
    pub instance: InstanceId,
    /// For what.
    pub want: Want,
    /// Where the answer goes. Dropped: [`Outcome::Unavailable`].
    pub done: oneshot::Sender<Outcome>,
}

/// Asks the controller. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Origin(mpsc::Sender<Ask>);

/// Returns both ends.
#[must_use]
pub fn channel() -> (Origin, mpsc::Receiver<Ask>) {
    let (sender, receiver) = mpsc::channel(WAITING);
    (Origin(sender), receiver)
}

impl Origin {
    /// Asks, and waits for what becomes of it. Whoever loses patience drops the future.
    pub async fn ask(&self, instance: InstanceId, want: Want) -> Outcome {
        let (done, outcome) = oneshot::channel();
        match self.0.try_send(Ask { instance, want, done }) {
            Ok(()) => outcome.await.unwrap_or(Outcome::Unavailable),
            Err(_) => Outcome::Unavailable,
        }
    }
}
