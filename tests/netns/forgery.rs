//! Guests that pretend to be another: whatever they forge, each reads its own data, and no other guest notices.

use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::Context as _;
use etherparse::PacketBuilder;
use lab::counters::Moved;
use lab::{FrameSocket, Guest, Node, NodePlan, Request, SharedFrame};
use metadata_ebpf::addr::{
    IdentityAddress, METADATA_IPV4, METADATA_IPV6, METADATA_MAC, METADATA_SOLICITED_NODE, RESPONDER_IPV6, Vlan,
};

use crate::bystanders::written;

const META_DATA: &str = "/openstack/latest/meta_data.json";
pub(crate) const MAC: [u8; 6] = [0xfa, 0x16, 0x3e, 0x11, 0x22, 0x33];
pub(crate) const ADDRESS: [u8; 4] = [10, 0, 0, 5];

/// Two guests that cannot be told apart but by their taps.
pub(crate) fn two_alike(node: &Node) -> [Guest; 2] {
    ["victim", "attacker"].map(|name| node.guest(name).mac(MAC).ipv4("10.0.0.5/16").boot().unwrap())
}

pub(crate) fn reads_own(guest: &Guest) {
    assert_eq!(guest.read_uuid(false).unwrap(), guest.uuid());
    assert_eq!(guest.read_uuid(true).unwrap(), guest.uuid());
}

/// Runs `work` while another thread runs `change` over and over, until `work` ends or panics.
pub(crate) fn beside<T>(change: impl Fn() + Sync, work: impl FnOnce() -> T) -> T {
    struct Over<'a>(&'a AtomicBool);

    impl Drop for Over<'_> {
        fn drop(&mut self) {
            self.0.store(true, Ordering::Relaxed);
        }
    }

    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !over.load(Ordering::Relaxed) {
                change();
            }
        });
        let _over = Over(&over);
        work()
    })
}

#[test]
fn forged_headers_are_no_identity() {
    let node = Node::start().unwrap();
    let [victim, attacker] = ["victim", "attacker"].map(|name| node.guest(name).boot().unwrap());
    let address = victim.document().ipv4().unwrap();
    let forwarded = format!("for={address};host={address}");
    for (name, value) in [
        ("X-Forwarded-For", address.as_str()),
        ("X-Real-IP", &address),
        ("Forwarded", &forwarded),
        ("X-Instance-ID", victim.uuid()),
        ("X-Tenant-ID", "f7ac731cc11f40efbc03a9f9e1d1d21f"),
        ("X-Instance-ID-Signature", "0000000000000000000000000000000000000000000000000000000000000000"),
        ("X-Metadata-Provider", "provider"),
        ("X-OVN-Network-ID", victim.port()),
        ("Host", &address),
    ] {
        for request in [Request::get(META_DATA), Request::get(META_DATA).over_ipv6()] {
            let response = attacker.send(&request.header(name, value)).unwrap();
            assert_eq!(response.json().unwrap()["uuid"], attacker.uuid(), "{name}");
        }
    }
}

#[test]
fn a_neighbours_arp_and_neighbour_discovery_in_anothers_name_lead_nobody_astray() {
    let node = Node::start().unwrap();
    let [victim, attacker] = two_alike(&node);
    let (frames, seen) = (attacker.frames().unwrap(), victim.frames().unwrap());
    let link_local = victim.link_local().octets();
    let arp = |operation, sender: [u8; 4]| {
        let header = [8, 6, 0, 1, 8, 0, 6, 4, 0, operation];
        [[0xff; 6].as_slice(), &MAC, &header, &MAC, &sender, &[0; 6], &METADATA_IPV4].concat()
    };
    let nd = |kind, source: [u8; 16], target: [u8; 16]| {
        let packet = PacketBuilder::ethernet2(MAC, [0x33, 0x33, 0xff, 0xfe, 0xa9, 0xfe]);
        let packet = packet.ipv6(source, METADATA_SOLICITED_NODE, 255).icmpv6_raw(kind, 0, [0x20, 0, 0, 0]);
        written(|out| packet.write(out, &[target.as_slice(), &[1, 1], &MAC].concat()))
    };
    for frame in [
        arp(1, ADDRESS),
        arp(1, METADATA_IPV4),
        arp(2, METADATA_IPV4),
        nd(135, link_local, METADATA_IPV6),
        nd(135, METADATA_IPV6, METADATA_IPV6),
        nd(136, METADATA_IPV6, METADATA_IPV6),
    ] {
        frames.send(&frame).unwrap();
    }
    reads_own(&attacker);
    // Of all that, nothing is at the other guest's.
    let mark = [MAC.as_slice(), &[2; 6], &[0x88, 0xb5], &[0x11; 50]].concat();
    let tap = node.namespace().run(|| FrameSocket::open(victim.tap())).unwrap();
    tap.send(&mark).unwrap();
    let arrived = seen.receive_until(&mark).unwrap();
    assert!(arrived.iter().all(|frame| frame.get(6..12) != Some(&METADATA_MAC)), "{arrived:02x?}");
    reads_own(&victim);
}

