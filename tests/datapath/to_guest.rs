//! What `to_guest` does with what the responder sends.

use etherparse::{Ipv4Header, Ipv6Header, PacketBuilder};
use metadata_ebpf::{
    abi::{Neighbour, Neighbours, PORT_ENDED, PORT_LEARN, Port},
    addr::{Family, IdentityAddress, METADATA_IPV4, METADATA_IPV6, METADATA_MAC, RESPONDER_IPV6, Vlan},
    neighbours,
};

use crate::fixture::{DROP, GUEST, GUEST_V6, Kernel, MAC, OTHER_MAC, Outcome, REDIRECT, TAG, port};

fn identity(family: Family, tag: u32) -> [u8; 16] {
    let guest = match family {
        Family::Ipv4 => [0, 0, 0, 0, GUEST[0], GUEST[1], GUEST[2], GUEST[3]],
        Family::Ipv6 => [1, 2, 3, 4, 5, 6, 7, 8],
    };
    IdentityAddress { family, vlan: Vlan::default(), tag, guest }.encode()
}

/// A reply with a payload.
fn reply(src: [u8; 16], dst: [u8; 16]) -> Vec<u8> {
    let mut frame = Vec::new();
    PacketBuilder::ethernet2([2; 6], [4; 6])
        .ipv6(src, dst, 64)
        .tcp(80, 40000, 9, 500)
        .write(&mut frame, b"HTTP/1.1 200 OK\r\n\r\n")
        .expect("the frame fits");
    frame
}

#[test]
fn an_ipv4_guest_gets_ipv4_from_the_metadata_address() {
    let frame = reply(RESPONDER_IPV6, identity(Family::Ipv4, TAG));
    let outcome = Kernel::new().run("to_guest", &frame);
    assert_eq!((outcome.verdict, outcome.moved), (REDIRECT, vec![("to_guest", 1)]));
    assert_eq!(outcome.frame[..12], [MAC, METADATA_MAC].concat());
    let (ip, tcp) = Ipv4Header::from_slice(&outcome.frame[14..]).expect("IPv4");
    assert_eq!((ip.source, ip.destination, ip.time_to_live), (METADATA_IPV4, GUEST, 64));
    assert!(ip.dont_fragment && ip.header_checksum == ip.calc_header_checksum());
    let (header, payload) = etherparse::TcpHeader::from_slice(tcp).expect("TCP");
    assert_eq!(header.checksum, header.calc_checksum_ipv4(&ip, payload).expect("fits"));
    assert_eq!(payload, b"HTTP/1.1 200 OK\r\n\r\n");
}

#[test]
fn an_ipv6_guest_gets_ipv6_from_the_metadata_address() {
    let frame = reply(RESPONDER_IPV6, identity(Family::Ipv6, TAG));
    let outcome = Kernel::new().run("to_guest", &frame);
    assert_eq!((outcome.verdict, outcome.moved), (REDIRECT, vec![("to_guest", 1)]));
    assert_eq!(outcome.frame[..12], [MAC, METADATA_MAC].concat());
    let (ip, tcp) = Ipv6Header::from_slice(&outcome.frame[14..]).expect("IPv6");
    assert_eq!((ip.source, ip.destination), (METADATA_IPV6, GUEST_V6));
    let (header, payload) = etherparse::TcpHeader::from_slice(tcp).expect("TCP");
    assert_eq!(header.checksum, header.calc_checksum_ipv6(&ip, payload).expect("fits"));
}

#[test]
fn a_reply_to_an_ended_binding_goes_nowhere() {
    let frame = reply(RESPONDER_IPV6, identity(Family::Ipv4, TAG + 1));
    let outcome = Kernel::new().run("to_guest", &frame);
    assert_eq!(outcome, Outcome { verdict: DROP, frame, moved: vec![("tag_ended", 1)] });
}

#[test]
fn of_a_retired_binding_only_resets_pass() {
    let mut kernel = Kernel::with(&Port { flags: PORT_ENDED, ..port() });
    let frame = reply(RESPONDER_IPV6, identity(Family::Ipv4, TAG));
    let outcome = kernel.run("to_guest", &frame);
    assert_eq!(outcome, Outcome { verdict: DROP, frame, moved: vec![("tag_ended", 1)] });
    let mut reset = Vec::new();
    PacketBuilder::ethernet2([2; 6], [4; 6])
        .ipv6(RESPONDER_IPV6, identity(Family::Ipv4, TAG), 64)
        .tcp(80, 40000, 9, 0)
        .rst()
        .write(&mut reset, &[])
        .expect("the frame fits");
    let outcome = kernel.run("to_guest", &reset);
    assert_eq!((outcome.verdict, outcome.moved), (REDIRECT, vec![("to_guest", 1)]));
}

#[test]
fn what_is_not_a_reply_to_a_guest_does_not_leave() {
    let mut kernel = Kernel::new();
    let mut udp = Vec::new();
    PacketBuilder::ethernet2([2; 6], [4; 6])
        .ipv6(RESPONDER_IPV6, identity(Family::Ipv4, TAG), 64)
        .udp(80, 40000)
        .write(&mut udp, b"x")
        .expect("the frame fits");
    let mut ipv4 = Vec::new();
    PacketBuilder::ethernet2([2; 6], [4; 6])
        .ipv4([10, 0, 0, 1], GUEST, 64)
        .tcp(80, 40000, 9, 500)
        .write(&mut ipv4, b"x")
        .expect("the frame fits");
    for (name, frame) in [
        ("another destination", reply(RESPONDER_IPV6, METADATA_IPV6)),
        ("another source", reply(METADATA_IPV6, identity(Family::Ipv4, TAG))),
        ("to itself", reply(RESPONDER_IPV6, RESPONDER_IPV6)),
        ("udp", udp),
        ("ipv4", ipv4),
    ] {
        let outcome = kernel.run("to_guest", &frame);
        assert_eq!(outcome, Outcome { verdict: DROP, frame, moved: vec![("stray_from_responder", 1)] }, "{name}");
    }
}

#[test]
fn a_port_of_several_macs_is_answered_at_the_learned_one() {
    let mut kernel = Kernel::with(&Port { flags: PORT_LEARN, ..port() });
    let address = identity(Family::Ipv4, TAG);
    let frame = reply(RESPONDER_IPV6, address);
    let outcome = kernel.run("to_guest", &frame);
    assert_eq!(outcome, Outcome { verdict: DROP, frame: frame.clone(), moved: vec![("mac_unknown", 1)] });
    let mut table = Neighbours::EMPTY;
    let Neighbour { guest, link } = Neighbour::new(&address, OTHER_MAC);
    neighbours::learn(&mut table, guest, link);
    kernel.map::<u32, Neighbours>("NEIGHBOURS").insert(TAG, table, 0).expect("NEIGHBOURS takes the table");
    let outcome = kernel.run("to_guest", &frame);
    assert_eq!((outcome.verdict, &outcome.frame[..6]), (REDIRECT, &OTHER_MAC[..]));
}

#[test]
fn nothing_of_the_hosts_goes_in() {
    let frame = reply(METADATA_IPV6, RESPONDER_IPV6);
    let outcome = Kernel::new().run("from_host", &frame);
    assert_eq!(outcome, Outcome { verdict: DROP, frame, moved: vec![("stray_from_host", 1)] });
}
