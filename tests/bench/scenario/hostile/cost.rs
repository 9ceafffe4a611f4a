//! What the limits cost a guest that keeps within them: a node that counts connections, packets and requests, and never too
//! many, against one that counts none.

use std::net::SocketAddr;

use anyhow::{Context as _, Result};
use lab::{Guest, Node, NodePlan};
use metadata_ebpf::addr::METADATA_IPV4;

use super::{PATH, WITHOUT};
use crate::Effort;
use crate::load::{Load, PORTS_UNLIMITED, UNLIMITED};
use crate::machine::pin;
use crate::progress;
use crate::result::{Case, Goal, Ratio, Run};
use crate::usage::Usage;

/// What the limits may take of the requests per second.
const WANTED: f64 = 0.98;

/// A node with its one guest.
struct Side {
    guest: Guest,
    node: Node,
}

impl Side {
    fn make(plan: NodePlan, pinned: bool) -> Result<Self> {
        let node = plan.start()?;
        if pinned {
            pin(node.daemon_id().context("the daemon runs")?, 0)?;
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
    let kind = if reconnect { "new connection each" } else { "keep-alive" };
    let mut case = Case::new("hostile", format!("a guest within the limits, {kind}, {connections} connections"));
    let server: SocketAddr = (METADATA_IPV4, 80).into();
    let load = Load { server, path: PATH.to_owned(), connections, reconnect, rate: None };
    let (mut rates, mut costs, mut sums) = (Vec::new(), Vec::new(), [(0.0, 0.0); 2]);
    for pair in effort.turns(&case.name.clone()) {
        let mut outcomes = [(0.0, 0.0); 2];
        for place in [pair % 2, (pair + 1) % 2].map(|place| place as usize) {
            let Side { guest, node } = &sides[place];
            let daemon = node.daemon_id().context("the daemon runs")?;
            let before = Usage::of(daemon)?;
            let outcome = guest.namespace().run(|| {
                if pinned {
                    pin(0, 1)?;
                }
                load.run(effort.slice)
            })?;
            let cpu = Usage::of(daemon)?.since(before).cpu;
            outcomes[place] = (outcome.rate(), cpu / outcome.requests as f64);
            sums[place].0 += outcome.requests as f64;
            sums[place].1 += cpu;
        }
        let [(rate, cost), (rate_without, cost_without)] = outcomes;
        rates.push(rate / rate_without);
        costs.push(cost / cost_without);
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
    for (name, (requests, cpu)) in ["counted", "not counted"].iter().zip(sums) {
        case.figure(format!("{name}, daemon's CPU µs per request"), cpu / requests * 1e6);
    }
    Ok(case)
}
