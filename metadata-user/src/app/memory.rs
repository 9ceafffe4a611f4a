//! Memory that the process has no use for goes back to the kernel.
//!
//! Reading thousands of documents, a dump of all interfaces, or an answer about all ports takes memory for a moment. The
//! C library keeps it for later; on a node it is the guests' memory.

use std::time::Duration;

/// How often memory is given back. A look takes microseconds where there is little to give.
const INTERVAL: Duration = Duration::from_secs(5);

/// Gives memory back, again and again.
pub(super) async fn keep_small() {
    let mut interval = tokio::time::interval(INTERVAL);
    interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        interval.tick().await;
        give_back();
    }
}

#[cfg(target_env = "gnu")]
fn give_back() {
    // SAFETY: no pointer is passed, and it may be called at any time, by any thread.
    unsafe { nix::libc::malloc_trim(0) };
}

/// Other C libraries do it by themselves, or cannot.
#[cfg(not(target_env = "gnu"))]
fn give_back() {}
