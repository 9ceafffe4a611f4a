//! The time, the date and random seeds, for modules that must have neither a clock nor randomness of their own.

use std::time::{SystemTime, UNIX_EPOCH};

use crate::api::Date;

/// Returns the time, in seconds of Unix time.
#[must_use]
pub fn unix() -> u64 {
    unix_of(SystemTime::now())
}

/// Returns a time in seconds of Unix time; 0 for one before it began.
#[must_use]
pub fn unix_of(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

/// Returns the time, in milliseconds of Unix time.
#[must_use]
pub fn unix_millis() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

/// Returns the date, UTC.
#[must_use]
pub fn today() -> Date {
    Date::from_unix(unix())
}

/// Fills the seed of a guest's random number generator from the kernel's generator.
///
/// # Panics
/// If the kernel's random number generator fails: a guest must never get a predictable seed.
#[expect(clippy::expect_used, reason = "a predictable seed is worse than a closed connection")]
pub fn seed(bytes: &mut [u8; 512]) {
    getrandom::fill(bytes).expect("the kernel's random generator");
}
