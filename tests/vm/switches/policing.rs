//! Open vSwitch removes the ingress qdisc of every interface that it takes, and makes another for policing. What lies
//! there with clsact, ours included, goes with it.

use anyhow::{Context as _, Result, ensure};
use lab::vswitch::{Datapath, tc};
use lab::{Guest, Node, NodePlan, Vswitch, wait};

use crate::openvswitch::{World, guest};
use crate::watch::ask_often;

/// Guests ask over and over while these attach.
const MODES: [&str; 2] = ["auto", "clsact"];

/// Waits until the guest is answered over both families again, then asks often.
fn answered(guest: &Guest) -> Result<()> {
    wait::until("the guest is answered", || Ok(guest.get("/openstack").is_ok_and(|r| r.status == 200).then_some(())))?;
    ask_often(guest)
}

pub(crate) fn plugging_takes_nothing_away() -> Result<()> {
    for mode in MODES {
        // The tap is attached long before the switch takes it: `World` waits for its facts only then.
        let world = World::start(mode, Datapath::Kernel)?;
        answered(&world.a).with_context(|| mode.to_owned())?;
        // Whatever changes in the database makes the switch look at all its ports.
        world.node.namespace().ip(&format!("link set {} promisc on", world.a.tap()))?;
        world.switch.vsctl(&["set", "Bridge", "br-int", "other-config:mac-aging-time=200"])?;
        answered(&world.a).with_context(|| mode.to_owned())?;
    }
    Ok(())
}

pub(crate) fn comes_later() -> Result<()> {
    for mode in MODES {
        let world = World::start(mode, Datapath::Kernel)?;
        answered(&world.a)?;
        police(&world.switch, world.a.tap(), 100_000)?;
        wait_policed(&world.node, &world.a)?;
        answered_or_reported(&world.node, &world.a, mode)?;
        police(&world.switch, world.a.tap(), 0)?;
        answered(&world.a).with_context(|| format!("{mode}, without policing"))?;
        if !has_tcx(mode)? {
            let shown = world.node.status()?["ports_repaired"].as_u64();
            ensure!(shown.is_some_and(|count| count > 0), "no repair is reported: {shown:?}");
        }
    }
    Ok(())
}

pub(crate) fn was_there() -> Result<()> {
    for mode in MODES {
        let node = NodePlan::default().attach(mode).make()?;
        let switch = Vswitch::start(&node, Datapath::Kernel)?;
        let a = guest(&node, "a")?;
        switch.plug(&a)?;
        police(&switch, a.tap(), 100_000)?;
        wait_policed(&node, &a)?;
        node.start_daemon()?;
        answered_or_reported(&node, &a, mode)?;
        police(&switch, a.tap(), 0)?;
        answered(&a).with_context(|| format!("{mode}, without policing"))?;
    }
    Ok(())
}

/// With tcx policing is no concern of ours. With clsact it takes the first place, which the daemon says.
fn answered_or_reported(node: &Node, guest: &Guest, mode: &str) -> Result<()> {
    if has_tcx(mode)? {
        answered(guest).with_context(|| mode.to_owned())?;
    } else {
        let words = "ingress_policing_rate";
        let is = |port: &serde_json::Value| {
            port["state"] == "failed" && port["reason"].as_str().is_some_and(|reason| reason.contains(words))
        };
        node.wait_port_shown(guest.tap(), "is said to be policed", is)?;
    }
    let shown = tc(node, &filters(guest))?;
    ensure!(shown.contains("police"), "policing is gone: {shown}");
    println!("{mode}: {shown}");
    Ok(())
}

fn wait_policed(node: &Node, guest: &Guest) -> Result<()> {
    wait::until("the switch polices the tap", || Ok(tc(node, &filters(guest))?.contains("police").then_some(())))
}

/// Tells whether the daemon attaches by tcx in this mode, on this kernel.
fn has_tcx(mode: &str) -> Result<bool> {
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").context("reading the kernel's release")?;
    let mut numbers = release.split(['.', '-']).map_while(|number| number.parse::<u32>().ok());
    Ok(mode == "auto" && (numbers.next(), numbers.next()) >= (Some(6), Some(6)))
}

fn filters(guest: &Guest) -> String {
    format!("filter show dev {} ingress", guest.tap())
}

fn police(switch: &Vswitch, tap: &str, kilobits: u32) -> Result<()> {
    let rate = format!("ingress_policing_rate={kilobits}");
    let burst = format!("ingress_policing_burst={}", kilobits / 10);
    switch.vsctl(&["set", "Interface", tap, &rate, &burst]).map(drop)
}
