//! What becomes of a packet that comes out of the responder's namespace.
//!
//! Promises: it goes to the tap of the binding that its destination names, and only while that binding lasts, or nowhere; a
//! retired binding gets resets and nothing else; no segment is longer than the tap's MTU.
//!
//! The steps are in the order of the program, which looks up what the next one needs: [`destination`], then the tag, then
//! [`next_hop`], then the MAC where it is learned, then the MTU.

use crate::{
    abi::{DropReason, PORT_ENDED, PORT_HELD, PORT_LEARN},
    addr::{Family, IDENTITY_PREFIX, IdentityAddress, RESPONDER_IPV6},
    packet::{ETHERTYPE_IPV6, EthIpv6, PROTOCOL_TCP, TCP_RESET, Tcp},
    translate::{HEADER_DIFFERENCE, PathMtu, responder_mtu},
};

/// Length of an Ethernet header without tags.
const ETHERNET_LEN: u32 = 14;
/// Length of an IPv6 header.
const IPV6_LEN: u32 = 40;
/// Segments up to this length go to every tap: the MTU that each IPv4 host has to accept (RFC 791).
const SURELY_FITS: u32 = 576;

/// What the map `TAGS` says of a tag, as far as decisions need it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Path {
    /// The tag that the element is about.
    pub tag: u32,
    /// The tap.
    pub ifindex: u32,
    /// [`ReturnPath::mac`](crate::abi::ReturnPath::mac).
    pub mac: [u8; 6],
    /// [`ReturnPath::flags`](crate::abi::ReturnPath::flags).
    pub flags: u16,
    /// [`ReturnPath::place`](crate::abi::ReturnPath::place).
    pub place: u32,
}

/// How the guest's MAC is found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NextHop {
    /// This one.
    Mac([u8; 6]),
    /// The one that the guest's address was last seen with.
    Learned,
}

/// Decides whether a packet is a reply to a guest, and returns the identity address that it is for.
///
/// # Errors
/// [`DropReason::StrayFromResponder`].
#[inline(always)]
pub fn destination(ethertype: u16, frame: &EthIpv6) -> Result<IdentityAddress, DropReason> {
    const STRAY: DropReason = DropReason::StrayFromResponder;
    let prefix = [frame.dst[0], frame.dst[1]];
    if ethertype != ETHERTYPE_IPV6
        || frame.src != RESPONDER_IPV6
        || frame.next_header != PROTOCOL_TCP
        || prefix != IDENTITY_PREFIX
    {
        return Err(STRAY);
    }
    IdentityAddress::decode(&frame.dst).ok_or(STRAY)
}

/// Decides whether a binding still gets this segment, and how the guest's MAC is found. The element of the map may be another
/// binding's by now: then the tag says so.
///
/// # Errors
/// [`DropReason::TagEnded`].
#[inline(always)]
pub fn next_hop(identity: &IdentityAddress, path: &Path, tcp: &Tcp) -> Result<NextHop, DropReason> {
    if path.tag != identity.tag || (path.flags & PORT_ENDED != 0 && tcp.flags & TCP_RESET == 0) {
        return Err(DropReason::TagEnded);
    }
    Ok(if path.flags & (PORT_HELD | PORT_LEARN) == 0 { NextHop::Mac(path.mac) } else { NextHop::Learned })
}

/// Returns the length of the IP packet that reaches the guest: of the frame, or of each of the segments that a frame with
/// `gso_size` bytes of payload for each is made into on its way.
#[inline(always)]
#[must_use]
pub fn packet_len(frame_len: u32, gso_size: u32, tcp: &Tcp, family: Family) -> u32 {
    let ours = if gso_size == 0 {
        frame_len.saturating_sub(ETHERNET_LEN)
    } else {
        IPV6_LEN + u32::from(tcp.data_offset >> 4) * 4 + gso_size
    };
    match family {
        Family::Ipv4 => ours.saturating_sub(HEADER_DIFFERENCE.into()),
        Family::Ipv6 => ours,
    }
}

/// Tells whether a packet is so short that the tap's MTU need not be looked up.
#[inline(always)]
#[must_use]
pub fn surely_fits(packet_len: u32) -> bool {
    packet_len <= SURELY_FITS
}

/// Decides whether a packet fits the tap's MTU (0: not known); returns what to report to the responder if not.
#[inline(always)]
#[must_use]
pub fn too_big(frame: &EthIpv6, tcp: &Tcp, packet_len: u32, mtu: u32, family: Family) -> Option<PathMtu> {
    if mtu == 0 || packet_len <= mtu {
        return None;
    }
    let [a, b] = tcp.src;
    let [c, d] = tcp.dst;
    let [e, f, g, h] = tcp.sequence;
    Some(PathMtu {
        identity: frame.dst,
        segment_len: u16::from_be_bytes(frame.payload_len),
        tcp: [a, b, c, d, e, f, g, h],
        mtu: responder_mtu(mtu, family),
    })
}

#[cfg(test)]
mod tests;
