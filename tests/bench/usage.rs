//! What processes use: processor time, memory, context switches.

use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result};

/// What a process has used so far.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Usage {
    /// Seconds on a processor, of all threads that still run.
    pub(crate) cpu: f64,
    /// Switches to another thread, wanted or not.
    pub(crate) switches: f64,
}

impl Usage {
    /// Reads what a process has used so far.
    pub(crate) fn of(process: u32) -> Result<Self> {
        let mut usage = Self::default();
        let tasks = format!("/proc/{process}/task");
        for task in fs::read_dir(&tasks).with_context(|| format!("reading {tasks}"))? {
            let task = task?.path();
            // A thread may end between the listing and the look.
            let (Ok(schedstat), Ok(status)) =
                (fs::read_to_string(task.join("schedstat")), fs::read_to_string(task.join("status")))
            else {
                continue;
            };
            let nanoseconds: f64 = schedstat.split_whitespace().next().unwrap_or("0").parse().unwrap_or(0.0);
            usage.cpu += nanoseconds / 1e9;
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

/// Returns the megabytes of physical memory that a process has.
pub(crate) fn resident(process: u32) -> Result<f64> {
    let path = format!("/proc/{process}/status");
    let status = fs::read_to_string(Path::new(&path)).with_context(|| format!("reading {path}"))?;
    Ok(number_after(&status, "\nVmRSS:") / 1024.0)
}

fn number_after(text: &str, name: &str) -> f64 {
    let found = text.split_once(name).and_then(|(_, rest)| rest.split_whitespace().next());
    found.and_then(|number| number.parse().ok()).unwrap_or(0.0)
}
