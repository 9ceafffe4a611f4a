//! Graceful shutdown: guests' connections end in an order in which no request is lost.
//!
//! Promises, in this order:
//! 1. [`Drain::begin`]: whoever is answered from here on is told that the connection ends with that answer. Connections are still
//!    accepted, so none waits while those that there are end; unless a successor accepts them;
//! 2. [`Drain::close`]: no connection is accepted any more, what has no request ends, and requests in flight are answered;
//! 3. [`Drain::finished`] completes when every [`InFlight`] is dropped, or when its time limit is reached, whichever is first.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tokio_util::task::task_tracker::TaskTrackerToken;

/// How long a connection that is kept open gets for its next request, so that the answer can say that it ends: whoever asks
/// again and again does so within that time. A connection that is closed without it may have a request under way.
const LINGER: Duration = Duration::from_secs(1);

/// The shutdown of the daemon, or of a part of it. Cheap to clone; clones share their state.
#[derive(Clone, Debug, Default)]
pub struct Drain(Arc<State>);

#[derive(Debug, Default)]
struct State {
    begun: AtomicBool,
    refusing: CancellationToken,
    closing: CancellationToken,
    tracker: TaskTracker,
}

/// Who accepts connections from the beginning of a drain on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Successor {
    /// Nobody yet: this process, until its connections have ended.
    Later,
    /// Another process does so already.
    Accepts,
}

/// Something that shutdown waits for: a connection.
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

    /// Runs the shutdown, at most for `bound`. Returns whether everything finished in time.
    pub async fn run(&self, bound: Duration, successor: Successor) -> bool {
        let end = Instant::now() + bound;
        self.begin();
        if successor == Successor::Accepts {
            self.0.refusing.cancel();
        }
        self.finished(LINGER.min(bound / 2)).await;
        self.close();
        self.finished(end.saturating_duration_since(Instant::now())).await
    }

    /// Ends the connections that there are as [`Self::run`] does, while others are still accepted: the process goes on. No new ones
    /// begin, but some may not have been accepted yet, so this waits for them however few there are. Returns whether none was left
    /// in time.
    pub async fn run_accepting(&self, bound: Duration) -> bool {
        let end = Instant::now() + bound;
        self.begin();
        sleep(LINGER.min(bound / 2)).await;
        self.0.closing.cancel();
        self.finished(end.saturating_duration_since(Instant::now())).await
    }

    /// Begins the shutdown: the first step.
    pub fn begin(&self) {
        self.0.begun.store(true, Ordering::Relaxed);
        self.0.tracker.close();
    }

    /// Takes the second step.
    pub fn close(&self) {
        self.begin();
        self.0.refusing.cancel();
        self.0.closing.cancel();
    }

    /// Returns whether the shutdown has begun.
    #[must_use]
    pub fn has_begun(&self) -> bool {
        self.0.begun.load(Ordering::Relaxed)
    }

    /// Completes when no connection is to be accepted any more. Cancel-safe.
    pub async fn refuses(&self) {
        self.0.refusing.cancelled().await;
    }

    /// Returns whether the second step has been taken.
    #[must_use]
    pub fn is_closing(&self) -> bool {
        self.0.closing.is_cancelled()
    }

    /// Completes when the second step is taken. Cancel-safe.
    pub async fn closes(&self) {
        self.0.closing.cancelled().await;
    }

    /// Registers something to wait for.
    pub fn in_flight(&self) -> InFlight {
        InFlight { _token: self.0.tracker.token() }
    }

    /// Waits until nothing is in flight, at most for `bound`. Returns whether everything finished in time.
    pub async fn finished(&self, bound: Duration) -> bool {
        tokio::time::timeout(bound, self.0.tracker.wait()).await.is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOUND: Duration = Duration::from_secs(5);

    /// Runs a drain, and returns after what time it refused, closed and ended, in milliseconds, and whether all was finished.
    async fn times(drain: &Drain, successor: Successor) -> ([u128; 3], bool) {
        let begun = Instant::now();
        let (refused, closed, finished) = tokio::join!(
            async {
                drain.refuses().await;
                begun.elapsed().as_millis()
            },
            async {
                drain.closes().await;
                begun.elapsed().as_millis()
            },
            drain.run(BOUND, successor),
        );
        ([refused, closed, begun.elapsed().as_millis()], finished)
    }

    #[tokio::test(start_paused = true)]
    async fn it_waits_for_what_is_in_flight_but_not_for_ever() {
        let drain = Drain::new();
        assert!(!drain.has_begun());
        let request = drain.in_flight();
        assert_eq!(times(&drain, Successor::Later).await, ([1000, 1000, 5000], false));
        assert!(drain.has_begun() && drain.is_closing());
        drop(request);
        assert!(drain.finished(BOUND).await);
    }

    #[tokio::test(start_paused = true)]
    async fn where_a_successor_accepts_nothing_is_accepted_from_the_beginning_on() {
        let drain = Drain::new();
        let request = drain.in_flight();
        let ends = async {
            tokio::time::sleep(Duration::from_millis(1500)).await;
            drop(request);
        };
        let (times, ()) = tokio::join!(times(&drain, Successor::Accepts), ends);
        assert_eq!(times, ([0, 1000, 1500], true));
    }

    #[tokio::test(start_paused = true)]
    async fn a_process_that_goes_on_ends_its_connections_and_still_accepts() {
        let drain = Drain::new();
        let request = drain.in_flight();
        let begun = Instant::now();
        let ends = async {
            drain.closes().await;
            assert_eq!(begun.elapsed().as_millis(), 1000);
            drop(request);
        };
        let (finished, ()) = tokio::join!(drain.run_accepting(BOUND), ends);
        assert!(finished && drain.has_begun());
        assert!(tokio::time::timeout(BOUND, drain.refuses()).await.is_err());
        let _late = drain.in_flight();
        assert!(!drain.run_accepting(BOUND).await);
    }

    #[tokio::test(start_paused = true)]
    async fn without_connections_it_takes_no_time() {
        assert_eq!(times(&Drain::new(), Successor::Later).await, ([0, 0, 0], true));
    }
}
