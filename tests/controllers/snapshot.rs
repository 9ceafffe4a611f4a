//! What the node keeps on disk, with the daemon killed at any moment and its sources away.

use std::fs;
use std::io::{Read as _, Seek as _, SeekFrom};
use std::time::{Duration, Instant};

use lab::{Document, EtcdPlan, Guest, Node, NodePlan};

use crate::etcd as cluster;

const USER_DATA: &str = "/openstack/latest/user_data";
const META_DATA: &str = "/openstack/latest/meta_data.json";

/// The daemon dies this often in a test of the suite.
const KILLS: usize = 12;
/// A document changes this often.
const CHANGES: usize = 200;

/// A version of the document: its number is in two places, far from each other, and in a length.
fn version(document: &Document, number: usize) -> Document {
    let user_data = format!("{number};").repeat(200 + number);
    let meta = serde_json::json!({"number": number.to_string()});
    document.clone().with("user_data", user_data).with("metadata", meta)
}

/// Returns which version the guest reads, and fails if it reads a mixture of two.
fn reads(guest: &Guest) -> Option<usize> {
    let answer = guest.get(USER_DATA).ok().filter(|answer| answer.status == 200)?;
    let text = answer.text();
    let number: usize = text.split(';').next().unwrap().parse().unwrap();
    assert_eq!(text, format!("{number};").repeat(200 + number), "a mixture");
    Some(number)
}

/// Returns the version in the metadata that the guest reads.
fn reads_metadata(guest: &Guest) -> Option<usize> {
    let answer = guest.get(META_DATA).ok().filter(|answer| answer.status == 200)?;
    answer.json().unwrap()["meta"]["number"].as_str().map(|number| number.parse().unwrap())
}

fn snapshot_of(node: &Node) -> serde_json::Value {
    node.status().unwrap()["snapshot"].clone()
}

fn wait_written(node: &Node, instances: u64) {
    lab::wait::until(&format!("{instances} instances are written"), || {
        Ok((snapshot_of(node)["instances"] == instances).then_some(()))
    })
    .unwrap();
}

/// A guest that reads the number 0.
fn boot(node: &Node, name: &str) -> Guest {
    node.guest(name).document(|document| version(&document, 0)).boot().unwrap()
}

/// Numbers without a pattern, the same in every run: xorshift.
fn random(state: &mut u64) -> u64 {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    *state
}

/// Kills the daemon over and over while documents change: [`KILLS`] and [`CHANGES`], a `share`th of each, `METADATAD_TIMES`
/// as often.
fn killed_while_documents_change(
    node: &Node,
    guests: &[Guest],
    share: usize,
    write: impl Fn(&Guest, &Document) + Sync,
) {
    let times: usize = std::env::var("METADATAD_TIMES").map_or(1, |times| times.parse().unwrap());
    let (kills, changes) = (KILLS * times / share, CHANGES * times / share);
    let mut seed = 0x9e37_79b9_7f4a_7c15;
    let last = std::sync::atomic::AtomicUsize::new(0);
    std::thread::scope(|scope| {
        let writing = scope.spawn(|| {
            for number in 1..=changes {
                // Counted first: what a guest may read was current, or is about to be.
                last.store(number, std::sync::atomic::Ordering::SeqCst);
                let guest = &guests[number % guests.len()];
                write(guest, &version(guest.document(), number));
                // Changes are spread over the kills.
                let pause = Instant::now() + Duration::from_millis(40);
                lab::wait::until("the next change is due", || Ok((Instant::now() >= pause).then_some(()))).unwrap();
            }
        });
        for _ in 0..kills {
            let moment = Instant::now() + Duration::from_millis(random(&mut seed) % 400);
            lab::wait::until("the moment has come", || Ok((Instant::now() >= moment).then_some(()))).unwrap();
            node.kill_daemon().unwrap();
            node.start_daemon().unwrap();
            for guest in guests {
                let read = lab::wait::until("the guest is answered", || Ok(reads(guest))).unwrap();
                assert!(read <= last.load(std::sync::atomic::Ordering::SeqCst), "{read} was never current");
            }
        }
        writing.join().unwrap();
    });
    for (place, guest) in guests.iter().enumerate() {
        let newest = (1..=changes).rev().find(|number| number % guests.len() == place).unwrap_or(0);
        lab::wait::until("the guest reads the newest", || {
            Ok((reads(guest) == Some(newest) && reads_metadata(guest) == Some(newest)).then_some(()))
        })
        .unwrap();
    }
}

#[test]
fn killed_at_any_moment_the_daemon_serves_what_was_current_and_then_the_newest() {
    let node = NodePlan::default().snapshot("interval = \"100ms\"").start().unwrap();
    let guests = ["a", "b", "c"].map(|name| boot(&node, name));
    killed_while_documents_change(&node, &guests, 1, |_, document| node.write(document).unwrap());
}

