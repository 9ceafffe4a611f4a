//! The daemon's metrics: declared here, each with its name and help text, and counted where things happen.
//!
//! Promises: a name follows Prometheus's conventions and never changes its meaning; counting is a few atomic additions to
//! counters that are held, without a lock, a look-up or an allocation; `metadatad status` and its JSON are read from here; no
//! label has a value that a guest chooses, and the number of series is fixed, whatever guests do ([`reference`]).
//!
//! Packets are counted by the programs in the kernel; they are read when somebody asks ([`Packets`]). So is what is a state and
//! not a count ([`state`]).

mod http;
pub mod process;
pub mod reference;
mod repairs;
mod requests;
pub mod state;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric as _};
use prometheus_client::encoding::{prometheus_text, text};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::{ConstCounter, Counter};
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::Registry;

pub use http::{DENIALS, Http, UNSIGNED};
pub use repairs::{Fault, Repair, Repairs};
pub use state::State;

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

/// Outcomes of boots that are counted: those of `boots::Outcome` that are final. Append-only.
pub const COUNTED_OUTCOMES: [&str; 5] = ["complete", "early", "stopped", "unconnected", "silent"];

/// How metrics are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// OpenMetrics 1.0.0, which Prometheus prefers.
    OpenMetrics,
    /// Prometheus's own text format, 0.0.4.
    Text,
}

impl Format {
    /// Returns the one to answer with, by the request's `Accept`: OpenMetrics for whoever names it, Prometheus's for all others.
    #[must_use]
    pub fn accepted(accept: Option<&str>) -> Self {
        let is_wanted = |range: &str| {
            let mut parts = range.split(';').map(str::trim);
            parts.next().is_some_and(|name| name.eq_ignore_ascii_case("application/openmetrics-text"))
                && parts.all(|parameter| match parameter.split_once('=') {
                    Some(("version", version)) => version.trim_matches('"') == "1.0.0",
                    Some(("q", weight)) => weight.parse().is_ok_and(|weight: f32| weight > 0.0),
                    _ => true,
                })
        };
        if accept.is_some_and(|accept| accept.split(',').any(is_wanted)) { Self::OpenMetrics } else { Self::Text }
    }

    /// Returns the value of `Content-Type`.
    #[must_use]
    pub const fn content_type(self) -> &'static str {
        match self {
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
            Self::Text => "text/plain; version=0.0.4; charset=utf-8",
        }
    }
}

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
    /// Boots of guests.
    pub boots: Boots,
    /// System calls that the filters of threads have refused.
    pub refused_calls: Counter,
}

/// Counters of ports. Cheap to clone; clones are the same counters.
#[derive(Clone, Debug)]
pub struct Ports {
    /// Ports that became refused because their observers and documents disagree.
    pub disagreements: Counter,
    /// What was repaired.
    pub repairs: Repairs,
}

