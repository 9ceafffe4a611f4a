//! `intercept`: what the programs and the translation cost a request.
//!
//! One daemon, two ways to it, in turns: from a guest through its tap, and over a plain veth pair into the responder's
//! namespace, from the identity address that the guest's packets get. So daemon, listening socket, content and even the
//! limits of the port are the same; the difference is the programs. The plain way is what no answer from user space can
//! beat: IPv6, with one device less in between than a guest has.
//!
//! A slice is measured in parts, between which those of the other way lie, so that what else the machine does meets both, and
//! other programs get a hundredth of the processors.
//! At a fixed rate, where the tail is looked at, daemon and client have precedence over everything else on their processors:
//! what is measured is the way, and not how programs share the machine. A pause of the whole machine still delays
//! hundreds of requests at once; so a slice's p99 is the median of its parts' p99, each of at least ten slower requests.

use std::net::{Ipv6Addr, SocketAddr, SocketAddrV6};

use anyhow::{Context as _, Result};
use lab::{Guest, Namespace, Node, NodePlan};
use metadata_ebpf::addr::{Family, IdentityAddress, METADATA_IPV4, METADATA_IPV6, METADATA_MAC, RESPONDER_IPV6, Vlan};

use crate::Effort;
use crate::load::{Load, Outcome, PORTS_UNLIMITED, QUANTILES, UNLIMITED};
use crate::machine::{give_precedence_back, pin, prefer, take_precedence};
use crate::result::{Case, Goal, Ratio, Run};
use crate::stats::Spread;
use crate::usage::{Usage, resident};

const SMALL: &str = "/latest/meta-data/instance-id";
const LARGE: &str = "/latest/user-data";
const LARGE_BODY: usize = 64 << 10;
/// Most parts of a slice.
const PARTS: u32 = 10;
/// Requests of which ten are slower than the p99.
const ENOUGH: f64 = 1000.0;
/// The figure that says how fast it goes through the tap.
const RATE: &str = "tap, requests/s";

/// The daemon, a guest, and the plain way.
struct World {
    guest: Guest,
    plain: Namespace,
    node: Node,
}

impl World {
    fn make() -> Result<Self> {
        // The client closes by reset: the daemon sees that a little later, and must not refuse the next one meanwhile.
        let node = NodePlan::default().ports(PORTS_UNLIMITED).further(UNLIMITED).start()?;
        let guest = node.guest("bench").document(|document| document.with_user_data(&vec![b'x'; LARGE_BODY])).boot()?;
        let world = Self { plain: Namespace::create("plain")?, guest, node };
        world.join()?;
        Ok(world)
    }

    /// Makes the plain way.
    fn join(&self) -> Result<()> {
        let responder = self.node.responder();
        let tag = self.node.ports()?.get(&self.guest.ifindex()).context("the guest's port is not there")?.tag;
        // A guest that has this IPv6 address would be seen under this one.
        let identity =
            IdentityAddress { family: Family::Ipv6, vlan: Vlan::default(), tag, guest: [0, 0, 0, 0, 0, 0, 0, 1] };
        let (identity, server) = (Ipv6Addr::from(identity.encode()), Ipv6Addr::from(RESPONDER_IPV6));
        let (near, far) = ("02:00:00:00:00:01", "02:00:00:00:00:02");
        responder.ip(&format!(
            "link add plain0 address {near} mtu 1500 type veth peer name eth0 address {far} mtu 1500 netns {}",
            self.plain.name()
        ))?;
        responder.ip("link set plain0 up")?;
        self.plain.ip("link set eth0 up")?;
        responder.ip(&format!("route add {identity}/128 dev plain0"))?;
        responder.ip(&format!("neigh add {identity} lladdr {far} dev plain0 nud permanent"))?;
        self.plain.ip(&format!("addr add {identity}/128 dev eth0 nodad"))?;
        self.plain.ip(&format!("route add {server}/128 dev eth0 src {identity}"))?;
        self.plain.ip(&format!("neigh add {server} lladdr {near} dev eth0 nud permanent"))?;
        // The guest need not look for the service's MAC either.
        let mac = lab::guest::mac_text(METADATA_MAC);
        let namespace = self.guest.namespace();
        namespace.ip(&format!("neigh replace {} lladdr {mac} dev eth0", std::net::Ipv4Addr::from(METADATA_IPV4)))?;
        namespace.ip(&format!("neigh replace {} lladdr {mac} dev eth0", Ipv6Addr::from(METADATA_IPV6)))?;
        Ok(())
    }

