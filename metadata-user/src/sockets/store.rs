//! The service manager's file descriptor store: `FileDescriptorStoreMax=` of systemd.service(5).
//!
//! Promises: what is put there stays open when this process ends in whatever way, as long as the service is started again, and is
//! handed to its next process under its name ([`kept`]). Without a service manager, or without a store, nothing happens.
//!
//! The service manager drops what is in the store when the service is stopped for good; a restart is none.

use std::io;
use std::os::fd::{AsFd, FromRawFd as _, OwnedFd};

use sd_notify::NotifyState;

use super::kept::Kept;

/// Returns what a former process of this service left in the store. To be called once, by the thread that starts the others.
///
/// # Errors
/// If the service manager's variables are no numbers, or do not fit together.
pub fn kept() -> io::Result<Kept> {
    let passed = sd_notify::listen_fds_with_names()?;
    // SAFETY: the service manager passes these descriptors to this very process (LISTEN_PID), they are open (their flags have
    // been set), and this, which is called once, is the only place that takes them.
    Ok(Kept::new(passed.map(|(number, name)| (name, unsafe { OwnedFd::from_raw_fd(number) }))))
}

/// Puts a descriptor into the store.
///
/// # Errors
/// If the service manager cannot be notified.
pub fn put(name: &str, socket: impl AsFd) -> io::Result<()> {
    sd_notify::notify_with_fds(&[NotifyState::FdStore, NotifyState::FdName(name)], &[socket.as_fd()])
}

/// Has every descriptor of this name closed that is in the store.
///
/// # Errors
/// As [`put`].
pub fn remove(name: &str) -> io::Result<()> {
    sd_notify::notify(&[NotifyState::FdStoreRemove, NotifyState::FdName(name)])
}
