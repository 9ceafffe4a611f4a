//! How fast a port may send to the metadata addresses.

use etherparse::PacketBuilder;
use metadata_ebpf::{
    abi::{Bucket, DropReason, Event, Limits, PORT_HELD, Port},
    addr::{METADATA_IPV4, METADATA_IPV6},
};

use crate::fixture::{
    DROP, GATEWAY_MAC, GUEST, GUEST_V6, IFINDEX, Kernel, MAC, OTHER_MAC, Outcome, PASS, REDIRECT, XDP_DROP, XDP_PASS,
    port,
};

/// A bucket of so many tokens, into which no other falls while a test runs; 0: no limit.
fn bucket(burst: u64) -> Bucket {
    const HOUR: u64 = 3_600_000_000_000;
    if burst == 0 { Bucket::UNLIMITED } else { Bucket { interval: HOUR, tolerance: (burst - 1) * HOUR, due: 0 } }
}

fn segment(ipv6: bool, syn: bool, ack: bool) -> Vec<u8> {
    let mut frame = Vec::new();
    let ethernet = PacketBuilder::ethernet2(MAC, GATEWAY_MAC);
    let mut tcp = if ipv6 {
        ethernet.ipv6(GUEST_V6, METADATA_IPV6, 64).tcp(40000, 80, 1, 500)
    } else {
        ethernet.ipv4(GUEST, METADATA_IPV4, 64).tcp(40000, 80, 1, 500)
    };
    tcp = if syn { tcp.syn() } else { tcp };
    tcp = if ack { tcp.ack(7) } else { tcp };
    tcp.write(&mut frame, b"").expect("the frame fits");
    frame
}

fn arp() -> Vec<u8> {
    [[0xff; 6].as_slice(), &MAC, &[8, 6, 0, 1, 8, 0, 6, 4, 0, 1], &MAC, &GUEST, &[0; 6], &METADATA_IPV4].concat()
}

fn solicitation() -> Vec<u8> {
    let mut frame = Vec::new();
    let packet = PacketBuilder::ethernet2(MAC, [0x33, 0x33, 0xff, 0xfe, 0xa9, 0xfe]);
    let message = [METADATA_IPV6.as_slice(), &[1, 1], &MAC].concat();
    packet
        .ipv6(GUEST_V6, METADATA_IPV6, 255)
        .icmpv6_raw(135, 0, [0; 4])
        .write(&mut frame, &message)
        .expect("the frame fits");
    frame
}

fn echo() -> Vec<u8> {
    let mut frame = Vec::new();
    let packet = PacketBuilder::ethernet2(MAC, GATEWAY_MAC).ipv4(GUEST, METADATA_IPV4, 64);
    packet.icmpv4_echo_request(7, 9).write(&mut frame, b"ping").expect("the frame fits");
    frame
}

fn udp(mac: [u8; 6], port: u16, dst: [u8; 4]) -> Vec<u8> {
    let mut frame = Vec::new();
    let packet = PacketBuilder::ethernet2(mac, GATEWAY_MAC).ipv4(GUEST, dst, 64);
    packet.udp(5000, port).write(&mut frame, b"question").expect("the frame fits");
    frame
}

fn dropped_for(reason: &'static str, frame: Vec<u8>) -> Outcome {
    Outcome { verdict: DROP, frame, moved: vec![(reason, 1)] }
}

#[test]
fn connections_beyond_the_limit_do_not_begin_and_others_go_on() {
    for port in [port(), Port { flags: PORT_HELD, source_count: 0, ..port() }] {
        let mut kernel = Kernel::with(&port);
        kernel.limit(&Limits { connections: bucket(3), packets: Bucket::UNLIMITED });
        for ipv6 in [false, true, false] {
            assert_eq!(kernel.run("from_guest", &segment(ipv6, true, false)).moved, [("to_responder", 1)]);
        }
        for ipv6 in [false, true] {
            let frame = segment(ipv6, true, false);
            assert_eq!(kernel.run("from_guest", &frame), dropped_for("limit_connections", frame));
            for (syn, ack) in [(false, true), (true, true), (false, false)] {
                let outcome = kernel.run("from_guest", &segment(ipv6, syn, ack));
                assert_eq!((outcome.verdict, outcome.moved), (REDIRECT, vec![("to_responder", 1)]));
            }
        }
        assert_eq!(kernel.run("from_guest", &arp()).moved, [("answered_arp", 1)]);
    }
}

#[test]
fn packets_of_every_kind_take_from_one_bucket() {
    let mut kernel = Kernel::new();
    kernel.pass(&[(17, 53)]);
    kernel.limit(&Limits { connections: Bucket::UNLIMITED, packets: bucket(6) });
    let kinds = [
        ("answered_arp", arp()),
        ("answered_neighbour", solicitation()),
        ("answered_echo", echo()),
        ("to_responder", segment(false, true, false)),
        ("to_responder", segment(true, false, true)),
        ("not_answered", udp(MAC, 54, METADATA_IPV4)),
    ];
    for (counter, frame) in &kinds {
        assert_eq!(kernel.run("from_guest", frame).moved, [(*counter, 1)]);
    }
    for (name, frame) in kinds {
        assert_eq!(kernel.run("from_guest", &frame), dropped_for("limit_packets", frame), "{name}");
    }
    let spoofed = udp(OTHER_MAC, 54, METADATA_IPV4);
    assert_eq!(kernel.run("from_guest", &spoofed), dropped_for("limit_packets", spoofed));
    for (counter, frame) in [(vec![("passed", 1)], udp(MAC, 53, METADATA_IPV4)), (vec![], udp(MAC, 54, [10, 0, 0, 9]))]
    {
        let outcome = kernel.run("from_guest", &frame);
        assert_eq!(outcome, Outcome { verdict: PASS, frame, moved: counter }, "not the metadata service's");
    }
}

