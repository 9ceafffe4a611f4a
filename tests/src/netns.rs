//! Named network namespaces.
//!
//! Promises: a name is used once; a namespace is removed on `Drop`, unless it is kept; what runs inside runs on
//! a thread of its own, so the caller's thread stays where it is.

use std::fs::File;
use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;

use anyhow::{Context as _, Result, anyhow};
use nix::sched::{CloneFlags, setns};

use crate::command;
use crate::guard;

/// A network namespace that the lab made.
#[derive(Debug)]
pub struct Namespace {
    name: String,
    file: PathBuf,
    keep: bool,
}

/// Returns a name that nothing else in the machine uses, of at most 15 characters if `stem` has at most 3.
#[must_use]
pub fn unique(stem: &str) -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    // Process ids are below 2^22: four letters of base 36 hold them, with some room.
    format!("{stem}-{}-{}", base36(std::process::id()), base36(NEXT.fetch_add(1, Ordering::Relaxed)))
}

fn base36(mut number: u32) -> String {
    let mut letters = Vec::new();
    loop {
        letters.push(char::from_digit(number % 36, 36).unwrap_or('0'));
        number /= 36;
        if number == 0 {
            return letters.iter().rev().collect();
        }
    }
}

impl Namespace {
    /// Makes a namespace named `lab-`, `stem` and a unique rest, with its loopback up.
    ///
    /// # Errors
    /// Without root, or where `ip` is missing.
    pub fn create(stem: &str) -> Result<Self> {
        let name = unique(&format!("lab-{stem}"));
        command::run(Command::new("ip").args(["netns", "add", &name]), "")
            .context("making a namespace: the lab needs root and iproute2")?;
        let namespace = Self { file: PathBuf::from("/run/netns").join(&name), name, keep: false };
        namespace.ip("link set lo up")?;
        Ok(namespace)
    }

    /// Opens a namespace that was made elsewhere, by name; it stays when this value is dropped.
    #[must_use]
    pub fn existing(name: &str) -> Self {
        Self { name: name.to_owned(), file: PathBuf::from("/run/netns").join(name), keep: true }
    }

    /// The machine's own namespace under a name, to show that the guard refuses it.
    #[cfg(test)]
    pub(crate) fn of_this_machine() -> Result<Self> {
        Ok(Self { name: String::new(), file: PathBuf::from("/proc/self/ns/net"), keep: true })
    }

    /// Returns its name, as `ip netns` shows it.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Tells whether there is such a namespace.
    #[must_use]
    pub fn exists(&self) -> bool {
        self.file.exists()
    }

    /// Keeps the namespace when this value is dropped.
    pub fn keep(&mut self) {
        self.keep = true;
    }

    /// Opens the namespace, for `setns`.
    ///
    /// # Errors
    /// If it is gone, or is the machine's own.
    pub fn open(&self) -> Result<File> {
        guard::admit(&self.file)?;
        File::open(&self.file).with_context(|| format!("opening the namespace {}", self.name))
    }

    /// Runs `ip` in the namespace with these arguments, separated by blanks, and returns what it printed.
    ///
    /// # Errors
    /// If `ip` refuses.
    pub fn ip(&self, arguments: &str) -> Result<String> {
        guard::admit(&self.file)?;
        command::run(Command::new("ip").args(["-n", &self.name]).args(arguments.split_whitespace()), "")
    }

    /// Runs a line of `ip` commands each, all in one process.
    ///
    /// # Errors
    /// At the first line that `ip` refuses.
    pub fn ip_batch(&self, lines: &str) -> Result<String> {
        guard::admit(&self.file)?;
        command::run(Command::new("ip").args(["-n", &self.name, "-batch", "-"]), lines)
    }

