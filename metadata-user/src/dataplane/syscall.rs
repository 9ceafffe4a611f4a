//! bpf(2), for what aya does not have.

use std::io;

use nix::libc;

/// Runs a command on its part of `union bpf_attr`; returns what the kernel does.
///
/// # Safety
/// `T` is laid out as the kernel's part of the union for this command, and every pointer in it leads to memory that is valid for as
/// much as the kernel reads or writes there.
///
/// # Errors
/// The kernel's.
pub(super) unsafe fn bpf<T>(command: libc::c_long, attribute: &mut T) -> io::Result<libc::c_long> {
    // SAFETY: the kernel reads and writes `attribute` within its size; the rest is the caller's promise.
    let result =
        unsafe { libc::syscall(libc::SYS_bpf, command, std::ptr::from_mut(attribute), std::mem::size_of::<T>()) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}
