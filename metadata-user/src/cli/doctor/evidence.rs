//! What the checks judge: plain values.

use std::collections::BTreeMap;
use std::path::PathBuf;

use crate::admin::wire::{
    BootShown, ContentEvidence, InstanceAnomalies, LastDrop, PortBoots, PortStatus, Status, TapClaim,
};
use crate::dataplane::inspect::{OnHook, PinnedPort};
use crate::dataplane::responder::inspect::ResponderView;
use crate::port::look::LinkView;

/// What was gathered.
#[derive(Debug)]
pub(super) struct Evidence {
    /// The time, in seconds of Unix time.
    pub(super) now: u64,
    pub(super) settings: Settings,
    pub(super) daemon: Daemon,
    /// The kernel's side of the node; or why it could not be looked at.
    pub(super) kernel: Result<Kernel, String>,
    /// File systems that the daemon writes to.
    pub(super) disks: Vec<Disk>,
    /// How far the node's clock was set forward since the daemon started, in seconds; `None`: not known.
    pub(super) clock_jump: Option<i64>,
    /// When the file of keys that proofs of identity are signed with was last changed, in seconds of Unix time; `None`: nothing is
    /// signed, or it is not known.
    pub(super) identity_changed_at: Option<u64>,
    /// All ports that the daemon, the kernel or a document names, by tap.
    pub(super) ports: Vec<Port>,
}

/// What the configuration says, as far as it matters here.
#[derive(Clone, Debug)]
pub(super) struct Settings {
    /// Why it is not accepted.
    pub(super) error: Option<String>,
    pub(super) socket: PathBuf,
    pub(super) pin_dir: PathBuf,
    pub(super) namespace: String,
    pub(super) interface: String,
    /// Ports that guests are answered on.
    pub(super) listens: Vec<u16>,
}

/// How the daemon is.
#[derive(Debug)]
pub(super) enum Daemon {
    Answers(Box<Answers>),
    /// Nothing listens on the socket.
    Down,
    /// A process listens, and does not answer in time: its id, and the letter of its state (proc(5)).
    Silent {
        process: Option<i32>,
        state: Option<char>,
    },
    /// It refuses this user, or answers with an error.
    Refuses(String),
}

impl Daemon {
    pub(super) fn answers(&self) -> Option<&Answers> {
        match self {
            Self::Answers(answers) => Some(answers),
            Self::Down | Self::Silent { .. } | Self::Refuses(_) => None,
        }
    }
}

/// What the daemon reports.
#[derive(Debug, Default)]
pub(super) struct Answers {
    pub(super) status: Status,
    pub(super) ports: Vec<PortStatus>,
    pub(super) content: Vec<ContentEvidence>,
    pub(super) claims: Vec<TapClaim>,
    pub(super) drops: Vec<LastDrop>,
    pub(super) anomalies: Vec<InstanceAnomalies>,
    pub(super) boots: Vec<PortBoots>,
}

/// The kernel's side of the node.
#[derive(Debug)]
pub(super) struct Kernel {
    /// Why the maps could not be read; `None`: they were.
    pub(super) maps_error: Option<String>,
    /// Whether anything is pinned.
    pub(super) is_pinned: bool,
    /// Whether the maps are of this program's version.
    pub(super) is_of_this_version: bool,
    pub(super) responder: Result<ResponderView, String>,
    /// What is on the pair's end in the node: what comes from the responder, and what goes to it.
    pub(super) pair_from: Vec<OnHook>,
    pub(super) pair_to: Vec<OnHook>,
    /// Whether bridges give what they carry to iptables and nftables.
    pub(super) bridge_netfilter: bool,
}

/// A file system.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Disk {
    /// What is written there.
    pub(super) what: &'static str,
    pub(super) path: PathBuf,
    /// Bytes that there is room for.
    pub(super) free: u64,
    /// Files that there is room for; `None`: as many as there are bytes for.
    pub(super) free_files: Option<u64>,
}

/// A port: everything known about a tap.
#[derive(Clone, Debug, Default)]
pub(super) struct Port {
    pub(super) tap: String,
    /// The interface in the daemon's namespace.
    pub(super) link: Option<LinkView>,
    /// Where else a tap of this name is.
    pub(super) elsewhere: Option<String>,
    /// What the daemon reports.
    pub(super) status: Option<PortStatus>,
    /// Instances whose documents name it.
    pub(super) claimed_by: Vec<String>,
    /// Its entry in the map `PORTS`.
    pub(super) entry: Option<PinnedPort>,
    /// What sees the guest's packets, and what sees those to it.
    pub(super) from_guest: Vec<OnHook>,
    pub(super) to_guest: Vec<OnHook>,
    /// The kernel's counters.
    pub(super) packets: BTreeMap<String, u64>,
    /// Last drops, the latest first.
    pub(super) drops: Vec<LastDrop>,
    pub(super) content: Option<ContentEvidence>,
    /// Its guest's last boot.
    pub(super) boot: Option<BootShown>,
    pub(super) anomalies: Vec<crate::admin::wire::Anomaly>,
}

impl Port {
    /// Returns its instance: by the daemon, else by the kernel's map, else by the only document that names it.
    pub(super) fn instance(&self) -> Option<String> {
        let of_status = self.status.as_ref().and_then(|status| status.instance.clone());
        let of_entry = || self.entry.as_ref().and_then(|entry| entry.instance.map(|instance| instance.to_string()));
        of_status.or_else(of_entry).or_else(|| match &self.claimed_by[..] {
            [only] => Some(only.clone()),
            _ => None,
        })
    }

    /// Returns a counter.
    pub(super) fn count(&self, name: &str) -> u64 {
        self.packets.get(name).copied().unwrap_or(0)
    }
}
