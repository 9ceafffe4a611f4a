//! What the kernel knows of this process, under the names that Prometheus's client libraries have for it.
//!
//! What cannot be read is absent: /proc may be hidden from the daemon.

use std::fs;

use nix::sys::resource::{Resource, UsageWho, getrlimit, getrusage};
use nix::sys::time::TimeValLike as _;
use nix::unistd::{SysconfVar, sysconf};

use super::state::{self, State};

/// Adds what is known. `started_at`: in seconds of Unix time.
pub fn read(state: &mut State, started_at: u64) {
    #[expect(clippy::cast_precision_loss, reason = "below 2^53: microseconds of a process, bytes of a machine")]
    let number = |value: u64| value as f64;
    let cpu = getrusage(UsageWho::RUSAGE_SELF).ok().map(|usage| usage.user_time() + usage.system_time());
    let cpu = cpu.and_then(|time| u64::try_from(time.num_microseconds()).ok());
    state.set_if(&state::PROCESS_CPU, cpu.map(|microseconds| number(microseconds) / 1e6));
    let pages = fs::read_to_string("/proc/self/statm").ok();
    let page = sysconf(SysconfVar::PAGE_SIZE).ok().flatten().and_then(|size| u64::try_from(size).ok());
    let memory = |field: usize| {
        let pages: u64 = pages.as_deref()?.split_whitespace().nth(field)?.parse().ok()?;
        Some(number(pages * page?))
    };
    state.set_if(&state::PROCESS_ADDRESSES, memory(0));
    state.set_if(&state::PROCESS_MEMORY, memory(1));
    // One of them is the look at the directory itself.
    let files = fs::read_dir("/proc/self/fd").ok().map(|files| files.count().saturating_sub(1));
    state.set_if(&state::PROCESS_FDS, files.map(|files| number(files as u64)));
    state.set_if(&state::PROCESS_MAX_FDS, getrlimit(Resource::RLIMIT_NOFILE).ok().map(|(soft, _)| number(soft)));
    state.set(&state::PROCESS_START, number(started_at));
}
