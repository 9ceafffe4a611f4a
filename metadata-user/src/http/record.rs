//! What became of connections and requests: counted, logged and given to the audit log here, and nowhere else.
//!
//! Promises: a connection is recorded once, however it ends, and so is a request, with its status or without an answer; a
//! record costs no allocation, and nobody waits for it. The history of boots is fed from here too.

use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, SystemTime};

use hyper::header::USER_AGENT;
use hyper::http::request::Parts;
use metadata_ebpf::addr::{Family, IdentityAddress};
use tracing::debug;
use uuid::Uuid;

use super::access::Access;
use super::error::Refusal;
use super::session::TokenUse;
use super::{Guests, target, unusual};
use crate::api::Denial;
use crate::audit::{self, Anomalies, Anomaly, Audit, Record, Subject, Text, TokenMode};
use crate::boots::Asks;
use crate::clock;
use crate::identity::{Identity, Tag};
use crate::metrics;
use crate::secret::token::TokenError;

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
    /// What came was not TLS, or not of a kind that both sides have.
    HandshakeFailed,
}

/// Records a connection, before anything is known of it.
pub(super) fn accepted(counters: &metrics::Http) {
    counters.accepted.inc();
}

/// Records the end of a connection that did not get a place.
pub(super) fn refused(guests: &Guests, peer: SocketAddr, refusal: Refusal) {
    let counters = &guests.counters;
    let (counter, event, anomaly) = match refusal {
        Refusal::Foreign(_) | Refusal::Unknown(_) => (&counters.refused_unknown, "refused_unknown", None),
        Refusal::PortLimit(_) => (&counters.refused_port_limit, "refused_port_limit", Some(Anomaly::LimitReached)),
        Refusal::InstanceLimit(_) => {
            (&counters.refused_instance_limit, "refused_instance_limit", Some(Anomaly::LimitReached))
        }
        // Whoever comes last to a full node has not filled it.
        Refusal::TotalLimit => (&counters.refused_total_limit, "refused_total_limit", None),
    };
    counter.inc();
    debug!(%peer, %refusal, "connection refused");
    if let Some(audit) = guests.audit() {
        connection(audit, event, anomaly.into_iter().collect(), || subject_of(guests, peer));
    }
}

/// Records the end of a connection.
pub(super) fn ended(counters: &metrics::Http, content: &impl Access, end: End) {
    let event = match end {
        End::Closed => None,
        End::GaveWay => Some((&counters.gave_way, "gave_way")),
        End::BindingEnded => Some((&counters.binding_ended, "binding_ended")),
        End::TimedOut => Some((&counters.timed_out, "timed_out")),
        End::Malformed => Some((&counters.malformed, "malformed")),
        End::HandshakeFailed => Some((&counters.handshake_failed, "handshake_failed")),
    };
    debug!(tag = content.name(), ?end, "connection ended");
    let Some((counter, event)) = event else { return };
    counter.inc();
    if let Some(audit) = content.audit() {
        connection(audit, event, Anomalies::default(), || content.subject());
    }
}

/// Notes anomalies of a connection, and gives the audit log a record of it, as far as its port may cause one.
fn connection(audit: &Audit, event: &'static str, anomalies: Anomalies, subject: impl FnOnce() -> Subject) {
    if audit.log().is_none() && anomalies.is_empty() {
        return;
    }
    let (subject, at) = (subject(), SystemTime::now());
    audit.watch().note(subject.instance, subject.tag, anomalies, 1, at);
    if let Some(log) = audit.log()
        && let Some(left_out) = log.admit(subject.tag)
    {
        log.send(Record::Connection(audit::Connection { at, subject, event, anomalies, left_out }));
    }
}

/// Returns what is known of whoever is behind an address.
fn subject_of(guests: &Guests, peer: SocketAddr) -> Subject {
    let SocketAddr::V6(address) = peer else { return Subject::default() };
    let Some(identity) = IdentityAddress::decode(&address.ip().octets()) else { return Subject::default() };
    let bound = guests.identities.lease(Tag(identity.tag)).and_then(|lease| lease.identity());
    let (instance, port) = match bound {
        Some(Identity::Bound { instance, port }) => (Some(instance), port),
        Some(Identity::Held) | None => (None, None),
    };
    Subject { tag: identity.tag, instance, port, source: Some(source(&identity, peer.port())), ..Subject::default() }
}

/// Returns the guest's own address and port.
pub(super) fn source(identity: &IdentityAddress, port: u16) -> (IpAddr, u16) {
    let address = match identity.family {
        Family::Ipv4 => IpAddr::from(identity.guest_ipv4()),
        Family::Ipv6 => IpAddr::from(identity.guest_ipv6()),
    };
    (address, port)
}

