//! What an operator asks the daemon in a guest's name: `metadatad get` and `metadatad wait`.

use std::io::{Read as _, Write as _};
use std::process::{Child, ChildStdout, Stdio};

use lab::{Guest, Node, NodePlan, Request, daemon, wait};
use serde_json::Value;

use crate::forgery::beside;

/// Runs a verb, and returns exit status, output and error.
fn run(node: &Node, words: &[&str]) -> (Option<i32>, Vec<u8>, String) {
    let output = daemon::verb(node.namespace(), node.config(), words).unwrap().output().unwrap();
    (output.status.code(), output.stdout, String::from_utf8_lossy(&output.stderr).into_owned())
}

/// Returns what is counted of requests.
fn counted(node: &Node) -> Value {
    let status = node.status().unwrap();
    serde_json::json!([status["http"], status["anomalies"]])
}

#[test]
fn what_is_read_in_a_guests_name_is_what_the_guest_reads_and_nothing_counts_as_its() {
    let node = Node::start().unwrap();
    let guest = node
        .guest("web")
        .document(|document| {
            let policy = serde_json::json!({ "user_data": "first-boot", "session": "optional" });
            document.with_user_data(b"#!/bin/sh\n\xff\0").with("policy", policy)
        })
        .boot()
        .unwrap();
    let before = counted(&node);
    for path in [
        "/",
        "/latest/meta-data/",
        "/latest/meta-data/instance-id",
        "/openstack/latest/network_data.json",
        "/openstack/latest/vendor_data.json",
        "/openstack/latest/user_data",
        "/openstack/nonsense",
    ] {
        for name in [guest.uuid(), guest.tap(), &hostname(&node, &guest)] {
            let (code, body, error) = run(&node, &["get", name, path, "--secrets"]);
            // As metadatad asks: errors have another form for those who name none.
            let answer = guest.send(&Request::get(path).header("Accept", "*/*")).unwrap();
            assert_eq!(answer.body, body, "{name} {path}: {error}");
            assert_eq!(code, Some(i32::from(answer.status != 200)), "{path}: {error}");
        }
    }
    let (_, shown, _) = run(&node, &["get", guest.uuid(), "/openstack/latest/user_data", "-i", "-6", "--secrets"]);
    let shown = lab::http::Response::whole(&shown).unwrap();
    let answer = guest.get6("/openstack/latest/user_data").unwrap();
    assert_eq!((shown.status, &shown.body), (answer.status, &answer.body));
    assert_eq!(shown.header("content-type"), answer.header("content-type"));
    let (code, head, _) = run(&node, &["get", guest.uuid(), "/openstack/latest/user_data", "--head"]);
    assert_eq!((code, head.ends_with(b"\r\n\r\n")), (Some(0), true), "the head is no secret");
    assert_ne!(counted(&node), before, "the guest's own requests are counted");

    // Only what the guest itself reads closes its user data.
    node.told(&["instance", "user-data", "reset", guest.uuid()]).unwrap();
    let before = counted(&node);
    run(&node, &["get", guest.uuid(), "/openstack/latest/user_data", "--secrets"]);
    let (code, body, error) = run(&node, &["get", guest.uuid(), "/openstack/latest/meta_data.json"]);
    assert_eq!((code, body.is_empty()), (Some(64), true));
    assert!(error.contains("--secrets prints it"), "{error}");
    assert_eq!(counted(&node), before);
    let read = node.told(&["instance", "user-data", "show", guest.uuid()]).unwrap();
    assert!(read.contains("never first read"), "{read}");

    let (code, _, error) = run(&node, &["get", "nobody", "/"]);
    assert_eq!(code, Some(66), "{error}");
    let (code, _, error) = run(&node, &["get", guest.uuid(), "latest"]);
    assert!(code != Some(0) && error.contains("begin it with `/`"), "{error}");
    let log = node.log();
    assert!(log.contains("read in a guest's name") && log.contains("user=0"), "{log}");
}

/// Returns the name that the guest knows itself by.
fn hostname(node: &Node, guest: &Guest) -> String {
    let (_, name, _) = run(node, &["get", guest.uuid(), "/latest/meta-data/local-hostname"]);
    String::from_utf8(name).unwrap()
}

#[test]
fn a_policy_refuses_an_operator_as_it_refuses_the_guest() {
    let node = Node::start().unwrap();
    let policy = serde_json::json!({ "session": "required", "ipv6": false, "privileged": ["user_data"] });
    let guest =
        node.guest("a").document(|document| document.with("policy", policy).with_user_data(b"x")).boot().unwrap();
    let status = |words: &[&str]| {
        let words = [&["get", guest.uuid(), "/openstack/latest/user_data", "--head"], words].concat();
        let (_, head, error) = run(&node, &words);
        lab::http::Response::head(&head).unwrap().unwrap_or_else(|| panic!("{error}")).0.status
    };
    assert_eq!(status(&[]), 200);
    assert_eq!(status(&["--without-token"]), 401);
    assert_eq!(status(&["--unprivileged"]), 403);
    assert_eq!(status(&["--ipv6"]), 403);
    assert_eq!(guest.get("/openstack/latest/user_data").unwrap().status, 403);
    let low = guest.send(&Request::get("/openstack/latest/user_data").from_port(999)).unwrap();
    assert_eq!(low.status, 401);
}

