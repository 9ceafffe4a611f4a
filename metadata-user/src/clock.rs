//! The time of day and randomness, for those who must not have their own.

use std::time::{SystemTime, UNIX_EPOCH};

use crate::api::Date;

/// Returns the date, UTC.
#[must_use]
pub fn today() -> Date {
    Date::from_unix(SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs()))
}

/// Fills the seed of a guest's random generator from the kernel's.
///
/// # Panics
/// If the kernel has no random generator: a guest must never get a seed that is not random.
#[expect(clippy::expect_used, reason = "a predictable seed is worse than a closed connection")]
pub fn seed(bytes: &mut [u8; 512]) {
    getrandom::fill(bytes).expect("the kernel's random generator");
}
