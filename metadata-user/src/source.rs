//! Where content comes from.
//!
//! Promises: a source only writes the store, and nothing that answers guests waits for one (except the two requests of
//! [`crate::origin`]); if a source fails, the last good content stays served and the state shows since when.

pub mod directory;
#[cfg(feature = "etcd")]
pub mod etcd;
pub mod nova;
mod refusal;
pub mod vendordata;
pub mod wire;

use std::io;
use std::sync::Arc;
use std::time::SystemTime;

use tokio::sync::{mpsc, oneshot};

use crate::config;
use crate::facts::Facts;
pub use crate::nova_metadata::EndpointState;
use crate::origin::Origin;
use crate::readiness::Blocker;
use crate::record::InstanceId;
use crate::state_view::StateView;
use crate::store::Store;

/// The source that the configuration names. Dropping it ends it.
#[derive(Debug)]
pub enum Source {
    /// A directory.
    Directory(directory::Directory),
    /// An etcd cluster.
    #[cfg(feature = "etcd")]
    Etcd(etcd::Etcd),
    /// A Nova.
    Nova(nova::Nova),
}

impl Source {
    /// Starts it. `first_scan` is dropped after the first complete read, or the first failure to read. `restored`
    /// identifies the controller that the store's content came from, if there is content.
    ///
    /// # Errors
    /// If no thread can be started, or this program was built without the kind.
    pub fn start(
        settings: &config::Source,
        store: Arc<Store>,
        facts: Facts,
        restored: Option<Restored>,
        first_scan: Blocker,
    ) -> Result<Self, StartError> {
        Ok(match settings.clone() {
            config::Source::Directory { path } => {
                Self::Directory(directory::Directory::start(path, wire::parse, store, first_scan)?)
            }
            #[cfg(feature = "etcd")]
            config::Source::Etcd(settings) => Self::Etcd(etcd::Etcd::start(settings, store, restored, first_scan)?),
            #[cfg(not(feature = "etcd"))]
            config::Source::Etcd(_) => {
                drop(restored);
                return Err(StartError::WithoutEtcd);
            }
            config::Source::Nova(settings) => Self::Nova(nova::Nova::start(settings, store, facts, first_scan)?),
        })
    }

    /// Returns where guests' requests fetch what was not prefetched; `None`: everything is.
    #[must_use]
    pub fn origin(&self) -> Option<Origin> {
        match self {
            Self::Nova(source) => Some(source.origin()),
            Self::Directory(_) => None,
            #[cfg(feature = "etcd")]
            Self::Etcd(source) => source.origin(),
        }
    }

    /// Returns a view of its state.
    #[must_use]
    pub fn state(&self) -> SourceView {
        match self {
            Self::Directory(source) => source.state(),
            #[cfg(feature = "etcd")]
            Self::Etcd(source) => source.state(),
            Self::Nova(source) => source.state(),
        }
    }

    /// Returns the handle by which the operator confirms that the controller is authoritative.
    #[must_use]
    pub fn accepts(&self) -> Accepts {
        match self {
            #[cfg(feature = "etcd")]
            Self::Etcd(source) => Accepts(Some(source.accepts())),
            Self::Directory(_) | Self::Nova(_) => Accepts(None),
        }
    }
}

/// Returns warnings about a source's configuration: unwise settings, and files that are not usable now.
///
/// # Errors
/// If the source could not start: a kind that this program was built without, or a secret that cannot be read.
pub fn warnings(settings: &config::Source) -> Result<Vec<String>, StartError> {
    match settings {
        #[cfg(feature = "etcd")]
        config::Source::Etcd(settings) => Ok(etcd::warnings(settings)),
        #[cfg(not(feature = "etcd"))]
        config::Source::Etcd(_) => Err(StartError::WithoutEtcd),
        config::Source::Nova(settings) => nova::check(settings).map(|()| Vec::new()).map_err(StartError::from),
        config::Source::Directory { .. } => Ok(Vec::new()),
    }
}