    fn through_the_tap(&self, family: Family) -> Result<SocketAddr> {
        Ok(match family {
            Family::Ipv4 => (METADATA_IPV4, 80).into(),
            Family::Ipv6 => {
                let scope = self.guest.namespace().ifindex("eth0")?;
                SocketAddrV6::new(METADATA_IPV6.into(), 80, 0, scope).into()
            }
        })
    }
}

pub(super) fn run(effort: Effort, run: &mut Run) -> Result<()> {
    let world = World::make()?;
    let daemon = world.node.daemon_id().context("the daemon runs")?;
    prefer(daemon)?;
    if run.machine.processors > 1 {
        pin(daemon, 0)?;
    }
    for family in [Family::Ipv4, Family::Ipv6] {
        for (size, path) in [("small", SMALL), ("64 KB", LARGE)] {
            for reconnect in [false, true] {
                for connections in [1, 16, 64] {
                    let load = Load {
                        server: world.through_the_tap(family)?,
                        path: path.to_owned(),
                        connections,
                        reconnect,
                        header: String::new(),
                        rate: None,
                    };
                    let mut ask = |load: &Load| {
                        let case = compare(&world, daemon, effort, run.machine.processors > 1, load, family, size)?;
                        crate::progress::say(&format!("{}: {}", case.name, crate::page::ratios(&case)));
                        let rate = case.figures.get(RATE).copied();
                        run.cases.push(case);
                        anyhow::Ok(rate)
                    };
                    let rate = ask(&load)?;
                    if connections == 16 {
                        // As fast as it goes, nobody waits but for the answer. So once more at half of that rate, with the
                        // time of a request counted from when it was due.
                        ask(&Load { rate: rate.map(|rate| rate / 2.0), ..load })?;
                    }
                }
            }
        }
    }
    Ok(())
}

