//! A document as it is stored, and what is to become of it: what every place that keeps documents has in common.

use serde::Deserialize;

use crate::cli::error::instance::InstanceError;
use crate::record::{InstanceId, InstanceRecord};
use crate::source::wire;

/// How often a change is decided anew when others change the document meanwhile.
pub(super) const ATTEMPTS: u32 = 32;

/// A document as it is stored.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Stored {
    /// The instance that it says it is of; else the one that its name says.
    pub(super) id: Option<InstanceId>,
    /// The file's name, or the key.
    pub(super) name: String,
    /// etcd: the node that it is for.
    pub(super) node: Option<String>,
    /// etcd: the revision that it was last changed at.
    pub(super) revision: Option<i64>,
    /// What is stored, or why it cannot be read.
    pub(super) bytes: Result<Vec<u8>, String>,
}

impl Stored {
    /// Returns what is stored.
    pub(super) fn text(&self) -> Result<&[u8], InstanceError> {
        match &self.bytes {
            Ok(bytes) => Ok(bytes),
            Err(problem) => Err(InstanceError::Unreadable { name: self.name.clone(), problem: problem.clone() }),
        }
    }

    /// Returns what is in it, or why the daemon cannot use it.
    pub(super) fn parse(&self) -> Result<InstanceRecord, String> {
        let bytes = self.bytes.as_ref().map_err(Clone::clone)?;
        let record = wire::parse(bytes).map_err(|error| error.to_string())?;
        match self.id {
            Some(id) if id != record.uuid => {
                Err(format!("it is of the instance {}; write it under that name", record.uuid))
            }
            _ => Ok(record),
        }
    }
}

/// Returns the instance that a document says it is of, however broken the rest of it is.
pub(super) fn uuid_of(bytes: &[u8]) -> Option<InstanceId> {
    #[derive(Deserialize)]
    struct Named {
        uuid: String,
    }
    serde_json::from_str::<Named>(wire::text(bytes).ok()?).ok()?.uuid.parse().ok()
}

/// What is to become of a document.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Decision {
    /// It stays.
    Leave,
    /// It becomes this.
    Write(Vec<u8>),
    /// It goes.
    Remove,
}

/// What became of a document.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    Created,
    Changed,
    Unchanged,
    Deleted,
}

impl Outcome {
    /// Returns the word for people.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Created => "created",
            Self::Changed => "changed",
            Self::Unchanged => "unchanged",
            Self::Deleted => "deleted",
        }
    }
}

/// Decides on what is stored; `None`: there is nothing.
pub(super) type Decide<'a> = dyn FnMut(Option<&Stored>) -> Result<Decision, InstanceError> + 'a;
