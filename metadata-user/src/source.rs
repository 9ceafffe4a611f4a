//! Where content comes from.
//!
//! Promises: a source only writes the store, and nothing that answers guests waits for one (but for the two requests of
//! [`crate::origin`]); whatever happens to a
//! source, the last good content stays served and the state says since when.

pub mod directory;
#[cfg(feature = "etcd")]
pub mod etcd;
mod fetch;
pub mod nova;
mod tls;
pub mod vendordata;
pub mod wire;

use std::io;
use std::sync::Arc;
use std::time::SystemTime;

use tokio::sync::{mpsc, oneshot};

use crate::config;
use crate::facts::Facts;
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
    /// Starts it. `first_scan` is dropped when everything was read once, or cannot be read at present. `restored` is what
    /// is known of the controller that the store's content came from, if there is content.
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

    /// Returns where guests' requests ask for what was not read ahead; `None`: everything is.
    #[must_use]
    pub fn origin(&self) -> Option<Origin> {
        match self {
            Self::Nova(source) => Some(source.origin()),
            Self::Directory(_) => None,
            #[cfg(feature = "etcd")]
            Self::Etcd(_) => None,
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

    /// Returns the way to accept what the controller says.
    #[must_use]
    pub fn accepts(&self) -> Accepts {
        match self {
            #[cfg(feature = "etcd")]
            Self::Etcd(source) => Accepts(Some(source.accepts())),
            Self::Directory(_) | Self::Nova(_) => Accepts(None),
        }
    }
}

/// Tells in words what of a source's configuration is unwise, or names a file that cannot be used at present.
///
/// # Errors
/// What would keep it from starting: a kind that this program was built without, or a secret that cannot be read.
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

/// Asks a source to take what its controller says at present for true. The answer is how many instances went, or `None`
/// if there was no question.
#[derive(Debug)]
#[cfg_attr(not(feature = "etcd"), expect(dead_code, reason = "no other source asks"))]
pub(crate) struct Accept(oneshot::Sender<Option<usize>>);

/// The way to [`Source`]s that ask the operator something. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Accepts(Option<mpsc::UnboundedSender<Accept>>);

impl Accepts {
    /// Takes what the controller says at present for true, as the operator's word. Returns how many instances went.
    ///
    /// # Errors
    /// If the source has no question.
    pub async fn accept(&self) -> Result<usize, AcceptError> {
        let (sender, answer) = oneshot::channel();
        let asked = self.0.as_ref().is_some_and(|source| source.send(Accept(sender)).is_ok());
        if !asked {
            return Err(AcceptError);
        }
        answer.await.ok().flatten().ok_or(AcceptError)
    }
}

/// A source that has no question.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("there is nothing to accept: the source has no unconfirmed instances; `metadatad source` shows them")]
pub struct AcceptError;

/// What is known of the controller that content on disk came from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Restored {
    /// [`SourceState::cluster`] of then.
    pub cluster: Option<String>,
    /// [`SourceState::revision`] of then.
    pub revision: Option<i64>,
}

/// A source that cannot be started.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// No thread can be had.
    #[error("starting the source's thread")]
    Thread(#[from] io::Error),
    /// Nova cannot be asked with these settings.
    #[error("setting up the source `nova`")]
    Nova(#[from] nova::NovaStartError),
    /// The kind is not part of this program.
    #[error(
        "source.kind = \"etcd\", and this metadatad was built without the feature `etcd`: build it with the default \
         features, or use another kind"
    )]
    WithoutEtcd,
}

/// A view of a source's state.
pub type SourceView = StateView<SourceState>;

/// How a source is doing.
#[derive(Clone, Debug, PartialEq, Eq)]
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
    /// Why it cannot be read at present, and the remedy.
    pub error: Option<String>,
    /// Since when it is not known to be in step with its controller; `None`: it is in step.
    pub lagging_since: Option<SystemTime>,
    /// When a change of it last came into the store.
    pub changed_at: Option<SystemTime>,
    /// Which of its controller's states the content is; what that is differs by kind.
    pub revision: Option<i64>,
    /// Identity of the controller that the content is from; what that is differs by kind.
    pub cluster: Option<String>,
    /// Where it can be asked, in the configuration's order. None for a directory.
    pub endpoints: Vec<EndpointState>,
    /// How often all of it was read again since the start.
    pub resyncs: u64,
    /// Instances that are served, though the controller that is there now lacks them: it is not the one that content is
    /// from, and the operator was not heard yet.
    pub unconfirmed: Vec<InstanceId>,
}

/// How an endpoint of a controller is doing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EndpointState {
    /// Its URL, without anything secret.
    pub url: String,
    /// Whether it is the one that is used now.
    pub in_use: bool,
    /// When it last answered.
    pub answered_at: Option<SystemTime>,
    /// Why it did not when it was last asked, and since when.
    pub error: Option<(SystemTime, String)>,
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

    /// Tells whether there is nothing to repair.
    #[must_use]
    pub fn is_healthy(&self) -> bool {
        self.broken.is_empty() && self.error.is_none()
    }
}
