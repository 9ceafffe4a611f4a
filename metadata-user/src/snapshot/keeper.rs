//! The thread that writes the snapshot.

use std::collections::BTreeSet;
use std::io;
use std::sync::Arc;
use std::time::{Instant, SystemTime};

use tokio::sync::mpsc;
use tokio::time::{Duration, MissedTickBehavior};
use tracing::{debug, info, warn};

use super::file::{self, Header, Origin, Saved, WriteError};
use super::history;
use super::pace::{Pace, Reason};
use super::removals::{OnDisk, Recorded};
use super::{Snapshot, SnapshotState};
use crate::boots::Boots;
use crate::clock;
use crate::config;
use crate::hold::{Hold, Holder};
use crate::privilege;
use crate::secret::seal::SealKey;
use crate::source::SourceView;
use crate::state_view::StateView;
use crate::store::{Changes, Revision, Store};
use crate::worker::{Stop, Worker};

/// How often the source's state is polled for a full read, which it does not announce; this also batches writes.
const LOOK: Duration = Duration::from_secs(1);

/// How often the history of boots is written, where something was recorded: what a crash loses of it.
const HISTORY: Duration = Duration::from_secs(5 * 60);

/// How long the last write is waited for: service managers wait 90 seconds for the end of a daemon.
const PATIENCE: Duration = Duration::from_secs(60);

/// The running thread. Dropping it writes what is not written yet, and ends it.
#[derive(Debug)]
pub struct Keeper {
    _worker: Worker,
    holder: Holder,
}

impl Keeper {
    pub(super) fn start(
        snapshot: Snapshot,
        key: SealKey,
        written: Revision,
        (store, source): (Arc<Store>, SourceView),
        (boots, boot): (Arc<Boots>, String),
    ) -> io::Result<Self> {
        let changes = store.subscribe();
        let task = Task {
            pace: Pace::new(snapshot.settings.interval),
            written,
            confirmed: None,
            problems: Problems::default(),
            settings: snapshot.settings,
            origin: snapshot.origin,
            key,
            state: snapshot.state,
            on_disk: snapshot.on_disk,
            store,
            source,
            boots_written: boots.last(),
            boots,
            boot,
        };
        let (holder, held) = Holder::new();
        let worker = Worker::spawn_as(&privilege::SNAPSHOT, "snapshot", async move |stop: Stop| {
            task.run(changes, held, stop).await
        })?;
        Ok(Self { _worker: worker.with_patience(PATIENCE), holder })
    }

    /// Returns what pauses it. When it stands still, everything is written.
    #[must_use]
    pub fn holder(&self) -> Holder {
        self.holder.clone()
    }
}

struct Task {
    settings: config::snapshot::Snapshot,
    origin: Origin,
    key: SealKey,
    state: StateView<SnapshotState>,
    store: Arc<Store>,
    source: SourceView,
    pace: Pace,
    /// The file, as far as removals are concerned; `None`: there is none.
    on_disk: Option<OnDisk>,
    /// What the file holds.
    written: Revision,
    /// The source's number of full reads and its cluster, as last written.
    confirmed: Option<(u64, Option<String>)>,
    problems: Problems,
    boots: Arc<Boots>,
    /// The boot of the node.
    boot: String,
    /// When something was last recorded of boots that are on disk, in milliseconds of Unix time.
    boots_written: u64,
}

/// What is wrong since the last write that succeeded.
#[derive(Debug, Default)]
struct Problems {
    /// Why the file cannot be written.
    write: Option<String>,
    /// What became of removals that could not be recorded.
    removals: Option<String>,
}

impl Problems {
    fn text(&self) -> Option<String> {
        let problems: Vec<&str> = [&self.write, &self.removals].into_iter().flatten().map(String::as_str).collect();
        (!problems.is_empty()).then(|| problems.join("; "))
    }
}

