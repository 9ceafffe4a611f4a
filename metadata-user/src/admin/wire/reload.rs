//! The result of a reload of the configuration.

use serde::{Deserialize, Serialize};

/// The last reload.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reload {
    /// When, in seconds of Unix time.
    pub at: u64,
    /// Why the file was not accepted, and the remedy; absent: it was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// Keys that the last accepted reload changed.
    #[serde(default)]
    pub applied: Vec<String>,
    /// Keys that differ from those that the daemon started with, and need a restart.
    #[serde(default)]
    pub restart_needed: Vec<String>,
}
