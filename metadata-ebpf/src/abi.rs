//! The interface between the two halves: map keys and values, counters, events and drop reasons.
//!
//! Promises: every type is `repr(C)`, has no implicit padding and the size that is asserted below it; numbers are
//! host byte order, addresses and MACs are network order; reasons and counter places are append-only and never used
//! for something else. Any change of a type here changes [`ABI_VERSION`]: a test compares them with `abi/layout.txt`.

mod counters;

pub use counters::{COUNTER_PLACES, Counters, PAIR_PLACE, Verdict};

/// Version of this interface, kept in the map `META`. A daemon that finds pins of another version does not adopt
/// them: it replaces them and says so.
pub const ABI_VERSION: u32 = 4;

/// Most (MAC, prefix) pairs that one port may have. User space joins adjacent prefixes first, and merges the closest
/// ones of what still does not fit. 64 is six times Neutron's default of ten address pairs, and keeps [`Port`] at 2.6 KB.
pub const MAX_SOURCES: usize = 64;

/// One allowed pair of source MAC and source prefix. The first word is MAC, family and length, so that one comparison
/// finds the pairs of a MAC and family.
#[repr(C, align(8))]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Source {
    /// Source MAC, as on the wire.
    pub mac: [u8; 6],
    /// 4 or 6; 0 in an unused place.
    pub family: u8,
    /// Prefix length in bits: 0 to 32, or 0 to 128. For people; the programs use `mask`.
    pub prefix_len: u8,
    /// Network address; IPv4 in the first four bytes, the others 0. Host bits are 0.
    pub addr: [u8; 16],
    /// The prefix's bits set, the others 0.
    pub mask: [u8; 16],
}

impl Source {
    /// An unused place.
    pub const EMPTY: Self = Self { mac: [0; 6], family: 0, prefix_len: 0, addr: [0; 16], mask: [0; 16] };

    /// Makes a pair; host bits of `addr` are cleared. `prefix_len` counts within `addr`, from its first byte on.
    #[must_use]
    pub fn new(mac: [u8; 6], family: u8, addr: [u8; 16], prefix_len: u8) -> Self {
        let mask = u128::MAX.checked_shl(128 - u32::from(prefix_len.min(128))).unwrap_or(0);
        let addr = (u128::from_be_bytes(addr) & mask).to_be_bytes();
        Self { mac, family, prefix_len, addr, mask: mask.to_be_bytes() }
    }
}

/// Value of the map `PORTS` (key: interface index): what `from_guest` knows of a tap. No entry: the tap's traffic
/// passes untouched, metadata requests too.
///
/// The kernel may reuse a map element's memory while a program still reads it. So `tag` and `ifindex` are one aligned
/// word, read at once: a tag is believed only beside the interface index that it belongs to.
#[repr(C, align(8))]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Port {
    /// Names one binding of this interface to at most one instance. Never 0, never used again by another binding.
    pub tag: u32,
    /// The key again.
    pub ifindex: u32,
    /// The port's own MAC; ignored while held.
    pub mac: [u8; 6],
    /// [`PORT_HELD`], [`PORT_ANY_ADDRESS`], [`PORT_LEARN`], [`PORT_ARRIVING`], [`PORT_LEAVING`].
    pub flags: u16,
    /// Used places of `sources`, at most [`MAX_SOURCES`].
    pub source_count: u32,
    /// Its place in the map `COUNTERS`.
    pub place: u32,
    /// How fast it may send to the metadata addresses.
    pub limits: Limits,
    /// Allowed pairs; places from `source_count` on are [`Source::EMPTY`].
    pub sources: [Source; MAX_SOURCES],
    /// UUID of the instance that the tag is bound to, 0 while held. The programs do not read it: it is for operators, and
    /// for a restarted daemon.
    pub instance: [u8; 16],
}

/// No instance yet: any source is let through to the responder, which answers 503.
pub const PORT_HELD: u16 = 1;
/// The port's own MAC may use any source address (`port_security: false`).
pub const PORT_ANY_ADDRESS: u16 = 2;
/// More than one MAC may send here, so the MAC is learned per guest address, in [`Neighbours`].
pub const PORT_LEARN: u16 = 4;
/// The binding has ended, but its connections may still be closed: of replies only resets pass, which carry no data.
pub const PORT_ENDED: u16 = 8;
/// The port was answered by its network until a moment ago: what belongs to a connection that the responder does not have passes.
pub const PORT_ARRIVING: u16 = 16;
/// The port is about to be answered by its network: what begins a connection passes, and what belongs to one that the responder does not
/// have.
pub const PORT_LEAVING: u16 = 32;

