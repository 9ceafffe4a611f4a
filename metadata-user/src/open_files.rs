//! How many files the process may have open, and what that allows.
//!
//! Each connection is an open file. If there are fewer than all connections need, guests that hold theirs would shut all others
//! out: accepting fails, and nothing gives way. So the number of connections is bounded by what there is, and the operator is
//! told by name.
//!
//! A leaf: it uses nothing of this crate.

use nix::errno::Errno;
use nix::sys::resource::{Resource, getrlimit, setrlimit};

/// Files beside guests' connections: one for each tap's program, maps, admin connections, the source, the log.
const OTHERS: u64 = 4096;

/// Most open files of this process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OpenFiles(u64);

impl OpenFiles {
    /// Returns what this process may have at most (`RLIMIT_NOFILE`, the hard limit).
    ///
    /// # Errors
    /// If the kernel does not say.
    pub fn allowed() -> Result<Self, Errno> {
        getrlimit(Resource::RLIMIT_NOFILE).map(|(_, hard)| Self(hard))
    }

    /// Raises the soft limit to the hard one, and returns it.
    ///
    /// # Errors
    /// If the kernel refuses.
    pub fn raise() -> Result<Self, Errno> {
        let allowed = Self::allowed()?;
        setrlimit(Resource::RLIMIT_NOFILE, allowed.0, allowed.0)?;
        Ok(allowed)
    }

    /// Returns how many guests' connections there can be, of this many: at least 1.
    #[must_use]
    pub fn connections(self, wanted: usize) -> usize {
        // A quarter more may be about to end (`http/limit.rs`).
        let most = self.0.saturating_sub(OTHERS.min(self.0 / 2)) / 5 * 4;
        wanted.min(usize::try_from(most).unwrap_or(usize::MAX)).max(1)
    }

    /// Returns what to tell the operator if there cannot be as many connections as `http.connections` says.
    #[must_use]
    pub fn warning(self, wanted: usize) -> Option<String> {
        let possible = self.connections(wanted);
        let needed = u64::try_from(wanted).unwrap_or(u64::MAX).div_ceil(4).saturating_mul(5).saturating_add(OTHERS);
        (possible < wanted).then(|| {
            format!(
                "http.connections: {wanted} connections need {needed} open files, but RLIMIT_NOFILE allows this process {}: \
                 {possible} connections are accepted at a time; set LimitNOFILE={needed} in the unit (systemctl edit \
                 metadatad), or lower http.connections",
                self.0
            )
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_are_bounded_by_the_files_that_there_are_and_the_operator_is_told() {
        for (files, wanted, possible) in [
            (65_536, 16_384, 16_384),
            (24_576, 16_384, 16_384),
            (24_575, 16_384, 16_380),
            (4096, 16_384, 1636),
            (1024, 16_384, 408),
            (1024, 100, 100),
            (0, 16_384, 1),
        ] {
            let allowed = OpenFiles(files);
            assert_eq!(allowed.connections(wanted), possible, "{files}");
            assert_eq!(allowed.warning(wanted).is_some(), possible < wanted, "{files}");
        }
        let warning = OpenFiles(1024).warning(16_384).expect("too few");
        for part in ["http.connections: 16384 ", "allows this process 1024", "LimitNOFILE=24576", "408 connections"] {
            assert!(warning.contains(part), "{part}: {warning}");
        }
    }

    #[test]
    fn this_process_may_open_some() {
        assert!(OpenFiles::allowed().expect("a number").connections(1) == 1);
    }
}
