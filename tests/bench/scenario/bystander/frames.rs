//! Frames to run the programs on: somebody else's, and the service's own. Checksums are left 0: the programs adjust them
//! without reading the rest.

use metadata_ebpf::addr::{
    Family, IdentityAddress, METADATA_IPV4, METADATA_IPV6, METADATA_SOLICITED_NODE, RESPONDER_IPV6, Vlan,
};

/// The guest's binding.
pub(super) const TAG: u32 = 0x0102_0304;
/// The guest's MAC.
pub(super) const GUEST_MAC: [u8; 6] = [0xfa, 0x16, 0x3e, 0, 0, 1];
/// The guest's IPv4 address.
pub(super) const GUEST_IPV4: [u8; 4] = [10, 0, 0, 5];
/// Another one on its network.
pub(super) const PEER_IPV4: [u8; 4] = [10, 0, 0, 9];
const GUEST_IPV6: [u8; 16] = [0xfe, 0x80, 0, 0, 0, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8];
const PEER_IPV6: [u8; 16] = [0xfe, 0x80, 0, 0, 0, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 9];
/// As long a segment as the kernel's test runs take on every release.
const LARGE: usize = 3400;

const TCP: u8 = 6;
const UDP: u8 = 17;
const ICMPV6: u8 = 58;

/// What the program is expected to make of a frame.
pub(super) mod verdict {
    /// `TCX_NEXT`.
    pub(in super::super) const PASS: i32 = -1;
    /// `TC_ACT_SHOT`.
    pub(in super::super) const DROP: i32 = 2;
    /// `TC_ACT_REDIRECT`.
    pub(in super::super) const REDIRECT: i32 = 7;
}

/// Frames that are none of ours: what they are, and their bytes.
pub(super) fn foreign() -> Vec<(&'static str, Vec<u8>)> {
    let multicast = [0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0xff, 6, 7, 9];
    vec![
        ("IPv4 TCP", ipv4(TCP, PEER_IPV4, 32)),
        ("IPv4 UDP", ipv4(UDP, PEER_IPV4, 26)),
        ("IPv4 TCP, large", ipv4(TCP, PEER_IPV4, LARGE)),
        ("ARP", arp(PEER_IPV4)),
        ("IPv6 TCP", ipv6(TCP, GUEST_IPV6, PEER_IPV6, &[0; 32])),
        ("IPv6 solicitation", ipv6(ICMPV6, GUEST_IPV6, multicast, &solicitation(PEER_IPV6))),
        // Shares the group with the service's address: the one foreign frame that has to be looked at twice.
        ("IPv6 solicitation, our group", ipv6(ICMPV6, GUEST_IPV6, METADATA_SOLICITED_NODE, &solicitation(PEER_IPV6))),
    ]
}

/// Frames that are ours: what becomes of them, the program, its verdict, and their bytes.
pub(super) fn own() -> Vec<(&'static str, &'static str, i32, Vec<u8>)> {
    use verdict::{DROP, REDIRECT};
    let identity = |family, guest| IdentityAddress { family, vlan: Vlan::default(), tag: TAG, guest }.encode();
    let [a, b, c, d] = GUEST_IPV4;
    let back4 = ipv6(TCP, RESPONDER_IPV6, identity(Family::Ipv4, [0, 0, 0, 0, a, b, c, d]), &[0; 32]);
    let back6 = ipv6(TCP, RESPONDER_IPV6, identity(Family::Ipv6, [1, 2, 3, 4, 5, 6, 7, 8]), &[0; 32]);
    vec![
        ("ARP answered", "from_guest", REDIRECT, arp(METADATA_IPV4)),
        ("solicitation answered", "from_guest", REDIRECT, {
            ipv6(ICMPV6, GUEST_IPV6, METADATA_SOLICITED_NODE, &solicitation(METADATA_IPV6))
        }),
        ("IPv4 TCP redirected", "from_guest", REDIRECT, ipv4(TCP, METADATA_IPV4, 32)),
        ("IPv6 TCP redirected", "from_guest", REDIRECT, ipv6(TCP, GUEST_IPV6, METADATA_IPV6, &[0; 32])),
        ("IPv4 UDP dropped", "from_guest", DROP, ipv4(UDP, METADATA_IPV4, 26)),
        ("IPv4 reply redirected", "to_guest", REDIRECT, back4),
        ("IPv6 reply redirected", "to_guest", REDIRECT, back6),
    ]
}

fn ethernet(ethertype: [u8; 2]) -> Vec<u8> {
    [&[0xfa, 0x16, 0x3e, 0, 0, 2][..], &GUEST_MAC, &ethertype].concat()
}

fn ipv4(protocol: u8, dst: [u8; 4], payload: usize) -> Vec<u8> {
    let mut frame = ethernet([8, 0]);
    let [high, low] = u16::try_from(20 + payload).unwrap_or(u16::MAX).to_be_bytes();
    frame.extend([0x45, 0, high, low, 0, 0, 0x40, 0, 64, protocol, 0, 0]);
    frame.extend(GUEST_IPV4);
    frame.extend(dst);
    frame.resize(frame.len() + payload, 0);
    frame
}

fn ipv6(next_header: u8, src: [u8; 16], dst: [u8; 16], payload: &[u8]) -> Vec<u8> {
    let mut frame = ethernet([0x86, 0xdd]);
    let [high, low] = u16::try_from(payload.len()).unwrap_or(u16::MAX).to_be_bytes();
    frame.extend([0x60, 0, 0, 0, high, low, next_header, 255]);
    frame.extend(src);
    frame.extend(dst);
    frame.extend(payload);
    frame
}

fn arp(target: [u8; 4]) -> Vec<u8> {
    let mut frame = ethernet([8, 6]);
    frame.extend([0, 1, 8, 0, 6, 4, 0, 1]);
    frame.extend(GUEST_MAC);
    frame.extend(GUEST_IPV4);
    frame.extend([0; 6]);
    frame.extend(target);
    frame
}

fn solicitation(target: [u8; 16]) -> Vec<u8> {
    let mut message = vec![135, 0, 0, 0, 0, 0, 0, 0];
    message.extend(target);
    message.extend([1, 1]);
    message.extend(GUEST_MAC);
    message
}
