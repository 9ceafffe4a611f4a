//! The thread that writes the snapshot.

use std::io;
use std::sync::Arc;
use std::time::{Instant, SystemTime};

use tokio::time::{Duration, MissedTickBehavior};
use tracing::{debug, info, warn};

use super::SnapshotState;
use super::file::{self, Header, Origin};
use super::pace::{Pace, Reason};
use crate::config;
use crate::secret::seal::SealKey;
use crate::source::SourceView;
use crate::state_view::StateView;
use crate::store::{Changes, Store};
use crate::worker::{Stop, Worker};

/// How often it is looked whether the source has read everything: it tells nobody, and that time is well spent waiting.
const LOOK: Duration = Duration::from_secs(1);

/// How long the last write is waited for: service managers wait 90 seconds for the end of a daemon.
const PATIENCE: Duration = Duration::from_secs(60);

/// The running thread. Dropping it writes what is not written yet, and ends it.
#[derive(Debug)]
pub struct Keeper {
    _worker: Worker,
}

impl Keeper {
    pub(super) fn start(
        settings: config::snapshot::Snapshot,
        origin: Origin,
        key: SealKey,
        state: StateView<SnapshotState>,
        written: Changes,
        store: Arc<Store>,
        source: SourceView,
    ) -> io::Result<Self> {
        let mut changes = store.changes();
        // What came while the source started is looked at too.
        changes.mark_changed();
        let task = Task {
            pace: Pace::new(settings.interval),
            written,
            confirmed: None,
            settings,
            origin,
            key,
            state,
            store,
            source,
        };
        let worker = Worker::spawn("snapshot", async move |stop: Stop| task.run(changes, stop).await)?;
        Ok(Self { _worker: worker.with_patience(PATIENCE) })
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
    /// What the file holds.
    written: Changes,
    /// How often the source had read everything again, and from whom, when that was last written.
    confirmed: Option<(u64, Option<String>)>,
}

impl Task {
    async fn run(mut self, mut changes: tokio::sync::watch::Receiver<Changes>, mut stop: Stop) {
        let mut look = tokio::time::interval(LOOK);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let due = self.pace.due().map(tokio::time::Instant::from_std);
            tokio::select! {
                () = stop.requested() => break,
                // The store outlives this task.
                _ = changes.changed() => self.look_at_store(),
                _ = look.tick() => self.look_at_source(),
                () = async { tokio::time::sleep_until(due.unwrap_or_else(tokio::time::Instant::now)).await }, if due.is_some() => {
                    self.write();
                }
            }
        }
        self.look_at_store();
        self.look_at_source();
        if self.pace.is_waiting() {
            self.write();
        }
    }

    fn look_at_store(&mut self) {
        let now = *self.store.changes().borrow();
        if now.removals != self.written.removals {
            self.pace.wants(Reason::Urgent, Instant::now());
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
        // The source's revision before the store's content: content may be newer than it says, never older.
        let source = self.source.get();
        let changes = *self.store.changes().borrow();
        let instances = self.store.all();
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
            written_at: file::unix(now),
            as_of: file::unix(as_of),
            source: self.origin.clone(),
            cluster: source.cluster.clone().or_else(|| restored.and_then(|restored| restored.cluster.clone())),
            revision: source.revision.or_else(|| restored.and_then(|restored| restored.revision)),
            instances: 0,
        };
        match file::write(&self.settings.path, &self.key, header, &instances) {
            Ok(bytes) => {
                self.pace.wrote(began, Instant::now());
                self.written = changes;
                self.confirmed = source.synced_at.map(|_| (source.resyncs, source.cluster.clone()));
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
                    "the snapshot {path} cannot be written: {error}; make room, and its directory writable for the daemon"
                );
                if state.error.as_ref() != Some(&problem) {
                    warn!("{problem}");
                }
                state.error = Some(problem);
            }
        }
        self.state.publish(state);
    }
}
