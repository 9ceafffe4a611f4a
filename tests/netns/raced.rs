//! Packets that change after they were sent, and packets that have the kernel change them: each stays its port's own.
//!
//! The sender is a ring of packet(7), of which the kernel copies no more than it is asked to. That is what a virtual machine can do at
//! worst, whose memory the host reads without a copy; the ways of vhost and tun copy more.

use std::sync::atomic::Ordering;

use etherparse::{PacketBuilder, SlicedPacket, TransportSlice};
use lab::{FrameSocket, Guest, Node, NodePlan, Offload, SharedFrame, wait};
use metadata_ebpf::addr::{IdentityAddress, METADATA_IPV4, METADATA_IPV6, METADATA_MAC};

use crate::bystanders::written;
use crate::forgery::{ADDRESS, MAC, beside, reads_own, two_alike};

/// The responder's end of the pair, where everything arrives that the programs hand over.
struct Responder {
    frames: FrameSocket,
    /// Of the guest that sends.
    tag: u32,
}

impl Responder {
    fn watch(node: &Node, guest: &Guest) -> Self {
        let frames = node.responder().run(|| FrameSocket::open("guests")).unwrap();
        Self { frames, tag: node.ports().unwrap()[&guest.ifindex()].tag }
    }

    /// Sends a last segment, and looks at all that came or left before it. Returns how many segments the programs handed over.
    fn check(&self, sender: &FrameSocket) -> usize {
        let packet = PacketBuilder::ethernet2(MAC, METADATA_MAC).ipv4(ADDRESS, METADATA_IPV4, 64);
        sender.send(&written(|out| packet.tcp(LAST, 80, 1, 1024).ack(1).write(out, &[]))).unwrap();
        let mut segments = 0;
        loop {
            let frame = self.frames.receive(wait::PATIENCE).unwrap().expect("the last one comes");
            if frame.get(12..14) != Some(&[0x86, 0xdd]) || frame.len() < 54 {
                continue;
            }
            let address = |place: usize| frame[place..place + 16].try_into().unwrap();
            let [source, destination] = [22, 38].map(|place| IdentityAddress::decode(&address(place)));
            for identity in [source, destination].into_iter().flatten() {
                assert_eq!(identity.tag, self.tag, "it is another port's: {frame:02x?}");
            }
            segments += usize::from(source.is_some());
            if source.is_some() && frame.get(54..56) == Some(&LAST.to_be_bytes()) {
                return segments;
            }
        }
    }
}

/// The source port of the segment that ends a look.
const LAST: u16 = 50_001;

fn four() -> Vec<u8> {
    let packet = PacketBuilder::ethernet2(MAC, METADATA_MAC).ipv4(ADDRESS, METADATA_IPV4, 64);
    written(|out| packet.tcp(40_000, 80, 1, 1024).ack(1).write(out, b"payload"))
}

fn six(guest: &Guest) -> Vec<u8> {
    let packet = PacketBuilder::ethernet2(MAC, METADATA_MAC).ipv6(guest.link_local().octets(), METADATA_IPV6, 64);
    written(|out| packet.tcp(40_000, 80, 1, 1024).ack(1).write(out, b"payload"))
}

#[test]
fn whichever_byte_of_a_packet_changes_while_it_is_sent_it_stays_its_ports_own() {
    const TIMES: usize = 40;
    let node = Node::start().unwrap();
    let [victim, attacker] = two_alike(&node);
    let (responder, frames) = (Responder::watch(&node, &attacker), attacker.frames().unwrap());
    let before = node.counters(victim.ifindex()).unwrap();
    for frame in [four(), six(&attacker)] {
        let shared = attacker.namespace().run(|| SharedFrame::open("eth0", &frame)).unwrap();
        for (offset, original) in frame.iter().enumerate().skip(6) {
            for mask in [1 << (offset % 8), 0xff] {
                let flip = || {
                    shared.byte(offset).fetch_xor(mask, Ordering::Relaxed);
                };
                // Where the kernel itself refuses the frame, nothing of it arrives.
                beside(flip, || (0..TIMES).for_each(|_| drop(shared.send())));
                shared.byte(offset).store(*original, Ordering::Relaxed);
            }
        }
        assert!(responder.check(&frames) > 100, "hardly anything was handed over");
    }
    assert_eq!(node.counters(victim.ifindex()).unwrap(), before);
    reads_own(&victim);
    reads_own(&attacker);
}

