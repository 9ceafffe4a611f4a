//! How fast a port may send to the metadata addresses, with real packets.

use std::time::Instant;

use anyhow::{Result, ensure};
use etherparse::PacketBuilder;
use lab::{Guest, Node, NodePlan, Request, wait};
use metadata_ebpf::addr::{METADATA_IPV4, METADATA_IPV6, METADATA_MAC};
use serde_json::json;

const LOW: &str = "new_connections_per_second = 1\nnew_connections_burst = 3\n";

/// First segments to a port that nobody listens on, over both families.
fn first_segments(guest: &Guest, count: u16) -> Vec<Vec<u8>> {
    let source: std::net::Ipv4Addr = guest.document().ipv4().unwrap().parse().unwrap();
    (0..count)
        .map(|number| {
            let mut frame = Vec::new();
            let ethernet = PacketBuilder::ethernet2(guest.mac(), METADATA_MAC);
            let packet = if number % 2 == 0 {
                ethernet.ipv4(source.octets(), METADATA_IPV4, 64).tcp(20_000 + number, 81, 1, 1024)
            } else {
                ethernet.ipv6(guest.link_local().octets(), METADATA_IPV6, 64).tcp(20_000 + number, 81, 1, 1024)
            };
            packet.syn().write(&mut frame, &[]).unwrap();
            frame
        })
        .collect()
}

/// Sends first segments; returns how many were admitted, and how many seconds that took.
fn send(node: &Node, guest: &Guest, count: u16) -> Result<(u64, f64)> {
    let frames = guest.frames()?;
    let (before, start) = (node.counters(guest.ifindex())?, Instant::now());
    for frame in first_segments(guest, count) {
        frames.send(&frame)?;
    }
    let admitted = wait::until("all are counted", || {
        let after = node.counters(guest.ifindex())?;
        let arrived = after.to_responder - before.to_responder;
        let refused = after.drop_limit_connections - before.drop_limit_connections;
        // An open connection may say something too.
        Ok((arrived + refused >= u64::from(count)).then(|| u64::from(count) - refused))
    })?;
    Ok((admitted, start.elapsed().as_secs_f64()))
}

#[test]
fn new_connections_are_limited_for_each_port_over_both_families_together() {
    let node = NodePlan::default().ports(LOW).start().unwrap();
    let (guest, other) = (node.guest("a").boot().unwrap(), node.guest("b").boot().unwrap());
    let (admitted, seconds) = send(&node, &guest, 200).unwrap();
    assert!(admitted >= 3 && admitted as f64 <= 3.0 + seconds, "{admitted} in {seconds} s");
    assert_eq!(other.read_uuid(false).unwrap(), other.uuid());
    assert_eq!(other.read_uuid(true).unwrap(), other.uuid());
    assert_eq!(node.counters(other.ifindex()).unwrap().drop_limit_connections, 0);
    // The guest's kernel sends its first segment again.
    let request = Request::get("/openstack/latest/meta_data.json").patience(wait::PATIENCE);
    assert_eq!(guest.send(&request).unwrap().json().unwrap()["uuid"], guest.uuid());
    let shown = node.told(&["counters", guest.tap()]).unwrap();
    assert!(shown.contains("limit_connections"), "{shown}");
    assert!(node.log().contains("limit_connections"), "{}", node.log());
}

#[test]
fn a_held_port_is_limited_as_configured() {
    let node = NodePlan::default().ports(LOW).start().unwrap();
    let guest = node.guest("a").undocumented().boot().unwrap();
    node.wait_held(guest.ifindex()).unwrap();
    let (admitted, seconds) = send(&node, &guest, 100).unwrap();
    assert!(admitted >= 3 && admitted as f64 <= 3.0 + seconds, "{admitted} in {seconds} s");
}

#[test]
fn packets_are_limited_and_counted() {
    let node = NodePlan::default().ports("packets_per_second = 1\npackets_burst = 5\n").start().unwrap();
    let guest = node.guest("a").boot().unwrap();
    let frames = guest.frames().unwrap();
    let start = Instant::now();
    for frame in first_segments(&guest, 100) {
        frames.send(&frame).unwrap();
    }
    wait::until("all are counted", || {
        let counters = node.counters(guest.ifindex())?;
        let admitted = counters.to_responder;
        ensure!(admitted as f64 <= 5.0 + start.elapsed().as_secs_f64(), "{admitted}");
        Ok((admitted + counters.drop_limit_packets >= 100).then_some(()))
    })
    .unwrap();
}

#[test]
fn a_document_changes_the_limits_of_a_live_port_and_nothing_else() {
    let node = NodePlan::default().ports(LOW).start().unwrap();
    let guest = node.guest("a").boot().unwrap();
    let tag = node.ports().unwrap()[&guest.ifindex()].tag;
    let request = Request::get("/openstack/latest/meta_data.json").through("eth0");
    let mut connection = guest.namespace().run(|| request.connect()).unwrap();
    assert_eq!(connection.exchange(&request).unwrap().status, 200);
    let change = |policy: serde_json::Value| node.write(&guest.document().clone().with("policy", policy));

    change(json!({"new_connections_per_second": 0})).unwrap();
    wait::until("there is no limit", || Ok((send(&node, &guest, 50)?.0 == 50).then_some(()))).unwrap();
    change(json!({"new_connections_burst": 20})).unwrap();
    wait::until("there is the document's", || {
        let (admitted, seconds) = send(&node, &guest, 50)?;
        Ok((admitted as f64 <= 20.0 + seconds && admitted < 50).then_some(()))
    })
    .unwrap();
    assert_eq!(node.ports().unwrap()[&guest.ifindex()].tag, tag);
    assert_eq!(connection.exchange(&request).unwrap().status, 200, "the connection stays");

    node.remove_document(guest.uuid()).unwrap();
    node.wait_held(guest.ifindex()).unwrap();
    wait::until("the configuration's are back", || {
        let (admitted, seconds) = send(&node, &guest, 50)?;
        Ok((admitted as f64 <= 3.0 + seconds).then_some(()))
    })
    .unwrap();
}

#[test]
fn ten_boots_fit_into_the_default_limits() {
    let node = NodePlan::default().ports("").start().unwrap();
    let guest = node.guest("a").document(|document| document.with_user_data(&vec![b'x'; 64 << 10])).boot().unwrap();
    for turn in 0..300 {
        let path = if turn % 30 == 0 { "/openstack/latest/user_data" } else { "/openstack/latest/meta_data.json" };
        let response = if turn % 2 == 0 { guest.get(path) } else { guest.get6(path) };
        assert_eq!(response.unwrap().status, 200);
    }
    let counters = node.counters(guest.ifindex()).unwrap();
    assert_eq!((counters.drop_limit_connections, counters.drop_limit_packets), (0, 0), "{counters:?}");
}

#[test]
fn a_port_that_is_written_again_keeps_what_is_used_of_its_limits() {
    let limits = "new_connections_per_second = 1\nnew_connections_burst = 50\n";
    let node = NodePlan::default().ports(limits).start().unwrap();
    let guest = node.guest("a").boot().unwrap();
    let start = Instant::now();
    let (first, _) = send(&node, &guest, 60).unwrap();
    node.kill_daemon().unwrap();
    node.start_daemon().unwrap();
    node.wait_bound(guest.ifindex()).unwrap();
    let (then, _) = send(&node, &guest, 60).unwrap();
    let seconds = start.elapsed().as_secs_f64();
    assert!((first + then) as f64 <= 50.0 + seconds, "{first} and {then} in {seconds} s");
}
