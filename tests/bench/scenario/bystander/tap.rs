//! A tap of the tun driver, as a hypervisor has it, with `from_guest` and with `from_guest_xdp` in front of it: what XDP costs
//! the guest's other traffic, and what it saves where the guest floods the service.
//!
//! One thread writes frames to the tap, as QEMU without vhost does; all that the node does with a frame is done by then. So
//! frames in a second of its processor time are what the node has for each, the system call included.

use std::time::Instant;

use anyhow::{Context as _, Result};
use aya::programs::{LinkOrder, TcAttachType, XdpMode, tc::TcAttachOptions};
use etherparse::PacketBuilder;
use lab::{Namespace, Tap, guest::mac_text};
use metadata_ebpf::addr::METADATA_IPV4;

use super::frames::{GUEST_IPV4, GUEST_MAC, PEER_IPV4};
use super::programs::Programs;
use super::{PARTS, TAP, has_tcx};
use crate::Effort;
use crate::machine::pin;
use crate::result::{Case, Goal, Ratio};
use crate::usage::Workers;

const PEER_MAC: [u8; 6] = [0xfa, 0x16, 0x3e, 0, 0, 2];
/// As much as a segment of a guest with segmentation offload mostly has.
const LARGE: usize = 60_000;
/// The sides, and whether each of the programs is there.
const SIDES: [(&str, bool, bool); 3] =
    [("from_guest and XDP", true, true), ("from_guest", true, false), ("without", false, false)];
/// Frames between two looks at the clock.
const BATCH: u64 = 64;

/// A bridge with the tap on it, and somebody else behind another port, who answers nothing.
struct World {
    node: Namespace,
    _peer: Namespace,
    tap: Tap,
    programs: Programs,
    worker: Workers,
}

impl World {
    fn make() -> Result<Self> {
        let (node, peer) = (Namespace::create("node")?, Namespace::create("peer")?);
        let tap = Tap::open(&node, TAP)?;
        node.ip_batch(&format!(
            "link add br0 type bridge mcast_snooping 0\nlink set br0 up\nlink set {TAP} master br0\n\
             link add far type veth peer name eth0 address {} netns {}\nlink set far master br0 up\n",
            mac_text(PEER_MAC),
            peer.name()
        ))?;
        peer.ip("link set eth0 up")?;
        let mut programs = Programs::load(tap.ifindex())?;
        programs.exhaust_connections(tap.ifindex())?;
        Ok(Self { node, _peer: peer, tap, programs, worker: Workers::here()? })
    }

    /// Sends a frame again and again for this long, with these programs on the tap; returns how many in a second of the
    /// processor's.
    fn rate(&mut self, bytes: &[u8], (tc, xdp): (bool, bool), effort: Effort) -> Result<f64> {
        let options = if has_tcx() {
            TcAttachOptions::TcxOrder(LinkOrder::first())
        } else {
            TcAttachOptions::Netlink(Default::default())
        };
        let ifindex = self.tap.ifindex();
        let (node, programs) = (&self.node, &mut self.programs);
        let tc = tc.then(|| {
            let program = programs.get("from_guest")?;
            node.run(|| {
                if !has_tcx() {
                    let _ = aya::programs::tc::qdisc_add_clsact(TAP);
                }
                program.attach_with_options(TAP, TcAttachType::Ingress, options).context("attaching to the tap")
            })
        });
        let tc = tc.transpose()?;
        let xdp = xdp.then(|| {
            let program = programs.xdp()?;
            node.run(|| program.attach_to_if_index(ifindex, XdpMode::Driver).context("attaching to the tap's driver"))
        });
        let xdp = xdp.transpose()?;
        let (start, mut count, length) = (Instant::now(), 0_u64, effort.slice / PARTS);
        let used = self.worker.cpu()?;
        while start.elapsed() < length {
            for _ in 0..BATCH {
                self.tap.send_prepared(bytes)?;
            }
            count += BATCH;
        }
        let rate = count as f64 / (self.worker.cpu()? - used);
        let programs = &mut self.programs;
        if let Some(link) = tc {
            let program = programs.get("from_guest")?;
            self.node.run(|| program.detach(link).context("detaching from the tap"))?;
        }
        if let Some(link) = xdp {
            let program = programs.xdp()?;
            self.node.run(|| program.detach(link).context("detaching from the tap's driver"))?;
        }
        Ok(rate)
    }
}

