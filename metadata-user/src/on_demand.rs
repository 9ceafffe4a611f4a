//! What services answer at the moment when a guest reads: for answers that may be used once, or not for long.
//!
//! Promises: an answer is given to whoever waits for it and to nobody else, and is kept nowhere. This module does not depend on who asks
//! the services.
//!
//! Left out: asking them (`source::vendordata`), and how long a guest waits (`http`).

use bytes::Bytes;
use tokio::sync::{mpsc, oneshot};

use crate::record::InstanceId;

/// Guests that may wait; beyond, one gets the document without these answers.
const WAITING: usize = 1024;

/// What one of the services answered.
#[derive(Clone, PartialEq, Eq)]
pub struct Member {
    /// The service's name: the key of its answer.
    pub name: String,
    /// Its answer, in JSON.
    pub value: Bytes,
}

/// Without the answer, which may be a secret.
impl std::fmt::Debug for Member {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Member").field("name", &self.name).finish_non_exhaustive()
    }
}

/// A guest that waits for an instance's answers.
#[derive(Debug)]
pub struct Ask {
    /// The instance that it is.
    pub instance: InstanceId,
    /// The channel for the answers. Dropping it means that there are none.
    pub done: oneshot::Sender<Vec<Member>>,
}

/// Asks the services. Cheap to clone.
#[derive(Clone, Debug)]
pub struct OnDemand(mpsc::Sender<Ask>);

/// Returns both ends of the queue.
#[must_use]
pub fn channel() -> (OnDemand, mpsc::Receiver<Ask>) {
    let (sender, receiver) = mpsc::channel(WAITING);
    (OnDemand(sender), receiver)
}

impl OnDemand {
    /// Asks all services for an instance; `None`: nobody is there to ask them. Cancel-safe: answers that nobody waits for are dropped.
    pub async fn ask(&self, instance: InstanceId) -> Option<Vec<Member>> {
        let (done, answers) = oneshot::channel();
        self.0.try_send(Ask { instance, done }).ok()?;
        answers.await.ok()
    }
}