fn compare(
    world: &World,
    daemon: u32,
    effort: Effort,
    pinned: bool,
    tap: &Load,
    family: Family,
    size: &str,
) -> Result<Case> {
    let plain = Load { server: (RESPONDER_IPV6, 80).into(), ..tap.clone() };
    let parts = parts(tap.rate, effort);
    // With one processor, a client that has precedence would leave nothing to the daemon.
    let has_precedence = pinned && tap.rate.is_some();
    let ask = |namespace: &Namespace, load: &Load| {
        namespace.run(|| {
            prefer(0)?;
            if pinned {
                pin(0, 1)?;
            }
            if has_precedence {
                take_precedence(0)?;
            }
            load.run(effort.slice / parts)
        })
    };
    let mut case = Case::new("intercept", name(tap, family, size));
    let mut sums = [("tap", Sum::new()?), ("plain", Sum::new()?)];
    let (mut rates, mut medians, mut slow, mut costs) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    if has_precedence {
        take_precedence(daemon)?;
    }
    for pair in effort.turns(&case.name.clone()) {
        let mut slices = [Sum::new()?, Sum::new()?];
        for part in 0..parts {
            // Who is first changes, so that a drift of the machine does not favour one.
            for turn in [(pair + part) % 2, (pair + part + 1) % 2] {
                let before = Usage::of(daemon)?;
                let outcome = if turn == 0 { ask(world.guest.namespace(), tap)? } else { ask(&world.plain, &plain)? };
                let used = Usage::of(daemon)?.since(before);
                let place = usize::from(turn == 1);
                sums[place].1.add(&outcome, used)?;
                slices[place].add(&outcome, used)?;
            }
        }
        let [tap, plain] = slices;
        rates.push(tap.outcome.rate() / plain.outcome.rate());
        medians.push(tap.outcome.quantile(0.5) / plain.outcome.quantile(0.5));
        slow.push(tap.slow() / plain.slow());
        costs.push(tap.cost() / plain.cost());
    }
    if has_precedence {
        give_precedence_back(daemon)?;
    }
    let connections = tap.connections;
    let wanted = connections == 16 && size == "small" && tap.rate.is_none();
    let ratio = |metric: &str, pairs, goal: Option<Goal>| Ratio {
        metric: metric.to_owned(),
        of: "through the tap".to_owned(),
        to: "plain veth".to_owned(),
        pairs,
        goal,
    };
    let least = if tap.reconnect { 0.90 } else { 0.92 };
    match tap.rate {
        None => case.ratios.push(ratio("requests/s", rates, wanted.then_some(Goal::AtLeast(least)))),
        Some(rate) => case.figure("asked on each way, requests/s", rate),
    }
    case.ratios.push(ratio("median", medians, (wanted && !tap.reconnect).then_some(Goal::AtMost(1.08))));
    if tap.rate.is_some() {
        case.ratios.push(ratio("p99", slow, (size == "small").then_some(Goal::AtMost(1.25))));
    }
    case.ratios.push(ratio("daemon's CPU per request", costs, None));
    for (name, sum) in &sums {
        sum.figures(name, &mut case);
    }
    case.figure("daemon, MB resident", resident(daemon)?);
    Ok(case)
}

/// Into how many parts a slice is divided: with a rate, each has enough requests for a p99.
fn parts(rate: Option<f64>, effort: Effort) -> u32 {
    let most = rate.map_or(f64::from(PARTS), |rate| rate * effort.slice.as_secs_f64() / ENOUGH);
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "between 1 and PARTS")]
    let parts = most.clamp(1.0, f64::from(PARTS)) as u32;
    parts
}

fn name(load: &Load, family: Family, size: &str) -> String {
    let family = if family == Family::Ipv4 { "IPv4" } else { "IPv6" };
    let pace = if load.rate.is_some() { ", at half the rate" } else { "" };
    format!("{family}, {size}, {}{pace}", load.connecting())
}

/// Several slices of one way, or the parts of one.
struct Sum {
    outcome: Outcome,
    used: Usage,
    /// The p99 of each, in microseconds.
    slow: Vec<f64>,
}

impl Sum {
    fn new() -> Result<Self> {
        Ok(Self { outcome: Outcome::nothing()?, used: Usage::default(), slow: Vec::new() })
    }

    fn add(&mut self, outcome: &Outcome, used: Usage) -> Result<()> {
        self.outcome.add(outcome)?;
        self.used.cpu += used.cpu;
        self.used.switches += used.switches;
        self.slow.push(outcome.quantile(0.99));
        Ok(())
    }

    /// Returns the p99 in microseconds, that of most parts.
    fn slow(&self) -> f64 {
        Spread::of(&self.slow).median
    }

    /// Returns the daemon's processor seconds for a request.
    fn cost(&self) -> f64 {
        self.used.cpu / self.outcome.answered()
    }

    fn figures(&self, name: &str, case: &mut Case) {
        let requests = self.outcome.answered();
        case.figure(format!("{name}, requests/s"), self.outcome.rate());
        self.outcome.figures(name, case);
        case.figure(format!("{name}, daemon's CPU µs per request"), self.used.cpu * 1e6 / requests);
        case.figure(format!("{name}, daemon's context switches per request"), self.used.switches / requests);
        let quantiles = QUANTILES.map(|at| (at, self.outcome.quantile(at)));
        case.latencies.insert(name.to_owned(), quantiles.to_vec());
    }
}