#[test]
fn killed_at_any_moment_beside_etcd_the_daemon_serves_what_was_current_and_then_the_newest() {
    let (node, etcd) = cluster::world(EtcdPlan::default()).unwrap();
    node.start_daemon().unwrap();
    let put = |document: &Document| etcd.put(&cluster::key(document.uuid()), &document.text()).unwrap();
    let guests = ["a", "b"].map(|name| {
        let guest = node.guest(name).document(|document| version(&document, 0)).at_once().boot().unwrap();
        put(guest.document());
        node.wait_bound(guest.ifindex()).unwrap();
        guest
    });
    killed_while_documents_change(&node, &guests, 2, |_, document| put(document));
}

#[test]
fn a_node_that_boots_while_its_directory_is_away_serves_what_it_had() {
    let node = Node::start().unwrap();
    let guest = boot(&node, "a");
    let posted =
        guest.send(&lab::Request::get("/openstack/latest/password").method("POST").header("content-length", "0"));
    drop(posted);
    wait_written(&node, 1);
    node.kill_daemon().unwrap();
    fs::rename(node.instances(), node.path("away")).unwrap();
    node.start_daemon().unwrap();
    assert_eq!(reads(&guest), Some(0));
    let snapshot = snapshot_of(&node);
    assert_eq!(snapshot["restored"]["instances"], 1, "{snapshot}");
    assert_eq!(snapshot["restored"]["confirmed"], false, "{snapshot}");
    assert!(node.told(&["status"]).unwrap().contains("not confirmed by the source yet"));
    // Ended well, it still has it.
    node.stop_daemon().unwrap();
    node.start_daemon().unwrap();
    assert_eq!(reads(&guest), Some(0));
    fs::rename(node.path("away"), node.instances()).unwrap();
    lab::wait::until("the source confirms", || Ok((snapshot_of(&node)["restored"]["confirmed"] == true).then_some(())))
        .unwrap();
    assert_eq!(reads(&guest), Some(0));
}

#[test]
fn a_node_that_boots_while_etcd_is_away_serves_what_it_had() {
    let (node, etcd) = cluster::world(EtcdPlan::default()).unwrap();
    node.start_daemon().unwrap();
    let guest = cluster::boot(&node, &etcd, "a").unwrap();
    wait_written(&node, 1);
    node.kill_daemon().unwrap();
    etcd.stop_all().unwrap();
    node.start_daemon().unwrap();
    cluster::wait_reads(&guest, "0").unwrap();
    assert_eq!(snapshot_of(&node)["restored"]["confirmed"], false);
    etcd.start_all().unwrap();
    cluster::change(&etcd, &guest, "1").unwrap();
    cluster::wait_reads(&guest, "1").unwrap();
}

#[test]
fn a_removed_instance_is_gone_from_the_snapshot_and_never_comes_back() {
    let node = NodePlan::default().snapshot("interval = \"10m\"").ready_timeout("100ms").start().unwrap();
    let guest = boot(&node, "stays");
    let gone = boot(&node, "gone");
    node.stop_daemon().unwrap();
    node.start_daemon().unwrap();
    wait_written(&node, 2);
    node.remove_document(gone.uuid()).unwrap();
    // Though the interval is ten minutes.
    wait_written(&node, 1);
    node.kill_daemon().unwrap();
    fs::rename(node.instances(), node.path("away")).unwrap();
    node.start_daemon().unwrap();
    assert_eq!(reads(&guest), Some(0));
    node.wait_held(gone.ifindex()).unwrap();
    assert_eq!(gone.get(USER_DATA).unwrap().status, 503);
}

#[test]
fn what_was_removed_while_the_daemon_was_away_goes_when_the_source_was_read() {
    let node = Node::start().unwrap();
    let gone = boot(&node, "gone");
    wait_written(&node, 1);
    node.kill_daemon().unwrap();
    node.remove_document(gone.uuid()).unwrap();
    node.start_daemon().unwrap();
    node.wait_held(gone.ifindex()).unwrap();
    wait_written(&node, 0);
}

