//! What processes use: processor time, memory, context switches.

use std::fs;
use std::os::unix::thread::JoinHandleExt as _;
use std::thread::JoinHandle;

use anyhow::{Context as _, Result};
use nix::libc;
use nix::time::{ClockId, clock_getcpuclockid, clock_gettime};
use nix::unistd::Pid;

/// What a process has used so far.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Usage {
    /// Seconds on a processor, of all threads that there are and were.
    pub(crate) cpu: f64,
    /// Switches to another thread, wanted or not, of all threads that still run.
    pub(crate) switches: f64,
}

impl Usage {
    /// Reads what a process has used so far.
    pub(crate) fn of(process: u32) -> Result<Self> {
        let mut usage = Self { cpu: cpu(process)?, switches: 0.0 };
        let tasks = format!("/proc/{process}/task");
        for task in fs::read_dir(&tasks).with_context(|| format!("reading {tasks}"))? {
            // A thread may end between the listing and the look.
            let Ok(status) = fs::read_to_string(task?.path().join("status")) else { continue };
            usage.switches += number_after(&status, "\nvoluntary_ctxt_switches:")
                + number_after(&status, "\nnonvoluntary_ctxt_switches:");
        }
        Ok(usage)
    }

    /// Reads what several processes have used so far.
    pub(crate) fn of_all(processes: &[u32]) -> Result<Self> {
        let mut sum = Self::default();
        for process in processes {
            let usage = Self::of(*process)?;
            sum.cpu += usage.cpu;
            sum.switches += usage.switches;
        }
        Ok(sum)
    }

    /// Returns what was used between an earlier look and this one.
    pub(crate) fn since(self, earlier: Self) -> Self {
        Self { cpu: self.cpu - earlier.cpu, switches: self.switches - earlier.switches }
    }
}

/// Returns the seconds that a process has been on a processor, to the nanosecond.
pub(crate) fn cpu(process: u32) -> Result<f64> {
    let pid = Pid::from_raw(i32::try_from(process).context("a process id")?);
    let clock = clock_getcpuclockid(pid).with_context(|| format!("the clock of process {process}"))?;
    read(clock)
}

/// Reads a clock, in seconds.
fn read(clock: ClockId) -> Result<f64> {
    let time = clock_gettime(clock).context("reading a clock of processor time")?;
    Ok(time.tv_sec() as f64 + time.tv_nsec() as f64 / 1e9)
}

/// The threads of this process that make a flow, and the kernel's that handle packets where that was put off.
#[derive(Debug)]
pub(crate) struct Workers {
    clocks: Vec<ClockId>,
    softirqs: Vec<u32>,
}

impl Workers {
    /// Of these threads of this process.
    pub(crate) fn of<T>(threads: &[JoinHandle<T>]) -> Result<Self> {
        let clock = |thread: &JoinHandle<T>| {
            let mut clock = 0;
            // SAFETY: the thread was not joined, so its name is valid; the call writes `clock`.
            let outcome = unsafe { libc::pthread_getcpuclockid(thread.as_pthread_t(), &raw mut clock) };
            (outcome == 0).then(|| ClockId::from_raw(clock)).context("a thread's clock")
        };
        Self::with(threads.iter().map(clock).collect::<Result<_>>()?)
    }

    /// Of the thread that calls this, which alone may ask it.
    pub(crate) fn here() -> Result<Self> {
        Self::with(vec![ClockId::CLOCK_THREAD_CPUTIME_ID])
    }

    fn with(clocks: Vec<ClockId>) -> Result<Self> {
        let mut softirqs = Vec::new();
        for entry in fs::read_dir("/proc").context("listing processes")?.flatten() {
            let Ok(id) = entry.file_name().to_string_lossy().parse() else { continue };
            let name = fs::read_to_string(entry.path().join("comm")).unwrap_or_default();
            if name.starts_with("ksoftirqd/") {
                softirqs.push(id);
            }
        }
        Ok(Self { clocks, softirqs })
    }

    /// Returns the seconds that they have been on a processor.
    pub(crate) fn cpu(&self) -> Result<f64> {
        let own = self.clocks.iter().map(|clock| read(*clock));
        own.chain(self.softirqs.iter().map(|process| cpu(*process))).sum()
    }
}

/// Returns the seconds that the machine's processors have worked so far, for whomever.
pub(crate) fn busy() -> Result<f64> {
    let stat = fs::read_to_string("/proc/stat").context("reading /proc/stat")?;
    let line = stat.lines().next().unwrap_or_default();
    let ticks: Vec<f64> = line.split_whitespace().skip(1).filter_map(|ticks| ticks.parse().ok()).collect();
    // user, nice, system; not idle and iowait; irq, softirq. What follows is counted in these, or is not ours.
    let worked = [0, 1, 2, 5, 6].into_iter().filter_map(|place| ticks.get(place)).sum::<f64>();
    // USER_HZ is 100 in the kernel's interface, on every architecture that this runs on.
    Ok(worked / 100.0)
}

/// Returns a process and all that descend from it.
pub(crate) fn family(process: u32) -> Result<Vec<u32>> {
    let mut parents = Vec::new();
    for entry in fs::read_dir("/proc").context("listing processes")?.flatten() {
        let Ok(id) = entry.file_name().to_string_lossy().parse::<u32>() else { continue };
        // Names may hold anything but end with the last parenthesis. A process may end between the listing and the look.
        let stat = fs::read_to_string(entry.path().join("stat")).unwrap_or_default();
        let parent = stat.rsplit_once(") ").and_then(|(_, rest)| rest.split(' ').nth(1)?.parse::<u32>().ok());
        parents.extend(parent.map(|parent| (id, parent)));
    }
    let mut family = vec![process];
    let mut next = 0;
    while let Some(parent) = family.get(next).copied() {
        family.extend(parents.iter().filter(|(_, of)| *of == parent).map(|(id, _)| *id));
        next += 1;
    }
    Ok(family)
}

/// The memory and the files that a process has.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Memory {
    /// Megabytes of physical memory.
    pub(crate) resident: f64,
    /// Those of them that are no part of a file: heap and stacks.
    pub(crate) anonymous: f64,
    /// Open files.
    pub(crate) files: f64,
}

impl Memory {
    /// Looks at a process.
    pub(crate) fn of(process: u32) -> Result<Self> {
        let path = format!("/proc/{process}/status");
        let status = fs::read_to_string(&path).with_context(|| format!("reading {path}"))?;
        let files = format!("/proc/{process}/fd");
        let files = fs::read_dir(&files).with_context(|| format!("listing {files}"))?.count();
        Ok(Self {
            resident: number_after(&status, "\nVmRSS:") / 1024.0,
            anonymous: number_after(&status, "\nRssAnon:") / 1024.0,
            files: files as f64,
        })
    }
}

/// Returns the megabytes of physical memory that a process has.
pub(crate) fn resident(process: u32) -> Result<f64> {
    Ok(Memory::of(process)?.resident)
}

fn number_after(text: &str, name: &str) -> f64 {
    let found = text.split_once(name).and_then(|(_, rest)| rest.split_whitespace().next());
    found.and_then(|number| number.parse().ok()).unwrap_or(0.0)
}
