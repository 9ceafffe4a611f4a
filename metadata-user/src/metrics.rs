//! The daemon's counters: declared here, each with its name and help text, and counted where things happen.
//!
//! Promises: a name follows Prometheus's conventions and never changes its meaning; counting is one atomic addition to a
//! counter that is held, without a lock, a look-up or an allocation; `metadatad status` and its JSON are read from here.
//!
//! Packets are counted by the programs in the kernel; they are read when somebody asks ([`Packets`]).
//!
//! Left out: what is a state and not a count (ports, sources).

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric as _};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::{ConstCounter, Counter};
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::Registry;

/// Statuses that are counted one by one; others share one counter.
const STATUSES: [u16; 14] = [200, 400, 401, 403, 404, 405, 409, 411, 413, 414, 429, 431, 500, 503];

/// Kinds of unusual traffic, in the order of `audit::Anomaly`. Append-only.
pub const ANOMALIES: [&str; 7] = [
    "forwarded_header",
    "identity_header",
    "odd_host",
    "path_scan",
    "spoofed_packets",
    "token_failure",
    "limit_reached",
];

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

/// Counters with one label.
type Labelled = Family<[(&'static str, &'static str); 1], Counter>;

/// All counters.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    /// Guests' connections and requests.
    pub http: Http,
    /// Ports.
    pub ports: Ports,
    /// The audit log.
    pub audit: Audit,
    /// Unusual traffic.
    pub anomalies: Anomalies,
}

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
    /// Answers with each of [`STATUSES`], then those with any other.
    answers: [Counter; STATUSES.len() + 1],
}

/// Counters of ports. Cheap to clone; clones are the same counters.
#[derive(Clone, Debug)]
pub struct Ports {
    /// Ports that became refused because their observers and documents disagree.
    pub disagreements: Counter,
    /// Programs that were attached again because somebody had detached them.
    pub repaired: Counter,
}

impl Metrics {
    /// Declares all counters.
    #[must_use]
    pub fn new() -> Self {
        let mut registry = Registry::with_prefix("metadatad");
        let (http, ports) = (Http::new(&mut registry), Ports::new(&mut registry));
        let (audit, anomalies) = (Audit::new(&mut registry), Anomalies::new(&mut registry));
        Self { registry, http, ports, audit, anomalies }
    }

    /// Exports the packets that are counted elsewhere, too.
    pub fn read_packets(&mut self, packets: impl Packets) {
        self.registry.register_collector(Box::new(PacketCollector(packets)));
    }