#[test]
fn a_snapshot_that_cannot_be_used_keeps_no_daemon_from_starting() {
    let node = Node::start().unwrap();
    let guest = boot(&node, "a");
    wait_written(&node, 1);
    for (what, spoil) in [
        ("torn", &(|bytes: &mut Vec<u8>| bytes.truncate(bytes.len() - 9)) as &dyn Fn(&mut Vec<u8>)),
        ("damaged", &|bytes| *bytes.last_mut().unwrap() ^= 1),
        ("newer metadatad", &|bytes| bytes[19] = b'9'),
        ("is not a snapshot", &|bytes| bytes.splice(..0, *b"x").for_each(drop)),
    ] {
        node.stop_daemon().unwrap();
        let mut bytes = fs::read(node.snapshot()).unwrap();
        spoil(&mut bytes);
        fs::write(node.snapshot(), &bytes).unwrap();
        node.start_daemon().unwrap();
        assert_eq!(reads(&guest), Some(0));
        let snapshot = snapshot_of(&node);
        assert!(snapshot["refused"].as_str().unwrap().contains(what), "{what}: {snapshot}");
        assert_eq!(fs::read(node.path("state/snapshot.refused")).unwrap(), bytes);
        wait_written(&node, 1);
    }
    node.stop_daemon().unwrap();
    fs::remove_file(node.path("snapshot.key")).unwrap();
    node.start_daemon().unwrap();
    assert!(snapshot_of(&node)["refused"].as_str().unwrap().contains("bring the former key back"));
    // Without a key there is no snapshot, and all else works.
    node.stop_daemon().unwrap();
    fs::write(node.path("snapshot.key"), "short").unwrap();
    node.start_daemon().unwrap();
    assert_eq!(reads(&guest), Some(0));
    let snapshot = snapshot_of(&node);
    assert!(snapshot["error"].as_str().unwrap().contains("at least 32"), "{snapshot}");
}

/// Returns where in a process's memory a text is, as the kernel shows it.
fn found_in_memory(process: u32, text: &[u8]) -> Vec<String> {
    let maps = fs::read_to_string(format!("/proc/{process}/maps")).unwrap();
    let mut memory = fs::File::open(format!("/proc/{process}/mem")).unwrap();
    let mut found = Vec::new();
    for line in maps.lines() {
        let mut words = line.split_whitespace();
        let (range, access) = (words.next().unwrap(), words.next().unwrap());
        let name = words.nth(3).unwrap_or("anonymous");
        let (start, end) = range.split_once('-').unwrap();
        let [start, end] = [start, end].map(|number| u64::from_str_radix(number, 16).unwrap());
        if !access.starts_with("rw") || end - start > 1 << 30 {
            continue;
        }
        let mut bytes = vec![0; usize::try_from(end - start).unwrap()];
        // Parts of it may have gone meanwhile, or be no memory at all.
        if memory.seek(SeekFrom::Start(start)).is_err() || memory.read_exact(&mut bytes).is_err() {
            continue;
        }
        let hits = bytes.windows(text.len()).enumerate().filter(|(_, window)| *window == text);
        found.extend(hits.map(|(at, _)| format!("{name} {range} at {at:#x}")));
    }
    found
}

#[test]
fn nothing_of_a_removed_instance_stays_in_the_daemons_memory() {
    let node = Node::start().unwrap();
    let _stays = boot(&node, "stays");
    // Escapes go through the parser's own buffer; the password through HTTP's.
    let marker = "kUsErDaTaMaRkEr-5a1f-of-the-removed-instance";
    let password = "pAsSwOrDmArKeR-77c3-of-the-removed-instance";
    let user_data = format!("#!/bin/sh\n\t\"{marker}\"\n").repeat(40);
    let gone = node.guest("gone").document(|document| document.with("user_data", user_data.as_str())).boot().unwrap();
    assert_eq!(gone.get(USER_DATA).unwrap().text(), user_data);
    assert_eq!(gone.get("/latest/user-data").unwrap().text(), user_data);
    let post = format!(
        "curl --silent --fail --data-binary {password} http://169.254.169.254/openstack/latest/password && \
         curl --silent --fail http://169.254.169.254/openstack/latest/password"
    );
    let mut shell = gone.namespace().command("sh").unwrap();
    assert!(lab::command::run(shell.args(["-c", &post]), "").unwrap().contains(password));
    let process = node.daemon_id().unwrap();
    assert!(!found_in_memory(process, marker.as_bytes()).is_empty(), "the test looks for the wrong thing");
    assert!(!found_in_memory(process, password.as_bytes()).is_empty(), "the test looks for the wrong thing");
    wait_written(&node, 2);
    node.remove_document(gone.uuid()).unwrap();
    node.wait_held(gone.ifindex()).unwrap();
    wait_written(&node, 1);
    lab::wait::until("the memory holds nothing of it", || {
        let left = [marker, password].map(|text| found_in_memory(process, text.as_bytes()));
        if left.iter().any(|left| !left.is_empty()) {
            eprintln!("still there: {left:?}");
            return Ok(None);
        }
        Ok(Some(()))
    })
    .unwrap();
}