#[test]
fn what_passes_takes_no_token() {
    let mut kernel = Kernel::new();
    kernel.pass(&[(17, 53)]);
    kernel.limit(&Limits { connections: bucket(1), packets: bucket(2) });
    let mut reply = arp();
    reply[21] = 2;
    for frame in [udp(MAC, 53, METADATA_IPV4), reply, udp(MAC, 54, [10, 0, 0, 9])] {
        for _ in 0..9 {
            assert_eq!(kernel.run("from_guest", &frame).verdict, PASS);
        }
    }
    assert_eq!(kernel.run("from_guest", &segment(false, true, false)).verdict, REDIRECT);
    assert_eq!(kernel.run("from_guest", &arp()).verdict, REDIRECT);
    assert_eq!(kernel.run("from_guest", &arp()).moved, [("limit_packets", 1)]);
}

/// No token left, for the next days.
const EXHAUSTED: Bucket = Bucket { interval: 3_600_000_000_000, tolerance: 0, due: u64::MAX / 4 };

fn tagged(frame: &[u8], tags: &[[u8; 4]]) -> Vec<u8> {
    [&frame[..12], tags.as_flattened(), &frame[12..]].concat()
}

#[test]
fn at_xdp_what_is_behind_one_tag_is_limited_as_without() {
    let mut kernel = Kernel::new();
    kernel.pass(&[(17, 53)]);
    let (customer, service) = ([0x81, 0, 0x20, 7], [0x88, 0xa8, 0, 9]);
    let foreign =
        [segment(false, true, false)[..6].to_vec(), OTHER_MAC.to_vec(), segment(false, true, false)[12..].to_vec()];
    let foreign = foreign.concat();
    let (first, next) = (segment(false, true, false), segment(true, false, true));
    kernel.limit(&Limits { connections: EXHAUSTED, packets: Bucket::UNLIMITED });
    for (frame, tags, is_dropped) in [
        (&first, [].as_slice(), true),
        (&first, [customer].as_slice(), true),
        (&first, [service].as_slice(), true),
        (&segment(true, true, false), [customer].as_slice(), true),
        (&next, [customer].as_slice(), false),
        // Another reason to drop it, which is for tc.
        (&foreign, [customer].as_slice(), false),
        (&first, [service, customer].as_slice(), false),
        (&first, [customer, customer].as_slice(), false),
        (&udp(MAC, 54, [10, 0, 0, 9]), [customer].as_slice(), false),
    ] {
        let frame = tagged(frame, tags);
        let (verdict, moved) = if is_dropped { (XDP_DROP, vec![("limit_connections", 1)]) } else { (XDP_PASS, vec![]) };
        assert_eq!(kernel.run_xdp(&frame), Outcome { verdict, frame, moved }, "{tags:02x?}");
    }
    kernel.limit(&Limits { connections: Bucket::UNLIMITED, packets: EXHAUSTED });
    for (frame, is_dropped) in [
        (arp(), true),
        (solicitation(), true),
        (echo(), true),
        (next, true),
        (foreign, true),
        (udp(MAC, 54, METADATA_IPV4), true),
        (udp(MAC, 53, METADATA_IPV4), false),
        (udp(MAC, 54, [10, 0, 0, 9]), false),
    ] {
        let frame = tagged(&frame, &[customer]);
        let (verdict, moved) = if is_dropped { (XDP_DROP, vec![("limit_packets", 1)]) } else { (XDP_PASS, vec![]) };
        assert_eq!(kernel.run_xdp(&frame), Outcome { verdict, frame, moved });
    }
}

#[test]
fn at_xdp_a_drop_is_sampled_as_at_tc() {
    let mut kernel = Kernel::new();
    let mut ring: aya::maps::RingBuf<_> = kernel.ring().try_into().expect("a ring");
    kernel.limit(&Limits { connections: EXHAUSTED, packets: Bucket::UNLIMITED });
    let frame = segment(true, true, false);
    for frame in [frame.clone(), tagged(&frame, &[[0x81, 0, 0x20, 7]])] {
        assert_eq!(kernel.run_xdp(&frame).verdict, XDP_DROP);
    }
    for vlan in [0, 7] {
        let item = ring.next().expect("a sample");
        // SAFETY: the programs write nothing else into the ring; read without regard to alignment.
        let event = unsafe { item.as_ptr().cast::<Event>().read_unaligned() };
        assert_eq!(item.len(), size_of::<Event>());
        assert_eq!((event.ifindex, event.reason), (IFINDEX, DropReason::LimitConnections as u32));
        assert_eq!((event.vlan, event.ethertype, event.len as usize), (vlan, 0x86dd, frame.len()));
        assert_eq!(event.head[..], frame[..64]);
    }
}
