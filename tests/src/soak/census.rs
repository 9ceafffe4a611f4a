//! What a node has at a moment: of the daemon's process, of the kernel, of its namespaces and on disk; and what is left over.
//!
//! Promises: a figure has one name, so that a difference names its culprit; all of them are of this node alone, whatever else the
//! machine does.

use std::collections::BTreeMap;
use std::fs;

use anyhow::{Context as _, Result};
use serde_json::Value;

use super::world::World;
use crate::bpf;
use crate::command;
use crate::netns::Namespace;

/// Resident memory, in KiB.
pub(super) const RESIDENT: &str = "memory: resident (KiB)";
/// What of it is the process's own: heap and stacks.
pub(super) const PRIVATE: &str = "memory: private (KiB)";
/// Bindings in the history of boots.
pub(super) const BOOTS: &str = "history of boots: bindings";
/// Series of metrics.
const SERIES: &str = "metrics: series";

/// A binding in the history of boots (`boots.rs` says so), in KiB, rounded up.
const BINDING: u64 = 6;

/// Figures by their names.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Census(pub(super) BTreeMap<String, u64>);

/// Which two moments are compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Between {
    /// Of one process.
    OneProcess,
    /// Of two that have done the same since they were started.
    TwoProcesses,
}

impl Census {
    /// Counts everything.
    pub(super) fn take(world: &World) -> Result<Self> {
        let mut census = Self::default();
        census.process(world)?;
        census.kernel(world)?;
        census.namespaces(world)?;
        census.disk(world)?;
        census.daemon(world)?;
        Ok(census)
    }

    /// Returns a figure; 0 if there is none.
    pub(super) fn get(&self, name: &str) -> u64 {
        self.0.get(name).copied().unwrap_or(0)
    }

    fn set(&mut self, name: impl Into<String>, value: impl TryInto<u64>) {
        self.0.insert(name.into(), value.try_into().unwrap_or(u64::MAX));
    }

    fn add(&mut self, name: &str) {
        *self.0.entry(name.to_owned()).or_default() += 1;
    }

    fn process(&mut self, world: &World) -> Result<()> {
        let process = format!("/proc/{}", world.node.daemon_id().context("the daemon does not run")?);
        for (name, field) in [(RESIDENT, "VmRSS:"), (PRIVATE, "RssAnon:"), ("threads", "Threads:")] {
            self.set(name, status(&process, field)?);
        }
        for entry in fs::read_dir(format!("{process}/fd")).context("listing open files")?.flatten() {
            // One that was closed meanwhile is not open.
            let Ok(target) = fs::read_link(entry.path()) else { continue };
            self.add(&format!("open files: {}", kind(&target.to_string_lossy())));
        }
        let (responder, directory) = (world.node.responder(), world.node.path(""));
        let own = |line: &&str| line.contains(responder.name()) || line.contains(&*directory.to_string_lossy());
        let mounts = fs::read_to_string(format!("{process}/mountinfo")).context("listing mounts")?;
        self.set("mounts", mounts.lines().filter(own).count());
        Ok(())
    }

    fn kernel(&mut self, world: &World) -> Result<()> {
        let node = &world.node;
        let maps = bpf::pinned_maps(node)?;
        self.set("kernel: pinned maps", maps.len());
        self.set(
            "kernel: memory of pinned maps (bytes)",
            maps.iter().filter_map(|(_, map)| map["bytes_memlock"].as_u64()).sum::<u64>(),
        );
        for (name, _) in maps.iter().filter(|(name, _)| !["EVENTS", "META"].contains(name)) {
            self.set(format!("kernel: entries of {name}"), bpf::entries(node, name)?);
        }
        let ids: Vec<_> = maps.iter().filter_map(|(_, map)| map["id"].as_u64()).collect();
        let programs = bpf::programs_with(node, &ids)?;
        self.set("kernel: programs", programs.len());
        self.set("kernel: links", bpf::links_of(node, &programs)?.len());
        self.set("kernel: pins", files(&node.pins()).len());
        Ok(())
    }

