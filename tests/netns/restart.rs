//! The daemon ends in every way and comes back, and what it leaves is taken over or removed.

use std::io::Write as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use lab::{Guest, Node, NodePlan, bpf, command, wait};
use serde_json::Value;

fn reads_own(guest: &Guest) {
    assert_eq!(guest.read_uuid(false).unwrap(), guest.uuid());
    assert_eq!(guest.read_uuid(true).unwrap(), guest.uuid());
}

/// The ids of the maps that are pinned in the node's directory.
fn pinned_maps(node: &Node) -> Vec<u64> {
    bpf::pinned_maps(node).unwrap().iter().filter_map(|(_, map)| map["id"].as_u64()).collect()
}

fn programs_with(node: &Node, maps: &[u64]) -> Vec<u64> {
    bpf::programs_with(node, maps).unwrap()
}

fn links_of(node: &Node, programs: &[u64]) -> Vec<u64> {
    bpf::links_of(node, programs).unwrap()
}

fn files(directory: &Path) -> Vec<String> {
    let mut names = Vec::new();
    for entry in std::fs::read_dir(directory).unwrap().flatten() {
        names.push(entry.path().display().to_string());
        if entry.path().is_dir() {
            names.extend(files(&entry.path()));
        }
    }
    names.sort();
    names
}

fn namespace_inode(node: &Node) -> u64 {
    std::fs::metadata(Path::new("/run/netns").join(node.responder().name())).unwrap().ino()
}

#[test]
fn a_killed_daemon_comes_back_and_adopts_what_it_left() {
    let node = Node::start().unwrap();
    let guest = node.guest("a").boot().unwrap();
    reads_own(&guest);
    let (pins, maps, inode) = (files(&node.pins()), pinned_maps(&node), namespace_inode(&node));
    let links = links_of(&node, &programs_with(&node, &maps)).len();
    let counted = node.counters(guest.ifindex()).unwrap().to_guest;
    for _ in 0..3 {
        node.kill_daemon().unwrap();
        assert_eq!(files(&node.pins()), pins, "pins do not outlive the daemon");
        node.start_daemon().unwrap();
        node.wait_bound(guest.ifindex()).unwrap();
        reads_own(&guest);
    }
    assert_eq!(files(&node.pins()), pins, "pins were left over or lost");
    assert_eq!(pinned_maps(&node), maps, "maps were replaced instead of adopted");
    assert_eq!(namespace_inode(&node), inode, "the namespace was replaced instead of adopted");
    assert_eq!(links_of(&node, &programs_with(&node, &maps)).len(), links, "links were left over or lost");
    assert!(node.counters(guest.ifindex()).unwrap().to_guest > counted, "counters were lost");
    let late = node.guest("late").boot().unwrap();
    reads_own(&late);
}

#[test]
fn what_changed_while_the_daemon_was_away_is_noticed() {
    let node = Node::start().unwrap();
    let mut gone = node.guest("gone").boot().unwrap();
    let rebound = node.guest("rebound").boot().unwrap();
    let index = gone.ifindex();
    node.kill_daemon().unwrap();
    gone.unplug(&node).unwrap();
    let heir = "ffffffff-0000-4000-9000-000000000003";
    node.remove_document(rebound.uuid()).unwrap();
    node.write(&rebound.document().clone().with("uuid", heir)).unwrap();
    let new = node.guest("new").at_once().boot().unwrap();
    node.start_daemon().unwrap();
    node.wait_unknown(index).unwrap();
    node.wait_bound(new.ifindex()).unwrap();
    reads_own(&new);
    lab::wait::until("the heir is served", || {
        Ok((rebound.read_uuid(false).ok().as_deref() == Some(heir)).then_some(()))
    })
    .unwrap();
}

#[test]
fn a_daemon_that_is_told_to_end_does_so_with_success_and_comes_back() {
    let node = Node::start().unwrap();
    let guest = node.guest("a").boot().unwrap();
    reads_own(&guest);
    node.stop_daemon().unwrap();
    node.start_daemon().unwrap();
    node.wait_bound(guest.ifindex()).unwrap();
    reads_own(&guest);
}

