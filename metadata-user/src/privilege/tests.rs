//! Tests of `privilege`: what whoever takes over a thread of [`GUESTS`] can and cannot do, system call by system call. The
//! thread has exactly the restrictions of the daemon's, by the same code.
//!
//! Each call has arguments that do no harm should it be allowed. docs/security.md says the same in words.

use std::ffi::CStr;
use std::io::{Read as _, Write as _};
use std::net::{Ipv6Addr, TcpListener, TcpStream};
use std::os::fd::AsRawFd as _;

use nix::errno::Errno;
use nix::libc::{self, c_long};

use super::*;

/// Runs `work` on a thread of this profile.
fn on_thread<T: Send + 'static>(profile: &'static Profile, work: impl FnOnce() -> T + Send + 'static) -> T {
    let thread = std::thread::spawn(move || {
        profile.enter().expect("entered");
        work()
    });
    thread.join().expect("no panic")
}

/// Makes a system call, and returns why it failed.
fn call(number: c_long, arguments: [c_long; 6]) -> Result<c_long, Errno> {
    let [a, b, c, d, e, f] = arguments;
    // SAFETY: pointers among the arguments are null, or to constants of this program that the kernel reads.
    Errno::result(unsafe { libc::syscall(number, a, b, c, d, e, f) })
}

fn text(path: &'static CStr) -> c_long {
    path.as_ptr().addr().cast_signed() as c_long
}

fn int(value: libc::c_int) -> c_long {
    value.into()
}

