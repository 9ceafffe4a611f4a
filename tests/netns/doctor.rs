//! `metadatad doctor` on a real node with a real fault: each is planted with the tools that an operator has, and found by the command
//! that an operator types.
//!
//! A fault that the daemon repairs by itself within a second is caused while it does not run.

use std::fs;
use std::net::Ipv4Addr;
use std::os::unix::fs::PermissionsExt as _;
use std::process::Command;
use std::time::{Duration, SystemTime};

use lab::tls::Tls;
use lab::{Guest, Namespace, Node, NodePlan, command, daemon, wait};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use serde_json::Value;

/// Runs the command, and returns its status and what it found.
fn report(node: &Node, words: &[&str]) -> (i32, Value) {
    let words = [&["doctor", "--json"], words].concat();
    let output = daemon::verb(node.namespace(), node.config(), &words).unwrap().output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let report = serde_json::from_str(&text).unwrap_or_else(|_| {
        panic!("no JSON: {text}{}", String::from_utf8_lossy(&output.stderr));
    });
    (output.status.code().unwrap(), report)
}

/// Returns the sentences of a level and check.
fn sentences(report: &Value, level: &str, check: &str) -> Vec<String> {
    let findings = report["findings"].as_array().unwrap().iter();
    let found = findings.filter(|finding| finding["level"] == level && finding["check"] == check);
    let text = |finding: &Value| match finding["remedy"].as_str() {
        Some(remedy) => format!("{}: {remedy}", finding["what"].as_str().unwrap()),
        None => finding["what"].as_str().unwrap().to_owned(),
    };
    found.map(text).collect()
}

/// Waits until the check finds one problem whose sentence has these words.
fn finds(node: &Node, words: &[&str], check: &str, expected: &[&str]) {
    let mut last = Value::Null;
    let waited = wait::until(&format!("doctor says {expected:?}"), || {
        let (status, report) = report(node, words);
        let found = sentences(&report, "problem", check);
        last = report;
        let is_named = found.len() == 1 && expected.iter().all(|word| found[0].contains(word));
        Ok((is_named && status == 1).then_some(()))
    });
    waited.unwrap_or_else(|error| panic!("{error:#}: {last:#}"));
}

/// Waits until nothing is wrong.
fn finds_nothing(node: &Node, words: &[&str]) {
    let mut last = Value::Null;
    let waited = wait::until("doctor finds nothing wrong", || {
        let (status, report) = report(node, words);
        last = report;
        Ok((status == 0 && last["problems"] == 0).then_some(()))
    });
    waited.unwrap_or_else(|error| panic!("{error:#}: {last:#}"));
}

fn link_of(node: &Node, guest: &Guest) -> String {
    node.pins().join(format!("links/tap-{}", guest.ifindex())).display().to_string()
}

fn run(node: &Node, program: &str, words: &[&str]) {
    command::run(node.namespace().command(program).unwrap().args(words), "").unwrap();
}

#[test]
fn on_a_node_that_is_well_nothing_is_wrong_and_each_name_of_a_guest_finds_its_port() {
    let node = Node::start().unwrap();
    let guest = node.guest("a").boot().unwrap();
    let other = node.guest("b").boot().unwrap();
    guest.read_uuid(false).unwrap();
    guest.read_uuid(true).unwrap();
    finds_nothing(&node, &[]);
    let address = guest.ipv4().unwrap().to_string();
    for name in [guest.tap(), guest.port(), guest.uuid(), &address] {
        let (status, report) = report(&node, &[name, "--all"]);
        assert_eq!((status, &report["ports"]), (0, &1.into()), "{name}: {report:#}");
        for finding in report["findings"].as_array().unwrap() {
            assert_ne!(finding["tap"], other.tap(), "{name}");
        }
        for check in ["link", "attachment", "entry", "binding", "content", "limits", "drops", "ipv6", "requests"] {
            assert!(!sentences(&report, "passed", check).is_empty(), "{check}: {report:#}");
        }
        for check in [
            "configuration",
            "daemon",
            "kernel",
            "namespace",
            "pair",
            "listener",
            "firewall",
            "source",
            "disk",
            "clock",
        ] {
            assert!(!sentences(&report, "passed", check).is_empty(), "{check}: {report:#}");
        }
    }
    let unknown = daemon::verb(node.namespace(), node.config(), &["doctor", "192.0.2.1"]).unwrap().output().unwrap();
    assert_eq!(unknown.status.code(), Some(66));
    let text = node.told(&["doctor"]).unwrap();
    assert!(text.starts_with("no problems: "), "{text}");
}

