//! The state of the daemon's process, and whether the node's clock was set since it started, from /proc.

use std::fs;

use nix::time::{ClockId, clock_gettime};
use nix::unistd::{SysconfVar, sysconf};

use crate::admin::wire::Status;

/// Returns the letter of a process's state (proc(5)): `T` is stopped by a signal.
pub(super) fn state(process: i32) -> Option<char> {
    fields(process)?.first()?.chars().next()
}

/// Returns how far the node's clock was set forward since the daemon started, in seconds; negative: back.
///
/// The daemon keeps the time of day of its start, and the kernel keeps when its process began, by a clock that nobody sets.
pub(super) fn clock_jump(status: &Status, now: u64) -> Option<i64> {
    let process = i32::try_from(status.pid).ok()?;
    // The 22nd field; the first two are cut off, and the third is the first of the rest.
    let began: u64 = fields(process)?.get(19)?.parse().ok()?;
    let ticks = u64::try_from(sysconf(SysconfVar::CLK_TCK).ok()??).ok().filter(|ticks| *ticks > 0)?;
    let up = u64::try_from(clock_gettime(ClockId::CLOCK_BOOTTIME).ok()?.tv_sec()).ok()?;
    let lived = up.checked_sub(began / ticks)?;
    let by_clock = i64::try_from(now).ok()?.checked_sub(i64::try_from(status.started_at).ok()?)?;
    by_clock.checked_sub(i64::try_from(lived).ok()?)
}

/// Returns the fields of a process's `stat` from its state on: the name before it may hold anything.
fn fields(process: i32) -> Option<Vec<String>> {
    let text = fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
    let (_, rest) = text.rsplit_once(')')?;
    Some(rest.split_whitespace().map(str::to_owned).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_that_was_set_is_seen_by_how_long_the_process_lives() {
        let pid = std::process::id();
        let now = crate::cli::lines::now();
        // This process began a moment ago.
        let jump = |started_at| clock_jump(&Status { pid, started_at, ..Status::default() }, now).expect("known");
        let lived = jump(now).abs();
        assert!((jump(now - 7200) - 7200 + lived).abs() <= 1, "forward");
        assert!((jump(now + 7200) + 7200 + lived).abs() <= 1, "back");
        let state = state(i32::try_from(pid).expect("small"));
        assert!(matches!(state, Some('R' | 'S')), "runs, or its first thread waits: {state:?}");
    }
}
