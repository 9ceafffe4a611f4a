//! Where the documents are kept: a directory, or keys of etcd. The daemon has no part in it, and need not run.
//!
//! Promises: a change is decided on what is stored, and written only if that is still what is stored; else it is decided
//! anew. What exactly that holds against is said in `directory` and `etcd`.

use serde::Deserialize;

use super::directory::DocumentDirectory;
use super::error::InstanceError;
#[cfg(feature = "etcd")]
use super::etcd::Keys;
use crate::config;
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

/// Where the documents are kept.
#[derive(Debug)]
pub(super) enum Documents {
    DocumentDirectory(DocumentDirectory),
    #[cfg(feature = "etcd")]
    Etcd(Box<Keys>),
}

impl Documents {
    /// Opens what the configuration names as source.
    pub(super) fn open(source: &config::Source, node: Option<&str>) -> Result<Self, InstanceError> {
        match source {
            config::Source::Directory { path } if node.is_some() => {
                Err(InstanceError::EtcdOnly { option: "--node", directory: path.clone() })
            }
            config::Source::Directory { path } => Ok(Self::DocumentDirectory(DocumentDirectory::new(path.clone()))),
            #[cfg(feature = "etcd")]
            config::Source::Etcd(settings) => Ok(Self::Etcd(Box::new(Keys::new(settings, node)?))),
            #[cfg(not(feature = "etcd"))]
            config::Source::Etcd(_) => Err(InstanceError::NoEtcd),
            config::Source::Nova(_) => Err(InstanceError::Nova),
        }
    }

    /// Says where that is.
    pub(super) fn place(&self) -> String {
        match self {
            Self::DocumentDirectory(directory) => directory.path().display().to_string(),
            #[cfg(feature = "etcd")]
            Self::Etcd(keys) => keys.place(),
        }
    }

    /// Refuses an option that only etcd has.
    pub(super) fn only_etcd(&self, option: &'static str) -> Result<(), InstanceError> {
        match self {
            Self::DocumentDirectory(directory) => {
                Err(InstanceError::EtcdOnly { option, directory: directory.path().to_owned() })
            }
            #[cfg(feature = "etcd")]
            Self::Etcd(_) => Ok(()),
        }
    }

    /// Returns all documents, by name.
    pub(super) fn list(&self, all_nodes: bool) -> Result<Vec<Stored>, InstanceError> {
        if all_nodes {
            self.only_etcd("--all-nodes")?;
        }
        match self {
            Self::DocumentDirectory(directory) => directory.list(),
            #[cfg(feature = "etcd")]
            Self::Etcd(keys) => keys.list(all_nodes),
        }
    }

    /// Returns an instance's document.
    pub(super) fn find(&self, id: InstanceId) -> Result<Option<Stored>, InstanceError> {
        match self {
            Self::DocumentDirectory(directory) => directory.find(id),
            #[cfg(feature = "etcd")]
            Self::Etcd(keys) => keys.find(id),
        }
    }

    /// Changes an instance's document as `decide` says.
    pub(super) fn change(&self, id: InstanceId, decide: &mut Decide<'_>) -> Result<Outcome, InstanceError> {
        match self {
            Self::DocumentDirectory(directory) => directory.change(id, decide),
            #[cfg(feature = "etcd")]
            Self::Etcd(keys) => keys.change(id, decide),
        }
    }
}
