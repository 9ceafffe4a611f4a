//! What became of packets, counted: the value of the map `COUNTERS`, and where in it each verdict and reason is.
//!
//! Promises: those of [`abi`](super).

#[cfg(doc)]
use super::{DropReason, PORT_ARRIVING, PORT_LEAVING, PassList};

/// Places of the map `COUNTERS`: of every port that the programs can know, and of the pair.
pub const COUNTER_PLACES: u32 = 16_385;
/// The place of the pair's interface.
pub const PAIR_PLACE: u32 = 0;

/// Value of the map `COUNTERS` (key: a place, which the daemon gives to an interface for as long as it knows it): packets, by what
/// became of them. The programs add to them atomically.
///
/// Traffic to other addresses than the metadata ones is not counted: it costs those packets a few loads and no more.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Counters {
    /// ARP requests answered in place.
    pub answered_arp: u64,
    /// Neighbour solicitations answered in place.
    pub answered_neighbour: u64,
    /// ICMP and ICMPv6 echo requests answered in place.
    pub answered_echo: u64,
    /// TCP segments handed to the responder.
    pub to_responder: u64,
    /// Interface index that the place is of; 0 if it has never been of any, [`Self::FREE`] if it is of none any more.
    pub ifindex: u64,
    /// Packets to a protocol and port of [`PassList`], left to the network; and those of connections that the network has
    /// ([`PORT_ARRIVING`], [`PORT_LEAVING`]).
    pub passed: u64,
    /// Reports of a path's MTU handed to the responder: of a router, or of the tap itself.
    pub path_mtu: u64,
    /// Place for a further verdict; 0.
    pub reserved_verdict: u64,
    /// [`DropReason::SpoofedMac`].
    pub drop_spoofed_mac: u64,
    /// [`DropReason::SpoofedIp`].
    pub drop_spoofed_ip: u64,
    /// [`DropReason::Ipv4Options`].
    pub drop_ipv4_options: u64,
    /// [`DropReason::Fragment`].
    pub drop_fragment: u64,
    /// [`DropReason::Truncated`].
    pub drop_truncated: u64,
    /// [`DropReason::Ipv6Extension`].
    pub drop_ipv6_extension: u64,
    /// [`DropReason::NotAnswered`].
    pub drop_not_answered: u64,
    /// [`DropReason::SourceScope`].
    pub drop_source_scope: u64,
    /// [`DropReason::TagEnded`].
    pub drop_tag_ended: u64,
    /// [`DropReason::MacUnknown`].
    pub drop_mac_unknown: u64,
    /// [`DropReason::KernelError`].
    pub drop_kernel_error: u64,
    /// [`DropReason::StrayFromResponder`].
    pub drop_stray_from_responder: u64,
    /// [`DropReason::StrayFromHost`].
    pub drop_stray_from_host: u64,
    /// [`DropReason::LimitConnections`].
    pub drop_limit_connections: u64,
    /// [`DropReason::LimitPackets`].
    pub drop_limit_packets: u64,
    /// [`DropReason::Impersonation`].
    pub drop_impersonation: u64,
    /// Places for further reasons; 0.
    pub reserved_reasons: [u64; 3],
    /// TCP segments handed to the guest. 64 bytes and more from [`Self::to_responder`], the one of the next place as well: the
    /// processors that count these two are seldom the same.
    pub to_guest: u64,
    /// 0.
    pub reserved: [u64; 4],
}

impl Counters {
    /// Places in all.
    pub const LEN: usize = 32;
    /// [`Self::ifindex`] of a place that is no interface's any more.
    pub const FREE: u64 = u64::MAX;
    /// Place of the first drop reason: reason `n` is counted at `FIRST_DROP + n - 1`.
    pub const FIRST_DROP: usize = 8;

    /// Name of each place, as in logs and metrics; empty where reserved.
    pub const NAMES: [&'static str; Self::LEN] = [
        "answered_arp",
        "answered_neighbour",
        "answered_echo",
        "to_responder",
        "",
        "passed",
        "path_mtu",
        "",
        "spoofed_mac",
        "spoofed_ip",
        "ipv4_options",
        "fragment",
        "truncated",
        "ipv6_extension",
        "not_answered",
        "source_scope",
        "tag_ended",
        "mac_unknown",
        "kernel_error",
        "stray_from_responder",
        "stray_from_host",
        "limit_connections",
        "limit_packets",
        "impersonation",
        "",
        "",
        "",
        "to_guest",
        "",
        "",
        "",
        "",
    ];

    /// Returns the values in the order of [`Self::NAMES`].
    #[must_use]
    pub fn values(&self) -> [u64; Self::LEN] {
        // SAFETY: `Counters` is `repr(C)` and made of exactly `LEN` u64 (asserted below); every bit pattern is valid.
        unsafe { core::mem::transmute::<Self, [u64; Self::LEN]>(*self) }
    }

    /// Adds the values of another place to these.
    pub fn add(&mut self, other: &Self) {
        let mut sum = self.values();
        for (sum, value) in sum.iter_mut().zip(other.values()) {
            *sum = sum.wrapping_add(value);
        }
        // SAFETY: as in `values`, the other way round.
        *self = unsafe { core::mem::transmute::<[u64; Self::LEN], Self>(sum) };
    }
}

/// What became of a packet that was not dropped: its place in [`Counters`].
#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Verdict {
    /// [`Counters::answered_arp`].
    AnsweredArp = 0,
    /// [`Counters::answered_neighbour`].
    AnsweredNeighbour = 1,
    /// [`Counters::answered_echo`].
    AnsweredEcho = 2,
    /// [`Counters::to_responder`].
    ToResponder = 3,
    /// [`Counters::to_guest`].
    ToGuest = 27,
    /// [`Counters::passed`].
    Passed = 5,
    /// [`Counters::path_mtu`].
    PathMtu = 6,
}

const _: () = {
    assert!(size_of::<Counters>() == 8 * Counters::LEN);
    assert!(core::mem::offset_of!(Counters, drop_spoofed_mac) == 8 * Counters::FIRST_DROP);
    assert!(core::mem::offset_of!(Counters, to_guest) == 8 * Verdict::ToGuest as usize);
};
