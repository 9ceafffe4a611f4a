//! Where the documents are kept: a directory, or keys of etcd. The daemon has no part in it, and need not run.
//!
//! Promises: a change is decided on what is stored, and written only if that is still what is stored; else it is decided
//! anew. What exactly that holds against is said in `directory` and `etcd`.

use super::change::{Decide, Outcome, Stored};
use super::directory::DocumentDirectory;
#[cfg(feature = "etcd")]
use super::etcd::Keys;
use crate::cli::error::instance::InstanceError;
use crate::config;
use crate::record::InstanceId;

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
