//! Where the benchmark runs: what a figure means nothing without.

use std::fmt;
use std::fs;
use std::process::Command;

use anyhow::{Context as _, Result};
use nix::sched::{CpuSet, sched_setaffinity};
use nix::unistd::Pid;
use serde::{Deserialize, Serialize};

/// The machine, and its state at the start.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Machine {
    /// Model of the processor.
    pub(crate) processor: String,
    /// How many of them there are.
    pub(crate) processors: usize,
    /// Gigabytes of memory.
    pub(crate) memory: f64,
    /// The kernel's release.
    pub(crate) kernel: String,
    /// The commit that was measured, with `+` if the tree had changes.
    pub(crate) commit: String,
    /// Load of the last minute at the start.
    pub(crate) load: f64,
}

impl Machine {
    /// Looks at this machine.
    pub(crate) fn look() -> Result<Self> {
        let cpuinfo = fs::read_to_string("/proc/cpuinfo").context("reading /proc/cpuinfo")?;
        let processor = cpuinfo.lines().find_map(|line| line.strip_prefix("model name")).unwrap_or(": unknown");
        let meminfo = fs::read_to_string("/proc/meminfo").context("reading /proc/meminfo")?;
        let kilobytes = meminfo.split_whitespace().nth(1).and_then(|number| number.parse::<f64>().ok()).unwrap_or(0.0);
        let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").context("reading the kernel's release")?;
        let loads = fs::read_to_string("/proc/loadavg").context("reading /proc/loadavg")?;
        Ok(Self {
            processor: processor.trim_start_matches(|c: char| c.is_whitespace() || c == ':').to_owned(),
            processors: std::thread::available_parallelism().map_or(1, usize::from),
            memory: (kilobytes / (1 << 20) as f64 * 10.0).round() / 10.0,
            kernel: kernel.trim().to_owned(),
            commit: commit(),
            load: loads.split_whitespace().next().and_then(|load| load.parse().ok()).unwrap_or(0.0),
        })
    }
}

fn commit() -> String {
    let git = |words: &[&str]| {
        let output = Command::new("git").args(words).output().ok()?;
        output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
    };
    let Some(commit) = git(&["rev-parse", "--short=12", "HEAD"]) else {
        return "unknown".to_owned();
    };
    let changed = git(&["status", "--porcelain", "--untracked-files=no"]).is_some_and(|changes| !changes.is_empty());
    if changed { format!("{commit}+") } else { commit }
}

impl fmt::Display for Machine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{} × {}, {} GB, Linux {}, commit {}, load {}",
            self.processors, self.processor, self.memory, self.kernel, self.commit, self.load
        )
    }
}

/// Gives all threads of a process (0: this thread) precedence over all others of their processors but those of the same kind
/// (`SCHED_FIFO`).
pub(crate) fn take_precedence(process: u32) -> Result<()> {
    schedule(process, nix::libc::SCHED_FIFO, 1).context("giving precedence")
}

/// Takes back what [`take_precedence`] gave.
pub(crate) fn give_precedence_back(process: u32) -> Result<()> {
    schedule(process, nix::libc::SCHED_OTHER, 0).context("taking precedence back")
}

fn schedule(process: u32, policy: i32, priority: i32) -> Result<()> {
    let parameters = nix::libc::sched_param { sched_priority: priority };
    for thread in threads(process)? {
        // SAFETY: `parameters` is an initialised sched_param, which the call only reads.
        let outcome = unsafe { nix::libc::sched_setscheduler(thread, policy, &raw const parameters) };
        nix::errno::Errno::result(outcome).with_context(|| format!("scheduling thread {thread}"))?;
    }
    Ok(())
}

/// Puts all threads of a process (0: this thread), and what they start, before other programs of the machine, but for a
/// hundredth (nice −20). Those that are put so share as before.
pub(crate) fn prefer(process: u32) -> Result<()> {
    for thread in threads(process)? {
        // SAFETY: the call takes numbers alone.
        let outcome = unsafe { nix::libc::setpriority(nix::libc::PRIO_PROCESS, thread.cast_unsigned(), -20) };
        nix::errno::Errno::result(outcome).with_context(|| format!("preferring thread {thread}"))?;
    }
    Ok(())
}

/// Returns the threads of a process; 0, which is this thread to the kernel, of 0.
fn threads(process: u32) -> Result<Vec<i32>> {
    if process == 0 {
        return Ok(vec![0]);
    }
    let tasks = fs::read_dir(format!("/proc/{process}/task")).context("listing threads")?;
    Ok(tasks.flatten().filter_map(|task| task.file_name().to_string_lossy().parse().ok()).collect())
}

/// Keeps all threads of a process (0: this thread) on one processor. With one processor that changes nothing.
pub(crate) fn pin(process: u32, processor: usize) -> Result<()> {
    let mut set = CpuSet::new();
    set.set(processor).context("naming a processor")?;
    for thread in threads(process)? {
        sched_setaffinity(Pid::from_raw(thread), &set).with_context(|| format!("pinning thread {thread}"))?;
    }
    Ok(())
}
