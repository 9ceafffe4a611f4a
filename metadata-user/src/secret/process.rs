//! What the process as a whole owes its secrets: no core dump holds them.

use nix::errno::Errno;
use nix::sys::prctl;
use nix::sys::resource::{Resource, setrlimit};

/// Forbids core dumps of this process, to files and to helpers alike (prctl(2), `PR_SET_DUMPABLE`: a pipe in
/// `core_pattern` takes no heed of the limit). Its files in /proc belong to root from here on, and nobody without
/// `CAP_SYS_PTRACE` can attach to it.
///
/// # Errors
/// If the kernel refuses.
pub fn forbid_core_dumps() -> Result<(), Errno> {
    setrlimit(Resource::RLIMIT_CORE, 0, 0)?;
    prctl::set_dumpable(false)
}
