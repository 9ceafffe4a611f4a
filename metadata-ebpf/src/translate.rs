//! Headers between the two sides: a guest's packet becomes one from its identity address, a reply becomes one from the
//! metadata address, and the frames that answer in place.
//!
//! Promises: pure functions of headers, so that the way in and the way back are tested on the host; a reply's headers are
//! those of its request with the addresses exchanged. Checksums of TCP segments are left to the caller: see
//! [`mod@checksum`].

use crate::{
    addr::{Family, IdentityAddress, METADATA_IPV4, METADATA_IPV6, METADATA_MAC, RESPONDER_IPV6},
    checksum,
    packet::{
        ADVERTISEMENT_LEN, ADVERTISEMENT_MESSAGE_LEN, Advertisement, ETHERTYPE_IPV4, ETHERTYPE_IPV6, EthArp, EthIpv4,
        EthIpv6, FragmentationNeeded, ICMPV6_ADVERTISEMENT, ICMPV6_PACKET_TOO_BIG, Neighbour,
        PACKET_TOO_BIG_MESSAGE_LEN, PROTOCOL_ICMPV6, PROTOCOL_TCP, PacketTooBig, QuotedIpv6, QuotedTcp, View,
    },
};

/// By how much a packet of the responder's grows smaller on its way to an IPv4 guest.
pub const HEADER_DIFFERENCE: u16 = 20;
/// The smallest MTU of IPv6 (RFC 8200, section 5): the kernel believes no smaller one.
pub const IPV6_MIN_MTU: u32 = 1280;

/// First byte of an IPv6 header without traffic class and flow label.
const VERSION: u8 = 0x60;
/// Hop limit of what is made here and goes one hop.
const HOP_LIMIT: u8 = 64;

/// A reply's headers, towards the guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outbound {
    /// From 169.254.169.254.
    Ipv4(EthIpv4),
    /// From fe80::a9fe:a9fe.
    Ipv6(EthIpv6),
}

/// Returns the bytes of a view. `N` is its size.
#[inline(always)]
fn bytes_of<T: View, const N: usize>(view: &T) -> &[u8; N] {
    const { assert!(size_of::<T>() == N) };
    // SAFETY: as long as the view (asserted above); `View` promises bytes without padding.
    unsafe { &*core::ptr::from_ref(view).cast::<[u8; N]>() }
}

/// Returns the headers of an IPv4 guest's packet, towards the responder.
#[inline(always)]
#[must_use]
pub const fn inbound_ipv4(frame: &EthIpv4, identity: [u8; 16]) -> EthIpv6 {
    frame.to_ipv6(identity, RESPONDER_IPV6)
}

/// Returns the headers of an IPv6 guest's packet, towards the responder.
#[inline(always)]
#[must_use]
pub const fn inbound_ipv6(frame: &EthIpv6, identity: [u8; 16]) -> EthIpv6 {
    EthIpv6 { src: identity, dst: RESPONDER_IPV6, ..*frame }
}

/// Returns the headers of the responder's packet, towards the guest at `mac`. `None` if the length does not fit IPv4.
#[inline(always)]
#[must_use]
pub const fn outbound(frame: &EthIpv6, identity: &IdentityAddress, mac: [u8; 6]) -> Option<Outbound> {
    let header = EthIpv6 { dst_mac: mac, src_mac: METADATA_MAC, ..*frame };
    match identity.family {
        Family::Ipv4 => match header.to_ipv4(METADATA_IPV4, identity.guest_ipv4()) {
            Some(header) => Some(Outbound::Ipv4(header)),
            None => None,
        },
        Family::Ipv6 => Some(Outbound::Ipv6(EthIpv6 { src: METADATA_IPV6, dst: identity.guest_ipv6(), ..header })),
    }
}

/// What a report about a path's MTU says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PathMtu {
    /// The identity address of the guest that the segment was for.
    pub identity: [u8; 16],
    /// Length of the segment with its TCP header.
    pub segment_len: u16,
    /// Start of the segment.
    pub tcp: QuotedTcp,
    /// The MTU, as the responder's packets have to be: see [`responder_mtu`].
    pub mtu: u32,
}

/// Returns the MTU for the responder's packets where packets to the guest may have `mtu` bytes.
#[inline(always)]
#[must_use]
pub const fn responder_mtu(mtu: u32, family: Family) -> u32 {
    let mtu = match family {
        Family::Ipv4 => mtu.saturating_add(HEADER_DIFFERENCE as u32),
        Family::Ipv6 => mtu,
    };
    if mtu < IPV6_MIN_MTU { IPV6_MIN_MTU } else { mtu }
}

