//! Tells a machine that makes progress, however slowly, from one that makes none.
//!
//! A machine without KVM works at the pace of the processors that it gets, so a limit of wall-clock time says nothing on
//! a busy host. Progress is a console that grows. A machine has stalled when its console stays as it is for a while in
//! which QEMU has worked, or in which QEMU had next to nothing to do.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Result, bail};

/// A machine that writes more than this to its console repeats itself.
const LARGEST: u64 = 64 << 20;

/// Watches a machine.
#[derive(Debug)]
pub struct Stall {
    console: PathBuf,
    process: Option<u32>,
    limit: Duration,
    length: u64,
    since: Instant,
    worked: Duration,
}

impl Stall {
    /// Watches the machine with this console, and QEMU's process if it is known. `limit` is how long the console may stay
    /// as it is: in processor time while QEMU works, in wall-clock time while it is idle or not known.
    #[must_use]
    pub fn new(console: &Path, process: Option<u32>, limit: Duration) -> Self {
        let worked = process.map_or(Duration::ZERO, processor_time);
        Self { console: console.to_owned(), process, limit, length: 0, since: Instant::now(), worked }
    }

    /// Looks at the machine. Returns whether its console has grown since the last look.
    ///
    /// # Errors
    /// If the machine has stalled, or its console is too long.
    pub fn look(&mut self) -> Result<bool> {
        let length = fs::metadata(&self.console).map_or(0, |found| found.len());
        let worked = self.process.map_or(Duration::ZERO, processor_time);
        if length > LARGEST {
            bail!("the console holds {length} bytes: the machine repeats itself");
        }
        if length != self.length {
            (self.length, self.since, self.worked) = (length, Instant::now(), worked);
            return Ok(true);
        }
        let (silent, worked) = (self.since.elapsed(), worked.saturating_sub(self.worked));
        if has_stalled(silent, worked, self.limit) {
            bail!("nothing new on the console for {silent:.0?}, in which QEMU worked for {worked:.0?}");
        }
        Ok(false)
    }
}

/// Tells whether a machine has stalled that has been silent for so long, and worked for so long meanwhile.
fn has_stalled(silent: Duration, worked: Duration, limit: Duration) -> bool {
    worked > limit || (silent > limit && worked * 10 < silent)
}

/// Returns the processor time that a process has used; none if it is gone.
#[must_use]
pub fn processor_time(process: u32) -> Duration {
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
    // The name may have blanks; after it come the state and the fields from the fourth on: proc(5).
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    let ticks: u64 = [11, 12].iter().filter_map(|field| fields.get(*field)?.parse::<u64>().ok()).sum();
    // USER_HZ is 100 in the kernel's interface, on every architecture that this runs on.
    Duration::from_millis(ticks * 10)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slow_machine_has_not_stalled_and_one_that_hangs_has() {
        let seconds = Duration::from_secs;
        for (silent, worked, stalled, what) in [
            (10, 9, false, "it has just begun"),
            (1000, 200, false, "it gets a fifth of a processor"),
            (301, 300, false, "it is about to be given up"),
            (310, 301, true, "it runs in circles"),
            (2000, 301, true, "it runs in circles, slowly"),
            (301, 5, true, "it waits for what does not come"),
            (299, 0, false, "it may wait for a while"),
        ] {
            assert_eq!(has_stalled(seconds(silent), seconds(worked), seconds(300)), stalled, "{what}");
        }
    }

    #[test]
    fn a_console_that_grows_is_progress() {
        let directory = tempfile::tempdir().unwrap();
        let console = directory.path().join("console");
        let mut stall = Stall::new(&console, None, Duration::ZERO);
        fs::write(&console, "a\n").unwrap();
        assert!(stall.look().unwrap());
        let error = stall.look().unwrap_err().to_string();
        assert!(error.contains("nothing new on the console"), "{error}");
        fs::write(&console, "a\nb\n").unwrap();
        assert!(stall.look().unwrap());
    }

    #[test]
    fn this_process_has_used_processor_time() {
        let begun = Instant::now();
        while processor_time(std::process::id()).is_zero() {
            assert!(begun.elapsed() < Duration::from_secs(60));
        }
        assert!(processor_time(u32::MAX).is_zero());
    }
}
