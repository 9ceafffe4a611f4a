//! All other traffic passes byte for byte, and nothing to or from the metadata addresses reaches anybody else.

use etherparse::PacketBuilder;
use lab::{FrameSocket, Guest, Namespace, Node, NodePlan};
use metadata_ebpf::addr::{METADATA_IPV4, METADATA_IPV6, METADATA_MAC, METADATA_SOLICITED_NODE};

/// A bridge in the node with a guest on one port and a neighbour on the other.
struct World {
    node: Node,
    guest: Guest,
    neighbour: Namespace,
    near: FrameSocket,
    far: FrameSocket,
}

const FAR_MAC: [u8; 6] = [0xfa, 0x16, 0x3e, 0xfa, 0xfa, 0xfa];

impl World {
    fn new(plan: NodePlan, tap: Option<&str>) -> Self {
        let node = plan.start().unwrap();
        let neighbour = Namespace::create("far").unwrap();
        let lines = format!(
            "link add br0 mtu 9000 type bridge mcast_snooping 0\nlink set br0 addrgenmode none\nlink set br0 up\n\
             link add far mtu 9000 type veth peer name eth0 address {} mtu 9000 netns {}\n\
             link set far addrgenmode none\nlink set far master br0\nlink set far up\n",
            lab::guest::mac_text(FAR_MAC),
            neighbour.name()
        );
        node.namespace().ip_batch(&lines).unwrap();
        // Where the bridge hands packets to the firewall's hooks, those cut padding off: no concern of this test.
        for family in ["ip", "ip6", "arp"] {
            let _ = node.namespace().sysctl(&format!("bridge/bridge-nf-call-{family}tables"), "0");
        }
        neighbour.ip_batch("link set eth0 addrgenmode none\nlink set eth0 up\n").unwrap();
        let mut guest = node.guest("a").mtu(9000).bridge("br0").ipv4("10.0.0.5/16");
        if let Some(tap) = tap {
            guest = guest.tap(tap).at_once();
        }
        let guest = guest.boot().unwrap();
        let far = neighbour.run(|| FrameSocket::open("eth0")).unwrap();
        let near = guest.frames().unwrap();
        Self { node, guest, neighbour, near, far }
    }

    /// Sends frames one way and expects the very same at the other end, in order.
    fn pass(&self, from: &FrameSocket, to: &FrameSocket, frames: &[Vec<u8>]) {
        let (source, target) =
            if std::ptr::eq(from, &self.near) { (self.guest.mac(), FAR_MAC) } else { (FAR_MAC, self.guest.mac()) };
        let last = [target.as_slice(), &source, &[0x88, 0xb5], &[0x5a; 50]].concat();
        for frame in frames {
            from.send(frame).unwrap();
        }
        // Frames of a local experiment (IEEE 802, 0x88b5) that nothing answers mark the end.
        from.send(&last).unwrap();
        let arrived = to.receive_until(&last).unwrap();
        // The guest's kernel speaks too: what it says is not part of this.
        let arrived: Vec<_> = arrived.into_iter().filter(|frame| frames.contains(frame)).collect();
        assert_eq!(arrived.len(), frames.len(), "frames are missing or came twice");
        assert!(arrived == frames, "frames came in another order");
    }
}

fn written(write: impl FnOnce(&mut Vec<u8>) -> Result<(), etherparse::err::packet::BuildWriteError>) -> Vec<u8> {
    let mut bytes = Vec::new();
    write(&mut bytes).unwrap();
    bytes
}

/// One frame of each kind, from one MAC to another.
fn ordinary(from: [u8; 6], to: [u8; 6]) -> Vec<Vec<u8>> {
    let (a4, b4) = ([10, 0, 0, 5], [10, 0, 0, 9]);
    let (mut a6, mut b6) = ([0; 16], [0; 16]);
    for (address, last) in [(&mut a6, 5), (&mut b6, 9)] {
        address[..2].copy_from_slice(&[0xfe, 0x80]);
        address[15] = last;
    }
    let four = || PacketBuilder::ethernet2(from, to).ipv4(a4, b4, 64);
    let six = || PacketBuilder::ethernet2(from, to).ipv6(a6, b6, 64);
    let tagged = || PacketBuilder::ethernet2(from, to).single_vlan(100.try_into().unwrap()).ipv4(a4, b4, 64);
    let arp = |target: [u8; 4]| {
        [[0xff; 6].as_slice(), &from, &[8, 6, 0, 1, 8, 0, 6, 4, 0, 1], &from, &a4, &[0; 6], &target].concat()
    };
    let mut options = four_with_options(from, to);
    options.extend([7; 30]);
    vec![
        written(|out| four().tcp(1234, 80, 5, 1024).syn().write(out, &[])),
        written(|out| four().tcp(1234, 80, 6, 1024).write(out, b"GET / HTTP/1.1\r\nhost: 169.254.169.254\r\n\r\n")),
        written(|out| four().udp(68, 67).write(out, &[1; 300])),
        written(|out| four().udp(9, 9).write(out, &[2; 8900])),
        written(|out| four().icmpv4_echo_request(1, 1).write(out, b"ping")),
        written(|out| six().tcp(1234, 80, 5, 1024).syn().write(out, &[])),
        written(|out| six().udp(546, 547).write(out, &[3; 200])),
        written(|out| six().udp(9, 9).write(out, &[4; 8900])),
        written(|out| tagged().tcp(1234, 80, 5, 1024).syn().write(out, b"in a VLAN")),
        written(|out| tagged().udp(9, 9).write(out, &[5; 8000])),
        arp(b4),
        arp([169, 254, 169, 253]),
        options,
        [to.as_slice(), &from, &[0x88, 0xcc], &[6; 60]].concat(),
        // Shorter than any IP header, and a header that says nonsense: nobody's business but the receiver's.
        [to.as_slice(), &from, &[0x08, 0x00, 0x45]].concat(),
        [to.as_slice(), &from, &[0x86, 0xdd], &[0xff; 60]].concat(),
    ]
}

