//! What guests requested when they booted. Times are in milliseconds of Unix time.

use serde::{Deserialize, Serialize};

/// The boots of a port.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PortBoots {
    /// Its instance; absent: not known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instance: Option<String>,
    /// Its tap; absent: the binding has ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tap: Option<String>,
    /// The latest boot, and the one before it if there was one.
    pub boots: Vec<BootShown>,
}

/// A boot.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct BootShown {
    /// `complete`, `reading`, `early`, `stopped`, `unconnected`, `silent`, `off` or `unknown` (docs/boots.md).
    pub outcome: String,
    /// Why, in a sentence; empty where the outcome says all.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub reason: String,
    /// What it began with: `binding`, `link` or `silence`.
    pub began: String,
    /// When the link came up; absent: before the daemon started, or it is an earlier boot.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub link_up_at: Option<u64>,
    /// When the guest was first seen to ask for the service's MAC (ARP, neighbour discovery), to the second.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub asked_at: Option<u64>,
    /// When it first connected.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub connected_at: Option<u64>,
    /// When its last request ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_at: Option<u64>,
    /// Requests in all.
    pub requests: u64,
    /// Requests that were answered with 503 because there was no content yet.
    pub early: u64,
    /// Requests of paths that are not kept, because there were too many different ones.
    pub left_out: u64,
    /// Paths, in the order in which they were first asked for.
    pub reads: Vec<BootRead>,
}

/// A path that was asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct BootRead {
    /// Its first 64 bytes, without a query; what is not printable is escaped.
    pub path: String,
    /// When it was first asked for.
    pub at: u64,
    /// When last.
    pub last_at: u64,
    /// How often.
    pub count: u32,
    /// The last status; absent: the connection ended before the answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
    /// Who asked first: the first 64 bytes of the `User-Agent`, as `path`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client: Option<String>,
}
