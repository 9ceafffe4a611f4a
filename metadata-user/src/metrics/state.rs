//! What is exported as it is at that moment: ports by state, the age of content, what threads may do, the process.
//!
//! Each metric is declared here, with all values that its label can have; whoever knows the daemon's parts sets them
//! ([`State::set`]) whenever somebody asks. What does not apply, as a certificate where there is none, is not set, and absent.

use std::fmt;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric as _, MetricEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Unit;

use super::Fault;

/// A metric.
#[derive(Debug)]
pub struct Declared {
    /// Its name, without the unit and what its type adds.
    name: &'static str,
    unit: Measure,
    help: &'static str,
    kind: Kind,
    label: Label,
}

/// What a value is a number of.
#[derive(Clone, Copy, Debug)]
enum Measure {
    Things,
    Seconds,
    Bytes,
}

/// What kind of metric.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Gauge,
    Counter,
    /// Always 1; its label is what it says.
    Info,
}

/// What a metric is told apart by.
#[derive(Clone, Copy, Debug)]
enum Label {
    None,
    /// A name, and all values.
    Of(&'static str, &'static [&'static str]),
    /// A name; there is one value in the daemon's life.
    One(&'static str),
}

impl Declared {
    const fn new(name: &'static str, help: &'static str) -> Self {
        Self { name, unit: Measure::Things, help, kind: Kind::Gauge, label: Label::None }
    }

    const fn seconds(mut self) -> Self {
        self.unit = Measure::Seconds;
        self
    }

    const fn bytes(mut self) -> Self {
        self.unit = Measure::Bytes;
        self
    }

    const fn counter(mut self) -> Self {
        self.kind = Kind::Counter;
        self
    }

    const fn info(mut self, label: &'static str) -> Self {
        self.kind = Kind::Info;
        self.label = Label::One(label);
        self
    }

    const fn by(mut self, label: &'static str, values: &'static [&'static str]) -> Self {
        self.label = Label::Of(label, values);
        self
    }

    /// Returns all values of its label; none where it has no label, or there is one value in the daemon's life.
    #[must_use]
    pub const fn values(&self) -> &'static [&'static str] {
        match self.label {
            Label::Of(_, values) => values,
            Label::None | Label::One(_) => &[],
        }
    }
}

/// Outcomes of boots, in the order of `boots::Outcome`. Append-only.
pub const BOOT_OUTCOMES: [&str; 8] =
    ["complete", "reading", "early", "stopped", "unconnected", "silent", "off", "unknown"];

macro_rules! declared {
    ($($name:ident = $value:expr;)*) => {
        $(
            #[doc = "See its help text."]
            pub static $name: Declared = $value;
        )*

        /// All of them, in the order in which they are exported.
        pub(super) static ALL: &[&Declared] = &[$(&$name),*];
    };
}

pub mod controller;

declared! {
    BUILD = Declared::new("metadatad_build", "Version of the daemon").info("version");
    READY = Declared::new(
        "metadatad_ready",
        "Whether every port that was there at the start is attached and guests are answered: 1, else 0",
    );
    DRAINING = Declared::new("metadatad_draining", "Whether the daemon is about to end: 1, else 0");
    RELEASED = Declared::new(
        "metadatad_released",
        "Whether the daemon has let go of its taps, as `metadatad detach` asked: 1, else 0",
    );
    INSTANCES = Declared::new("metadatad_instances", "Instances that have content here");
    PORTS = Declared::new(
        "metadatad_ports",
        "Ports by state",
    ).by("state", &["bound", "held", "passed", "refused", "failed"]);
    PORTS_WIDENED = Declared::new(
        "metadatad_ports_widened",
        "Ports of which the document allows more sources than the kernel holds",
    );
    PORTS_GUARD = Declared::new(
        "metadatad_ports_guard",
        "Ports by whether their limits are applied at XDP too (ports.guard), or why they cannot be",
    ).by("state", &["xdp", "occupied", "unsupported", "mtu", "error"]);
    FAULTS = Declared::new(
        "metadatad_faults",
        "Whether something is wrong that the daemon cannot repair, by what: 1, else 0; `metadatad status` has the remedy",
    ).by("what", Fault::NAMES);
    LAST_BOOT = Declared::new(
        "metadatad_ports_last_boot",
        "Ports by the outcome of their guest's last boot, as far as it is known now",
    ).by("outcome", &BOOT_OUTCOMES);
    CONNECTIONS = Declared::new("metadatad_http_connections", "Connections of guests now");
    WAITING = Declared::new("metadatad_http_waiting", "Requests that wait for a change now");
    CONNECTIONS_LIMIT = Declared::new(
        "metadatad_http_connections_limit",
        "Most connections of guests at a time: http.connections, or what the process has files for",
    );
    SOURCE = Declared::new("metadatad_source", "Kind of the source of documents").info("kind");
    SOURCE_UP = Declared::new("metadatad_source_up", "Whether the source can be read: 1, else 0");
    SOURCE_INSTANCES = Declared::new("metadatad_source_instances", "Instances that come from the source");
    SOURCE_BROKEN = Declared::new("metadatad_source_documents_broken", "Documents that cannot be used");
    SOURCE_SYNCED = Declared::new(
        "metadatad_source_synced_timestamp",
        "When all of the source was last read; absent until then",
    ).seconds();
    SOURCE_CHANGED = Declared::new(
        "metadatad_source_changed_timestamp",
        "When a change of the source last came; absent until then",
    ).seconds();
    SOURCE_LAG = Declared::new(
        "metadatad_source_lag",
        "For how long the source may be behind its controller; 0: it is in step",
    ).seconds();
    SOURCE_REVISION = Declared::new(
        "metadatad_source_revision",
        "Which of its controller's states the content is: etcd's revision; absent for other sources",
    );
    SOURCE_RESYNCS = Declared::new("metadatad_source_resyncs", "How often all of the source was read again").counter();
    SOURCE_UNCONFIRMED = Declared::new(
        "metadatad_source_unconfirmed_instances",
        "Instances that are served though a replaced controller lacks them, until `metadatad source accept`",
    );
    SOURCE_ENDPOINTS = Declared::new(
        "metadatad_source_endpoints",
        "Endpoints of the source's controller",
    ).by("state", &["answering", "failing"]);
    SNAPSHOT_UP = Declared::new(
        "metadatad_snapshot_up",
        "Whether the snapshot can be written: 1, else 0; absent where it is off, and so are the next",
    );
    SNAPSHOT_WRITTEN = Declared::new(
        "metadatad_snapshot_written_timestamp",
        "When the snapshot was last written",
    ).seconds();
    SNAPSHOT_SIZE = Declared::new("metadatad_snapshot_size", "Size of the snapshot").bytes();
    SNAPSHOT_INSTANCES = Declared::new("metadatad_snapshot_instances", "Instances in the snapshot");
    CONFIG_DRIVES_UP = Declared::new(
        "metadatad_config_drives_up",
        "Whether images of config drives can be kept as configured: 1, else 0; absent where none are kept, and so is the next",
    );
    CONFIG_DRIVES = Declared::new(
        "metadatad_config_drives",
        "Instances that are to have an image of their config drive: it is current; their content is not known yet; it cannot be written \
         or removed",
    ).by("state", &["current", "waiting", "failed"]);
    VENDORDATA_TARGETS = Declared::new(
        "metadatad_vendordata_targets",
        "Targets of dynamic vendor data by whether the last answers of all instances were good; absent where there \
         are none",
    ).by("state", &["reachable", "failing"]);
    OBSERVER_UP = Declared::new(
        "metadatad_observer_up",
        "Whether the observer is connected: 1, else 0; absent where it is switched off, and so are the next",
    ).by("observer", OBSERVERS);
    OBSERVER_DEVICES = Declared::new(
        "metadatad_observer_devices",
        "Devices of instances that the observer reported",
    ).by("observer", OBSERVERS);
    OBSERVER_PROBLEMS = Declared::new(
        "metadatad_observer_problems",
        "Why the observer cannot be read, or parts of its data; `metadatad status` shows them",
    ).by("observer", OBSERVERS);
    OBSERVER_UNREACHABLE = Declared::new(
        "metadatad_observer_unreachable_ports",
        "Interfaces of instances that pass no tap here and need a config drive",
    ).by("observer", OBSERVERS);
    AUDIT_UP = Declared::new(
        "metadatad_audit_up",
        "Whether the audit log can be written: 1, else 0; absent where it is off",
    );
    CERTIFICATE_UP = Declared::new(
        "metadatad_certificate_up",
        "Whether the files of the certificate can be used: 1, else 0; absent where there is none",
    ).by("table", CERTIFICATES);
    CERTIFICATE_END = Declared::new(
        "metadatad_certificate_not_after_timestamp",
        "When the certificate in use ends; absent where there is none",
    ).seconds().by("table", CERTIFICATES);
    IDENTITY_UP = Declared::new(
        "metadatad_identity_up",
        "Whether the keys that are signed with for guests can be used: 1, else 0; absent where nothing is signed",
    );
    IDENTITY_KEYS = Declared::new(
        "metadatad_identity_keys",
        "Keys that are published for whoever verifies; 0: nothing can be signed; absent where nothing is signed",
    );
    THREADS = Declared::new(
        "metadatad_threads",
        "Threads by what they may do (`metadatad status --security`); other: they help one of these, and may do what \
         it may",
    ).by("profile", PROFILES);
    THREADS_UNCONFINED = Declared::new(
        "metadatad_threads_unconfined",
        "Threads that read what others send and lack their seccomp filter, or can open files",
    );
    THREADS_PRIVILEGED = Declared::new(
        "metadatad_threads_privileged",
        "Threads with a capability that their work does not need",
    );
    PROCESS_CPU = Declared::new("process_cpu", "Processor time of the daemon, user and system").seconds().counter();
    PROCESS_MEMORY = Declared::new("process_resident_memory", "Resident memory of the daemon").bytes();
    PROCESS_ADDRESSES = Declared::new("process_virtual_memory", "Virtual memory of the daemon").bytes();
    PROCESS_FDS = Declared::new("process_open_fds", "Open files of the daemon");
    PROCESS_MAX_FDS = Declared::new("process_max_fds", "Most open files of the daemon");
    PROCESS_START = Declared::new("process_start_time", "When the daemon started").seconds();
}

/// Values of the label `observer`.
const OBSERVERS: &[&str] = &["openvswitch", "libvirt"];
/// Values of the label `table`: of the configuration that names the certificate.
const CERTIFICATES: &[&str] = &["https", "metrics"];
/// Values of the label `profile`: the profiles of `privilege`, and `other`.
const PROFILES: &[&str] = &[
    "set-up",
    "ports",
    "responder",
    "facts",
    "guests",
    "metrics",
    "main",
    "snapshot",
    "config-drives",
    "audit",
    "take-over",
    "plain",
    "other",
];

/// A histogram in seconds that is kept elsewhere.
#[derive(Debug)]
pub struct DeclaredHistogram {
    /// Its name, without the unit.
    name: &'static str,
    help: &'static str,
    /// Upper bounds of its buckets, but for the last, which has none.
    pub bounds: &'static [f64],
}

/// The values of all that applies.
#[derive(Debug, Default)]
pub struct State {
    samples: Vec<Sample>,
    histograms: Vec<Histogram>,
}

#[derive(Debug)]
struct Histogram {
    of: &'static DeclaredHistogram,
    /// Upper bounds, and how many values are in each bucket.
    buckets: Vec<(f64, u64)>,
    sum: f64,
}

#[derive(Debug)]
struct Sample {
    of: &'static Declared,
    label: Option<String>,
    value: f64,
}

impl State {
    /// Sets a metric that has no label.
    pub fn set(&mut self, of: &'static Declared, value: f64) {
        debug_assert!(matches!(of.label, Label::None), "{} has a label", of.name);
        self.samples.push(Sample { of, label: None, value });
    }

    /// Sets a metric that has no label, if there is a value.
    pub fn set_if(&mut self, of: &'static Declared, value: Option<f64>) {
        if let Some(value) = value {
            self.set(of, value);
        }
    }

    /// Sets a metric for one of the values that its label can have.
    pub fn set_for(&mut self, of: &'static Declared, label: &'static str, value: f64) {
        debug_assert!(of.values().contains(&label), "{} has no label {label}", of.name);
        self.samples.push(Sample { of, label: Some(label.to_owned()), value });
    }

    /// Sets a histogram: how many values are in each bucket, those above the last bound at the end, and their sum.
    pub fn set_histogram(&mut self, of: &'static DeclaredHistogram, counts: &[u64], sum: f64) {
        debug_assert_eq!(counts.len(), of.bounds.len() + 1, "{}", of.name);
        let bounds = of.bounds.iter().copied().chain([f64::INFINITY]);
        let buckets = bounds.zip(counts.iter().copied()).collect();
        self.histograms.push(Histogram { of, buckets, sum });
    }

    /// Says what an info metric says.
    pub fn say(&mut self, of: &'static Declared, label: &str) {
        debug_assert!(matches!(of.label, Label::One(_)), "{} says nothing", of.name);
        self.samples.push(Sample { of, label: Some(label.to_owned()), value: 1.0 });
    }

    /// Returns a state in which everything applies: for the reference.
    #[must_use]
    pub fn complete() -> Self {
        Self::complete_of(ALL.iter())
    }

    /// The same for the controller.
    #[must_use]
    pub fn complete_of_controller() -> Self {
        let mut state = Self::complete_of(controller::SHARED.iter().chain(controller::ALL));
        for histogram in [&controller::LAG, &controller::READING] {
            state.set_histogram(histogram, &vec![0; histogram.bounds.len() + 1], 0.0);
        }
        state
    }

    fn complete_of(all: impl Iterator<Item = &'static &'static Declared>) -> Self {
        let mut state = Self::default();
        for of in all {
            match of.label {
                Label::None => state.set(of, 0.0),
                Label::One(_) => state.say(of, "x"),
                Label::Of(_, values) => values.iter().for_each(|value| state.set_for(of, value, 0.0)),
            }
        }
        state
    }
}

impl Collector for State {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        for of in ALL.iter().chain(controller::ALL) {
            let mut samples = self.samples.iter().filter(|sample| std::ptr::eq(sample.of, *of)).peekable();
            if samples.peek().is_none() {
                continue;
            }
            let unit = of.unit.encoded();
            let (help, kind) = (format!("{}.", of.help), of.kind.encoded());
            let mut family = encoder.encode_descriptor(of.name, &help, unit.as_ref(), kind)?;
            for sample in samples {
                match (of.label, &sample.label) {
                    (Label::One(name), Some(value)) => family.encode_info(&[(name, value.as_str())])?,
                    (Label::Of(name, _), Some(value)) => {
                        of.kind.encode(sample.value, family.encode_family(&[(name, value.as_str())])?)?;
                    }
                    // Nothing else is pushed.
                    _ => of.kind.encode(sample.value, family.encode_family::<[(&str, &str); 0]>(&[])?)?,
                }
            }
        }
        for Histogram { of, buckets, sum } in &self.histograms {
            let (help, unit) = (format!("{}.", of.help), Some(&Unit::Seconds));
            let mut family = encoder.encode_descriptor(of.name, &help, unit, MetricType::Histogram)?;
            let count = buckets.iter().map(|(_, count)| count).sum();
            family.encode_histogram::<NoLabelSet>(*sum, count, buckets, None)?;
        }
        Ok(())
    }
}

impl Measure {
    fn encoded(self) -> Option<Unit> {
        match self {
            Self::Things => None,
            Self::Seconds => Some(Unit::Seconds),
            Self::Bytes => Some(Unit::Bytes),
        }
    }
}

impl Kind {
    fn encoded(self) -> MetricType {
        match self {
            Self::Gauge => MetricType::Gauge,
            Self::Counter => MetricType::Counter,
            Self::Info => MetricType::Info,
        }
    }

    fn encode(self, value: f64, encoder: MetricEncoder<'_>) -> fmt::Result {
        match self {
            Self::Counter => ConstCounter::new(value).encode(encoder),
            Self::Gauge | Self::Info => ConstGauge::new(value).encode(encoder),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_profile_of_a_thread_has_its_label() {
        let known: Vec<_> = crate::privilege::PROFILES.iter().map(|profile| profile.name).collect();
        assert!(known.iter().all(|name| PROFILES.contains(name)), "{known:?}");
        assert_eq!(PROFILES.len(), known.len() + 1, "and the others");
    }
}
