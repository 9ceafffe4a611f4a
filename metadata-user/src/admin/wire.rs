//! What the admin API answers, in JSON. Members are only ever added; one that is absent is unknown or does not apply.

mod access;
mod attributes;
mod audit;
mod boots;
mod config_drive;
mod controller;
mod evidence;
mod identity;
mod late;
mod ports;
mod release;
mod reload;
mod security;
mod wait;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

pub use self::access::{InstanceAccess, TokenlessClient};
pub use self::attributes::GuestAttributes;
pub use self::audit::{Anomaly, Audit, InstanceAnomalies};
pub use self::boots::{BootRead, BootShown, PortBoots};
pub use self::config_drive::{ConfigDrive, ConfigDriveFile, ConfigDrives};
pub use self::controller::{
    ControlledInstance, ControllerDifference, ControllerStatus, Instances, Lag, Leader, Notifications, PageBeside,
    Passwords, Reconcile, Reread, Resigned, Service, Written,
};
pub use self::evidence::{ContentEvidence, Evidence, LastDrop, TapClaim};
pub use self::identity::Identity;
pub use self::late::Late;
pub use self::ports::{Allowed, PortCounters, PortStatus, State};
pub use self::release::{NotReleased, Released};
pub use self::reload::Reload;
pub use self::security::{HeldCapability, Security, Thread};
pub use self::wait::Waited;

/// How the daemon is doing.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// Version of the daemon.
    pub version: String,
    /// Its process id.
    pub pid: u32,
    /// Start of the daemon, in seconds of Unix time.
    pub started_at: u64,
    /// Whether every port that was there at the start is attached, and guests are answered.
    pub ready: bool,
    /// The taps that the daemon has let go of, as `metadatad detach` asked; absent: it has not. Guests' requests go on to the network
    /// until it starts again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub released: Option<Released>,
    /// What is waited for, while not ready.
    #[serde(default)]
    pub waiting_for: Vec<String>,
    /// Whether the daemon is about to end.
    pub draining: bool,
    /// Where documents come from.
    pub source: Source,
    /// What is kept on disk; absent if it is switched off.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub snapshot: Option<Snapshot>,
    /// Images of config drives; absent: none are kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub config_drives: Option<ConfigDrives>,
    /// Dynamic vendor data; absent if no target is asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vendordata: Option<Vendordata>,
    /// Number of ports by state.
    pub ports: BTreeMap<String, usize>,
    /// How often a port became refused since the start because the evidence about it contradicts itself.
    #[serde(default)]
    pub ports_disagreements: u64,
    /// Ports whose document allows more sources than the kernel holds: the kernel has wider ones. The port's reason says so.
    #[serde(default)]
    pub ports_widened: usize,
    /// Ports by whether their limits are applied at XDP too; absent where that is not asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ports_guard: Option<PortsGuard>,
    /// How often a tap's program was put back, since the start, because others had taken it away.
    #[serde(default)]
    pub ports_repaired: u64,
    /// Repairs since the start, by what was changed or removed (docs/operations.md); those that did not occur are left out.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub repairs: BTreeMap<String, u64>,
    /// What is wrong and cannot be repaired by the daemon.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub faults: Vec<Fault>,
    /// The programs on this node that know which instance a device belongs to, most trusted first, without those that are
    /// switched off.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub facts: Vec<Observer>,
    /// Guests' connections.
    pub http: Http,
    /// The audit log; absent if it is off.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub audit: Option<Audit>,
    /// Unusual traffic by kind, of all instances, since the start; kinds that nobody showed are left out.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub anomalies: BTreeMap<String, u64>,
    /// The certificate that guests see; absent if they are not answered over TLS.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub https: Option<Https>,
    /// What is signed for guests; absent: nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub identity: Option<Identity>,
    /// Metrics over TCP; absent if they are read at the admin socket alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metrics: Option<Metrics>,
    /// The last reload of the configuration; absent: there was none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reload: Option<Reload>,
}

impl Status {
    /// Tells whether there is nothing to repair: the source is read, no document is broken, snapshot and audit log can be
    /// written, a reloaded configuration is accepted, no target of vendor data fails, metrics can be read over TCP where they should,
    /// certificates, signing keys and every observer that is present can be read, no port is refused or failed, and nothing is missing that the daemon
    /// depends on.
    #[must_use]
    pub fn is_healthy(&self) -> bool {
        self.ready
            && self.source.error.is_none()
            && self.source.broken.is_empty()
            && self.snapshot.as_ref().is_none_or(|snapshot| snapshot.error.is_none())
            && self.config_drives.as_ref().is_none_or(|drives| drives.error.is_none())
            && self.audit.as_ref().is_none_or(|audit| audit.error.is_none())
            && self.reload.as_ref().is_none_or(|reload| reload.error.is_none())
            && self.vendordata.as_ref().is_none_or(|vendordata| vendordata.failing == 0)
            && self.https.as_ref().is_none_or(|https| https.error.is_none())
            && self.identity.as_ref().is_none_or(|identity| identity.error.is_none())
            && self.metrics.as_ref().is_none_or(Metrics::is_healthy)
            && self.facts.iter().all(|observer| observer.error.is_none() && observer.unreadable.is_empty())
            && self.faults.is_empty()
            && [State::Refused, State::Failed].iter().all(|state| !self.ports.contains_key(state.name()))
    }
}

