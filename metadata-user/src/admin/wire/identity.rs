//! What is signed for guests, as `status` shows it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// What is signed for guests.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    /// The names of the keys in use; the first one's signs. Empty: none could be read yet.
    #[serde(default)]
    pub key_ids: Vec<String>,
    /// When they were read, in seconds of Unix time; absent: none could be read yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub loaded_at: Option<u64>,
    /// Why the file as it is now is not used, and the remedy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// Tokens that were signed since the start.
    #[serde(default)]
    pub tokens: u64,
    /// EC2's documents that were signed since the start.
    #[serde(default)]
    pub documents: u64,
    /// Requests that were refused since the start, by reason; those that did not occur are left out.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub refused: BTreeMap<String, u64>,
}
