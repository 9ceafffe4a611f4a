//! Whether the guest has used IPv6 here.
//!
//! Only its metadata packets are seen, so that it never sent one does not prove that IPv6 is off in the guest: its programs may ask over
//! IPv4 alone. That is what the finding says.

use super::super::evidence::{Evidence, Port};
use super::super::finding::Finding;

pub(super) fn check(_: &Evidence, port: &Port) -> Vec<Finding> {
    if port.packets.is_empty() {
        return Vec::new();
    }
    let (solicitations, requests) = (port.count("answered_neighbour"), port.count("answered_arp"));
    let segments = port.count("to_responder");
    vec![match (solicitations, requests, segments) {
        (0, 0, 0) => {
            Finding::note("the guest has not asked for the metadata service at all, neither over IPv4 nor over IPv6")
        }
        (0, ..) => Finding::note(
            "the guest has asked over IPv4 and never over IPv6: IPv6 is disabled in it (`sysctl net.ipv6.conf.all.disable_ipv6` \
             there), or its programs use IPv4 alone; from the node the two look the same",
        ),
        _ => Finding::passed("the guest has asked for fe80::a9fe:a9fe"),
    }]
}
