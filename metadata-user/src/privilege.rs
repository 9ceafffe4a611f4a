//! What each thread may do, and how it gives up the rest.
//!
//! On Linux, capabilities, `no_new_privs`, seccomp filters and landlock domains belong to a thread, and a thread starts with
//! those of the one that made it. So a thread takes on its [`Profile`] itself, before it does anything else
//! ([`crate::worker`]).
//!
//! Promises:
//! - a thread has the capabilities of its profile, each for a stated reason, and no other in any set that it can empty: the
//!   bounding set only with `CAP_SETPCAP`, which metadatad.service leaves it for that;
//! - neither a thread nor a program that it starts gains privileges by execve(2) (`no_new_privs`);
//! - a thread that reads what others send ([`GUESTS`], [`METRICS`]) has no capability, makes only the system calls of an allow-list
//!   (`seccomp`), and opens no file (`landlock`); a call that is refused is counted (`refused`);
//! - after set-up, every other thread changes files only where its work is ([`set_writable`]);
//! - what a thread really has is read from the kernel (`threads`).
//!
//! Left out: memory. All threads share it, so these limits are no wall between them: docs/security.md says what is left to
//! whoever takes over a thread.

mod capabilities;
mod landlock;
mod refused;
mod seccomp;
mod threads;
mod user;

use std::collections::BTreeMap;
use std::io;
use std::sync::OnceLock;

use nix::sys::prctl;
use nix::unistd::gettid;
use parking_lot::Mutex;
use tracing::warn;

pub use self::landlock::{Landlock, Writable};
pub use self::refused::{RefusedCall, RefusedCalls, refused_calls};
pub use self::threads::{Seccomp, ThreadState, all as threads};
pub use self::user::{set_user, why_no_user};
pub use caps::Capability;

/// A capability, and why it is needed.
#[derive(Clone, Copy, Debug)]
pub struct Need {
    /// The capability.
    pub capability: Capability,
    /// What it is needed for.
    pub reason: &'static str,
}

const fn need(capability: Capability, reason: &'static str) -> Need {
    Need { capability, reason }
}

/// What a kind of thread may do.
#[derive(Clone, Copy, Debug)]
pub struct Profile {
    /// Its name, in the status and in the documentation.
    pub name: &'static str,
    /// The capabilities that it keeps, if the process was started with them.
    pub capabilities: &'static [Need],
    /// Whether it becomes the configured user; else it stays the user that started the daemon.
    pub own_user: bool,
    /// What it may do with files.
    pub files: Files,
}

/// What a thread may do with files, beside what its user may.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Files {
    /// As its user may.
    All,
    /// Change those that [`set_writable`] has for its profile, and read all. It cannot mount either, whatever its capabilities:
    /// landlock forbids that.
    Own,
    /// Nothing. It also has a seccomp filter.
    None,
}

/// The process until everything is set up: what it takes to make what later only has to be kept.
pub static SET_UP: Profile = Profile {
    name: "set-up",
    capabilities: &[
        need(Capability::CAP_SYS_ADMIN, "make, mount and enter the responder's namespace; mount the BPF file system"),
        need(
            Capability::CAP_NET_BIND_SERVICE,
            "listen on ports 80 and 443 in the responder's namespace, and at `metrics.listen`",
        ),
        need(
            Capability::CAP_CHOWN,
            "give the admin socket to the group that may read; handed on to the thread `config-drives`",
        ),
        need(Capability::CAP_SETUID, "become `security.user`"),
        need(Capability::CAP_SETGID, "become `security.user`: its group, and no other"),
        need(Capability::CAP_SETPCAP, "empty the bounding set of each thread"),
        need(Capability::CAP_NET_ADMIN, "handed on to the threads `ports` and `responder`"),
        need(Capability::CAP_BPF, "handed on to the thread `ports`"),
        need(Capability::CAP_PERFMON, "handed on to the thread `ports`"),
        need(Capability::CAP_DAC_OVERRIDE, "handed on to the thread `facts`"),
    ],
    own_user: false,
    files: Files::All,
};

