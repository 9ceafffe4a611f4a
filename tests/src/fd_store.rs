//! A fake of systemd's file descriptor store, as far as metadatad uses it: `NOTIFY_SOCKET` takes descriptors (`FDSTORE=1`, `FDNAME=`)
//! and lets them go (`FDSTOREREMOVE=1`), and the next process is started with them (`LISTEN_FDS`, `LISTEN_FDNAMES`, `LISTEN_PID`).
//!
//! Left out: what systemd does besides. `vm/packages` has the real one.

use std::io::IoSliceMut;
use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd, RawFd};
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use anyhow::{Context as _, Result};
use nix::libc;
use nix::sys::socket::{ControlMessageOwned, MsgFlags, recvmsg};

/// The first descriptor that a process is started with (`SD_LISTEN_FDS_START`).
const FIRST: RawFd = 3;

/// Descriptors are moved out of the way of those above first, to here.
const ASIDE: RawFd = 200;

/// Ends the thread.
const END: &[u8] = b"END";

type Held = Arc<Mutex<Vec<(String, OwnedFd)>>>;

/// The store of one service.
#[derive(Debug)]
pub struct FdStore {
    path: PathBuf,
    held: Held,
    thread: Option<JoinHandle<()>>,
}

impl FdStore {
    /// Opens the socket that a service notifies.
    ///
    /// # Errors
    /// If it cannot be opened.
    pub fn open(path: &Path) -> Result<Self> {
        let socket = UnixDatagram::bind(path).with_context(|| format!("opening {}", path.display()))?;
        let held = Held::default();
        let thread = std::thread::Builder::new().name("fd store".to_owned()).spawn({
            let held = Arc::clone(&held);
            move || {
                while let Some((text, sockets)) = receive(&socket) {
                    apply(&mut lock(&held), &text, sockets);
                }
            }
        })?;
        Ok(Self { path: path.to_owned(), held, thread: Some(thread) })
    }

    /// Returns the names of what is kept, in order.
    #[must_use]
    pub fn names(&self) -> Vec<String> {
        let mut names: Vec<_> = lock(&self.held).iter().map(|(name, _)| name.clone()).collect();
        names.sort();
        names
    }

    /// Returns a command that runs this one in its own process, with its own process id in `LISTEN_PID`.
    #[must_use]
    pub fn wrap(&self, command: &Command) -> Command {
        let mut shell = Command::new("sh");
        shell.args(["-c", "LISTEN_PID=$$ exec \"$@\"", "sh"]).arg(command.get_program()).args(command.get_args());
        for (name, value) in command.get_envs() {
            if let Some(value) = value {
                shell.env(name, value);
            }
        }
        shell
    }

    /// Has a command that [`Self::wrap`] made start with everything that is kept. Last, as that may take the place of other
    /// descriptors.
    ///
    /// # Errors
    /// If there are no descriptors left.
    pub fn pass_to(&self, command: &mut Command) -> Result<()> {
        use std::os::unix::process::CommandExt as _;
        let held = lock(&self.held);
        let names: Vec<_> = held.iter().map(|(name, _)| name.as_str()).collect();
        command.env("NOTIFY_SOCKET", &self.path);
        if !names.is_empty() {
            command.env("LISTEN_FDS", names.len().to_string()).env("LISTEN_FDNAMES", names.join(":"));
        }
        let sockets = held.iter().map(|(_, socket)| socket.try_clone()).collect::<Result<Vec<_>, _>>()?;
        let pass = move || {
            let moved = |from: RawFd| {
                // SAFETY: fcntl(2) is async-signal-safe and takes no pointer here.
                nix::errno::Errno::result(unsafe { libc::fcntl(from, libc::F_DUPFD_CLOEXEC, ASIDE) })
            };
            let aside = [(); 64];
            let mut aside = aside.map(|()| -1);
            for (place, socket) in aside.iter_mut().zip(&sockets) {
                *place = moved(socket.as_raw_fd())?;
            }
            for (number, from) in (FIRST..).zip(aside.iter().take(sockets.len())) {
                // SAFETY: dup2(2) is async-signal-safe; what it closes is nobody's in this process, which is about to exec.
                nix::errno::Errno::result(unsafe { libc::dup2(*from, number) })?;
            }
            Ok(())
        };
        // SAFETY: between fork and exec the closure calls fcntl(2) and dup2(2) only, and allocates nothing.
        unsafe { command.pre_exec(pass) };
        Ok(())
    }
}

impl Drop for FdStore {
    fn drop(&mut self) {
        let sent = UnixDatagram::unbound().and_then(|socket| socket.send_to(END, &self.path));
        if sent.is_ok()
            && let Some(thread) = self.thread.take()
        {
            let _ = thread.join();
        }
    }
}

fn lock(held: &Held) -> MutexGuard<'_, Vec<(String, OwnedFd)>> {
    held.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Returns a message and what came with it; `None`: the end.
fn receive(socket: &UnixDatagram) -> Option<(String, Vec<OwnedFd>)> {
    let mut bytes = [0; 4096];
    let mut space = nix::cmsg_space!([RawFd; 64]);
    let mut parts = [IoSliceMut::new(&mut bytes)];
    let message = recvmsg::<()>(socket.as_raw_fd(), &mut parts, Some(&mut space), MsgFlags::MSG_CMSG_CLOEXEC).ok()?;
    let mut sockets = Vec::new();
    for control in message.cmsgs().ok()? {
        if let ControlMessageOwned::ScmRights(numbers) = control {
            // SAFETY: the kernel has just made these descriptors for this message, and nothing else has seen them.
            sockets.extend(numbers.into_iter().map(|number| unsafe { OwnedFd::from_raw_fd(number) }));
        }
    }
    let length = message.bytes;
    let text = &bytes[..length];
    (text != END).then(|| (String::from_utf8_lossy(text).into_owned(), sockets))
}

fn apply(held: &mut Vec<(String, OwnedFd)>, text: &str, sockets: Vec<OwnedFd>) {
    let name = text.lines().find_map(|line| line.strip_prefix("FDNAME=")).unwrap_or("stored");
    if text.lines().any(|line| line == "FDSTOREREMOVE=1") {
        held.retain(|(other, _)| other != name);
    } else if text.lines().any(|line| line == "FDSTORE=1") {
        held.extend(sockets.into_iter().map(|socket| (name.to_owned(), socket)));
    }
}
