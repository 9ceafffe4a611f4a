//! The addresses of the metadata service, and the identity address: a guest's source address, rewritten so that it
//! says which interface a packet came in on.
//!
//! Inside the responder's namespace every guest connection comes from an identity address. It is built in the kernel
//! from facts that the guest cannot influence, plus the guest's own address, which only has to be carried back:
//!
//! ```text
//! bytes 0..2    fd 6d                   the prefix fd6d::/16
//! bytes 2..4    family:4 bits | vlan:12 family 4 or 6, plus 8 for an 802.1ad tag; vlan 0 = untagged
//! bytes 4..8    tag, big endian         one binding of one interface; never used again (abi::Port::tag)
//! bytes 8..16   guest address           nn nn 00 00 a b c d (IPv4), or the interface identifier of fe80::/64
//! ```
//!
//! `nn nn` makes the way in and back checksum-neutral (RFC 6296, section 3.1): the words of identity address and responder's add up to
//! what those of an IPv4 source and 169.254.169.254 do. So the checksum of a segment is right on both sides as it is.
//!
//! Left out: IPv6 sources outside fe80::/64. The service's IPv6 address is link-local, so a conforming guest never
//! uses one (RFC 6724, rule 2).

use core::mem::transmute;

/// 169.254.169.254, the IPv4 address that guests ask. Source: Amazon EC2, and Nova after it.
pub const METADATA_IPV4: [u8; 4] = [169, 254, 169, 254];

/// fe80::a9fe:a9fe, the IPv6 address that guests ask. Source: Neutron's `METADATA_V6_IP`.
pub const METADATA_IPV6: [u8; 16] = [0xfe, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xa9, 0xfe, 0xa9, 0xfe];

/// ff02::1:fffe:a9fe, the solicited-node multicast address of [`METADATA_IPV6`] (RFC 4291, section 2.7.1).
pub const METADATA_SOLICITED_NODE: [u8; 16] = [0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0xff, 0xfe, 0xa9, 0xfe];

/// 02:00:a9:fe:a9:fe, the MAC under which both addresses answer: locally administered, so no network card
/// has it.
pub const METADATA_MAC: [u8; 6] = [0x02, 0x00, 0xa9, 0xfe, 0xa9, 0xfe];

/// First two bytes of every identity address and of the responder's own: a prefix of the unique local space
/// (RFC 4193), seen only inside the responder's namespace.
pub const IDENTITY_PREFIX: [u8; 2] = [0xfd, 0x6d];

/// fd6d::a9fe:a9fe, where the responder listens. Its tag field is 0, which no binding has, so no guest collides.
pub const RESPONDER_IPV6: [u8; 16] = [0xfd, 0x6d, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xa9, 0xfe, 0xa9, 0xfe];

/// The address family that the guest used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Family {
    /// 169.254.169.254.
    Ipv4,
    /// fe80::a9fe:a9fe.
    Ipv6,
}

/// The VLAN tag that a guest's frame carried, put back on the way out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub struct Vlan {
    /// VLAN identifier, 1 to 4094; 0 stands for an untagged (or only priority-tagged) frame.
    pub id: u16,
    /// An 802.1ad service tag instead of an 802.1Q one.
    pub service: bool,
}

/// A decoded identity address: see the module for its layout.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct IdentityAddress {
    /// The family that the guest used.
    pub family: Family,
    /// The VLAN tag of the guest's frame.
    pub vlan: Vlan,
    /// The binding that the packet's interface had when it came in.
    pub tag: u32,
    /// The guest's address: the last four bytes for IPv4 (the others 0), the interface identifier for IPv6.
    pub guest: [u8; 8],
}

/// Makes an address of its halves. Of halves, as of single bytes the compiler for eBPF makes as many loads and stores.
#[inline(always)]
const fn joined(high: [u8; 8], low: [u8; 8]) -> [u8; 16] {
    // SAFETY: as many bytes in the same order, any of which are a value.
    unsafe { transmute([high, low]) }
}

/// Returns the word that makes an IPv4 guest's identity address checksum-neutral; `head` is its first half. Its first byte is the lowest
/// in both: such sums come out the same in every order of bytes (RFC 1071, section 2).
///
/// The guest's address is on both sides, and the second half of [`RESPONDER_IPV6`] adds up to what [`METADATA_IPV4`] does. What is left
/// are the first half of the former, which is the prefix, and `head`.
#[inline(always)]
const fn neutral(head: u64) -> u64 {
    let prefix = u16::from_le_bytes(IDENTITY_PREFIX) as u64;
    let sum = prefix + (head & 0xffff) + ((head >> 16) & 0xffff) + ((head >> 32) & 0xffff) + (head >> 48);
    let sum = (sum & 0xffff) + (sum >> 16);
    let sum = (sum & 0xffff) + (sum >> 16);
    sum ^ 0xffff
}

/// Returns the halves of an address.
#[inline(always)]
const fn halves(address: [u8; 16]) -> [[u8; 8]; 2] {
    // SAFETY: as above.
    unsafe { transmute(address) }
}

impl IdentityAddress {
    /// Returns the 16 bytes, network order.
    #[inline(always)]
    #[must_use]
    pub const fn encode(&self) -> [u8; 16] {
        let family = match self.family {
            Family::Ipv4 => 4u16,
            Family::Ipv6 => 6,
        } | if self.vlan.service { 8 } else { 0 };
        let family_vlan = (family << 12) | (self.vlan.id & 0xfff);
        // The first byte is the lowest.
        let head = u16::from_le_bytes(IDENTITY_PREFIX) as u64
            | (u16::from_le_bytes(family_vlan.to_be_bytes()) as u64) << 16
            | (u32::from_le_bytes(self.tag.to_be_bytes()) as u64) << 32;
        let guest = match self.family {
            Family::Ipv4 => (u64::from_le_bytes(self.guest) & !0xffff_ffff | neutral(head)).to_le_bytes(),
            Family::Ipv6 => self.guest,
        };
        joined(head.to_le_bytes(), guest)
    }

