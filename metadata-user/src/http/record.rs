//! What became of connections and requests: counted and logged here, and nowhere else.
//!
//! Promises: a connection is recorded once, however it ends, and so is a request, with its status or without an answer; a
//! record costs no allocation. A metric, an audit log and a history of boots would be fed from here too.

use std::net::SocketAddr;

use hyper::http::request::Parts;
use tracing::{debug, info};

use super::error::Refusal;
use super::target;
use crate::metrics;

/// Headers by which Neutron's agents and load balancers tell Nova who is asking, in hyper's lower case. Nova trusts
/// them; here they mean nothing, but a guest that sends one is trying something.
const IDENTITY_HEADERS: [&str; 5] =
    ["x-instance-id", "x-instance-id-signature", "x-tenant-id", "x-metadata-provider", "x-metadata-provider-signature"];

/// How a connection that was not refused ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// By either side, in the order of HTTP; or the daemon is draining.
    Closed,
    /// Another connection needed its place.
    GaveWay,
    /// Its binding ended.
    BindingEnded,
    /// Nothing came, or too slowly.
    TimedOut,
    /// What came was not HTTP.
    Malformed,
}

/// Records a connection, before anything is known of it.
pub(super) fn accepted(counters: &metrics::Http) {
    counters.accepted.inc();
}

/// Records the end of a connection that did not get a place.
pub(super) fn refused(counters: &metrics::Http, peer: SocketAddr, refusal: Refusal) {
    match refusal {
        Refusal::Foreign(_) | Refusal::Unknown(_) => &counters.refused_unknown,
        Refusal::PortLimit(_) => &counters.refused_port_limit,
        Refusal::TotalLimit => &counters.refused_total_limit,
    }
    .inc();
    debug!(%peer, %refusal, "connection refused");
}

/// Records the end of a connection.
pub(super) fn ended(counters: &metrics::Http, tag: u32, end: End) {
    match end {
        End::Closed => {}
        End::GaveWay => _ = counters.gave_way.inc(),
        End::BindingEnded => _ = counters.binding_ended.inc(),
        End::TimedOut => _ = counters.timed_out.inc(),
        End::Malformed => _ = counters.malformed.inc(),
    }
    debug!(tag, ?end, "connection ended");
}

/// Records that a request is complete: whether it claims an identity.
pub(super) fn received(counters: &metrics::Http, tag: u32, parts: &Parts) {
    if let Some(header) = IDENTITY_HEADERS.iter().find(|header| parts.headers.contains_key(**header)) {
        let times = counters.claimed_identity.inc() + 1;
        // The 1st, 2nd, 4th, 8th …: a guest cannot fill the log with it.
        if times.is_power_of_two() {
            info!(tag, header, times, "a guest sent an identity header: ignored");
        }
    }
}

/// Records that a request waits for its content.
pub(super) fn waits(counters: &metrics::Http) {
    counters.waited.inc();
}

/// Records the end of a request: its status, or `None` if it gets no answer.
pub(super) fn answered(counters: &metrics::Http, tag: u32, parts: &Parts, status: Option<u16>) {
    match status {
        Some(status) => counters.answered(status),
        None => _ = counters.unanswered.inc(),
    }
    debug!(
        tag,
        method = parts.method.as_str(),
        target = target::of(&parts.method, &parts.uri),
        status,
        "request ended"
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_refusal_and_each_end_moves_its_own_counter() {
        let peer: SocketAddr = "[::1]:1".parse().expect("an address");
        let shown = |counters: &metrics::Http| {
            [
                counters.refused_unknown.get(),
                counters.refused_port_limit.get(),
                counters.refused_total_limit.get(),
                counters.gave_way.get(),
                counters.binding_ended.get(),
                counters.timed_out.get(),
                counters.malformed.get(),
            ]
        };
        for (refusal, expected) in [
            (Refusal::Foreign(peer), [1, 0, 0, 0, 0, 0, 0]),
            (Refusal::Unknown(1), [1, 0, 0, 0, 0, 0, 0]),
            (Refusal::PortLimit(1), [0, 1, 0, 0, 0, 0, 0]),
            (Refusal::TotalLimit, [0, 0, 1, 0, 0, 0, 0]),
        ] {
            let counters = metrics::Http::default();
            refused(&counters, peer, refusal);
            assert_eq!(shown(&counters), expected, "{refusal}");
        }
        for (end, expected) in [
            (End::Closed, [0; 7]),
            (End::GaveWay, [0, 0, 0, 1, 0, 0, 0]),
            (End::BindingEnded, [0, 0, 0, 0, 1, 0, 0]),
            (End::TimedOut, [0, 0, 0, 0, 0, 1, 0]),
            (End::Malformed, [0, 0, 0, 0, 0, 0, 1]),
        ] {
            let counters = metrics::Http::default();
            ended(&counters, 1, end);
            assert_eq!(shown(&counters), expected, "{end:?}");
        }
    }
}