impl Metrics {
    /// Declares all counters.
    #[must_use]
    pub fn new() -> Self {
        let mut registry = Registry::with_prefix("metadatad");
        let (http, ports) = (Http::new(&mut registry), Ports::new(&mut registry));
        let (audit, anomalies) = (Audit::new(&mut registry), Anomalies::new(&mut registry));
        let boots = Boots::new(&mut registry);
        let refused_calls = counter(
            &mut registry,
            "refused_system_calls",
            "System calls refused by the filters of threads that read what others send: an attack, or a defect",
        );
        Self { registry, http, ports, audit, anomalies, boots, refused_calls }
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

    /// Writes metrics of a program that counts nothing here.
    #[must_use]
    pub fn state_text(format: Format, state: State) -> String {
        let mut text = String::new();
        let mut now = Registry::default();
        now.register_collector(Box::new(state));
        let written = match format {
            Format::OpenMetrics => text::encode_registry(&mut text, &now).and_then(|()| text::encode_eof(&mut text)),
            Format::Text => prometheus_text::encode(&mut text, &now),
        };
        debug_assert!(written.is_ok(), "a string takes everything");
        text
    }

    /// Writes all metrics.
    #[must_use]
    pub fn text(&self, format: Format, state: State) -> String {
        let mut text = String::new();
        let mut now = Registry::default();
        now.register_collector(Box::new(state));
        let written = match format {
            Format::OpenMetrics => text::encode_registry(&mut text, &self.registry)
                .and_then(|()| text::encode_registry(&mut text, &now))
                .and_then(|()| text::encode_eof(&mut text)),
            Format::Text => prometheus_text::encode(&mut text, &self.registry)
                .and_then(|()| prometheus_text::encode(&mut text, &now)),
        };
        debug_assert!(written.is_ok(), "a string takes everything");
        text
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
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
            repairs: Repairs::new(registry),
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

/// Counters of boots. Cheap to clone; clones are the same counters.
#[derive(Clone, Debug)]
pub struct Boots([Counter; COUNTED_OUTCOMES.len()]);

impl Boots {
    fn new(registry: &mut Registry) -> Self {
        let family =
            labelled(registry, "boots", "Boots of guests by outcome, each counted once, when its outcome is final");
        Self(COUNTED_OUTCOMES.map(|outcome| family.get_or_create_owned(&[("outcome", outcome)])))
    }

    /// Returns the counter of an outcome; `None`: it is not counted.
    #[must_use]
    pub fn of(&self, outcome: &str) -> Option<&Counter> {
        COUNTED_OUTCOMES.iter().position(|name| *name == outcome).and_then(|place| self.0.get(place))
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

#[cfg(test)]
mod tests {
    use std::time::Duration;

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
        metrics.http.answered(200, false, Duration::ZERO);
        metrics.http.answered(418, true, Duration::ZERO);
        metrics.ports.repairs.of(Repair::PairProgram).inc();
        let text = exported(&metrics);
        for line in [
            "metadatad_http_connections_closed_total{reason=\"gave_way\"} 1",
            "metadatad_http_connections_refused_total{reason=\"port_limit\"} 0",
            "metadatad_http_responses_total{code=\"200\",family=\"ipv4\"} 1",
            "metadatad_http_responses_total{code=\"other\",family=\"ipv6\"} 1",
            "metadatad_repairs_total{what=\"pair_program\"} 1",
            "metadatad_repairs_total{what=\"pin\"} 0",
            "metadatad_refused_system_calls_total 0",
            "metadatad_audit_records_lost_total{reason=\"queue_full\"} 0",
            "metadatad_anomalies_total{kind=\"path_scan\"} 0",
            "metadatad_boots_total{outcome=\"complete\"} 0",
        ] {
            assert!(text.lines().any(|found| found == line), "{line} is missing: {text}");
        }
        assert_eq!(text.lines().filter(|line| line.starts_with("# TYPE")).count(), 25, "{text}");
        for line in text.lines().filter(|line| !line.starts_with('#')) {
            let name = line.split(['{', ' ']).next().expect("a name");
            let family = ["_bucket", "_sum", "_count"].into_iter().find_map(|suffix| name.strip_suffix(suffix));
            assert!(name.starts_with("metadatad_") && (name.ends_with("_total") || family.is_some()), "{line}");
            let help = format!("# HELP {} ", family.unwrap_or(name.trim_end_matches("_total")));
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
    fn the_format_is_the_one_that_the_client_names() {
        let prometheus = "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,\
                          text/plain;version=0.0.4;q=0.5,*/*;q=0.1";
        for (accept, expected) in [
            (Some(prometheus), Format::OpenMetrics),
            (Some("application/openmetrics-text"), Format::OpenMetrics),
            (Some("application/openmetrics-text; version=\"1.0.0\"; charset=utf-8"), Format::OpenMetrics),
            (Some("application/openmetrics-text;version=2.0.0,text/plain"), Format::Text),
            (Some("application/openmetrics-text;q=0,text/plain"), Format::Text),
            (Some("text/plain;version=0.0.4"), Format::Text),
            (Some("*/*"), Format::Text),
            (None, Format::Text),
        ] {
            assert_eq!(Format::accepted(accept), expected, "{accept:?}");
        }
    }

    #[test]
    fn both_formats_have_the_same_samples() {
        let metrics = Metrics::new();
        let [open, text] = [Format::OpenMetrics, Format::Text].map(|format| metrics.text(format, State::complete()));
        let samples = |text: &str| {
            let lines: std::collections::BTreeSet<_> = text
                .lines()
                .filter(|line| !line.starts_with('#'))
                // They write numbers differently.
                .map(|line| line.rsplit_once(' ').expect("a value").0.split("le=").next().expect("a part").to_owned())
                .collect();
            lines
        };
        assert_eq!(samples(&open), samples(&text));
        assert!(open.ends_with("# EOF\n") && !text.contains("EOF"), "{text}");
        assert!(text.contains("# TYPE metadatad_source_resyncs_total counter\n"), "{text}");
        assert!(text.contains("# TYPE process_cpu_seconds_total counter\n"), "{text}");
        assert!(open.contains("# UNIT metadatad_snapshot_size_bytes bytes\n"), "{open}");
    }
}