/// What is tried, and how. What is not given is 0.
fn attempts() -> Vec<(&'static str, c_long, Vec<c_long>)> {
    use libc::*;
    let here = int(AT_FDCWD);
    let own = c_long::from(std::process::id());
    vec![
        ("open a file", SYS_openat, vec![here, text(c"/etc/passwd"), int(O_RDONLY)]),
        ("make a file", SYS_openat, vec![here, text(c"/tmp/metadatad-test"), int(O_CREAT | O_WRONLY | O_EXCL), 0o600]),
        ("open a device", SYS_openat, vec![here, text(c"/dev/null"), int(O_RDWR)]),
        ("open the process's memory", SYS_openat, vec![here, text(c"/proc/self/mem"), int(O_RDWR)]),
        ("open a file by openat2", SYS_openat2, vec![here, text(c"/etc/passwd")]),
        ("open a file by its handle", SYS_open_by_handle_at, vec![here]),
        ("list a directory", SYS_getdents64, vec![-1]),
        ("look at a file", SYS_statx, vec![here, text(c"/etc/passwd")]),
        ("remove a file", SYS_unlinkat, vec![here, text(c"/nonexistent")]),
        ("rename a file", SYS_renameat2, vec![here, text(c"/nonexistent"), here, text(c"/nonexistent")]),
        ("change a mode", SYS_fchmodat, vec![here, text(c"/nonexistent")]),
        ("change an owner", SYS_fchownat, vec![here, text(c"/nonexistent")]),
        ("truncate a file", SYS_ftruncate, vec![-1]),
        ("map a file", SYS_mmap, vec![0, 4096, int(PROT_READ), int(MAP_SHARED), 0]),
        ("make a socket", SYS_socket, vec![int(AF_INET), int(SOCK_STREAM)]),
        ("make a raw socket", SYS_socket, vec![int(AF_PACKET), int(SOCK_RAW)]),
        ("make a netlink socket", SYS_socket, vec![int(AF_NETLINK), int(SOCK_RAW)]),
        ("make a Unix socket", SYS_socket, vec![int(AF_UNIX), int(SOCK_STREAM)]),
        ("make a pair of sockets", SYS_socketpair, vec![int(AF_UNIX), int(SOCK_STREAM)]),
        ("connect to outside", SYS_connect, vec![-1]),
        ("bind an address", SYS_bind, vec![-1]),
        ("listen", SYS_listen, vec![-1]),
        ("send to an address", SYS_sendto, vec![-1, 0, 0, 0, text(c"address"), 7]),
        ("pass a descriptor on", SYS_sendmsg, vec![-1]),
        ("receive a descriptor", SYS_recvmsg, vec![-1]),
        ("copy a descriptor", SYS_dup, vec![-1]),
        ("copy a descriptor by fcntl", SYS_fcntl, vec![-1, int(F_DUPFD_CLOEXEC)]),
        ("control a device", SYS_ioctl, vec![-1]),
        ("start a program", SYS_execve, vec![]),
        ("start a program by execveat", SYS_execveat, vec![-1]),
        ("make a thread or process", SYS_clone, vec![int(CLONE_SIGHAND)]),
        ("make a thread or process by clone3", SYS_clone3, vec![]),
        (
            "map memory for code",
            SYS_mmap,
            vec![0, 4096, int(PROT_READ | PROT_EXEC), int(MAP_PRIVATE | MAP_ANONYMOUS), -1],
        ),
        ("turn memory into code", SYS_mprotect, vec![0, 0, int(PROT_READ | PROT_EXEC)]),
        ("make a file in memory", SYS_memfd_create, vec![text(c"x")]),
        ("trace a process", SYS_ptrace, vec![int(PTRACE_ATTACH.cast_signed())]),
        ("read a process's memory", SYS_process_vm_readv, vec![own]),
        ("write a process's memory", SYS_process_vm_writev, vec![own]),
        ("take a process's descriptor", SYS_pidfd_getfd, vec![-1]),
        ("name a process", SYS_pidfd_open, vec![own]),
        ("signal a process", SYS_kill, vec![own]),
        ("signal a thread of another process", SYS_tgkill, vec![1, 1]),
        ("handle signals", SYS_rt_sigaction, vec![]),
        ("enter a namespace", SYS_setns, vec![-1]),
        ("make a namespace", SYS_unshare, vec![]),
        ("mount", SYS_mount, vec![]),
        ("unmount", SYS_umount2, vec![]),
        ("change the root", SYS_chroot, vec![]),
        ("use eBPF", SYS_bpf, vec![-1]),
        ("use performance events", SYS_perf_event_open, vec![]),
        ("use io_uring", SYS_io_uring_setup, vec![]),
        ("use io_uring's queue", SYS_io_uring_enter, vec![-1]),
        ("handle page faults", SYS_userfaultfd, vec![-1]),
        ("use keyrings", SYS_keyctl, vec![-1]),
        ("load a module", SYS_finit_module, vec![-1]),
        ("load another kernel", SYS_kexec_load, vec![-1, -1, 0, -1]),
        ("restart the machine", SYS_reboot, vec![]),
        ("set the clock", SYS_clock_settime, vec![-1]),
        ("become another user", SYS_setresuid, vec![-1, -1, -1]),
        ("become another group", SYS_setresgid, vec![-1, -1, -1]),
        ("gain capabilities", SYS_capset, vec![]),
        ("change the process", SYS_prctl, vec![-1]),
        ("change limits", SYS_prlimit64, vec![0, -1]),
        ("add a filter", SYS_seccomp, vec![-1]),
        ("share memory", SYS_shmget, vec![0, 0]),
        ("make a timer", SYS_timer_create, vec![-1]),
        ("make an event queue", SYS_epoll_create1, vec![-1]),
        ("watch files", SYS_inotify_init1, vec![-1]),
        ("log to the kernel", SYS_syslog, vec![-1]),
    ]
}

#[test]
fn a_guests_thread_can_do_nothing_but_serve() {
    let outcomes = on_thread(&GUESTS, || {
        let outcome = |(what, number, arguments): (_, _, Vec<c_long>)| {
            let mut all = [0; 6];
            all[..arguments.len()].copy_from_slice(&arguments);
            (what, call(number, all))
        };
        attempts().into_iter().map(outcome).collect::<Vec<_>>()
    });
    #[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
    assert!(refused_calls().is_some_and(|calls| calls.count >= outcomes.len() as u64), "they are counted");
    let wrong: Vec<_> = outcomes.iter().filter(|(_, outcome)| *outcome != Err(Errno::EPERM)).collect();
    assert!(wrong.is_empty(), "not refused: {wrong:?}");
}

#[cfg(target_arch = "x86_64")]
#[test]
fn a_guests_thread_has_no_second_set_of_system_calls() {
    /// Marks the numbers of the x32 interface.
    const X32: c_long = 0x4000_0000;
    let outcome = on_thread(&GUESTS, || call(X32 | libc::SYS_getpid, [0; 6]));
    assert_eq!(outcome, Err(Errno::EPERM));
}

