//! Short grace periods while many taps are attached at once.
//!
//! Attaching by tcx waits for an RCU grace period under the kernel's network lock: some 13 ms, for each tap. With
//! hundreds of taps at a first start that is many seconds, in which other network configuration waits too. The kernel
//! can make its grace periods short, at the price of an interrupt to each processor; that is what it does itself when
//! it removes interfaces. This is turned on for that moment only, and back to what it was.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

/// The switch. Needs root; absent or read-only where `/sys` is.
const SWITCH: &str = "/sys/kernel/rcu_expedited";

/// Grace periods are short while this lives.
#[derive(Debug)]
pub struct Expedited {
    mark: PathBuf,
}

impl Expedited {
    /// Turns it on, unless it is on already or cannot be. `mark` remembers, should the daemon be killed meanwhile.
    pub(super) fn begin(mark: &Path) -> Option<Self> {
        let is_off = fs::read_to_string(SWITCH).is_ok_and(|value| value.trim() == "0");
        if !is_off || fs::create_dir(mark).is_err() {
            return None;
        }
        let this = Self { mark: mark.to_path_buf() };
        // Where it cannot be turned on, attaching only takes longer.
        set("1").ok().map(|()| this)
    }

    /// Turns off what a daemon left on that was killed while it had this.
    pub(super) fn recover(mark: &Path) {
        if mark.is_dir() {
            drop(Self { mark: mark.to_path_buf() });
        }
    }
}

impl Drop for Expedited {
    fn drop(&mut self) {
        if let Err(error) = set("0") {
            tracing::warn!(%error, "cannot turn {SWITCH} off again; write 0 to it");
        }
        let _ = fs::remove_dir(&self.mark);
    }
}

fn set(value: &str) -> io::Result<()> {
    fs::write(SWITCH, value)
}
