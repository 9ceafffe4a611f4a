//! Open vSwitch removes the ingress qdisc of every interface that it takes, and makes another for policing. What lies
//! there with clsact, ours included, goes with it.

use anyhow::{Context as _, Result, ensure};
use lab::vswitch::{Datapath, tc};
use lab::{Guest, NodePlan, Vswitch, wait};

use crate::openvswitch::{World, guest, wait_bound};
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
        answered(&world.a).with_context(|| mode)?;
        // Whatever changes in the database makes the switch look at all its ports.
        world.node.namespace().ip(&format!("link set {} promisc on", world.a.tap()))?;
        world.switch.vsctl(&["set", "Bridge", "br-int", "other-config:mac-aging-time=200"])?;
        answered(&world.a).with_context(|| mode)?;
    }
    Ok(())
}

pub(crate) fn comes_later() -> Result<()> {
    for mode in MODES {
        let world = World::start(mode, Datapath::Kernel)?;
        answered(&world.a)?;
        police(&world.switch, world.a.tap(), 100_000)?;
        let has = || Ok(tc(&world.node, &filters(&world.a))?.contains("police").then_some(()));
        wait::until("the switch polices the tap", has)?;
        answered(&world.a).with_context(|| format!("{mode}: {:?}", tc(&world.node, &filters(&world.a))))?;
        has()?.context("policing is gone")?;
        police(&world.switch, world.a.tap(), 0)?;
        answered(&world.a).with_context(|| format!("{mode}, without policing"))?;
        if mode == "clsact" {
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
        wait::until("the switch polices the tap", || Ok(tc(&node, &filters(&a))?.contains("police").then_some(())))?;
        node.start_daemon()?;
        wait_bound(&node, &a)?;
        answered(&a).with_context(|| format!("{mode}: {:?}", tc(&node, &filters(&a))))?;
        ensure!(tc(&node, &filters(&a))?.contains("police"), "policing is gone");
    }
    Ok(())
}

fn filters(guest: &Guest) -> String {
    format!("filter show dev {} ingress", guest.tap())
}

fn police(switch: &Vswitch, tap: &str, kilobits: u32) -> Result<()> {
    let rate = format!("ingress_policing_rate={kilobits}");
    let burst = format!("ingress_policing_burst={}", kilobits / 10);
    switch.vsctl(&["set", "Interface", tap, &rate, &burst]).map(drop)
}