/// Records that a request waits for its content.
pub(super) fn waits(counters: &metrics::Http) {
    counters.waited.inc();
}

/// How a wait for a change ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum WaitEnd {
    /// What was waited for changed.
    Changed,
    /// Its time was over.
    TimedOut,
    /// The connection had to end: its place was needed, the daemon drains, or the guest sends nothing more.
    Closed,
    /// There was nobody to answer any more.
    Lost,
}

/// A wait for a change, which is recorded when it ends.
#[derive(Debug)]
pub(super) struct Wait<'a> {
    counters: &'a metrics::Http,
    end: WaitEnd,
}

impl<'a> Wait<'a> {
    pub(super) fn begin(counters: &'a metrics::Http) -> Self {
        Self { counters, end: WaitEnd::Lost }
    }

    /// It ends this way.
    pub(super) fn ends(&mut self, end: WaitEnd) {
        self.end = end;
    }
}

impl Drop for Wait<'_> {
    fn drop(&mut self) {
        let counters = self.counters;
        let counter = match self.end {
            WaitEnd::Changed => &counters.waits_changed,
            WaitEnd::TimedOut => &counters.waits_timed_out,
            WaitEnd::Closed => &counters.waits_closed,
            WaitEnd::Lost => &counters.waits_lost,
        };
        counter.inc();
    }
}

/// Records that a request does not wait for a change, as too many of its instance do.
pub(super) fn wait_refused(counters: &metrics::Http) {
    counters.waits_refused.inc();
}

/// Records that the policy of the instance refused a request.
pub(super) fn denied(counters: &metrics::Http, denial: Denial, token: TokenUse) {
    counters.denied(match (denial, token) {
        (Denial::Absent | Denial::MetadataOff | Denial::Ipv6Off, _) => "switched_off",
        (Denial::Unprivileged, _) => "unprivileged",
        (Denial::Forwarded, _) => "token_forwarded",
        (Denial::TokenTtl, _) => "token_ttl",
        (Denial::TokenMethod, _) => "token_method",
        (Denial::TokenMissing, _) => "token_missing",
        (Denial::TokenInvalid, TokenUse::Refused(TokenError::Foreign)) => "token_foreign",
        (Denial::TokenInvalid, TokenUse::Refused(TokenError::Expired)) => "token_expired",
        (Denial::TokenInvalid, _) => "token_malformed",
    });
}

/// Records what a request has to do with session tokens.
pub(super) fn session(counters: &metrics::Http, token: TokenUse) {
    match token {
        TokenUse::Valid => _ = counters.with_token.inc(),
        TokenUse::Absent => _ = counters.without_token.inc(),
        TokenUse::Off | TokenUse::Wanted | TokenUse::Refused(_) => {}
    }
}

/// Records that a session token was issued.
pub(super) fn issued(counters: &metrics::Http) {
    counters.tokens_issued.inc();
}

/// Records that a guest wrote or removed an attribute.
pub(super) fn attribute_written(counters: &metrics::Http) {
    counters.attributes_written.inc();
}

/// Records that an attribute was not kept.
pub(super) fn attribute_refused(counters: &metrics::Http) {
    counters.attributes_refused.inc();
}

/// Records that an identity token was signed.
pub(super) fn token_signed(counters: &metrics::Http) {
    counters.identity_tokens.inc();
}

/// Records that an instance identity document was signed.
pub(super) fn document_signed(counters: &metrics::Http) {
    counters.identity_documents.inc();
}

/// Records that nothing was signed, for this reason.
pub(super) fn signature_refused(counters: &metrics::Http, reason: &str) {
    counters.signature_refused(reason);
}

/// Records that a request waits because its instance asks too much.
pub(super) fn limited(counters: &metrics::Http) {
    counters.limited.inc();
}

/// How a request was answered.
#[derive(Clone, Copy, Debug)]
pub(super) struct Outcome {
    pub(super) status: u16,
    /// Bytes of the body that is sent.
    pub(super) bytes: u64,
    /// Time since the request was complete.
    pub(super) took: Duration,
}

/// What a request has to do with tokens.
#[derive(Clone, Copy, Debug)]
pub(super) struct Tokens {
    /// A session token.
    pub(super) mode: TokenMode,
    /// The name of the identity token that it got.
    pub(super) id: Option<Uuid>,
}

