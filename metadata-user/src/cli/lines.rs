//! A report for people: a line per fact, with its name in front; and what `status` and `source` both show.

use super::table::plain;
use crate::admin::wire::{Broken, Endpoint, Source};

/// The lines of a report. Control characters are not printed as such, as in tables.
#[derive(Debug, Default)]
pub(super) struct Lines(String);

impl Lines {
    /// Adds a line.
    pub(super) fn line(&mut self, name: &str, value: &str) {
        self.0 += &format!("{name:<12} {}\n", plain(value));
    }

    /// Adds a line that goes on with the one before.
    pub(super) fn more(&mut self, value: &str) {
        self.line("", value);
    }

    /// Adds a line that explains the one before.
    pub(super) fn detail(&mut self, name: &str, value: &str) {
        self.line(&format!("  {name}"), value);
    }

    pub(super) fn into_text(self) -> String {
        self.0
    }
}

/// Returns a number of things with their name, in the singular for one.
pub(super) fn counted(count: usize, what: &str) -> String {
    if count == 1 { format!("1 {what}") } else { format!("{count} {what}s") }
}

/// Adds kind and place of a source.
pub(super) fn place(source: &Source, lines: &mut Lines) {
    lines.line("source", &format!("{} {}", source.kind, source.place));
}

/// Adds why a source cannot be read.
pub(super) fn error(error: Option<&String>, lines: &mut Lines) {
    if let Some(error) = error {
        lines.detail("error", error);
    }
}

/// Adds the documents that cannot be used.
pub(super) fn broken(documents: &[Broken], lines: &mut Lines) {
    for document in documents {
        let kept = if document.serves_last_good { "; its last valid version is served" } else { "" };
        lines.detail("broken", &format!("{}: {}{kept}", document.name, document.problem));
    }
}

/// Adds a controller's endpoint.
pub(super) fn endpoint(endpoint: &Endpoint, now: u64, lines: &mut Lines) {
    let used = if endpoint.in_use { "in use" } else { "not in use" };
    lines.line("endpoint", &format!("{} {used}, {}", endpoint.url, last("answered", endpoint.answered_at, now)));
    failing(endpoint.failing_since, endpoint.error.as_ref(), now, lines);
}

/// Adds since when something fails, and why.
pub(super) fn failing(since: Option<u64>, error: Option<&String>, now: u64, lines: &mut Lines) {
    if let (Some(since), Some(error)) = (since, error) {
        lines.detail("failing", &format!("for {}: {error}", ago(now, since)));
    }
}

/// Returns when something was last done: `read 5 s ago`, `never read`.
pub(super) fn last(done: &str, at: Option<u64>, now: u64) -> String {
    at.map_or_else(|| format!("never {done}"), |at| format!("{done} {} ago", ago(now, at)))
}

/// Returns how much time has passed, in the unit that a person would choose.
pub(super) fn ago(now: u64, then: u64) -> String {
    match now.saturating_sub(then) {
        seconds @ 0..120 => format!("{seconds} s"),
        seconds @ 120..7200 => format!("{} min", seconds / 60),
        seconds @ 7200..172_800 => format!("{} h", seconds / 3600),
        seconds => format!("{} days", seconds / 86_400),
    }
}

/// Returns the time now, in seconds of Unix time.
pub(super) fn now() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.map_or(0, |since| since.as_secs())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_given_in_the_unit_that_fits() {
        for (seconds, expected) in [(0, "0 s"), (119, "119 s"), (120, "2 min"), (7200, "2 h"), (172_800, "2 days")] {
            assert_eq!(ago(1_000_000 + seconds, 1_000_000), expected);
        }
        assert_eq!(ago(1, 2), "0 s", "a clock that was set back");
        assert_eq!(last("read", None, 9), "never read");
        assert_eq!(last("read", Some(4), 9), "read 5 s ago");
    }

    #[test]
    fn nothing_moves_the_cursor() {
        let mut lines = Lines::default();
        lines.line("source", "a\u{1b}[2J\nb");
        assert_eq!(lines.into_text(), "source       a\u{fffd}[2J\u{fffd}b\n");
    }
}
