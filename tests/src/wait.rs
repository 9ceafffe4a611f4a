//! Waiting for a condition, with a deadline.

use std::time::{Duration, Instant};

use anyhow::{Result, bail};

/// Longest time that the lab waits for a thing that takes milliseconds when all is well. Two cores may be shared by
/// many worlds, and by machines without KVM, inside which time passes as fast and work does not.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Asks again until there is an answer.
///
/// # Errors
/// If there is none within [`PATIENCE`], or asking fails.
pub fn until<T>(what: &str, ask: impl FnMut() -> Result<Option<T>>) -> Result<T> {
    until_within(PATIENCE, what, ask)
}

/// As [`until`], with another deadline.
///
/// # Errors
/// As [`until`].
pub fn until_within<T>(patience: Duration, what: &str, mut ask: impl FnMut() -> Result<Option<T>>) -> Result<T> {
    let start = Instant::now();
    loop {
        if let Some(answer) = ask()? {
            return Ok(answer);
        }
        if start.elapsed() > patience {
            bail!("waited {patience:?} in vain: {what}");
        }
        // The condition is asked for again, not assumed: this only keeps the wait from burning a core.
        std::thread::sleep(Duration::from_millis(2));
    }
}