/// Something that is wrong, and that the daemon cannot repair.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fault {
    /// A name that does not change: `preceded`, `pins`, `responder`, `namespace`.
    pub what: String,
    /// What is wrong, and the remedy.
    pub problem: String,
}

/// Ports by whether their limits are applied at XDP too.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PortsGuard {
    /// Those that are, natively: in the driver.
    pub xdp: usize,
    /// Those that cannot, by reason: `occupied`, `unsupported`, `mtu`, `error`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub missing: BTreeMap<String, usize>,
}

/// Where documents come from.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Source {
    /// Kind of source, as in the configuration.
    pub kind: String,
    /// Where it reads.
    pub place: String,
    /// When all of it was last read, in seconds of Unix time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub synced_at: Option<u64>,
    /// Instances that come from it.
    pub instances: usize,
    /// Documents that cannot be used.
    #[serde(default)]
    pub broken: Vec<Broken>,
    /// Why it cannot be read, and the remedy.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// Since when it may be behind its controller, in seconds of Unix time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lagging_since: Option<u64>,
    /// When a change of it last came, in seconds of Unix time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub changed_at: Option<u64>,
    /// Which of its controller's states the content is: etcd's revision.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revision: Option<i64>,
    /// Identity of the controller that the content is from: etcd's cluster id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cluster: Option<String>,
    /// Where it can be asked.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub endpoints: Vec<Endpoint>,
    /// How often all of it was read again since the start.
    #[serde(default)]
    pub resyncs: u64,
    /// Instances that are served, though the controller lacks them: it is not the one that their content came from, and the
    /// operator has not confirmed it yet.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub unconfirmed: Vec<String>,
}

/// The certificate that guests see over TLS.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Https {
    /// When the one in use was read, in seconds of Unix time; absent: none could be read yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub loaded_at: Option<u64>,
    /// When it ends, in seconds of Unix time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub not_after: Option<u64>,
    /// Why the files as they are now are not used, and the remedy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// Metrics over TCP.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Metrics {
    /// Address and port.
    pub listen: String,
    /// Why they cannot be read there, and the remedy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// The certificate that readers see; absent: plain HTTP.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<Https>,
}

impl Metrics {
    fn is_healthy(&self) -> bool {
        self.error.is_none() && self.tls.as_ref().is_none_or(|tls| tls.error.is_none())
    }
}

/// An instance's password.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Password {
    /// The instance.
    pub instance: String,
    /// Whether there is a password.
    #[serde(default)]
    pub is_set: bool,
    /// What its guest reads as its password, as it was posted: usually encrypted for the instance's key. Absent: there is
    /// none, or it was not asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub password: Option<String>,
}

impl Password {
    /// Makes one of what an instance's guest reads.
    #[must_use]
    pub fn new(instance: String, password: Option<String>) -> Self {
        Self { instance, is_set: password.is_some(), password }
    }

    /// Returns it without the password itself.
    #[must_use]
    pub fn without_secret(self) -> Self {
        Self { password: None, ..self }
    }
}

impl std::fmt::Debug for Password {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Password({}, ..)", self.instance)
    }
}

/// An instance's user data, as far as it may be read during the first boot only.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct UserData {
    /// The instance.
    pub instance: String,
    /// When its guest first read it, in seconds of Unix time. Absent: not yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub read_at: Option<u64>,
}

/// The outcome of `source accept`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Accepted {
    /// Instances that are no longer served.
    pub removed: usize,
}

/// An endpoint of a controller.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Endpoint {
    /// Its URL.
    pub url: String,
    /// Whether it is the one that is used now.
    pub in_use: bool,
    /// When it last answered, in seconds of Unix time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub answered_at: Option<u64>,
    /// Since when it does not, in seconds of Unix time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failing_since: Option<u64>,
    /// Why it does not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// A document that cannot be used.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Broken {
    /// Name of the document.
    pub name: String,
    /// Line, from 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub line: Option<usize>,
    /// Column, from 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub column: Option<usize>,
    /// What is wrong, and the remedy.
    pub problem: String,
    /// Whether an earlier good version is still served.
    pub serves_last_good: bool,
}

