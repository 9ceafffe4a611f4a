//! What `metadatad controller` shows.

use serde::{Deserialize, Serialize};

/// How a controller is doing.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ControllerStatus {
    /// Version of the program.
    pub version: String,
    /// Process id.
    pub pid: u32,
    /// When it started, in seconds of Unix time.
    pub started_at: u64,
    /// Its name in the election.
    pub name: String,
    /// `leading`, `waiting` (another leads) or `connecting` (etcd has not been reached).
    pub state: String,
    /// Who leads, as far as it is known.
    pub leader: Option<Leader>,
    /// What is wrong now, each with its remedy, in a line. Empty: nothing.
    pub problems: Vec<String>,
    /// The etcd cluster that is written.
    pub etcd: Written,
    /// Services of the OpenStack that are read.
    pub services: Vec<Service>,
    /// Notifications; absent where they are not configured.
    pub notifications: Option<Notifications>,
    /// Instances that were read by this leader, by fidelity.
    pub instances: Instances,
    /// Instances that wait to be read.
    pub backlog: usize,
    /// Age of the oldest change that is not written yet, in milliseconds; absent: there is none.
    pub oldest_change_ms: Option<u64>,
    /// Time from a notification to etcd.
    pub lag: Lag,
    /// The comparison of everything.
    pub reconcile: Reconcile,
    /// Passwords that guests posted.
    pub passwords: Passwords,
}

/// The leader of the controllers.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Leader {
    /// Its name.
    pub name: String,
    /// Since when, in seconds of Unix time.
    pub since: u64,
}

/// What became of writes to etcd, since this controller began to lead.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Written {
    /// Its members, and the prefix.
    pub place: String,
    /// Documents that were written.
    pub documents: u64,
    /// Documents that were the same already.
    pub unchanged: u64,
    /// Documents that went.
    pub removed: u64,
    /// Documents that somebody else had changed, and that were written over.
    pub overwritten: u64,
    /// Writes that failed.
    pub failed: u64,
    /// Since when it fails, in seconds of Unix time; absent: it works.
    pub failing_since: Option<u64>,
    /// Why.
    pub error: Option<String>,
}

/// A service of the OpenStack.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Service {
    /// `keystone`, `nova`, `metadata` or `neutron`.
    pub name: String,
    /// Where it is, without anything secret.
    pub place: String,
    /// Requests that were answered.
    pub reads: u64,
    /// Requests that failed.
    pub failures: u64,
    /// Requests that are under way.
    pub in_flight: u64,
    /// Since when it fails, in seconds of Unix time; absent: it works.
    pub failing_since: Option<u64>,
    /// Why.
    pub error: Option<String>,
}

/// Notifications from RabbitMQ.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Notifications {
    /// The broker, without user and password.
    pub place: String,
    /// Since when it is connected, in seconds of Unix time; absent: it is not.
    pub connected_since: Option<u64>,
    /// When the last one came.
    pub last_at: Option<u64>,
    /// Notifications that name an instance or what belongs to one.
    pub read: u64,
    /// Others.
    pub ignored: u64,
    /// Those that cannot be read.
    pub malformed: u64,
    /// How often some may have been lost, so that everything is compared.
    pub gaps: u64,
    /// Why some may have been lost the last time; absent: never since this controller leads.
    pub last_gap: Option<String>,
    /// When that was, in seconds of Unix time.
    pub last_gap_at: Option<u64>,
    /// Since when there is no connection; absent: there is one, or none was tried.
    pub failing_since: Option<u64>,
    /// Why.
    pub error: Option<String>,
}

/// Instances by fidelity.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Instances {
    /// All that are known.
    pub known: usize,
    /// Those whose document alone gives Nova's answers.
    pub documents: usize,
    /// Those that need pages beside it.
    pub with_pages: usize,
    /// Those that could not be read or written at the last attempt.
    pub failed: usize,
}

/// Time from a change to etcd, of the last changes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Lag {
    /// How many changes that is.
    pub changes: u64,
    /// Median, in milliseconds.
    pub p50_ms: u64,
    /// 99th percentile, in milliseconds.
    pub p99_ms: u64,
    /// Median of the part that reading from OpenStack took, in milliseconds.
    pub reading_p50_ms: u64,
    /// 99th percentile of it, in milliseconds.
    pub reading_p99_ms: u64,
}

/// The comparison of everything.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Reconcile {
    /// When all servers were last listed, in seconds of Unix time.
    pub listed_at: Option<u64>,
    /// How many servers that were.
    pub servers: usize,
    /// When everything was last known to be in step.
    pub in_step_at: Option<u64>,
    /// Why everything is compared now; absent: nothing but the usual round.
    pub reason: Option<String>,
}

/// Passwords that guests posted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Passwords {
    /// Those that Nova was asked to keep.
    pub passed_on: u64,
    /// Those that Nova could not be asked to keep.
    pub failed: u64,
}

/// An instance, as the controller knows it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ControlledInstance {
    /// The instance.
    pub instance: String,
    /// Its project.
    pub project: Option<String>,
    /// The nodes that have its document.
    pub nodes: Vec<String>,
    /// Nova's status of it.
    pub status: Option<String>,
    /// `document`, `pages` (with pages beside it) or `unread`.
    pub fidelity: String,
    /// Paths of the pages beside the document, with what the renderer cannot do.
    pub pages: Vec<PageBeside>,
    /// When it was last read, in seconds of Unix time.
    pub read_at: Option<u64>,
    /// Why it could not be read or written at the last attempt.
    pub error: Option<String>,
}

/// A page that is served as it is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct PageBeside {
    /// Its path.
    pub path: String,
    /// Why the document does not give it.
    pub reason: String,
}

/// Where an instance's rendered document and Nova's answer differ.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ControllerDifference {
    /// The path.
    pub path: String,
    /// What Nova answers, from where the two differ on.
    pub nova: String,
    /// What the document gives there.
    pub document: String,
}

/// Instances that will be read again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Reread {
    /// How many.
    pub instances: usize,
}

/// What became of the leadership.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Resigned {
    /// Who leads now; absent: nobody yet.
    pub leader: Option<Leader>,
}
