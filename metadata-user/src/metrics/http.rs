//! Guests' connections and requests, as they are counted.
//!
//! What is counted for each request is in [`super::requests`]; what is here happens less often.

use std::sync::Arc;
use std::time::Duration;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::registry::Registry;

use super::requests::Requests;
use super::{Labelled, counter, labelled};

/// Why an instance's policy refuses a request, as labels.
pub const DENIALS: [&str; 9] = [
    "switched_off",
    "unprivileged",
    "token_missing",
    "token_malformed",
    "token_foreign",
    "token_expired",
    "token_forwarded",
    "token_ttl",
    "token_method",
];

/// Why nothing was signed for a guest, as labels.
pub const UNSIGNED: [&str; 5] = ["audience", "nonce", "forwarded", "limit", "no_key"];

/// Counters of guests' connections and requests. Cheap to clone; clones are the same counters.
#[derive(Clone, Debug)]
pub struct Http {
    /// Connections that were accepted.
    pub accepted: Counter,
    /// Connections refused because their address is no binding's.
    pub refused_unknown: Counter,
    /// Connections refused because their port has too many.
    pub refused_port_limit: Counter,
    /// Connections refused because their instance has too many.
    pub refused_instance_limit: Counter,
    /// Connections refused because there are too many in all.
    pub refused_total_limit: Counter,
    /// Idle connections closed because another one needed their place.
    pub gave_way: Counter,
    /// Connections cut because their binding ended.
    pub binding_ended: Counter,
    /// Connections closed because nothing came, or too slowly.
    pub timed_out: Counter,
    /// Connections closed because what came was not HTTP.
    pub malformed: Counter,
    /// Connections closed because no TLS handshake came about.
    pub handshake_failed: Counter,
    /// Requests with a header by which Neutron's agents tell Nova who is asking. From a guest it means nothing.
    pub claimed_identity: Counter,
    /// Requests that waited for their content.
    pub waited: Counter,
    /// Waits for a change that ended with one.
    pub waits_changed: Counter,
    /// Waits for a change whose time was over.
    pub waits_timed_out: Counter,
    /// Waits for a change that ended as their connection had to.
    pub waits_closed: Counter,
    /// Waits for a change whose guest or binding went.
    pub waits_lost: Counter,
    /// Requests that did not wait for a change, as too many of their instance did.
    pub waits_refused: Counter,
    /// Requests that waited because their instance asks too much; what became of them is in the answers.
    pub limited: Counter,
    /// Requests that got no answer: the connection was cut or left meanwhile.
    pub unanswered: Counter,
    /// Session tokens that were issued.
    pub tokens_issued: Counter,
    /// Requests with a valid session token.
    pub with_token: Counter,
    /// Requests without a session token, answered or not, of instances that have tokens.
    pub without_token: Counter,
    /// Requests that the instance's policy refused, for each of [`DENIALS`].
    denied: [Counter; DENIALS.len()],
    /// Attributes that guests wrote or removed.
    pub attributes_written: Counter,
    /// Attributes that were not kept.
    pub attributes_refused: Counter,
    /// Identity tokens that were signed.
    pub identity_tokens: Counter,
    /// Instance identity documents that were signed.
    pub identity_documents: Counter,
    /// Requests for a signature that got none, for each of [`UNSIGNED`].
    unsigned: [Counter; UNSIGNED.len()],
    /// Answers, and how long they took.
    requests: Arc<Requests>,
}

