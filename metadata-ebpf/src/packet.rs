//! Header layouts in wire order.
//!
//! Promises: every view is made of bytes only, so it has alignment 1 and any bytes are a value; whoever makes one has
//! checked that the frame is that long. Numbers in a view are network order until a method says otherwise.
//!
//! Left out: VLAN tags (the kernel keeps the outer one beside the packet), IPv4 options and IPv6 extension headers
//! (such packets are refused).

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
/// IP protocol number of UDP.
pub const PROTOCOL_UDP: u8 = 17;
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
/// The flag of a connection's first segment.
pub const TCP_SYN: u8 = 0x02;
/// The flag of a segment that acknowledges.
pub const TCP_ACK: u8 = 0x10;
/// The reset flag.
pub const TCP_RESET: u8 = 0x04;
/// Length of a TCP header without options.
pub const TCP_MIN_LEN: u16 = 20;
/// Length of a UDP header.
pub const UDP_LEN: u16 = 8;
/// Length of an ICMP echo header.
pub const ECHO_LEN: u16 = 8;

/// A header that may be read in place.
///
/// # Safety
/// Only for `repr(C)` types made of bytes: alignment 1, no padding, every bit pattern a value.
pub unsafe trait View: Copy {}

/// Headers in a place of their own, in which what follows the Ethernet header is aligned to 8 bytes. Addresses in it are compared
/// and copied as words; in a frame, the compiler for eBPF takes them byte by byte.
#[repr(C, align(8))]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Aligned<T: View> {
    /// 0.
    pub padding: [u8; 2],
    /// The headers, from the Ethernet header on.
    pub headers: T,
}

impl<T: View> Aligned<T> {
    /// Gives headers such a place.
    #[inline(always)]
    #[must_use]
    pub const fn new(headers: T) -> Self {
        Self { padding: [0; 2], headers }
    }
}

/// An Ethernet header alone.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ethernet {
    /// Destination MAC.
    pub dst_mac: [u8; 6],
    /// Source MAC.
    pub src_mac: [u8; 6],
    /// EtherType.
    pub ethertype: [u8; 2],
}

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
    /// 1 request ([`ARP_REQUEST`]), 2 reply ([`ARP_REPLY`]).
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

/// The first four bytes behind an IP header: the ports of TCP and UDP, or type, code and checksum of ICMP and ICMPv6.
pub type Transport = [u8; 4];

/// A TCP header without its options (RFC 9293, section 3.1).
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tcp {
    /// Source port.
    pub src: [u8; 2],
    /// Destination port.
    pub dst: [u8; 2],
    /// Number of the first byte.
    pub sequence: [u8; 4],
    /// Number of the next byte that is expected.
    pub acknowledgment: [u8; 4],
    /// Length of the header in 32-bit words (4 bits), reserved bits.
    pub data_offset: u8,
    /// Control bits.
    pub flags: u8,
    /// Window.
    pub window: [u8; 2],
    /// Checksum over pseudo header and segment.
    pub checksum: [u8; 2],
    /// Urgent pointer.
    pub urgent: [u8; 2],
}

/// The first bytes of a TCP header, as a report of an error quotes them: ports and sequence number.
pub type QuotedTcp = [u8; 8];

/// An IPv4 header without options, as a report of an error quotes it.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QuotedIpv4 {
    /// Version (4 bits) and header length in 32-bit words (4 bits).
    pub version_ihl: u8,
    /// Differentiated services and ECN.
    pub tos: u8,
    /// Length of header and payload.
    pub total_len: [u8; 2],
    /// Identification, flags and fragment offset.
    pub fragment: [u8; 4],
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

/// An IPv6 header, as a report of an error quotes it.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QuotedIpv6 {
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

/// ICMP's "fragmentation needed and DF set" about a TCP segment (RFC 792, RFC 1191).
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FragmentationNeeded {
    /// 3, destination unreachable.
    pub kind: u8,
    /// 4, fragmentation needed and DF set.
    pub code: u8,
    /// Checksum.
    pub checksum: [u8; 2],
    /// 0.
    pub unused: [u8; 2],
    /// MTU of the next hop; 0 from routers that are older than RFC 1191.
    pub mtu: [u8; 2],
    /// Header of the segment that did not fit.
    pub quoted: QuotedIpv4,
    /// Start of the segment that did not fit.
    pub tcp: QuotedTcp,
}

