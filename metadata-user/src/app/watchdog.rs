//! The service manager's watchdog (`WatchdogSec=`).
//!
//! Promises: the service manager is notified only while the main thread runs, every thread that answers guests has made progress since
//! the last time, and the thread `ports`, which attaches and repairs the data path, has made progress within the last four times. A
//! thread makes progress when its runtime gets to a task that only counts; `ports` also between one tap and the next. So one that hangs
//! in a call, spins in one task or is stopped is noticed: the service manager ends the daemon after at most one and a half times
//! `WatchdogSec=`, or three times for `ports`, and `Restart=` starts the next.
//!
//! Left out: the other threads. Their calls may take long, and guests are answered meanwhile. Without a watchdog nothing is
//! counted.

use std::time::Duration;

use tokio::time::{MissedTickBehavior, interval};
use tracing::error;

use crate::pulse::Pulse;

/// Of the watchdog's time: how often the service manager is notified, as sd_watchdog_enabled(3) recommends, and how often a
/// thread counts meanwhile.
const NOTIFICATIONS: u32 = 2;
const BEATS: u32 = 8;

/// Watches threads for the service manager.
#[derive(Debug)]
pub(super) struct Watchdog {
    /// What the service manager waits for; `None`: it does not.
    time: Option<Duration>,
    threads: Vec<Watched>,
}

/// What is known of a thread.
#[derive(Debug)]
struct Watched {
    name: &'static str,
    pulse: Pulse,
    /// What it had counted at the last notification.
    seen: u64,
    /// Notifications in a row at which it had counted nothing, and how many are too many.
    silent: u32,
    limit: u32,
}

/// What a thread does, which decides how long it may take.
#[derive(Clone, Copy, Debug)]
pub(super) enum Work {
    /// Nothing that waits: it counts until every notification.
    Answers,
    /// System calls that change interfaces: each waits while another program holds the kernel's lock on these (rtnl), as one does that
    /// removes hundreds of interfaces.
    Attaches,
}

impl Watchdog {
    /// The watchdog that the service manager has for this process.
    pub(super) fn of_service_manager() -> Self {
        Self::new(sd_notify::watchdog_enabled())
    }

    fn new(time: Option<Duration>) -> Self {
        Self { time, threads: Vec::new() }
    }

    /// Adds a thread of this name, which is to run [`Pulse::beat`].
    pub(super) fn add_thread(&mut self, name: &'static str, work: Work) -> Pulse {
        let limit = match work {
            Work::Answers => 1,
            Work::Attaches => 4,
        };
        let pulse = Pulse::every(self.time.map(|time| time / BEATS));
        self.threads.push(Watched { name, pulse: pulse.clone(), seen: 0, silent: 0, limit });
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
                error!(threads = stuck.join(", "), "threads make no progress: not notifying the watchdog");
            }
        }
    }

    /// Returns names and ids of the threads that have counted nothing for too long.
    fn without_progress(&mut self) -> Vec<String> {
        let mut stuck = Vec::new();
        for Watched { name, pulse, seen, silent, limit } in &mut self.threads {
            let count = pulse.counted();
            *silent = if count == *seen { *silent + 1 } else { 0 };
            *seen = count;
            if *silent >= *limit {
                stuck.push(format!("{name} ({})", pulse.thread()));
            }
        }
        stuck
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::rc::Rc;

    use super::*;

    const TIME: Duration = Duration::from_secs(30);

    /// Runs a watchdog over one thread that works and one that stops, and returns how often the service manager was notified after that.
    async fn notified_after_stop(work: Work) -> u32 {
        let notified = Rc::new(Cell::new(0));
        let count = Rc::clone(&notified);
        let mut watchdog = Watchdog::new(Some(TIME));
        let [first, second] =
            [("guests", Work::Answers), ("other", work)].map(|(name, work)| watchdog.add_thread(name, work));
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
                let before = notified.get();
                tokio::time::sleep(TIME * 10).await;
                assert!(!beats.is_finished());
                notified.get() - before
            })
            .await
    }

    /// Time passes only when nothing else is to be done, so these tests are exact and take none.
    #[tokio::test(start_paused = true)]
    async fn it_is_notified_while_every_thread_makes_progress_and_no_longer() {
        // What it had counted before it stopped may be noticed once.
        let last = notified_after_stop(Work::Answers).await;
        assert!(last <= 1, "{last}");
        let last = notified_after_stop(Work::Attaches).await;
        assert!((3..=4).contains(&last), "{last}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_thread_that_counts_its_work_is_not_stuck_though_its_runtime_gets_to_nothing() {
        let mut watchdog = Watchdog::new(Some(TIME));
        let pulse = watchdog.add_thread("ports", Work::Attaches);
        for _ in 0..20 {
            pulse.count();
            for _ in 0..4 {
                assert_eq!(watchdog.without_progress(), [""; 0]);
            }
        }
        assert_eq!(watchdog.without_progress(), ["ports (0)"]);
    }

    #[tokio::test(start_paused = true)]
    async fn without_a_watchdog_nothing_is_counted() {
        let mut watchdog = Watchdog::new(None);
        let pulse = watchdog.add_thread("guests", Work::Answers);
        pulse.clone().beat().await;
        assert_eq!(pulse.counted(), 0);
        let kept = tokio::time::timeout(TIME * 10, watchdog.keep(|| panic!("nobody waits for it"))).await;
        assert!(kept.is_err());
    }
}