/// A virtual machine says where the checksum is to be written, and how a frame is to be cut. The programs have looked at the headers
/// by then; what the kernel fills in must not be in them.
#[test]
fn what_a_packet_has_the_kernel_fill_in_changes_no_identity() {
    let node = Node::start().unwrap();
    let [victim, attacker] = two_alike(&node);
    let (responder, frames) = (Responder::watch(&node, &attacker), attacker.frames().unwrap());
    let before = node.counters(victim.ifindex()).unwrap();
    let arp = [
        [0xff; 6].as_slice(),
        &MAC,
        &[8, 6, 0, 1, 8, 0, 6, 4, 0, 1],
        &MAC,
        &ADDRESS,
        &[0; 6],
        &METADATA_IPV4,
        &[0; 18],
    ];
    let echo = PacketBuilder::ethernet2(MAC, METADATA_MAC).ipv4(ADDRESS, METADATA_IPV4, 64).icmpv4_echo_request(7, 9);
    let mut accepted = 0;
    for frame in [four(), six(&attacker), arp.concat(), written(|out| echo.write(out, &[0; 40]))] {
        let whole = u16::try_from(frame.len()).unwrap();
        let none = Offload::default();
        let mut shared = attacker.namespace().run(|| SharedFrame::open_with("eth0", &frame, none)).unwrap();
        for csum_start in 0..whole {
            for (csum_offset, hdr_len) in [(0, 0), (0, whole), (2, 20), (16, whole), (0xffff, whole)] {
                shared.ask_for(Offload { needs_csum: true, csum_start, csum_offset, hdr_len, ..none });
                accepted += u32::from(shared.send().is_ok());
            }
        }
        // TCP over IPv4, UDP, TCP over IPv6, UDP as segments; with and without ECN.
        for gso_type in [1, 3, 4, 5, 0x81, 0x84] {
            for gso_size in [0, 1, 7, 0xffff] {
                for (needs_csum, csum_start) in [(true, 34), (true, 54), (false, 0)] {
                    let offload =
                        Offload { needs_csum, gso_type, gso_size, csum_start, csum_offset: 16, hdr_len: whole };
                    shared.ask_for(offload);
                    accepted += u32::from(shared.send().is_ok());
                }
            }
        }
    }
    assert!(accepted > 100, "the kernel took only {accepted}");
    assert!(responder.check(&frames) > 100, "hardly anything was handed over");
    assert_eq!(node.counters(victim.ifindex()).unwrap(), before);
    reads_own(&victim);
    reads_own(&attacker);
}

const FORBIDDEN: &[u8; 14] = b"user_data?aaaa";
const ALLOWED: &[u8; 14] = b"meta_data.json";
const SECRET: &str = "only the first boot may read this";

/// A request over a connection of the test's own making, on a guest of which the kernel has no address and so says nothing.
struct Dialogue {
    frames: FrameSocket,
    sequence: u32,
    acknowledged: u32,
}

/// The dialogue's source port.
const PORT: u16 = 40_001;

impl Dialogue {
    fn begin(guest: &Guest) -> Self {
        let mut dialogue = Self { frames: guest.frames().unwrap(), sequence: 1, acknowledged: 0 };
        let answer = wait::until("the service takes the connection", || {
            let packet = PacketBuilder::ethernet2(MAC, METADATA_MAC).ipv4(ADDRESS, METADATA_IPV4, 64);
            dialogue.frames.send(&written(|out| packet.tcp(PORT, 80, 0, 60_000).syn().write(out, &[])))?;
            Ok(dialogue.receive().filter(|segment| segment.syn))
        });
        dialogue.acknowledged = answer.unwrap().sequence.wrapping_add(1);
        dialogue.acknowledge();
        dialogue
    }

    fn acknowledge(&self) {
        let packet = PacketBuilder::ethernet2(MAC, METADATA_MAC).ipv4(ADDRESS, METADATA_IPV4, 64);
        let packet = packet.tcp(PORT, 80, self.sequence, 60_000).ack(self.acknowledged);
        self.frames.send(&written(|out| packet.write(out, &[]))).unwrap();
    }

