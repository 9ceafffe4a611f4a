//! What `from_network` does with what others send to a guest.

use etherparse::PacketBuilder;
use metadata_ebpf::{
    abi::{PORT_HELD, Port},
    addr::{METADATA_IPV4, METADATA_IPV6},
};

use crate::fixture::{DROP, GUEST, GUEST_V6, Kernel, MAC, OTHER_MAC, Outcome, PASS, port};

fn written<E: std::fmt::Debug>(write: impl FnOnce(&mut Vec<u8>) -> Result<(), E>) -> Vec<u8> {
    let mut frame = Vec::new();
    write(&mut frame).expect("the frame fits");
    frame
}

fn tcp4(src: [u8; 4], port: u16) -> Vec<u8> {
    let packet = PacketBuilder::ethernet2(OTHER_MAC, MAC).ipv4(src, GUEST, 64).tcp(port, 40000, 7, 500).syn().ack(8);
    written(|out| packet.write(out, b""))
}

fn tcp6(src: [u8; 16], port: u16) -> Vec<u8> {
    let packet = PacketBuilder::ethernet2(OTHER_MAC, MAC).ipv6(src, GUEST_V6, 64).tcp(port, 40000, 7, 500);
    written(|out| packet.write(out, b"HTTP/1.1 200 OK\r\n\r\n"))
}

fn udp4(src: [u8; 4], port: u16) -> Vec<u8> {
    let packet = PacketBuilder::ethernet2(OTHER_MAC, MAC).ipv4(src, GUEST, 64).udp(port, 40000);
    written(|out| packet.write(out, b"answer"))
}

fn arp(operation: u8, sender: [u8; 4], target: [u8; 4]) -> Vec<u8> {
    let ends =
        [MAC.as_slice(), &OTHER_MAC, &[8, 6, 0, 1, 8, 0, 6, 4, 0, operation], &OTHER_MAC, &sender, &MAC, &target];
    ends.concat()
}

/// A neighbour discovery message behind so many destination options.
fn nd(kind: u8, src: [u8; 16], target: [u8; 16], extensions: usize) -> Vec<u8> {
    let message = [[kind, 0, 0, 0, 0x60, 0, 0, 0].as_slice(), &target, &[2, 1], &OTHER_MAC].concat();
    let mut frame = [MAC.as_slice(), &OTHER_MAC, &[0x86, 0xdd, 0x60, 0, 0, 0]].concat();
    frame.extend(u16::try_from(8 * extensions + message.len()).expect("fits").to_be_bytes());
    frame.extend([if extensions == 0 { 58 } else { 60 }, 255]);
    frame.extend(src);
    frame.extend(GUEST_V6);
    for left in (0..extensions).rev() {
        frame.extend([if left == 0 { 58 } else { 60 }, 0, 1, 4, 0, 0, 0, 0]);
    }
    frame.extend(message);
    frame
}

fn tagged(frame: &[u8], tags: &[[u8; 4]]) -> Vec<u8> {
    [&frame[..12], &tags.concat(), &frame[12..]].concat()
}

const NEIGHBOUR_V6: [u8; 16] = [0xfe, 0x80, 0, 0, 0, 0, 0, 0, 9, 9, 9, 9, 9, 9, 9, 9];

