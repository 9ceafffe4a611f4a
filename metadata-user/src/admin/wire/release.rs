//! Taps that a running daemon has let go of.

use serde::{Deserialize, Serialize};

/// What was let go of.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Released {
    /// When, in seconds of Unix time.
    pub at: u64,
    /// Number of taps that have no program any more.
    pub taps: usize,
    /// Whether guests' connections were still open after `http.drain_timeout`, and were cut.
    #[serde(default)]
    pub cut: bool,
    /// Taps from which the programs could not be taken.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub left: Vec<NotReleased>,
}

/// A tap that still has a program. It passes everything.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct NotReleased {
    /// The tap: the name of its interface.
    pub tap: String,
    /// Why.
    pub problem: String,
}
