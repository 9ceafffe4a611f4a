//! `peers`: what an operator would take instead, asked the same by the same guest.
//!
//! Daemon and peer answer in turns, each with all of its processes counted. What a peer fails to answer is counted apart.

mod openstack;

use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use lab::Guest;

use crate::Effort;
use crate::load::{Load, Outcome, QUANTILES, histogram};
use crate::machine::pin;
use crate::result::{Case, Ratio, Run};
use crate::usage::{Usage, resident};

const US: &str = "metadatad";

pub(super) fn run(effort: Effort, run: &mut Run) -> Result<()> {
    if !effort.with_openstack {
        run.skip("peers", "OpenStack's chain", "it was not asked for: --with-openstack");
        return Ok(());
    }
    openstack::run(effort, run)
}

/// Asks two sides in turns from the guest's namespace: the daemon, then the peer. `take` makes the guest's requests go to the
/// one or the other.
fn compare(
    effort: Effort,
    processors: usize,
    guest: &Guest,
    load: &Load,
    mut sides: [Side; 2],
    take: impl Fn(usize) -> Result<()>,
) -> Result<Case> {
    let kind = if load.reconnect { "new connection each" } else { "keep-alive" };
    let (connections, plural) = (load.connections, if load.connections == 1 { "" } else { "s" });
    let peer = sides[1].name;
    let mut case = Case::new("peers", format!("{peer}, {kind}, {connections} connection{plural}"));
    let (mut rates, mut medians, mut costs) = (Vec::new(), Vec::new(), Vec::new());
    for pair in effort.turns(&case.name) {
        let mut slices = [Slice::default(), Slice::default()];
        for turn in [pair % 2, (pair + 1) % 2] {
            let place = usize::from(turn == 1);
            take(place)?;
            let side = &mut sides[place];
            let before = Usage::of_all(&side.processes)?;
            let (outcome, failures) = guest.namespace().run(|| {
                if processors > 1 {
                    pin(0, processors - 1)?;
                }
                load.run_with_failures(effort.slice)
            })?;
            let used = Usage::of_all(&side.processes)?.since(before);
            slices[place] = side.add(&outcome, failures, used)?;
        }
        let [ours, theirs] = slices;
        rates.push(ours.rate / theirs.rate);
        medians.push(ours.median / theirs.median);
        costs.push(theirs.cost / ours.cost);
    }
    for (metric, pairs) in [("requests/s", rates), ("median", medians), ("requests per CPU second", costs)] {
        case.ratios.push(Ratio {
            metric: metric.to_owned(),
            of: US.to_owned(),
            to: peer.to_owned(),
            pairs,
            goal: None,
        });
    }
    for side in &sides {
        side.figures(&mut case)?;
    }
    Ok(case)
}

/// What a slice gives to its pair.
#[derive(Clone, Copy, Debug, Default)]
struct Slice {
    rate: f64,
    median: f64,
    cost: f64,
}

/// All slices of one side.
struct Side {
    name: &'static str,
    processes: Vec<u32>,
    outcome: Outcome,
    failures: u64,
    used: Usage,
}

impl Side {
    fn new(name: &'static str, processes: Vec<u32>) -> Result<Self> {
        let outcome = Outcome { requests: 0, elapsed: Duration::ZERO, latency: histogram()? };
        Ok(Self { name, processes, outcome, failures: 0, used: Usage::default() })
    }

    fn add(&mut self, outcome: &Outcome, failures: u64, used: Usage) -> Result<Slice> {
        if outcome.requests == 0 {
            bail!("{} answered nothing within a slice: use a longer one (--slice)", self.name);
        }
        self.outcome.requests += outcome.requests;
        self.outcome.elapsed += outcome.elapsed;
        self.outcome.latency.add(&outcome.latency).context("adding histograms")?;
        self.failures += failures;
        self.used.cpu += used.cpu;
        self.used.switches += used.switches;
        Ok(Slice { rate: outcome.rate(), median: outcome.quantile(0.5), cost: used.cpu / outcome.requests as f64 })
    }

    fn figures(&self, case: &mut Case) -> Result<()> {
        let (name, requests) = (self.name, self.outcome.requests as f64);
        case.figure(format!("{name}, requests/s"), self.outcome.rate());
        for (what, at) in [("p50", 0.5), ("p99", 0.99), ("p99.9", 0.999)] {
            case.figure(format!("{name}, {what} µs"), self.outcome.quantile(at));
        }
        case.figure(format!("{name}, failed of 1,000"), self.failures as f64 * 1e3 / (requests + self.failures as f64));
        case.figure(format!("{name}, CPU µs per request"), self.used.cpu * 1e6 / requests);
        case.figure(format!("{name}, context switches per request"), self.used.switches / requests);
        let memory = self.processes.iter().map(|process| resident(*process)).sum::<Result<f64>>()?;
        case.figure(format!("{name}, MB resident"), memory);
        case.figure(format!("{name}, processes"), self.processes.len() as f64);
        case.latencies.insert(name.to_owned(), QUANTILES.map(|at| (at, self.outcome.quantile(at))).to_vec());
        Ok(())
    }
}