#[test]
fn a_daemon_that_is_down_or_stopped_is_named_and_the_rest_is_looked_at_all_the_same() {
    let node = Node::start().unwrap();
    let guest = node.guest("a").boot().unwrap();
    let process = node.daemon_id().unwrap().to_string();
    run(&node, "kill", &["-STOP", &process]);
    finds(&node, &[], "daemon", &["is stopped by a signal", &format!("kill -CONT {process}")]);
    run(&node, "kill", &["-CONT", &process]);
    finds_nothing(&node, &[]);
    node.kill_daemon().unwrap();
    finds(&node, &[], "daemon", &["no daemon runs", "systemctl start metadatad"]);
    let (_, report) = report(&node, &[guest.uuid(), "--all"]);
    assert_eq!(report["daemon"], "down");
    for check in ["link", "attachment", "entry"] {
        assert!(!sentences(&report, "passed", check).is_empty(), "{check}: {report:#}");
    }
}

#[test]
fn a_program_that_somebody_detached() {
    let node = Node::start().unwrap();
    let guest = node.guest("a").boot().unwrap();
    node.kill_daemon().unwrap();
    run(&node, "bpftool", &["link", "detach", "pinned", &link_of(&node, &guest)]);
    finds(&node, &[guest.tap()], "attachment", &["from_guest is not on", guest.tap(), "systemctl restart metadatad"]);
    node.start_daemon().unwrap();
    finds_nothing(&node, &[]);
}

#[test]
fn a_foreign_program_in_front() {
    let node = NodePlan::default().attach("tcx").start().unwrap();
    let guest = node.guest("a").boot().unwrap();
    let foreign = lab::foreign::in_front(node.namespace(), guest.tap(), "foreign").unwrap();
    finds(
        &node,
        &[guest.tap()],
        "attachment",
        &["the tcx program foreign (id", "sees the guest's packets before from_guest", "bpftool net show dev"],
    );
    drop(foreign);
    finds_nothing(&node, &[]);
}

#[test]
fn a_wrong_mac_in_the_document() {
    let node = Node::start().unwrap();
    let wrong = "fa:16:3e:aa:bb:cc";
    let guest = node.guest("a").document(|document| document.with_port("mac_address", wrong)).boot().unwrap();
    guest.get("/openstack").unwrap_err();
    let real = lab::guest::mac_text(guest.mac());
    finds(&node, &[guest.uuid()], "drops", &[&real, wrong, "correct mac_address", guest.uuid()]);
}

#[test]
fn a_source_that_is_down() {
    let node = Node::start().unwrap();
    let _guest = node.guest("a").boot().unwrap();
    fs::rename(node.instances(), node.path("away")).unwrap();
    finds(&node, &[], "source", &["the source (directory", "cannot be read"]);
    fs::rename(node.path("away"), node.instances()).unwrap();
    finds_nothing(&node, &[]);
}

#[test]
fn an_expired_certificate() {
    let directory = tempfile::tempdir().unwrap();
    let tls = Tls::make_expired(directory.path(), &["169.254.169.254"]).unwrap();
    let further = format!("[https]\ncert_file = {:?}\nkey_file = {:?}\n", tls.cert, tls.key);
    let node = NodePlan::default().further(&further).start().unwrap();
    finds(&node, &[], "certificate", &["the certificate of [https] expired", "replace the files"]);
}

#[test]
fn a_key_file_that_cannot_be_used() {
    let directory = tempfile::tempdir().unwrap();
    let (keys, away) = (directory.path().join("identity.pem"), directory.path().join("away"));
    let further = format!("[identity]\nkey_file = {keys:?}\nissuer = \"i\"\n");
    let node = NodePlan::default().further(&further).start().unwrap();
    finds(&node, &[], "identity", &["nothing is signed", "get 503: identity.key_file", "No such file"]);
    let make = ["genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256", "-out", away.to_str().unwrap()];
    run(&node, "openssl", &make);
    fs::rename(&away, &keys).unwrap();
    finds_nothing(&node, &[]);
    fs::set_permissions(&keys, fs::Permissions::from_mode(0o644)).unwrap();
    finds(&node, &[], "identity", &["the former ones stay in use", "readable by everyone"]);
    fs::set_permissions(&keys, fs::Permissions::from_mode(0o600)).unwrap();
    finds_nothing(&node, &[]);
    fs::File::open(&keys).unwrap().set_modified(SystemTime::now() - Duration::from_secs(366 * 86_400)).unwrap();
    let notes = sentences(&report(&node, &["--all"]).1, "note", "identity");
    assert!(notes.len() == 1 && notes[0].contains("has not changed for 366 days"), "{notes:?}");
}