/// What is kept on disk.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Snapshot {
    /// The file.
    pub path: String,
    /// When it was last written, in seconds of Unix time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub written_at: Option<u64>,
    /// Its size in bytes.
    pub bytes: u64,
    /// Instances in it.
    pub instances: usize,
    /// Why it cannot be written, or is missing, and the remedy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// Why the one found at the start is not used, and the remedy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refused: Option<String>,
    /// What was read from it at the start.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub restored: Option<Restored>,
}

/// What was read from the snapshot at the start.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Restored {
    /// Number of instances.
    pub instances: usize,
    /// When the source was last known to agree with it, in seconds of Unix time.
    pub as_of: u64,
    /// Whether the source has been read completely since the start.
    pub confirmed: bool,
}

/// Dynamic vendor data.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Vendordata {
    /// Targets without a failing instance.
    pub reachable: usize,
    /// Targets with one.
    pub failing: usize,
    /// All of them, in the order of the configuration.
    pub targets: Vec<VendordataTarget>,
}

/// A target of dynamic vendor data.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct VendordataTarget {
    /// The key of its answers.
    pub name: String,
    /// Where it is, without a query.
    pub url: String,
    /// Whether it is asked when a guest reads, and not ahead of time.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub on_demand: bool,
    /// Instances that it is asked for ahead of time.
    pub instances: usize,
    /// Those for which it gave no good answer when it was last asked; guests read the last good one, or `{}`.
    pub failing: usize,
    /// Since when there are any, in seconds of Unix time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failing_since: Option<u64>,
    /// When it last gave a good answer, in seconds of Unix time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub answered_at: Option<u64>,
    /// When it last gave none, in seconds of Unix time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failed_at: Option<u64>,
    /// What went wrong then.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// A program on this node that knows which instance a device belongs to.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Observer {
    /// Its name.
    pub name: String,
    /// Its socket or directory.
    pub place: String,
    /// Whether it is connected now. Its last facts stay when it is not.
    pub present: bool,
    /// Since when that is so, in seconds of Unix time.
    pub since: u64,
    /// Number of facts that it reported: devices of instances.
    pub facts: usize,
    /// Why it is not connected, and the remedy. None if it does not run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// Parts of its data that cannot be read, each with its name.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub unreadable: Vec<String>,
    /// Interfaces of instances whose packets pass no tap here: these instances need a config drive.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub unreachable_ports: Vec<UnreachablePort>,
}

/// An interface whose packets pass no tap.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct UnreachablePort {
    /// Its device, MAC or what else names it.
    pub device: String,
    /// Its instance.
    pub instance: String,
    /// What it is.
    pub kind: String,
}

/// Guests' connections, since the start but for `open`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Http {
    /// Connections now.
    pub open: usize,
    /// Connections that were accepted.
    pub accepted: u64,
    /// Connections refused because their address belongs to no binding.
    pub refused_unknown: u64,
    /// Connections refused because their port has too many.
    pub refused_port_limit: u64,
    /// Connections refused because their instance has too many.
    #[serde(default)]
    pub refused_instance_limit: u64,
    /// Connections refused because there are too many in all.
    pub refused_total_limit: u64,
    /// Idle connections that were closed because another connection needed their place.
    #[serde(default)]
    pub gave_way: u64,
    /// Connections closed because their port was removed or rebound to another instance.
    pub binding_ended: u64,
    /// Connections closed because a time-out was reached.
    pub timed_out: u64,
    /// Connections closed because what came was not HTTP.
    pub malformed: u64,
    /// Connections closed because no TLS handshake came about.
    #[serde(default)]
    pub handshake_failed: u64,
    /// Requests that claimed to be another instance's, by a header that only Neutron's agents send. It is ignored.
    pub claimed_identity: u64,
    /// Requests that waited for their content.
    #[serde(default)]
    pub waited: u64,
    /// Requests that wait for a change now.
    #[serde(default)]
    pub waiting: usize,
    /// Requests that did not wait for a change, as too many of their instance did.
    #[serde(default)]
    pub waits_refused: u64,
    /// Requests that waited because their instance asks too much.
    #[serde(default)]
    pub limited: u64,
    /// Requests of which the connection ended before the answer.
    #[serde(default)]
    pub unanswered: u64,
    /// Session tokens that were issued.
    #[serde(default)]
    pub tokens_issued: u64,
    /// Requests that the policy of their instance refused, by reason.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub denied: BTreeMap<String, u64>,
    /// Answers by status; 0: every other status.
    pub answers: BTreeMap<u16, u64>,
}

/// Why a request was not answered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Problem {
    /// What is wrong, and the remedy.
    pub error: String,
}