impl PathMtu {
    /// Returns the headers of the frame that reports to the responder: from the guest's identity address.
    #[inline(always)]
    #[must_use]
    pub const fn header(&self) -> EthIpv6 {
        EthIpv6 {
            dst_mac: METADATA_MAC,
            src_mac: METADATA_MAC,
            ethertype: ETHERTYPE_IPV6.to_be_bytes(),
            version_class_flow: [VERSION, 0, 0, 0],
            payload_len: [0, PACKET_TOO_BIG_MESSAGE_LEN],
            next_header: PROTOCOL_ICMPV6,
            hop_limit: HOP_LIMIT,
            src: self.identity,
            dst: RESPONDER_IPV6,
        }
    }

    /// Returns what follows those headers.
    #[inline(always)]
    #[must_use]
    pub const fn message(&self) -> PacketTooBig {
        PacketTooBig {
            kind: ICMPV6_PACKET_TOO_BIG,
            code: 0,
            checksum: self.checksum(),
            mtu: self.mtu.to_be_bytes(),
            quoted: QuotedIpv6 {
                version_class_flow: [VERSION, 0, 0, 0],
                payload_len: self.segment_len.to_be_bytes(),
                next_header: PROTOCOL_TCP,
                hop_limit: HOP_LIMIT,
                src: RESPONDER_IPV6,
                dst: self.identity,
            },
            tcp: self.tcp,
        }
    }

    /// Returns the checksum of that message, from its parts: the program never has the whole frame in one place.
    #[inline(always)]
    const fn checksum(&self) -> [u8; 2] {
        let [mtu_0, mtu_1, mtu_2, mtu_3] = self.mtu.to_be_bytes();
        // The addresses of the pseudo header are those of the quoted header, exchanged.
        let addresses = checksum::sum(&self.identity, 0) + checksum::sum(&RESPONDER_IPV6, 0);
        let message = u16::from_be_bytes([ICMPV6_PACKET_TOO_BIG, 0]) as u32
            + u16::from_be_bytes([mtu_0, mtu_1]) as u32
            + u16::from_be_bytes([mtu_2, mtu_3]) as u32
            + u16::from_be_bytes([VERSION, 0]) as u32
            + self.segment_len as u32
            + u16::from_be_bytes([PROTOCOL_TCP, HOP_LIMIT]) as u32
            + checksum::sum(&self.tcp, 0);
        let pseudo_header = PACKET_TOO_BIG_MESSAGE_LEN as u32 + PROTOCOL_ICMPV6 as u32;
        (!checksum::fold(2 * addresses + message + pseudo_header)).to_be_bytes()
    }
}

impl FragmentationNeeded {
    /// Returns what this message says about a reply to the guest of this identity; its checks are the verdict's.
    #[inline(always)]
    #[must_use]
    pub const fn path_mtu(&self, identity: &IdentityAddress) -> PathMtu {
        PathMtu {
            identity: identity.encode(),
            segment_len: u16::from_be_bytes(self.quoted.total_len).wrapping_sub(HEADER_DIFFERENCE),
            tcp: self.tcp,
            mtu: responder_mtu(u16::from_be_bytes(self.mtu) as u32, Family::Ipv4),
        }
    }
}

impl PacketTooBig {
    /// Returns what this message says about a reply to the guest of this identity; its checks are the verdict's.
    #[inline(always)]
    #[must_use]
    pub const fn path_mtu(&self, identity: &IdentityAddress) -> PathMtu {
        PathMtu {
            identity: identity.encode(),
            segment_len: u16::from_be_bytes(self.quoted.payload_len),
            tcp: self.tcp,
            mtu: responder_mtu(u32::from_be_bytes(self.mtu), Family::Ipv6),
        }
    }
}

impl EthArp {
    /// Returns the reply that says `target` is at `mac`.
    #[inline(always)]
    #[must_use]
    pub const fn reply(&self, mac: [u8; 6]) -> Self {
        Self {
            dst_mac: self.src_mac,
            src_mac: mac,
            ethertype: self.ethertype,
            hardware: self.hardware,
            protocol: self.protocol,
            hardware_len: 6,
            protocol_len: 4,
            operation: [0, 2],
            sender_mac: mac,
            sender: self.target,
            target_mac: self.sender_mac,
            target: self.sender,
        }
    }
}