#[test]
fn a_namespace_that_was_deleted() {
    let node = Node::start().unwrap();
    let _guest = node.guest("a").boot().unwrap();
    node.kill_daemon().unwrap();
    let name = node.responder().name().to_owned();
    command::run(Command::new("ip").args(["netns", "del", &name]), "").unwrap();
    finds(&node, &[], "namespace", &[&name, "was deleted", "systemctl restart metadatad"]);
    node.start_daemon().unwrap();
    finds_nothing(&node, &[]);
}

#[test]
fn an_entry_of_the_map_that_was_removed() {
    let node = Node::start().unwrap();
    let guest = node.guest("a").boot().unwrap();
    node.kill_daemon().unwrap();
    let map = node.pins().join("PORTS").display().to_string();
    let key = guest.ifindex().to_ne_bytes().map(|byte| byte.to_string());
    let mut words = vec!["map", "delete", "pinned", &map, "key"];
    words.extend(key.iter().map(String::as_str));
    run(&node, "bpftool", &words);
    finds(&node, &[guest.tap()], "entry", &["PORTS has no entry for", guest.tap(), "systemctl restart metadatad"]);
    node.start_daemon().unwrap();
    finds_nothing(&node, &[]);
}

#[test]
fn a_full_disk() {
    let node = NodePlan::default().make().unwrap();
    let state = node.path("state");
    fs::create_dir(&state).unwrap();
    mount(Some("full"), &state, Some("tmpfs"), MsFlags::empty(), Some("size=64k")).unwrap();
    // Less than a page is left.
    fs::write(state.join("filler"), vec![0; 60 << 10]).unwrap();
    node.start_daemon().unwrap();
    let _guest = node.guest("a").boot().unwrap();
    let found = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        let mut last = Value::Null;
        let waited = wait::until("doctor names the disk", || {
            let (status, report) = report(&node, &[]);
            let found = sentences(&report, "problem", "disk");
            last = report;
            Ok((status == 1 && found.iter().any(|text| text.contains("the file system of the snapshot"))).then_some(()))
        });
        waited.unwrap_or_else(|error| panic!("{error:#}: {last:#}"));
    }));
    node.kill_daemon().unwrap();
    umount2(&state, MntFlags::MNT_DETACH).unwrap();
    found.unwrap();
}

/// The clock of this machine is everybody's, so the daemon gets one of its own, two hours back: to it the node's clock was set forward
/// since its start.
#[test]
fn a_clock_that_jumped() {
    let node = NodePlan::default().clock("-2h").start().unwrap();
    finds(&node, &[], "clock", &["was set forward by 2 h", "chronyc tracking"]);
}

#[test]
fn a_port_in_two_documents() {
    let node = Node::start().unwrap();
    let guest = node.guest("a").boot().unwrap();
    let second = guest.document().text().replace(guest.uuid(), "0badcafe-0000-4000-9000-000000000001");
    fs::write(node.instances().join("0badcafe-0000-4000-9000-000000000001.json"), second).unwrap();
    finds(
        &node,
        &[guest.tap()],
        "binding",
        &["is refused", guest.uuid(), "0badcafe-0000-4000-9000-000000000001", "name"],
    );
}

#[test]
fn a_tap_in_another_namespace() {
    let node = Node::start().unwrap();
    // No other node of these tests has a tap of this name.
    let tap = format!("tapx{:x}", std::process::id());
    let guest = node.guest("a").tap(&tap).boot().unwrap();
    let elsewhere = Namespace::create("hyp").unwrap();
    node.namespace().ip(&format!("link set {tap} netns {}", elsewhere.name())).unwrap();
    finds(&node, &[&tap], "link", &[&tap, "is in the namespace", elsewhere.name(), "run metadatad in the namespace"]);
    drop(guest);
}

