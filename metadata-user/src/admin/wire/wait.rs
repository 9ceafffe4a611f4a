//! The result of waiting for an instance.

use serde::{Deserialize, Serialize};

/// The end of a wait for an instance.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Waited {
    /// The instance.
    pub instance: String,
    /// Whether it can be answered.
    pub ready: bool,
    /// How long the wait took, in milliseconds.
    pub waited_ms: u64,
    /// What is missing, and where to look; absent if nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub missing: Option<String>,
}