impl EthIpv4 {
    /// Returns the Ethernet and IPv6 headers of the same packet between other addresses: traffic class, length, hop
    /// limit and next header as here, flow label 0.
    #[inline(always)]
    #[must_use]
    pub const fn to_ipv6(&self, src: [u8; 16], dst: [u8; 16]) -> EthIpv6 {
        EthIpv6 {
            dst_mac: self.dst_mac,
            src_mac: self.src_mac,
            ethertype: ETHERTYPE_IPV6.to_be_bytes(),
            version_class_flow: [0x60 | (self.tos >> 4), self.tos << 4, 0, 0],
            // The verdict has checked that total_len covers the header.
            payload_len: u16::from_be_bytes(self.total_len).wrapping_sub(20).to_be_bytes(),
            next_header: self.protocol,
            hop_limit: self.ttl,
            src,
            dst,
        }
    }

    /// Returns the checksum that the IPv4 header should carry (RFC 791), whatever `checksum` holds now.
    #[inline(always)]
    #[must_use]
    pub const fn header_checksum(&self) -> [u8; 2] {
        let mut sum = u16::from_be_bytes([self.version_ihl, self.tos]) as u32
            + u16::from_be_bytes(self.total_len) as u32
            + u16::from_be_bytes(self.id) as u32
            + u16::from_be_bytes(self.fragment) as u32
            + u16::from_be_bytes([self.ttl, self.protocol]) as u32
            + u16::from_be_bytes([self.src[0], self.src[1]]) as u32
            + u16::from_be_bytes([self.src[2], self.src[3]]) as u32
            + u16::from_be_bytes([self.dst[0], self.dst[1]]) as u32
            + u16::from_be_bytes([self.dst[2], self.dst[3]]) as u32;
        sum = (sum & 0xffff) + (sum >> 16);
        sum = (sum & 0xffff) + (sum >> 16);
        let [_, _, high, low] = (!sum).to_be_bytes();
        [high, low]
    }
}

impl EthIpv6 {
    /// Returns the Ethernet and IPv4 headers of the same packet between other addresses: type of service, length,
    /// time to live and protocol as here, "don't fragment" set (so the identification may be 0: RFC 6864), checksum
    /// in place. `None` if the length does not fit.
    #[inline(always)]
    #[must_use]
    pub const fn to_ipv4(&self, src: [u8; 4], dst: [u8; 4]) -> Option<EthIpv4> {
        let Some(total_len) = u16::from_be_bytes(self.payload_len).checked_add(20) else {
            return None;
        };
        let mut header = EthIpv4 {
            dst_mac: self.dst_mac,
            src_mac: self.src_mac,
            ethertype: ETHERTYPE_IPV4.to_be_bytes(),
            version_ihl: 0x45,
            tos: (self.version_class_flow[0] << 4) | (self.version_class_flow[1] >> 4),
            total_len: total_len.to_be_bytes(),
            id: [0, 0],
            fragment: [0x40, 0],
            ttl: self.hop_limit,
            protocol: self.next_header,
            checksum: [0, 0],
            src,
            dst,
        };
        header.checksum = header.header_checksum();
        Some(header)
    }