    /// Reads 16 bytes, network order. `None` if the prefix, the family or the tag is not one that [`encode`] writes.
    ///
    /// [`encode`]: Self::encode
    #[inline(always)]
    #[must_use]
    pub const fn decode(bytes: &[u8; 16]) -> Option<Self> {
        let [head, guest] = halves(*bytes);
        let [prefix_0, prefix_1, family_0, family_1, tag @ ..] = head;
        if prefix_0 != IDENTITY_PREFIX[0] || prefix_1 != IDENTITY_PREFIX[1] {
            return None;
        }
        let family_vlan = u16::from_be_bytes([family_0, family_1]);
        let family = match (family_vlan >> 12) & 7 {
            4 => Family::Ipv4,
            6 => Family::Ipv6,
            _ => return None,
        };
        let tag = u32::from_be_bytes(tag);
        if tag == 0 {
            return None;
        }
        let vlan = Vlan { id: family_vlan & 0xfff, service: family_vlan & 0x8000 != 0 };
        let guest = match family {
            Family::Ipv4 => {
                let low = u64::from_le_bytes(guest);
                if low & 0xffff_ffff != neutral(u64::from_le_bytes(head)) {
                    return None;
                }
                (low & !0xffff_ffff).to_le_bytes()
            }
            Family::Ipv6 => guest,
        };
        Some(Self { family, vlan, tag, guest })
    }

    /// Returns the last four bytes of the guest's address: all of it, for IPv4.
    #[inline(always)]
    #[must_use]
    pub const fn guest_ipv4(&self) -> [u8; 4] {
        let g = &self.guest;
        [g[4], g[5], g[6], g[7]]
    }

    /// Returns the link-local address with the guest's interface identifier.
    #[inline(always)]
    #[must_use]
    pub const fn guest_ipv6(&self) -> [u8; 16] {
        // As a number: of an array the compiler for eBPF makes a call of `memset`.
        const LINK_LOCAL: u64 = u64::from_le_bytes([0xfe, 0x80, 0, 0, 0, 0, 0, 0]);
        joined(LINK_LOCAL.to_le_bytes(), self.guest)
    }

    /// Makes the identity of an IPv4 source.
    #[inline(always)]
    #[must_use]
    pub const fn of_ipv4(tag: u32, vlan: Vlan, source: [u8; 4]) -> Self {
        let [a, b, c, d] = source;
        Self { family: Family::Ipv4, vlan, tag, guest: [0, 0, 0, 0, a, b, c, d] }
    }

    /// Makes the identity of an IPv6 source in fe80::/64.
    #[inline(always)]
    #[must_use]
    pub const fn of_ipv6(tag: u32, vlan: Vlan, source: &[u8; 16]) -> Self {
        let [_, guest] = halves(*source);
        Self { family: Family::Ipv6, vlan, tag, guest }
    }

    /// Returns the guest's own IPv4 address, or its IPv6 link-local one in 16 bytes.
    #[must_use]
    pub fn guest_address(&self) -> core::net::IpAddr {
        match self.family {
            Family::Ipv4 => core::net::Ipv4Addr::from(self.guest_ipv4()).into(),
            Family::Ipv6 => core::net::Ipv6Addr::from(self.guest_ipv6()).into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_field_survives_encoding() {
        for family in [Family::Ipv4, Family::Ipv6] {
            for vlan in [Vlan::default(), Vlan { id: 1, service: false }, Vlan { id: 4094, service: true }] {
                for tag in [1, 0x0102_0304, u32::MAX] {
                    let guest =
                        if family == Family::Ipv4 { [0, 0, 0, 0, 5, 6, 7, 8] } else { [1, 2, 3, 4, 5, 6, 7, 8] };
                    let address = IdentityAddress { family, vlan, tag, guest };
                    assert_eq!(IdentityAddress::decode(&address.encode()), Some(address));
                }
            }
        }
    }

    #[test]
    fn foreign_addresses_are_refused() {
        assert_eq!(IdentityAddress::decode(&RESPONDER_IPV6), None, "the responder's own address has no tag");
        assert_eq!(IdentityAddress::decode(&METADATA_IPV6), None);
        let mut family_five =
            IdentityAddress { family: Family::Ipv4, vlan: Vlan::default(), tag: 7, guest: [0; 8] }.encode();
        family_five[2] = 0x50;
        assert_eq!(IdentityAddress::decode(&family_five), None);
        let mut not_neutral = IdentityAddress::of_ipv4(7, Vlan::default(), [10, 0, 0, 5]).encode();
        not_neutral[8] ^= 1;
        assert_eq!(IdentityAddress::decode(&not_neutral), None);
    }

    #[test]
    fn the_layout_is_the_documented_one() {
        let address = IdentityAddress {
            family: Family::Ipv4,
            vlan: Vlan { id: 0x123, service: false },
            tag: 0xa0b0_c0d0,
            guest: [0, 0, 0, 0, 10, 0, 0, 5],
        };
        assert_eq!(address.encode(), [0xfd, 0x6d, 0x41, 0x23, 0xa0, 0xb0, 0xc0, 0xd0, 0x62, 0x7f, 0, 0, 10, 0, 0, 5]);
        assert_eq!(address.guest_address(), core::net::IpAddr::from([10, 0, 0, 5]));
    }
}
