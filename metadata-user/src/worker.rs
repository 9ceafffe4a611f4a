//! A long-lived task on a thread of its own, with a runtime of its own: for work that blocks, or must not be delayed.
//!
//! Promises:
//! - dropping a [`Worker`] stops its task, and waits for it, at most for its patience: a thread that hangs
//!   in a system call or in one long computation is left behind, with a warning, and ends with the process;
//! - a task that panics is reported at once, with its thread's name, and [`Worker::is_running`] is false from then on;
//! - work on the runtime's blocking threads, such as the look-up of a name, does not delay shutdown;
//! - a task begins when its thread has taken on its privileges ([`Profile`]): none, unless [`Worker::spawn_as`] names others.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread::JoinHandle;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::runtime::Builder;
use tokio::sync::watch;
use tracing::{error, warn};

use crate::privilege::{PLAIN, PrivilegeError, Profile};

/// How long dropping waits for the task, unless [`Worker::with_patience`] sets another time.
pub const PATIENCE: Duration = Duration::from_secs(5);

/// Resolves when the task is to end. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Stop(watch::Receiver<()>);

impl Stop {
    /// Waits until the task is to end.
    pub async fn requested(&mut self) {
        // Nothing is ever sent: only the end of the sender matters.
        while self.0.changed().await.is_ok() {}
    }

    /// Returns whether the task is to end. For loops that block.
    #[must_use]
    pub fn is_requested(&self) -> bool {
        self.0.has_changed().is_err()
    }
}

/// A running task. Dropping it ends the task.
#[derive(Debug)]
pub struct Worker {
    name: &'static str,
    /// Dropped to stop the task.
    stop: Option<watch::Sender<()>>,
    /// Closed when the task has ended, however it did.
    ended: Mutex<Receiver<()>>,
    thread: Option<JoinHandle<()>>,
    patience: Duration,
}

impl Worker {
    /// Starts a thread of this name and runs on it the future that `task` returns. The future owns what it uses, and
    /// ends soon after its [`Stop`] resolves; it may also end by itself.
    ///
    /// # Errors
    /// If the thread or the runtime cannot be started, or the thread cannot give up its privileges.
    pub fn spawn<F>(name: &'static str, task: impl FnOnce(Stop) -> F + Send + 'static) -> io::Result<Self>
    where
        F: Future<Output = ()>,
    {
        Self::spawn_as(&PLAIN, name, task)
    }

    /// Does what [`Self::spawn`] does, with the privileges of this profile.
    ///
    /// # Errors
    /// As [`Self::spawn`].
    pub fn spawn_as<F>(
        profile: &'static Profile,
        name: &'static str,
        task: impl FnOnce(Stop) -> F + Send + 'static,
    ) -> io::Result<Self>
    where
        F: Future<Output = ()>,
    {
        // Threads for what blocks, such as the look-up of a name.
        let runtime = Builder::new_current_thread().enable_all().on_thread_start(|| profile.note_helper()).build()?;
        Self::start(profile, name, move |stop| {
            runtime.block_on(task(stop));
            // Its blocking threads may hang in the system's resolver.
            runtime.shutdown_background();
        })
    }

    /// Starts a thread of this name for a function that blocks and needs no runtime.
    ///
    /// # Errors
    /// If the thread cannot be started, or cannot give up its privileges.
    pub fn spawn_blocking(name: &'static str, task: impl FnOnce(Stop) + Send + 'static) -> io::Result<Self> {
        Self::spawn_blocking_as(&PLAIN, name, task)
    }

    /// Does what [`Self::spawn_blocking`] does, with the privileges of this profile.
    ///
    /// # Errors
    /// As [`Self::spawn_blocking`].
    pub fn spawn_blocking_as(
        profile: &'static Profile,
        name: &'static str,
        task: impl FnOnce(Stop) + Send + 'static,
    ) -> io::Result<Self> {
        Self::start(profile, name, task)
    }

