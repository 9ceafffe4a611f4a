//! Header layouts in wire order, and the headers that the programs write.
//!
//! Promises: every view is made of bytes only, so it has alignment 1 and any bytes are a value; whoever makes one has
//! checked that the frame is that long. Numbers in a view are network order until a method says otherwise.
//!
//! Left out: VLAN tags (the kernel keeps the outer one beside the packet), IPv4 options and IPv6 extension headers
//! (such packets are refused), TCP itself (its only touched field is the checksum, by offset).

/// EtherType of IPv4 (RFC 894).
pub const ETHERTYPE_IPV4: u16 = 0x0800;
/// EtherType of ARP (RFC 826).
pub const ETHERTYPE_ARP: u16 = 0x0806;
/// EtherType of IPv6 (RFC 2464).
pub const ETHERTYPE_IPV6: u16 = 0x86dd;
/// Tag protocol identifier of an 802.1Q tag.
pub const ETHERTYPE_VLAN: u16 = 0x8100;
/// Tag protocol identifier of an 802.1ad service tag.
pub const ETHERTYPE_SERVICE_VLAN: u16 = 0x88a8;

/// IP protocol number of ICMP.
pub const PROTOCOL_ICMP: u8 = 1;
/// IP protocol number of TCP.
pub const PROTOCOL_TCP: u8 = 6;
/// IP protocol number of ICMPv6.
pub const PROTOCOL_ICMPV6: u8 = 58;
/// IPv6 next header of a fragment (RFC 8200, section 4.5).
pub const NEXT_HEADER_FRAGMENT: u8 = 44;

/// Length of Ethernet and IPv4 headers together.
pub const ETH_IPV4_LEN: usize = size_of::<EthIpv4>();
/// Length of Ethernet and IPv6 headers together.
pub const ETH_IPV6_LEN: usize = size_of::<EthIpv6>();
/// Offset of the checksum in a TCP header.
pub const TCP_CHECKSUM: usize = 16;
/// Offset of the flags in a TCP header (RFC 9293, section 3.1).
pub const TCP_FLAGS: usize = 13;
/// The reset flag.
pub const TCP_RESET: u8 = 0x04;
/// Length of a TCP header without options.
pub const TCP_MIN_LEN: u16 = 20;
/// Length of an ICMP echo header.
pub const ECHO_LEN: u16 = 8;

/// A header that may be read in place.
///
/// # Safety
/// Only for `repr(C)` types made of bytes: alignment 1, no padding, every bit pattern a value.
pub unsafe trait View: Copy {}

/// Ethernet and IPv4 (RFC 791) without options.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EthIpv4 {
    /// Destination MAC.
    pub dst_mac: [u8; 6],
    /// Source MAC.
    pub src_mac: [u8; 6],
    /// EtherType.
    pub ethertype: [u8; 2],
    /// Version (4 bits) and header length in 32-bit words (4 bits).
    pub version_ihl: u8,
    /// Differentiated services and ECN.
    pub tos: u8,
    /// Length of header and payload.
    pub total_len: [u8; 2],
    /// Identification.
    pub id: [u8; 2],
    /// Flags (3 bits) and fragment offset (13 bits).
    pub fragment: [u8; 2],
    /// Time to live.
    pub ttl: u8,
    /// Protocol.
    pub protocol: u8,
    /// Header checksum.
    pub checksum: [u8; 2],
    /// Source address.
    pub src: [u8; 4],
    /// Destination address.
    pub dst: [u8; 4],
}

/// Ethernet and IPv6 (RFC 8200).
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EthIpv6 {
    /// Destination MAC.
    pub dst_mac: [u8; 6],
    /// Source MAC.
    pub src_mac: [u8; 6],
    /// EtherType.
    pub ethertype: [u8; 2],
    /// Version (4 bits), traffic class (8 bits), flow label (20 bits).
    pub version_class_flow: [u8; 4],
    /// Length of what follows this header.
    pub payload_len: [u8; 2],
    /// Next header.
    pub next_header: u8,
    /// Hop limit.
    pub hop_limit: u8,
    /// Source address.
    pub src: [u8; 16],
    /// Destination address.
    pub dst: [u8; 16],
}

/// Ethernet and ARP for IPv4 (RFC 826).
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EthArp {
    /// Destination MAC.
    pub dst_mac: [u8; 6],
    /// Source MAC.
    pub src_mac: [u8; 6],
    /// EtherType.
    pub ethertype: [u8; 2],
    /// Hardware type, 1 for Ethernet.
    pub hardware: [u8; 2],
    /// Protocol type, [`ETHERTYPE_IPV4`].
    pub protocol: [u8; 2],
    /// 6.
    pub hardware_len: u8,
    /// 4.
    pub protocol_len: u8,
    /// 1 request, 2 reply.
    pub operation: [u8; 2],
    /// Sender's MAC.
    pub sender_mac: [u8; 6],
    /// Sender's address; 0.0.0.0 in a probe (RFC 5227).
    pub sender: [u8; 4],
    /// Target's MAC.
    pub target_mac: [u8; 6],
    /// Target's address.
    pub target: [u8; 4],
}