    fn namespaces(&mut self, world: &World) -> Result<()> {
        let (node, responder) = (world.node.namespace(), world.node.responder());
        // All of this process's have its number, which is in the name of the node's too.
        let number = node.name().rsplit('-').nth(1).map(|number| format!("-{number}-")).unwrap_or_default();
        let names = fs::read_dir("/run/netns").context("listing namespaces")?.flatten();
        let names = names.filter(|entry| entry.file_name().to_string_lossy().contains(&number));
        self.set("namespaces: this lab's", names.count());
        let file = fs::metadata(format!("/run/netns/{}", responder.name())).context("the responder's namespace")?;
        self.set("namespaces: the responder's inode", std::os::unix::fs::MetadataExt::ino(&file));
        for (of, namespace) in [("node", node), ("responder", &responder)] {
            for (what, words) in [
                ("interfaces", "-o link show"),
                ("addresses", "-o addr show"),
                ("routes", "-o -4 route show table all"),
                ("IPv6 routes", "-o -6 route show table all"),
                ("neighbours", "-o neigh show"),
            ] {
                self.set(format!("{of}: {what}"), namespace.ip(words)?.lines().count());
            }
            self.set(format!("{of}: qdiscs"), run(namespace, "tc", &["qdisc", "show"])?.lines().count());
        }
        let sockets = run(&responder, "ss", &["-Htan"])?;
        let (listening, others): (Vec<_>, Vec<_>) = sockets.lines().partition(|line| line.starts_with("LISTEN"));
        self.set("responder: listening sockets", listening.len());
        self.set("responder: other TCP sockets", others.len());
        Ok(())
    }

    fn disk(&mut self, world: &World) -> Result<()> {
        let state = world.node.snapshot();
        let state = state.parent().context("a snapshot without a directory")?;
        self.set("disk: files beside the snapshot", files(state).len());
        self.set("disk: snapshot (bytes)", fs::metadata(world.node.snapshot()).map_or(0, |file| file.len()));
        self.set(
            "disk: sockets and files in the run directory",
            files(&world.node.path("")).len() - files(&world.node.pins()).len(),
        );
        let audit = world.audit_files()?;
        let bytes: u64 = audit.iter().filter_map(|file| fs::metadata(file).ok()).map(|file| file.len()).sum();
        self.set("disk: audit log (KiB)", bytes / 1024);
        self.set("descriptors in the service manager's store", world.node.kept_sockets().len());
        Ok(())
    }

    fn daemon(&mut self, world: &World) -> Result<()> {
        let status = world.node.status()?;
        let number = |value: &Value| value.as_u64().unwrap_or(0);
        self.set("daemon: instances", number(&status["source"]["instances"]));
        self.set("daemon: instances in the snapshot", number(&status["snapshot"]["instances"]));
        self.set("daemon: guests' connections", number(&status["http"]["open"]));
        self.set("daemon: faults", status["faults"].as_array().map_or(0, Vec::len));
        for (state, count) in status["ports"].as_object().into_iter().flatten() {
            self.set(format!("daemon: ports {state}"), number(count));
        }
        let rows = |words: &[&str]| -> Result<usize> {
            let shown: Value = serde_json::from_str(&world.node.ask(words)?).context("reading JSON")?;
            Ok(shown.as_array().map_or(0, Vec::len))
        };
        self.set(BOOTS, rows(&["boots", "--json"])?);
        self.set("anomalies: instances", rows(&["anomalies", "--json"])?);
        self.set("access: instances", rows(&["access", "--json"])?);
        let metrics = world.node.metrics()?;
        self.set(SERIES, metrics.lines().filter(|line| !line.starts_with('#')).count());
        Ok(())
    }

    /// Tells whether the daemon has a file open that it renames when it is written.
    pub(super) fn has_drafts(&self) -> bool {
        self.0.iter().any(|(name, count)| *count > 0 && name.starts_with("open files: ") && name.ends_with(".new"))
    }