/// Value of the map `TAGS` (key: tag): where `to_guest` sends a reply. No entry: the binding has ended, and what is
/// still under way for it is dropped.
#[repr(C, align(8))]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReturnPath {
    /// The key again: one word with `ifindex`, for the reason that [`Port`] gives.
    pub tag: u32,
    /// Interface index of the tap.
    pub ifindex: u32,
    /// Destination MAC, unless [`PORT_LEARN`] or [`PORT_HELD`] says that `NEIGHBOURS` knows it.
    pub mac: [u8; 6],
    /// As [`Port::flags`].
    pub flags: u16,
    /// As [`Port::place`].
    pub place: u32,
    /// 0.
    pub reserved: u32,
}

/// Places of [`Neighbours`]; a power of two.
pub const NEIGHBOUR_SETS: usize = 32;
/// Addresses that one place holds.
pub const NEIGHBOUR_WAYS: usize = 4;

/// Value of the map `NEIGHBOURS` (key: tag): the MACs that this binding's guest addresses were last seen with. Only a
/// binding that learns has one ([`PORT_HELD`], [`PORT_LEARN`]). [`crate::neighbours`] reads and writes it.
///
/// 128 addresses are twice [`MAX_SOURCES`]; 2 KB for each binding that learns, 20 MB if 10,000 do.
#[repr(C, align(8))]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Neighbours {
    /// By the hash of the address; within a place, the one that was added last comes first.
    pub sets: [[Neighbour; NEIGHBOUR_WAYS]; NEIGHBOUR_SETS],
}

/// The MAC of one guest address; all 0 if there is none. Bytes in their order.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Neighbour {
    /// The last 8 bytes of the identity address: the guest's own address.
    pub guest: u64,
    /// Bytes 2 and 3 of the identity address, which are family and VLAN, then the MAC.
    pub link: u64,
}

/// A token bucket: see [`crate::limit`]. Times in nanoseconds.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bucket {
    /// Time in which one token falls in; 0: no limit.
    pub interval: u64,
    /// How much earlier than due a packet may come: the burst less one, times the interval.
    pub tolerance: u64,
    /// When the next packet is due, by the kernel's monotonic clock. The programs write it; what user space writes, 0, is a
    /// full bucket.
    pub due: u64,
}

/// How fast a port may send to the metadata addresses, over IPv4 and IPv6 together: a part of [`Port`], which the programs have looked
/// up anyway. A changed limit begins with a full bucket. The daemon writes a port anew with what it has just read of its buckets: what
/// the port takes between the two, it may take once more.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// First segments of TCP connections.
    pub connections: Bucket,
    /// Packets of every kind, but for those that pass ([`PassList`]).
    pub packets: Bucket,
}

/// The one element of the map `META`.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Meta {
    /// [`ABI_VERSION`] of the daemon that made the pins.
    pub abi_version: u32,
    /// The next tag to give away.
    pub next_tag: u32,
    /// What the programs mark their own frames with until those have left: random, never 0, the same for as long as the pins
    /// are there. A secret of the node's.
    pub own_mark: [u32; 4],
}

/// Most pairs of protocol and port that may pass. Each is compared with every segment to a metadata address, so the list is
/// short; a resolver needs two places.
pub const MAX_PASS: usize = 16;

/// The one element of the map `PASS`: protocols and ports of the metadata addresses that are left to the network.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PassList {
    /// Protocol number times 65536 plus port; 0 in an unused place.
    pub pairs: [u32; MAX_PASS],
}

impl PassList {
    /// Nothing passes.
    pub const EMPTY: Self = Self { pairs: [0; MAX_PASS] };

    /// Returns the list of these protocol numbers and ports, of the first [`MAX_PASS`] of them.
    #[must_use]
    pub fn of(pairs: &[(u8, u16)]) -> Self {
        let mut list = Self::EMPTY;
        for (place, (protocol, port)) in list.pairs.iter_mut().zip(pairs) {
            *place = Self::pair(*protocol, *port);
        }
        list
    }

    /// Tells whether nothing passes.
    #[inline(always)]
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.pairs[0] == 0
    }

    /// Tells whether packets of this protocol number to this port pass.
    #[inline(always)]
    #[must_use]
    pub fn contains(&self, protocol: u8, port: u16) -> bool {
        let wanted = Self::pair(protocol, port);
        // Without a branch for each, which the verifier would have to follow: pairs have 24 bits, so only a difference of 0
        // less 1 has the highest bit set. Four at a time, as most lists have no more.
        let mut found = 0;
        for four in self.pairs.as_chunks::<4>().0 {
            for pair in four {
                found |= (*pair ^ wanted).wrapping_sub(1);
            }
            if four[3] == 0 {
                break;
            }
        }
        found >> 31 != 0
    }

    const fn pair(protocol: u8, port: u16) -> u32 {
        ((protocol as u32) << 16) | port as u32
    }
}