impl Task {
    async fn run(mut self, mut changes: Changes, mut holds: mpsc::Receiver<Hold>, mut stop: Stop) {
        // Changes from while the source started.
        self.look_at_store();
        let mut look = tokio::time::interval(LOOK);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut history = tokio::time::interval(HISTORY);
        history.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let due = self.pace.due().map(tokio::time::Instant::from_std);
            tokio::select! {
                () = stop.requested() => break,
                // The store outlives this task.
                _ = changes.next(usize::MAX) => self.look_at_store(),
                _ = look.tick() => self.look_at_source(),
                _ = history.tick() => if self.boots.last() != self.boots_written {
                    self.write_boots();
                },
                Some(hold) = holds.recv() => {
                    self.write_what_is_left();
                    tokio::select! {
                        // Another daemon writes the file now.
                        () = stop.requested() => return,
                        () = hold.stand() => self.look_at_store(),
                    }
                }
                () = async { tokio::time::sleep_until(due.unwrap_or_else(tokio::time::Instant::now)).await }, if due.is_some() => {
                    self.write();
                }
            }
        }
        self.write_what_is_left();
    }

    fn write_what_is_left(&mut self) {
        self.look_at_store();
        self.look_at_source();
        if self.pace.is_waiting() {
            self.write();
        }
        self.write_boots();
    }

    fn write_boots(&mut self) {
        self.boots_written = self.boots.last();
        if let Err(error) = history::write(&self.settings.path, &self.key, &self.boot, &self.boots) {
            warn!(%error, "the history of boots cannot be kept for the next daemon");
        }
    }

    fn look_at_store(&mut self) {
        let now = self.store.revision();
        if now.removals != self.written.removals {
            self.pace.wants(Reason::Urgent, Instant::now());
            // A removal does not wait for its turn, nor for room on the disk.
            if self.pace.due().is_some_and(|due| due > Instant::now()) {
                self.record_removals();
            }
        } else if now != self.written {
            self.pace.wants(Reason::Change, Instant::now());
        }
    }

    fn look_at_source(&mut self) {
        let source = self.source.get();
        if source.synced_at.is_some() && self.confirmed != Some((source.resyncs, source.cluster.clone())) {
            self.pace.wants(Reason::Urgent, Instant::now());
        }
    }

    fn write(&mut self) {
        let began = Instant::now();
        // The source's revision before the store's content: content may be newer than that revision, never older.
        let source = self.source.get();
        let changes = self.store.revision();
        let instances = self.store.kept();
        let mut state = SnapshotState::clone(&self.state.get());
        let now = SystemTime::now();
        let restored = state.restored.as_ref();
        let as_of = match (source.synced_at, source.lagging_since) {
            (Some(_), None) => now,
            (Some(synced), Some(lagging)) => synced.max(lagging),
            (None, _) => restored.map_or(SystemTime::UNIX_EPOCH, |restored| restored.as_of),
        };
        let header = Header {
            key: String::new(),
            salt: String::new(),
            written_at: clock::unix_of(now),
            as_of: clock::unix_of(as_of),
            source: self.origin.clone(),
            cluster: source.cluster.clone().or_else(|| restored.and_then(|restored| restored.cluster.clone())),
            revision: source.revision.or_else(|| restored.and_then(|restored| restored.revision)),
            instances: 0,
        };
        let result = file::write(&self.settings.path, &self.key, header, &instances);
        if let Ok(saved) | Err(WriteError { saved: Some(saved), .. }) = &result {
            let instances = instances.iter().map(|kept| kept.content.uuid()).collect();
            self.on_disk = Some(OnDisk { salt: saved.salt.clone(), instances, removed: BTreeSet::new() });
        }
        match result {
            Ok(Saved { bytes, .. }) => {
                self.pace.wrote(began, Instant::now());
                self.written = changes;
                self.confirmed = source.synced_at.map(|_| (source.resyncs, source.cluster.clone()));
                self.problems = Problems::default();
                if state.error.take().is_some() {
                    info!(path = %self.settings.path.display(), "the snapshot can be written again");
                }
                (state.written_at, state.bytes, state.instances) = (Some(now), bytes, instances.len());
                let took = began.elapsed();
                debug!(instances = instances.len(), bytes, ?took, "snapshot written");
                // What came meanwhile waits for its turn.
                self.look_at_store();
            }
            Err(error) => {
                self.pace.failed(began, Instant::now());
                let path = self.settings.path.display();
                let problem = format!(
                    "the snapshot {path} cannot be written: {error}; make room on its disk, and its directory writable for the daemon"
                );
                if self.problems.write.as_ref() != Some(&problem) {
                    warn!("{problem}");
                    self.problems.write = Some(problem);
                }
                state.error = self.problems.text();
                self.state.publish(state);
                return self.record_removals();
            }
        }
        self.state.publish(state);
    }

    /// Records the removal of instances that the file still holds.
    fn record_removals(&mut self) {
        let Some(on_disk) = &mut self.on_disk else { return };
        let path = &self.settings.path;
        let left = self.store.ids().into_iter().collect();
        let mut state = SnapshotState::clone(&self.state.get());
        let problem = match on_disk.record(path, &left) {
            Ok(None) => return,
            Ok(Some(Recorded::Beside)) => {
                state.instances = on_disk.instances.len() - on_disk.removed.len();
                debug!(removed = on_disk.removed.len(), "removals recorded beside the snapshot");
                self.state.publish(state);
                return;
            }
            Ok(Some(Recorded::Removed(error))) => {
                self.on_disk = None;
                (state.written_at, state.bytes, state.instances) = (None, 0, 0);
                format!(
                    "the snapshot was removed, since it held removed instances and their removal cannot be recorded: \
                     {error}"
                )
            }
            Err(error) => format!(
                "the snapshot holds instances that were removed, and can neither be changed nor removed ({error}): remove \
                 it, or they are served again after a restart, until the source is read"
            ),
        };
        if self.problems.removals.as_ref() != Some(&problem) {
            warn!(path = %path.display(), "{problem}");
            self.problems.removals = Some(problem);
        }
        state.error = self.problems.text();
        self.state.publish(state);
    }
}
