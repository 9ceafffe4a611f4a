//! `cargo xtask fuzz`: builds the fuzzers of tests/fuzz and runs them from their corpora.
//!
//! Promises: what is found is kept, named and makes this fail; the corpora in git change only when that is asked for.
//!
//! The engine is libFuzzer, which needs a C++ compiler and no clang; coverage comes from the compiler's own LLVM, with the
//! options that cargo-fuzz has too, and needs no nightly. By default only this project's crates have coverage, so all others are
//! shared with the other tests; `--optimised` builds everything again, with coverage, optimisations and every check.

mod run;

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;
use std::thread;

use anyhow::{Context as _, Result, bail};

pub(crate) use self::run::Run;
use crate::command::{cargo, root, show_and_run, target_directory};

/// What gives code its coverage. `tests/fuzz/rustc` has the same.
const COVERAGE: &str = "-Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
                        -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
                        -Cllvm-args=-sanitizer-coverage-trace-compares --cfg fuzzing";

/// Options of `fuzz`.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Options {
    /// Fuzzers to run; all of them if none is named
    targets: Vec<String>,
    /// Seconds that each runs
    #[arg(long, default_value_t = 60)]
    seconds: u64,
    /// How many run at a time
    #[arg(long, default_value_t = 2)]
    jobs: usize,
    /// Build everything with optimisations, and with coverage of others' crates too; for long runs
    #[arg(long)]
    optimised: bool,
    /// Add to the corpora in git what reached more code
    #[arg(long)]
    merge: bool,
}

/// Where the fuzzers and their corpora are.
fn directory() -> PathBuf {
    root().join("tests/fuzz")
}

/// Where runs leave what they have made.
fn output() -> PathBuf {
    target_directory().join("fuzz")
}

impl Options {
    /// Those of the tests: every fuzzer, for a moment.
    pub(crate) fn short() -> Self {
        Self { targets: Vec::new(), seconds: 20, jobs: 2, optimised: false, merge: false }
    }
}

/// Runs the fuzzers, and prints a line for each.
pub(crate) fn run(options: &Options) -> Result<()> {
    run_each(options, |_| {})
}

/// As [`run`], and reports each when all have ended.
pub(crate) fn run_each(options: &Options, each: impl FnMut(&Run)) -> Result<()> {
    let targets = targets(&options.targets)?;
    let programs = build(options, &targets)?;
    let todo = Mutex::new(targets.iter().rev().collect::<Vec<_>>());
    let done = Mutex::new(Vec::new());
    thread::scope(|scope| -> Result<()> {
        let work = || -> Result<()> {
            loop {
                // The lock is given back before the run begins.
                let Some(target) = todo.lock().ok().and_then(|mut todo| todo.pop()) else { return Ok(()) };
                let run = Run::of(target, &programs.join(target), options.seconds)?;
                if let Ok(mut done) = done.lock() {
                    done.push(run);
                }
            }
        };
        let workers: Vec<_> = (0..options.jobs.max(1)).map(|_| scope.spawn(work)).collect();
        let ended = workers.into_iter().map(|worker| worker.join().unwrap_or_else(|_| bail!("a worker panicked")));
        ended.collect()
    })?;
    let mut runs = done.into_inner().unwrap_or_else(|poisoned| poisoned.into_inner());
    runs.sort_by(|a, b| a.target.cmp(&b.target));
    println!("{}", run::table(&runs));
    runs.iter().for_each(each);
    if options.merge {
        for target in &targets {
            run::merge(target, &programs.join(target))?;
        }
    }
    let finds: Vec<&PathBuf> = runs.iter().flat_map(|run| &run.finds).collect();
    for find in &finds {
        eprintln!("found: {}", find.display());
    }
    if runs.iter().any(|run| run.failed) {
        bail!("{} finds; run a fuzzer with the file of one to see it again; its log is beside it", finds.len());
    }
    Ok(())
}

/// Returns the fuzzers to run, by name.
fn targets(named: &[String]) -> Result<Vec<String>> {
    let sources = directory().join("targets");
    let mut all = Vec::new();
    for entry in fs::read_dir(&sources).with_context(|| format!("reading {}", sources.display()))? {
        let path = entry?.path();
        all.extend(path.file_stem().map(|name| name.to_string_lossy().into_owned()));
    }
    all.sort();
    if let Some(unknown) = named.iter().find(|name| !all.contains(name)) {
        bail!("there is no fuzzer {unknown}; there are {}", all.join(", "));
    }
    Ok(if named.is_empty() { all } else { named.to_vec() })
}

/// Builds fuzzers. Returns the directory that they are in.
fn build(options: &Options, targets: &[String]) -> Result<PathBuf> {
    let mut command = cargo();
    command.arg("build");
    let programs = if options.optimised {
        // Named, so that build scripts and macros have no coverage.
        let host = host()?;
        command.env("RUSTFLAGS", COVERAGE).args([
            "--profile",
            "fuzz",
            "--target",
            &host,
            "--package",
            "metadatad-fuzz",
        ]);
        command.arg("--target-dir").arg(output());
        output().join(host).join("fuzz")
    } else {
        crate::build::object()?;
        // The whole workspace is selected, for the features that the other tests have.
        command.env("RUSTC_WORKSPACE_WRAPPER", directory().join("rustc")).arg("--workspace");
        target_directory().join("debug")
    };
    for target in targets {
        command.args(["--bin", target]);
    }
    show_and_run(&mut command)?;
    Ok(programs)
}

/// Returns the triple of this machine.
fn host() -> Result<String> {
    let rustc = env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let output = Command::new(rustc).arg("-vV").output().context("starting rustc")?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let line = text.lines().find_map(|line| line.strip_prefix("host: "));
    line.map(str::to_owned).context("rustc does not say what it is for")
}

/// Makes a directory empty.
fn emptied(path: &Path) -> Result<()> {
    if path.exists() {
        fs::remove_dir_all(path).with_context(|| format!("removing {}", path.display()))?;
    }
    fs::create_dir_all(path).with_context(|| format!("making {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_fuzzer_has_a_corpus_a_dictionary_where_it_helps_and_a_limit() {
        for target in targets(&[]).unwrap() {
            assert!(directory().join("corpus").join(&target).is_dir(), "{target}");
            assert!(run::longest(&target).is_some(), "{target}");
        }
        assert!(targets(&["nonsense".to_owned()]).unwrap_err().to_string().contains("there are admin, "));
    }

    #[test]
    fn the_compiler_that_wraps_gives_the_same_coverage() {
        let script = fs::read_to_string(directory().join("rustc")).unwrap();
        let words: Vec<&str> = script.split_whitespace().filter(|word| *word != "\\").collect();
        assert!(COVERAGE.split_whitespace().all(|option| words.contains(&option)), "{script}");
    }
}
