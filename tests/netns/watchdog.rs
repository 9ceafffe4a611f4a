//! The service manager's watchdog, as the daemon serves it: a thread that hangs is named, and the service manager is not notified.
//! What systemd does then is `vm::packages`'.

use std::fs;
use std::time::Duration;

use lab::{Node, NodePlan, wait};
use nix::errno::Errno;
use nix::libc;

/// Returns the id of the daemon's thread of this name.
fn thread(node: &Node, name: &str) -> i32 {
    let tasks = fs::read_dir(format!("/proc/{}/task", node.daemon_id().unwrap())).unwrap();
    let mut ids = tasks.filter_map(|task| {
        let path = task.unwrap().path();
        let is_it = fs::read_to_string(path.join("comm")).is_ok_and(|comm| comm.trim_end() == name);
        is_it.then(|| path.file_name().unwrap().to_str().unwrap().parse().unwrap())
    });
    ids.next().unwrap()
}

/// Stops one thread of another process and no other, as if it hung, until this thread lets go of it.
fn stop(thread: i32) {
    for request in [libc::PTRACE_SEIZE, libc::PTRACE_INTERRUPT] {
        let none = std::ptr::null_mut::<libc::c_void>();
        // SAFETY: neither request reads or writes memory of this process.
        Errno::result(unsafe { libc::ptrace(request, thread, none, none) }).unwrap();
    }
}

/// Lets a stopped thread run on.
fn release(thread: i32) {
    let (mut status, none) = (0, std::ptr::null_mut::<libc::c_void>());
    // SAFETY: the status has room; the request reads and writes no memory of this process.
    Errno::result(unsafe { libc::waitpid(thread, &raw mut status, libc::__WALL) }).unwrap();
    // SAFETY: as above.
    Errno::result(unsafe { libc::ptrace(libc::PTRACE_DETACH, thread, none, none) }).unwrap();
}

#[test]
fn a_hung_thread_that_repairs_the_data_path_is_not_reported_to_the_watchdog_as_alive() {
    let node = NodePlan::default().watchdog(Duration::from_secs(1)).start().unwrap();
    let guest = node.guest("a").boot().unwrap();
    let ports = thread(&node, "ports");
    let named = format!("ports ({ports})");
    stop(ports);
    wait::until("it is named", || Ok(node.log().contains(&named).then_some(()))).unwrap();
    let log = node.log();
    let line = log.lines().find(|line| line.contains(&named)).unwrap();
    assert!(line.contains("make no progress: not notifying the watchdog"), "{line}");
    assert_eq!(guest.read_uuid(false).unwrap(), guest.uuid(), "guests are answered meanwhile");
    release(ports);
    // It works again: a tap that comes is taken.
    let other = node.guest("b").boot().unwrap();
    assert_eq!(other.read_uuid(false).unwrap(), other.uuid());
}