/// An ICMPv6 neighbour solicitation or advertisement without its options (RFC 4861, sections 4.3 and 4.4).
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Neighbour {
    /// 135 solicitation, 136 advertisement.
    pub kind: u8,
    /// 0.
    pub code: u8,
    /// Checksum over pseudo header and message.
    pub checksum: [u8; 2],
    /// Router, solicited and override flags in the first byte.
    pub flags: [u8; 4],
    /// The address that is asked for.
    pub target: [u8; 16],
}

/// Ethernet, IPv6 and a neighbour advertisement with the target's link-layer address: a whole frame.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Advertisement {
    /// Ethernet and IPv6.
    pub ip: EthIpv6,
    /// The message.
    pub message: Neighbour,
    /// Type 2, target link-layer address.
    pub option_kind: u8,
    /// 1, in units of 8 bytes.
    pub option_len: u8,
    /// The MAC.
    pub option_mac: [u8; 6],
}

/// The first four bytes of an ICMP or ICMPv6 message.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Icmp {
    /// Type.
    pub kind: u8,
    /// Code.
    pub code: u8,
    /// Checksum.
    pub checksum: [u8; 2],
}

// SAFETY: bytes only.
unsafe impl View for EthIpv4 {}
// SAFETY: bytes only.
unsafe impl View for EthIpv6 {}
// SAFETY: bytes only.
unsafe impl View for EthArp {}
// SAFETY: bytes only.
unsafe impl View for Neighbour {}
// SAFETY: bytes only.
unsafe impl View for Advertisement {}
// SAFETY: bytes only.
unsafe impl View for Icmp {}

const _: () = {
    assert!(size_of::<EthIpv4>() == 34 && align_of::<EthIpv4>() == 1);
    assert!(size_of::<EthIpv6>() == 54 && align_of::<EthIpv6>() == 1);
    assert!(size_of::<EthArp>() == 42 && align_of::<EthArp>() == 1);
    assert!(size_of::<Neighbour>() == 24 && size_of::<Icmp>() == 4);
    assert!(size_of::<Advertisement>() == 86);
    assert!(ETH_IPV6_LEN + ADVERTISEMENT_MESSAGE_LEN as usize == ADVERTISEMENT_LEN);
};

/// Length of an ARP frame.
pub const ARP_FRAME_LEN: usize = size_of::<EthArp>();
/// Length of an advertisement's frame.
pub const ADVERTISEMENT_LEN: usize = size_of::<Advertisement>();
/// Length of the ICMPv6 part of an advertisement.
pub const ADVERTISEMENT_MESSAGE_LEN: u8 = 32;

/// ICMP type of an echo request.
pub const ICMP_ECHO_REQUEST: u8 = 8;
/// ICMP type of an echo reply.
pub const ICMP_ECHO_REPLY: u8 = 0;
/// ICMPv6 type of an echo request.
pub const ICMPV6_ECHO_REQUEST: u8 = 128;
/// ICMPv6 type of an echo reply.
pub const ICMPV6_ECHO_REPLY: u8 = 129;
/// ICMPv6 type of a neighbour solicitation.
pub const ICMPV6_SOLICITATION: u8 = 135;
/// ICMPv6 type of a neighbour advertisement.
pub const ICMPV6_ADVERTISEMENT: u8 = 136;

/// Returns the frame's first bytes as `T`, or `None` if there are too few of them.
#[must_use]
pub fn view<T: View>(bytes: &[u8]) -> Option<&T> {
    if bytes.len() < size_of::<T>() {
        return None;
    }
    // SAFETY: long enough (checked above); `View` promises alignment 1 and that any bytes are a value.
    Some(unsafe { &*bytes.as_ptr().cast::<T>() })
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

    /// Returns the advertisement that answers this solicitation: "the target is at `mac`", its checksum 0.
    /// To the sender if it has an address, else (RFC 4861, section 7.2.4) to all nodes, unsolicited.
    #[inline(always)]
    #[must_use]
    pub const fn advertisement(&self, target: [u8; 16], mac: [u8; 6]) -> Advertisement {
        const ALL_NODES: [u8; 16] = [0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1];
        const ALL_NODES_MAC: [u8; 6] = [0x33, 0x33, 0, 0, 0, 1];
        const SOLICITED: u8 = 0x40;
        const OVERRIDE: u8 = 0x20;
        let probe = self.src[0] == 0;
        Advertisement {
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
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::addr::{METADATA_IPV4, METADATA_IPV6, METADATA_MAC, RESPONDER_IPV6};

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

    #[test]
    fn a_view_needs_all_its_bytes() {
        assert!(view::<EthIpv4>(&[0; 33]).is_none());
        assert!(view::<EthIpv4>(&[0; 34]).is_some());
    }
}