fn detach_leaves_nothing(attach: &'static str) {
    let node = NodePlan::default().attach(attach).start().unwrap();
    let guest = node.guest("a").boot().unwrap();
    reads_own(&guest);
    let maps = pinned_maps(&node);
    let programs = programs_with(&node, &maps);
    let links = links_of(&node, &programs);
    assert!(!maps.is_empty() && !programs.is_empty(), "the test looks for the wrong objects");
    node.stop_daemon().unwrap();
    node.ask(&["detach"]).unwrap();
    assert!(!node.pins().exists(), "pins are left: {:?}", files(&node.pins()));
    assert!(!node.responder().exists(), "the namespace is left");
    let interfaces = node.namespace().ip("-o link show").unwrap();
    assert!(!interfaces.contains("metadatad"), "the pair is left: {interfaces}");
    let mut tc = node.namespace().command("tc").unwrap();
    let qdiscs = command::run(tc.args(["qdisc", "show", "dev", guest.tap()]), "").unwrap();
    let left = ["clsact", "ingress"].iter().any(|kind| qdiscs.contains(&format!("qdisc {kind} ")));
    assert!(!left, "a queueing discipline is left: {qdiscs}");
    // The kernel frees programs and maps a moment after their last holder has gone.
    lab::wait::until("no map, program or link of the daemon is left", || {
        let ids = |kind: &str| bpf::ids(&bpf::bpftool(&node, &[kind, "show"]).unwrap());
        let left = |now: Vec<u64>, before: &[u64]| now.iter().any(|id| before.contains(id));
        let any = left(ids("map"), &maps) || left(ids("prog"), &programs) || left(ids("link"), &links);
        Ok((!any).then_some(()))
    })
    .unwrap();
    node.start_daemon().unwrap();
    node.wait_bound(guest.ifindex()).unwrap();
    reads_own(&guest);
}

#[test]
fn detach_leaves_no_program_map_link_or_namespace() {
    detach_leaves_nothing("auto");
}

#[test]
fn detach_leaves_nothing_where_clsact_was_forced() {
    detach_leaves_nothing("clsact");
}

/// A file system of its own, so that it can be full. It goes with its value.
pub(crate) struct SmallDisk(PathBuf);

impl SmallDisk {
    pub(crate) fn mount(at: PathBuf, size: &str) -> Self {
        std::fs::create_dir(&at).unwrap();
        let options = format!("size={size},mode=700");
        command::run(Command::new("mount").args(["-t", "tmpfs", "-o", &options, "tmpfs"]).arg(&at), "").unwrap();
        Self(at)
    }

    /// Leaves no byte.
    pub(crate) fn fill(&self) {
        let mut file = std::fs::File::create(self.0.join("filler")).unwrap();
        while file.write(&[1; 4096]).is_ok_and(|written| written > 0) {}
    }

    /// Takes back what filled it.
    pub(crate) fn clear(&self) {
        std::fs::remove_file(self.0.join("filler")).unwrap();
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = command::run(Command::new("umount").arg("--lazy").arg(&self.0), "");
    }
}

#[test]
fn an_instance_removed_while_the_disk_is_full_does_not_come_back() {
    let node = NodePlan::default().make().unwrap();
    let disk = SmallDisk::mount(node.snapshot().parent().unwrap().to_owned(), "96k");
    node.start_daemon().unwrap();
    let (removed, kept) = (node.guest("a").boot().unwrap(), node.guest("b").boot().unwrap());
    let snapshot = |what: &str, is: &dyn Fn(&Value) -> bool| {
        wait::until(what, || Ok(is(&node.status()?["snapshot"]).then_some(()))).unwrap();
    };
    snapshot("both are written", &|snapshot| snapshot["instances"] == 2);
    disk.fill();
    node.remove_document(removed.uuid()).unwrap();
    snapshot("the removal is recorded", &|snapshot| snapshot["instances"] == 1);
    snapshot("the full disk is named", &|snapshot| {
        snapshot["error"].as_str().is_some_and(|error| error.contains("make room"))
    });
    node.kill_daemon().unwrap();
    // The source is not there yet when the daemon starts again.
    std::fs::rename(node.instances(), node.path("away")).unwrap();
    node.start_daemon().unwrap();
    reads_own(&kept);
    let ids = node.status().unwrap()["snapshot"]["restored"]["instances"].clone();
    assert_eq!(ids, 1, "what was removed is read back");
    std::fs::rename(node.path("away"), node.instances()).unwrap();
}
