//! Returns unused memory to the kernel.
//!
//! Reading thousands of documents, a dump of all interfaces, or an answer about all ports takes memory for a moment. The
//! C library would keep it for later; on a node, guests need it.

use std::time::Duration;

/// How often memory is returned. It takes microseconds if there is little to return.
const INTERVAL: Duration = Duration::from_secs(5);

/// Returns memory periodically.
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

/// Other C libraries do it themselves, or cannot.
#[cfg(not(target_env = "gnu"))]
fn give_back() {}