/// Messages by which hosts and routers tell each other how to send, none of which the responder's kernel may believe of a guest.
#[test]
fn messages_about_routes_neighbours_and_errors_end_at_the_tap() {
    let node = NodePlan::default().ports("pass = []\nnew_connections_per_second = 0\npackets_per_second = 0\n").start();
    let node = node.unwrap();
    let [victim, attacker] = two_alike(&node);
    let frames = attacker.frames().unwrap();
    let before = node.responder().ip("-6 route show table all").unwrap() + &neighbours(&node);
    let own = attacker.link_local().octets();
    // Quotes a reply of the service's to the victim, as an error does.
    let mut quoted = Vec::new();
    PacketBuilder::ipv6(METADATA_IPV6, own, 64).tcp(80, 40_000, 1, 1024).write(&mut quoted, &[]).unwrap();
    let six = |kind, code| {
        let packet = PacketBuilder::ethernet2(MAC, METADATA_MAC).ipv6(own, METADATA_IPV6, 255);
        let packet = packet.icmpv6_raw(kind, code, [0, 0, 5, 0]);
        written(|out| packet.write(out, &quoted))
    };
    let mut quoted_ipv4 = Vec::new();
    PacketBuilder::ipv4(METADATA_IPV4, ADDRESS, 64).tcp(80, 40_000, 1, 1024).write(&mut quoted_ipv4, &[]).unwrap();
    let four = |kind, code| {
        let packet = PacketBuilder::ethernet2(MAC, METADATA_MAC).ipv4(ADDRESS, METADATA_IPV4, 64);
        let packet = packet.icmpv4_raw(kind, code, [0, 0, 5, 0]);
        written(|out| packet.write(out, &quoted_ipv4))
    };
    // Unreachable, packet too big with another code, exceeded, parameter, echo reply, MLD, solicitations, advertisements,
    // redirect, renumbering.
    let sixes =
        [(1, 0), (1, 4), (2, 1), (3, 0), (4, 1), (129, 0), (130, 0), (133, 0), (134, 0), (136, 0), (137, 0), (138, 0)];
    // Echo reply, unreachable but for "fragmentation needed", quench, redirect, advertisement, exceeded, parameter, timestamp.
    let fours = [(0, 0), (3, 0), (3, 1), (3, 3), (3, 13), (4, 0), (5, 0), (5, 1), (9, 0), (11, 0), (12, 0), (13, 0)];
    let messages: Vec<_> = sixes
        .map(|(kind, code)| six(kind, code))
        .into_iter()
        .chain(fours.map(|(kind, code)| four(kind, code)))
        .collect();
    let all = [("not_answered", messages.len() as u64)];
    node.assert_moved(attacker.ifindex(), &all, || messages.iter().try_for_each(|frame| frames.send(frame))).unwrap();
    assert_eq!(node.responder().ip("-6 route show table all").unwrap() + &neighbours(&node), before);
    reads_own(&victim);
    reads_own(&attacker);
}

/// What the responder's kernel knows of neighbours for good: entries of its own come and go.
fn neighbours(node: &Node) -> String {
    node.responder().ip("-6 neigh show nud permanent").unwrap()
}

