//! Processes that end together, also when the test is killed: one Python process starts them, each of them ends with it, and it ends when
//! its standard input does (`tests/controllers/openstack/supervise.py`).

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};

use crate::fetched;
use crate::wait;

/// A service that is asked to end may finish what it does; then it is killed.
const END: Duration = Duration::from_secs(10);

/// The process that starts the others.
#[derive(Debug)]
pub(super) struct Supervisor {
    child: Child,
    pipes: Mutex<Option<(ChildStdin, BufReader<ChildStdout>)>>,
}

impl Supervisor {
    /// Starts it.
    pub(super) fn start(log: &Path) -> Result<Self> {
        let mut command = Command::new(tool("python3")?);
        command.arg(script("supervise.py")).env("PYTHONPATH", script("sqlite"));
        let log = fs::File::options().create(true).append(true).open(log).context("opening a log")?;
        // A test's Ctrl-C ends this by the end of its input, after what it watches was asked to end.
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(log).spawn()?;
        let (input, output) = (child.stdin.take(), child.stdout.take());
        let pipes = (input.context("no input pipe")?, BufReader::new(output.context("no output pipe")?));
        Ok(Self { child, pipes: Mutex::new(Some(pipes)) })
    }

    /// Starts a program with this environment alone.
    pub(super) fn execute(
        &self,
        command: &[String],
        environment: &BTreeMap<String, String>,
        log: &Path,
    ) -> Result<Running> {
        self.ask(&json!({"log": log, "command": command, "environment": environment}))
    }

    /// Starts one of Nova's services.
    pub(super) fn nova(&self, program: &str, host: &str, directory: &Path) -> Result<Running> {
        self.ask(&json!({"nova": program, "host": host, "directory": directory}))
    }

    /// Imports Nova, which takes seconds, ahead of the first of its services.
    pub(super) fn import_nova(&self) -> Result<()> {
        self.ask(&json!({"import": true})).map(drop)
    }

    fn ask(&self, line: &Value) -> Result<Running> {
        let mut pipes = self.pipes.lock().unwrap_or_else(PoisonError::into_inner);
        let (input, output) = pipes.as_mut().context("the supervisor has ended")?;
        writeln!(input, "{line}").context("asking the supervisor")?;
        let mut answer = String::new();
        output.read_line(&mut answer).context("reading the supervisor's answer")?;
        let process = answer.trim().parse().with_context(|| format!("the supervisor's answer {answer:?}"))?;
        Ok(Running(Pid::from_raw(process)))
    }
}

impl Drop for Supervisor {
    fn drop(&mut self) {
        drop(self.pipes.lock().unwrap_or_else(PoisonError::into_inner).take());
        let _ = self.child.wait();
    }
}

/// A process that the supervisor has started.
#[derive(Clone, Copy, Debug)]
pub(super) struct Running(Pid);

impl Running {
    /// Returns its process id.
    pub(super) fn id(self) -> u32 {
        self.0.as_raw().unsigned_abs()
    }

    /// Tells whether it still runs.
    pub(super) fn is_alive(self) -> bool {
        kill(self.0, None).is_ok()
    }

    pub(super) fn signal(self, signal: Signal) -> Result<()> {
        kill(self.0, signal).with_context(|| format!("sending {signal} to process {}", self.0))
    }

    /// Ends it as a service manager does, by SIGTERM, then by SIGKILL.
    pub(super) fn end(self) -> Result<()> {
        if !self.is_alive() {
            return Ok(());
        }
        self.signal(Signal::SIGTERM)?;
        if wait::until_within(END, "a service ends", || Ok((!self.is_alive()).then_some(()))).is_err() {
            self.kill()?;
        }
        Ok(())
    }

    /// Ends it without a chance to do anything about it.
    pub(super) fn kill(self) -> Result<()> {
        let _ = self.signal(Signal::SIGKILL);
        wait::until("a killed service is gone", || Ok((!self.is_alive()).then_some(())))
    }
}

/// A service that hangs: its connections stay, and nothing is answered. It continues when this is dropped.
#[derive(Debug)]
#[must_use]
pub struct Hang(Vec<Running>);

impl Hang {
    pub(super) fn start(processes: Vec<Running>) -> Result<Self> {
        if processes.is_empty() {
            bail!("it does not run");
        }
        let hang = Self(processes);
        for process in &hang.0 {
            process.signal(Signal::SIGSTOP)?;
        }
        Ok(hang)
    }
}

impl Drop for Hang {
    fn drop(&mut self) {
        for process in &self.0 {
            let _ = process.signal(Signal::SIGCONT);
        }
    }
}

/// Returns a program of the collection's virtual environment.
pub(super) fn tool(name: &str) -> Result<PathBuf> {
    Ok(fetched::collection("cloud")?.join("venv/bin").join(name))
}

/// Returns a file of `tests/controllers/openstack`.
pub(super) fn script(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("controllers/openstack").join(name)
}
