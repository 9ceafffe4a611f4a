//! Whether the guest has used IPv6 here.
//!
//! Only metadata packets are seen, so a guest that sent none over IPv6 may have IPv6 disabled or programs that use IPv4 only. The
//! finding says so.

use super::super::evidence::{Evidence, Port};
use super::super::finding::Finding;

pub(super) fn check(_: &Evidence, port: &Port) -> Vec<Finding> {
    if port.packets.is_empty() {
        return Vec::new();
    }
    let (solicitations, requests) = (port.count("answered_neighbour"), port.count("answered_arp"));
    let segments = port.count("to_responder");
    vec![match (solicitations, requests, segments) {
        (0, 0, 0) => Finding::note("the guest has not asked for the metadata service, neither over IPv4 nor over IPv6"),
        (0, ..) => Finding::note(
            "the guest has asked over IPv4 and never over IPv6: IPv6 is disabled in it (check `sysctl \
             net.ipv6.conf.all.disable_ipv6` there), or its programs use IPv4 only; the node cannot tell which",
        ),
        _ => Finding::passed("the guest has asked for fe80::a9fe:a9fe"),
    }]
}