#[test]
fn the_identity_prefix_is_nothing_that_a_guest_can_use() {
    let node = Node::start().unwrap();
    let [victim, attacker] = two_alike(&node);
    let tag = node.ports().unwrap()[&victim.ifindex()].tag;
    let own_tag = node.ports().unwrap()[&attacker.ifindex()].tag;
    let identities = |tag| {
        let link_local = victim.link_local().octets();
        let of_ipv6 = IdentityAddress::of_ipv6(tag, Vlan::default(), &link_local);
        [IdentityAddress::of_ipv4(tag, Vlan::default(), ADDRESS).encode(), of_ipv6.encode()]
    };
    let responder = node.responder().run(|| FrameSocket::open("guests")).unwrap();
    let frames = attacker.frames().unwrap();
    let before = node.counters(victim.ifindex()).unwrap();
    let segment = |to: [u8; 6], source, destination| {
        let packet = PacketBuilder::ethernet2(MAC, to).ipv6(source, destination, 64);
        written(|out| packet.tcp(40_000, 80, 5, 1024).syn().write(out, &[]))
    };
    let own = attacker.link_local().octets();
    for identity in identities(tag).into_iter().chain(identities(own_tag)) {
        for to in [METADATA_MAC, [0xff; 6]] {
            // As source, it is no address of the port's.
            let spoofed = [("spoofed_ip", 1)];
            node.assert_moved(attacker.ifindex(), &spoofed, || frames.send(&segment(to, identity, METADATA_IPV6)))
                .unwrap();
            // To it, or to the responder, is no way: nothing but the tap's program leads into that namespace.
            for (source, destination) in [(own, identity), (identity, RESPONDER_IPV6), (RESPONDER_IPV6, identity)] {
                frames.send(&segment(to, source, destination)).unwrap();
            }
        }
    }
    let last = segment(METADATA_MAC, own, METADATA_IPV6);
    frames.send(&last).unwrap();
    let [_, mine] = identities(own_tag);
    let is_last = |frame: &[u8]| frame.get(22..38) == Some(&mine);
    let mut others = Vec::new();
    loop {
        let frame = responder.receive(lab::wait::PATIENCE).unwrap().expect("the last one comes");
        if is_last(&frame) {
            break;
        }
        others.push(frame);
    }
    let is_tcp = |frame: &Vec<u8>| frame.get(12..14) == Some(&[0x86, 0xdd]) && frame.get(20) == Some(&6);
    assert!(!others.iter().any(is_tcp), "{others:02x?}");
    assert_eq!(node.counters(victim.ifindex()).unwrap(), before);
    reads_own(&victim);
    reads_own(&attacker);
}

#[test]
fn vlan_tags_lead_to_no_other_guest() {
    let node = Node::start().unwrap();
    let [victim, attacker] = two_alike(&node);
    let frames = attacker.frames().unwrap();
    let before = node.counters(victim.ifindex()).unwrap();
    let syn = |tags: &[[u8; 4]], source: [u8; 4]| {
        let packet = PacketBuilder::ethernet2(MAC, METADATA_MAC).ipv4(source, METADATA_IPV4, 64);
        let frame = written(|out| packet.tcp(40_000, 81, 1, 1024).syn().write(out, &[]));
        [&frame[..12], &tags.concat(), &frame[12..]].concat()
    };
    let (q, ad, priority) = ([0x81, 0, 0, 7], [0x88, 0xa8, 0x0f, 0xff], [0x81, 0, 0xe0, 0]);
    for (name, frame, expected) in [
        ("a tag", syn(&[q], ADDRESS), vec![("to_responder", 1), ("to_guest", 1)]),
        ("a service tag of the highest number", syn(&[ad], ADDRESS), vec![("to_responder", 1), ("to_guest", 1)]),
        ("a priority tag", syn(&[priority], ADDRESS), vec![("to_responder", 1), ("to_guest", 1)]),
        ("a tag and another's address", syn(&[q], [10, 0, 0, 6]), vec![("spoofed_ip", 1)]),
        ("two tags", syn(&[ad, q], ADDRESS), vec![]),
    ] {
        let moved = node.assert_moved(attacker.ifindex(), &expected, || frames.send(&frame));
        moved.unwrap_or_else(|error| panic!("{name}: {error:#}"));
    }
    assert_eq!(node.counters(victim.ifindex()).unwrap(), before);
    reads_own(&attacker);
    reads_own(&victim);
}

/// The numbers of a connection, as its guest would send the next segment.
struct Numbers {
    source_port: u16,
    sequence: u32,
    acknowledgment: u32,
}

/// Finds them in what the guest has sent so far.
fn numbers(sent: &FrameSocket) -> Numbers {
    let mut found = None;
    let word = |bytes: &[u8]| u32::from_be_bytes(bytes.try_into().unwrap());
    while let Some(frame) = sent.receive(std::time::Duration::from_millis(200)).unwrap() {
        let to_service = frame.get(12..14) == Some(&[8, 0]) && frame.get(30..34) == Some(&METADATA_IPV4);
        if !to_service || frame.get(23) != Some(&6) {
            continue;
        }
        let tcp = &frame[34..];
        let total = usize::from(u16::from_be_bytes([frame[16], frame[17]]));
        let payload = u32::try_from(total - 20 - usize::from(tcp[12] >> 4) * 4).unwrap();
        found = Some(Numbers {
            source_port: u16::from_be_bytes([tcp[0], tcp[1]]),
            sequence: word(&tcp[4..8]) + payload,
            acknowledgment: word(&tcp[8..12]),
        });
    }
    found.expect("the guest has sent segments")
}

