//! Short grace periods while many taps are attached at once.
//!
//! Attaching by tcx waits for an RCU grace period under the kernel's network lock: some 13 ms, for each tap. With
//! hundreds of taps at a first start that is many seconds, in which other network configuration waits too. The kernel
//! can make its grace periods short, at the price of an interrupt to each processor; that is what it does itself when
//! it removes interfaces. This is turned on for that moment only, and back to what it was.
//!
//! The setting is the whole machine's, so it must not outlive its reason, however the daemon ends. Therefore the daemon
//! never turns it on itself: a process of its own does ([`GUARD`]), and turns it off when the daemon closes a pipe or dies.
//! The daemon turns it off if that process dies first. Both at once are killed only with their whole control group: for
//! that there are a mark beside the pins, by which the next start and `metadatad detach` know, and `ExecStopPost=` in
//! metadatad.service.

use std::{
    fs,
    io::{self, BufRead as _, BufReader},
    os::unix::process::CommandExt as _,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

/// The switch. Needs root; absent or read-only where `/sys` is.
pub const SWITCH: &str = "/sys/kernel/rcu_expedited";

/// The process that holds the switch ($0) on until its standard input ends, and then removes the mark ($1). Signals that
/// end a daemon, or a terminal's processes, do not end it.
const GUARD: &str =
    "trap '' HUP INT QUIT PIPE TERM; echo 1 > \"$0\" && echo on; read -r _; echo 0 > \"$0\" && rmdir \"$1\"";

/// Grace periods are short while this lives.
#[derive(Debug)]
pub struct Expedited {
    switch: PathBuf,
    mark: PathBuf,
    guard: Child,
}

impl Expedited {
    /// Turns it on, unless it is on already or cannot be. Where it cannot be turned on, attaching only takes longer.
    pub(super) fn begin(mark: &Path) -> Option<Self> {
        Self::begin_at(Path::new(SWITCH), mark)
    }

    fn begin_at(switch: &Path, mark: &Path) -> Option<Self> {
        let is_off = fs::read_to_string(switch).is_ok_and(|value| value.trim() == "0");
        if !is_off || fs::create_dir(mark).is_err() {
            return None;
        }
        let guard = Command::new("/bin/sh")
            .args(["-c", GUARD])
            .args([switch, mark])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .process_group(0)
            .spawn();
        let mut guard = match guard {
            Ok(guard) => guard,
            Err(error) => {
                tracing::debug!(%error, "cannot start the process that shortens grace periods");
                let _ = fs::remove_dir(mark);
                return None;
            }
        };
        let mut line = String::new();
        let output = guard.stdout.take();
        let answered = output.is_some_and(|output| BufReader::new(output).read_line(&mut line).is_ok());
        let this = Self { switch: switch.to_path_buf(), mark: mark.to_path_buf(), guard };
        // Dropping it ends the process, and makes good what it did by half.
        (answered && line.trim() == "on").then_some(this)
    }

    /// Turns off what was left on when a daemon and its guard were killed together.
    pub(super) fn recover(mark: &Path) {
        if mark.is_dir() {
            turn_off(Path::new(SWITCH));
            let _ = fs::remove_dir(mark);
        }
    }
}

impl Drop for Expedited {
    fn drop(&mut self) {
        drop(self.guard.stdin.take());
        let _ = self.guard.wait();
        // The guard has done both, unless it was killed or could not.
        if self.mark.is_dir() {
            turn_off(&self.switch);
            let _ = fs::remove_dir(&self.mark);
        }
    }
}

fn turn_off(switch: &Path) {
    let result: io::Result<()> = fs::write(switch, "0");
    if let Err(error) = result {
        tracing::warn!(%error, "cannot turn {} off again; write 0 to it", switch.display());
    }
}

#[cfg(test)]
mod tests {
    use nix::sys::signal::{Signal, kill};
    use nix::unistd::Pid;
    use tempfile::TempDir;

    use super::*;

    struct World {
        directory: TempDir,
    }

    impl World {
        fn new(value: &str) -> Self {
            let this = Self { directory: tempfile::tempdir().unwrap() };
            fs::write(this.switch(), value).unwrap();
            this
        }

        fn switch(&self) -> PathBuf {
            self.directory.path().join("switch")
        }

        fn mark(&self) -> PathBuf {
            self.directory.path().join("mark")
        }

        fn begin(&self) -> Option<Expedited> {
            Expedited::begin_at(&self.switch(), &self.mark())
        }

        /// Whether it is on, and whether that is marked.
        fn is(&self) -> (bool, bool) {
            (fs::read_to_string(self.switch()).unwrap().trim() == "1", self.mark().exists())
        }
    }

    #[test]
    fn it_is_on_for_as_long_as_it_lives() {
        let world = World::new("0\n");
        let expedited = world.begin().unwrap();
        assert_eq!(world.is(), (true, true));
        assert!(world.begin().is_none(), "it is on already");
        assert_eq!(world.is(), (true, true));
        drop(expedited);
        assert_eq!(world.is(), (false, false));
    }

    #[test]
    fn what_is_on_already_stays_on() {
        let world = World::new("1\n");
        assert!(world.begin().is_none());
        assert_eq!(world.is(), (true, false));
    }

    #[test]
    fn a_guard_that_is_killed_leaves_nothing_on() {
        let world = World::new("0\n");
        let expedited = world.begin().unwrap();
        let guard = Pid::from_raw(i32::try_from(expedited.guard.id()).unwrap());
        for signal in [Signal::SIGHUP, Signal::SIGINT, Signal::SIGQUIT, Signal::SIGTERM] {
            kill(guard, signal).unwrap();
        }
        assert_eq!(world.is(), (true, true));
        kill(guard, Signal::SIGKILL).unwrap();
        drop(expedited);
        assert_eq!(world.is(), (false, false));
    }

    #[test]
    fn the_guard_alone_turns_it_off_when_the_daemon_is_gone() {
        let world = World::new("0\n");
        let mut expedited = world.begin().unwrap();
        // As when the daemon is killed: the pipe ends, and nothing else of the daemon's runs.
        drop(expedited.guard.stdin.take());
        expedited.guard.wait().unwrap();
        assert_eq!(world.is(), (false, false));
    }

    #[test]
    fn a_switch_that_cannot_be_turned_leaves_no_mark() {
        let world = World::new("0\n");
        fs::remove_file(world.switch()).unwrap();
        assert!(world.begin().is_none());
        std::os::unix::fs::symlink("/proc/version", world.switch()).unwrap();
        assert!(world.begin().is_none());
        assert!(!world.mark().exists());
    }
}
