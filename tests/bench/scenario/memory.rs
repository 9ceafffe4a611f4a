//! `memory`: what an instance and an idle port take, of the daemon's memory and of the kernel's.
//!
//! Instances: a daemon that knows none is looked at, then all documents arrive while it runs, by each of the sources that
//! hold documents; it is looked at again, and once more after a restart. Ports: a daemon without any, and one that starts on
//! a node with many, whose guests are not asking; what the kernel says that the pinned maps take is added.
//!
//! Left out: what the kernel has for a tap itself, for a link between it and a program, and for a file descriptor.

use std::fs;
use std::os::fd::{AsFd as _, AsRawFd as _};
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result};
use aya::maps::MapData;
use lab::{EtcdPlan, Node, NodePlan, Rack, wait};

use crate::progress;
use crate::result::{Case, Goal, Run};
use crate::usage::Memory;

const INSTANCES: u32 = 10_000;
const USER_DATA: usize = 2048;
/// What is wanted of that many instances, in megabytes resident.
const WANTED: f64 = 60.0;
const PORTS: u32 = 1024;
/// Longest time until all documents have arrived.
const PATIENCE: Duration = Duration::from_secs(120);
/// How long a daemon with nothing to do is left alone before its memory is looked at: it returns some every 5 s.
const SETTLED: Duration = Duration::from_secs(6);

pub(super) fn run(run: &mut Run) -> Result<()> {
    for measure in [from_directory, from_etcd, idle_ports] {
        let case = measure()?;
        progress::say(&case.name);
        run.cases.push(case);
    }
    Ok(())
}

fn from_directory() -> Result<Case> {
    progress::step("instances from a directory", 0, 1);
    let node = NodePlan::default().start()?;
    instances("a directory", &node, || documents().try_for_each(|document| document.write(&node.instances())))
}

fn from_etcd() -> Result<Case> {
    progress::step("instances from etcd", 0, 1);
    let plan = EtcdPlan::default();
    let source = format!("kind = \"etcd\"\n[source.etcd]\nendpoints = {:?}\nnode = \"n\"\n", plan.endpoints());
    let node = NodePlan::default().source(&source).make()?;
    let etcd = plan.start(node.namespace())?;
    node.start_daemon()?;
    instances("etcd", &node, || {
        node.namespace().run(|| {
            let (runtime, mut client) = super::sync::connect(&etcd.endpoints())?;
            documents().try_for_each(|document| {
                let key = format!("/metadatad/nodes/n/instances/{}", document.uuid());
                runtime.block_on(client.put(key, document.text(), None)).map(drop).context("putting a document")
            })
        })
    })
}

fn documents() -> impl Iterator<Item = lab::Document> {
    (1..=INSTANCES).map(|number| lab::rack::document(number).with_user_data(&[b'x'; USER_DATA]))
}

/// Looks at a daemon that knows no instance, lets all of them arrive, and looks again.
fn instances(source: &str, node: &Node, fill: impl FnOnce() -> Result<()>) -> Result<Case> {
    let mut case = Case::new("memory", format!("{INSTANCES} instances with 2 KB of user data, from {source}"));
    let before = settled(node)?;
    fill()?;
    let all_arrived = || {
        wait::until_within(PATIENCE, "all instances are there", || {
            Ok((node.source()?["instances"] == INSTANCES).then_some(()))
        })
    };
    all_arrived()?;
    let after = settled(node)?;
    node.stop_daemon()?;
    node.start_daemon()?;
    all_arrived()?;
    let again = settled(node)?;
    case.figure("daemon, MB resident without any", before.resident);
    for (when, memory) in [("with all", after), ("after a restart", again)] {
        case.judged(format!("daemon, MB resident {when}"), memory.resident, Some(Goal::AtMost(WANTED)));
        case.figure(format!("daemon, MB anonymous {when}"), memory.anonymous);
        let more = (memory.anonymous - before.anonymous) * (1 << 20) as f64;
        case.figure(format!("daemon, bytes per instance {when}"), more / f64::from(INSTANCES));
    }
    Ok(case)
}

fn idle_ports() -> Result<Case> {
    progress::step("idle ports", 0, 1);
    let mut case = Case::new("memory", format!("{PORTS} idle ports, each with its instance"));
    let empty = NodePlan::default().ports("").start()?;
    let before = (settled(&empty)?, maps(&empty.pins())?);
    drop(empty);
    let node = NodePlan::default().ports("").make()?;
    let _rack = Rack::plug(&node, PORTS, |document| document)?;
    node.start_daemon()?;
    super::scale::wait_bound(&node, PORTS)?;
    let after = (settled(&node)?, maps(&node.pins())?);
    let each = |more: f64| more / f64::from(PORTS);
    let anonymous = (after.0.anonymous - before.0.anonymous) * (1 << 20) as f64;
    case.figure("daemon, bytes per port", each(anonymous));
    case.figure("daemon, open files per port", each(after.0.files - before.0.files));
    case.figure("kernel's maps, bytes per port", each(after.1 - before.1));
    case.figure("kernel's maps without a port, KB", before.1 / 1024.0);
    Ok(case)
}

/// Looks at the daemon's memory once it has given back what it took to get here; there is no event to wait for.
fn settled(node: &Node) -> Result<Memory> {
    std::thread::sleep(SETTLED);
    Memory::of(node.daemon_id().context("the daemon runs")?)
}

/// Returns the bytes that the pinned maps take, as `bpftool map show` has them.
fn maps(pins: &Path) -> Result<f64> {
    let mut bytes = 0.0;
    for entry in fs::read_dir(pins).with_context(|| format!("listing {}", pins.display()))? {
        let path = entry?.path();
        // Programs and links are pinned there too, and directories of them.
        let Ok(map) = MapData::from_pin(&path) else { continue };
        let info = format!("/proc/self/fdinfo/{}", map.fd().as_fd().as_raw_fd());
        let text = fs::read_to_string(&info).with_context(|| format!("reading {info}"))?;
        let memory = text.lines().find_map(|line| line.strip_prefix("memlock:"));
        bytes += memory.and_then(|number| number.trim().parse::<f64>().ok()).context("a map's memory")?;
    }
    Ok(bytes)
}