/// Measures on a thread of its own, which stays on one processor.
pub(super) fn cases(effort: Effort, pinned: bool) -> Result<Vec<Case>> {
    let measured = std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            if pinned {
                pin(0, 1)?;
            }
            let mut world = World::make()?;
            let large = Tap::prepare(&tcp(PEER_MAC, PEER_IPV4, LARGE)?, Some(1448));
            let small = Tap::prepare(&udp()?, None);
            let syn = Tap::prepare(&tcp(PEER_MAC, METADATA_IPV4, 0)?, None);
            let other = Some(Goal::AtLeast(0.99));
            anyhow::Ok(vec![
                compare(&mut world, "on a tap: TCP, large segments", &large, "segments per CPU second", effort, other)?,
                compare(&mut world, "on a tap: UDP, small packets", &small, "packets per CPU second", effort, other)?,
                compare(&mut world, "on a tap: SYNs beyond the limit", &syn, "SYNs per CPU second", effort, None)?,
            ])
        });
        thread.join().map_err(|_| anyhow::anyhow!("the thread that sends panicked"))
    });
    measured?
}

fn compare(
    world: &mut World,
    name: &str,
    bytes: &[u8],
    unit: &str,
    effort: Effort,
    goal: Option<Goal>,
) -> Result<Case> {
    let mut case = Case::new("bystander", name);
    let mut rates: [Vec<f64>; 3] = Default::default();
    for pair in effort.turns(name) {
        let mut sums = [0.0; 3];
        for part in 0..PARTS {
            for turn in 0..3 {
                let side = ((pair + part + turn) % 3) as usize;
                let (_, tc, xdp) = SIDES[side];
                sums[side] += world.rate(bytes, (tc, xdp), effort)? / f64::from(PARTS);
            }
        }
        for (rates, sum) in rates.iter_mut().zip(sums) {
            rates.push(sum);
        }
    }
    // XDP in front is the operator's choice, so there is no goal for it.
    for (side, to, goal) in std::iter::once((0, 1, None)).chain(goal.map(|goal| (1, 2, Some(goal)))) {
        case.ratios.push(Ratio {
            metric: unit.to_owned(),
            of: SIDES[side].0.to_owned(),
            to: SIDES[to].0.to_owned(),
            pairs: rates[side].iter().zip(&rates[to]).map(|(one, other)| one / other).collect(),
            goal,
        });
    }
    for ((side, ..), rates) in SIDES.iter().zip(&rates) {
        let median = crate::stats::Spread::of(rates).median;
        case.figure(format!("{side}, {unit}"), median);
        case.figure(format!("{side}, ns for each"), 1e9 / median);
    }
    Ok(case)
}

fn tcp(dst_mac: [u8; 6], dst: [u8; 4], payload: usize) -> Result<Vec<u8>> {
    let packet = PacketBuilder::ethernet2(GUEST_MAC, dst_mac).ipv4(GUEST_IPV4, dst, 64).tcp(40_000, 80, 1, 1024);
    let packet = if payload == 0 { packet.syn() } else { packet.ack(1) };
    let mut frame = Vec::new();
    packet.write(&mut frame, &vec![0; payload]).context("building a segment")?;
    Ok(frame)
}

fn udp() -> Result<Vec<u8>> {
    let packet = PacketBuilder::ethernet2(GUEST_MAC, PEER_MAC).ipv4(GUEST_IPV4, PEER_IPV4, 64).udp(40_000, 5001);
    let mut frame = Vec::new();
    packet.write(&mut frame, &[0; 18]).context("building a datagram")?;
    Ok(frame)
}
