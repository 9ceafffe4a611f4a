//! Files that changed and are not read yet: which, and when to read each.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::Instant;

/// How long a file that is being written may stay unread, counted from its last write: its writer has still to close it.
const OPEN: Duration = Duration::from_secs(1);

/// How long a file may stay unread in all, however often it changes.
pub(super) const LONGEST: Duration = Duration::from_secs(3);

/// Changed files. Bounded by the number of names in the directory, whatever the number of events.
#[derive(Debug)]
pub(super) struct Pending {
    /// How long a file must be left alone once it was closed.
    quiet: Duration,
    files: BTreeMap<String, Due>,
}

#[derive(Debug)]
struct Due {
    at: Instant,
    latest: Instant,
}

impl Pending {
    pub(super) fn new(quiet: Duration) -> Self {
        Self { quiet, files: BTreeMap::new() }
    }

    /// Forgets everything.
    pub(super) fn clear(&mut self) {
        self.files.clear();
    }

    /// Takes note of an event; `settled` if it says that the file is complete now.
    pub(super) fn touched(&mut self, name: &str, now: Instant, settled: bool) {
        let at = now + if settled { self.quiet } else { OPEN };
        match self.files.get_mut(name) {
            Some(due) => due.at = at.min(due.latest),
            None => {
                let latest = now + LONGEST;
                self.files.insert(name.to_owned(), Due { at, latest });
            }
        }
    }

    /// Returns when the first file is due.
    pub(super) fn next_due(&self) -> Option<Instant> {
        self.files.values().map(|due| due.at).min()
    }

    /// Takes out the files that are due, by name.
    pub(super) fn take_due(&mut self, now: Instant) -> Vec<String> {
        self.files.extract_if(.., |_, due| due.at <= now).map(|(name, _)| name).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const QUIET: Duration = Duration::from_millis(50);

    #[test]
    fn a_closed_file_is_due_when_it_was_quiet_and_an_open_one_later() {
        let start = Instant::now();
        let mut pending = Pending::new(QUIET);
        assert_eq!(pending.next_due(), None);
        pending.touched("open", start, false);
        pending.touched("closed", start, true);
        assert_eq!(pending.next_due(), Some(start + QUIET));
        assert!(pending.take_due(start).is_empty());
        assert_eq!(pending.take_due(start + QUIET), ["closed"]);
        pending.touched("open", start + QUIET, true);
        assert_eq!(pending.take_due(start + 2 * QUIET), ["open"]);
        assert_eq!(pending.next_due(), None);
    }

    #[test]
    fn a_file_that_never_rests_is_read_in_the_end() {
        let start = Instant::now();
        let mut pending = Pending::new(QUIET);
        let mut now = start;
        while now < start + LONGEST {
            pending.touched("busy", now, false);
            assert!(pending.take_due(now).is_empty());
            now += QUIET;
        }
        assert_eq!(pending.take_due(start + LONGEST), ["busy"]);
    }
}
