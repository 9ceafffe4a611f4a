//! System calls that the filter of a confined thread refuses: counted, and handed on for the log.
//!
//! The filter raises SIGSYS in the thread (`SECCOMP_RET_TRAP`), whose handler counts, and has the call fail with `EPERM`: what the
//! thread sees is what a filter does that returns the error itself, and it has gained nothing, as the handler runs under the same
//! filter. The kernel's log has the call too.
//!
//! Promises: a refused call ends no thread; a thread that blocks SIGSYS first ends the process with its next refused call, which it
//! could do anyway by a signal. However many calls are refused, nobody waits.
//!
//! Left out: machines other than x86_64 and aarch64, where the filter returns the error itself and only the kernel's log has it.

use std::io;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

use nix::fcntl::OFlag;
use nix::libc;
use tokio::net::unix::pipe::Receiver;

/// A system call that was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RefusedCall {
    /// How many were refused since the start of the process, this one included.
    pub count: u64,
    /// Its number; `ausyscall` names it.
    pub number: i64,
}

static COUNT: AtomicU64 = AtomicU64::new(0);
static LAST: AtomicI64 = AtomicI64::new(0);
/// Its reader is taken once, by the first [`RefusedCalls`].
static PIPE: OnceLock<(parking_lot::Mutex<Option<OwnedFd>>, OwnedFd)> = OnceLock::new();

/// Returns the last system call that was refused in this process.
#[must_use]
pub fn refused_calls() -> Option<RefusedCall> {
    let count = COUNT.load(Ordering::Acquire);
    (count > 0).then(|| RefusedCall { count, number: LAST.load(Ordering::Relaxed) })
}

/// Has refused calls counted from here on.
pub(super) fn count() -> io::Result<()> {
    static HANDLED: OnceLock<Result<(), i32>> = OnceLock::new();
    let handled = HANDLED.get_or_init(|| handle().map_err(|error| error.raw_os_error().unwrap_or_default()));
    handled.map_err(io::Error::from_raw_os_error)
}

fn handle() -> io::Result<()> {
    if PIPE.get().is_none() {
        let (reader, writer) = nix::unistd::pipe2(OFlag::O_CLOEXEC | OFlag::O_NONBLOCK)?;
        // Nobody else sets it.
        let _ = PIPE.set((parking_lot::Mutex::new(Some(reader)), writer));
    }
    // SAFETY: all zeros are a value of this structure: no flags, an empty mask.
    let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
    action.sa_sigaction = on_refused as *const () as usize;
    action.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK | libc::SA_RESTART;
    // SAFETY: the handler has the type that SA_SIGINFO asks for, and does only what signal-safety(7) allows: atomic operations on
    // statics and write(2).
    if unsafe { libc::sigaction(libc::SIGSYS, &raw const action, std::ptr::null_mut()) } == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// Runs in the thread, in the place of the call.
extern "C" fn on_refused(_signal: libc::c_int, _info: *const libc::siginfo_t, context: *mut libc::c_void) {
    // SAFETY: the kernel hands over the context of the thread, which is as writable as the handler's own stack.
    let context = unsafe { &mut *context.cast::<libc::ucontext_t>() };
    LAST.store(refuse(context), Ordering::Relaxed);
    COUNT.fetch_add(1, Ordering::Release);
    if let Some((_, writer)) = PIPE.get() {
        // SAFETY: one byte of a constant. Where the pipe is full, its reader is about to wake up.
        let _ = unsafe { libc::write(writer.as_raw_fd(), c"x".as_ptr().cast(), 1) };
    }
}

/// Has the call fail with `EPERM`, and returns its number.
#[cfg(target_arch = "x86_64")]
fn refuse(context: &mut libc::ucontext_t) -> i64 {
    // The number is where the result will be (seccomp(2), SECCOMP_RET_TRAP).
    let place = &mut context.uc_mcontext.gregs[libc::REG_RAX as usize];
    std::mem::replace(place, -i64::from(libc::EPERM))
}

/// Has the call fail with `EPERM`, and returns its number.
#[cfg(target_arch = "aarch64")]
fn refuse(context: &mut libc::ucontext_t) -> i64 {
    let registers = &mut context.uc_mcontext.regs;
    registers[0] = (-i64::from(libc::EPERM)).cast_unsigned();
    registers[8].cast_signed()
}

/// Not reached: no filter raises the signal there.
#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
fn refuse(_context: &mut libc::ucontext_t) -> i64 {
    0
}

/// Tells of refused calls as they come.
#[derive(Debug)]
pub struct RefusedCalls(Receiver);

impl RefusedCalls {
    /// Begins to watch, in the calling thread's runtime.
    ///
    /// # Errors
    /// If that is not possible, or they are watched already.
    pub fn watch() -> io::Result<Self> {
        count()?;
        let reader = PIPE.get().and_then(|(reader, _)| reader.lock().take());
        let reader = reader.ok_or_else(|| io::Error::other("refused system calls are watched already"))?;
        Receiver::from_owned_fd(reader).map(Self)
    }

    /// Waits for a call that is refused, and returns the last one. Cancel-safe.
    ///
    /// # Errors
    /// If the pipe fails.
    pub async fn next(&mut self) -> io::Result<RefusedCall> {
        loop {
            self.0.readable().await?;
            match self.0.try_read(&mut [0; 512]) {
                Ok(_) => return Ok(refused_calls().unwrap_or(RefusedCall { count: 0, number: 0 })),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::privilege::GUESTS;

    #[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
    #[test]
    fn a_refused_call_is_counted_and_reported_and_its_thread_goes_on() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(async {
            let mut watch = RefusedCalls::watch().expect("watched");
            let before = refused_calls().map_or(0, |call| call.count);
            let thread = std::thread::spawn(|| {
                GUESTS.enter().expect("entered");
                // SAFETY: the call has no arguments.
                (0..3)
                    .map(|_| nix::errno::Errno::result(unsafe { libc::syscall(libc::SYS_getppid) }))
                    .collect::<Vec<_>>()
            });
            assert_eq!(thread.join().expect("it goes on"), [Err(nix::errno::Errno::EPERM); 3]);
            // Other tests of this process have calls refused, too.
            assert!(watch.next().await.expect("read").count >= before + 3);
            assert!(RefusedCalls::watch().is_err(), "there is one watcher");
        });
    }
}
