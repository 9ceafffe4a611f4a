//! Taps that are missing here, looked for in the machine's other network namespaces.
//!
//! A hypervisor in a container of its own makes its taps there, where this node's daemon sees none of them.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::{self, File},
    os::{fd::AsFd as _, unix::fs::MetadataExt as _},
    path::{Path, PathBuf},
};

use nix::sched::{CloneFlags, setns};

use super::super::responder::on_thread;

/// Most namespaces that are looked into: a node has a few, and one for each container.
const NAMESPACES: usize = 1024;

/// A tap that is in another namespace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Elsewhere {
    /// Its name.
    pub tap: String,
    /// The namespace, for people: `the namespace foo`, or by a process that is in it.
    pub namespace: String,
}

/// Returns where taps of these names are that are not in the namespace of the caller, at most one place for each.
#[must_use]
pub fn taps_elsewhere(wanted: &BTreeSet<String>) -> Vec<Elsewhere> {
    let mut found: Vec<Elsewhere> = Vec::new();
    if wanted.is_empty() {
        return found;
    }
    for (name, path) in namespaces().into_values().take(NAMESPACES) {
        let missing: Vec<String> =
            wanted.iter().filter(|tap| found.iter().all(|known| known.tap != **tap)).cloned().collect();
        found.extend(among(&path, missing).into_iter().map(|tap| Elsewhere { tap, namespace: name.clone() }));
    }
    found
}

/// Returns which of these interfaces a namespace has.
fn among(namespace: &Path, names: Vec<String>) -> Vec<String> {
    let Ok(file) = File::open(namespace) else { return Vec::new() };
    let looked = on_thread(move || {
        // A namespace that cannot be entered has nothing that can be seen.
        if setns(file.as_fd(), CloneFlags::CLONE_NEWNET).is_err() {
            return Ok(Vec::new());
        }
        let has = |name: &String| nix::net::if_::if_nametoindex(name.as_str()).is_ok();
        Ok(names.into_iter().filter(has).collect())
    });
    looked.unwrap_or_default()
}

/// Returns all namespaces but the caller's, by their inode: those with a name first, then those of processes.
fn namespaces() -> BTreeMap<u64, (String, PathBuf)> {
    let mut found = BTreeMap::new();
    let own = fs::metadata("/proc/self/ns/net").map_or(0, |own| own.ino());
    let mut add = |name: String, path: PathBuf| {
        if let Ok(inode) = fs::metadata(&path).map(|namespace| namespace.ino())
            && inode != own
        {
            found.entry(inode).or_insert((name, path));
        }
    };
    for entry in fs::read_dir("/run/netns").into_iter().flatten().flatten() {
        add(format!("the namespace {}", entry.file_name().to_string_lossy()), entry.path());
    }
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let process = entry.file_name().to_string_lossy().into_owned();
        if process.bytes().all(|byte| byte.is_ascii_digit()) {
            let path = entry.path().join("ns/net");
            let program = fs::read_to_string(entry.path().join("comm")).unwrap_or_default();
            add(format!("the namespace of process {process} ({})", program.trim()), path);
        }
    }
    found
}