#[test]
fn the_kernel_shows_what_a_guests_thread_has_given_up() {
    let own = on_thread(&GUESTS, || gettid().as_raw());
    assert!(applied(own).is_some_and(|applied| applied.profile == GUESTS.name));
    let (stop, wait) = std::sync::mpsc::channel::<()>();
    let (tell, told) = std::sync::mpsc::channel();
    let thread = std::thread::spawn(move || {
        GUESTS.enter().expect("entered");
        tell.send(gettid().as_raw()).expect("told");
        let _ = wait.recv();
    });
    let id = told.recv().expect("told");
    let shown = threads().expect("read").into_iter().find(|thread| thread.id == id).expect("the thread");
    drop(stop);
    thread.join().expect("no panic");
    for set in [&shown.effective, &shown.permitted, &shown.inheritable, &shown.ambient] {
        assert!(set.is_empty(), "{shown:?}");
    }
    if caps::has_cap(None, caps::CapSet::Effective, Capability::CAP_SETPCAP).expect("read") {
        assert!(shown.bounding.is_empty(), "{shown:?}");
    }
    assert!(shown.no_new_privileges);
    assert!(matches!(shown.seccomp, Seccomp::Filter(_)), "{shown:?}");
    assert!(shown.applied.expect("recorded").landlock.is_some());
}

#[test]
fn a_guests_thread_serves() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let listener = TcpListener::bind((Ipv6Addr::LOCALHOST, 0)).expect("a socket");
    listener.set_nonblocking(true).expect("set");
    let address = listener.local_addr().expect("an address");
    let client = std::thread::spawn(move || {
        let mut stream = TcpStream::connect(address).expect("a connection");
        stream.write_all(b"ping").expect("sent");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("received");
        answer
    });
    on_thread(&GUESTS, move || {
        use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
        runtime.block_on(async move {
            let listener = tokio::net::TcpListener::from_std(listener).expect("usable");
            let (mut stream, _) = listener.accept().await.expect("accepted");
            // Memory of every size, and a timer.
            let mut large = vec![1_u8; 64 << 20];
            large.resize(80 << 20, 2);
            tokio::time::sleep(std::time::Duration::from_millis(1)).await;
            let mut question = [0; 4];
            stream.read_exact(&mut question).await.expect("received");
            stream.write_all(if &question == b"ping" { b"pong" } else { b"?" }).await.expect("sent");
            let _ = std::time::SystemTime::now();
            let mut seed = [0; 8];
            getrandom::fill(&mut seed).expect("random bytes");
        });
    });
    assert_eq!(client.join().expect("no panic"), "pong");
}

#[test]
fn what_the_process_has_open_stays_within_a_guests_threads_reach() {
    let (mut reader, mut writer) = std::io::pipe().expect("a pipe");
    let descriptor = writer.as_raw_fd();
    on_thread(&GUESTS, move || {
        // SAFETY: the pipe is open until the end of the test, and the bytes are a constant.
        let written = unsafe { libc::write(descriptor, b"x".as_ptr().cast(), 1) };
        assert_eq!(written, 1);
    });
    writer.write_all(b"y").expect("written");
    drop(writer);
    let mut text = String::new();
    reader.read_to_string(&mut text).expect("read");
    assert_eq!(text, "xy");
}

#[test]
fn landlock_alone_keeps_files_closed() {
    let (status, opened) = std::thread::spawn(|| {
        prctl::set_no_new_privs().expect("set");
        (landlock::restrict().expect("restricted"), std::fs::File::open("/etc/passwd"))
    })
    .join()
    .expect("no panic");
    match status {
        Landlock::Applied(_) => {
            assert_eq!(opened.expect_err("closed").kind(), io::ErrorKind::PermissionDenied);
        }
        Landlock::Changes { .. } => panic!("it is open to reading"),
        Landlock::Absent(why) => panic!("{why}: use a kernel that has it"),
    }
}