    /// Returns all counters that are declared here, for an exporter.
    #[must_use]
    pub fn registry(&self) -> &Registry {
        &self.registry
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

impl Http {
    fn new(registry: &mut Registry) -> Self {
        let refused = labelled(
            registry,
            "http_connections_refused",
            "Guests' connections that were closed before their first request",
        );
        let closed = labelled(registry, "http_connections_closed", "Guests' connections that the daemon closed early");
        let answers = labelled(registry, "http_responses", "Answers to guests by status");
        let by_token = labelled(
            registry,
            "http_requests_by_token",
            "Requests of instances that have session tokens, by whether they had a valid one",
        );
        let denied = labelled(registry, "http_requests_denied", "Requests that the policy of their instance refused");
        let with = |family: &Labelled, label, value| family.get_or_create_owned(&[(label, value)]);
        Self {
            tokens_issued: counter(registry, "http_tokens_issued", "Session tokens that were issued"),
            with_token: with(&by_token, "token", "valid"),
            without_token: with(&by_token, "token", "absent"),
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
            answers: std::array::from_fn(|at| with(&answers, "code", STATUSES.get(at).map_or("other", |at| text(*at)))),
        }
    }

    /// Counts a request that the instance's policy refused, for one of [`DENIALS`].
    pub fn denied(&self, reason: &str) {
        if let Some(place) = DENIALS.iter().position(|known| *known == reason) {
            self.denied[place].inc();
        }
    }

    /// Returns the requests that policies refused, by reason, where there are any.
    pub fn denials(&self) -> impl Iterator<Item = (&'static str, u64)> {
        DENIALS.into_iter().zip(self.denied.iter().map(Counter::get)).filter(|(_, count)| *count > 0)
    }

    /// Counts an answer.
    pub fn answered(&self, status: u16) {
        let place = STATUSES.iter().position(|known| *known == status).unwrap_or(STATUSES.len());
        self.answers[place].inc();
    }

    /// Returns the answers by status, of those that were given; 0 stands for statuses that have no counter of their own.
    pub fn answers(&self) -> impl Iterator<Item = (u16, u64)> {
        let counts = self.answers.iter().map(Counter::get);
        STATUSES.into_iter().chain([0]).zip(counts).filter(|(_, count)| *count > 0)
    }
}

impl Default for Http {
    /// Returns counters that are not exported: for a part of the daemon by itself.
    fn default() -> Self {
        Self::new(&mut Registry::default())
    }
}

impl Ports {
    fn new(registry: &mut Registry) -> Self {
        Self {
            disagreements: counter(
                registry,
                "ports_disagreements",
                "Ports that became refused because their observers and documents disagree",
            ),
            repaired: counter(
                registry,
                "ports_programs_repaired",
                "Programs that were attached again because somebody had detached them",
            ),
        }
    }
}

impl Default for Ports {
    /// Returns counters that are not exported: for a part of the daemon by itself.
    fn default() -> Self {
        Self::new(&mut Registry::default())
    }
}

/// Counts packets of all ports, those that are gone included.
pub trait Packets: std::fmt::Debug + Send + Sync + 'static {
    /// Returns how many there were since the programs were loaded, by verdict or drop reason.
    fn totals(&self) -> Vec<(&'static str, u64)>;
}

/// Reads packets when they are exported.
#[derive(Debug)]
struct PacketCollector<P>(P);

impl<P: Packets> Collector for PacketCollector<P> {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        let help = "Packets of guests to the metadata addresses, and replies, by verdict or drop reason.";
        let mut family = encoder.encode_descriptor("packets", help, None, MetricType::Counter)?;
        for (result, count) in self.0.totals() {
            ConstCounter::new(count).encode(family.encode_family(&[("result", result)])?)?;
        }
        Ok(())
    }
}

/// Counters of the audit log. Cheap to clone; clones are the same counters.
#[derive(Clone, Debug)]
pub struct Audit {
    /// Records that were written.
    pub written: Counter,
    /// Records lost because more came than could be written.
    pub lost_queue_full: Counter,
    /// Records lost because writing failed.
    pub lost_write_failed: Counter,
    /// Records of connections and refused requests that a port's quota left out.
    pub left_out: Counter,
}

impl Audit {
    fn new(registry: &mut Registry) -> Self {
        let written = counter(registry, "audit_records", "Audit records that were written");
        let lost = labelled(registry, "audit_records_lost", "Audit records that could not be written");
        let with = |reason| lost.get_or_create_owned(&[("reason", reason)]);
        Self {
            written,
            lost_queue_full: with("queue_full"),
            lost_write_failed: with("write_failed"),
            left_out: counter(
                registry,
                "audit_records_left_out",
                "Audit records of connections and refused requests beyond what one port may cause",
            ),
        }
    }
}

impl Default for Audit {
    /// Returns counters that are not exported: for a part of the daemon by itself.
    fn default() -> Self {
        Self::new(&mut Registry::default())
    }
}

/// Counters of unusual traffic. Cheap to clone; clones are the same counters.
#[derive(Clone, Debug)]
pub struct Anomalies([Counter; ANOMALIES.len()]);

impl Anomalies {
    fn new(registry: &mut Registry) -> Self {
        let family =
            labelled(registry, "anomalies", "Unusual traffic of guests by kind; a hint, nothing was refused for it");
        Self(ANOMALIES.map(|kind| family.get_or_create_owned(&[("kind", kind)])))
    }

