//! The two requests that may wait for a controller: a path that was not read before, and a password.
//!
//! Promises: whoever asks may stop waiting at any time without harm; what was read is in the store before
//! [`Outcome::Fetched`]. Nothing here knows which controller it is.
//!
//! Left out: who answers (`source`), and how long is waited (`http`).

use tokio::sync::{mpsc, oneshot};

use crate::api::{Password, Written};
use crate::record::InstanceId;

/// Requests that may wait to be taken; beyond, guests have to ask again.
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
        password: Password,
    },
}

/// What became of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The page is in the store.
    Fetched,
    /// What the controller made of a password.
    Posted(Written),
    /// The controller cannot be asked now: the guest has to ask again.
    Unavailable,
}

/// A request to the controller.
#[derive(Debug)]
pub struct Ask {
    /// The instance that it is for.
    pub instance: InstanceId,
    /// What is wanted.
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
    /// Asks, and waits for the outcome. Cancel-safe: dropping the future withdraws nothing that the controller has already.
    pub async fn ask(&self, instance: InstanceId, want: Want) -> Outcome {
        let (done, outcome) = oneshot::channel();
        match self.0.try_send(Ask { instance, want, done }) {
            Ok(()) => outcome.await.unwrap_or(Outcome::Unavailable),
            Err(_) => Outcome::Unavailable,
        }
    }
}
