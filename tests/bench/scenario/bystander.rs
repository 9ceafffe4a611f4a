//! `bystander`: what `from_guest` costs those who never ask for metadata.
//!
//! First packets between a guest and somebody behind the node's bridge, with the program on the guest's tap, with one that
//! returns at once, and without, in turns, while the same flow goes on. It is on one processor, and what is looked at is how
//! far a second of that processor goes, for sender, receiver and the kernel together: how fast two processors hand each other
//! a flow changes by itself, by half. Then the programs themselves: how many nanoseconds more than an empty program
//! they need for a frame. On a tap of the tun driver, the same with `from_guest_xdp`, and a flood beyond the limits ([`tap`]). No
//! daemon runs: other traffic does not come near it.

use std::net::Ipv4Addr;

use anyhow::{Context as _, Result};
use aya::programs::{LinkOrder, SchedClassifier, TcAttachType, tc::TcAttachOptions};
use aya::sys::{Stats, enable_stats};
use aya::util::KernelVersion;
use lab::Namespace;
use lab::guest::mac_text;

use crate::Effort;
use crate::progress;
use crate::result::{Case, Goal, Ratio, Run};
use frames::{GUEST_IPV4, GUEST_MAC, PEER_IPV4, verdict};
use programs::Programs;
use traffic::{Flow, Kind};

mod frames;
mod programs;
mod tap;
mod traffic;

const TAP: &str = "tap0";
/// Where the kernel's test runs say that a frame came in. So the guest of these runs is the port of that interface.
const LOOPBACK: u32 = 1;
/// Runs of a program on one frame that it leaves as it is.
const REPEAT: u32 = 500_000;
/// Parts of a slice, between which those of the other sides lie.
const PARTS: u32 = 10;
/// Runs on a new frame each.
const FRESH: u32 = 1_000;

/// A bridge with the guest's tap on it, and somebody else behind another port.
struct World {
    node: Namespace,
    guest: Namespace,
    peer: Namespace,
}

impl World {
    fn make() -> Result<Self> {
        let world = Self {
            node: Namespace::create("node")?,
            guest: Namespace::create("guest")?,
            peer: Namespace::create("peer")?,
        };
        world.node.ip("link add br0 type bridge mcast_snooping 0")?;
        world.node.ip("link set br0 up")?;
        for (namespace, end, mac, address) in [
            (&world.guest, TAP, mac_text(GUEST_MAC), GUEST_IPV4),
            (&world.peer, "far", mac_text([0xfa, 0x16, 0x3e, 0, 0, 2]), PEER_IPV4),
        ] {
            world.node.ip_batch(&format!(
                "link add {end} type veth peer name eth0 address {mac} netns {}\nlink set {end} master br0 up\n",
                namespace.name()
            ))?;
            namespace.ip_batch(&format!("link set eth0 up\naddr add {}/24 dev eth0\n", Ipv4Addr::from(address)))?;
        }
        Ok(world)
    }

    /// Does something with a program on the tap, and takes it off again.
    fn with<T>(&self, program: &mut SchedClassifier, work: impl FnOnce() -> Result<T>) -> Result<T> {
        let options = if has_tcx() {
            TcAttachOptions::TcxOrder(LinkOrder::first())
        } else {
            TcAttachOptions::Netlink(Default::default())
        };
        let link = self.node.run(|| {
            if !has_tcx() {
                // There already, from the time before.
                let _ = aya::programs::tc::qdisc_add_clsact(TAP);
            }
            program.attach_with_options(TAP, TcAttachType::Ingress, options).context("attaching to the tap")
        })?;
        let result = work();
        self.node.run(|| program.detach(link).context("detaching from the tap"))?;
        result
    }
}

pub(super) fn run(effort: Effort, run: &mut Run) -> Result<()> {
    let world = World::make()?;
    let mut programs = Programs::load(LOOPBACK)?;
    let pinned = run.machine.processors > 1;
    for (kind, name, unit) in [
        (Kind::Bulk, "TCP, large segments", "GB per CPU second"),
        (Kind::Datagrams, "UDP, small packets", "packets per CPU second"),
        (Kind::Turns, "TCP, a byte there and back", "turns per CPU second"),
    ] {
        let case = compare(&world, &mut programs, effort, pinned, kind, name, unit)?;
        progress::say(&format!("{}: {}", case.name, crate::page::ratios(&case)));
        run.cases.push(case);
    }
    for case in tap::cases(effort, pinned)? {
        progress::say(&format!("{}: {}", case.name, crate::page::ratios(&case)));
        run.cases.push(case);
    }
    for case in [foreign(&mut programs, effort)?, own(&mut programs, effort)?] {
        progress::say(&format!("{}: {}", case.name, crate::page::ratios(&case)));
        run.cases.push(case);
    }
    Ok(())
}

