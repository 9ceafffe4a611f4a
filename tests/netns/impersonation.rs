//! A neighbour that pretends to be the metadata service, on a bridge with a guest.

use std::time::Instant;

use etherparse::PacketBuilder;
use lab::{Guest, NodePlan, command, wait};
use metadata_ebpf::addr::{METADATA_IPV4, METADATA_IPV6, METADATA_MAC};
use serde_json::json;

use crate::bystanders::{FAR_MAC, World, ordinary, written};

const GUARDED: &str = "impersonation_guard = true\npass = []\n";

/// Frames of a neighbour that claim to come from the service, one of each kind.
fn forged(guest: &Guest) -> Vec<Vec<u8>> {
    let mac = guest.mac();
    let (address, link_local) = (guest.document().ipv4().unwrap(), guest.link_local().octets());
    let address = address.parse::<std::net::Ipv4Addr>().unwrap().octets();
    let four = || PacketBuilder::ethernet2(FAR_MAC, mac).ipv4(METADATA_IPV4, address, 64);
    let six = || PacketBuilder::ethernet2(FAR_MAC, mac).ipv6(METADATA_IPV6, link_local, 64);
    let tagged = |id: u16| PacketBuilder::ethernet2(FAR_MAC, mac).single_vlan(id.try_into().unwrap());
    let arp = |operation| {
        let header = [8, 6, 0, 1, 8, 0, 6, 4, 0, operation];
        [mac.as_slice(), &FAR_MAC, &header, &FAR_MAC, &METADATA_IPV4, &mac, &address].concat()
    };
    let mut neighbour = [0; 16];
    neighbour[..2].copy_from_slice(&[0xfe, 0x80]);
    neighbour[15] = 9;
    let advertisement = [METADATA_IPV6.as_slice(), &[2, 1], &FAR_MAC].concat();
    let advertise = PacketBuilder::ethernet2(FAR_MAC, mac).ipv6(neighbour, link_local, 255);
    let advertise = advertise.icmpv6_raw(136, 0, [0x60, 0, 0, 0]);
    vec![
        written(|out| four().tcp(80, 40_000, 5, 1024).syn().ack(6).write(out, &[])),
        written(|out| four().tcp(80, 40_000, 5, 1024).write(out, b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")),
        written(|out| four().udp(53, 40_000).write(out, b"answer")),
        written(|out| six().tcp(80, 40_000, 5, 1024).rst().write(out, &[])),
        written(|out| tagged(7).ipv4(METADATA_IPV4, address, 64).tcp(80, 40_000, 5, 1024).rst().write(out, &[])),
        arp(1),
        arp(2),
        written(|out| advertise.write(out, &advertisement)),
    ]
}

/// Sends the frames to the guest, and returns those that arrive.
fn arriving(world: &World, frames: &[Vec<u8>]) -> Vec<Vec<u8>> {
    let last = [world.guest.mac().as_slice(), &FAR_MAC, &[0x88, 0xb5], &[0x33; 50]].concat();
    for frame in frames {
        world.far.send(frame).unwrap();
    }
    world.far.send(&last).unwrap();
    world.near.receive_until(&last).unwrap().into_iter().filter(|frame| frames.contains(frame)).collect()
}

/// Reads over both families, with MACs that are asked for anew.
fn reads_own(world: &World) {
    world.guest.namespace().ip("neigh flush dev eth0").unwrap();
    assert_eq!(world.guest.read_uuid(false).unwrap(), world.guest.uuid());
    assert_eq!(world.guest.read_uuid(true).unwrap(), world.guest.uuid());
}

/// How many programs are at the tap's egress, in both ways of attaching.
fn programs_at_egress(world: &World) -> usize {
    let tap = world.guest.tap();
    let mut bpftool = world.node.namespace().command("bpftool").unwrap();
    let text = command::run(bpftool.args(["net", "show", "dev", tap]), "").unwrap();
    let filters = text.lines().filter(|line| line.contains("clsact/egress")).count();
    let links = world.node.namespace().run(|| {
        Ok(aya::programs::SchedClassifier::query_tcx(tap, aya::programs::TcAttachType::Egress)
            .map_or(0, |(_, programs)| programs.len()))
    });
    filters + links.unwrap()
}

fn guarded(attach: &'static str) -> World {
    World::new(NodePlan::default().attach(attach).ports(GUARDED), None)
}

/// The forged frames, none of which arrives, while all else does.
fn is_guarded(world: &World) {
    let frames = forged(&world.guest);
    let dropped = || world.node.counters(world.guest.ifindex()).unwrap().drop_impersonation;
    let before = dropped();
    assert_eq!(arriving(world, &frames), Vec::<Vec<u8>>::new());
    assert_eq!(dropped() - before, frames.len() as u64);
    reads_own(world);
}

#[test]
fn forged_answers_of_a_neighbour_are_dropped_and_the_real_ones_arrive() {
    for attach in ["auto", "clsact"] {
        let world = guarded(attach);
        assert_eq!(programs_at_egress(&world), 1, "{attach}");
        is_guarded(&world);
        world.pass(&world.far, &world.near, &ordinary(FAR_MAC, world.guest.mac()));
        world.pass(&world.near, &world.far, &ordinary(world.guest.mac(), FAR_MAC));
        let shown = world.node.port(world.guest.tap()).unwrap();
        assert_eq!(shown["guarded"], true, "{shown}");
        assert!(world.node.log().contains("impersonation"), "{}", world.node.log());
    }
}

#[test]
fn without_the_guard_a_neighbours_frames_arrive() {
    let world = World::new(NodePlan::default(), None);
    assert_eq!(programs_at_egress(&world), 0);
    let frames = forged(&world.guest);
    assert_eq!(arriving(&world, &frames), frames);
}

#[test]
fn echoes_and_large_answers_reach_a_guarded_guest_whole() {
    let world = guarded("auto");
    let body: Vec<u8> = (0..1_000_000u32).map(|number| b'a' + u8::try_from(number % 23).unwrap()).collect();
    world.node.write(&world.guest.document().clone().with_user_data(&body)).unwrap();
    wait::until("the guest reads it", || {
        Ok((world.guest.get("/openstack/latest/user_data")?.body == body).then_some(()))
    })
    .unwrap();
    assert!(world.guest.get6("/openstack/latest/user_data").unwrap().body == body);
    let echo = PacketBuilder::ethernet2(world.guest.mac(), METADATA_MAC).ipv4([10, 0, 0, 5], METADATA_IPV4, 64);
    let echo = written(|out| echo.icmpv4_echo_request(7, 9).write(out, b"are you there?"));
    world.near.send(&echo).unwrap();
    let start = Instant::now();
    let is_reply = |frame: &[u8]| frame.get(26..30) == Some(&METADATA_IPV4) && frame.ends_with(b"are you there?");
    while start.elapsed() < wait::PATIENCE {
        if world.near.receive(wait::PATIENCE).unwrap().is_some_and(|frame| is_reply(&frame)) {
            return;
        }
    }
    panic!("no echo");
}

#[test]
fn the_guard_stays_while_the_daemon_is_away_and_goes_with_detach() {
    for attach in ["auto", "clsact"] {
        let world = guarded(attach);
        world.node.kill_daemon().unwrap();
        let frames = forged(&world.guest);
        assert_eq!(arriving(&world, &frames), Vec::<Vec<u8>>::new(), "{attach}");
        world.node.start_daemon().unwrap();
        world.node.wait_bound(world.guest.ifindex()).unwrap();
        wait::until("the guard is taken over", || {
            Ok((world.node.port(world.guest.tap())?["guarded"] == true).then_some(()))
        })
        .unwrap();
        assert_eq!(programs_at_egress(&world), 1, "{attach}");
        is_guarded(&world);
        world.node.stop_daemon().unwrap();
        world.node.ask(&["detach"]).unwrap();
        assert_eq!(programs_at_egress(&world), 0, "{attach}");
        assert_eq!(arriving(&world, &frames), frames, "{attach}");
    }
}

/// Runs tc in the node.
fn tc(world: &World, line: &str) {
    let mut tc = world.node.namespace().command("tc").unwrap();
    command::run(tc.args(line.split_whitespace()), "").unwrap();
}

fn repaired(world: &World) -> u64 {
    world.node.status().unwrap()["ports_repaired"].as_u64().unwrap()
}

#[test]
fn a_guard_that_others_remove_is_put_back_and_the_binding_stays() {
    let world = guarded("clsact");
    let tap = world.guest.tap();
    let tag = world.node.port(tap).unwrap()["tag"].clone();
    // The filter itself, by the priority and the handle that metadatad's have; that priority; all filters.
    for (count, which) in (1..).zip(["pref 2 handle 0xa9fe bpf", "pref 2", ""]) {
        tc(&world, &format!("filter del dev {tap} egress {which}"));
        wait::until("it is put back and counted", || {
            Ok((programs_at_egress(&world) == 1 && repaired(&world) == count).then_some(()))
        })
        .unwrap();
        is_guarded(&world);
        assert_eq!(world.node.port(tap).unwrap()["tag"], tag, "{which}");
    }
    tc(&world, &format!("qdisc del dev {tap} clsact"));
    wait::until("both are put back", || Ok((repaired(&world) == 4).then_some(()))).unwrap();
    world.node.wait_bound(world.guest.ifindex()).unwrap();
    is_guarded(&world);
}

#[test]
fn a_guard_has_no_place_beside_another_programs_policing_and_the_tap_is_served() {
    let world = World::new(NodePlan::default().attach("clsact").ports("pass = []\n"), None);
    let tap = world.guest.tap();
    // As Open vSwitch does that limits a tap's rate.
    tc(&world, &format!("qdisc del dev {tap} ingress"));
    tc(&world, &format!("qdisc add dev {tap} ingress"));
    tc(&world, &format!("filter add dev {tap} ingress pref 49 protocol all u32 match u32 0 0"));
    wait::until("the program is put back", || Ok((repaired(&world) == 1).then_some(()))).unwrap();
    world.node.wait_bound(world.guest.ifindex()).unwrap();
    world.node.write(&world.guest.document().clone().with("policy", json!({"impersonation_guard": true}))).unwrap();
    wait::until("the log says why there is no guard", || {
        Ok(world.node.log().contains("leaves no place for a program at the tap's egress").then_some(()))
    })
    .unwrap();
    assert_eq!(world.node.port(tap).unwrap()["guarded"], false);
    reads_own(&world);
}

#[test]
fn a_document_guards_its_own_instance_alone() {
    for attach in ["auto", "clsact"] {
        is_guarded_by_document(attach);
    }
}

/// Switches the guard on and off by the document of one of two guests.
fn is_guarded_by_document(attach: &'static str) {
    let world = World::new(NodePlan::default().attach(attach).ports("pass = []\n"), None);
    let other = world.node.guest("b").boot().unwrap();
    let change = |on: bool| {
        world.node.write(&world.guest.document().clone().with("policy", json!({"impersonation_guard": on}))).unwrap();
        wait::until("the guard is as documented", || {
            Ok((world.node.port(world.guest.tap())?["guarded"] == on).then_some(()))
        })
        .unwrap();
    };
    change(true);
    is_guarded(&world);
    assert_eq!(world.node.port(other.tap()).unwrap()["guarded"], false);
    change(false);
    assert_eq!(programs_at_egress(&world), 0);
    let frames = forged(&world.guest);
    assert_eq!(arriving(&world, &frames), frames);
}
