//! The user that threads become when nothing that they do needs files of root's.
//!
//! Promises: the change is the calling thread's alone (the C library's functions change all threads at once, and end the
//! process if one cannot); it drops the supplementary groups; there is no way back.

use std::io;
use std::sync::OnceLock;

use caps::{CapSet, Capability};
use nix::errno::Errno;
use nix::libc;
use nix::unistd::{User, geteuid};

/// A user, and its own group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Account {
    user: u32,
    group: u32,
}

/// What was found for the configured user; `Err`: why threads stay what they are.
static ACCOUNT: OnceLock<Result<Account, String>> = OnceLock::new();

/// Sets the user, by name, once for the whole process. Threads take it on when they enter their profile.
pub fn set_user(name: &str) {
    let found = match User::from_name(name) {
        _ if !geteuid().is_root() => Err("metadatad was not started as root".to_owned()),
        Ok(Some(user)) if user.uid.is_root() => Err(format!("security.user is `{name}`")),
        Ok(Some(_)) if !may_change() => {
            Err("CAP_SETUID and CAP_SETGID are missing: add them to CapabilityBoundingSet=".to_owned())
        }
        Ok(Some(user)) => Ok(Account { user: user.uid.as_raw(), group: user.gid.as_raw() }),
        Ok(None) => Err(format!("there is no user `{name}`: create it with `useradd --system {name}`")),
        Err(error) => Err(format!("looking for the user `{name}`: {error}")),
    };
    // Set once.
    let _ = ACCOUNT.set(found);
}

/// Returns why no thread changes its user; `None`: those change it that can.
#[must_use]
pub fn why_no_user() -> Option<String> {
    match ACCOUNT.get() {
        Some(Ok(_)) => None,
        Some(Err(why)) => Some(why.clone()),
        None => Some("no user is set".to_owned()),
    }
}

fn may_change() -> bool {
    let has = |capability| caps::has_cap(None, CapSet::Effective, capability).unwrap_or(false);
    has(Capability::CAP_SETUID) && has(Capability::CAP_SETGID)
}

/// Makes the calling thread the user's, if there is one.
pub(super) fn become_user() -> io::Result<()> {
    let Some(Ok(account)) = ACCOUNT.get() else { return Ok(()) };
    if geteuid().as_raw() == account.user {
        // The thread that started this one is the user's already.
        return Ok(());
    }
    let call = |number, a: u32, b: u32, c: u32| {
        // SAFETY: no pointer is passed but for null with a length of 0, and the credentials are the thread's own.
        Errno::result(unsafe { libc::syscall(number, a, b, c) }).map(drop)
    };
    call(libc::SYS_setgroups, 0, 0, 0)?;
    call(libc::SYS_setresgid, account.group, account.group, account.group)?;
    call(libc::SYS_setresuid, account.user, account.user, account.user)?;
    // The kernel has set what fs.suid_dumpable says.
    nix::sys::prctl::set_dumpable(false)?;
    Ok(())
}