/// Confirms to a source that its controller is authoritative. The reply is the number of instances that were removed;
/// `None`: no confirmation was pending.
#[derive(Debug)]
#[cfg_attr(not(feature = "etcd"), expect(dead_code, reason = "no other source asks"))]
pub(crate) struct Accept(oneshot::Sender<Option<usize>>);

/// A handle to the confirmations that a [`Source`] needs from the operator. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Accepts(Option<mpsc::UnboundedSender<Accept>>);

impl Accepts {
    /// Confirms, for the operator, that the controller is authoritative. Returns how many instances were removed.
    ///
    /// # Errors
    /// If no confirmation is pending.
    pub async fn accept(&self) -> Result<usize, AcceptError> {
        let (sender, answer) = oneshot::channel();
        let asked = self.0.as_ref().is_some_and(|source| source.send(Accept(sender)).is_ok());
        if !asked {
            return Err(AcceptError);
        }
        answer.await.ok().flatten().ok_or(AcceptError)
    }
}

/// No confirmation is pending.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("there is nothing to accept: the source has no unconfirmed instances; `metadatad source` shows them")]
pub struct AcceptError;

/// Identifies the controller, and its state, that the content on disk came from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Restored {
    /// [`SourceState::cluster`] when the content was written.
    pub cluster: Option<String>,
    /// [`SourceState::revision`] when the content was written.
    pub revision: Option<i64>,
}

/// A source that cannot be started.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The thread cannot be started.
    #[error("starting the source's thread")]
    Thread(#[from] io::Error),
    /// The settings do not allow requests to Nova.
    #[error("setting up the source `nova`")]
    Nova(#[from] nova::NovaStartError),
    /// This program was built without the kind.
    #[error(
        "source.kind = \"etcd\", and this metadatad was built without the feature `etcd`: build it with the default \
         features, or use another kind"
    )]
    WithoutEtcd,
}

/// A view of a source's state.
pub type SourceView = StateView<SourceState>;

/// The state of a source.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SourceState {
    /// What kind of source, as in the configuration.
    pub kind: &'static str,
    /// Where it reads: a directory, an address.
    pub place: String,
    /// When everything was last read completely; `None`: not yet.
    pub synced_at: Option<SystemTime>,
    /// Instances that come from it.
    pub instances: usize,
    /// Documents that cannot be used, by name.
    pub broken: Vec<BrokenDocument>,
    /// Why it cannot be read now, and the remedy.
    pub error: Option<String>,
    /// When it was last known to be in step with its controller; `None`: it is in step now.
    pub lagging_since: Option<SystemTime>,
    /// When a change from it last reached the store.
    pub changed_at: Option<SystemTime>,
    /// The revision of the content; its form depends on the kind.
    pub revision: Option<i64>,
    /// The identity of the controller that the content is from; its form depends on the kind.
    pub cluster: Option<String>,
    /// Its endpoints, in the configuration's order. None for a directory.
    pub endpoints: Vec<EndpointState>,
    /// Number of full rereads since the start.
    pub resyncs: u64,
    /// Instances that stay served although the present controller lacks them: it is not the one that the content is
    /// from, and the operator has not confirmed it.
    pub unconfirmed: Vec<InstanceId>,
}

/// A document that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BrokenDocument {
    /// Name of the document: of the file.
    pub name: String,
    /// Line from 1, where there is one.
    pub line: Option<usize>,
    /// Column from 1, where there is one.
    pub column: Option<usize>,
    /// What is wrong, and the remedy.
    pub problem: String,
    /// Whether an earlier good version of it is still served.
    pub serves_last_good: bool,
}

impl SourceState {
    /// Returns the state of a source that has not read anything yet.
    #[must_use]
    pub fn new(kind: &'static str, place: String) -> Self {
        Self {
            kind,
            place,
            synced_at: None,
            instances: 0,
            broken: Vec::new(),
            error: None,
            lagging_since: None,
            changed_at: None,
            revision: None,
            cluster: None,
            endpoints: Vec::new(),
            resyncs: 0,
            unconfirmed: Vec::new(),
        }
    }

    /// Returns whether nothing needs repair.
    #[must_use]
    pub fn is_healthy(&self) -> bool {
        self.broken.is_empty() && self.error.is_none()
    }
}