    /// Returns what there is more, or less, than before: one line each. Memory may be so many KiB more.
    pub(super) fn differences(&self, before: &Self, between: Between, slack: u64) -> Vec<String> {
        let names: std::collections::BTreeSet<_> = self.0.keys().chain(before.0.keys()).collect();
        let differs = |name: &&String| {
            let (was, is) = (before.get(name), self.get(name));
            match name.as_str() {
                RESIDENT | PRIVATE => {
                    let bindings = self.get(BOOTS).saturating_sub(before.get(BOOTS));
                    is > was + slack + BINDING * bindings
                }
                // Bounded: `boots.rs` has the number. Ports that asked nothing are shown too.
                BOOTS => is > 4096 + self.get("daemon: ports bound"),
                // Some begin with the first event of their kind, which the other process may not have seen, or which comes late.
                SERIES => between == Between::OneProcess && is > was + 16,
                "anomalies: instances" | "access: instances" => is > 4096,
                // Two rotated files, and the one that is written.
                "disk: audit log (KiB)" => is > 3 * 1024 + 64,
                // Less is what the other moment had not yet given back: tags of bindings that have ended, and their connections.
                "kernel: memory of pinned maps (bytes)" | "kernel: entries of TAGS" | "open files: socket" => is > was,
                "disk: snapshot (bytes)" => is.abs_diff(was) > 1024,
                _ => is != was,
            }
        };
        let differing = names.into_iter().filter(differs);
        differing.map(|name| format!("{name}: {} before, {} now", before.get(name), self.get(name))).collect()
    }
}

/// Returns the daemon's resident memory, in KiB.
pub(super) fn resident(world: &World) -> Result<u64> {
    status(&format!("/proc/{}", world.node.daemon_id().context("the daemon does not run")?), "VmRSS:")
}

/// Returns a number of the status that the kernel shows of a process.
fn status(process: &str, field: &str) -> Result<u64> {
    let text = fs::read_to_string(format!("{process}/status")).context("reading the daemon's status")?;
    let line = text.lines().find_map(|line| line.strip_prefix(field)).with_context(|| format!("no {field}"))?;
    line.split_whitespace().next().unwrap_or_default().parse().with_context(|| format!("{field} is no number"))
}

/// What an open file is.
fn kind(target: &str) -> String {
    let name = target.trim_start_matches("anon_inode:").trim_matches(['[', ']']);
    match name.split_once(":[") {
        Some((kind, _)) => kind.to_owned(),
        None => match name.strip_prefix("/") {
            // The node's directory has another name each time.
            Some(path) => path.rsplit('/').next().unwrap_or_default().to_owned(),
            None => name.to_owned(),
        },
    }
}

fn run(namespace: &Namespace, program: &str, words: &[&str]) -> Result<String> {
    command::run(namespace.command(program)?.args(words), "")
}

/// All files below a directory.
fn files(directory: &std::path::Path) -> Vec<std::path::PathBuf> {
    let mut all = Vec::new();
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            all.extend(files(&entry.path()));
        } else {
            all.push(entry.path());
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn open_files_are_of_a_kind() {
        for (target, expected) in [
            ("socket:[123]", "socket"),
            ("anon_inode:bpf-map", "bpf-map"),
            ("anon_inode:[eventpoll]", "eventpoll"),
            ("net:[4026531840]", "net"),
            ("/tmp/metadatad-lab-abc/daemon.log", "daemon.log"),
        ] {
            assert_eq!(kind(target), expected);
        }
    }

    #[test]
    fn what_grew_is_named_and_memory_may_by_what_the_history_of_boots_takes() {
        let census = |figures: &[(&str, u64)]| {
            Census(figures.iter().map(|(name, value)| ((*name).to_owned(), *value)).collect())
        };
        let before = census(&[(RESIDENT, 30_000), (BOOTS, 10), ("kernel: links", 4)]);
        let fine = census(&[(RESIDENT, 30_100 + 60), (BOOTS, 20), ("kernel: links", 4)]);
        assert_eq!(fine.differences(&before, Between::OneProcess, 100), Vec::<String>::new());
        let leaks = census(&[(RESIDENT, 30_100 + 61), (BOOTS, 20), ("kernel: links", 5), ("node: qdiscs", 1)]);
        assert_eq!(
            leaks.differences(&before, Between::OneProcess, 100),
            [
                "kernel: links: 4 before, 5 now",
                "memory: resident (KiB): 30000 before, 30161 now",
                "node: qdiscs: 0 before, 1 now"
            ]
        );
    }
}
