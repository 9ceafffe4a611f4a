//! Ports, and their packets.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// What a port can be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// Answered with an instance's data.
    Bound,
    /// Answered with 503: its instance is not known.
    Held,
    /// Left to whatever else serves it.
    Passed,
    /// Answered with 503: its instance is not certain.
    Refused,
    /// Not served: something could not be done.
    Failed,
}

impl State {
    /// Returns the name that JSON and tables show.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Bound => "bound",
            Self::Held => "held",
            Self::Passed => "passed",
            Self::Refused => "refused",
            Self::Failed => "failed",
        }
    }
}

/// A port.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PortStatus {
    /// Interface index.
    pub ifindex: u32,
    /// The tap: the name of its interface.
    #[serde(default)]
    pub tap: String,
    /// The same as `tap`. Deprecated: it goes with the next minor version.
    pub name: String,
    /// Tag of its binding.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tag: Option<u32>,
    /// What it is.
    pub state: State,
    /// The instance that it is bound to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub instance: Option<String>,
    /// That instance's project.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub project: Option<String>,
    /// The port's UUID.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub port: Option<String>,
    /// Which source decided that: `Open vSwitch`, `libvirt` or `document`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub origin: Option<String>,
    /// Its MAC.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mac: Option<String>,
    /// Allowed sources, each a MAC and a prefix.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub sources: Vec<Allowed>,
    /// How the program is attached: `tcx` or `clsact`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub attached: Option<String>,
    /// Whether frames that claim to come from the metadata service are kept from the guest.
    #[serde(default)]
    pub guarded: bool,
    /// `xdp` if its limits are applied at XDP too.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub guard: Option<String>,
    /// Why they are not, where `ports.guard` is "xdp".
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub guard_missing: Option<String>,
    /// Why it is held, passed, refused or failed, and the remedy; of a bound one, what is not as its document asks.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// An allowed source.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Allowed {
    /// MAC.
    pub mac: String,
    /// Prefix.
    pub prefix: String,
}

/// A port's packets, by what became of them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PortCounters {
    /// Interface index.
    pub ifindex: u32,
    /// The tap: the name of its interface.
    #[serde(default)]
    pub tap: String,
    /// The same as `tap`. Deprecated: it goes with the next minor version.
    pub name: String,
    /// Packets by verdict or drop reason; all that there are, zero or not.
    pub packets: BTreeMap<String, u64>,
}
