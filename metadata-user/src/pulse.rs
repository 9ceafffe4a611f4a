//! The progress of a thread, for whoever watches that it does not hang.
//!
//! Promises: counting is one atomic operation. Clones are of the same thread.

use std::sync::Arc;
use std::sync::atomic::{AtomicI32, AtomicU64, Ordering};
use std::time::Duration;

use nix::unistd::gettid;
use tokio::time::{MissedTickBehavior, interval};

/// The progress of one thread. The default is that of one that nobody watches.
#[derive(Clone, Debug, Default)]
pub struct Pulse {
    period: Option<Duration>,
    state: Arc<State>,
}

#[derive(Debug, Default)]
struct State {
    count: AtomicU64,
    /// 0 until it has begun.
    thread: AtomicI32,
}

impl Pulse {
    /// Returns that of a thread which is to count so often at least; `None`: nobody watches it.
    #[must_use]
    pub fn every(period: Option<Duration>) -> Self {
        Self { period, state: Arc::default() }
    }

    /// Counts while the runtime of the thread that is watched gets to its tasks. Completes at once where nobody watches, else never.
    pub async fn beat(self) {
        let Some(period) = self.period else { return };
        self.state.thread.store(gettid().as_raw(), Ordering::Relaxed);
        let mut ticks = interval(period);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            self.count();
        }
    }

    /// Counts a part of work that keeps the thread from its tasks for long.
    pub fn count(&self) {
        self.state.count.fetch_add(1, Ordering::Relaxed);
    }

    /// Returns how often it has counted.
    #[must_use]
    pub fn counted(&self) -> u64 {
        self.state.count.load(Ordering::Relaxed)
    }

    /// Returns the thread's id; 0 until it has begun.
    #[must_use]
    pub fn thread(&self) -> i32 {
        self.state.thread.load(Ordering::Relaxed)
    }
}