/// Why a packet was dropped. Numbers are append-only: see [`Counters`] for where each is counted.
#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DropReason {
    /// The source MAC is not one of the port's.
    SpoofedMac = 1,
    /// The source address is not one of the port's for this MAC, and not link-local.
    SpoofedIp = 2,
    /// An IPv4 header with options.
    Ipv4Options = 3,
    /// An IPv4 fragment, or an IPv6 fragment header.
    Fragment = 4,
    /// A header that ends before it should, or lengths that contradict each other.
    Truncated = 5,
    /// An IPv6 extension header other than a fragment's.
    Ipv6Extension = 6,
    /// To a metadata address, but nothing that is answered there: UDP, other ICMP, ARP that is not a request.
    NotAnswered = 7,
    /// An allowed IPv6 source outside fe80::/64, which the identity address cannot carry.
    SourceScope = 8,
    /// A reply to a binding that has ended.
    TagEnded = 9,
    /// A reply to a guest address whose MAC is not known (any more).
    MacUnknown = 10,
    /// A helper of the kernel failed: out of memory, mostly.
    KernelError = 11,
    /// The namespace sent something that is not a reply to a guest. Counted under the pair's interface.
    StrayFromResponder = 12,
    /// The host sent something into the responder's namespace. Counted under the pair's interface.
    StrayFromHost = 13,
    /// The first segment of a connection, beyond [`Limits::connections`].
    LimitConnections = 14,
    /// Beyond [`Limits::packets`], whatever it was.
    LimitPackets = 15,
    /// A frame to the guest, from elsewhere, that claims to come from the metadata service.
    Impersonation = 16,
}

impl DropReason {
    /// All reasons, by number.
    pub const ALL: [Self; 16] = [
        Self::SpoofedMac,
        Self::SpoofedIp,
        Self::Ipv4Options,
        Self::Fragment,
        Self::Truncated,
        Self::Ipv6Extension,
        Self::NotAnswered,
        Self::SourceScope,
        Self::TagEnded,
        Self::MacUnknown,
        Self::KernelError,
        Self::StrayFromResponder,
        Self::StrayFromHost,
        Self::LimitConnections,
        Self::LimitPackets,
        Self::Impersonation,
    ];

    /// Returns the name that logs, counters and metrics use.
    #[must_use]
    pub const fn name(self) -> &'static str {
        Counters::NAMES[Counters::FIRST_DROP + self as usize - 1]
    }

    /// Returns the reason with this number, if there is one.
    #[must_use]
    pub fn from_number(number: u32) -> Option<Self> {
        Self::ALL.into_iter().find(|reason| *reason as u32 == number)
    }
}

/// A sampled drop, in the ring buffer `EVENTS`: the 1st, 2nd, 4th, 8th … of each port and reason, so that
/// a flood costs its log 64 lines at most.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Event {
    /// Interface index of the tap (or of the pair, for strays).
    pub ifindex: u32,
    /// [`DropReason`] as a number.
    pub reason: u32,
    /// How many of this reason have been dropped on this interface, this one included.
    pub count: u64,
    /// Length of the frame in bytes.
    pub len: u32,
    /// EtherType, host order.
    pub ethertype: u16,
    /// VLAN identifier, 0 if untagged.
    pub vlan: u16,
    /// The first 64 bytes of the frame, without its VLAN tag; 0 where the frame ends.
    pub head: [u8; 64],
}

const _: () = {
    assert!(size_of::<Source>() == 40 && align_of::<Source>() == 8);
    assert!(size_of::<Port>() == 40 + 48 + 40 * MAX_SOURCES);
    assert!(size_of::<ReturnPath>() == 24);
    assert!(size_of::<Neighbour>() == 16);
    assert!(size_of::<Neighbours>() == 16 * NEIGHBOUR_SETS * NEIGHBOUR_WAYS && NEIGHBOUR_SETS.is_power_of_two());
    assert!(size_of::<Limits>() == 48);
    assert!(size_of::<Meta>() == 24);
    assert!(size_of::<PassList>() == 4 * MAX_PASS);
    assert!(size_of::<Event>() == 24 + 64);
};

#[cfg(feature = "user")]
mod pod {
    use super::{Counters, Event, Meta, Neighbours, PassList, Port, ReturnPath};

    // SAFETY: `repr(C)`, `Copy`, no padding (sizes are asserted above), every bit pattern is a value.
    unsafe impl aya::Pod for Port {}
    // SAFETY: as above.
    unsafe impl aya::Pod for ReturnPath {}
    // SAFETY: as above.
    unsafe impl aya::Pod for Neighbours {}
    // SAFETY: as above.
    unsafe impl aya::Pod for Meta {}
    // SAFETY: as above.
    unsafe impl aya::Pod for PassList {}
    // SAFETY: as above.
    unsafe impl aya::Pod for Counters {}
    // SAFETY: as above.
    unsafe impl aya::Pod for Event {}
}

#[cfg(test)]
mod layout;
#[cfg(test)]
mod tests;
