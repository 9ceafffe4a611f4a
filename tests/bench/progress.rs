//! What a person sees while it measures: which case, which pair, how long it took and may still take.
//!
//! On a terminal it is one line that changes; elsewhere there is nothing but the lines that [`say`] prints. It writes to
//! standard error only, and never while a slice is under way.

use std::io::{IsTerminal as _, Write as _};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

struct Progress {
    begun: Instant,
    /// The scenario under way: its name, when it began, and how long it may take.
    scenario: (&'static str, Instant, Duration),
    /// How long those that follow may take.
    later: Duration,
    shown: bool,
}

static PROGRESS: Mutex<Option<Progress>> = Mutex::new(None);

fn with<T>(work: impl FnOnce(&mut Progress) -> T) -> T {
    let mut place = PROGRESS.lock().unwrap_or_else(PoisonError::into_inner);
    let now = Instant::now();
    work(place.get_or_insert_with(|| Progress {
        begun: now,
        scenario: ("", now, Duration::ZERO),
        later: Duration::ZERO,
        shown: false,
    }))
}

/// Begins a scenario that may take this long, and those after it that long together.
pub(crate) fn scenario(name: &'static str, expected: Duration, later: Duration) {
    with(|progress| {
        progress.scenario = (name, Instant::now(), expected);
        progress.later = later;
    });
}

/// Says what is measured next: a case, and which of its steps.
pub(crate) fn step(case: &str, number: u32, of: u32) {
    if !std::io::stderr().is_terminal() {
        return;
    }
    with(|progress| {
        let (name, since, expected) = progress.scenario;
        let left = expected.saturating_sub(since.elapsed()) + progress.later;
        let elapsed = progress.begun.elapsed();
        let (elapsed, all) = (clock(elapsed), clock(elapsed + left));
        eprint!("\r\x1b[K   {name}: {case}: {} of {of} | {elapsed} of about {all}", number + 1);
        let _ = std::io::stderr().flush();
        progress.shown = true;
    });
}

/// Prints a line that stays.
pub(crate) fn say(line: &str) {
    with(|progress| {
        if std::mem::take(&mut progress.shown) {
            eprint!("\r\x1b[K");
        }
        eprintln!("   [{}] {line}", clock(progress.begun.elapsed()));
    });
}

/// Takes the changing line away.
pub(crate) fn clear() {
    with(|progress| {
        if std::mem::take(&mut progress.shown) {
            eprint!("\r\x1b[K");
        }
    });
}

/// Minutes and seconds.
pub(crate) fn clock(time: Duration) -> String {
    format!("{}:{:02}", time.as_secs() / 60, time.as_secs() % 60)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_minutes_and_seconds() {
        assert_eq!(clock(Duration::from_millis(59_900)), "0:59");
        assert_eq!(clock(Duration::from_secs(3605)), "60:05");
    }
}