impl Http {
    pub(super) fn new(registry: &mut Registry) -> Self {
        let refused = labelled(
            registry,
            "http_connections_refused",
            "Guests' connections that were closed before their first request",
        );
        let closed = labelled(registry, "http_connections_closed", "Guests' connections that the daemon closed early");
        let requests = Arc::new(Requests::default());
        registry.register_collector(Box::new(Arc::clone(&requests)));
        let by_token = labelled(
            registry,
            "http_requests_by_token",
            "Requests of instances that have session tokens, by whether they had a valid one",
        );
        let waits = labelled(registry, "http_waits", "Requests that waited for a change, by the outcome of the wait");
        let denied = labelled(registry, "http_requests_denied", "Requests that the policy of their instance refused");
        let attributes = labelled(
            registry,
            "http_guest_attribute_writes",
            "Guest attributes that guests wrote or removed, or that were refused, by outcome",
        );
        let signed = labelled(registry, "http_identity_signed", "Proofs of identity that were signed for guests");
        let unsigned = labelled(
            registry,
            "http_identity_refused",
            "Requests for a proof of identity that were refused, beside those that the policy of their instance refused",
        );
        let with = |family: &Labelled, label, value| family.get_or_create_owned(&[(label, value)]);
        Self {
            tokens_issued: counter(registry, "http_tokens_issued", "Session tokens that were issued"),
            with_token: with(&by_token, "token", "valid"),
            without_token: with(&by_token, "token", "absent"),
            attributes_written: with(&attributes, "outcome", "kept"),
            attributes_refused: with(&attributes, "outcome", "refused"),
            identity_tokens: with(&signed, "kind", "token"),
            identity_documents: with(&signed, "kind", "document"),
            unsigned: UNSIGNED.map(|reason| with(&unsigned, "reason", reason)),
            denied: DENIALS.map(|reason| with(&denied, "reason", reason)),
            accepted: counter(registry, "http_connections_accepted", "Guests' connections that were accepted"),
            refused_unknown: with(&refused, "reason", "unknown"),
            refused_port_limit: with(&refused, "reason", "port_limit"),
            refused_instance_limit: with(&refused, "reason", "instance_limit"),
            refused_total_limit: with(&refused, "reason", "total_limit"),
            gave_way: with(&closed, "reason", "gave_way"),
            binding_ended: with(&closed, "reason", "binding_ended"),
            timed_out: with(&closed, "reason", "timed_out"),
            malformed: with(&closed, "reason", "malformed"),
            handshake_failed: with(&closed, "reason", "handshake_failed"),
            claimed_identity: counter(
                registry,
                "http_requests_claimed_identity",
                "Requests with an identity header of Neutron's agents, which is ignored",
            ),
            waits_changed: with(&waits, "outcome", "changed"),
            waits_timed_out: with(&waits, "outcome", "timed_out"),
            waits_closed: with(&waits, "outcome", "closed"),
            waits_lost: with(&waits, "outcome", "lost"),
            waits_refused: counter(
                registry,
                "http_waits_refused",
                "Requests that did not wait for a change, as guests.waits_per_instance others of their instance did",
            ),
            waited: counter(registry, "http_requests_waited", "Requests that waited for their content"),
            limited: counter(
                registry,
                "http_requests_limited",
                "Requests that waited because their instance asks more than requests_per_second",
            ),
            unanswered: counter(
                registry,
                "http_requests_unanswered",
                "Requests of which the connection ended before the answer",
            ),
            requests,
        }
    }

    /// Counts a request that the instance's policy refused, for one of [`DENIALS`].
    pub fn denied(&self, reason: &str) {
        if let Some(place) = DENIALS.iter().position(|known| *known == reason) {
            self.denied[place].inc();
        }
    }

    /// Counts a request for a signature that got none, for one of [`UNSIGNED`].
    pub fn signature_refused(&self, reason: &str) {
        if let Some(place) = UNSIGNED.iter().position(|known| *known == reason) {
            self.unsigned[place].inc();
        }
    }

    /// Returns the requests for a signature that got none, by reason, where there are any.
    pub fn signatures_refused(&self) -> impl Iterator<Item = (&'static str, u64)> {
        UNSIGNED.into_iter().zip(self.unsigned.iter().map(Counter::get)).filter(|(_, count)| *count > 0)
    }

    /// Returns the requests that policies refused, by reason, where there are any.
    pub fn denials(&self) -> impl Iterator<Item = (&'static str, u64)> {
        DENIALS.into_iter().zip(self.denied.iter().map(Counter::get)).filter(|(_, count)| *count > 0)
    }

    /// Counts an answer, which took so long from the last byte of its request on.
    pub fn answered(&self, status: u16, over_ipv6: bool, took: Duration) {
        self.requests.answered(status, over_ipv6, took);
    }

    /// Returns the answers by status, of those that were given; 0 stands for statuses that have no counter of their own.
    pub fn answers(&self) -> impl Iterator<Item = (u16, u64)> {
        self.requests.answers().filter(|(_, count)| *count > 0)
    }
}

impl Default for Http {
    /// Returns counters that are not exported: for a part of the daemon by itself.
    fn default() -> Self {
        Self::new(&mut Registry::default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statuses_have_their_own_labels() {
        let http = Http::default();
        http.answered(404, false, Duration::ZERO);
        http.answered(599, true, Duration::ZERO);
        assert_eq!(http.answers().collect::<Vec<_>>(), [(404, 1), (0, 1)]);
    }
}
