//! What each thread of this process really has, as the kernel reports it in /proc.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::Path;

use super::{APPLIED, Applied, applied, capabilities};

/// The threads of this process.
const THREADS: &str = "/proc/self/task";

/// A thread's seccomp mode.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Seccomp {
    /// Every system call is allowed.
    Off,
    /// Only `read`, `write`, `_exit` and `sigreturn` are.
    Strict,
    /// Filters decide; the kernel reports how many from Linux 5.9 on.
    Filter(Option<u32>),
}

/// A thread, as the kernel sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ThreadState {
    /// Its id.
    pub id: i32,
    /// Its name.
    pub name: String,
    /// Effective user id.
    pub user: u32,
    /// Effective group id.
    pub group: u32,
    /// Names of its effective capabilities; so for the other sets.
    pub effective: Vec<String>,
    /// Permitted.
    pub permitted: Vec<String>,
    /// Inheritable.
    pub inheritable: Vec<String>,
    /// Ambient.
    pub ambient: Vec<String>,
    /// Bounding.
    pub bounding: Vec<String>,
    /// Whether privileges can no longer be gained.
    pub no_new_privileges: bool,
    /// What decides on its system calls.
    pub seccomp: Seccomp,
    /// What was applied to it, or to the thread that started it, which the kernel does not tell; `None`: that is not known here.
    pub applied: Option<Applied>,
}

/// Returns every thread of this process, by id. One that ends meanwhile is left out.
///
/// # Errors
/// If /proc is not mounted, or does not say what it should.
pub fn all() -> io::Result<Vec<ThreadState>> {
    // A thread that has ended may have left its id to another one.
    APPLIED.lock().retain(|id, _| Path::new(THREADS).join(id.to_string()).exists());
    let mut threads = Vec::new();
    for entry in fs::read_dir(THREADS)? {
        let directory = entry?.path();
        let Some(id) = directory.file_name().and_then(|name| name.to_str()?.parse().ok()) else { continue };
        match read(&directory, id) {
            Ok(thread) => threads.push(thread),
            Err(_) if !directory.exists() => {}
            Err(error) => return Err(error),
        }
    }
    threads.sort_by_key(|thread| thread.id);
    Ok(threads)
}

/// Returns the ids of the threads of this name, of which the kernel keeps 15 bytes.
pub(super) fn named(name: &str) -> BTreeSet<i32> {
    const KEPT: usize = 15;
    let kept = name.get(..KEPT).unwrap_or(name);
    let entries = fs::read_dir(THREADS).into_iter().flatten().flatten().map(|entry| entry.path());
    let named = entries.filter(|path| fs::read_to_string(path.join("comm")).is_ok_and(|comm| comm.trim_end() == kept));
    named.filter_map(|path| path.file_name()?.to_str()?.parse().ok()).collect()
}

fn read(directory: &Path, id: i32) -> io::Result<ThreadState> {
    let text = fs::read_to_string(directory.join("status"))?;
    parse(&text, id).ok_or_else(|| {
        let path = directory.join("status");
        io::Error::new(io::ErrorKind::InvalidData, format!("{} does not have the expected lines", path.display()))
    })
}

/// Reads proc_pid_status(5).
fn parse(status: &str, id: i32) -> Option<ThreadState> {
    let field = |name: &str| {
        let value = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
        Some(value.trim())
    };
    let set = |name| u64::from_str_radix(field(name)?, 16).ok().map(capabilities::names);
    // Real, effective, saved, of the file system.
    let effective = |name| field(name)?.split_whitespace().nth(1)?.parse().ok();
    let seccomp = match field("Seccomp") {
        // The kernel has none.
        None | Some("0") => Seccomp::Off,
        Some("1") => Seccomp::Strict,
        Some(_) => Seccomp::Filter(field("Seccomp_filters").and_then(|count| count.parse().ok())),
    };
    Some(ThreadState {
        id,
        name: field("Name")?.to_owned(),
        user: effective("Uid")?,
        group: effective("Gid")?,
        effective: set("CapEff")?,
        permitted: set("CapPrm")?,
        inheritable: set("CapInh")?,
        ambient: set("CapAmb")?,
        bounding: set("CapBnd")?,
        no_new_privileges: field("NoNewPrivs")? == "1",
        seccomp,
        applied: applied(id),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const STATUS: &str = "Name:\tguests\nUid:\t0\t998\t0\t0\nGid:\t0\t997\t0\t0\nCapInh:\t0000000000000000\nCapPrm:\t\
                          0000000000001000\nCapEff:\t0000000000001000\nCapBnd:\t0000000000001000\nCapAmb:\t\
                          0000000000000000\nNoNewPrivs:\t1\nSeccomp:\t2\nSeccomp_filters:\t1\n";

    #[test]
    fn a_thread_is_read_as_the_kernel_shows_it() {
        let thread = parse(STATUS, -1).expect("read");
        assert_eq!((thread.name.as_str(), thread.user, thread.group), ("guests", 998, 997));
        assert_eq!((thread.effective.as_slice(), thread.ambient.len()), (&["CAP_NET_ADMIN".to_owned()][..], 0));
        assert_eq!((thread.no_new_privileges, thread.seccomp), (true, Seccomp::Filter(Some(1))));
        assert_eq!(thread.applied, None);
        let without = STATUS.replace("Seccomp:\t2\nSeccomp_filters:\t1\n", "");
        assert_eq!(parse(&without, -1).expect("read").seccomp, Seccomp::Off);
        assert_eq!(parse("Name:\tx\n", -1), None);
    }

    #[test]
    fn the_running_thread_is_among_all() {
        let own = nix::unistd::gettid().as_raw();
        assert!(all().expect("read").iter().any(|thread| thread.id == own));
    }
}
