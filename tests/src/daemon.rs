//! The daemon as a process: started inside a node, stopped in several ways, its log kept.

use std::fs::{File, OpenOptions};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::fd_store::FdStore;
use crate::netns::Namespace;
use crate::wait;

/// A running `metadatad run`.
#[derive(Debug)]
pub struct Daemon {
    child: Child,
}

/// Returns the path of the built daemon: the one beside the running test or demo.
///
/// # Errors
/// If it is not built.
pub fn program() -> Result<PathBuf> {
    let own = std::env::current_exe().context("finding this program's own path")?;
    let directory = own.ancestors().skip(1).find(|directory| !directory.ends_with("deps"));
    let program = directory.unwrap_or(Path::new("/")).join("metadatad");
    if !program.exists() {
        bail!("{} does not exist: run `cargo xtask build`", program.display());
    }
    Ok(program)
}

/// How the daemon is started.
#[derive(Clone, Copy, Debug, Default)]
pub struct Start<'a> {
    /// It outlives the thread that started it.
    pub lasting: bool,
    /// By how much its clock differs from the machine's ([`shift_clock`]).
    pub clock: Option<&'a str>,
    /// What it believes of a service manager's `WatchdogSec=`.
    pub watchdog: Option<Duration>,
    /// What follows `run`.
    pub words: &'a [&'a str],
    /// It gets what is in there, and may put more there.
    pub store: Option<&'a FdStore>,
}

impl Daemon {
    /// Starts it in the namespace, in the machine's mounts, so that pins and named namespaces outlive it. With
    /// `lasting` it also outlives the thread that started it.
    ///
    /// # Errors
    /// If it cannot be started.
    pub fn start(namespace: &Namespace, config: &Path, log: &Path, how: &Start<'_>) -> Result<Self> {
        let open = || OpenOptions::new().create(true).append(true).open(log);
        let output: File = open().with_context(|| format!("opening {}", log.display()))?;
        let mut run = Command::new(program()?);
        run.arg("run").args(how.words).arg("--config").arg(config).env("NO_COLOR", "1");
        let mut command = match how.store {
            Some(store) => store.wrap(&run),
            None => run,
        };
        namespace.put_inside(&mut command, !how.lasting)?;
        if let Some(store) = how.store {
            store.pass_to(&mut command)?;
        }
        if let Some(time) = how.watchdog {
            command.env("WATCHDOG_USEC", time.as_micros().to_string());
        }
        if let Some(offset) = how.clock {
            shift_clock(&mut command, offset)?;
        }
        command.stdin(Stdio::null()).stdout(output.try_clone()?).stderr(output);
        Ok(Self { child: command.spawn().context("starting metadatad")? })
    }

    /// Returns its process id.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Returns its status if it has ended.
    ///
    /// # Errors
    /// If the kernel does not report it.
    pub fn ended(&mut self) -> Result<Option<ExitStatus>> {
        self.child.try_wait().context("asking whether metadatad runs")
    }

    /// Sends a signal.
    ///
    /// # Errors
    /// If the process is gone.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        let id = i32::try_from(self.child.id()).context("a process id beyond i32")?;
        kill(Pid::from_raw(id), signal).with_context(|| format!("sending {signal} to metadatad"))
    }

    /// Asks it to end, and waits for that.
    ///
    /// # Errors
    /// If it does not.
    pub fn terminate(&mut self) -> Result<ExitStatus> {
        self.signal(Signal::SIGTERM)?;
        wait::until("metadatad ends after SIGTERM", || self.ended())
    }

    /// Ends it without a chance to do anything about it.
    ///
    /// # Errors
    /// If it is gone already.
    pub fn kill(&mut self) -> Result<()> {
        self.child.kill().context("killing metadatad")?;
        self.child.wait().context("waiting for the killed metadatad")?;
        Ok(())
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // Already ended is as good.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Lets a program see another time of day, by libfaketime; neither clocks that only run nor files' times differ.
fn shift_clock(command: &mut Command, offset: &str) -> Result<()> {
    let directories = std::fs::read_dir("/usr/lib").context("looking for libfaketime")?.flatten();
    let library = directories.map(|entry| entry.path().join("faketime/libfaketime.so.1")).find(|path| path.exists());
    let library = library.context("libfaketime is missing: install the package faketime (`cargo xtask setup`)")?;
    command.env("LD_PRELOAD", library).env("FAKETIME", offset);
    command.env("FAKETIME_DONT_FAKE_MONOTONIC", "1").env("NO_FAKE_STAT", "1");
    Ok(())
}

/// Prepares a verb of `metadatad` in the namespace.
///
/// # Errors
/// If the daemon is not built, or the namespace is gone.
pub fn verb(namespace: &Namespace, config: &Path, words: &[&str]) -> Result<Command> {
    let mut command = namespace.command(program()?)?;
    command.args(words).arg("--config").arg(config);
    Ok(command)
}