/// Records the end of a request: how it was answered, or `None` if it gets no answer.
pub(super) fn answered(
    counters: &metrics::Http,
    content: &impl Access,
    parts: &Parts,
    tokens: Tokens,
    outcome: Option<Outcome>,
) {
    let status = outcome.map(|outcome| outcome.status);
    match outcome {
        Some(outcome) => counters.answered(outcome.status, content.caller().over_ipv6, outcome.took),
        None => _ = counters.unanswered.inc(),
    }
    let target = target::of(&parts.method, &parts.uri);
    debug!(tag = content.name(), method = parts.method.as_str(), target, status, "request ended");
    if let Some(history) = content.history() {
        let agent = parts.headers.get(USER_AGENT).map_or(&b""[..], |agent| agent.as_bytes());
        let path = target.split_once('?').map_or(target, |(path, _)| path).as_bytes();
        history.asked(Asks { at: clock::unix_millis(), path, status, agent });
    }
    let mut anomalies = unusual::of(&parts.method, &parts.uri, &parts.headers);
    if anomalies.contains(Anomaly::IdentityHeader) {
        counters.claimed_identity.inc();
    }
    let Some(audit) = content.audit() else { return };
    if let Some(anomaly) = status.and_then(Anomaly::of_status) {
        anomalies.add(anomaly);
    }
    let is_unknown = status == Some(404);
    if audit.log().is_none() && anomalies.is_empty() && !is_unknown {
        return;
    }
    let (subject, at) = (content.subject(), SystemTime::now());
    let (path, query) = target.split_once('?').map_or((target, None), |(path, query)| (path, Some(query)));
    if is_unknown && subject.instance.is_some_and(|instance| audit.watch().is_scan(instance, path, at)) {
        anomalies.add(Anomaly::PathScan);
    }
    audit.watch().note(subject.instance, subject.tag, anomalies, 1, at);
    let Some(log) = audit.log() else { return };
    // What a limit refuses, a guest can cause in any number.
    let admitted = if status == Some(429) { log.admit(subject.tag) } else { Some(0) };
    let Some(left_out) = admitted else { return };
    log.send(Record::Request(audit::Request {
        at,
        subject,
        method: Text::escaped(parts.method.as_str().as_bytes()),
        path: Text::escaped(path.as_bytes()),
        has_query: query.is_some(),
        status,
        bytes: outcome.map_or(0, |outcome| outcome.bytes),
        token: tokens.mode,
        token_id: tokens.id,
        user_agent: parts.headers.get(USER_AGENT).map(|value| Text::escaped(value.as_bytes())),
        anomalies,
        left_out,
    }));
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::super::access::Resolution;
    use super::*;
    use crate::api::{Cloud, Write, Written};
    use crate::config::Config;
    use crate::identity::Identities;
    use crate::record::InstanceId;
    use crate::store::Store;

    struct Nobody;

    impl Access for Nobody {
        fn resolve(&self) -> Resolution {
            Resolution::NotReady
        }

        async fn ready(&self) {}

        async fn keep(&self, _: InstanceId, _: Write) -> Written {
            Written::Unavailable
        }

        async fn ended(&self) {}

        fn name(&self) -> u32 {
            1
        }
    }

    #[test]
    fn each_refusal_and_each_end_moves_its_own_counter() {
        let peer: SocketAddr = "[::1]:1".parse().expect("an address");
        let shown = |counters: &metrics::Http| {
            [
                counters.refused_unknown.get(),
                counters.refused_port_limit.get(),
                counters.refused_instance_limit.get(),
                counters.refused_total_limit.get(),
                counters.gave_way.get(),
                counters.binding_ended.get(),
                counters.timed_out.get(),
                counters.malformed.get(),
                counters.handshake_failed.get(),
            ]
        };
        let only = |place: usize| std::array::from_fn(|at| u64::from(at == place));
        for (refusal, place) in [
            (Refusal::Foreign(peer), 0),
            (Refusal::Unknown(1), 0),
            (Refusal::PortLimit(1), 1),
            (Refusal::InstanceLimit(1), 2),
            (Refusal::TotalLimit, 3),
        ] {
            let (identities, store) = (Arc::new(Identities::new()), Arc::new(Store::new(Cloud::default())));
            let guests = Guests::new(&Config::default(), identities, store, metrics::Http::default());
            refused(&guests, peer, refusal);
            assert_eq!(shown(guests.counters()), only(place), "{refusal}");
        }
        for (end, place) in [
            (End::Closed, 9),
            (End::GaveWay, 4),
            (End::BindingEnded, 5),
            (End::TimedOut, 6),
            (End::Malformed, 7),
            (End::HandshakeFailed, 8),
        ] {
            let counters = metrics::Http::default();
            ended(&counters, &Nobody, end);
            assert_eq!(shown(&counters), only(place), "{end:?}");
        }
    }
}
