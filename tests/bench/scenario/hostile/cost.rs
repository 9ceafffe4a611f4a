//! What the limits cost a guest that keeps within them: a node that counts connections, packets and requests, and never too
//! many, against one that counts none.

use std::net::SocketAddr;

use anyhow::{Context as _, Result};
use lab::{Guest, Node, NodePlan};
use metadata_ebpf::addr::METADATA_IPV4;

use super::{PATH, WITHOUT};
use crate::Effort;
use crate::load::{Load, PORTS_UNLIMITED, UNLIMITED};
use crate::machine::{pin, prefer};
use crate::progress;
use crate::result::{Case, Goal, Ratio, Run};
use crate::usage::Usage;

/// What the limits may take of the requests per second.
const WANTED: f64 = 0.98;

/// Parts of a slice, between which those of the other side lie.
const PARTS: u32 = 10;

/// What came of a slice, or of several.
#[derive(Clone, Copy, Debug, Default)]
struct Slice {
    requests: f64,
    seconds: f64,
    cpu: f64,
}

/// A node with its one guest.
struct Side {
    guest: Guest,
    node: Node,
}

impl Side {
    fn make(plan: NodePlan, pinned: bool) -> Result<Self> {
        let node = plan.start()?;
        let daemon = node.daemon_id().context("the daemon runs")?;
        prefer(daemon)?;
        if pinned {
            pin(daemon, 0)?;
        }
        Ok(Self { guest: node.guest("guest").boot()?, node })
    }
}

pub(super) fn run(effort: Effort, run: &mut Run, pinned: bool) -> Result<()> {
    let counted = Side::make(NodePlan::default().ports(PORTS_UNLIMITED).further(UNLIMITED), pinned)?;
    let sides = [counted, Side::make(NodePlan::default().further(WITHOUT), pinned)?];
    for reconnect in [false, true] {
        for connections in [16, 64] {
            let case = measure(&sides, effort, pinned, reconnect, connections)?;
            progress::say(&format!("{}: {}", case.name, crate::page::ratios(&case)));
            run.cases.push(case);
        }
    }
    Ok(())
}

fn measure(sides: &[Side; 2], effort: Effort, pinned: bool, reconnect: bool, connections: usize) -> Result<Case> {
    let server: SocketAddr = (METADATA_IPV4, 80).into();
    let load = Load { server, path: PATH.to_owned(), connections, reconnect, header: String::new(), rate: None };
    let mut case = Case::new("hostile", format!("a guest within the limits, {}", load.connecting()));
    let (mut rates, mut costs, mut sums) = (Vec::new(), Vec::new(), [Slice::default(); 2]);
    for pair in effort.turns(&case.name.clone()) {
        let mut slices = [Slice::default(); 2];
        for part in 0..PARTS {
            for place in [(pair + part) % 2, (pair + part + 1) % 2].map(|place| place as usize) {
                let Side { guest, node } = &sides[place];
                let daemon = node.daemon_id().context("the daemon runs")?;
                let before = Usage::of(daemon)?;
                let outcome = guest.namespace().run(|| {
                    prefer(0)?;
                    if pinned {
                        pin(0, 1)?;
                    }
                    load.run(effort.slice / PARTS)
                })?;
                let cpu = Usage::of(daemon)?.since(before).cpu;
                for slice in [&mut slices[place], &mut sums[place]] {
                    slice.requests += outcome.requests as f64;
                    slice.seconds += outcome.elapsed.as_secs_f64();
                    slice.cpu += cpu;
                }
            }
        }
        let [with, without] = slices;
        rates.push((with.requests / with.seconds) / (without.requests / without.seconds));
        costs.push((with.cpu / with.requests) / (without.cpu / without.requests));
    }
    let ratio = |metric: &str, pairs, goal| Ratio {
        metric: metric.to_owned(),
        of: "counted".to_owned(),
        to: "not counted".to_owned(),
        pairs,
        goal,
    };
    case.ratios.push(ratio("requests/s", rates, Some(Goal::AtLeast(WANTED))));
    case.ratios.push(ratio("daemon's CPU per request", costs, None));
    for (name, sum) in ["counted", "not counted"].iter().zip(sums) {
        case.figure(format!("{name}, daemon's CPU µs per request"), sum.cpu / sum.requests * 1e6);
    }
    Ok(case)
}
