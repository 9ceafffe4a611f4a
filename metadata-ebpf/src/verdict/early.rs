//! What a port's limits decide before a packet buffer exists: the part of [`verdict`](super) that runs at XDP.
//!
//! Promise: a packet is dropped here exactly if the limits would drop it at tc in the same instant, for the same reason, and leaving
//! the same tokens. So what is let pass takes nothing here: tc takes its token, and each packet is counted once. Where XDP does not
//! see a packet, or is not there any more, tc decides as it always does.
//!
//! Left out: every other reason for a drop. Such a packet has a token until tc has looked at it.

use super::{Action, ArpAction, ETH_IPV6_LEN, ETHERNET_LEN, IPV4_LEN, begins_connection, ipv4, ipv6, passes};
use crate::{
    abi::{DropReason, PassList, Port},
    packet::{EthIpv4, EthIpv6, Tcp, Transport},
};

/// What is left in a port's buckets, for the next packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Left {
    /// A token for a packet.
    pub packet: bool,
    /// A token for a new connection.
    pub connection: bool,
}

impl Left {
    /// A token for a packet, in [`Self::from_bits`].
    pub const PACKET: u32 = 1;
    /// A token for a new connection.
    pub const CONNECTION: u32 = 2;

    /// Reads both from a number, as a function of the programs returns them.
    #[inline(always)]
    #[must_use]
    pub const fn from_bits(bits: u32) -> Self {
        Self { packet: bits & Self::PACKET != 0, connection: bits & Self::CONNECTION != 0 }
    }

    /// Tells whether every packet is let pass.
    #[inline(always)]
    #[must_use]
    pub const fn is_enough(self) -> bool {
        self.packet && self.connection
    }
}

/// Which tokens `from_guest` takes for a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Takes {
    /// None: it is left to the network.
    Nothing,
    /// One for a packet, whether it is answered or dropped.
    Packet,
    /// One for a packet, and then one for a new connection.
    Connection,
}

impl Takes {
    /// Returns what an IPv4 packet takes, as far as that matters with what is `left`: where there is no token for a packet, whether a
    /// connection begins does not, nor does the source; both are looked at only where they decide.
    #[inline(always)]
    #[must_use]
    pub fn of_ipv4(
        frame: &EthIpv4,
        (transport, tcp): (Option<&Transport>, Option<&Tcp>),
        frame_len: u32,
        port: &Port,
        pass: &PassList,
        left: Left,
    ) -> Self {
        match passes_ipv4(frame, transport, frame_len, pass) {
            true => Self::Nothing,
            false if left.packet && tcp.is_some_and(begins_connection) => {
                Self::of(ipv4(frame, transport, frame_len, port, pass), tcp)
            }
            _ => Self::Packet,
        }
    }

    /// As [`Self::of_ipv4`], of an IPv6 packet. One function for what both have in common would be shorter, but the verifier would look
    /// at 60 % more instructions.
    #[inline(always)]
    #[must_use]
    pub fn of_ipv6(
        frame: &EthIpv6,
        (transport, tcp): (Option<&Transport>, Option<&Tcp>),
        frame_len: u32,
        port: &Port,
        pass: &PassList,
        left: Left,
    ) -> Self {
        match passes_ipv6(frame, transport, frame_len, pass) {
            true => Self::Nothing,
            false if left.packet && tcp.is_some_and(begins_connection) => {
                Self::of(ipv6(frame, transport, frame_len, port, pass), tcp)
            }
            _ => Self::Packet,
        }
    }

    /// Returns what an IP packet takes; `tcp` is what follows its header, if that is there.
    #[inline(always)]
    #[must_use]
    pub fn of(decision: Result<Action, DropReason>, tcp: Option<&Tcp>) -> Self {
        match (decision, tcp) {
            (Ok(Action::Pass), _) => Self::Nothing,
            (Ok(Action::Respond), Some(tcp)) if begins_connection(tcp) => Self::Connection,
            _ => Self::Packet,
        }
    }

    /// Returns what an ARP packet takes.
    #[inline(always)]
    #[must_use]
    pub fn of_arp(decision: Result<ArpAction, DropReason>) -> Self {
        if matches!(decision, Ok(ArpAction::Pass)) { Self::Nothing } else { Self::Packet }
    }

    /// Returns the limit that a packet is beyond. One that is beyond [`DropReason::LimitConnections`] has still to take its token for a
    /// packet.
    #[inline(always)]
    #[must_use]
    pub const fn beyond(self, left: Left) -> Option<DropReason> {
        match self {
            Self::Nothing => None,
            _ if !left.packet => Some(DropReason::LimitPackets),
            Self::Connection if !left.connection => Some(DropReason::LimitConnections),
            _ => None,
        }
    }
}