/// The thread that follows the taps.
pub static PORTS: Profile = Profile {
    name: "ports",
    capabilities: &[
        need(Capability::CAP_NET_ADMIN, "attach programs to taps, and find out what is attached"),
        need(Capability::CAP_BPF, "load the programs of a trace"),
        need(Capability::CAP_PERFMON, "load the programs of a trace: they read packets by address"),
    ],
    own_user: false,
    files: Files::Own,
};

/// The thread in the responder's namespace.
pub static RESPONDER: Profile = Profile {
    name: "responder",
    capabilities: &[need(
        Capability::CAP_NET_ADMIN,
        "put back the pair, address, route and settings of the responder's namespace",
    )],
    own_user: false,
    files: Files::Own,
};

/// The thread of the observers.
pub static FACTS: Profile = Profile {
    name: "facts",
    capabilities: &[need(
        Capability::CAP_DAC_OVERRIDE,
        "connect to Open vSwitch's socket where Open vSwitch runs as a user of its own",
    )],
    own_user: false,
    files: Files::Own,
};

/// The threads that read guests' bytes.
pub static GUESTS: Profile = Profile { name: "guests", capabilities: &[], own_user: true, files: Files::None };

/// The thread that answers whoever reads metrics over TCP: it reads what others on the network send.
pub static METRICS: Profile = Profile { name: "metrics", capabilities: &[], own_user: true, files: Files::None };

/// The main thread from the end of set-up on, and those that help it.
pub static MAIN: Profile = Profile { name: "main", capabilities: &[], own_user: true, files: Files::Own };

/// The thread that writes the snapshot.
pub static SNAPSHOT: Profile = Profile { name: "snapshot", ..PLAIN };

/// The thread that writes images of config drives.
pub static CONFIG_DRIVES: Profile = Profile {
    name: "config-drives",
    capabilities: &[need(Capability::CAP_CHOWN, "give images to the group `configdrive.group`")],
    ..PLAIN
};

/// The thread that writes the audit log.
pub static AUDIT: Profile = Profile { name: "audit", ..PLAIN };

/// The thread that ends another daemon, in whose place this one is put.
pub static TAKE_OVER: Profile = Profile { name: "take-over", ..PLAIN };

/// Every other thread: it reads files of root's.
pub static PLAIN: Profile = Profile { name: "plain", capabilities: &[], own_user: false, files: Files::Own };

/// Every profile.
pub static PROFILES: [&Profile; 12] = [
    &SET_UP,
    &PORTS,
    &RESPONDER,
    &FACTS,
    &GUESTS,
    &METRICS,
    &MAIN,
    &SNAPSHOT,
    &CONFIG_DRIVES,
    &AUDIT,
    &TAKE_OVER,
    &PLAIN,
];

