//! All other traffic passes byte for byte, and nothing to or from the metadata addresses reaches anybody else.
//!
//! A busy machine loses frames on its own: veth's queue of received frames is one per processor, shared by all tests, and
//! a link or bridge port discards what is sent before the kernel has taken note of its carrier. So the way is tried until
//! it is open, the frame that marks the end is repeated, and a round in which frames are missing is sent again, a few times:
//! the programs would drop the same frames in every round. A frame that is changed, doubled or overtaken fails at once.

use std::time::Duration;

use etherparse::PacketBuilder;
use lab::{FrameSocket, Guest, Namespace, Node, NodePlan, wait};
use metadata_ebpf::addr::{METADATA_IPV4, METADATA_IPV6, METADATA_MAC, METADATA_SOLICITED_NODE};
use nix::sched::{CpuSet, sched_getaffinity, sched_getcpu, sched_setaffinity};
use nix::unistd::Pid;

/// A bridge in the node with a guest on one port and a neighbour on the other.
pub(crate) struct World {
    pub(crate) node: Node,
    pub(crate) guest: Guest,
    neighbour: Namespace,
    pub(crate) near: FrameSocket,
    pub(crate) far: FrameSocket,
}

pub(crate) const FAR_MAC: [u8; 6] = [0xfa, 0x16, 0x3e, 0xfa, 0xfa, 0xfa];

impl World {
    pub(crate) fn new(plan: NodePlan, tap: Option<&str>) -> Self {
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
    pub(crate) fn pass(&self, from: &FrameSocket, to: &FrameSocket, frames: &[Vec<u8>]) {
        let (source, target) =
            if std::ptr::eq(from, &self.near) { (self.guest.mac(), FAR_MAC) } else { (FAR_MAC, self.guest.mac()) };
        let _one = OneProcessor::stay();
        send_until_seen(from, to, &mark(target, source, "the way is open"));
        for round in 1..=ROUNDS {
            for frame in frames {
                from.send(frame).unwrap();
            }
            let arrived = send_until_seen(from, to, &mark(target, source, &format!("end of round {round}")));
            // The guest's kernel sends frames of its own: they are not part of this.
            let arrived: Vec<_> = arrived.into_iter().filter(|frame| frames.contains(frame)).collect();
            if arrived == frames {
                return;
            }
            assert!(arrived.len() < frames.len(), "frames came twice or in another order");
            let mut sent = frames.iter();
            assert!(arrived.iter().all(|frame| sent.any(|sent| sent == frame)), "frames came in another order");
            println!("round {round}: {} of {} frames are missing", frames.len() - arrived.len(), frames.len());
        }
        panic!("frames were missing in each of {ROUNDS} rounds");
    }
}

/// How often frames are sent before missing ones are the fault of what they pass through.
const ROUNDS: u32 = 5;

/// How long a mark may be under way before it is sent again.
const REPEAT: Duration = Duration::from_millis(200);

/// A frame of a local experiment (IEEE 802, 0x88b5): nothing answers it.
fn mark(target: [u8; 6], source: [u8; 6], text: &str) -> Vec<u8> {
    let mut frame = [target.as_slice(), &source, &[0x88, 0xb5], text.as_bytes()].concat();
    frame.resize(64, 0);
    frame
}

/// Sends this frame until it is seen at the other end, and returns what was seen there before it. Further copies of it may
/// follow.
fn send_until_seen(from: &FrameSocket, to: &FrameSocket, mark: &[u8]) -> Vec<Vec<u8>> {
    let mut seen = Vec::new();
    wait::until("a frame is seen at the other end", || {
        from.send(mark)?;
        while let Some(frame) = to.receive(REPEAT)? {
            if frame == mark {
                return Ok(Some(()));
            }
            seen.push(frame);
        }
        Ok(None)
    })
    .unwrap();
    seen
}

/// Keeps this thread on one processor until it is dropped. Each processor has a queue of its own for what veth receives:
/// frames sent from two could overtake each other.
struct OneProcessor(CpuSet);

impl OneProcessor {
    fn stay() -> Self {
        let (this, mut one) = (Pid::from_raw(0), CpuSet::new());
        let before = sched_getaffinity(this).unwrap();
        one.set(sched_getcpu().unwrap()).unwrap();
        sched_setaffinity(this, &one).unwrap();
        Self(before)
    }
}

impl Drop for OneProcessor {
    fn drop(&mut self) {
        // The thread may be that of further tests.
        let _ = sched_setaffinity(Pid::from_raw(0), &self.0);
    }
}

pub(crate) fn written(
    write: impl FnOnce(&mut Vec<u8>) -> Result<(), etherparse::err::packet::BuildWriteError>,
) -> Vec<u8> {
    let mut bytes = Vec::new();
    write(&mut bytes).unwrap();
    bytes
}

/// One frame of each kind, from one MAC to another.
pub(crate) fn ordinary(from: [u8; 6], to: [u8; 6]) -> Vec<Vec<u8>> {
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
    let _one = OneProcessor::stay();
    for frame in for_metadata(&world.guest) {
        world.near.send(&frame).unwrap();
    }
    let seen = send_until_seen(&world.near, &world.far, &mark(FAR_MAC, world.guest.mac(), "the end"));
    let leaked: Vec<_> = seen.into_iter().filter(|frame| is_metadata(frame)).collect();
    assert!(leaked.is_empty(), "{leaked:02x?}");
    drop(world.neighbour);
}