/// Tells whether [`ipv4`] lets a packet pass, without a look at its source: the verifier would follow that once more for each packet
/// that is dropped for want of a token. Not a part of `ipv4`, so that the verifier's way through `from_guest` stays as it is.
#[inline(always)]
fn passes_ipv4(frame: &EthIpv4, transport: Option<&Transport>, frame_len: u32, pass: &PassList) -> bool {
    let total_len = u16::from_be_bytes(frame.total_len);
    frame.version_ihl == 0x45
        && total_len >= IPV4_LEN
        && frame_len >= ETHERNET_LEN + u32::from(total_len)
        && u16::from_be_bytes(frame.fragment) & 0x3fff == 0
        && passes(frame.protocol, transport, total_len - IPV4_LEN, pass)
}

/// As [`passes_ipv4`], of [`ipv6`]. No extension header's number is that of a protocol that passes.
#[inline(always)]
fn passes_ipv6(frame: &EthIpv6, transport: Option<&Transport>, frame_len: u32, pass: &PassList) -> bool {
    let len = u16::from_be_bytes(frame.payload_len);
    frame.version_class_flow[0] >> 4 == 6
        && frame_len >= ETH_IPV6_LEN + u32::from(len)
        && passes(frame.next_header, transport, len, pass)
}

#[cfg(test)]
mod tests {
    use core::sync::atomic::{AtomicU64, Ordering};
    use std::vec::Vec;

    use proptest::prelude::*;

    use super::*;
    use crate::{
        abi::{Bucket, Limits},
        limit,
    };

    /// A port's buckets, and what both programs do with them.
    struct Buckets {
        limits: Limits,
        packets: AtomicU64,
        connections: AtomicU64,
    }

    impl Buckets {
        fn new(limits: Limits) -> Self {
            Self { limits, packets: AtomicU64::new(0), connections: AtomicU64::new(0) }
        }

        fn take(bucket: &Bucket, due: &AtomicU64, now: u64) -> bool {
            !bucket.is_limited() || limit::take(due, bucket.interval, bucket.tolerance, now)
        }

        fn has(bucket: &Bucket, due: &AtomicU64, now: u64) -> bool {
            limit::has_token(now, due.load(Ordering::Relaxed), bucket.interval, bucket.tolerance)
        }

        /// As `from_guest`.
        fn at_tc(&self, takes: Takes, now: u64) -> Option<DropReason> {
            match takes {
                Takes::Nothing => None,
                _ if !Self::take(&self.limits.packets, &self.packets, now) => Some(DropReason::LimitPackets),
                Takes::Connection if !Self::take(&self.limits.connections, &self.connections, now) => {
                    Some(DropReason::LimitConnections)
                }
                _ => None,
            }
        }

        /// As `from_guest_xdp`.
        fn at_xdp(&self, takes: Takes, now: u64) -> Option<DropReason> {
            let left = Left {
                packet: Self::has(&self.limits.packets, &self.packets, now),
                connection: Self::has(&self.limits.connections, &self.connections, now),
            };
            match takes.beyond(left)? {
                DropReason::LimitConnections if !Self::take(&self.limits.packets, &self.packets, now) => {
                    Some(DropReason::LimitPackets)
                }
                reason => Some(reason),
            }
        }

        fn state(&self) -> (u64, u64) {
            (self.packets.load(Ordering::Relaxed), self.connections.load(Ordering::Relaxed))
        }
    }

    fn rate() -> impl Strategy<Value = Bucket> {
        (prop_oneof![Just(0u32), 1u32..100_000], 1u32..20).prop_map(|(rate, burst)| Bucket::of(rate, burst))
    }

    fn takes() -> impl Strategy<Value = Takes> {
        prop_oneof![Just(Takes::Nothing), Just(Takes::Packet), Just(Takes::Connection)]
    }

    proptest! {
        /// With XDP in front for every packet, for none, and for some, as its link comes and goes.
        #[test]
        fn xdp_changes_neither_what_is_dropped_nor_why_nor_what_is_left(
            connections in rate(), packets in rate(),
            arrivals in proptest::collection::vec((takes(), any::<bool>(), 0u64..400_000), 1..300)
        ) {
            let limits = Limits { connections, packets };
            let [alone, in_front, sometimes] = [(); 3].map(|()| Buckets::new(limits));
            let mut now = 1_000_000_000;
            for (takes, seen, step) in arrivals {
                now += step;
                let expected = alone.at_tc(takes, now);
                prop_assert_eq!(in_front.at_xdp(takes, now).or_else(|| in_front.at_tc(takes, now)), expected);
                let early = if seen { sometimes.at_xdp(takes, now) } else { None };
                prop_assert_eq!(early.or_else(|| sometimes.at_tc(takes, now)), expected);
                prop_assert_eq!(in_front.state(), alone.state());
                prop_assert_eq!(sometimes.state(), alone.state());
            }
        }

        /// What XDP lets pass at one instant, tc does not drop for a limit, as long as nothing else arrives in between.
        #[test]
        fn nothing_that_tc_would_drop_for_a_limit_gets_past_xdp(connections in rate(), packets in rate(), count in 1usize..60) {
            let port = Buckets::new(Limits { connections, packets });
            let at_tc: Vec<_> = (0..count)
                .filter(|_| port.at_xdp(Takes::Connection, 5).is_none())
                .filter_map(|_| port.at_tc(Takes::Connection, 5))
                .collect();
            prop_assert!(at_tc.is_empty(), "{at_tc:?}");
        }
    }

