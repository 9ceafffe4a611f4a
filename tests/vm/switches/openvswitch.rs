//! Open vSwitch with the kernel's datapath.

use anyhow::{Context as _, Result, ensure};
use lab::netns::Namespace;
use lab::vswitch::{BRIDGE, Datapath, tc};
use lab::{Guest, Node, NodePlan, Vswitch};

use crate::watch::{Watch, ask_often, talk};

/// Two guests and a further port, all ports of one bridge. Fields are dropped in this order.
pub(crate) struct World {
    pub(crate) a: Guest,
    pub(crate) b: Guest,
    pub(crate) further: Namespace,
    pub(crate) switch: Vswitch,
    pub(crate) node: Node,
}

/// A guest's tap before it is plugged. Only facts can bind it: its document names another device.
pub(crate) fn guest(node: &Node, name: &str) -> Result<Guest> {
    let elsewhere = |document: lab::Document| document.with_port("devname", "tapelsewhere");
    node.guest(name).document(elsewhere).at_once().boot()
}

/// Waits until the tap is bound by the word of Open vSwitch.
pub(crate) fn wait_bound(node: &Node, guest: &Guest) -> Result<()> {
    let is = |port: &serde_json::Value| {
        let by_switch = port["origin"].as_str().is_some_and(|origin| origin.contains("Open vSwitch"));
        port["state"] == "bound" && port["instance"] == guest.uuid() && by_switch
    };
    node.wait_port_shown(guest.tap(), "is bound by Open vSwitch", is)
}

impl World {
    pub(crate) fn start(attach: &'static str, datapath: Datapath) -> Result<Self> {
        let node = NodePlan::default().attach(attach).start()?;
        let switch = Vswitch::start(&node, datapath)?;
        let (a, b) = (guest(&node, "a")?, guest(&node, "b")?);
        for guest in [&a, &b] {
            switch.plug(guest)?;
            wait_bound(&node, guest)?;
        }
        let further = Namespace::create("further")?;
        node.namespace().ip_batch(&format!(
            "link add further0 type veth peer name eth0 netns {}\nlink set further0 up\nlink set {BRIDGE} up\n",
            further.name()
        ))?;
        further.ip("link set eth0 up")?;
        switch.add_port("further0", &[])?;
        let world = Self { a, b, further, switch, node };
        world.settle()?;
        Ok(world)
    }

    /// Waits until the programs that the switch has taken off the taps, before its last command ended, are back.
    pub(crate) fn settle(&self) -> Result<()> {
        for guest in [&self.a, &self.b] {
            lab::wait::until("the tap has its program", || {
                let Ok(port) = self.node.port(guest.tap()) else { return Ok(None) };
                let shown = tc(&self.node, &format!("filter show dev {} ingress", guest.tap()))?;
                let is_there = port["attached"] == "tcx" || shown.contains("from_guest");
                Ok((is_there && port["state"] == "bound").then_some(()))
            })?;
        }
        Ok(())
    }

    /// The bridge's ports beside the first guest's.
    pub(crate) fn others(&self) -> [(&Namespace, &str); 3] {
        [(self.b.namespace(), "eth0"), (&self.further, "eth0"), (self.node.namespace(), BRIDGE)]
    }
}

pub(crate) fn sees_no_metadata() -> Result<()> {
    silent("auto")
}

pub(crate) fn sees_no_metadata_with_clsact() -> Result<()> {
    silent("clsact")
}

fn silent(attach: &'static str) -> Result<()> {
    let world = World::start(attach, Datapath::Kernel)?;
    let watch = Watch::begin(&world.others())?;
    ask_often(&world.a)?;
    talk(&world.a, &world.b)?;
    talk(&world.b, &world.a)?;
    watch.end_silent(&world.a)?;
    let learned = world.switch.appctl(&["fdb/show", BRIDGE])?;
    ensure!(!learned.contains("02:00:a9:fe:a9:fe"), "the switch has learned the service's MAC:\n{learned}");
    let flows = world.switch.appctl(&["dpctl/dump-flows"])?;
    ensure!(!flows.contains("169.254") && !flows.contains("a9fe"), "the switch has flows of metadata:\n{flows}");
    ask_often(&world.b).context("the other guest")
}
