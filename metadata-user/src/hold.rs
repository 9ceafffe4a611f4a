//! A task that stands still for a while, because another process does its work.
//!
//! Promises: whoever asks knows when the task stands still; it goes on as soon as the [`Held`] is dropped.

use std::convert::Infallible;

use tokio::sync::{mpsc, oneshot};

/// What the task gets.
#[derive(Debug)]
pub struct Hold {
    stands: oneshot::Sender<()>,
    release: oneshot::Receiver<Infallible>,
}

/// The task stands still while this lives.
#[derive(Debug)]
#[must_use = "the task goes on when this is dropped"]
pub struct Held(#[expect(dead_code, reason = "its end is what counts")] oneshot::Sender<Infallible>);

/// Makes a task stand still that takes [`Hold`]s from a queue.
#[derive(Clone, Debug)]
pub struct Holder(mpsc::Sender<Hold>);

impl Holder {
    /// Returns one, and the queue that the task takes from.
    #[must_use]
    pub fn new() -> (Self, mpsc::Receiver<Hold>) {
        let (sender, receiver) = mpsc::channel(1);
        (Self(sender), receiver)
    }

    /// Completes when the task stands still. It does as long as the value lives, also when the process ends. `None`: the task has ended.
    pub async fn hold(&self) -> Option<Held> {
        let (hold, standing, held) = hold();
        self.0.send(hold).await.ok()?;
        standing.await.ok()?;
        Some(held)
    }
}

/// Completes when the task stands still; an error if it has ended.
pub type Standing = oneshot::Receiver<()>;

/// Returns what the task gets, and what whoever asks keeps.
pub fn hold() -> (Hold, Standing, Held) {
    let ((stands, standing), (held, release)) = (oneshot::channel(), oneshot::channel());
    (Hold { stands, release }, standing, Held(held))
}

impl Hold {
    /// Says that the task stands still, and completes when it may go on. Once polled, cancelling it is to end the task.
    pub async fn stand(self) {
        // Whoever asked may have given up.
        let _ = self.stands.send(());
        let _ = self.release.await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_task_stands_still_until_it_is_released() {
        let (hold, standing, held) = hold();
        let task = tokio::spawn(hold.stand());
        standing.await.expect("it stands still");
        assert!(!task.is_finished());
        drop(held);
        task.await.expect("it goes on");
    }
}
