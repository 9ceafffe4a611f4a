//! A future beside a busy one, in the same task.
//!
//! A connection's task waits for its requests and, at the same time, for its binding to end, the drain, its timers; what accepts waits for
//! the drain too. These happen once in a task's life if at all, but each poll of it would look at them all: a lock and a clock each time.
//! [`OnWake`] looks at its future only if that has asked for it.
//!
//! Promises: what has become ready is seen by the next poll that begins after it woke its task; without that, a poll costs one
//! atomic read.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};

use futures_util::task::AtomicWaker;

/// A future that is polled when it has been woken, and the first time.
pub(crate) struct OnWake<F> {
    future: F,
    signal: Arc<Signal>,
    waker: Waker,
}

/// Whether the future is to be polled, and the task to wake for that.
struct Signal {
    is_set: AtomicBool,
    task: AtomicWaker,
}

impl Wake for Signal {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.is_set.store(true, Ordering::Release);
        self.task.wake();
    }
}

impl<F: Future + Unpin> OnWake<F> {
    /// Returns the future, to be polled once at first.
    pub(crate) fn new(future: F) -> Self {
        let signal = Arc::new(Signal { is_set: AtomicBool::new(true), task: AtomicWaker::new() });
        let waker = Waker::from(Arc::clone(&signal));
        Self { future, signal, waker }
    }
}

impl<F: Future + Unpin> Future for OnWake<F> {
    type Output = F::Output;

    /// May be called again after it was ready, if the future inside allows that.
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        // Before the look: whoever wakes after it wakes this task.
        self.signal.task.register(cx.waker());
        if !self.signal.is_set.load(Ordering::Acquire) {
            return Poll::Pending;
        }
        // A read and a write at once, so that it sees what the last of those who woke it did before that.
        self.signal.is_set.swap(false, Ordering::AcqRel);
        let Self { future, signal, waker } = &mut *self;
        let poll = Pin::new(future).poll(&mut Context::from_waker(waker));
        if poll.is_ready() {
            // One that can become ready again has not asked to be woken for that.
            signal.is_set.store(true, Ordering::Release);
        }
        poll
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::pin::pin;
    use std::time::Duration;

    use tokio::sync::Notify;
    use tokio::time::sleep;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn it_is_polled_when_it_was_woken_and_not_for_others() {
        let (mut polls, notify) = (0, Arc::new(Notify::new()));
        let mut notified = pin!(notify.notified());
        let mut future = OnWake::new(poll_fn(|cx| {
            polls += 1;
            notified.as_mut().poll(cx)
        }));
        for _ in 0..10 {
            tokio::select! {
                biased;
                () = &mut future => panic!("nobody has woken it"),
                () = sleep(Duration::from_millis(1)) => {}
            }
        }
        tokio::spawn({
            let notify = Arc::clone(&notify);
            async move { notify.notify_one() }
        });
        future.await;
        assert_eq!(polls, 2);
    }

    #[tokio::test]
    async fn what_wakes_it_from_another_thread_is_never_missed() {
        for _ in 0..1000 {
            let notify = Arc::new(Notify::new());
            let other = std::thread::spawn({
                let notify = Arc::clone(&notify);
                move || notify.notify_one()
            });
            let mut notified = pin!(notify.notified());
            OnWake::new(&mut notified).await;
            other.join().expect("it ends");
        }
    }
}
