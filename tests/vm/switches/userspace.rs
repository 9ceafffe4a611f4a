//! Open vSwitch's own datapath, which reads a tap by a packet socket: before tc.

use anyhow::{Result, ensure};
use lab::vswitch::{BRIDGE, Datapath};

use crate::openvswitch::World;
use crate::watch::{Watch, ask_often, ethertype, talk};

/// What keeps requests off the bridge: nothing of a guest's to or about the metadata addresses is forwarded.
/// But for what `ports.pass` leaves to the network.
pub(crate) const FLOWS: [&str; 10] = [
    "priority=65534,ip,nw_dst=169.254.169.254,actions=drop",
    "priority=65534,arp,arp_tpa=169.254.169.254,actions=drop",
    "priority=65534,ipv6,ipv6_dst=fe80::a9fe:a9fe,actions=drop",
    "priority=65534,icmp6,icmp_type=135,nd_target=fe80::a9fe:a9fe,actions=drop",
    "priority=65535,udp,nw_dst=169.254.169.254,tp_dst=53,actions=normal",
    "priority=65535,tcp,nw_dst=169.254.169.254,tp_dst=53,actions=normal",
    "priority=65535,udp6,ipv6_dst=fe80::a9fe:a9fe,tp_dst=53,actions=normal",
    "priority=65535,tcp6,ipv6_dst=fe80::a9fe:a9fe,tp_dst=53,actions=normal",
    "priority=65535,arp,arp_op=2,arp_tpa=169.254.169.254,actions=normal",
    "priority=65535,icmp6,icmp_type=136,ipv6_dst=fe80::a9fe:a9fe,actions=normal",
];

/// A packet socket does not tell this switch of checksums that are still to be made, so the guests make theirs.
fn complete_checksums(world: &World) -> Result<()> {
    for guest in [&world.a, &world.b] {
        let mut ethtool = guest.namespace().command("ethtool")?;
        lab::command::run(ethtool.args(["--offload", "eth0", "tx", "off"]), "")?;
    }
    Ok(())
}

/// The guest is answered, and only once, while the bridge sees each request too, but no answer.
pub(crate) fn sees_requests() -> Result<()> {
    for mode in ["auto", "clsact"] {
        let world = World::start(mode, Datapath::Userspace)?;
        let watch = Watch::begin(&world.others()[..2])?;
        ask_often(&world.a)?;
        complete_checksums(&world)?;
        talk(&world.a, &world.b)?;
        for (place, frames) in watch.end(&world.a)? {
            ensure!(!frames.is_empty(), "nothing on {place}: this limit is gone");
            let answer = frames.iter().find(|frame| frame.get(6..12) != Some(&world.a.mac()));
            ensure!(answer.is_none(), "an answer on {place}: {answer:02x?}");
            let kinds: std::collections::BTreeSet<_> = frames.iter().map(|frame| ethertype(frame).1).collect();
            println!("{mode}: {} requests' frames on {place}, of {kinds:02x?}", frames.len());
        }
    }
    Ok(())
}

pub(crate) fn flows_drop_requests() -> Result<()> {
    for mode in ["auto", "clsact"] {
        let world = World::start(mode, Datapath::Userspace)?;
        world.switch.add_flows(&FLOWS)?;
        let watch = Watch::begin(&world.others())?;
        ask_often(&world.a)?;
        complete_checksums(&world)?;
        talk(&world.a, &world.b)?;
        watch.end_silent(&world.a)?;
        let learned = world.switch.appctl(&["fdb/show", BRIDGE])?;
        ensure!(!learned.contains("02:00:a9:fe:a9:fe"), "the switch has learned the service's MAC:\n{learned}");
    }
    Ok(())
}
