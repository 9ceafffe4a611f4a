//! Open vSwitch's policing puts a filter at tc ingress, where the program is too.

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
        wait_policed(&world.node, &world.switch, &world.a).context(mode)?;
        answered_beside_policing(&world.node, &world.a, mode)?;
        police(&world.switch, world.a.tap(), 0)?;
        answered(&world.a).with_context(|| format!("{mode}, without policing"))?;
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
        wait_policed(&node, &switch, &a).context(mode)?;
        node.start_daemon()?;
        answered_beside_policing(&node, &a, mode)?;
        police(&switch, a.tap(), 0)?;
        answered(&a).with_context(|| format!("{mode}, without policing"))?;
    }
    Ok(())
}

/// The guest is answered, and the switch polices it all the same.
fn answered_beside_policing(node: &Node, guest: &Guest, mode: &str) -> Result<()> {
    answered(guest).with_context(|| mode.to_owned())?;
    let shown = tc(node, &filters(guest))?;
    ensure!(shown.contains("police"), "policing is gone: {shown}");
    Ok(())
}

fn wait_policed(node: &Node, switch: &Vswitch, guest: &Guest) -> Result<()> {
    wait::until("the switch polices the tap", || Ok(tc(node, &filters(guest))?.contains("police").then_some(())))
        .with_context(|| format!("{:?}\nits log:\n{}", tc(node, &filters(guest)), switch.log()))
}

/// Whoever removes the queueing discipline takes the program with it: that is noticed, repaired and counted.
pub(crate) fn removed_program_is_put_back() -> Result<()> {
    let node = NodePlan::default().attach("clsact").start()?;
    let guest = node.guest("a").boot()?;
    answered(&guest)?;
    tc(&node, &format!("qdisc del dev {} ingress", guest.tap()))?;
    wait::until("a repair is reported", || Ok((node.status()?["ports_repaired"] == 1).then_some(())))?;
    answered(&guest)
}

fn filters(guest: &Guest) -> String {
    format!("filter show dev {} ingress", guest.tap())
}

fn police(switch: &Vswitch, tap: &str, kilobits: u32) -> Result<()> {
    let rate = format!("ingress_policing_rate={kilobits}");
    let burst = format!("ingress_policing_burst={}", kilobits / 10);
    switch.vsctl(&["set", "Interface", tap, &rate, &burst]).map(drop)
}