#[test]
fn claims_are_dropped_and_nothing_else_is() {
    let q = [0x81, 0, 0, 7];
    let ad = [0x88, 0xa8, 0, 9];
    let behind_options = |count| nd(136, NEIGHBOUR_V6, METADATA_IPV6, count);
    for port in [port(), Port { flags: PORT_HELD, source_count: 0, ..port() }] {
        let mut kernel = Kernel::with(&port);
        for (name, frame) in [
            ("a segment", tcp4(METADATA_IPV4, 80)),
            ("a segment over IPv6", tcp6(METADATA_IPV6, 80)),
            ("a datagram", udp4(METADATA_IPV4, 53)),
            ("an ARP answer", arp(2, METADATA_IPV4, GUEST)),
            ("an ARP question", arp(1, METADATA_IPV4, GUEST)),
            ("an ARP announcement", arp(1, METADATA_IPV4, METADATA_IPV4)),
            ("an advertisement", nd(136, NEIGHBOUR_V6, METADATA_IPV6, 0)),
            ("an advertisement of its own", nd(136, METADATA_IPV6, METADATA_IPV6, 0)),
            ("a redirect", nd(137, NEIGHBOUR_V6, METADATA_IPV6, 0)),
            ("an advertisement behind options", behind_options(1)),
            ("an advertisement behind many options", behind_options(8)),
            ("behind more than anybody sends", behind_options(9)),
            ("in a VLAN", tagged(&tcp4(METADATA_IPV4, 80), &[q])),
            ("in two VLANs", tagged(&tcp6(METADATA_IPV6, 80), &[ad, q])),
            ("ARP in a VLAN", tagged(&arp(2, METADATA_IPV4, GUEST), &[q])),
            ("an advertisement in two VLANs", tagged(&behind_options(2), &[q, q])),
        ] {
            let outcome = kernel.run("from_network", &frame);
            assert_eq!(outcome, Outcome { verdict: DROP, frame, moved: vec![("impersonation", 1)] }, "{name}");
        }
        for (name, frame) in [
            ("a segment", tcp4([10, 0, 0, 9], 80)),
            ("a segment to nobody's port", tcp4([169, 254, 169, 253], 80)),
            ("a segment over IPv6", tcp6(NEIGHBOUR_V6, 80)),
            ("an ARP answer", arp(2, [10, 0, 0, 9], GUEST)),
            ("an ARP question after the service", arp(1, [10, 0, 0, 9], METADATA_IPV4)),
            ("an advertisement", nd(136, NEIGHBOUR_V6, NEIGHBOUR_V6, 0)),
            ("an advertisement behind options", nd(136, NEIGHBOUR_V6, NEIGHBOUR_V6, 8)),
            ("a question after the service", nd(135, NEIGHBOUR_V6, METADATA_IPV6, 0)),
            ("in VLANs", tagged(&tcp4([10, 0, 0, 9], 80), &[ad, q])),
            ("MPLS", [MAC.as_slice(), &OTHER_MAC, &[0x88, 0x47], &[0xff; 46]].concat()),
            ("cut off in its options", nd(136, NEIGHBOUR_V6, METADATA_IPV6, 3)[..70].to_vec()),
        ] {
            let outcome = kernel.run("from_network", &frame);
            assert_eq!(outcome, Outcome { verdict: PASS, frame, moved: vec![] }, "{name}");
        }
    }
}

#[test]
fn what_is_left_to_the_network_still_comes_from_there() {
    let mut kernel = Kernel::new();
    kernel.pass(&[(17, 53)]);
    for (name, frame, verdict) in [
        ("an answer", udp4(METADATA_IPV4, 53), PASS),
        ("a question after the guest's MAC", arp(1, METADATA_IPV4, GUEST), PASS),
        ("a question after the guest's MAC over IPv6", nd(135, METADATA_IPV6, GUEST_V6, 0), PASS),
        ("another port", udp4(METADATA_IPV4, 54), DROP),
        ("another protocol", tcp4(METADATA_IPV4, 53), DROP),
        ("an ARP answer", arp(2, METADATA_IPV4, GUEST), DROP),
        ("an advertisement", nd(136, METADATA_IPV6, METADATA_IPV6, 0), DROP),
    ] {
        assert_eq!(kernel.run("from_network", &frame).verdict, verdict, "{name}");
    }
}

#[test]
fn a_port_that_is_left_to_others_is_not_guarded() {
    let mut kernel = Kernel::empty();
    for frame in [tcp4(METADATA_IPV4, 80), arp(2, METADATA_IPV4, GUEST), nd(136, METADATA_IPV6, METADATA_IPV6, 0)] {
        assert_eq!(kernel.run("from_network", &frame).verdict, PASS);
    }
}
