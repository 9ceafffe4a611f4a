//! How the audit log is doing, and what was unusual about guests' traffic.

use serde::{Deserialize, Serialize};

/// The audit log, since the start.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Audit {
    /// Records that were written.
    pub written: u64,
    /// Records lost because more came than could be written.
    pub lost_queue_full: u64,
    /// Records lost because writing failed.
    pub lost_write_failed: u64,
    /// Records of connections and refused requests beyond what one port may cause.
    pub left_out: u64,
    /// Why it cannot be written now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// What was unusual about an instance's traffic, since the start.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct InstanceAnomalies {
    /// The instance.
    pub instance: String,
    /// Its project, while its content is there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub project: Option<String>,
    /// What was seen.
    pub anomalies: Vec<Anomaly>,
}

/// Something unusual. It is a hint; nothing was refused for it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Anomaly {
    /// `forwarded_header`, `identity_header`, `odd_host`, `path_scan`, `spoofed_packets`, `token_failure` or `limit_reached`;
    /// more may come.
    pub kind: String,
    /// How often.
    pub count: u64,
    /// When last, in seconds of Unix time.
    pub last_at: u64,
}
