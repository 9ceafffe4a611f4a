//! What the daemon knows about the path of guests' requests: its half of what `metadatad doctor` judges.

use serde::{Deserialize, Serialize};

/// What the daemon knows.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Evidence {
    /// Content, by instance.
    #[serde(default)]
    pub content: Vec<ContentEvidence>,
    /// Taps that documents name, whether they are here or not.
    #[serde(default)]
    pub claims: Vec<TapClaim>,
    /// The last sample of each kind of drop on each tap, the latest first.
    #[serde(default)]
    pub drops: Vec<LastDrop>,
}

/// The content of an instance.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContentEvidence {
    /// The instance.
    pub instance: String,
    /// `document` or `nova`.
    pub kind: String,
    /// What `/openstack/latest/meta_data.json` answers, of an instance that a port here is bound to; absent: it would have to be
    /// fetched first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub meta_data: Option<u16>,
}

/// A tap that documents name.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TapClaim {
    /// Its name.
    pub tap: String,
    /// The instances whose documents name it.
    pub instances: Vec<String>,
}

/// A drop that the kernel half sampled: the first, second, fourth, eighth … of its kind on a tap.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LastDrop {
    /// Interface index of the tap.
    pub ifindex: u32,
    /// Its name.
    pub tap: String,
    /// Why.
    pub reason: String,
    /// How many of this kind one CPU had dropped on this tap.
    pub count: u64,
    /// The MAC that the packet came from; absent: it could not be read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mac: Option<String>,
    /// The address that it came from; absent: it could not be read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
    /// When, in seconds of Unix time.
    pub at: u64,
}
