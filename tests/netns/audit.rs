//! The audit log and anomalies: what is recorded, what never is, and that a log that cannot be written slows nobody.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Result;
use etherparse::PacketBuilder;
use lab::http::Connection;
use lab::{Guest, Node, NodePlan, Request};
use metadata_ebpf::addr::{METADATA_IPV4, METADATA_MAC};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use serde_json::{Value, json};

const PATH: &str = "/openstack/latest/meta_data.json";

/// What a record must never hold.
const SECRET: &str = "S3CR3T";

/// A directory for the log, outside the node's: the configuration names it before the node is there.
struct Log {
    directory: tempfile::TempDir,
}

impl Log {
    fn new() -> Self {
        Self { directory: tempfile::Builder::new().prefix("metadatad-audit-").tempdir().unwrap() }
    }

    fn path(&self) -> PathBuf {
        self.directory.path().join("audit.jsonl")
    }

    fn node(&self, further: &str) -> Node {
        let text = format!("[audit]\nto = \"file\"\npath = \"{}\"\n{further}", self.path().display());
        NodePlan::default().further(&text).start().unwrap()
    }

    fn records(&self) -> Vec<Value> {
        read(&self.path())
    }

    /// Waits until there are so many records of a kind, and returns them.
    fn wait(&self, kind: &str, count: usize) -> Vec<Value> {
        lab::wait::until(&format!("{count} records of the kind {kind}"), || {
            let mut records = self.records();
            records.retain(|record| record["kind"] == kind);
            Ok((records.len() >= count).then_some(records))
        })
        .unwrap()
    }
}