#[test]
fn a_guest_that_knows_anothers_connection_exactly_cannot_touch_it() {
    let node = Node::start().unwrap();
    let [victim, attacker] = two_alike(&node);
    let (sent, frames) = (victim.frames().unwrap(), attacker.frames().unwrap());
    let request = Request::get(META_DATA);
    let mut connection = victim.namespace().run(|| request.connect()).unwrap();
    assert_eq!(connection.exchange(&request).unwrap().status, 200);
    let Numbers { source_port, sequence, acknowledgment } = numbers(&sent);
    let before = node.counters(victim.ifindex()).unwrap();
    let tcp = || {
        let packet = PacketBuilder::ethernet2(MAC, METADATA_MAC).ipv4(ADDRESS, METADATA_IPV4, 64);
        packet.tcp(source_port, 80, sequence, 1024)
    };
    let question = format!("GET {META_DATA} HTTP/1.1\r\nhost: 169.254.169.254\r\n\r\n");
    let forged = [
        written(|out| tcp().ack(acknowledgment).psh().write(out, question.as_bytes())),
        written(|out| tcp().ack(acknowledgment).fin().write(out, &[])),
        // As if from the service, towards the responder: an answer in the victim's place.
        written(|out| tcp().syn().ack(acknowledgment).write(out, &[])),
        written(|out| tcp().rst().write(out, &[])),
        written(|out| tcp().rst().ack(acknowledgment).write(out, &[])),
    ];
    // The first three are of no connection of this port's: a reset for each. Resets are not answered.
    node.assert_moved(attacker.ifindex(), &[("to_responder", 5), ("to_guest", 3)], || {
        forged.iter().try_for_each(|frame| frames.send(frame))
    })
    .unwrap();
    assert_eq!(
        node.counters(victim.ifindex()).unwrap().to_guest,
        before.to_guest,
        "something of it reached the victim"
    );
    let response = connection.exchange(&request).unwrap();
    assert_eq!((response.status, response.json().unwrap()["uuid"].as_str()), (200, Some(victim.uuid())));
    let mark = [MAC.as_slice(), &[2; 6], &[0x88, 0xb5], &[0x22; 50]].concat();
    node.namespace().run(|| FrameSocket::open(attacker.tap())).unwrap().send(&mark).unwrap();
    for frame in frames.receive_until(&mark).unwrap() {
        assert!(!String::from_utf8_lossy(&frame).contains(victim.uuid()), "{frame:02x?}");
    }
    reads_own(&attacker);
}

/// What the program believes, it has copied before: a source address, or MAC, that changes while it looks is refused or is the
/// port's own, and nothing in between.
#[test]
fn a_packet_that_changes_while_the_program_looks_at_it_is_one_or_the_other() {
    /// Frames between two looks at what became of them.
    const TIMES: u64 = 2_000;
    /// Offsets of the last bytes of source MAC and source address.
    const RACED: [usize; 2] = [11, 29];
    let node = Node::start().unwrap();
    let attacker = node.guest("attacker").mac(MAC).ipv4("10.0.0.5/16").boot().unwrap();
    let tag = node.ports().unwrap()[&attacker.ifindex()].tag;
    let identity = IdentityAddress::of_ipv4(tag, Vlan::default(), ADDRESS).encode();
    let responder = node.responder().run(|| FrameSocket::open("guests")).unwrap();
    let packet = PacketBuilder::ethernet2(MAC, METADATA_MAC).ipv4(ADDRESS, METADATA_IPV4, 64);
    let frame = written(|out| packet.tcp(40_000, 80, 1, 1024).ack(1).write(out, &[]));
    let shared = attacker.namespace().run(|| SharedFrame::open("eth0", &frame)).unwrap();
    let before = node.counters(attacker.ifindex()).unwrap();
    let (mut sent, mut arrived) = (0, 0);
    let flip = || {
        for offset in RACED {
            shared.byte(offset).fetch_xor(1, Ordering::Relaxed);
        }
    };
    // On a busy machine the other thread may rest for long, at any of the two bytes.
    let raced = beside(flip, || {
        lab::wait::until("each byte was raced", || {
            for _ in 0..TIMES {
                shared.send()?;
            }
            sent += TIMES;
            let moved = lab::wait::until("all are counted", || {
                let moved = Moved::between(&before, &node.counters(attacker.ifindex())?);
                let seen = moved.of("to_responder") + moved.of("spoofed_ip") + moved.of("spoofed_mac");
                Ok((seen == sent).then_some(moved))
            })?;
            while arrived < moved.of("to_responder") {
                let frame = responder.receive(lab::wait::PATIENCE)?.context("not all that was handed over came")?;
                if frame.get(12..14) == Some(&[0x86, 0xdd])
                    && frame.get(20) == Some(&6)
                    && frame.get(38..54) == Some(&RESPONDER_IPV6)
                {
                    assert_eq!(frame[22..38], identity, "{frame:02x?}");
                    arrived += 1;
                }
            }
            Ok((arrived > 0 && moved.of("spoofed_ip") > 0 && moved.of("spoofed_mac") > 0).then_some(()))
        })
    });
    raced.unwrap();
    reads_own(&attacker);
}