#[test]
fn root_changes_no_file_but_its_own() {
    use std::fs;
    let own = tempfile::tempdir().expect("a directory");
    let other = tempfile::tempdir().expect("a directory");
    fs::write(other.path().join("there"), "before").expect("written");
    let [inside, outside] = [own.path().to_owned(), other.path().to_owned()];
    let thread = std::thread::spawn(move || {
        prctl::set_no_new_privs().expect("set");
        let landlock = landlock::restrict_changes(&[Writable::Directory(inside.clone())]).expect("restricted");
        let there = outside.join("there");
        let refused = [
            fs::write(outside.join("new"), ""),
            fs::OpenOptions::new().append(true).open(&there).map(drop),
            fs::remove_file(&there),
            fs::rename(&there, outside.join("moved")),
            fs::create_dir(outside.join("directory")),
            fs::remove_dir(&outside),
            std::os::unix::fs::symlink("/", outside.join("link")),
            // Neither into it nor out of it.
            fs::rename(&there, inside.join("moved")),
            fs::OpenOptions::new().write(true).open("/proc/sys/kernel/hostname").map(drop),
            fs::OpenOptions::new().write(true).open("/dev/null").map(drop),
        ];
        assert!(refused.iter().all(Result::is_err), "{refused:?}");
        assert_eq!(fs::read_to_string(&there).expect("read"), "before");
        // What a writer of files does that writes beside and renames.
        fs::write(inside.join("draft"), "new").expect("written");
        fs::rename(inside.join("draft"), inside.join("file")).expect("renamed");
        fs::remove_file(inside.join("file")).expect("removed");
        landlock
    });
    assert!(matches!(thread.join().expect("no panic"), Landlock::Changes { .. }));
}

/// What /proc does not show: the thread of inotify has the landlock domain of the one that made it.
#[test]
fn a_thread_that_a_library_starts_changes_no_more_files_than_the_one_that_made_it() {
    use notify::Watcher as _;
    let (watched, other) = (tempfile::tempdir().expect("a directory"), tempfile::tempdir().expect("a directory"));
    let (tell, told) = std::sync::mpsc::channel();
    let (path, draft) = (watched.path().to_owned(), other.path().join("draft"));
    let thread = std::thread::spawn(move || {
        prctl::set_no_new_privs().expect("set");
        landlock::restrict_changes(&[]).expect("restricted");
        let handler = move |_| drop(tell.send((gettid(), std::fs::write(&draft, ""))));
        let mut watcher = notify::recommended_watcher(handler).expect("made");
        watcher.watch(&path, notify::RecursiveMode::NonRecursive).expect("watched");
        (watcher, gettid())
    });
    let (_watcher, maker) = thread.join().expect("no panic");
    std::fs::write(watched.path().join("file"), "").expect("written: this thread may");
    let (own, written) = told.recv().expect("an event");
    assert_ne!(own, maker);
    assert_eq!(written.expect_err("closed").kind(), io::ErrorKind::PermissionDenied);
}

#[test]
fn a_plain_thread_has_no_capability_and_opens_what_its_user_may() {
    let (effective, opened) = on_thread(&PLAIN, || {
        let effective = caps::read(None, caps::CapSet::Effective).expect("read");
        (effective, std::fs::File::open("/etc/passwd"))
    });
    assert!(effective.is_empty());
    opened.expect("open to everyone");
}

#[test]
fn every_capability_has_a_reason_and_is_there_once() {
    for profile in PROFILES {
        for (index, need) in profile.capabilities.iter().enumerate() {
            assert!(!need.reason.is_empty(), "{}: {}", profile.name, need.capability);
            let again = profile.capabilities[..index].iter().any(|other| other.capability == need.capability);
            assert!(!again, "{}: {} twice", profile.name, need.capability);
            let handed_on = SET_UP.capabilities.iter().any(|other| other.capability == need.capability);
            assert!(handed_on, "{}: {} is not there to be kept", profile.name, need.capability);
        }
    }
}

#[test]
fn the_documentation_names_every_capability_with_its_reason() {
    let page = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/security.md");
    let text = std::fs::read_to_string(page).expect("a page");
    for need in SET_UP.capabilities {
        assert!(text.contains(&format!("`{}`", need.capability)), "{} is not named", need.capability);
    }
    // After set-up: a row with the reason.
    for need in [PORTS, RESPONDER, FACTS].iter().flat_map(|profile| profile.capabilities) {
        let name = format!("`{}`", need.capability);
        let is_row = |line: &str| line.starts_with('|') && line.contains(&name) && line.contains(need.reason);
        assert!(text.lines().any(is_row), "{name}: {}", need.reason);
    }
}
