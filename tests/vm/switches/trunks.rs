//! Guests that tag their frames, by the kernel's own VLAN devices.

use std::time::Duration;

use anyhow::{Result, ensure};
use lab::vswitch::Datapath;
use lab::{Guest, Request};

use crate::openvswitch::World;
use crate::watch::{Watch, ask_through, ethertype};

/// Makes a VLAN device in the guest, with a link-local address and the way to the service.
fn tag(guest: &Guest, lower: &str, vlan: u16, ipv4: &str) -> Result<String> {
    let interface = format!("{lower}.{vlan}");
    let lines = format!(
        "link add link {lower} name {interface} type vlan id {vlan}\nlink set {interface} addrgenmode none\n\
         link set {interface} up\n\
         addr add {}/64 dev {interface} nodad\naddr add {ipv4} dev {interface}\n\
         route replace 169.254.169.254 dev {interface}\n",
        guest.link_local()
    );
    guest.namespace().ip_batch(&lines)?;
    Ok(interface)
}

pub(crate) fn tagged() -> Result<()> {
    for mode in ["auto", "clsact"] {
        let world = World::start(mode, Datapath::Kernel)?;
        world.switch.vsctl(&["set", "Port", world.a.tap(), "trunks=100,200"])?;
        world.settle()?;
        let ipv4 = world.a.namespace().ip("-4 -o addr show dev eth0")?;
        let ipv4 = ipv4.split_whitespace().nth(3).unwrap_or_default().replace("/16", "/32");
        let mine = Watch::begin(&[(world.a.namespace(), "eth0")])?;
        let others = Watch::begin(&world.others()[..2])?;
        for vlan in [100, 200] {
            let interface = tag(&world.a, "eth0", vlan, &ipv4)?;
            for _ in 0..20 {
                ask_through(&world.a, &interface)?;
            }
        }
        // The marker is untagged, and this port carries tagged frames only.
        world.switch.vsctl(&["clear", "Port", world.a.tap(), "trunks"])?;
        world.settle()?;
        others.end_silent(&world.a)?;
        for (_, frames) in mine.end_unmarked()? {
            let tags = |frame: &Vec<u8>| (ethertype(frame).0, frame.get(14..16).map(<[u8]>::to_vec));
            let [first, second] = [100u16, 200].map(|vlan| (1, Some(vlan.to_be_bytes().to_vec())));
            let strange = frames.iter().find(|frame| ![&first, &second].contains(&&tags(frame)));
            ensure!(strange.is_none(), "a metadata frame without its tag: {strange:02x?}");
            for expected in [first, second] {
                let count = frames.iter().filter(|frame| tags(frame) == expected).count();
                ensure!(count > 100, "only {count} metadata frames with the tag {expected:?}");
            }
        }
    }
    Ok(())
}

pub(crate) fn two_tags() -> Result<()> {
    let world = World::start("auto", Datapath::Kernel)?;
    let outer = tag(&world.a, "eth0", 100, "10.7.0.1/32")?;
    let inner = tag(&world.a, &outer, 200, "10.7.0.2/32")?;
    let others = Watch::begin(&[(&world.further, "eth0")])?;
    let request = Request::get("/openstack").through(&inner).patience(Duration::from_millis(500));
    let outcome = world.a.namespace().run(|| request.send());
    ensure!(outcome.is_err(), "answered: {outcome:?}");
    for (place, frames) in others.end(&world.a)? {
        ensure!(frames.iter().any(|frame| ethertype(frame).0 == 2), "no frame with two tags on {place}");
    }
    Ok(())
}