    fn start(
        profile: &'static Profile,
        name: &'static str,
        task: impl FnOnce(Stop) + Send + 'static,
    ) -> io::Result<Self> {
        let (stop, stopped) = watch::channel(());
        let (end, ended) = channel::<()>();
        let (enter, entered) = channel::<Result<(), PrivilegeError>>();
        let thread = std::thread::Builder::new().name(name.to_owned()).spawn(move || {
            // Dropped last, so that a waiter finds the thread about to end.
            let _end = end;
            let result = profile.enter();
            let refused = result.is_err();
            // The starting thread waits for it.
            let _ = enter.send(result);
            if refused {
                return;
            }
            // The task is not used again after a panic.
            if catch_unwind(AssertUnwindSafe(|| task(Stop(stopped)))).is_err() {
                error!(thread = name, "a thread panicked: its part of the daemon's state is no longer updated");
            }
        })?;
        entered.recv().map_err(io::Error::other)??;
        Ok(Self { name, stop: Some(stop), ended: Mutex::new(ended), thread: Some(thread), patience: PATIENCE })
    }

    /// Changes how long dropping it waits.
    #[must_use]
    pub fn with_patience(mut self, patience: Duration) -> Self {
        self.patience = patience;
        self
    }

    /// Lets the task run until it ends by itself, or the process does.
    pub fn detach(mut self) {
        self.thread = None;
        if let Some(stop) = self.stop.take() {
            // Its end would stop the task.
            std::mem::forget(stop);
        }
    }

    /// Returns whether the task is still running.
    #[must_use]
    pub fn is_running(&self) -> bool {
        self.thread.as_ref().is_some_and(|thread| !thread.is_finished())
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        if self.stop.take().is_none() {
            // Detached.
            return;
        }
        match self.ended.get_mut().recv_timeout(self.patience) {
            // Nothing is ever sent: the other end is gone.
            Ok(()) | Err(RecvTimeoutError::Disconnected) => {
                if let Some(thread) = self.thread.take() {
                    // It has reported its panic.
                    let _ = thread.join();
                }
            }
            Err(RecvTimeoutError::Timeout) => {
                warn!(thread = self.name, waited = ?self.patience, "a thread does not stop; continuing without it");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::time::Instant;

    use super::*;

    #[test]
    fn dropping_it_ends_the_task_and_waits_for_it() {
        let ended = Arc::new(AtomicBool::new(false));
        let flag = Arc::clone(&ended);
        let worker = Worker::spawn("test", async move |mut stop: Stop| {
            stop.requested().await;
            assert!(stop.is_requested());
            flag.store(true, Ordering::SeqCst);
        });
        let worker = worker.unwrap();
        assert!(worker.is_running());
        drop(worker);
        assert!(ended.load(Ordering::SeqCst));
    }

    #[test]
    fn a_task_that_hangs_delays_the_end_no_longer_than_its_patience() {
        let (release, hold) = channel::<()>();
        let worker = Worker::spawn_blocking("test", move |_| assert!(hold.recv().is_err())).unwrap();
        let began = Instant::now();
        drop(worker.with_patience(Duration::from_millis(50)));
        assert!(began.elapsed() >= Duration::from_millis(50));
        drop(release);
    }

    #[test]
    fn a_detached_task_runs_on() {
        let (answer, asked) = channel();
        let (ask, question) = tokio::sync::oneshot::channel::<()>();
        let worker = Worker::spawn("test", async move |stop: Stop| {
            let _ = question.await;
            answer.send(stop.is_requested()).unwrap();
        });
        worker.unwrap().detach();
        drop(ask);
        assert_eq!(asked.recv(), Ok(false));
    }

    #[test]
    fn a_task_that_panics_has_ended() {
        let worker = Worker::spawn_blocking("test", |_| panic!("on purpose")).unwrap();
        assert_eq!(worker.ended.lock().recv(), Err(std::sync::mpsc::RecvError));
        drop(worker);
    }
}