    fn ipv4_frame() -> impl Strategy<Value = EthIpv4> {
        let lens = prop_oneof![Just(40u16), Just(28), Just(19), any::<u16>()];
        let protocols = prop_oneof![Just(6u8), Just(17), Just(1), any::<u8>()];
        (prop_oneof![Just(0x45u8), any::<u8>()], lens, prop_oneof![Just(0u16), any::<u16>()], protocols).prop_map(
            |(version_ihl, len, fragment, protocol)| EthIpv4 {
                version_ihl,
                total_len: len.to_be_bytes(),
                fragment: fragment.to_be_bytes(),
                protocol,
                ..*crate::packet::view(&[0; size_of::<EthIpv4>()]).expect("as long as the headers")
            },
        )
    }

    fn ipv6_frame() -> impl Strategy<Value = EthIpv6> {
        let lens = prop_oneof![Just(20u16), Just(8), Just(7), any::<u16>()];
        let headers = prop_oneof![Just(6u8), Just(17), Just(58), Just(44), any::<u8>()];
        (prop_oneof![Just(0x60u8), any::<u8>()], lens, headers).prop_map(|(version, len, next_header)| EthIpv6 {
            version_class_flow: [version, 0, 0, 0],
            payload_len: len.to_be_bytes(),
            next_header,
            ..*crate::packet::view(&[0; size_of::<EthIpv6>()]).expect("as long as the headers")
        })
    }

    proptest! {
        #[test]
        fn what_passes_here_is_what_passes_at_tc(
            four in ipv4_frame(), six in ipv6_frame(), frame_len in prop_oneof![Just(54u32), Just(74), 0u32..2000],
            transport in proptest::option::of(prop_oneof![Just([0, 53, 0, 53]), Just([136, 0, 0, 0]), any::<[u8; 4]>()])
        ) {
            let sources = [crate::abi::Source::EMPTY; crate::abi::MAX_SOURCES];
            let port = Port {
                tag: 1, ifindex: 1, mac: [2; 6], flags: crate::abi::PORT_HELD, source_count: 0, place: 0, limits: Limits::NONE, sources, instance: [0; 16]
            };
            for pass in [PassList::EMPTY, PassList::of(&[(17, 53), (6, 53)])] {
                let transport = transport.as_ref();
                let at_tc = ipv4(&four, transport, frame_len, &port, &pass) == Ok(Action::Pass);
                prop_assert_eq!(passes_ipv4(&four, transport, frame_len, &pass), at_tc);
                let at_tc = ipv6(&six, transport, frame_len, &port, &pass) == Ok(Action::Pass);
                prop_assert_eq!(passes_ipv6(&six, transport, frame_len, &pass), at_tc);
            }
        }
    }

    #[test]
    fn only_a_first_segment_from_an_allowed_source_takes_a_connection() {
        let tcp = |flags| Tcp { flags, ..tcp() };
        let (syn, ack) = (tcp(2), tcp(0x12));
        for (decision, header, expected) in [
            (Ok(Action::Pass), Some(&syn), Takes::Nothing),
            (Ok(Action::Respond), Some(&syn), Takes::Connection),
            (Ok(Action::Respond), Some(&ack), Takes::Packet),
            (Ok(Action::Respond), None, Takes::Packet),
            (Ok(Action::Echo), Some(&syn), Takes::Packet),
            (Err(DropReason::SpoofedMac), Some(&syn), Takes::Packet),
        ] {
            assert_eq!(Takes::of(decision, header), expected, "{decision:?} {header:?}");
        }
        assert_eq!(Takes::of_arp(Ok(ArpAction::Pass)), Takes::Nothing);
        assert_eq!(Takes::of_arp(Err(DropReason::NotAnswered)), Takes::Packet);
    }

    fn tcp() -> Tcp {
        *crate::packet::view(&[0; size_of::<Tcp>()]).expect("as long as a header")
    }
}
