//! What was measured, and how it is printed.

use std::fmt;
use std::time::Duration;

use metadata_user::admin::wire::Lag;

use super::Plan;
use crate::openstack::{Counts, Kind};
use crate::usage::Usage;

/// A phase of the measurement.
#[derive(Clone, Debug)]
pub struct Phase {
    /// How long it took until what it is about was done: documents written, or a controller leading.
    pub time: Duration,
    /// What OpenStack was asked until nothing more came of it.
    pub requests: Counts,
    /// From its beginning until these were counted.
    pub counted: Duration,
    /// The most of that in one second.
    pub most: u64,
    pub(super) cpu: Duration,
    /// The controller at its end.
    pub(super) usage: Usage,
    /// From a change to its document in etcd.
    pub(super) latencies: Vec<Duration>,
    /// The controller's own figure: from a notification to etcd.
    pub(super) lag: Lag,
}

impl Phase {
    pub(super) fn with(self, mut latencies: Vec<Duration>, lag: Lag) -> Self {
        latencies.sort_unstable();
        Self { latencies, lag, ..self }
    }

    fn quantile(&self, hundredths: usize) -> Duration {
        let rank = (self.latencies.len() * hundredths).div_ceil(100).max(1) - 1;
        self.latencies.get(rank).copied().unwrap_or_default()
    }
}

/// What was measured.
#[derive(Clone, Debug)]
pub struct Figures {
    pub(super) plan: Plan,
    /// The controller when it had just started.
    pub(super) idle: Usage,
    /// Nothing is in etcd, and everything is read.
    pub fill: Phase,
    /// Instances change at once.
    pub burst: Phase,
    /// Instances change one after the other.
    pub paced: Phase,
    /// Nothing changes.
    pub quiet: Phase,
    /// The leader is killed, and another one leads.
    pub take_over: Phase,
    pub(super) database: u64,
    pub(super) document: usize,
    pub(super) etcd: Usage,
}

impl fmt::Display for Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Plan { instances, nodes, rate, requests, .. } = self.plan;
        let mut row = |name: &str, value: String| writeln!(f, "{name:<36} {value}");
        row("instances, nodes", format!("{instances}, {nodes}: documents of {} bytes on average", self.document))?;
        row(
            "the controller may ask",
            format!(
                "{rate} requests a second, {requests} at a time; each takes {:?}; a list every {:?}",
                self.plan.delay, self.plan.list_interval
            ),
        )?;
        let each = |phase: &Phase, of: u32| {
            let share = phase.requests.all() as f64 / f64::from(of.max(1));
            format!(
                "{:.1?}; in {:.1?} requests {} ({share:.1} for each), at most {} in a second; CPU {:.2?}; {} resident",
                phase.time,
                phase.counted,
                phase.requests,
                phase.most,
                phase.cpu,
                mega(phase.usage.resident)
            )
        };
        row("first fill", each(&self.fill, instances))?;
        for (name, phase, count) in [
            ("changes at once", &self.burst, self.plan.changes.min(instances)),
            ("changes at a pace", &self.paced, self.plan.paced.min(instances)),
        ] {
            row(&format!("{count} {name}"), each(phase, count))?;
            row(
                "  from change to etcd",
                format!(
                    "p50 {:.1?}, p99 {:.1?}, most {:.1?}",
                    phase.quantile(50),
                    phase.quantile(99),
                    phase.quantile(100)
                ),
            )?;
            row(
                "  the controller's own figure",
                format!("p50 {} ms, p99 {} ms of the last 1000", phase.lag.p50_ms, phase.lag.p99_ms),
            )?;
        }
        let hours = self.quiet.counted.as_secs_f64() / 3600.0;
        let hourly = |count: u64| count as f64 / f64::from(instances.max(1)) / hours;
        row("quiet", each(&self.quiet, instances))?;
        row(
            "  per instance and hour",
            format!(
                "{:.2} requests, {:.2} of them to the metadata API; the configured rate allows {:.1}",
                hourly(self.quiet.requests.all()),
                hourly(self.quiet.requests.of(Kind::Page)),
                f64::from(rate) * 3600.0 / f64::from(instances.max(1))
            ),
        )?;
        row("take-over", each(&self.take_over, instances))?;
        let grown = self.fill.usage.resident.saturating_sub(self.idle.resident) / u64::from(instances.max(1));
        row(
            "the controller's memory",
            format!(
                "{} at its start, {} after the fill ({:.1} KB per instance), {} after the changes, {} at most",
                mega(self.idle.resident),
                mega(self.fill.usage.resident),
                grown as f64 / 1000.0,
                mega(self.quiet.usage.resident),
                mega(self.quiet.usage.peak)
            ),
        )?;
        row("etcd", format!("database {}, {} resident", mega(self.database), mega(self.etcd.resident)))
    }
}

fn mega(bytes: u64) -> String {
    format!("{:.1} MB", bytes as f64 / 1e6)
}
