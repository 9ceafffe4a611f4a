//! What is refused, and that exactly the counter that says so moves.

use etherparse::{IpFragOffset, IpNumber, Ipv4Header, Ipv4Options, PacketBuilder};
use lab::{FrameSocket, Guest, Node};
use metadata_ebpf::addr::{METADATA_IPV4, METADATA_IPV6, METADATA_MAC};

/// A guest that sends nothing by itself, so that every packet counted is one the test sent.
struct World {
    node: Node,
    guest: Guest,
    frames: FrameSocket,
}

const ADDRESS: [u8; 4] = [10, 0, 0, 5];

impl World {
    fn new() -> Self {
        let node = Node::start().unwrap();
        let guest = node.guest("a").ipv4("10.0.0.5/16").boot().unwrap();
        let frames = guest.frames().unwrap();
        Self { node, guest, frames }
    }

    /// Sends the frame and checks that these counters, and no others, moved by 1.
    fn check(&self, frame: &[u8], names: &[&'static str]) {
        let expected: Vec<_> = names.iter().map(|name| (*name, 1)).collect();
        self.node.assert_moved(self.guest.ifindex(), &expected, || self.frames.send(frame)).unwrap();
    }

    fn tcp4(&self, mac: [u8; 6], source: [u8; 4], port: u16) -> Vec<u8> {
        let packet = PacketBuilder::ethernet2(mac, METADATA_MAC).ipv4(source, METADATA_IPV4, 64);
        let mut bytes = Vec::new();
        packet.tcp(40_000, port, 1, 1024).syn().write(&mut bytes, &[]).unwrap();
        bytes
    }

    fn tcp6(&self, mac: [u8; 6], source: [u8; 16], port: u16) -> Vec<u8> {
        let packet = PacketBuilder::ethernet2(mac, METADATA_MAC).ipv6(source, METADATA_IPV6, 64);
        let mut bytes = Vec::new();
        packet.tcp(40_000, port, 1, 1024).syn().write(&mut bytes, &[]).unwrap();
        bytes
    }

    /// An IPv4 packet of this header with 24 bytes after it.
    fn ipv4(&self, change: impl FnOnce(&mut Ipv4Header)) -> Vec<u8> {
        let mut header = Ipv4Header::new(24, 64, IpNumber::TCP, ADDRESS, METADATA_IPV4).unwrap();
        change(&mut header);
        header.header_checksum = header.calc_header_checksum();
        let mut bytes = [METADATA_MAC.as_slice(), &self.guest.mac(), &[0x08, 0x00]].concat();
        header.write(&mut bytes).unwrap();
        bytes.extend([0; 24]);
        bytes
    }

    fn link_local(&self) -> [u8; 16] {
        self.guest.link_local().octets()
    }
}

const OTHER_MAC: [u8; 6] = [0xfa, 0x16, 0x3e, 0x99, 0x99, 0x99];

#[test]
fn a_spoofed_source_mac_is_dropped() {
    let world = World::new();
    world.check(&world.tcp4(OTHER_MAC, ADDRESS, 80), &["spoofed_mac"]);
    world.check(&world.tcp6(OTHER_MAC, world.link_local(), 80), &["spoofed_mac"]);
}

#[test]
fn a_spoofed_source_ipv4_address_is_dropped() {
    let world = World::new();
    world.check(&world.tcp4(world.guest.mac(), [10, 0, 0, 6], 80), &["spoofed_ip"]);
    world.check(&world.tcp4(world.guest.mac(), METADATA_IPV4, 80), &["spoofed_ip"]);
}

#[test]
fn a_spoofed_ipv6_address_beyond_the_link_is_dropped() {
    let world = World::new();
    let mut source = [0; 16];
    source[..4].copy_from_slice(&[0x20, 0x01, 0x0d, 0xb8]);
    world.check(&world.tcp6(world.guest.mac(), source, 80), &["spoofed_ip"]);
}

#[test]
fn a_fragment_is_dropped() {
    let world = World::new();
    world.check(&world.ipv4(|header| header.more_fragments = true), &["fragment"]);
    world.check(&world.ipv4(|header| header.fragment_offset = IpFragOffset::try_new(3).unwrap()), &["fragment"]);
    let mut six = world.tcp6(world.guest.mac(), world.link_local(), 80);
    six[20] = 44;
    world.check(&six, &["fragment"]);
}

#[test]
fn ipv4_options_are_dropped() {
    let world = World::new();
    let options = Ipv4Options::try_from([1, 1, 1, 1].as_slice()).unwrap();
    world.check(&world.ipv4(|header| header.options = options), &["ipv4_options"]);
}

#[test]
fn ipv6_extension_headers_are_dropped() {
    let world = World::new();
    let mut frame = world.tcp6(world.guest.mac(), world.link_local(), 80);
    frame[20] = 0;
    world.check(&frame, &["ipv6_extension"]);
}

#[test]
fn udp_is_dropped() {
    let world = World::new();
    let mut bytes = Vec::new();
    let packet = PacketBuilder::ethernet2(world.guest.mac(), METADATA_MAC).ipv4(ADDRESS, METADATA_IPV4, 64);
    packet.udp(5000, 5353).write(&mut bytes, b"question").unwrap();
    world.check(&bytes, &["not_answered"]);
    let mut bytes = Vec::new();
    let packet = PacketBuilder::ethernet2(world.guest.mac(), METADATA_MAC).ipv6(world.link_local(), METADATA_IPV6, 64);
    packet.udp(5000, 5353).write(&mut bytes, b"question").unwrap();
    world.check(&bytes, &["not_answered"]);
}

#[test]
fn a_truncated_packet_is_dropped() {
    let world = World::new();
    let mut frame = world.tcp4(world.guest.mac(), ADDRESS, 80);
    frame.truncate(14 + 20 + 8);
    world.check(&frame, &["truncated"]);
}

#[test]
fn a_closed_port_is_refused_by_the_responder() {
    let world = World::new();
    // The namespace's own stack answers with a reset, which is one packet there and one back.
    world.check(&world.tcp4(world.guest.mac(), ADDRESS, 81), &["to_responder", "to_guest"]);
    world.check(&world.tcp6(world.guest.mac(), world.link_local(), 81), &["to_responder", "to_guest"]);
}

#[test]
fn an_arp_request_is_answered_and_an_arp_reply_passes_to_a_resolver_on_the_link() {
    let world = World::new();
    let mac = world.guest.mac();
    let request =
        [[0xff; 6].as_slice(), &mac, &[0x08, 0x06, 0, 1, 0x08, 0, 6, 4, 0, 1], &mac, &ADDRESS, &[0; 6], &METADATA_IPV4]
            .concat();
    world.check(&request, &["answered_arp"]);
    let mut reply = request;
    reply[21] = 2;
    // `ports.pass` is not empty by default, and who it names may have to resolve the guest.
    world.check(&reply, &["passed"]);
}

#[test]
fn allowed_address_pairs_are_allowed_and_nothing_beside_them() {
    let node = Node::start().unwrap();
    let pairs = serde_json::json!([{"ip_address": "192.0.2.0/24"},
        {"ip_address": "198.51.100.7", "mac_address": "fa:16:3e:99:99:99"}]);
    let plan = node.guest("a").ipv4("10.0.0.5/16");
    let guest = plan.document(|document| document.with_port("allowed_address_pairs", pairs)).boot().unwrap();
    let frames = guest.frames().unwrap();
    let world = World { node, guest, frames };
    let own = world.guest.mac();
    for (mac, source) in [(own, [192, 0, 2, 9]), (OTHER_MAC, [198, 51, 100, 7]), (OTHER_MAC, [169, 254, 3, 4])] {
        world.check(&world.tcp4(mac, source, 81), &["to_responder", "to_guest"]);
    }
    for (mac, source) in [(own, [192, 0, 3, 9]), (OTHER_MAC, [192, 0, 2, 9]), (own, [198, 51, 100, 7])] {
        world.check(&world.tcp4(mac, source, 81), &["spoofed_ip"]);
    }
    world.check(&world.tcp4([2; 6], ADDRESS, 81), &["spoofed_mac"]);
}

#[test]
fn a_port_without_port_security_may_use_any_address_with_its_mac() {
    let node = Node::start().unwrap();
    let guest = node.guest("a").document(|document| document.with_port("port_security", false)).boot().unwrap();
    let frames = guest.frames().unwrap();
    let world = World { node, guest, frames };
    world.check(&world.tcp4(world.guest.mac(), [203, 0, 113, 1], 81), &["to_responder", "to_guest"]);
    world.check(&world.tcp4(OTHER_MAC, [203, 0, 113, 1], 81), &["spoofed_mac"]);
}
