//! The service manager's watchdog (`WatchdogSec=`).
//!
//! Promises: the service manager is notified only while the main thread runs, and while every thread that answers guests has
//! made progress since the last time. A thread makes progress when its runtime, on which its connections are, gets to a task
//! that only counts. So one that hangs in a call, spins in one task or is stopped is noticed: after at most one and a half
//! times `WatchdogSec=` the service manager ends the daemon, and `Restart=` starts the next.
//!
//! Left out: the other threads. Their calls may take long, and guests are answered meanwhile. Without a watchdog nothing is
//! counted.

use std::sync::Arc;
use std::sync::atomic::{AtomicI32, AtomicU64, Ordering};
use std::time::Duration;

use nix::unistd::gettid;
use tokio::time::{MissedTickBehavior, interval};
use tracing::error;

/// Of the watchdog's time: how often the service manager is notified, as sd_watchdog_enabled(3) recommends, and how often a
/// thread counts meanwhile.
const NOTIFICATIONS: u32 = 2;
const BEATS: u32 = 8;

/// Watches threads for the service manager.
#[derive(Debug)]
pub(super) struct Watchdog {
    /// What the service manager waits for; `None`: it does not.
    time: Option<Duration>,
    threads: Vec<(Pulse, u64)>,
}

/// The progress of one thread.
#[derive(Clone, Debug)]
pub(super) struct Pulse {
    time: Option<Duration>,
    state: Arc<State>,
}

#[derive(Debug, Default)]
struct State {
    count: AtomicU64,
    /// 0 until it has begun.
    thread: AtomicI32,
}

impl Watchdog {
    /// The watchdog that the service manager has for this process.
    pub(super) fn of_service_manager() -> Self {
        Self::new(sd_notify::watchdog_enabled())
    }

    fn new(time: Option<Duration>) -> Self {
        Self { time, threads: Vec::new() }
    }

    /// Adds a thread, which is to run [`Pulse::beat`].
    pub(super) fn add_thread(&mut self) -> Pulse {
        let pulse = Pulse { time: self.time, state: Arc::default() };
        self.threads.push((pulse.clone(), 0));
        pulse
    }

    /// Calls `notify` as long as every thread makes progress. Never completes.
    pub(super) async fn keep(mut self, mut notify: impl FnMut()) {
        let Some(time) = self.time else { return std::future::pending().await };
        let mut ticks = interval(time / NOTIFICATIONS);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            let stuck = self.without_progress();
            if stuck.is_empty() {
                notify();
            } else {
                error!(threads = ?stuck, "threads that answer guests make no progress: not notifying the watchdog");
            }
        }
    }

    /// Returns the threads that have not counted since the last call.
    fn without_progress(&mut self) -> Vec<i32> {
        let mut stuck = Vec::new();
        for (pulse, seen) in &mut self.threads {
            let count = pulse.state.count.load(Ordering::Relaxed);
            if count == *seen {
                stuck.push(pulse.state.thread.load(Ordering::Relaxed));
            }
            *seen = count;
        }
        stuck
    }
}

impl Pulse {
    /// Counts, on the runtime of the thread that is watched. Completes at once where there is no watchdog, else never.
    pub(super) async fn beat(self) {
        let Some(time) = self.time else { return };
        self.state.thread.store(gettid().as_raw(), Ordering::Relaxed);
        let mut ticks = interval(time / BEATS);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            self.state.count.fetch_add(1, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::rc::Rc;

    use super::*;

    const TIME: Duration = Duration::from_secs(30);

    /// Time passes only when nothing else is to be done, so these tests are exact and take none.
    #[tokio::test(start_paused = true)]
    async fn it_is_notified_while_every_thread_makes_progress_and_no_longer() {
        let notified = Rc::new(Cell::new(0));
        let count = Rc::clone(&notified);
        let mut watchdog = Watchdog::new(Some(TIME));
        let [first, second] = [watchdog.add_thread(), watchdog.add_thread()];
        let beats = tokio::spawn(first.beat());
        let stopped = tokio::spawn(second.beat());
        // Both have counted once.
        tokio::task::yield_now().await;
        let local = tokio::task::LocalSet::new();
        let _keep = local.spawn_local(watchdog.keep(move || count.set(count.get() + 1)));
        local
            .run_until(async {
                tokio::time::sleep(TIME * 2).await;
                assert!(notified.get() >= 4, "{}", notified.get());
                stopped.abort();
                // What it had counted before it stopped may be noticed once.
                tokio::time::sleep(TIME / 2).await;
                let before = notified.get();
                tokio::time::sleep(TIME * 10).await;
                assert_eq!(notified.get(), before);
                assert!(!beats.is_finished());
            })
            .await;
    }

    #[tokio::test(start_paused = true)]
    async fn without_a_watchdog_nothing_is_counted() {
        let mut watchdog = Watchdog::new(None);
        let pulse = watchdog.add_thread();
        pulse.clone().beat().await;
        assert_eq!(pulse.state.count.load(Ordering::Relaxed), 0);
        let kept = tokio::time::timeout(TIME * 10, watchdog.keep(|| panic!("nobody waits for it"))).await;
        assert!(kept.is_err());
    }
}