/// Returns the records of a file; the last line may still be written.
fn read(path: &Path) -> Vec<Value> {
    let text = fs::read_to_string(path).unwrap_or_default();
    let whole = text.rfind('\n').map_or("", |end| &text[..end]);
    whole.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn audit(node: &Node, name: &str) -> Value {
    node.status().unwrap()["audit"][name].clone()
}

/// Returns what `metadatad anomalies` shows of a guest, by kind.
fn anomalies(node: &Node, guest: &Guest) -> Vec<(String, u64)> {
    let shown: Value = serde_json::from_str(&node.ask(&["anomalies", guest.uuid(), "--json"]).unwrap()).unwrap();
    let each = shown.as_array().unwrap().iter().flat_map(|instance| instance["anomalies"].as_array().unwrap().clone());
    each.map(|anomaly| (anomaly["kind"].as_str().unwrap().to_owned(), anomaly["count"].as_u64().unwrap())).collect()
}

fn connect(guest: &Guest) -> Connection {
    guest.namespace().run(|| Request::get(PATH).connect()).unwrap()
}

#[test]
fn each_request_is_recorded_once_with_its_instance_and_without_secrets() {
    let log = Log::new();
    let node = log.node("");
    let guest = node.guest("a").boot().unwrap();
    let other = node.guest("b").boot().unwrap();
    let length = guest.get(PATH).unwrap().body.len();
    guest.get6(&format!("/nonsense?token={SECRET}")).unwrap();
    other
        .send(&Request::get("/openstack").method("HEAD").header("user-agent", "a\"b\\").header("x-token", SECRET))
        .unwrap();
    let url = "http://169.254.169.254/openstack/latest/password";
    guest.curl(&["--data-binary", SECRET, url]).unwrap();
    let records = log.wait("request", 4);
    assert_eq!(records.len(), 4, "{records:#?}");
    for (record, guest, fields) in [
        (&records[0], &guest, json!({"method": "GET", "path": PATH, "status": 200, "bytes": length, "family": "ipv4"})),
        (
            &records[1],
            &guest,
            json!({"method": "GET", "path": "/nonsense", "query": "left_out", "status": 404, "family": "ipv6",
                   "address": guest.link_local().to_string()}),
        ),
        (&records[2], &other, json!({"method": "HEAD", "status": 200, "bytes": 0, "user_agent": "a\"b\\x5c"})),
        (&records[3], &guest, json!({"method": "POST", "path": "/openstack/latest/password", "status": 200})),
    ] {
        for (name, expected) in fields.as_object().unwrap() {
            assert_eq!(record[name], *expected, "{name}: {record:#}");
        }
        assert_eq!(record["instance"], guest.uuid());
        assert_eq!(record["port"], guest.port());
        assert!(record["project"].is_string() && record["tag"].is_u64() && record["generation"].is_u64(), "{record:#}");
        assert_eq!(record["token"], "none");
        let time = record["time"].as_str().unwrap();
        assert!(time.len() == "2026-11-26T18:00:00.123Z".len() && time.ends_with('Z'), "{time}");
    }
    let text = fs::read_to_string(log.path()).unwrap();
    assert!(!text.contains(SECRET), "{text}");
    // The password is another content.
    assert_eq!(guest.read_uuid(false).unwrap(), guest.uuid());
    let after = log.wait("request", 5);
    assert!(after[4]["generation"].as_u64() > records[0]["generation"].as_u64(), "{after:#?}");
    assert_eq!(audit(&node, "written"), json!(5));
}

#[test]
fn a_request_that_gets_no_answer_and_a_connection_that_ends_early_are_recorded() {
    let log = Log::new();
    let node = log.node("\n[http]\nrequest_timeout = \"200ms\"\n");
    let guest = node.guest("a").boot().unwrap();
    let mut malformed = connect(&guest);
    malformed.send_raw(b"\x16\x03\x01\r\n\r\n").unwrap();
    let mut slow = connect(&guest);
    slow.send_raw(b"GET / HTTP/1.1\r\n").unwrap();
    let records = log.wait("connection", 2);
    let mut events: Vec<_> = records.iter().map(|record| record["event"].as_str().unwrap()).collect();
    events.sort_unstable();
    assert_eq!(events, ["malformed", "timed_out"]);
    assert!(records.iter().all(|record| record["instance"] == guest.uuid()), "{records:#?}");
    // A body that never comes.
    let mut half = connect(&guest);
    half.send_raw(b"POST /openstack/latest/password HTTP/1.1\r\nContent-Length: 10\r\n\r\nabc").unwrap();
    let records = log.wait("request", 1);
    assert!(records[0]["status"].is_null() && records[0]["path"] == "/openstack/latest/password", "{records:#?}");
}

#[test]
fn a_flood_of_ended_connections_costs_the_log_a_few_records() {
    let log = Log::new();
    let node = log.node("");
    let guest = node.guest("a").boot().unwrap();
    for _ in 0..100 {
        let mut connection = connect(&guest);
        connection.send_raw(b"\x16\x03\x01\r\n\r\n").unwrap();
        connection.wait_closed().unwrap();
    }
    let malformed = || node.status().unwrap()["http"]["malformed"].as_u64().unwrap();
    lab::wait::until("all have ended", || Ok((malformed() == 100).then_some(()))).unwrap();
    let other = node.guest("b").boot().unwrap();
    other.get(PATH).unwrap();
    log.wait("request", 1);
    let records = log.wait("connection", 1);
    // The quota of a port is 16, and one more each ten seconds: this took far less than eight minutes.
    assert!(records.len() < 64, "{}", records.len());
    let left_out = audit(&node, "left_out").as_u64().unwrap();
    assert_eq!(records.len() as u64 + left_out, 100, "{records:#?}");
}

#[test]
fn a_full_disk_slows_no_guest_and_what_is_lost_is_counted_and_noted() {
    let log = Log::new();
    let directory = log.directory.path();
    mount(Some("tmpfs"), directory, Some("tmpfs"), MsFlags::empty(), Some("size=64k")).unwrap();
    let result = std::panic::catch_unwind(|| fill_and_free(&log));
    umount2(directory, MntFlags::MNT_DETACH).unwrap();
    if let Err(panic) = result {
        std::panic::resume_unwind(panic);
    }
}

fn fill_and_free(log: &Log) {
    let node = log.node("");
    let guest = node.guest("a").boot().unwrap();
    guest.get(PATH).unwrap();
    log.wait("request", 1);
    assert_eq!(node.ask(&["status", "--check"]).map(drop).map_err(|error| error.to_string()), Ok(()));
    let ballast = log.directory.path().join("ballast");
    let full = fs::write(&ballast, vec![0; 1 << 20]).unwrap_err();
    assert_eq!(full.kind(), std::io::ErrorKind::StorageFull);
    let mut asked = 1;
    let lost = || audit(&node, "lost_write_failed").as_u64().unwrap();
    // More than what is left of the file's last page can take.
    lab::wait::until("records are lost", || {
        for _ in 0..20 {
            assert_eq!(guest.get(PATH)?.status, 200, "a full disk is the operator's trouble, not the guest's");
            asked += 1;
        }
        Ok((lost() > 0).then_some(()))
    })
    .unwrap();
    assert!(audit(&node, "error").as_str().unwrap().contains("No space left"));
    assert!(node.ask(&["status", "--check"]).is_err());
    fs::remove_file(&ballast).unwrap();
    // No request comes: the log itself tells when it works again.
    log.wait("lost", 1);
    lab::wait::until("it can be written again", || Ok(audit(&node, "error").is_null().then_some(()))).unwrap();
    guest.get(PATH).unwrap();
    asked += 1;
    let counted = |records: &[Value]| records.iter().filter(|record| record["kind"] == "request").count() as u64;
    lab::wait::until("every request is recorded or counted as lost", || {
        Ok((counted(&log.records()) + lost() == asked).then_some(()))
    })
    .unwrap();
    lab::wait::until("the log says how many", || {
        let records = log.records();
        let noted: u64 = records.iter().filter_map(|record| record["write_failed"].as_u64()).sum();
        Ok((noted == lost()).then_some(()))
    })
    .unwrap();
}

#[test]
fn the_file_is_rotated_while_guests_ask() {
    let log = Log::new();
    let node = log.node("rotate_size = 1\nrotate_keep = 1\n");
    let guest = node.guest("a").boot().unwrap();
    let mut connection = connect(&guest);
    let request = Request::get(&format!("/{}", "x".repeat(250))).header("user-agent", &"y".repeat(128));
    let rotated = PathBuf::from(format!("{}.1", log.path().display()));
    let mut asked = 0;
    while !rotated.exists() {
        assert!(asked < 10_000, "1 MiB of records");
        for _ in 0..100 {
            connection.exchange(&request).unwrap();
            asked += 1;
        }
    }
    lab::wait::until(
        "no record is missing",
        || Ok((read(&rotated).len() + log.records().len() == asked).then_some(())),
    )
    .unwrap();
    assert!(fs::metadata(&rotated).unwrap().len() <= 1 << 20);
}

#[test]
fn what_is_unusual_is_counted_for_its_instance_with_the_log_off() {
    let node = Node::start().unwrap();
    let guest = node.guest("a").ipv4("10.0.0.5/16").boot().unwrap();
    let other = node.guest("b").boot().unwrap();
    let ask = |request: Request| guest.send(&request).unwrap().status;
    ask(Request::get(PATH).header("x-forwarded-for", "10.0.0.9"));
    ask(Request::get(PATH).header("X-Instance-ID", other.uuid()));
    // Beside the right one, which the client always sends.
    ask(Request::get(PATH).header("host", "metadata.example"));
    ask(Request::get(PATH).header("host", "metadata.example").header("via", "1.1 proxy"));
    let mut connection = connect(&guest);
    for number in 0..120 {
        assert_eq!(connection.exchange(&Request::get(&format!("/latest/{number}"))).unwrap().status, 404);
        other.get("/nonsense").unwrap();
    }
    let frames = guest.frames().unwrap();
    let mut frame = Vec::new();
    let packet = PacketBuilder::ethernet2(guest.mac(), METADATA_MAC).ipv4([10, 0, 0, 6], METADATA_IPV4, 64);
    packet.tcp(40_000, 80, 1, 1024).syn().write(&mut frame, &[]).unwrap();
    frames.send(&frame).unwrap();
    let seen = lab::wait::until("the kernel's sample arrives", || {
        let seen = anomalies(&node, &guest);
        Ok(seen.iter().any(|(kind, _)| kind == "spoofed_packets").then_some(seen))
    })
    .unwrap();
    let count = |wanted: &str| seen.iter().find(|(kind, _)| kind == wanted).map_or(0, |(_, count)| *count);
    assert_eq!((count("forwarded_header"), count("identity_header"), count("odd_host")), (2, 1, 2), "{seen:?}");
    assert_eq!(count("spoofed_packets"), 1);
    assert!((1..=60).contains(&count("path_scan")), "{seen:?}");
    assert_eq!(anomalies(&node, &other), []);
    let status = node.status().unwrap();
    assert_eq!(status["anomalies"]["odd_host"], 2, "{status:#}");
    assert!(status["audit"].is_null(), "the log is off");
}

#[test]
fn packets_that_claim_another_source_are_recorded() -> Result<()> {
    let log = Log::new();
    let node = log.node("");
    let guest = node.guest("a").ipv4("10.0.0.5/16").boot()?;
    let frames = guest.frames()?;
    let mut frame = Vec::new();
    let packet = PacketBuilder::ethernet2(guest.mac(), METADATA_MAC).ipv4([10, 0, 0, 6], METADATA_IPV4, 64);
    packet.tcp(40_000, 80, 1, 1024).syn().write(&mut frame, &[])?;
    frames.send(&frame)?;
    let records = log.wait("dropped", 1);
    let record = &records[0];
    assert_eq!((&record["instance"], &record["tap"]), (&json!(guest.uuid()), &json!(guest.tap())), "{record:#}");
    assert_eq!((&record["reason"], &record["claimed_address"]), (&json!("spoofed_ip"), &json!("10.0.0.6")));
    Ok(())
}
