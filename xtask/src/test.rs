//! `cargo xtask test`: formatting, lints and every kind of test, with one line of totals at the end.
//!
//! Promises: the last line is `N passed, N failed, N skipped`, summed over everything that ran; before it come the seconds
//! of each group and the ten slowest tests, which each group also prints of its own when it ends. A group that ends badly
//! without saying how many failed counts as one failure. With `CI=true` a skipped test is a failure.

mod report;

use std::env;
use std::ffi::OsString;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::PathBuf;
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, bail};
use clap::ValueEnum;

use self::report::Report;
use crate::command::{cargo, show, show_and_run};

/// What `test` may be told.
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
    /// `cargo clippy`, warnings are errors
    Clippy,
    /// Tests beside the code
    Unit,
    /// Rendered answers against captured ones
    Api,
    /// Packet tables through BPF_PROG_TEST_RUN
    Datapath,
    /// Real packets between namespaces
    Netns,
    /// Real clients in guests
    Clients,
    /// Real controllers: etcd, Nova, ovsdb-server
    Controllers,
    /// Real machines: a guest with cloud-init
    Vm,
}

/// Runs the groups, then prints the totals.
pub(crate) fn run(options: &Options) -> Result<()> {
    let groups = if options.groups.is_empty() { Group::value_variants() } else { options.groups.as_slice() };
    let mut report = Report::default();
    report.group("build", |_| prepare(groups))?;
    let mut bad = Vec::new();
    for group in groups {
        let name = group.to_possible_value().map_or_else(String::new, |value| value.get_name().to_owned());
        report.group(&name, |report| {
            let before = report.totals.failed;
            if let Err(error) = one(*group, options, report) {
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

/// Sets up and builds what these groups need.
fn prepare(groups: &[Group]) -> Result<()> {
    crate::setup::run(false)?;
    if groups.iter().any(|group| !matches!(group, Group::Fmt | Group::Tidy)) {
        crate::build::object()?;
    }
    let beside_daemon =
        |group: &Group| !matches!(group, Group::Fmt | Group::Tidy | Group::Clippy | Group::Unit | Group::Api);
    if groups.iter().any(beside_daemon) {
        crate::build::run(&crate::build::Options::default())?;
    }
    if groups.contains(&Group::Clients) {
        crate::clients::CLIENTS.setup()?;
    }
    if groups.contains(&Group::Controllers) {
        crate::controllers::CONTROLLERS.setup()?;
    }
    if groups.contains(&Group::Vm) {
        // Open vSwitch runs inside machines too.
        crate::controllers::CONTROLLERS.setup()?;
        crate::vm::setup()?;
    }
    Ok(())
}

fn one(group: Group, options: &Options, report: &mut Report) -> Result<()> {
    match group {
        Group::Fmt => show_and_run(cargo().args(["fmt", "--all", "--check"])),
        Group::Tidy => crate::tidy::run(),
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
            let beside =
                ["--workspace", "--exclude", "metadatad-tests", "--no-fail-fast", "--lib", "--bins", "--tests"];
            let beside = tests(cargo_test().args(beside), options, report);
            let lab = ["--package", "metadatad-tests", "--lib", "--bin", "bench"];
            beside.and(tests(cargo_test().args(lab), options, report))
        }
        Group::Api => {
            let mut command = package_test("api");
            if let Some(directory) = &options.golden {
                let directory = env::current_dir().context("finding the current directory")?.join(directory);
                command.env("METADATAD_GOLDEN_DIR", directory);
            }
            tests(&mut command, options, report)
        }
        Group::Datapath => tests(&mut package_test("datapath"), options, report),
        Group::Netns => {
            let netns = tests(&mut package_test("netns"), options, report);
            // Measured, so one at a time and with what it prints.
            let mut alone = package_test("scale");
            alone.env("RUST_TEST_THREADS", "1").env("RUST_TEST_NOCAPTURE", "1");
            netns.and(tests(&mut alone, options, report))
        }
        Group::Clients => tests(&mut package_test("clients"), options, report),
        Group::Controllers => {
            let controllers = tests(&mut package_test("controllers"), options, report);
            let mut alone = package_test("measured");
            alone.env("RUST_TEST_THREADS", "1").env("RUST_TEST_NOCAPTURE", "1");
            controllers.and(tests(&mut alone, options, report))
        }
        Group::Vm => {
            // With what it prints: how long boots took.
            let mut machines = package_test("vm");
            machines.env("RUST_TEST_NOCAPTURE", "1");
            // What also runs inside machines.
            machines.env("METADATAD_TEST_PROGRAMS", test_programs(&["datapath", "netns"])?);
            tests(&mut machines, options, report)
        }
    }
}

/// Begins `cargo test` for tests that say how long they took.
fn cargo_test() -> Command {
    let mut command = cargo();
    // libtest tells times only where unstable features are allowed. The setting is for the tests alone, not for the
    // compiler, which would build everything anew.
    command.args(["--config", "target.'cfg(all())'.runner = ['env', 'RUSTC_BOOTSTRAP=1']", "test"]);
    command
}

fn package_test(name: &str) -> Command {
    let mut command = cargo_test();
    command.args(["--package", "metadatad-tests", "--test", name]);
    command
}

/// Builds these tests and returns their files, as a list of paths.
fn test_programs(names: &[&str]) -> Result<OsString> {
    let mut command = cargo();
    command.args(["test", "--package", "metadatad-tests", "--no-run", "--quiet"]);
    command.arg("--message-format=json-render-diagnostics");
    command.args(names.iter().flat_map(|name| ["--test", name]));
    show(&command);
    let output = command.stderr(Stdio::inherit()).output().context("starting cargo")?;
    if !output.status.success() {
        bail!("cargo test --no-run: {}", output.status);
    }
    let messages = serde_json::Deserializer::from_slice(&output.stdout).into_iter::<serde_json::Value>();
    let mut programs = Vec::new();
    for message in messages {
        let message = message.context("reading cargo's messages")?;
        let is_asked = names.iter().any(|name| message["target"]["name"] == *name);
        programs.extend(message["executable"].as_str().filter(|_| is_asked).map(PathBuf::from));
    }
    env::join_paths(programs).context("the paths of the tests")
}

/// Runs `cargo test`, shows its output as it comes, and reports its lines.
fn tests(command: &mut Command, options: &Options, report: &mut Report) -> Result<()> {
    command.arg("--").args(&options.filter).args(["-Z", "unstable-options", "--report-time"]);
    show(command);
    let mut child = command.stdout(Stdio::piped()).spawn().context("starting cargo")?;
    let output = child.stdout.take().context("cargo's output is not there")?;
    for line in BufReader::new(output).split(b'\n') {
        let line = line.context("reading cargo's output")?;
        let line = String::from_utf8_lossy(&line);
        let mut stdout = std::io::stdout().lock();
        // Nobody may be reading any more; the tests' outcome is worth finding out all the same.
        let _ = writeln!(stdout, "{line}");
        report.add(&line);
    }
    let status = child.wait().context("waiting for cargo")?;
    if !status.success() {
        bail!("cargo test: {status}");
    }
    Ok(())
}
