//! What the node keeps on disk: the content of the store, sealed, so that a node that boots while its controller is away
//! serves what it had.
//!
//! Promises:
//! - the file is whole or not there: it is written beside itself, synced and renamed;
//! - a file that is torn, altered, sealed with another key, of another version, of another source, or not the daemon's own
//!   is refused by name and kept aside as `<path>.refused`; the daemon starts anyway, with nothing of it;
//! - it is written soon after a change, at most every `snapshot.interval`; at once after a removal or a full sync; and at
//!   the end. It takes at most a twentieth of a CPU, but for removals, which take half of one at most;
//! - a removal lasts, however full the disk is: where no snapshot can be written, it is recorded in bytes that were set
//!   aside for it (`<path>.removed`), and where that fails too, the snapshot goes;
//! - writing blocks no request: it has a thread of its own, and the store hands it `Arc`s;
//! - without a key or a directory the daemon works as if there were no snapshot, and reports why;
//! - the history of boots is kept beside it, for the next daemon (`history`).
//!
//! Left out: what becomes of restored content that the source does not confirm (`source`); replay of an older file of
//! the same node, which needs root on it.

pub mod copy;
mod entry;
mod file;
#[doc(hidden)]
pub mod fuzzing;
mod history;
mod keeper;
mod key;
mod pace;
mod removals;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::SystemTime;

use tracing::{info, warn};

pub use file::{LIMIT, Origin, Refused};
pub use keeper::Keeper;
pub use key::KeyError;

use crate::boots::Boots;
use crate::clock;
use crate::config;
use crate::durable;
use crate::error_text;
use crate::secret::seal::SealKey;
use crate::secret::token::TokenKey;
use crate::source::SourceView;
use crate::state_view::StateView;
use crate::store::{Revision, Store};
use entry::Entry;
use removals::OnDisk;

/// How far in the future a snapshot may be from without a warning: clocks of a node differ a little from boot to boot.
const CLOCK_DOUBT: u64 = 60;

/// State of the snapshot.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SnapshotState {
    /// The file.
    pub path: PathBuf,
    /// When it was last written, by this daemon or an earlier one.
    pub written_at: Option<SystemTime>,
    /// Its size.
    pub bytes: u64,
    /// Instances in it.
    pub instances: usize,
    /// Why it cannot be written, or does not exist, and the remedy.
    pub error: Option<String>,
    /// Why the one that was there at the start is not used, and the remedy.
    pub refused: Option<String>,
    /// What was read from it at the start.
    pub restored: Option<Restored>,
}

/// What was read at the start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Restored {
    /// Number of instances.
    pub instances: usize,
    /// When the source was last known to agree with it.
    pub as_of: SystemTime,
    /// Identity of the controller that it is from.
    pub cluster: Option<String>,
    /// Which of the controller's states it is; it may hold later ones too.
    pub revision: Option<i64>,
}

/// The snapshot, as it was found at the start.
#[derive(Debug)]
pub struct Snapshot {
    settings: config::snapshot::Snapshot,
    origin: Origin,
    /// `None`: nothing can be read or written.
    key: Option<SealKey>,
    state: StateView<SnapshotState>,
    on_disk: Option<OnDisk>,
}

impl Snapshot {
    /// Reads the snapshot into the store, if there is one of this source; `None` if there is to be none. What is wrong is
    /// logged and in the state: nothing of it keeps the daemon from starting.
    #[must_use]
    pub fn open(settings: &config::snapshot::Snapshot, source: &config::Source, store: &Store) -> Option<Self> {
        if !settings.enabled {
            return None;
        }
        let path = settings.path.clone();
        let mut state = SnapshotState { path, ..SnapshotState::default() };
        let origin = Origin::of(source);
        let key = match key::find(&settings.key_file) {
            Ok(key) => Some(key),
            Err(error) => {
                let problem = error_text::chain(&error);
                warn!("no snapshot is read or written: {problem}");
                state.error = Some(problem);
                None
            }
        };
        if key.is_some() {
            // Its thread can make files in it, and not the directory (`privilege`). Writing says what is wrong with it.
            let _ = durable::make_directory(&settings.path);
        }
        let on_disk = key.as_ref().and_then(|key| restore(key, &origin, store, &mut state));
        Some(Self { settings: settings.clone(), origin, key, state: StateView::new(state), on_disk })
    }

    /// Returns the key of session tokens, which is derived from the snapshot's and from this boot of the node; `None`: there is no
    /// key.
    #[must_use]
    pub fn token_key(&self, boot: &[u8]) -> Option<TokenKey> {
        self.key.as_ref().map(|key| TokenKey::of(key, boot))
    }

    /// Returns a view of its state.
    #[must_use]
    pub fn state(&self) -> StateView<SnapshotState> {
        self.state.clone()
    }

    /// Returns what was read from it.
    #[must_use]
    pub fn restored(&self) -> Option<Restored> {
        self.state.get().restored.clone()
    }

    /// Goes on with the history of boots of an earlier daemon, if that is of this boot of the node.
    pub fn restore_boots(&self, boots: &Boots, boot: &str) {
        let Some(key) = &self.key else { return };
        match history::read(&self.settings.path, key, boot) {
            Ok(past) => boots.restore(past),
            Err(reason) => info!(reason, "no earlier history of boots"),
        }
    }

    /// Keeps it in step with the store from now on; `None` if it cannot be written. `written` is what the store had when
    /// this was read into it. `boots`: what is kept beside it, in this boot of the node.
    ///
    /// # Errors
    /// If no thread can be started.
    pub fn keep(
        mut self,
        written: Revision,
        store: Arc<Store>,
        source: SourceView,
        boots: (Arc<Boots>, String),
    ) -> std::io::Result<Option<Keeper>> {
        match self.key.take() {
            Some(key) => Keeper::start(self, key, written, (store, source), boots).map(Some),
            None => Ok(None),
        }
    }
}

/// Reads the file into the store. Returns what there is on the disk.
fn restore(key: &SealKey, origin: &Origin, store: &Store, state: &mut SnapshotState) -> Option<OnDisk> {
    let content = match file::read(&state.path, key, origin) {
        Ok(Some(content)) => content,
        Ok(None) => {
            info!(path = %state.path.display(), "no snapshot yet");
            return None;
        }
        Err(refused) => {
            let mut problem = error_text::chain(&refused);
            match file::set_aside(&state.path) {
                Ok(aside) => problem += &format!(" (kept as {})", aside.display()),
                Err(error) => warn!(%error, "the refused snapshot cannot be renamed"),
            }
            warn!("snapshot refused: {problem}");
            state.refused = Some(problem);
            return None;
        }
    };
    let now = clock::unix();
    if content.header.as_of.max(content.header.written_at) > now + CLOCK_DOUBT {
        warn!(
            path = %state.path.display(),
            "the snapshot is dated in the future: check this node's clock; its content is served until the source has been read"
        );
    }
    let instances = content.entries.len();
    let ids = content.entries.iter().map(Entry::id).chain(content.removed.iter().copied()).collect();
    let on_disk = OnDisk { salt: content.header.salt.clone(), instances: ids, removed: content.removed };
    for entry in content.entries {
        entry.put_into(store);
    }
    let header = content.header;
    state.written_at = Some(file::time(header.written_at));
    state.bytes = content.bytes;
    state.instances = instances;
    let as_of = file::time(header.as_of);
    info!(path = %state.path.display(), instances, as_of = header.as_of, "snapshot read");
    state.restored = Some(Restored { instances, as_of, cluster: header.cluster, revision: header.revision });
    Some(on_disk)
}

#[cfg(test)]
mod tests;
