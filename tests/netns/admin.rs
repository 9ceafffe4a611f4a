//! The admin socket under clients that mean no good, or are careless.

use std::os::unix::net::UnixStream;

use lab::{Node, NodePlan, command, daemon};
use nix::sys::resource::{Resource, getrlimit, setrlimit};

/// Files that the daemon has open beside its admin connections, at most: some tens.
const OTHERS: usize = 100;
/// Its admin connections, at most.
const CONNECTIONS: usize = 64;

#[test]
fn two_thousand_silent_connections_cost_few_files_and_lock_nobody_out() {
    let node = Node::start().unwrap();
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard).unwrap();
    let connect = || UnixStream::connect(node.path("admin.sock")).unwrap();
    let silent: Vec<_> = (0..2000).map(|_| connect()).collect();
    // After them in the kernel's queue.
    assert_eq!(node.status().unwrap()["ready"], true);
    let files = std::fs::read_dir(format!("/proc/{}/fd", node.daemon_id().unwrap())).unwrap().count();
    assert!(files <= CONNECTIONS + OTHERS, "{files} open files");
    drop(silent);
}

#[test]
fn too_few_open_files_for_the_connections_are_named_with_the_remedy() {
    let checked = |connections: u32| {
        let node = NodePlan::default().further(&format!("[http]\nconnections = {connections}\n")).make().unwrap();
        let verb = daemon::verb(node.namespace(), node.config(), &["check-config"]).unwrap();
        let mut prlimit = node.namespace().command("prlimit").unwrap();
        prlimit.arg("--nofile=1024:1024").arg(verb.get_program()).args(verb.get_args());
        command::run(&mut prlimit, "").unwrap()
    };
    let warned = checked(16_384);
    for part in ["warning: http.connections: 16384 ", "RLIMIT_NOFILE", "LimitNOFILE=24576", "lower http.connections"] {
        assert!(warned.contains(part), "{part}: {warned}");
    }
    assert!(!checked(100).contains("RLIMIT_NOFILE"));
}
