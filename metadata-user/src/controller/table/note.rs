//! What a leader leaves for the next one in etcd of each instance, so that it need not be read again when another leads.
//!
//! Promises: a note counts only for the document that it was written with, and for a controller that would derive the same from the same
//! answers; every other note is as good as none, and the instance is read.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::{Duration, UNIX_EPOCH};

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::Entry;
use crate::api::Cloud;
use crate::clock::unix_of;
use crate::record::PortId;
use crate::secret::{digest, hex};

/// A note, as etcd has it: JSON.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Note {
    /// [`maker`] of the controller that wrote it.
    by: String,
    /// Digest of the document that was written with it.
    document: String,
    /// What Nova's list said, as [`super::fingerprint`] has it.
    seen: String,
    /// When the instance was read, in seconds of Unix time.
    read_at: u64,
    /// Whether the instance was to be read again soon, for a change that Nova may have hidden or not ended.
    is_open: bool,
    project: String,
    status: String,
    ports: Vec<Uuid>,
    addresses: Vec<IpAddr>,
    /// Pages beside the document, with the reasons.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pages: Vec<(String, String)>,
}

/// Returns what tells that a controller derives the same documents: its version, and what all instances have in common.
pub(in crate::controller) fn maker(cloud: &Cloud) -> String {
    short(&format!("{} {cloud:?}", env!("CARGO_PKG_VERSION")))
}

/// Returns a digest of a text that is the same in every process.
pub(super) fn short(text: &str) -> String {
    hex(&digest::sha256(text.as_bytes())[..16])
}

impl Note {
    /// Returns the note of an instance that was read, and whose documents have this digest.
    pub(super) fn of(entry: &Entry, is_open: bool, by: &str, document: &str) -> Option<Self> {
        Some(Self {
            by: by.to_owned(),
            document: document.to_owned(),
            seen: entry.seen.clone()?,
            read_at: unix_of(entry.read_at?),
            is_open,
            project: entry.project.as_ref()?.to_string(),
            status: entry.status.clone()?,
            ports: entry.ports.iter().map(|port| port.0).collect(),
            addresses: entry.addresses.clone(),
            pages: entry.beside.clone()?,
        })
    }

    /// Reads one that `by` may rely on; `document`: the digest of what etcd has.
    pub(super) fn read(text: &[u8], by: &str, document: &str) -> Option<Self> {
        let note: Self = serde_json::from_slice(text).ok()?;
        (note.by == by && note.document == document).then_some(note)
    }

    /// Returns what it says; nodes have the document.
    pub(super) fn entry(self, nodes: BTreeSet<String>) -> Entry {
        let read_at = UNIX_EPOCH + Duration::from_secs(self.read_at);
        Entry {
            project: Some(self.project.as_str().into()),
            status: Some(self.status),
            nodes,
            beside: Some(self.pages),
            ports: self.ports.into_iter().map(PortId).collect(),
            addresses: self.addresses,
            read_at: Some(read_at),
            seen: Some(self.seen),
            noted: Some((read_at, self.is_open)),
            error: None,
        }
    }
}