fn four_with_options(from: [u8; 6], to: [u8; 6]) -> Vec<u8> {
    let mut header = etherparse::Ipv4Header::new(30, 64, 17.into(), [10, 0, 0, 5], [10, 0, 0, 9]).unwrap();
    header.options = etherparse::Ipv4Options::try_from([1, 1, 1, 1].as_slice()).unwrap();
    header.header_checksum = header.calc_header_checksum();
    let mut bytes = [to.as_slice(), &from, &[0x08, 0x00]].concat();
    header.write(&mut bytes).unwrap();
    bytes
}

/// Frames to the metadata addresses, of all kinds, allowed and not.
fn for_metadata(guest: &Guest) -> Vec<Vec<u8>> {
    let (own, link_local) = (guest.mac(), guest.link_local().octets());
    let mut frames = Vec::new();
    for (mac, to) in [(own, METADATA_MAC), (own, FAR_MAC), (own, [0xff; 6]), ([2; 6], FAR_MAC)] {
        for source in [[10, 0, 0, 5], [10, 0, 0, 77]] {
            let four = || PacketBuilder::ethernet2(mac, to).ipv4(source, METADATA_IPV4, 64);
            frames.push(written(|out| four().tcp(40_001, 80, 5, 1024).syn().write(out, &[])));
            frames.push(written(|out| four().udp(53, 54).write(out, b"question")));
            frames.push(written(|out| four().icmpv4_echo_request(1, 1).write(out, b"ping")));
        }
        let six = || PacketBuilder::ethernet2(mac, to).ipv6(link_local, METADATA_IPV6, 64);
        frames.push(written(|out| six().tcp(40_001, 80, 5, 1024).syn().write(out, &[])));
        frames.push(written(|out| six().udp(53, 54).write(out, b"question")));
        frames.push(written(|out| six().icmpv6_echo_request(1, 1).write(out, b"ping")));
        let arp = [to.as_slice(), &mac, &[8, 6, 0, 1, 8, 0, 6, 4, 0, 1], &mac, &[10, 0, 0, 5], &[0; 6], &METADATA_IPV4];
        frames.push(arp.concat());
        let tagged = PacketBuilder::ethernet2(mac, to).single_vlan(7.try_into().unwrap());
        let tagged = tagged.ipv4([10, 0, 0, 5], METADATA_IPV4, 64).tcp(40_002, 80, 5, 1024).syn();
        frames.push(written(|out| tagged.write(out, &[])));
    }
    frames
}

fn is_metadata(frame: &[u8]) -> bool {
    let has = |address: &[u8]| frame.windows(address.len()).any(|bytes| bytes == address);
    has(&METADATA_IPV4) || has(&METADATA_IPV6) || has(&METADATA_SOLICITED_NODE) || has(&METADATA_MAC)
}

#[test]
fn other_traffic_of_a_managed_tap_passes_byte_for_byte() {
    let world = World::new(NodePlan::default(), None);
    let before = world.node.counters(world.guest.ifindex()).unwrap();
    world.pass(&world.near, &world.far, &ordinary(world.guest.mac(), FAR_MAC));
    world.pass(&world.far, &world.near, &ordinary(FAR_MAC, world.guest.mac()));
    assert_eq!(world.node.counters(world.guest.ifindex()).unwrap(), before, "ordinary traffic was counted");
}

#[test]
fn all_traffic_of_an_unmanaged_tap_passes_byte_for_byte() {
    let world = World::new(NodePlan::default(), Some("vif0"));
    let mut frames = ordinary(world.guest.mac(), FAR_MAC);
    frames.extend(for_metadata(&world.guest).into_iter().filter(|frame| frame[..6] != METADATA_MAC));
    world.pass(&world.near, &world.far, &frames);
    world.pass(&world.far, &world.near, &ordinary(FAR_MAC, world.guest.mac()));
    assert!(!world.node.ports().unwrap().contains_key(&world.guest.ifindex()));
}

#[test]
fn metadata_traffic_never_reaches_the_bridges_other_ports() {
    let world = World::new(NodePlan::default(), None);
    assert_eq!(world.guest.read_uuid(false).unwrap(), world.guest.uuid());
    assert_eq!(world.guest.read_uuid(true).unwrap(), world.guest.uuid());
    for frame in for_metadata(&world.guest) {
        world.near.send(&frame).unwrap();
    }
    let last = [FAR_MAC.as_slice(), &world.guest.mac(), &[0x88, 0xb5], &[0x77; 50]].concat();
    world.near.send(&last).unwrap();
    let leaked: Vec<_> = world.far.receive_until(&last).unwrap().into_iter().filter(|f| is_metadata(f)).collect();
    assert!(leaked.is_empty(), "{leaked:02x?}");
    drop(world.neighbour);
}
