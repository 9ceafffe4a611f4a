//! What all runs of machines have in common: how many run at a time, and one failure for one cause.
//!
//! A run may serve several tests, which wait for it. So libtest starts all tests at once, and the runs wait here for each
//! other; `cargo xtask test vm` sets the number of its threads.

use std::collections::BTreeSet;
use std::sync::{Condvar, Mutex, PoisonError};

/// Place for one machine: as many run at a time as there are processors, and one more, for what the others wait.
#[derive(Debug)]
pub(crate) struct Slot(());

static TAKEN: Mutex<usize> = Mutex::new(0);
static FREED: Condvar = Condvar::new();

impl Slot {
    /// Waits for a place. It is free again when the value is dropped.
    pub(crate) fn take() -> Self {
        let all = std::thread::available_parallelism().map_or(1, usize::from) + 1;
        let taken = TAKEN.lock().unwrap_or_else(PoisonError::into_inner);
        let wait = FREED.wait_while(taken, |taken| *taken >= all);
        *wait.unwrap_or_else(PoisonError::into_inner) += 1;
        Self(())
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        *TAKEN.lock().unwrap_or_else(PoisonError::into_inner) -= 1;
        FREED.notify_one();
    }
}

/// Fails for a cause that no test has failed for yet; names the cause otherwise.
#[track_caller]
pub(crate) fn fail_once(cause: String, details: &str) {
    static REPORTED: Mutex<BTreeSet<String>> = Mutex::new(BTreeSet::new());
    let is_new = REPORTED.lock().unwrap_or_else(PoisonError::into_inner).insert(cause.clone());
    assert!(!is_new, "{cause}\n{details}");
    println!("not judged, for a cause that another test reports: {cause}");
}