#[test]
fn a_firewall_in_the_way() {
    let node = Node::start().unwrap();
    let guest = node.guest("a").boot().unwrap();
    let rules = "table inet filter {\n chain input {\n type filter hook input priority 0; policy drop;\n }\n}\n";
    command::run(node.responder().command("nft").unwrap().args(["-f", "-"]), rules).unwrap();
    guest.get("/openstack").unwrap_err();
    let name = node.responder().name().to_owned();
    finds(
        &node,
        &[],
        "firewall",
        &[
            "there is a firewall in the responder's namespace",
            "inet filter input, policy drop",
            &name,
            "nft flush ruleset",
        ],
    );
    command::run(node.responder().command("nft").unwrap().args(["flush", "ruleset"]), "").unwrap();
    guest.get("/openstack").unwrap();
    finds_nothing(&node, &[]);
}

/// Netfilter in the node's own namespace sees no metadata packet: a rule that drops everything there changes nothing, and doctor says
/// what bridge netfilter does concern.
#[test]
fn bridge_netfilter_and_a_firewall_of_the_node_are_not_in_the_way_and_said_to_be_so() {
    let node = Node::start().unwrap();
    node.namespace().ip_batch("link add br0 type bridge\nlink set br0 up\n").unwrap();
    let guest = node.guest("a").bridge("br0").boot().unwrap();
    node.namespace().sysctl("bridge/bridge-nf-call-iptables", "1").unwrap();
    let tap = guest.tap();
    let device = format!(" device {tap}");
    let table = |family: &str, hooks: &[&str], device: &str| {
        let chain =
            |hook| format!(" chain {hook} {{\n type filter hook {hook}{device} priority 0; policy drop;\n }}\n");
        let chains: String = hooks.iter().map(chain).collect();
        format!("table {family} filter {{\n{chains}}}\n")
    };
    let rules = [
        table("inet", &["input", "forward"], ""),
        table("bridge", &["forward"], ""),
        table("netdev", &["ingress", "egress"], &device),
    ]
    .concat();
    command::run(node.namespace().command("nft").unwrap().args(["-f", "-"]), &rules).unwrap();
    assert_eq!(guest.read_uuid(false).unwrap(), guest.uuid());
    let (status, report) = report(&node, &[tap]);
    assert_eq!(status, 0, "{report:#}");
    let notes = sentences(&report, "note", "firewall");
    assert!(notes.len() == 1 && notes[0].contains("bridge-nf-call-iptables"), "{report:#}");
}

#[test]
fn ipv6_disabled_in_the_guest() {
    let node = Node::start().unwrap();
    let guest = node.guest("a").boot().unwrap();
    guest.namespace().sysctl("ipv6/conf/all/disable_ipv6", "1").unwrap();
    guest.read_uuid(false).unwrap();
    let (status, report) = report(&node, &[guest.tap()]);
    assert_eq!(status, 0, "it may be as the guest wants it: {report:#}");
    let notes = sentences(&report, "note", "ipv6");
    assert!(notes.len() == 1 && notes[0].contains("never over IPv6: IPv6 is disabled in it"), "{report:#}");
}

#[test]
fn a_limit_that_was_reached() {
    let node =
        NodePlan::default().ports("new_connections_per_second = 1\nnew_connections_burst = 1\n").start().unwrap();
    let guest = node.guest("a").boot().unwrap();
    let target = (Ipv4Addr::new(169, 254, 169, 254), 80);
    guest
        .namespace()
        .run(|| {
            let timeout = std::time::Duration::from_millis(100);
            for _ in 0..8 {
                drop(std::net::TcpStream::connect_timeout(&target.into(), timeout));
            }
            Ok(())
        })
        .unwrap();
    finds(&node, &[guest.tap()], "limits", &["dropped for exceeding new_connections_per_second", "ago", "or raise"]);
}

#[test]
fn content_that_is_older_than_a_day() {
    let node = NodePlan::default().snapshot("interval = \"1s\"\n").clock("-26h").start().unwrap();
    let guest = node.guest("a").boot().unwrap();
    wait::until("the snapshot is written", || Ok((node.status()?["snapshot"]["instances"] == 1).then_some(())))
        .unwrap();
    node.stop_daemon().unwrap();
    fs::rename(node.instances(), node.path("away")).unwrap();
    node.use_real_clock();
    node.start_daemon().unwrap();
    assert_eq!(guest.read_uuid(false).unwrap(), guest.uuid());
    let mut last = Value::Null;
    let waited = wait::until("doctor names the age", || {
        let (status, report) = report(&node, &[]);
        let found = sentences(&report, "problem", "source");
        last = report;
        Ok((status == 1 && found.iter().any(|text| text.contains("has not confirmed the content for 26 h")))
            .then_some(()))
    });
    waited.unwrap_or_else(|error| panic!("{error:#}: {last:#}"));
}