/// ICMPv6's "packet too big" about a TCP segment (RFC 4443, section 3.2).
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PacketTooBig {
    /// 2, packet too big.
    pub kind: u8,
    /// 0.
    pub code: u8,
    /// Checksum over pseudo header and message.
    pub checksum: [u8; 2],
    /// MTU of the next hop.
    pub mtu: [u8; 4],
    /// Header of the segment that did not fit.
    pub quoted: QuotedIpv6,
    /// Start of the segment that did not fit.
    pub tcp: QuotedTcp,
}

// SAFETY: bytes only.
unsafe impl View for Ethernet {}
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
unsafe impl View for Transport {}
// SAFETY: bytes only.
unsafe impl View for Tcp {}
// SAFETY: bytes only.
unsafe impl View for FragmentationNeeded {}
// SAFETY: bytes only.
unsafe impl View for PacketTooBig {}

const _: () = {
    assert!(size_of::<Ethernet>() == 14 && align_of::<Ethernet>() == 1);
    assert!(size_of::<EthIpv4>() == 34 && align_of::<EthIpv4>() == 1);
    assert!(size_of::<EthIpv6>() == 54 && align_of::<EthIpv6>() == 1);
    assert!(core::mem::offset_of!(Aligned<EthIpv6>, headers) + core::mem::offset_of!(EthIpv6, src) == 24);
    assert!(size_of::<EthArp>() == 42 && align_of::<EthArp>() == 1);
    assert!(size_of::<Neighbour>() == 24 && size_of::<Tcp>() == TCP_MIN_LEN as usize);
    assert!(size_of::<QuotedIpv4>() == 20 && size_of::<QuotedIpv6>() == 40);
    assert!(
        size_of::<FragmentationNeeded>() == FRAGMENTATION_NEEDED_LEN as usize && align_of::<FragmentationNeeded>() == 1
    );
    assert!(size_of::<PacketTooBig>() == PACKET_TOO_BIG_MESSAGE_LEN as usize && align_of::<PacketTooBig>() == 1);
    assert!(size_of::<Advertisement>() == 86);
    assert!(ETH_IPV6_LEN + ADVERTISEMENT_MESSAGE_LEN as usize == ADVERTISEMENT_LEN);
};

/// Length of an ARP frame.
pub const ARP_FRAME_LEN: usize = size_of::<EthArp>();
/// Length of an advertisement's frame.
pub const ADVERTISEMENT_LEN: usize = size_of::<Advertisement>();
/// Length of the ICMPv6 part of an advertisement.
pub const ADVERTISEMENT_MESSAGE_LEN: u8 = 32;

/// Length of a "packet too big" that quotes no more than is needed.
pub const PACKET_TOO_BIG_MESSAGE_LEN: u8 = 56;
/// Length of a "fragmentation needed" that quotes no more than is needed.
pub const FRAGMENTATION_NEEDED_LEN: u16 = 36;
/// Length of a frame with such a message.
pub const PACKET_TOO_BIG_LEN: usize = ETH_IPV6_LEN + size_of::<PacketTooBig>();

/// ARP operation of a request.
pub const ARP_REQUEST: u8 = 1;
/// ARP operation of a reply.
pub const ARP_REPLY: u8 = 2;
/// ICMP type of an unreachable destination.
pub const ICMP_UNREACHABLE: u8 = 3;
/// ICMP code, of an unreachable destination, of a packet that is too big and must not be fragmented.
pub const ICMP_FRAGMENTATION_NEEDED: u8 = 4;
/// ICMPv6 type of a packet that is too big.
pub const ICMPV6_PACKET_TOO_BIG: u8 = 2;
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
/// ICMPv6 type of a redirect.
pub const ICMPV6_REDIRECT: u8 = 137;

/// Returns the frame's first bytes as `T`, or `None` if there are too few of them.
#[must_use]
pub fn view<T: View>(bytes: &[u8]) -> Option<&T> {
    if bytes.len() < size_of::<T>() {
        return None;
    }
    // SAFETY: long enough (checked above); `View` promises alignment 1 and that any bytes are a value.
    Some(unsafe { &*bytes.as_ptr().cast::<T>() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_view_needs_all_its_bytes() {
        assert!(view::<EthIpv4>(&[0; 33]).is_none());
        assert!(view::<EthIpv4>(&[0; 34]).is_some());
    }
}