    /// Returns the next segment of the service's; `None` if none comes soon.
    fn receive(&self) -> Option<Segment> {
        while let Some(frame) = self.frames.receive(std::time::Duration::from_secs(1)).unwrap() {
            let Ok(packet) = SlicedPacket::from_ethernet(&frame) else { continue };
            let Some(TransportSlice::Tcp(tcp)) = packet.transport else { continue };
            if frame.get(26..30) == Some(&METADATA_IPV4) && tcp.destination_port() == PORT {
                let (syn, sequence) = (tcp.syn(), tcp.sequence_number());
                return Some(Segment { syn, sequence, payload: tcp.payload().to_vec() });
            }
        }
        None
    }

    /// Sends a request of this length by the shared frame, and returns the answer.
    fn ask(&mut self, shared: &SharedFrame, length: u32) -> String {
        shared.store(38, &self.sequence.to_be_bytes());
        shared.store(42, &self.acknowledged.to_be_bytes());
        shared.send().unwrap();
        let end = self.sequence.wrapping_add(length);
        let mut answer = Vec::new();
        loop {
            match self.receive() {
                // It was lost on its way.
                None => shared.send().unwrap(),
                Some(segment) if segment.sequence == self.acknowledged && !segment.payload.is_empty() => {
                    self.acknowledged = self.acknowledged.wrapping_add(u32::try_from(segment.payload.len()).unwrap());
                    answer.extend(segment.payload);
                    self.sequence = end;
                    self.acknowledge();
                    if let Some((head, at)) = lab::Response::head(&answer).unwrap()
                        && answer.len() >= at + head.content_length().unwrap()
                    {
                        return String::from_utf8(answer).unwrap();
                    }
                }
                Some(_) => {}
            }
        }
    }
}

struct Segment {
    syn: bool,
    sequence: u32,
    payload: Vec<u8>,
}

/// The race that a service has which checks a request in the guest's memory and then reads it there again. Here the kernel copies
/// it once, into memory of the daemon's, before anything of it is looked at.
#[test]
fn a_request_that_changes_while_it_is_read_is_answered_as_one_or_the_other() {
    const MOST: usize = 100_000;
    let closed = "[access]\nuser_data = \"never\"\n[http]\nrequests_per_second = 0\n";
    let node = NodePlan::default().further(closed).start().unwrap();
    let guest = node.guest("a").mac(MAC).ipv4("10.0.0.5/16");
    let guest = guest.document(|document| document.with_user_data(SECRET.as_bytes())).boot().unwrap();
    guest.namespace().ip("addr flush dev eth0").unwrap();
    let mut dialogue = Dialogue::begin(&guest);
    let request = b"GET /openstack/latest/meta_data.json HTTP/1.1\r\nhost: a\r\n\r\n";
    let packet = PacketBuilder::ethernet2(MAC, METADATA_MAC).ipv4(ADDRESS, METADATA_IPV4, 64);
    let frame = written(|out| packet.tcp(PORT, 80, 1, 60_000).ack(1).psh().write(out, request));
    // As every virtual machine may: nobody is to verify the checksum of what changes. The headers are copied.
    let offload = Offload { needs_csum: true, csum_start: 34, csum_offset: 16, hdr_len: 54, ..Offload::default() };
    let shared = attacker_frame(&guest, &frame, offload);
    let place = 54 + b"GET /openstack/latest/".len();
    let change = || [FORBIDDEN, ALLOWED].iter().for_each(|path| shared.store(place, *path));
    let (mut allowed, mut refused) = (0, 0);
    beside(change, || {
        for _ in 0..MOST {
            let answer = dialogue.ask(&shared, u32::try_from(request.len()).unwrap());
            assert!(!answer.contains(SECRET), "{answer}");
            match answer.split_ascii_whitespace().nth(1) {
                Some("200") => {
                    assert!(answer.contains(guest.uuid()), "{answer}");
                    allowed += 1;
                }
                Some("404") => refused += 1,
                _ => panic!("{answer}"),
            }
            if allowed >= 100 && refused >= 100 {
                break;
            }
        }
    });
    assert!(allowed > 0 && refused > 0, "nothing was raced: {allowed} answered, {refused} refused");
}

fn attacker_frame(guest: &Guest, frame: &[u8], offload: Offload) -> SharedFrame {
    guest.namespace().run(|| SharedFrame::open_with("eth0", frame, offload)).unwrap()
}
