//! The system calls that a thread may make that reads guests' bytes.
//!
//! Promises: what is not on the list fails with `EPERM`, is counted (`refused`), and the kernel logs it (audit message of type
//! 1326, in the kernel's log where no auditd runs). A call that is refused ends no thread: a guest that finds a way to provoke one
//! ends neither other guests' connections nor the daemon. `SECCOMP_RET_USER_NOTIF` could count as well, but a thread that makes
//! such a call would wait for another one.
//!
//! The list holds what accepting, reading and writing connections takes, and the C library's allocator, locks and clocks, on
//! glibc and musl. A descriptor cannot be told from another by its number: `read`, `write` and `close` take those of the
//! whole process.

use std::collections::BTreeMap;
use std::io;

use nix::libc;
use seccompiler::SeccompCmpArgLen::{Dword, Qword};
use seccompiler::{
    BackendError, BpfProgram, SeccompAction, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule, TargetArch,
};

/// Allowed with any argument.
const ALLOWED: &[libc::c_long] = &[
    // Connections. Answers are written by `writev` and `sendto`; `setsockopt` and `shutdown` end connections.
    libc::SYS_accept4,
    libc::SYS_read,
    libc::SYS_readv,
    libc::SYS_recvfrom,
    libc::SYS_write,
    libc::SYS_writev,
    libc::SYS_shutdown,
    libc::SYS_getsockopt,
    libc::SYS_setsockopt,
    libc::SYS_getsockname,
    libc::SYS_getpeername,
    libc::SYS_close,
    // Waiting, and being woken by other threads.
    libc::SYS_epoll_ctl,
    libc::SYS_epoll_pwait,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_epoll_wait,
    libc::SYS_futex,
    libc::SYS_sched_yield,
    libc::SYS_clock_nanosleep,
    libc::SYS_nanosleep,
    libc::SYS_restart_syscall,
    // The allocator. `mmap` and `mprotect` have conditions below.
    libc::SYS_brk,
    libc::SYS_munmap,
    libc::SYS_mremap,
    libc::SYS_madvise,
    // Clocks, where the kernel's own page (vDSO) has none; seeds of hash tables, and session keys.
    libc::SYS_clock_gettime,
    libc::SYS_gettimeofday,
    libc::SYS_getrandom,
    // The end of a thread, and of the process by abort(3): `tgkill` has a condition below.
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigreturn,
    libc::SYS_sigaltstack,
    libc::SYS_getpid,
    libc::SYS_gettid,
    libc::SYS_exit,
];

/// Compiles the list, for this process.
pub(super) fn filter() -> Result<BpfProgram, BackendError> {
    let mut rules: BTreeMap<i64, Vec<SeccompRule>> = ALLOWED.iter().map(|number| (*number, Vec::new())).collect();
    let is = |argument, length, operator, value| SeccompCondition::new(argument, length, operator, value);
    let not_executable = || is(2, Dword, SeccompCmpOp::MaskedEq(bits(libc::PROT_EXEC)), 0);
    let anonymous = bits(libc::MAP_ANONYMOUS);
    let conditional = [
        // Memory that holds no code, and is no file's or device's.
        (libc::SYS_mmap, vec![not_executable()?, is(3, Dword, SeccompCmpOp::MaskedEq(anonymous), anonymous)?]),
        (libc::SYS_mprotect, vec![not_executable()?]),
        // To where the socket is connected, nowhere else.
        (libc::SYS_sendto, vec![is(4, Qword, SeccompCmpOp::Eq, 0)?]),
        // Signals to this process.
        (libc::SYS_tgkill, vec![is(0, Dword, SeccompCmpOp::Eq, u64::from(std::process::id()))?]),
        // Whether a socket blocks; whether a descriptor is one, which Rust's library asks in a build with checks.
        (libc::SYS_fcntl, vec![is(1, Dword, SeccompCmpOp::Eq, bits(libc::F_GETFL))?]),
        (libc::SYS_fcntl, vec![is(1, Dword, SeccompCmpOp::Eq, bits(libc::F_GETFD))?]),
    ];
    for (number, conditions) in conditional {
        // One of several is enough.
        rules.entry(number).or_default().push(SeccompRule::new(conditions)?);
    }
    let machine = TargetArch::try_from(std::env::consts::ARCH)?;
    let refused = if cfg!(any(target_arch = "x86_64", target_arch = "aarch64")) {
        // The handler has the call fail.
        SeccompAction::Trap
    } else {
        SeccompAction::Errno(u32::try_from(libc::EPERM).unwrap_or(1))
    };
    SeccompFilter::new(rules, refused, SeccompAction::Allow, machine)?.try_into()
}

/// A constant of C, as the kernel sees an argument.
fn bits(value: libc::c_int) -> u64 {
    u64::from(value.cast_unsigned())
}

/// Installs the filter for the calling thread, which needs `no_new_privs`; what it refuses is logged by the kernel.
pub(super) fn install(filter: &BpfProgram) -> io::Result<()> {
    let program = libc::sock_fprog {
        len: u16::try_from(filter.len()).map_err(io::Error::other)?,
        filter: filter.as_ptr().cast_mut().cast(),
    };
    // SAFETY: the program points to as many instructions as it says, of the kernel's own layout; the kernel copies them.
    let result = unsafe {
        libc::syscall(
            libc::SYS_seccomp,
            libc::SECCOMP_SET_MODE_FILTER,
            libc::SECCOMP_FILTER_FLAG_LOG,
            std::ptr::from_ref(&program),
        )
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
