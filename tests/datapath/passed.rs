//! What `ports.pass` leaves to the network.

use etherparse::PacketBuilder;
use metadata_ebpf::{
    abi::{PORT_HELD, Port},
    addr::{METADATA_IPV4, METADATA_IPV6},
};

use crate::fixture::{DROP, GATEWAY_MAC, GUEST, GUEST_V6, Kernel, MAC, OTHER_MAC, Outcome, PASS, REDIRECT, port};

fn written<E: std::fmt::Debug>(write: impl FnOnce(&mut Vec<u8>) -> Result<(), E>) -> Vec<u8> {
    let mut frame = Vec::new();
    write(&mut frame).expect("the frame fits");
    frame
}

fn udp(mac: [u8; 6], src: [u8; 4], port: u16) -> Vec<u8> {
    let builder = PacketBuilder::ethernet2(mac, GATEWAY_MAC).ipv4(src, METADATA_IPV4, 64).udp(40000, port);
    written(|out| builder.write(out, b"question"))
}

fn tcp(port: u16) -> Vec<u8> {
    let builder = PacketBuilder::ethernet2(MAC, GATEWAY_MAC).ipv4(GUEST, METADATA_IPV4, 64).tcp(40000, port, 1, 500);
    written(|out| builder.write(out, b""))
}

fn udp6(port: u16) -> Vec<u8> {
    let builder = PacketBuilder::ethernet2(MAC, GATEWAY_MAC).ipv6(GUEST_V6, METADATA_IPV6, 64).udp(40000, port);
    written(|out| builder.write(out, b"question"))
}

fn tcp6(port: u16) -> Vec<u8> {
    let builder = PacketBuilder::ethernet2(MAC, GATEWAY_MAC).ipv6(GUEST_V6, METADATA_IPV6, 64).tcp(40000, port, 1, 500);
    written(|out| builder.write(out, b""))
}

fn arp_reply() -> Vec<u8> {
    let ends = [GATEWAY_MAC.as_slice(), &MAC, &[8, 6, 0, 1, 8, 0, 6, 4, 0, 2], &MAC, &GUEST, &GATEWAY_MAC];
    [ends.concat().as_slice(), &METADATA_IPV4].concat()
}

fn advertisement() -> Vec<u8> {
    let builder = PacketBuilder::ethernet2(MAC, GATEWAY_MAC).ipv6(GUEST_V6, METADATA_IPV6, 255).icmpv6_raw(
        136,
        0,
        [0x60, 0, 0, 0],
    );
    written(|out| builder.write(out, &[GUEST_V6.as_slice(), &[2, 1], &MAC].concat()))
}

#[test]
fn a_port_of_the_list_passes_untouched_from_any_source() {
    for port in [port(), Port { flags: PORT_HELD, source_count: 0, ..port() }] {
        let mut kernel = Kernel::with(&port);
        kernel.pass(&[(17, 53), (6, 53)]);
        for (name, frame) in [
            ("UDP", udp(MAC, GUEST, 53)),
            ("UDP of another source", udp(OTHER_MAC, [10, 9, 9, 9], 53)),
            ("TCP", tcp(53)),
            ("UDP over IPv6", udp6(53)),
            ("TCP over IPv6", tcp6(53)),
            ("the guest's MAC for a resolver", arp_reply()),
            ("the guest's MAC for a resolver over IPv6", advertisement()),
        ] {
            let outcome = kernel.run("from_guest", &frame);
            assert_eq!(outcome, Outcome { verdict: PASS, frame, moved: vec![("passed", 1)] }, "{name}");
        }
    }
}

#[test]
fn everything_else_is_as_without_a_list() {
    let mut kernel = Kernel::new();
    kernel.pass(&[(17, 53), (6, 53)]);
    for frame in [tcp(80), tcp(54), tcp6(80)] {
        assert_eq!(kernel.run("from_guest", &frame).moved, [("to_responder", 1)]);
    }
    for (reason, frame) in
        [("not_answered", udp(MAC, GUEST, 54)), ("not_answered", udp6(80)), ("spoofed_ip", udp(MAC, [9; 4], 80))]
    {
        let outcome = kernel.run("from_guest", &frame);
        assert_eq!(outcome, Outcome { verdict: DROP, frame, moved: vec![(reason, 1)] });
    }
}

#[test]
fn another_list_takes_effect_at_once() {
    let mut kernel = Kernel::new();
    let frame = udp(MAC, GUEST, 53);
    for frame in [frame.clone(), arp_reply(), advertisement()] {
        let outcome = kernel.run("from_guest", &frame);
        assert_eq!(outcome, Outcome { verdict: DROP, frame, moved: vec![("not_answered", 1)] }, "an empty list");
    }
    // As long as a list can be; the last one counts as the first.
    let all: Vec<_> = (1000..1015).map(|port| (6, port)).chain([(17, 53)]).collect();
    kernel.pass(&all);
    assert_eq!(kernel.run("from_guest", &frame).verdict, PASS);
    kernel.pass(&[(6, 53)]);
    assert_eq!(kernel.run("from_guest", &frame).verdict, DROP);
    assert_eq!(kernel.run("from_guest", &tcp(80)).verdict, REDIRECT);
}
