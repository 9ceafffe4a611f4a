//! Graceful shutdown: every part is notified, and requests in flight are waited for.
//!
//! Promises: [`Drain::begin`] reaches every watcher at once; [`Drain::finished`] completes when every [`InFlight`] is
//! dropped, or when its time limit is reached, whichever is first.

use std::time::Duration;

use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tokio_util::task::task_tracker::TaskTrackerToken;

/// The shutdown of the daemon, or of a part of it. Cheap to clone; clones share their state.
#[derive(Clone, Debug, Default)]
pub struct Drain {
    token: CancellationToken,
    tracker: TaskTracker,
}

/// Something that shutdown waits for: a connection with a request in flight.
#[derive(Debug)]
#[must_use = "it is waited for only while this lives"]
pub struct InFlight {
    _token: TaskTrackerToken,
}

impl Drain {
    /// Returns a shutdown that has not begun.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Begins the shutdown.
    pub fn begin(&self) {
        self.token.cancel();
        self.tracker.close();
    }

    /// Returns whether the shutdown has begun.
    #[must_use]
    pub fn has_begun(&self) -> bool {
        self.token.is_cancelled()
    }

    /// Completes when the shutdown begins. Cancel-safe.
    pub async fn begun(&self) {
        self.token.cancelled().await;
    }

    /// Registers something to wait for.
    pub fn in_flight(&self) -> InFlight {
        InFlight { _token: self.tracker.token() }
    }

    /// Waits until nothing is in flight, at most for `bound`. Returns whether everything finished in time.
    pub async fn finished(&self, bound: Duration) -> bool {
        tokio::time::timeout(bound, self.tracker.wait()).await.is_ok()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::Drain;

    #[tokio::test(start_paused = true)]
    async fn waits_for_what_is_in_flight_but_not_for_ever() {
        let drain = Drain::new();
        let request = drain.in_flight();
        assert!(!drain.has_begun());
        drain.begin();
        drain.begun().await;
        assert!(!drain.finished(Duration::from_secs(5)).await, "one request is still in flight");
        drop(request);
        assert!(drain.finished(Duration::from_secs(5)).await);
    }
}