    /// Returns the advertisement that answers this solicitation: "the target is at `mac`".
    /// To the sender if it has an address, else (RFC 4861, section 7.2.4) to all nodes, unsolicited.
    #[inline(always)]
    #[must_use]
    pub fn advertisement(&self, target: [u8; 16], mac: [u8; 6]) -> Advertisement {
        const ALL_NODES: [u8; 16] = [0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1];
        const ALL_NODES_MAC: [u8; 6] = [0x33, 0x33, 0, 0, 0, 1];
        const SOLICITED: u8 = 0x40;
        const OVERRIDE: u8 = 0x20;
        let probe = self.src[0] == 0;
        let mut frame = Advertisement {
            ip: EthIpv6 {
                dst_mac: if probe { ALL_NODES_MAC } else { self.src_mac },
                src_mac: mac,
                ethertype: self.ethertype,
                version_class_flow: [0x60, 0, 0, 0],
                payload_len: [0, ADVERTISEMENT_MESSAGE_LEN],
                next_header: PROTOCOL_ICMPV6,
                hop_limit: 255,
                src: target,
                dst: if probe { ALL_NODES } else { self.src },
            },
            message: Neighbour {
                kind: ICMPV6_ADVERTISEMENT,
                code: 0,
                checksum: [0, 0],
                flags: [if probe { OVERRIDE } else { OVERRIDE | SOLICITED }, 0, 0, 0],
                target,
            },
            option_kind: 2,
            option_len: 1,
            option_mac: mac,
        };
        frame.message.checksum = checksum::icmpv6(bytes_of::<_, ADVERTISEMENT_LEN>(&frame), ADVERTISEMENT_MESSAGE_LEN);
        frame
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::packet::{ETH_IPV6_LEN, PACKET_TOO_BIG_LEN};

    fn ipv4() -> EthIpv4 {
        EthIpv4 {
            dst_mac: [1; 6],
            src_mac: [2; 6],
            ethertype: [8, 0],
            version_ihl: 0x45,
            tos: 0xb9,
            total_len: 1500u16.to_be_bytes(),
            id: [7, 7],
            fragment: [0x40, 0],
            ttl: 63,
            protocol: PROTOCOL_TCP,
            checksum: [0, 0],
            src: [10, 0, 0, 5],
            dst: METADATA_IPV4,
        }
    }

    #[test]
    fn a_packet_keeps_class_length_and_hops_there_and_back() {
        let original = ipv4();
        let there = original.to_ipv6([9; 16], RESPONDER_IPV6);
        assert_eq!(there.payload_len, 1480u16.to_be_bytes());
        assert_eq!(there.version_class_flow, [0x6b, 0x90, 0, 0]);
        let back = there.to_ipv4(original.src, original.dst).expect("fits");
        assert_eq!(
            EthIpv4 { id: original.id, checksum: original.checksum, ..back },
            original,
            "all but identification and checksum"
        );
    }

    #[test]
    fn the_checksum_of_a_report_is_that_of_its_bytes() {
        for (mtu, segment_len) in [(1280, 1460), (0x0102_0304, 0xffff), (0, 0)] {
            let report = PathMtu { identity: [0xfe; 16], segment_len, tcp: [1, 2, 3, 4, 0xff, 0xfe, 0xfd, 0xfc], mtu };
            let blank = PacketTooBig { checksum: [0, 0], ..report.message() };
            let mut frame = [0; PACKET_TOO_BIG_LEN];
            frame[..ETH_IPV6_LEN].copy_from_slice(bytes_of::<_, ETH_IPV6_LEN>(&report.header()));
            frame[ETH_IPV6_LEN..].copy_from_slice(bytes_of::<_, { size_of::<PacketTooBig>() }>(&blank));
            assert_eq!(
                report.message().checksum,
                checksum::icmpv6(&frame, PACKET_TOO_BIG_MESSAGE_LEN),
                "{mtu} {segment_len}"
            );
        }
    }

    #[test]
    fn the_header_checksum_is_the_worked_example() {
        // The header that RFC 1071's method is usually shown with: 4500 0073 0000 4000 4011 b861 c0a8 0001 c0a8 00c7.
        let header = EthIpv4 {
            tos: 0,
            total_len: [0, 0x73],
            id: [0, 0],
            ttl: 0x40,
            protocol: 0x11,
            src: [192, 168, 0, 1],
            dst: [192, 168, 0, 199],
            ..ipv4()
        };
        assert_eq!(header.header_checksum(), [0xb8, 0x61]);
    }

    #[test]
    fn a_length_that_ipv4_cannot_say_is_refused() {
        let mut header = ipv4().to_ipv6([0; 16], [0; 16]);
        header.payload_len = [0xff, 0xff];
        assert_eq!(header.to_ipv4([0; 4], [0; 4]), None);
    }

    #[test]
    fn a_probe_is_answered_to_all_nodes_and_a_question_to_its_sender() {
        let mut solicitation = ipv4().to_ipv6([0; 16], METADATA_IPV6);
        let all = solicitation.advertisement(METADATA_IPV6, METADATA_MAC);
        assert_eq!((all.ip.dst_mac, all.message.flags[0]), ([0x33, 0x33, 0, 0, 0, 1], 0x20));
        solicitation.src = METADATA_IPV6;
        let one = solicitation.advertisement(METADATA_IPV6, METADATA_MAC);
        assert_eq!((one.ip.dst_mac, one.ip.dst, one.message.flags[0]), ([2; 6], METADATA_IPV6, 0x60));
    }
}