    /// Runs `work` on a thread inside the namespace and returns what it returned.
    ///
    /// # Errors
    /// Its own, or that the namespace cannot be entered.
    ///
    /// # Panics
    /// If `work` does.
    pub fn run<T: Send>(&self, work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
        thread::scope(|scope| {
            let thread = scope.spawn(|| {
                self.enter()?;
                work()
            });
            thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }

    /// Moves the calling thread into the namespace, permanently.
    ///
    /// # Errors
    /// If it cannot be entered.
    pub fn enter(&self) -> Result<()> {
        let file = self.open()?;
        setns(&file, CloneFlags::CLONE_NEWNET).with_context(|| format!("entering the namespace {}", self.name))?;
        guard::refuse_machine_namespace()
    }

    /// Returns the index of the interface of this name.
    ///
    /// # Errors
    /// If there is none.
    pub fn ifindex(&self, interface: &str) -> Result<u32> {
        self.run(|| {
            nix::net::if_::if_nametoindex(interface).with_context(|| format!("looking for the interface {interface}"))
        })
    }

    /// Writes a setting under `/proc/sys/net` of the namespace.
    ///
    /// # Errors
    /// If the setting does not exist.
    pub fn sysctl(&self, path: &str, value: &str) -> Result<()> {
        self.run(|| {
            let file = format!("/proc/sys/net/{path}");
            std::fs::write(&file, value).map_err(|error| anyhow!("writing {value} to {file}: {error}"))
        })
    }

    /// Prepares a command that will run inside the namespace, in the machine's mounts, and end when the thread that
    /// starts it ends.
    ///
    /// # Errors
    /// If the namespace is gone.
    pub fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Result<Command> {
        self.prepare(program, true)
    }

    /// As [`Self::command`], for a process that outlives its starter.
    ///
    /// # Errors
    /// As [`Self::command`].
    pub fn lasting_command(&self, program: impl AsRef<std::ffi::OsStr>) -> Result<Command> {
        self.prepare(program, false)
    }

    fn prepare(&self, program: impl AsRef<std::ffi::OsStr>, ends_with_starter: bool) -> Result<Command> {
        let mut command = Command::new(program);
        self.put_inside(&mut command, ends_with_starter)?;
        Ok(command)
    }

    /// Makes a command one that will run inside the namespace.
    ///
    /// # Errors
    /// As [`Self::command`].
    pub fn put_inside(&self, command: &mut Command, ends_with_starter: bool) -> Result<()> {
        use std::os::unix::process::CommandExt as _;
        let file = self.open()?;
        if !ends_with_starter {
            // Ctrl-C is for the process that started it, which ends it in order or leaves it alone.
            command.process_group(0);
        }
        // SAFETY: between fork and exec only setns(2) and prctl(2) are called, which are async-signal-safe; `file` was
        // opened before and is owned by the closure.
        unsafe {
            command.pre_exec(move || {
                setns(&file, CloneFlags::CLONE_NEWNET)?;
                if ends_with_starter {
                    nix::sys::prctl::set_pdeathsig(nix::sys::signal::Signal::SIGKILL)?;
                }
                Ok(())
            });
        }
        Ok(())
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        if !self.keep {
            // Nothing is left to be done about a failure here; the unique name keeps it out of others' way.
            let _ = command::run(Command::new("ip").args(["netns", "del", &self.name]), "");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_namespace_goes_with_its_value() {
        let namespace = Namespace::create("gone").unwrap();
        let file = namespace.file.clone();
        assert!(file.exists());
        drop(namespace);
        assert!(!file.exists());
    }

    #[test]
    fn two_namespaces_reach_each_other_through_a_veth_pair() {
        let (a, b) = (Namespace::create("a").unwrap(), Namespace::create("b").unwrap());
        a.ip(&format!("link add eth0 type veth peer name eth0 netns {}", b.name())).unwrap();
        for (namespace, address) in [(&a, "10.9.8.1/24"), (&b, "10.9.8.2/24")] {
            namespace.ip_batch(&format!("addr add {address} dev eth0\nlink set eth0 up\n")).unwrap();
        }
        let listener = b.run(|| Ok(std::net::TcpListener::bind("10.9.8.2:80")?)).unwrap();
        a.run(|| Ok(std::net::TcpStream::connect("10.9.8.2:80")?)).unwrap();
        drop(listener);
    }

    #[test]
    fn unique_names_fit_interfaces() {
        assert!(unique("lab").len() <= 15);
        assert_ne!(unique("lab"), unique("lab"));
        assert_eq!(base36(0), "0");
        assert_eq!(base36(36), "10");
    }
}
