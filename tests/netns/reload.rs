//! SIGHUP: a changed configuration in a running daemon, and one that is not accepted.

use std::fs;
use std::os::unix::net::UnixDatagram;
use std::process::Stdio;

use lab::{Node, NodePlan, Request, daemon, wait};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};

/// Replaces texts of the configuration's file.
fn change(node: &Node, changes: &[(&str, &str)]) {
    let mut text = fs::read_to_string(node.config()).unwrap();
    for (from, to) in changes {
        assert!(text.contains(from), "{from}: {text}");
        text = text.replace(from, to);
    }
    fs::write(node.config(), text).unwrap();
}

/// Reloads, and returns what `status` shows of that. `is` says which reload is meant.
fn reload(node: &Node, is: impl Fn(&Value) -> bool) -> Value {
    kill(Pid::from_raw(node.daemon_id().unwrap().try_into().unwrap()), Signal::SIGHUP).unwrap();
    wait::until("the daemon has reloaded", || {
        let shown = node.status()?["reload"].take();
        Ok(Some(shown).filter(|shown| !shown.is_null() && is(shown)))
    })
    .unwrap()
}

#[test]
fn a_reload_is_in_force_for_open_connections_taps_and_the_log_and_names_what_needs_a_restart() {
    let further =
        "[http]\nready_timeout = \"100ms\"\nthreads = 1\n\n[access]\nmetadata = true\n\n[log]\nfilter = \"info\"\n\n";
    let node = NodePlan::default().further(further).start().unwrap();
    let guest = node.guest("a").boot().unwrap();
    let request = Request::get("/openstack");
    let mut connection = guest.namespace().run(|| request.connect()).unwrap();
    assert_eq!(connection.exchange(&request).unwrap().status, 200);
    assert!(node.status().unwrap()["reload"].is_null());
    assert!(!node.log().contains("DEBUG"), "{}", node.log());

    change(
        &node,
        &[("metadata = true", "metadata = false"), ("threads = 1", "threads = 2"), ("\"info\"", "\"debug\"")],
    );
    let shown = reload(&node, |shown| shown["applied"] == json!(["access.metadata", "log.filter"]));
    assert_eq!(shown["restart_needed"], json!(["http.threads"]));
    assert_eq!(connection.exchange(&request).unwrap().status, 403, "on a connection that was open before");
    assert!(node.log().contains("DEBUG"), "{}", node.log());
    assert!(
        node.log().contains("need a restart of the daemon") && node.log().contains("http.threads"),
        "{}",
        node.log()
    );
    let (check, text) = (node.ask(&["status", "--check"]), node.told(&["status"]).unwrap());
    assert!(check.is_ok(), "{check:?}");
    assert!(text.contains("restart    needed for http.threads"), "{text}");

    // Back again, and limits of the taps.
    let limits = "new_connections_per_second = 1\nnew_connections_burst = 1\n";
    change(&node, &[("metadata = false", "metadata = true"), ("new_connections_per_second = 0\n", limits)]);
    reload(&node, |shown| shown["applied"].to_string().contains("ports.new_connections_burst"));
    assert_eq!(connection.exchange(&request).unwrap().status, 200);
    wait::until("the kernel drops what is beyond the limit", || {
        let short = Request::get("/openstack").patience(std::time::Duration::from_millis(100));
        for _ in 0..3 {
            let _ = guest.send(&short);
        }
        Ok((node.counters(guest.ifindex())?.drop_limit_connections > 0).then_some(()))
    })
    .unwrap();

    // The number of threads as it was: no restart is needed any more.
    change(&node, &[("threads = 2", "threads = 1")]);
    let shown = reload(&node, |shown| shown["restart_needed"] == json!([]));
    assert_eq!(shown["applied"], json!([]));
}

#[test]
fn a_file_that_is_not_accepted_changes_nothing_and_says_why() {
    let node = NodePlan::default().further("[access]\nmetadata = true\n\n").start().unwrap();
    let guest = node.guest("a").boot().unwrap();
    change(&node, &[("metadata = true", "metadata = false\nmetadat = 1")]);
    let shown = reload(&node, |shown| shown["error"].is_string());
    let error = shown["error"].as_str().unwrap();
    assert!(error.contains("metadatad.toml:") && error.contains("metadat"), "{error}");
    assert_eq!(guest.get("/openstack").unwrap().status, 200);
    assert!(node.log().contains("not accepted"), "{}", node.log());
    assert!(node.ask(&["status", "--check"]).is_err());
    change(&node, &[("\nmetadat = 1", "")]);
    let shown = reload(&node, |shown| shown["error"].is_null());
    assert_eq!(shown["applied"], json!(["access.metadata"]));
    assert_eq!(guest.get("/openstack").unwrap().status, 403);
    assert!(node.ask(&["status", "--check"]).is_ok());
}

#[test]
fn the_service_manager_is_notified_of_a_reload_and_its_end() {
    let node = NodePlan::default().make().unwrap();
    let path = node.path("notify");
    let manager = UnixDatagram::bind(&path).unwrap();
    manager.set_read_timeout(Some(wait::PATIENCE)).unwrap();
    let mut run = daemon::verb(node.namespace(), node.config(), &["run"]).unwrap();
    run.env("NOTIFY_SOCKET", &path).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let mut child = run.spawn().unwrap();
    let next = |what: &str| {
        let mut bytes = [0; 1024];
        loop {
            let length = manager.recv(&mut bytes).unwrap_or_else(|error| panic!("{what}: {error}"));
            let text = String::from_utf8_lossy(&bytes[..length]).into_owned();
            if text.lines().any(|line| line == what) {
                return text;
            }
        }
    };
    next("READY=1");
    let id = Pid::from_raw(child.id().try_into().unwrap());
    kill(id, Signal::SIGHUP).unwrap();
    // systemd asks for the time from version 253 on.
    assert!(next("RELOADING=1").contains("MONOTONIC_USEC="));
    next("READY=1");
    kill(id, Signal::SIGTERM).unwrap();
    next("STOPPING=1");
    assert!(child.wait().unwrap().success());
}
