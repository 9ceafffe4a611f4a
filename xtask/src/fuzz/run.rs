//! One fuzzer's run, and what libFuzzer's log says of it.

use std::fmt::Write as _;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail};

use super::{directory, emptied, output};
use crate::command::show;

/// Seconds that one input may take: each takes milliseconds, but on a busy machine anything may take a while.
const TIMEOUT: &str = "-timeout=60";
/// Memory that a fuzzer may use, in MB. It has some 100 by itself.
const MEMORY: &str = "-rss_limit_mb=1024";

/// Longest inputs, in bytes: as long as what is read is in earnest, or as it takes to reach every part of its reader.
const LONGEST: [(&str, usize); 10] = [
    ("admin", 4096),
    ("config", 16384),
    ("document", 16384),
    ("etcd", 8192),
    ("http", 16384),
    ("libvirt", 16384),
    ("ovsdb", 16384),
    ("packet", 1024),
    ("snapshot", 16384),
    ("token", 512),
];

/// What became of a run.
#[derive(Debug, Default)]
pub(crate) struct Run {
    pub(crate) target: String,
    pub(crate) seconds: u64,
    executions: u64,
    edges: u64,
    all_edges: u64,
    inputs: u64,
    pub(super) finds: Vec<PathBuf>,
    /// It ended otherwise than by time.
    pub(crate) failed: bool,
}

/// Returns how long the inputs of a fuzzer get.
pub(super) fn longest(target: &str) -> Option<usize> {
    LONGEST.into_iter().find(|(name, _)| *name == target).map(|(_, longest)| longest)
}

impl Run {
    /// Runs a fuzzer.
    pub(super) fn of(target: &str, program: &Path, seconds: u64) -> Result<Self> {
        let (new, finds) = (output().join("corpus").join(target), output().join("finds").join(target));
        fs::create_dir_all(&new).with_context(|| format!("making {}", new.display()))?;
        emptied(&finds)?;
        let log = finds.join("log");
        let file = File::create(&log).with_context(|| format!("making {}", log.display()))?;
        let mut command = Command::new(program);
        command.args([TIMEOUT, MEMORY, "-print_final_stats=1", "-detect_leaks=0"]);
        command.arg(format!("-max_total_time={seconds}"));
        command.arg(format!("-max_len={}", longest(target).context("a fuzzer without a longest input")?));
        command.arg(format!("-artifact_prefix={}/", finds.display()));
        let dictionary = directory().join("dictionaries").join(format!("{target}.dict"));
        if dictionary.exists() {
            command.arg(format!("-dict={}", dictionary.display()));
        }
        // What is new goes into the first.
        command.arg(&new).arg(directory().join("corpus").join(target));
        show(&command);
        command.stdout(file.try_clone().context("the log")?).stderr(file);
        let status = command.status().with_context(|| format!("starting {}", program.display()))?;
        let text = fs::read(&log).with_context(|| format!("reading {}", log.display()))?;
        let mut run = Self { target: target.to_owned(), seconds, failed: !status.success(), ..Self::default() };
        run.read(&String::from_utf8_lossy(&text));
        for entry in fs::read_dir(&finds).with_context(|| format!("reading {}", finds.display()))? {
            run.finds.extend(Some(entry?.path()).filter(|path| *path != log));
        }
        if run.failed {
            let tail: Vec<&str> = std::str::from_utf8(&text).unwrap_or_default().lines().rev().take(60).collect();
            eprintln!("{target} failed:\n{}", tail.into_iter().rev().collect::<Vec<_>>().join("\n"));
        }
        Ok(run)
    }

    /// Reads libFuzzer's log.
    fn read(&mut self, log: &str) {
        let number = |text: &str| text.split_whitespace().next()?.parse().ok();
        for line in log.lines() {
            if let Some((_, rest)) = line.split_once("INFO: Loaded 1 modules") {
                self.all_edges = rest.trim_start().strip_prefix('(').and_then(number).unwrap_or(self.all_edges);
            } else if let Some(rest) = line.strip_prefix("stat::number_of_executed_units:") {
                self.executions = number(rest).unwrap_or_default();
            } else if let Some((_, rest)) = line.split_once("cov: ").filter(|_| line.starts_with('#')) {
                self.edges = number(rest).unwrap_or(self.edges);
                let corpus = rest.split_once("corp: ").and_then(|(_, rest)| rest.split('/').next()?.parse().ok());
                self.inputs = corpus.unwrap_or(self.inputs);
            }
        }
    }
}

/// Returns a line for each run.
pub(super) fn table(runs: &[Run]) -> String {
    let mut text = "\nfuzzer      seconds   executions  per second   edges  of all  inputs  finds\n".to_owned();
    for Run { target, seconds, executions, edges, all_edges, inputs, finds, .. } in runs {
        let rate = executions / (*seconds).max(1);
        let share = 100 * edges / (*all_edges).max(1);
        let finds = finds.len();
        let _ = writeln!(
            text,
            "{target:<10} {seconds:>8} {executions:>12} {rate:>11} {edges:>7} {share:>5} % {inputs:>7} {finds:>6}"
        );
    }
    text
}

/// Adds to the corpus in git those inputs of earlier runs that reach code which it does not reach: as few as possible.
pub(super) fn merge(target: &str, program: &Path) -> Result<()> {
    let (corpus, new) = (directory().join("corpus").join(target), output().join("corpus").join(target));
    let mut command = Command::new(program);
    // Edges, not how often each was taken: that would be thousands of inputs.
    command.args(["-set_cover_merge=1", "-use_counters=0", TIMEOUT, MEMORY]).arg(&corpus).arg(&new);
    show(&command);
    let result = command.output().with_context(|| format!("starting {}", program.display()))?;
    if !result.status.success() {
        bail!("merging {target}: {}\n{}", result.status, String::from_utf8_lossy(&result.stderr));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_says_how_often_it_ran_and_what_it_reached() {
        let log = "INFO: Loaded 1 modules   (1200 inline 8-bit counters): 1200 [0x1, 0x2), \n\
                   INFO:        7 files found in corpus\n\
                   #12\tINITED cov: 100 ft: 120 corp: 7/65b exec/s: 0 rss: 28Mb\n\
                   #900\tNEW    cov: 300 ft: 420 corp: 19/1Kb lim: 4 exec/s: 0 rss: 28Mb L: 2/9 MS: 1 ChangeBit-\n\
                   #5000\tDONE   cov: 301 ft: 421 corp: 20/1Kb lim: 4 exec/s: 250 rss: 28Mb\n\
                   stat::number_of_executed_units: 5000\n";
        let mut run = Run { target: "http".to_owned(), seconds: 20, ..Run::default() };
        run.read(log);
        assert_eq!((run.executions, run.edges, run.all_edges, run.inputs), (5000, 301, 1200, 20));
        let table = table(&[run]);
        let row: Vec<&str> = table.lines().last().unwrap().split_whitespace().collect();
        assert_eq!(row, ["http", "20", "5000", "250", "301", "25", "%", "20", "0"]);
    }
}
