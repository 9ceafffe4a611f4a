//! Waiting for a condition, with a deadline.
//!
//! Many labs may share two cores. So waiting leaves the processor to what is waited for: it checks again after a quarter
//! of the time it has waited, at least after 2 ms and at most after 50 ms.

use std::time::{Duration, Instant};

use anyhow::{Result, bail};

/// Longest time that the lab waits for a thing that takes milliseconds when all is well. Two cores may be shared by
/// many worlds, and by machines without KVM, inside which time passes as fast and work does not.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Bounds of the time between two questions.
const SHORTEST: Duration = Duration::from_millis(2);
const LONGEST: Duration = Duration::from_millis(50);

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
        let waited = start.elapsed();
        if waited > patience {
            bail!("not within {patience:?}: {what}");
        }
        // The condition is asked for again, not assumed: this only keeps the wait from burning a core.
        std::thread::sleep(pause(waited));
    }
}

/// Returns the time until the next question, after this much waiting.
fn pause(waited: Duration) -> Duration {
    (waited / 4).clamp(SHORTEST, LONGEST)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_with_the_wait_and_are_bounded() {
        let pauses = [0, 8, 100, 200, 10_000].map(|waited| pause(Duration::from_millis(waited)).as_millis());
        assert_eq!(pauses, [2, 2, 25, 50, 50]);
    }

    #[test]
    fn a_wait_in_vain_says_what_it_waited_for() {
        let mut asked = 0;
        let patience = Duration::from_millis(20);
        let error = until_within::<()>(patience, "the moon falls", || {
            asked += 1;
            Ok(None)
        });
        assert_eq!(error.unwrap_err().to_string(), "not within 20ms: the moon falls");
        assert!((2..=12).contains(&asked), "{asked}");
    }
}
