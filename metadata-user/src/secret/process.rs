//! Protects the secrets of the whole process: disables core dumps.

use nix::errno::Errno;
use nix::sys::prctl;
use nix::sys::resource::{Resource, setrlimit};

/// Disables core dumps of this process, both to files and to pipes (prctl(2), `PR_SET_DUMPABLE`: a pipe in
/// `core_pattern` ignores `RLIMIT_CORE`). Its files in /proc belong to root from here on, and only processes with
/// `CAP_SYS_PTRACE` can attach to it.
///
/// # Errors
/// If the kernel refuses.
pub fn forbid_core_dumps() -> Result<(), Errno> {
    setrlimit(Resource::RLIMIT_CORE, 0, 0)?;
    prctl::set_dumpable(false)
}
