//! Another look, a moment later, at connections whose request was answered.
//!
//! Most guests close a connection as soon as they have the answer, some tenths of a millisecond later. Whoever waits for that by epoll
//! makes three system calls and a wake-up for it. Here a thread looks at all of them at once, when [`PAUSE`] is over, and only those that
//! are still open are registered.
//!
//! Promises: whoever asked is woken within two pauses; nothing is woken, and no timer runs, while nobody has asked.

use std::sync::atomic::{AtomicU64, Ordering};
use std::task::Waker;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::sleep;

/// Time until the look: the runtime's timers have no shorter one. The second request of a connection that is kept may wait as long.
const PAUSE: Duration = Duration::from_millis(1);

/// The connections of one thread that are looked at again.
#[derive(Debug, Default)]
pub(super) struct Rechecks {
    /// Looks so far.
    round: AtomicU64,
    waiting: Mutex<Vec<Waker>>,
    asked: Notify,
}

/// The next look, for a connection that waits for it.
#[derive(Debug)]
pub(super) struct Recheck {
    after: u64,
    waker: Waker,
}

impl Rechecks {
    /// Wakes this task at the next look.
    pub(super) fn ask(&self, waker: &Waker) -> Recheck {
        let mut waiting = self.waiting.lock();
        if waiting.is_empty() {
            self.asked.notify_one();
        }
        waiting.push(waker.clone());
        Recheck { after: self.round.load(Ordering::Relaxed), waker: waker.clone() }
    }

    /// Returns whether the look is over that was asked for. If not, this task is woken by it.
    pub(super) fn is_over(&self, recheck: &mut Recheck, waker: &Waker) -> bool {
        if self.round.load(Ordering::Relaxed) > recheck.after {
            return true;
        }
        if !recheck.waker.will_wake(waker) {
            *recheck = self.ask(waker);
        }
        false
    }

    /// Looks again when somebody has asked. Never completes.
    pub(super) async fn run(&self) {
        loop {
            self.asked.notified().await;
            sleep(PAUSE).await;
            self.look();
        }
    }

    fn look(&self) {
        let woken = {
            let mut waiting = self.waiting.lock();
            // Under the lock: whoever asks after this waits for the next one.
            self.round.fetch_add(1, Ordering::Relaxed);
            std::mem::take(&mut *waiting)
        };
        woken.into_iter().for_each(Waker::wake);
    }
}

#[cfg(test)]
pub(super) mod tests {
    use std::future::poll_fn;
    use std::sync::Arc;
    use std::task::Poll;

    use tokio::time::Instant;

    use super::*;

    /// Looks until the test ends.
    pub(in crate::http) fn running() -> Arc<Rechecks> {
        let rechecks = Arc::new(Rechecks::default());
        tokio::spawn({
            let rechecks = Arc::clone(&rechecks);
            async move { rechecks.run().await }
        });
        rechecks
    }

    /// Waits for a look.
    async fn looked_at(rechecks: &Rechecks) {
        let mut recheck = None;
        poll_fn(|cx| {
            let recheck = recheck.get_or_insert_with(|| rechecks.ask(cx.waker()));
            if rechecks.is_over(recheck, cx.waker()) { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_asks_is_woken_once_and_soon() {
        let rechecks = running();
        for _ in 0..3 {
            let begun = Instant::now();
            tokio::join!(looked_at(&rechecks), looked_at(&rechecks));
            assert!((PAUSE..=2 * PAUSE).contains(&begun.elapsed()), "{:?}", begun.elapsed());
        }
        assert_eq!(rechecks.round.load(Ordering::Relaxed), 3, "one for all who wait");
        // Without anybody, no timer.
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert_eq!(rechecks.round.load(Ordering::Relaxed), 3);
    }

    #[test]
    fn another_waker_is_woken_too() {
        let rechecks = Rechecks::default();
        let (woken, waker) = counting();
        let mut recheck = rechecks.ask(Waker::noop());
        assert!(!rechecks.is_over(&mut recheck, &waker));
        rechecks.look();
        assert!(rechecks.is_over(&mut recheck, &waker) && woken.load(Ordering::Relaxed) == 1);
    }

    /// A waker that counts.
    fn counting() -> (Arc<AtomicU64>, Waker) {
        struct Count(Arc<AtomicU64>);
        impl std::task::Wake for Count {
            fn wake(self: Arc<Self>) {
                self.0.fetch_add(1, Ordering::Relaxed);
            }
        }
        let count = Arc::new(AtomicU64::new(0));
        (Arc::clone(&count), Waker::from(Arc::new(Count(count))))
    }
}
