//! `scale`: how start, memory and answers grow with ports and instances.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use lab::{Node, NodePlan, Rack};
use metadata_ebpf::abi::PORT_HELD;

use crate::Effort;
use crate::load::{Load, UNLIMITED};
use crate::progress;
use crate::result::{Case, Goal, Ratio, Run};
use crate::usage::resident;

const PORTS: [u32; 4] = [10, 100, 300, 1000];
const INSTANCES: [u32; 4] = [10, 100, 1000, 10_000];
/// How long a daemon with nothing to do is left alone before its memory is looked at.
const SETTLED: Duration = Duration::from_secs(6);

/// Waits until this many ports are bound.
pub(super) fn wait_bound(node: &Node, ports: u32) -> Result<()> {
    lab::wait::until("all ports are bound", || {
        let bound = node.ports()?.values().filter(|port| port.flags & PORT_HELD == 0).count();
        Ok((bound >= ports as usize).then_some(()))
    })
}

pub(super) fn run(effort: Effort, run: &mut Run) -> Result<()> {
    for ports in PORTS {
        progress::step(&format!("{ports} ports"), 0, 1);
        let case = with_ports(ports)?;
        progress::say(&case.name);
        run.cases.push(case);
    }
    for instances in INSTANCES {
        progress::step(&format!("{instances} instances"), 0, 1);
        let case = with_instances(instances)?;
        progress::say(&case.name);
        run.cases.push(case);
    }
    run.cases.extend(per_port(run));
    run.cases.push(few_against_many(effort)?);
    Ok(())
}

fn with_ports(ports: u32) -> Result<Case> {
    let node = NodePlan::default().make()?;
    let rack = Rack::plug(&node, ports, |document| document)?;
    let mut case = Case::new("scale", format!("{ports} ports"));
    started(&node, ports, &mut case)?;
    if ports == PORTS[3] {
        // What is wanted of the largest node.
        case.goals.insert("seconds until all ports are bound".to_owned(), Goal::AtMost(3.0));
    }
    let start = Instant::now();
    let served = rack.served()?;
    case.figure("seconds for one answer each, one after the other", start.elapsed().as_secs_f64());
    case.figure("guests that read their own", f64::from(served));
    Ok(case)
}

fn with_instances(instances: u32) -> Result<Case> {
    let node = NodePlan::default().make()?;
    for number in 1..=instances {
        lab::rack::document(number).with_user_data(&[b'x'; 2048]).write(&node.instances())?;
    }
    let mut case = Case::new("scale", format!("{instances} instances with 2 KB of user data, no port"));
    started(&node, 0, &mut case)?;
    Ok(case)
}

/// Starts the daemon and adds how long that took, and what memory it has.
fn started(node: &Node, ports: u32, case: &mut Case) -> Result<()> {
    let start = Instant::now();
    node.start_daemon()?;
    case.figure("seconds until ready", start.elapsed().as_secs_f64());
    wait_bound(node, ports)?;
    case.figure("seconds until all ports are bound", start.elapsed().as_secs_f64());
    // What it took to get there is given back within seconds; there is no event to wait for.
    std::thread::sleep(SETTLED);
    case.figure("daemon, MB resident before any request", resident(node.daemon_id().context("the daemon runs")?)?);
    Ok(())
}

/// What each further port that nobody asks through takes of the daemon's memory.
fn per_port(run: &Run) -> Option<Case> {
    let memory = |ports: u32| {
        let name = format!("{ports} ports");
        let case = run.cases.iter().find(|case| case.scenario == "scale" && case.name == name)?;
        case.figures.get("daemon, MB resident before any request").copied()
    };
    let [few, many] = [PORTS[0], PORTS[3]];
    let kilobytes = (memory(many)? - memory(few)?) * 1024.0 / f64::from(many - few);
    let mut case = Case::new("scale", "an idle port with its instance");
    case.judged("daemon, KB resident per port", kilobytes, Some(Goal::AtMost(8.0)));
    Some(case)
}

/// The same request on a node with 10 ports and on one with 1,000, in turns.
fn few_against_many(effort: Effort) -> Result<Case> {
    let worlds = [PORTS[0], PORTS[3]].map(|ports| {
        let node = NodePlan::default().further(UNLIMITED).make()?;
        let rack = Rack::plug(&node, ports, |document| document)?;
        node.start_daemon()?;
        wait_bound(&node, ports)?;
        let server = *rack.servers()?.last().context("there are guests")?;
        anyhow::Ok((node, rack, server))
    });
    let [few, many] = worlds;
    let (few, many) = (few?, many?);
    let mut pairs = Vec::new();
    for pair in effort.turns("a request with 1,000 ports") {
        let ask = |world: &(Node, Rack, std::net::SocketAddrV6)| {
            let load = Load {
                server: world.2.into(),
                path: "/latest/meta-data/instance-id".to_owned(),
                connections: 1,
                reconnect: false,
                header: String::new(),
                rate: None,
            };
            anyhow::Ok(world.1.namespace().run(|| load.run(effort.slice))?.quantile(0.5))
        };
        let (many, few) = if pair % 2 == 0 {
            let few = ask(&few)?;
            (ask(&many)?, few)
        } else {
            (ask(&many)?, ask(&few)?)
        };
        pairs.push(many / few);
    }
    let mut case = Case::new("scale", "a request with 1,000 ports");
    case.ratios.push(Ratio {
        metric: "median".to_owned(),
        of: "1,000 ports".to_owned(),
        to: "10 ports".to_owned(),
        pairs,
        goal: Some(Goal::AtMost(1.05)),
    });
    Ok(case)
}
