//! What was measured of a fleet, and how it is printed.

use std::fmt;
use std::time::Duration;

use super::changes::Latencies;
use super::plan::Plan;
use super::storm::Storm;
use crate::usage::Usage;

/// What was measured.
#[derive(Clone, Debug)]
pub struct Figures {
    pub(super) plan: Plan,
    pub(super) document: usize,
    pub(super) database: i64,
    pub(super) filled: Usage,
    pub(super) loaded: Duration,
    pub(super) load_cpu: Duration,
    pub(super) idle: Usage,
    pub(super) fleet: Usage,
    /// One change at a time.
    pub alone: Latencies,
    /// At the plan's rate.
    pub paced: Latencies,
    pub(super) after: Usage,
    /// etcd was killed and started; the nodes went on where they were.
    pub resumed: Storm,
    /// The same, compacted before: every node reads everything again.
    pub compacted: Storm,
}

impl fmt::Display for Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Plan { nodes, instances, .. } = self.plan;
        let mut row = |name: &str, value: String| writeln!(f, "{name:<34} {value}");
        row(
            "nodes, instances of each",
            format!("{nodes}, {instances}: {} documents of {} bytes", nodes * instances, self.document),
        )?;
        row("etcd's database", mega(u64::try_from(self.database).unwrap_or(0)))?;
        row("etcd before the nodes", resident(&self.filled))?;
        row("all nodes read everything", format!("{:.2?}, etcd's CPU {:.2?}", self.loaded, self.load_cpu))?;
        row("etcd with the nodes", resident(&self.idle))?;
        let nodes_count = u64::try_from(nodes).unwrap_or(1).max(1);
        let more = self.idle.anonymous.saturating_sub(self.filled.anonymous) / nodes_count;
        row("  of it per node", format!("{} KB anonymous", more / 1000))?;
        row(
            "the fleet's process",
            format!("{}, {} KB per node", mega(self.fleet.resident), self.fleet.resident / nodes_count / 1000),
        )?;
        for (name, one) in [("put to store, one at a time", &self.alone), ("put to store, paced", &self.paced)] {
            row(
                name,
                format!(
                    "p50 {:.2?}, p99 {:.2?}, most {:.2?} ({} changes in {:.1?}, etcd's CPU {:.2?}, {} at a wrong node)",
                    one.quantile(0.5),
                    one.quantile(0.99),
                    one.quantile(1.0),
                    one.sorted.len(),
                    one.wall,
                    one.cpu,
                    one.wrong
                ),
            )?;
        }
        row("etcd after the changes", resident(&self.after))?;
        for (name, storm) in
            [("etcd back, all go on", &self.resumed), ("etcd back compacted, all read again", &self.compacted)]
        {
            row(
                name,
                format!(
                    "first node {:.2?}, half {:.2?}, last {:.2?} after its start; etcd's CPU {:.2?}, peak {}; {} read again",
                    storm.first,
                    storm.half,
                    storm.last,
                    storm.cpu,
                    mega(storm.peak),
                    storm.resyncs
                ),
            )?;
        }
        Ok(())
    }
}

fn mega(bytes: u64) -> String {
    format!("{} MB", bytes / 1_000_000)
}

fn resident(usage: &Usage) -> String {
    format!("{} resident, {} anonymous, {} open files", mega(usage.resident), mega(usage.anonymous), usage.files)
}
