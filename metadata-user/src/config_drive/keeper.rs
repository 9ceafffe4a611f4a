//! Images that are kept current: one for each instance that the configuration names, in a directory of their own.
//!
//! Promises:
//! - an image follows its instance's content, is replaced as a whole, and goes with the instance; an image that is current is left as it
//!   is, also across restarts, so that no guest's drive is exchanged for nothing;
//! - it is readable by its owner, and by the configured group, from its first byte on;
//! - an image without an instance is removed once the source has been read completely, never because it is away; where images are switched
//!   off, all are;
//! - what cannot be written is tried again, and shown with its remedy; guests are answered all the same.
//!
//! Left out: attaching the image to a guest. A guest that runs has the image that was there when it started.

mod files;

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use tokio::sync::mpsc;
use tokio::time::{Duration, Instant, MissedTickBehavior, interval};
use tracing::{debug, info, warn};

use self::files::Images;
use super::{DriveError, WriteError, reach};
use crate::api::Content;
use crate::config::{AutoDrive, ConfigDrive};
use crate::error_text;
use crate::hold::{Hold, Holder};
use crate::policy::{Access, PolicyOverrides};
use crate::privilege;
use crate::readiness::{Blocker, Readiness};
use crate::record::InstanceId;
use crate::source::SourceView;
use crate::state_view::StateView;
use crate::store::{Changes, Store};
use crate::worker::{Stop, Worker};

/// How often it is looked whether the source was read completely, what observers report, and whether the configured policy has changed.
const LOOK: Duration = Duration::from_secs(1);

/// Pause before what failed is tried again.
const AGAIN: Duration = Duration::from_secs(10);

/// Most changes that are worked off before a hold is noticed.
const CHANGES: usize = 16;

/// How long the first images wait for the source, as the start of the daemon does.
const FIRST_SCAN: Duration = Duration::from_secs(10);

/// State of the images.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KeeperState {
    /// Where they are.
    pub directory: PathBuf,
    /// Images that are current.
    pub current: usize,
    /// Instances whose content is not known yet: what image they have is of earlier content.
    pub waiting: usize,
    /// Images that cannot be written or removed.
    pub failed: usize,
    /// Why one of these cannot, or none can, and the remedy.
    pub error: Option<String>,
}

/// Returns what an instance may read, by what its document says otherwise.
pub type AccessOf = Box<dyn Fn(&PolicyOverrides) -> Access + Send>;

/// Returns the instances of which an observer reports an interface without a tap.
pub type Observed = Box<dyn Fn() -> BTreeSet<InstanceId> + Send>;

/// Keeps the images. Dropping it ends that; the images stay.
#[derive(Debug)]
pub struct Keeper {
    /// The thread, and what pauses it; `None`: the directory cannot be used.
    running: Option<(Worker, Holder)>,
    state: StateView<KeeperState>,
}

impl Keeper {
    /// Starts it; `None`: the configuration wants no images. `first` is dropped when the images are there that the first look at source
    /// and snapshot wants.
    ///
    /// # Errors
    /// If the thread cannot be started. A directory that cannot be used is a problem of its state.
    pub fn start(
        settings: &ConfigDrive,
        (store, source): (Arc<Store>, SourceView),
        (access, observed): (AccessOf, Observed),
        readiness: Readiness,
        first: Blocker,
    ) -> io::Result<Option<Self>> {
        let directory = settings.directory.clone();
        if settings.auto == AutoDrive::Off {
            match files::clear(&directory) {
                Ok(0) => {}
                Ok(images) => {
                    info!(images, directory = %directory.display(), "images of config drives removed: configdrive.auto is \"off\"")
                }
                Err(error) => warn!(
                    error = error_text::chain(&error),
                    "images of config drives are switched off, and stay: remove them"
                ),
            }
            return Ok(None);
        }
        let state = StateView::new(KeeperState { directory: directory.clone(), ..KeeperState::default() });
        let images = match Images::open(settings) {
            Ok(images) => images,
            Err(error) => {
                let problem = format!(
                    "no config drive is kept, for configdrive.directory {} cannot be used: {}; correct this, and restart metadatad",
                    directory.display(),
                    error_text::chain(&error)
                );
                warn!("{problem}");
                state.publish(KeeperState { directory, error: Some(problem), ..KeeperState::default() });
                return Ok(Some(Self { running: None, state }));
            }
        };
        let changes = store.subscribe();
        let task = Task {
            auto: settings.auto,
            images,
            store,
            source,
            access,
            unreachable: observed(),
            observed,
            state: state.clone(),
            failed: BTreeMap::new(),
            current: BTreeSet::new(),
            waiting: BTreeSet::new(),
            swept: None,
            unswept: None,
        };
        let (holder, holds) = Holder::new();
        let worker = Worker::spawn_as(&privilege::CONFIG_DRIVES, "config-drives", async move |stop: Stop| {
            task.run(changes, holds, (readiness, first), stop).await;
        })?;
        Ok(Some(Self { running: Some((worker, holder)), state }))
    }

