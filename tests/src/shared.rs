//! A value that all tests of a process share: made when the first of them asks for it, dropped when the process ends.
//!
//! Promises: it is made once, whoever asks meanwhile waits for it; where making it fails, everyone gets that error. A
//! `static` would never be dropped, and what it started or wrote would outlive the tests.
//!
//! Left out: a process that is killed. What it shared stays behind.

use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Result, anyhow};
use nix::libc;

/// A shared value, for a `static`.
#[derive(Debug)]
pub struct Shared<T> {
    make: fn() -> Result<T>,
    made: Mutex<Option<Result<Arc<T>, String>>>,
}

impl<T: Send + Sync> Shared<T> {
    /// A value that this makes.
    #[must_use]
    pub const fn new(make: fn() -> Result<T>) -> Self {
        Self { make, made: Mutex::new(None) }
    }

    /// Returns the value.
    ///
    /// # Errors
    /// If making it fails, or failed before.
    pub fn get(&'static self) -> Result<Arc<T>> {
        let mut made = self.made.lock().unwrap_or_else(PoisonError::into_inner);
        let made = made.get_or_insert_with(|| {
            at_exit(Box::new(|| drop(self.made.lock().unwrap_or_else(PoisonError::into_inner).take())));
            (self.make)().map(Arc::new).map_err(|error| format!("{error:#}"))
        });
        made.clone().map_err(|error| anyhow!(error))
    }
}

type Work = Box<dyn FnOnce() + Send>;

/// What is done at the end of the process, the last first.
static AT_EXIT: Mutex<Vec<Work>> = Mutex::new(Vec::new());

fn at_exit(work: Work) {
    let mut all = AT_EXIT.lock().unwrap_or_else(PoisonError::into_inner);
    if all.is_empty() {
        // SAFETY: the function is one of this program's, which is never unloaded, and it does not unwind: see there.
        let registered = unsafe { libc::atexit(end) };
        if registered != 0 {
            eprintln!("atexit(3) has no room: what these tests share stays behind");
        }
    }
    all.push(work);
}

extern "C" fn end() {
    loop {
        let work = AT_EXIT.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let Some(work) = work else { return };
        // A panic must not get into C's `exit`.
        let _ = std::panic::catch_unwind(std::panic::AssertUnwindSafe(work));
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    #[test]
    fn it_is_made_once_and_everyone_gets_the_same() {
        static MADE: AtomicU32 = AtomicU32::new(0);
        static SHARED: Shared<u32> = Shared::new(|| Ok(MADE.fetch_add(1, Ordering::Relaxed) + 7));
        let all: Vec<_> = (0..8).map(|_| std::thread::spawn(|| SHARED.get().unwrap())).collect();
        assert!(all.into_iter().all(|thread| *thread.join().unwrap() == 7));
        assert_eq!(MADE.load(Ordering::Relaxed), 1);
    }

    #[test]
    fn where_it_cannot_be_made_everyone_gets_the_reason() {
        static SHARED: Shared<u32> = Shared::new(|| Err(anyhow!("no disk").context("making it")));
        for _ in 0..2 {
            assert_eq!(SHARED.get().unwrap_err().to_string(), "making it: no disk");
        }
    }
}