/// Where threads change files, by profile.
static WRITABLE: OnceLock<Vec<(&'static Profile, Vec<Writable>)>> = OnceLock::new();

/// Sets where the threads of these profiles change files, once for the whole process. Others of [`Files::Own`] change none.
pub fn set_writable(places: Vec<(&'static Profile, Vec<Writable>)>) {
    // Set once.
    let _ = WRITABLE.set(places);
}

/// A thread that cannot take on its profile.
#[derive(Debug, thiserror::Error)]
pub enum PrivilegeError {
    /// Privileges could still be gained.
    #[error("setting no_new_privs")]
    NoNewPrivileges(#[source] io::Error),
    /// The user cannot be changed.
    #[error("becoming the user of [security]")]
    User(#[source] io::Error),
    /// Capabilities cannot be given up.
    #[error("giving up capabilities")]
    Capabilities(#[source] caps::errors::CapsError),
    /// Refused system calls cannot be counted.
    #[error("handling SIGSYS, by which refused system calls are counted")]
    Handler(#[source] io::Error),
    /// The seccomp filter cannot be built for this machine.
    #[error("building the seccomp filter for {}", std::env::consts::ARCH)]
    Filter(#[source] seccompiler::BackendError),
    /// The seccomp filter is refused.
    #[error(
        "installing the seccomp filter: if a unit or container forbids seccomp(2), allow it (SystemCallFilter= in \
         metadatad.service does)"
    )]
    Seccomp(#[source] io::Error),
    /// The landlock domain is refused.
    #[error(
        "closing files to the thread by landlock: if a unit or container forbids the system calls of landlock(7), allow \
         them (SystemCallFilter= in metadatad.service does)"
    )]
    Landlock(#[source] ::landlock::RulesetError),
}

impl From<PrivilegeError> for io::Error {
    fn from(error: PrivilegeError) -> Self {
        Self::other(error)
    }
}

/// What was applied to a thread, as far as the kernel does not tell it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Applied {
    /// The profile's name.
    pub profile: &'static str,
    /// The landlock domain; `None`: the profile asks for none.
    pub landlock: Option<Landlock>,
}

/// By thread id.
static APPLIED: Mutex<BTreeMap<i32, Applied>> = Mutex::new(BTreeMap::new());

impl Profile {
    /// Takes the profile on, for the calling thread and those that it starts from here on. There is no way back.
    ///
    /// # Errors
    /// [`PrivilegeError`] if the kernel refuses a part of it. A kernel without landlock is none: that is logged, and shown by
    /// [`threads`].
    pub fn enter(&self) -> Result<(), PrivilegeError> {
        prctl::set_no_new_privs().map_err(|error| PrivilegeError::NoNewPrivileges(error.into()))?;
        let needed: Vec<_> = self.capabilities.iter().map(|need| need.capability).collect();
        capabilities::bound(&needed).map_err(PrivilegeError::Capabilities)?;
        if self.own_user {
            user::become_user().map_err(PrivilegeError::User)?;
        }
        capabilities::keep(&needed).map_err(PrivilegeError::Capabilities)?;
        let landlock = match self.files {
            Files::All => None,
            Files::Own => self.restrict_changes()?,
            Files::None => Some(self.confine()?),
        };
        APPLIED.lock().insert(gettid().as_raw(), Applied { profile: self.name, landlock });
        Ok(())
    }

    /// Notes that the calling thread was started by one of this profile: the kernel gives a new thread what the one has that starts it.
    pub fn note_helper(&self) {
        let mut applied = APPLIED.lock();
        let known = applied.values().find(|known| known.profile == self.name).cloned();
        if let Some(known) = known {
            applied.insert(gettid().as_raw(), known);
        }
    }

    /// Nothing to do while it is not set which files are whose: in a part of the daemon by itself.
    fn restrict_changes(&self) -> Result<Option<Landlock>, PrivilegeError> {
        let Some(all) = WRITABLE.get() else { return Ok(None) };
        let own = all.iter().find(|(profile, _)| profile.name == self.name);
        let own = own.map_or(&[][..], |(_, places)| places);
        landlock::restrict_changes(own).map(Some).map_err(PrivilegeError::Landlock)
    }

    fn confine(&self) -> Result<Landlock, PrivilegeError> {
        refused::count().map_err(PrivilegeError::Handler)?;
        let filter = seccomp::filter().map_err(PrivilegeError::Filter)?;
        let landlock = landlock::restrict().map_err(PrivilegeError::Landlock)?;
        if let Landlock::Absent(why) = landlock {
            warn!(thread = self.name, "{why}: only its seccomp filter keeps this thread from opening files");
        }
        // Last: what is above is not on its list.
        seccomp::install(&filter).map_err(PrivilegeError::Seccomp)?;
        Ok(landlock)
    }
}

/// Runs `start`, which makes a library start threads of this name, and notes that these have what the calling thread has. They have set
/// their names by the time at which `start` returns.
pub fn with_helpers<T>(name: &str, start: impl FnOnce() -> T) -> T {
    /// So that all threads of the name that are new are the caller's.
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
    let _one = ONE_AT_A_TIME.lock();
    let before = threads::named(name);
    let started = start();
    if let Some(own) = applied(gettid().as_raw()) {
        let new = threads::named(name).into_iter().filter(|thread| !before.contains(thread));
        APPLIED.lock().extend(new.map(|thread| (thread, own.clone())));
    }
    started
}

/// Returns what was applied to a thread of this process.
fn applied(thread: i32) -> Option<Applied> {
    APPLIED.lock().get(&thread).cloned()
}

#[cfg(test)]
mod tests;