    /// Returns the counter of the kind at this place of [`ANOMALIES`].
    #[must_use]
    pub fn of(&self, place: usize) -> &Counter {
        &self.0[place]
    }
}

impl Default for Anomalies {
    /// Returns counters that are not exported: for a part of the daemon by itself.
    fn default() -> Self {
        Self::new(&mut Registry::default())
    }
}

fn counter(registry: &mut Registry, name: &str, help: &str) -> Counter {
    let counter = Counter::default();
    registry.register(name, help, counter.clone());
    counter
}

fn labelled(registry: &mut Registry, name: &str, help: &str) -> Labelled {
    let family = Labelled::default();
    registry.register(name, help, family.clone());
    family
}

fn text(status: u16) -> &'static str {
    match status {
        200 => "200",
        400 => "400",
        401 => "401",
        403 => "403",
        404 => "404",
        405 => "405",
        409 => "409",
        411 => "411",
        413 => "413",
        414 => "414",
        429 => "429",
        431 => "431",
        500 => "500",
        503 => "503",
        _ => "other",
    }
}

#[cfg(test)]
mod tests {
    use prometheus_client::encoding::text::encode;

    use super::*;

    fn exported(metrics: &Metrics) -> String {
        let mut text = String::new();
        encode(&mut text, metrics.registry()).expect("text");
        text
    }

    #[test]
    fn every_counter_is_exported_with_a_help_text_and_by_convention() {
        let metrics = Metrics::new();
        metrics.http.gave_way.inc();
        metrics.http.answered(200);
        metrics.http.answered(418);
        metrics.ports.repaired.inc();
        let text = exported(&metrics);
        for line in [
            "metadatad_http_connections_closed_total{reason=\"gave_way\"} 1",
            "metadatad_http_connections_refused_total{reason=\"port_limit\"} 0",
            "metadatad_http_responses_total{code=\"200\"} 1",
            "metadatad_http_responses_total{code=\"other\"} 1",
            "metadatad_ports_programs_repaired_total 1",
            "metadatad_audit_records_lost_total{reason=\"queue_full\"} 0",
            "metadatad_anomalies_total{kind=\"path_scan\"} 0",
        ] {
            assert!(text.lines().any(|found| found == line), "{line} is missing: {text}");
        }
        assert_eq!(text.lines().filter(|line| line.starts_with("# TYPE")).count(), 17, "{text}");
        for line in text.lines().filter(|line| !line.starts_with('#')) {
            let name = line.split(['{', ' ']).next().expect("a name");
            assert!(name.starts_with("metadatad_") && name.ends_with("_total"), "{line}");
            let help = format!("# HELP {} ", name.trim_end_matches("_total"));
            assert!(text.contains(&help), "{line} has no help text");
        }
    }

    #[derive(Debug)]
    struct Two;

    impl Packets for Two {
        fn totals(&self) -> Vec<(&'static str, u64)> {
            vec![("to_guest", 7), ("spoofed_ip", 0)]
        }
    }

    #[test]
    fn packets_are_read_when_they_are_exported() {
        let mut metrics = Metrics::new();
        assert!(!exported(&metrics).contains("metadatad_packets"));
        metrics.read_packets(Two);
        let text = exported(&metrics);
        for line in [
            "# TYPE metadatad_packets counter",
            "metadatad_packets_total{result=\"to_guest\"} 7",
            "metadatad_packets_total{result=\"spoofed_ip\"} 0",
        ] {
            assert!(text.lines().any(|found| found == line), "{line} is missing: {text}");
        }
    }

    #[test]
    fn statuses_have_their_own_labels() {
        assert!(STATUSES.iter().all(|status| text(*status) == status.to_string()));
        let http = Http::default();
        http.answered(404);
        http.answered(599);
        assert_eq!(http.answers().collect::<Vec<_>>(), [(404, 1), (0, 1)]);
    }
}
