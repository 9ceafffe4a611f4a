//! `cargo xtask test`: formatting, lints and every kind of test, with one line of totals at the end.
//!
//! Promises: the last line is `N passed, N failed, N skipped`, summed over everything that ran; before it come the seconds
//! of each group and the ten slowest tests, which each group also prints of its own when it ends. A group that ends badly
//! without saying how many failed counts as one failure. With `CI=true` a skipped test is a failure.

mod programs;
mod report;

use std::env;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::thread;

use anyhow::{Context as _, Result, bail};
use clap::ValueEnum;

use self::programs::{Programs, Selection};
use self::report::Report;
use crate::command::{cargo, show, show_and_run};

/// Options of `test`.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// Groups to run, in this order; all of them if none is named
    #[arg(value_enum)]
    groups: Vec<Group>,
    /// Only tests whose name contains this
    #[arg(long)]
    filter: Option<String>,
    /// With `api`: a directory of captured cases to compare with, beside those in the tree
    #[arg(long, value_name = "DIR")]
    golden: Option<PathBuf>,
}

/// A kind of check.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Group {
    /// `cargo fmt --check`
    Fmt,
    /// Imports, file headers, sizes and the module graph
    Tidy,
    /// Licences, banned and doubled crates, sources, advisories: `cargo xtask deny`
    Deny,
    /// `cargo clippy`, warnings are errors
    Clippy,
    /// Tests beside the code
    Unit,
    /// Rendered answers against captured ones
    Api,
    /// The fuzzers, 20 seconds each: `cargo xtask fuzz`
    Fuzz,
    /// Packet tables through BPF_PROG_TEST_RUN
    Datapath,
    /// Real packets between namespaces
    Netns,
    /// Real clients in guests
    Clients,
    /// Real controllers and what else runs on nodes: etcd, Nova, ovsdb-server, Prometheus, promtool, haproxy
    Controllers,
    /// The Ansible role, as ansible-lint sees it
    Ansible,
    /// The Debian package, as lintian sees it
    Packages,
    /// Real machines: a guest with cloud-init
    Vm,
}

/// Runs the groups, then prints the totals.
pub(crate) fn run(options: &Options) -> Result<()> {
    let groups = if options.groups.is_empty() { Group::value_variants() } else { options.groups.as_slice() };
    let mut report = Report::default();
    let programs = report.group("build", |_| prepare(groups))?;
    let mut bad = Vec::new();
    for group in groups {
        let name = group.to_possible_value().map_or_else(String::new, |value| value.get_name().to_owned());
        report.group(&name, |report| {
            let before = report.totals.failed;
            if let Err(error) = one(*group, options, &programs, report) {
                eprintln!("{name}: {error:#}");
                // A test that failed is counted where it was reported; anything else is counted here.
                if report.totals.failed == before {
                    report.totals.failed += 1;
                }
                bad.push(name.clone());
            }
        });
        println!("{}", report.slowest_of(&name));
    }
    println!("{}", report.times());
    let mut totals = report.totals;
    let forbidden = totals.skipped > 0 && env::var("CI").is_ok_and(|ci| ci == "true");
    if forbidden {
        eprintln!("skipped tests count as failures here, because CI=true");
        totals.failed += totals.skipped;
    }
    if !bad.is_empty() {
        eprintln!("failed: {}", bad.join(" "));
    }
    println!("{} passed, {} failed, {} skipped", totals.passed, totals.failed, totals.skipped);
    if totals.failed > 0 {
        bail!("the tests failed");
    }
    Ok(())
}

/// Sets up and builds what these groups need. What is downloaded is waited for, so cargo works beside it.
fn prepare(groups: &[Group]) -> Result<Programs> {
    crate::setup::run(false)?;
    thread::scope(|scope| {
        let downloads = scope.spawn(|| download(groups));
        let programs = build(groups);
        let downloads = downloads.join().unwrap_or_else(|_| bail!("the thread that downloads panicked"));
        downloads.and(programs)
    })
}

fn build(groups: &[Group]) -> Result<Programs> {
    let selection = if groups.contains(&Group::Unit) {
        Selection::All
    } else {
        Selection::Targets(groups.iter().flat_map(|group| group.targets()).copied().collect())
    };
    if groups.iter().any(|group| !matches!(group, Group::Fmt | Group::Tidy | Group::Deny | Group::Ansible)) {
        crate::build::object()?;
    }
    match &selection {
        Selection::Targets(names) if names.is_empty() => Ok(Programs::default()),
        selection => Programs::build(selection),
    }
}

/// Fetches the programs of others that these groups run.
fn download(groups: &[Group]) -> Result<()> {
    if groups.contains(&Group::Deny) {
        crate::supply::TOOLS.setup()?;
    }
    if groups.contains(&Group::Clients) {
        crate::clients::setup()?;
    }
    // Open vSwitch runs inside machines too.
    if groups.iter().any(|group| matches!(group, Group::Controllers | Group::Vm)) {
        crate::controllers::CONTROLLERS.setup()?;
    }
    if groups.contains(&Group::Controllers) {
        crate::cloud::CLOUD.setup()?;
        crate::prometheus::PROMETHEUS.setup()?;
        crate::haproxy::HAPROXY.setup()?;
    }
    if groups.contains(&Group::Vm) {
        crate::vm::setup()?;
    }
    // The role is applied to a machine too.
    if groups.iter().any(|group| matches!(group, Group::Ansible | Group::Vm)) {
        crate::ansible::ANSIBLE.setup()?;
    }
    if groups.iter().any(|group| matches!(group, Group::Packages | Group::Vm)) {
        crate::package::setup()?;
    }
    Ok(())
}

