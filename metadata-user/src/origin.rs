//! The two requests that may wait for a controller: a path that was not prefetched, and a password.
//!
//! Promises: a caller may stop waiting at any time without harm; what was read is in the store before
//! [`Outcome::Fetched`]. This module does not depend on the kind of controller.
//!
//! Left out: handling the requests (`source`), and the time limit (`http`).

use tokio::sync::{mpsc, oneshot};

use crate::api::{Password, Written};
use crate::record::InstanceId;

/// Capacity of the queue of requests; when it is full, guests have to retry.
const WAITING: usize = 1024;

/// What is wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Want {
    /// The page of this path in the store.
    Page(String),
    /// Store this password.
    Password {
        /// The path that it is posted to.
        path: String,
        /// What the guest posted.
        password: Password,
    },
}

/// The outcome of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The page is in the store.
    Fetched,
    /// The controller's answer to a password.
    Posted(Written),
    /// The controller is unavailable: the guest has to retry.
    Unavailable,
}

/// A request to the controller.
#[derive(Debug)]
pub struct Ask {
    /// The instance that it is for.
    pub instance: InstanceId,
    /// What is wanted.
    pub want: Want,
    /// The channel for the outcome. Dropping it means [`Outcome::Unavailable`].
    pub done: oneshot::Sender<Outcome>,
}

/// Sends requests to the controller. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Origin(mpsc::Sender<Ask>);

/// Returns both ends of the queue.
#[must_use]
pub fn channel() -> (Origin, mpsc::Receiver<Ask>) {
    let (sender, receiver) = mpsc::channel(WAITING);
    (Origin(sender), receiver)
}

impl Origin {
    /// Sends a request, and waits for its outcome. Cancel-safe: dropping the future does not withdraw the request.
    pub async fn ask(&self, instance: InstanceId, want: Want) -> Outcome {
        let (done, outcome) = oneshot::channel();
        match self.0.try_send(Ask { instance, want, done }) {
            Ok(()) => outcome.await.unwrap_or(Outcome::Unavailable),
            Err(_) => Outcome::Unavailable,
        }
    }
}