#[test]
fn a_wait_ends_when_the_content_has_come_and_the_tap_is_bound() {
    let node = NodePlan::default().ready_timeout("100ms").start().unwrap();
    let guest = node.guest("a").undocumented().boot().unwrap();
    node.wait_held(guest.ifindex()).unwrap();
    let (code, _, error) = run(&node, &["wait", guest.uuid(), "--timeout", "0s"]);
    assert_eq!(code, Some(124), "{error}");
    assert!(error.contains("its content has not arrived"), "{error}");

    let start = |words: &[&str]| {
        let words = [&["wait", guest.uuid(), "--json", "--timeout", "2m"], words].concat();
        let mut verb = daemon::verb(node.namespace(), node.config(), &words).unwrap();
        verb.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    };
    let content = start(&[]);
    let tap = start(&["--port", guest.tap()]);
    let other = start(&["--port", "tapnone"]);
    node.write(guest.document()).unwrap();
    for waiting in [content, tap] {
        let output = waiting.wait_with_output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let waited: Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!((&waited["ready"], &waited["instance"]), (&true.into(), &guest.uuid().into()));
        assert_eq!(node.port(guest.tap()).unwrap()["state"], "bound", "bound is what was waited for");
        assert_eq!(guest.get("/openstack").unwrap().status, 200);
    }
    // The daemon ends: whoever still waits goes on with the next one.
    node.stop_daemon().unwrap();
    node.start_daemon().unwrap();
    let mut other = other;
    assert!(other.try_wait().unwrap().is_none(), "it waits for a tap that there is not");
    other.kill().unwrap();
    other.wait().unwrap();
    let (code, _, error) = run(&node, &["wait", guest.uuid(), "--port", "tapnone", "--timeout", "0s"]);
    assert!(code == Some(124) && error.contains("no tap tapnone"), "{error}");

    node.stop_daemon().unwrap();
    let (code, _, error) = run(&node, &["wait", guest.uuid(), "--timeout", "10m"]);
    assert_eq!(code, Some(69), "no daemon is not waited for: {error}");
}

#[test]
fn top_prints_a_frame_and_leaves_the_terminal_as_it_was() {
    let node = Node::start().unwrap();
    let guest = node.guest("a").boot().unwrap();
    let tap = guest.tap().to_owned();
    let ask = || drop(guest.get("/openstack"));
    beside(ask, || {
        let (code, frame, error) = run(&node, &["top", "--once"]);
        let frame = String::from_utf8(frame).unwrap();
        assert_eq!(code, Some(0), "{error}");
        assert!(frame.lines().all(|line| line.chars().count() <= 80), "{frame}");
        assert!(frame.starts_with("metadatad ") && frame.contains("1 bound") && !frame.contains('\u{1b}'), "{frame}");
        assert!(frame.contains(&format!("{tap:<15} bound   {:.13}", guest.uuid())), "{frame}");
        let (_, rates, error) = run(&node, &["top", "--once", "--json"]);
        let rates: Value = serde_json::from_slice(&rates).unwrap_or_else(|_| panic!("{error}"));
        assert!(rates["requests"].as_f64().unwrap() > 0.0, "{rates}");
        assert!(rates["taps"][0]["to_guest"].as_f64().unwrap() > 0.0, "{rates}");
    });
    let (code, _, error) = run(&node, &["top"]);
    assert!(code == Some(64) && error.contains("--once"), "{error}");

    // On a terminal of its own, until q.
    let mut child = on_terminal(&node, "stty cols 80 rows 24; TOP; stty -a");
    let (mut keys, mut screen) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
    let mut shown = read_until(&mut screen, &tap);
    // As crossterm writes colours.
    assert!(!shown.contains("\u{1b}[38;"), "{shown:?}");
    keys.write_all(b"spq").unwrap();
    screen.read_to_string(&mut shown).unwrap();
    assert!(child.wait().unwrap().success(), "{shown}");
    assert!(shown.contains("\u{1b}[?1049l"), "the other screen is left: {shown:?}");
    let after = &shown[shown.rfind("\u{1b}[?1049l").unwrap()..];
    assert!(after.contains(" echo ") && after.contains(" icanon "), "{after}");
}

#[test]
fn top_ends_with_its_terminal() {
    let node = Node::start().unwrap();
    let guest = node.guest("a").boot().unwrap();
    let ended = node.path("ended");
    // A shell that ignores the signal of a terminal that is gone, as nohup and some multiplexers leave it.
    let mut child =
        on_terminal(&node, &format!("stty cols 80 rows 24; trap '' HUP; TOP; echo $? > {}", ended.display()));
    let mut screen = child.stdout.take().unwrap();
    read_until(&mut screen, guest.tap());
    child.kill().unwrap();
    child.wait().unwrap();
    drop(screen);
    wait::until("top ends", || Ok(ended.exists().then_some(()))).unwrap();
}

/// Runs a line of a shell on a terminal of its own; `TOP` in it is `metadatad top`.
fn on_terminal(node: &Node, line: &str) -> Child {
    let verb = daemon::verb(node.namespace(), node.config(), &["top"]).unwrap();
    let words = std::iter::once(verb.get_program()).chain(verb.get_args()).map(|word| word.to_str().unwrap());
    let line = line.replace("TOP", &words.collect::<Vec<_>>().join(" "));
    let mut script = node.namespace().command("script").unwrap();
    script.args(["--quiet", "--return", "--flush", "--command", &line, "/dev/null"]);
    script.env("TERM", "xterm").env("NO_COLOR", "1").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap()
}

/// Reads what is shown until this is, and returns all of it.
fn read_until(screen: &mut ChildStdout, text: &str) -> String {
    let (mut shown, mut bytes) = (String::new(), [0; 4096]);
    while !shown.contains(text) {
        let length = screen.read(&mut bytes).unwrap();
        assert!(length > 0, "it ended: {shown}");
        shown += &String::from_utf8_lossy(&bytes[..length]);
    }
    shown
}