    /// Returns what pauses it; `None`: it writes nothing.
    #[must_use]
    pub fn holder(&self) -> Option<Holder> {
        self.running.as_ref().map(|(_, holder)| holder.clone())
    }

    /// Returns its state.
    #[must_use]
    pub fn state(&self) -> StateView<KeeperState> {
        self.state.clone()
    }
}

struct Task {
    auto: AutoDrive,
    images: Images,
    store: Arc<Store>,
    source: SourceView,
    access: AccessOf,
    observed: Observed,
    /// What that last returned.
    unreachable: BTreeSet<InstanceId>,
    state: StateView<KeeperState>,
    /// Why images cannot be written or removed.
    failed: BTreeMap<InstanceId, String>,
    /// Instances with an image that is current.
    current: BTreeSet<InstanceId>,
    /// Instances whose content is not known yet.
    waiting: BTreeSet<InstanceId>,
    /// The source's number of complete reads at which images without an instance were last looked for.
    swept: Option<u64>,
    /// Why that failed.
    unswept: Option<String>,
}

/// Why an image is not current.
#[derive(Debug, thiserror::Error)]
enum KeepError {
    #[error(transparent)]
    Drive(#[from] DriveError),
    #[error(transparent)]
    Write(#[from] WriteError),
}

impl Task {
    async fn run(
        mut self,
        mut changes: Changes,
        mut holds: mpsc::Receiver<Hold>,
        (readiness, first): (Readiness, Blocker),
        mut stop: Stop,
    ) {
        self.settle_all(|| stop.is_requested());
        self.publish();
        tokio::select! {
            () = stop.requested() => return,
            _ = tokio::time::timeout(FIRST_SCAN, readiness.not_waiting_for("source")) => {}
        }
        self.settle_each(changes.take().into_iter().map(|change| change.instance), || stop.is_requested());
        self.publish();
        drop(first);
        let mut look = interval(LOOK);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let (mut again, mut policy) = (Instant::now() + AGAIN, self.policy());
        loop {
            tokio::select! {
                () = stop.requested() => return,
                // The store outlives this task.
                changed = changes.next(CHANGES) => {
                    let changed = changed.unwrap_or_default().into_iter().map(|change| change.instance);
                    self.settle_each(changed, || stop.is_requested());
                }
                _ = look.tick() => {
                    self.observe();
                    self.sweep();
                    if self.policy() != policy {
                        policy = self.policy();
                        self.settle_all(|| stop.is_requested());
                    }
                    if Instant::now() >= again {
                        again = Instant::now() + AGAIN;
                        let failed: Vec<_> = self.failed.keys().copied().collect();
                        self.settle_each(failed, || stop.is_requested());
                    }
                }
                Some(hold) = holds.recv() => tokio::select! {
                    // Another daemon writes the images now.
                    () = stop.requested() => return,
                    () = hold.stand() => self.settle_all(|| stop.is_requested()),
                },
            }
            self.publish();
        }
    }

    fn policy(&self) -> Access {
        (self.access)(&PolicyOverrides::default())
    }

    fn settle_all(&mut self, is_over: impl Fn() -> bool) {
        self.settle_each(self.store.ids(), is_over);
    }

    fn settle_each(&mut self, ids: impl IntoIterator<Item = InstanceId>, is_over: impl Fn() -> bool) {
        ids.into_iter().take_while(|_| !is_over()).for_each(|id| self.settle(id));
    }

    /// Makes an instance's image what it should be.
    fn settle(&mut self, id: InstanceId) {
        let content = self.store.served(id).filter(|content| self.is_wanted(content));
        let kept = match content.map(|content| self.keep(id, &content)) {
            Some(Ok(())) => Ok(true),
            // It comes with a later change.
            Some(Err(KeepError::Drive(DriveError::Incomplete(_)))) => {
                self.current.remove(&id);
                self.waiting.insert(id);
                return;
            }
            Some(Err(KeepError::Drive(DriveError::MetadataOff))) | None => self.images.remove(id).map(|()| false),
            Some(Err(KeepError::Write(error))) => Err(error),
        };
        self.waiting.remove(&id);
        match kept {
            Ok(is_current) => {
                if self.failed.remove(&id).is_some() {
                    info!(instance = %id, "the config drive is as it should be again");
                }
                if is_current {
                    self.current.insert(id)
                } else {
                    self.current.remove(&id)
                };
            }
            Err(error) => {
                self.current.remove(&id);
                let problem = format!("{}: {}", error_text::chain(&error), self.remedy(&error));
                if self.failed.get(&id) != Some(&problem) {
                    warn!(instance = %id, "{problem}");
                }
                self.failed.insert(id, problem);
            }
        }
    }

    /// Writes an instance's image, unless it is current.
    fn keep(&self, id: InstanceId, content: &Content) -> Result<(), KeepError> {
        let access = (self.access)(&content.policy());
        let constant = super::files_with(content, &access, &|seed| seed.fill(0))?;
        let mark = self.images.mark(&constant).map_err(WriteError::from)?;
        if !self.images.has(id, &mark) {
            self.images.write(id, &super::files(content, &access)?, &mark)?;
            debug!(instance = %id, "config drive written");
        }
        Ok(())
    }

    fn remedy(&self, error: &WriteError) -> String {
        let directory = self.images.directory().display();
        match error.kind() {
            Some(io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded) => {
                format!("make room in {directory}, or name a larger place in configdrive.directory")
            }
            Some(io::ErrorKind::NotFound) => {
                format!("{directory} was removed: restart metadatad, which makes it again")
            }
            _ => format!("let the daemon write to {directory}, and restart metadatad"),
        }
    }

    fn is_wanted(&self, content: &Content) -> bool {
        match self.auto {
            AutoDrive::Off => false,
            AutoDrive::UnreachablePorts => reach::is_unreachable(content) || self.unreachable.contains(&content.uuid()),
            AutoDrive::All => true,
        }
    }

    /// Settles instances of which observers report something else than before.
    fn observe(&mut self) {
        let now = (self.observed)();
        let changed: Vec<_> = self.unreachable.symmetric_difference(&now).copied().collect();
        self.unreachable = now;
        changed.into_iter().for_each(|id| self.settle(id));
    }

    /// Removes images without an instance, after each complete read of the source.
    fn sweep(&mut self) {
        let source = self.source.get();
        if source.synced_at.is_none() || self.swept == Some(source.resyncs) {
            return;
        }
        self.unswept = match self.images.others(&self.current) {
            Ok(others) => {
                self.swept = Some(source.resyncs);
                others.into_iter().for_each(|id| self.settle(id));
                None
            }
            Err(error) => {
                let problem = format!("{}: {}", error_text::chain(&error), self.remedy(&error));
                if self.unswept.as_ref() != Some(&problem) {
                    warn!("{problem}");
                }
                Some(problem)
            }
        };
    }

    fn publish(&self) {
        let failed = self.failed.values().next().or(self.unswept.as_ref()).map(String::as_str);
        let error = failed.or_else(|| self.images.problem());
        let state = KeeperState {
            directory: self.images.directory().to_owned(),
            current: self.current.len(),
            waiting: self.waiting.len(),
            failed: self.failed.len(),
            error: error.map(str::to_owned),
        };
        if *self.state.get() != state {
            self.state.publish(state);
        }
    }
}

#[cfg(test)]
mod tests;