impl Group {
    /// Returns the test targets of the lab's package that belong to it.
    fn targets(self) -> &'static [&'static str] {
        match self {
            Self::Fmt
            | Self::Tidy
            | Self::Deny
            | Self::Clippy
            | Self::Unit
            | Self::Fuzz
            | Self::Ansible
            | Self::Packages => &[],
            Self::Api => &["api"],
            Self::Datapath => &["datapath"],
            Self::Netns => &["netns", "scale"],
            Self::Clients => &["clients"],
            Self::Controllers => &["controllers", "measured"],
            // The others run inside machines.
            Self::Vm => &["vm", "datapath", "netns"],
        }
    }
}

fn one(group: Group, options: &Options, programs: &Programs, report: &mut Report) -> Result<()> {
    match group {
        Group::Fmt => show_and_run(cargo().args(["fmt", "--all", "--check"])),
        Group::Tidy => crate::tidy::run(),
        Group::Deny => crate::supply::deny(&crate::supply::DenyOptions::default()),
        Group::Clippy => show_and_run(cargo().args([
            "clippy",
            "--workspace",
            "--all-targets",
            "--quiet",
            "--",
            "--deny",
            "warnings",
        ])),
        Group::Unit => {
            // Each runs, whatever became of the one before.
            let ended: Vec<_> = programs.unit().map(|mut program| tests(&mut program, options, report)).collect();
            ended.into_iter().collect()
        }
        Group::Api => {
            let mut command = programs.of_group("api")?;
            if let Some(directory) = &options.golden {
                let directory = env::current_dir().context("finding the current directory")?.join(directory);
                command.env("METADATAD_GOLDEN_DIR", directory);
            }
            tests(&mut command, options, report)
        }
        Group::Datapath => tests(&mut programs.of_group("datapath")?, options, report),
        Group::Netns => {
            let netns = tests(waiting(&mut programs.of_group("netns")?), options, report);
            netns.and(tests(measuring(&mut programs.of_group("scale")?), options, report))
        }
        Group::Clients => tests(waiting(&mut programs.of_group("clients")?), options, report),
        Group::Controllers => {
            let controllers = tests(waiting(&mut programs.of_group("controllers")?), options, report);
            controllers.and(tests(measuring(&mut programs.of_group("measured")?), options, report))
        }
        Group::Fuzz => fuzz(report),
        Group::Ansible => crate::ansible::lint(),
        Group::Packages => crate::package::check(),
        Group::Vm => {
            let mut machines = programs.of_group("vm")?;
            // With what it prints: how long boots took. All tests begin at once: runs of machines serve several of them,
            // and see to it themselves that not too many run at a time.
            machines.env("RUST_TEST_NOCAPTURE", "1").env("RUST_TEST_THREADS", "64");
            // What also runs inside machines.
            let inside = env::join_paths([programs.file("datapath")?, programs.file("netns")?]);
            machines.env("METADATAD_TEST_PROGRAMS", inside.context("the paths of the tests")?);
            machines.env("METADATAD_TEST_PACKAGES", crate::package::for_tests()?);
            tests(&mut machines, options, report)
        }
    }
}

/// Runs the fuzzers, each as a test.
fn fuzz(report: &mut Report) -> Result<()> {
    crate::fuzz::run_each(&crate::fuzz::Options::short(), |run| {
        let (outcome, counts) =
            if run.failed { ("FAILED", "0 passed; 1 failed") } else { ("ok", "1 passed; 0 failed") };
        let line = format!("test {} ... {outcome} <{}.0s>", run.target, run.seconds);
        println!("{line}");
        report.add(&line);
        report.add(&format!("test result: {outcome}. {counts}"));
    })
}

/// Tests that mostly wait, for other processes and for the kernel: two of them for each processor at a time.
fn waiting(command: &mut Command) -> &mut Command {
    if env::var_os("RUST_TEST_THREADS").is_none() {
        let processors = thread::available_parallelism().map_or(1, usize::from);
        command.env("RUST_TEST_THREADS", (2 * processors).to_string());
    }
    command
}

/// Tests that measure: one at a time, and with what they print.
fn measuring(command: &mut Command) -> &mut Command {
    command.env("RUST_TEST_THREADS", "1").env("RUST_TEST_NOCAPTURE", "1")
}

/// Runs a program of tests, shows its output as it comes, and reports its lines.
fn tests(command: &mut Command, options: &Options, report: &mut Report) -> Result<()> {
    command.args(&options.filter).args(["-Z", "unstable-options", "--report-time"]);
    show(command);
    let mut child = command.stdout(Stdio::piped()).spawn().context("starting the tests")?;
    let output = child.stdout.take().context("the tests' output is not there")?;
    for line in BufReader::new(output).split(b'\n') {
        let line = line.context("reading the tests' output")?;
        let line = String::from_utf8_lossy(&line);
        let mut stdout = std::io::stdout().lock();
        // Nobody may be reading any more; the tests' outcome is worth finding out all the same.
        let _ = writeln!(stdout, "{line}");
        report.add(&line);
    }
    let status = child.wait().context("waiting for the tests")?;
    if !status.success() {
        bail!("{}: {status}", command.get_program().display());
    }
    Ok(())
}
