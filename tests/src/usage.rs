//! What a process uses: memory, open files and CPU time, as the kernel tells.

use std::fs;
use std::time::Duration;

use anyhow::{Context as _, Result};

/// A process at a moment.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Usage {
    pub(crate) resident: u64,
    pub(crate) anonymous: u64,
    pub(crate) peak: u64,
    pub(crate) files: usize,
    pub(crate) cpu: Duration,
}

/// Reads what a process uses.
///
/// # Errors
/// If it does not run.
pub(crate) fn usage(process: u32) -> Result<Usage> {
    let read =
        |file: &str| fs::read_to_string(format!("/proc/{process}/{file}")).with_context(|| format!("reading {file}"));
    let status = read("status")?;
    let field = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default();
        line.split_whitespace().next().and_then(|number| number.parse::<u64>().ok()).unwrap_or(0) * 1024
    };
    let stat = read("stat")?;
    // The name may have blanks; after it come the state and the fields from the fourth on.
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    let ticks: u64 = [11, 12].iter().filter_map(|field| fields.get(*field)?.parse::<u64>().ok()).sum();
    Ok(Usage {
        resident: field("VmRSS:"),
        anonymous: field("RssAnon:"),
        peak: field("VmHWM:"),
        files: fs::read_dir(format!("/proc/{process}/fd")).map_or(0, Iterator::count),
        // Linux counts hundredths of a second for user space on every machine.
        cpu: Duration::from_millis(ticks * 10),
    })
}