fn compare(
    world: &World,
    programs: &mut Programs,
    effort: Effort,
    pinned: bool,
    kind: Kind,
    name: &str,
    unit: &str,
) -> Result<Case> {
    let flow = Flow::start(kind, &world.guest, &world.peer, PEER_IPV4.into(), pinned)?;
    let scale = if kind == Kind::Bulk { 1e9 } else { 1.0 };
    let slice = |length| {
        let (used, before) = (flow.cpu()?, flow.count());
        std::thread::sleep(length);
        anyhow::Ok((flow.count() - before) as f64 / (flow.cpu()? - used) / scale)
    };
    let mut case = Case::new("bystander", name);
    let sides = [("from_guest", "with from_guest"), ("empty", "with an empty program"), ("", "without")];
    let mut rates: [Vec<f64>; 3] = Default::default();
    // One that is not counted: buffers and windows grow.
    slice(effort.slice)?;
    for pair in effort.turns(name) {
        let mut sums = [0.0; 3];
        // The rate of a flow changes by itself, over tenths of a second: the sides of a pair lie between one another.
        for part in 0..PARTS {
            for turn in 0..3 {
                let side = ((pair + part + turn) % 3) as usize;
                let work = || slice(effort.slice / PARTS);
                sums[side] += match sides[side].0 {
                    "" => work()?,
                    program => world.with(programs.get(program)?, work)?,
                } / f64::from(PARTS);
            }
        }
        for (rates, sum) in rates.iter_mut().zip(sums) {
            rates.push(sum);
        }
    }
    for (side, goal) in [(0, (kind != Kind::Turns).then_some(Goal::AtLeast(0.99))), (1, None)] {
        case.ratios.push(Ratio {
            metric: unit.to_owned(),
            of: sides[side].1.to_owned(),
            to: "without".to_owned(),
            pairs: rates[side].iter().zip(&rates[2]).map(|(with, without)| with / without).collect(),
            goal,
        });
    }
    for ((_, side), rates) in sides.iter().zip(&rates) {
        case.figure(format!("{side}, {unit}"), crate::stats::Spread::of(rates).median);
    }
    // Counting costs more than the program does, so it has a slice of its own for each.
    for name in ["from_guest", "empty"] {
        let stats = enable_stats(Stats::RunTime).context("enabling bpf_stats")?;
        let before = programs.spent(name)?;
        world.with(programs.get(name)?, || slice(effort.slice))?;
        let after = programs.spent(name)?;
        drop(stats);
        case.figure(format!("{name}, ns in this flow by bpf_stats"), after.mean_since(&before));
    }
    flow.end()?;
    Ok(case)
}

/// What the program needs for a frame that it lets pass, beyond what any program needs.
fn foreign(programs: &mut Programs, effort: Effort) -> Result<Case> {
    let mut case = Case::new("bystander", "from_guest on other packets");
    for (name, frame) in frames::foreign() {
        let mut measure = |program| programs.repeated(program, &frame, verdict::PASS, REPEAT);
        difference(&mut case, effort, name, "from_guest", Some(Goal::AtMost(40.0)), &mut measure)?;
    }
    Ok(case)
}

/// What the programs need for a packet of the service, the kernel's helpers included.
fn own(programs: &mut Programs, effort: Effort) -> Result<Case> {
    let mut case = Case::new("bystander", "the programs on the service's packets");
    let _stats = enable_stats(Stats::RunTime).context("enabling bpf_stats")?;
    for (name, program, verdict, frame) in frames::own() {
        let mut measure =
            |which| programs.fresh(which, &frame, if which == "empty" { verdict::PASS } else { verdict }, FRESH);
        difference(&mut case, effort, name, program, None, &mut measure)?;
    }
    Ok(case)
}

fn difference(
    case: &mut Case,
    effort: Effort,
    name: &str,
    program: &'static str,
    goal: Option<Goal>,
    measure: &mut impl FnMut(&'static str) -> Result<f64>,
) -> Result<()> {
    let mut times = [(program, Vec::new()), ("empty", Vec::new())];
    for pair in effort.turns(name) {
        for turn in [pair % 2, (pair + 1) % 2] {
            let (program, times) = &mut times[turn as usize];
            times.push(measure(program)?);
        }
    }
    let [(_, with), (_, empty)] = times;
    case.ratios.push(Ratio {
        metric: format!("{name}, ns more"),
        of: program.to_owned(),
        to: "an empty program (a difference)".to_owned(),
        pairs: with.iter().zip(&empty).map(|(with, empty)| with - empty).collect(),
        goal,
    });
    case.figure(format!("{name}: {program}, ns"), crate::stats::Spread::of(&with).median);
    case.figure(format!("{name}: empty, ns"), crate::stats::Spread::of(&empty).median);
    Ok(())
}

fn has_tcx() -> bool {
    KernelVersion::current().is_ok_and(|kernel| kernel >= KernelVersion::new(6, 6, 0))
}
