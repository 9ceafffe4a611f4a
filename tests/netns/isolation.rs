//! What one guest sends changes nothing for another.

use std::thread;

use etherparse::PacketBuilder;
use lab::{Guest, NodePlan, Request, wait};
use metadata_ebpf::addr::{METADATA_IPV6, METADATA_MAC};

/// More guest addresses than a table of all ports' would hold.
const ADDRESSES: u32 = 20_000;

/// Sends a segment from each of many link-local addresses, as fast as that goes.
fn send_from_everywhere(guest: &Guest) {
    let frames = guest.frames().unwrap();
    let mut frame = Vec::new();
    let source = [0xfe, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    let packet = PacketBuilder::ethernet2(guest.mac(), METADATA_MAC).ipv6(source, METADATA_IPV6, 64);
    packet.tcp(40_000, 80, 1, 1024).ack(1).write(&mut frame, &[]).unwrap();
    for number in 1..=ADDRESSES {
        // The checksum is wrong now, nearly always: the responder does not answer, and what is learned comes before that.
        frame[34..38].copy_from_slice(&number.wrapping_mul(0x9e37_79b9).to_be_bytes());
        frames.send(&frame).unwrap();
    }
}

#[test]
fn a_guest_that_sends_from_everywhere_takes_no_answer_from_a_neighbour() {
    // Both are held, so their MACs are learned. The answer comes long after the question, with nothing in between that
    // would tell the MAC again.
    let node = NodePlan::default().further("[http]\nready_timeout = \"8s\"\n").start().unwrap();
    let neighbour = node.guest("neighbour").undocumented().boot().unwrap();
    let attacker = node.guest("attacker").undocumented().boot().unwrap();
    for guest in [&neighbour, &attacker] {
        node.wait_held(guest.ifindex()).unwrap();
    }
    let request = Request::get("/openstack/latest/meta_data.json").patience(wait::PATIENCE);
    thread::scope(|scope| {
        let asked = [request.clone(), request.over_ipv6()].map(|request| {
            let neighbour = &neighbour;
            scope.spawn(move || neighbour.send(&request))
        });
        wait::until("both questions wait", || Ok((node.status()?["http"]["waited"] == 2).then_some(()))).unwrap();
        send_from_everywhere(&attacker);
        wait::until("all have been handed over", || {
            let handed = node.counters(attacker.ifindex())?.to_responder;
            Ok((handed >= u64::from(ADDRESSES)).then_some(()))
        })
        .unwrap();
        for asked in asked {
            assert_eq!(asked.join().unwrap().unwrap().status, 503);
        }
    });
    let counters = node.counters(neighbour.ifindex()).unwrap();
    assert_eq!(counters.drop_mac_unknown, 0, "{counters:?}");
}
