//! The `nova` source: what an unchanged OpenStack's metadata API answers, for each local instance.
//!
//! Promises:
//! - an instance that an observer reports is prefetched before its guest's first request (`prefetch` lists the paths), and compared
//!   with Nova by three of its pages every `refresh_interval`, with jitter. All of it is read again where these differ, after a change
//!   on the node, and every `reread_interval`; changes are swapped in whole, once two reads agree;
//! - a path that was not prefetched is read through on its first request, once, and kept; only that guest waits for it;
//! - after any failure the last good content stays. It is removed when no observer reports the instance any more, as soon
//!   as Nova answers and could supply it again: a guest or a node that restarts while Nova is down still has its content;
//! - it is also removed when Nova has answered 404 for the instance [`NOT_FOUND_CONFIRMATIONS`] times, at least about
//!   [`CONFIRMATION_INTERVAL`] apart, and knows another instance of this node: a wrong project gets the same answer;
//! - Nova decides whether a posted password is accepted; the kept pages show it at once, and Nova's own answer later;
//! - a wrong secret, an instance that Nova does not know and a Nova that is down are three different states.
//!
//! Left out: which instances are local (`facts`), and how long a guest waits (`http`).
//!
//! It has a thread of its own: answers from kept content do not depend on it.

mod local_instance;
mod read_through;
mod removal;

use std::collections::{BTreeSet, HashMap};
use std::io;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use parking_lot::{Mutex, MutexGuard};
use tokio::sync::{Notify, mpsc};
use tokio::time::Instant;
use tracing::{info, warn};

use super::{BrokenDocument, SourceState, SourceView};
use crate::api::NovaPages;
use crate::backoff;
use crate::config;
use crate::facts::Facts;
use crate::nova_metadata::client::{self, Client, NovaError, Requester, Urgency};
use crate::nova_metadata::refresh::{self, Pages};
use crate::nova_metadata::{self, Names, SetUpError};
use crate::origin::{self, Ask, Origin};
use crate::readiness::Blocker;
use crate::record::InstanceId;
use crate::state_view::StateView;
use crate::store::Store;
use crate::worker::{Stop, Worker};
use local_instance::{InstanceState, InstanceTask};
use read_through::FRESH;

/// Number of 404 answers for an instance after which its content is removed.
const NOT_FOUND_CONFIRMATIONS: u32 = 3;
/// Delay after the first such answer until Nova is asked again; it grows with each.
const CONFIRMATION_INTERVAL: Duration = Duration::from_secs(5);
/// Longest delay until Nova is asked again for an unknown instance: it may be about to be created.
const LONGEST_UNKNOWN: Duration = Duration::from_secs(60);
/// Delay after a failure until an instance is read again. The endpoints' own back-off keeps that cheap.
const AGAIN: Duration = Duration::from_secs(2);
/// Waits between reads that do not agree: Nova's workers have a cache each.
const UNSETTLED: [Duration; 4] =
    [Duration::ZERO, Duration::from_secs(1), Duration::from_secs(5), Duration::from_secs(10)];
/// Time from the first report of any observer until content of instances that no observer reports is removed.
const GRACE: Duration = Duration::from_secs(30);
/// The same where no observer has reported anything: the node may have no instances.
const GRACE_WITHOUT_OBSERVERS: Duration = Duration::from_secs(600);

/// What messages call the keys of the configuration.
static NAMES: Names = Names {
    program: "metadatad",
    endpoints: "source.nova.endpoints",
    secret: "source.nova.shared_secret_file",
    ca: "source.nova.ca_file",
    cert: "source.nova.cert_file",
    key: "source.nova.key_file",
};

/// Why the source cannot start.
#[derive(Debug, thiserror::Error)]
pub enum NovaStartError {
    /// No thread can be started.
    #[error("starting the source's thread")]
    Thread(#[from] io::Error),
    /// The secret or a certificate cannot be read.
    #[error(transparent)]
    SetUp(#[from] SetUpError),
}

/// Reads the files that the configuration names, as [`Nova::start`] does.
pub(super) fn check(settings: &config::nova::Nova) -> Result<(), NovaStartError> {
    nova_metadata::set_up(settings, &NAMES)?;
    Ok(())
}

/// The running source. Dropping it ends it.
#[derive(Debug)]
pub struct Nova {
    state: SourceView,
    origin: Origin,
    _worker: Worker,
}

impl Nova {
    /// Starts to read. `first_scan` is dropped when every instance that is known at the start was read or cannot be.
    ///
    /// # Errors
    /// [`NovaStartError`] if the secret or a certificate cannot be read.
    pub fn start(
        settings: config::nova::Nova,
        store: Arc<Store>,
        facts: Facts,
        first_scan: Blocker,
    ) -> Result<Self, NovaStartError> {
        let client = nova_metadata::set_up(&settings, &NAMES)?;
        let place = settings.endpoints.first().map(ToString::to_string).unwrap_or_default();
        let state =
            StateView::new(SourceState { endpoints: client.endpoints.states(), ..SourceState::new("nova", place) });
        let (origin, asks) = origin::channel();
        let shared = Arc::new(Shared {
            store,
            client,
            refresh: settings.refresh_interval,
            reread: settings.reread_interval,
            tasks: Mutex::default(),
            leaving: Mutex::default(),
            left: Notify::new(),
            view: state.clone(),
            synced: Mutex::default(),
            moved: Notify::new(),
        });
        let worker = Worker::spawn("source", async move |mut stop: Stop| {
            tokio::select! {
                () = stop.requested() => {}
                () = run(shared, facts, asks, first_scan) => {}
            }
        })?;
        Ok(Self { state, origin, _worker: worker })
    }

    /// Returns the handle by which guests' requests read paths that were not prefetched.
    #[must_use]
    pub fn origin(&self) -> Origin {
        self.origin.clone()
    }

    /// Returns a view of its state.
    #[must_use]
    pub fn state(&self) -> SourceView {
        self.state.clone()
    }
}

/// What all instances share.
struct Shared {
    store: Arc<Store>,
    client: Client,
    refresh: Duration,
    /// Age at which all of an instance is read again though nothing seems to have changed.
    reread: Duration,
    tasks: Mutex<HashMap<InstanceId, Arc<InstanceTask>>>,
    /// Instances that are no longer local and may still have content.
    leaving: Mutex<BTreeSet<InstanceId>>,
    /// Signals an addition to `leaving`.
    left: Notify,
    view: SourceView,
    synced: Mutex<Synced>,
    /// Signals that an attempt to read an instance has ended.
    moved: Notify,
}

#[derive(Debug, Default)]
struct Synced {
    at: Option<SystemTime>,
    lagging_since: Option<SystemTime>,
    changed_at: Option<SystemTime>,
}

async fn run(shared: Arc<Shared>, facts: Facts, mut asks: mpsc::Receiver<Ask>, first_scan: Blocker) {
    let mut changes = facts.subscribe();
    shared.follow(&facts);
    shared.publish();
    tokio::spawn(Arc::clone(&shared).sweep());
    tokio::spawn(Arc::clone(&shared).look_after());
    let mut first_scan = Some(first_scan);
    // Restored content of instances that are gone is removed then.
    let is_reported = !shared.lock().is_empty();
    let mut settle_at = Some(Instant::now() + if is_reported { GRACE } else { GRACE_WITHOUT_OBSERVERS });
    loop {
        if first_scan.is_some() && shared.is_through() {
            first_scan = None;
        }
        tokio::select! {
            change = changes.recv() => {
                if change.is_none() {
                    return;
                }
                while changes.try_recv().is_ok() {}
                shared.follow(&facts);
                settle_at = settle_at.map(|at| at.min(Instant::now() + GRACE));
            }
            Some(ask) = asks.recv() => shared.ask(ask),
            () = shared.moved.notified() => {}
            () = tokio::time::sleep_until(settle_at.unwrap_or_else(Instant::now)), if settle_at.is_some() => {
                shared.leave(shared.store.ids());
                settle_at = None;
            }
        }
        shared.publish();
    }
}

impl Shared {
    /// Starts and ends tasks so that there is one for each local instance.
    fn follow(self: &Arc<Self>, facts: &Facts) {
        let here = facts.local_instances();
        let mut tasks = self.lock();
        let mut gone = Vec::new();
        tasks.retain(|id, task| {
            let stays = here.contains_key(id);
            if !stays {
                info!(instance = %id, "the instance is no longer on this node");
                task.mark_gone();
                gone.push(*id);
            }
            stays
        });
        self.leave(gone);
        for (id, fact) in here {
            let address = fact.addresses.iter().find(|address| address.is_ipv4()).or(fact.addresses.first()).copied();
            let project = fact.project.filter(client::can_be_sent);
            let who = project.map(|project| Requester { instance: id, project, address });
            match tasks.get(&id) {
                Some(task) => {
                    task.set_requester(who);
                    if task.set_fingerprint(fact.fingerprint) {
                        read_again(task);
                    }
                }
                None => {
                    let task = Arc::new(InstanceTask::new(who));
                    task.set_fingerprint(fact.fingerprint);
                    tasks.insert(id, Arc::clone(&task));
                    tokio::spawn(Arc::clone(self).keep_current(id, task));
                }
            }
        }
    }

    /// Probes endpoints that failed, so that their return does not go unnoticed until the next request.
    async fn look_after(self: Arc<Self>) {
        loop {
            tokio::time::sleep(spread(AGAIN)).await;
            let one = self.lock().keys().next().copied();
            if let Some(one) = one
                && self.client.look_after(one).await
            {
                self.publish();
            }
        }
    }

    /// Refreshes an instance as long as it is local.
    async fn keep_current(self: Arc<Self>, id: InstanceId, task: Arc<InstanceTask>) {
        let mut has_changed = true;
        while !task.is_gone() {
            let state = match task.requester() {
                None => InstanceState::WithoutProject,
                Some(who) => match self.refresh(&who, &task, has_changed).await {
                    Ok(()) => InstanceState::Current,
                    Err(NovaError::Unknown) => match task.state() {
                        InstanceState::Unknown(times) => InstanceState::Unknown(times.saturating_add(1)),
                        _ => InstanceState::Unknown(1),
                    },
                    Err(NovaError::Unavailable | NovaError::Crash | NovaError::Broken) => InstanceState::Unavailable,
                },
            };
            if task.is_gone() {
                return;
            }
            if matches!(state, InstanceState::Unknown(times) if times >= NOT_FOUND_CONFIRMATIONS)
                && self.store.served(id).is_some()
            {
                let is_confirmed = self.knows_another(id).await;
                if task.is_gone() {
                    return;
                }
                if is_confirmed && self.store.remove(id) {
                    warn!(instance = %id, "Nova does not know the instance any more: its content is removed");
                }
            }
            task.set_state(state.clone());
            self.moved.notify_one();
            self.publish();
            let delay = match state {
                InstanceState::Current | InstanceState::New => self.refresh,
                InstanceState::Unavailable => AGAIN,
                InstanceState::Unknown(times) => CONFIRMATION_INTERVAL.saturating_mul(times).min(LONGEST_UNKNOWN),
                // `changed` is notified when the project becomes known.
                InstanceState::WithoutProject => LONGEST_UNKNOWN,
            };
            has_changed = tokio::time::timeout(spread(delay), task.changed.notified()).await.is_ok();
        }
    }

    /// Reads an instance, unless there is nothing new.
    async fn refresh(&self, who: &Requester, task: &InstanceTask, has_changed: bool) -> Result<(), NovaError> {
        let is_due = has_changed || task.age().is_none_or(|age| age >= self.reread);
        if let Some(known) = self.store.nova_pages(who.instance).filter(|_| !is_due)
            && refresh::is_unchanged(&self.client, who, &known, task.next_check()).await?
        {
            return Ok(());
        }
        self.read(who, task).await?;
        task.mark_read();
        Ok(())
    }

    /// Reads all of an instance and puts it into the store, whole.
    async fn read(&self, who: &Requester, task: &InstanceTask) -> Result<(), NovaError> {
        let old = self.store.nova_pages(who.instance);
        if old.is_none() {
            // The guest can begin: paths that are not prefetched yet are read through.
            let first = refresh::first(&self.client, who, Urgency::Background).await?;
            self.put(who, task, first);
            self.publish();
        }
        let mut last: Option<Pages> = None;
        for wait in UNSETTLED {
            tokio::time::sleep(wait).await;
            let pages = refresh::whole(&self.client, who, &task.kept(), old.as_deref(), refresh::OF_NODE).await?;
            let as_before = old.as_ref().is_none_or(|old| {
                let old: Pages = old.pages().map(|(path, page)| (path.to_owned(), page.clone())).collect();
                refresh::agree(&old, &pages)
            });
            let is_settled = as_before || last.as_ref().is_some_and(|last| refresh::agree(last, &pages));
            last = Some(pages);
            if is_settled {
                break;
            }
        }
        if let Some(pages) = last {
            self.put(who, task, pages);
        }
        Ok(())
    }

    /// Puts pages into the store, with those that were read for the guest meanwhile.
    fn put(&self, who: &Requester, task: &InstanceTask, mut pages: Pages) {
        if task.is_gone() || task.requester().is_none_or(|now| now.project != who.project) {
            return;
        }
        if let Some(now) = self.store.nova_pages(who.instance) {
            for path in task.kept() {
                if let Some(page) = now.page(&path).filter(|_| !pages.contains_key(&path)) {
                    pages.insert(path, page.clone());
                }
            }
        }
        let mut copied = NovaPages::new(who.instance, pages);
        if let Some(password) = task.fresh_password().filter(|_| copied.password().is_empty()) {
            copied = copied.with_password(&password);
        }
        self.keep(copied);
    }

    fn keep(&self, copied: NovaPages) {
        if self.store.put_nova_pages(copied) {
            self.lock_synced().changed_at = Some(SystemTime::now());
        }
    }

    /// Returns whether a read of each instance has succeeded or failed.
    fn is_through(&self) -> bool {
        self.lock().values().all(|task| task.state() != InstanceState::New)
    }

    fn publish(&self) {
        let mut broken = Vec::new();
        let mut is_current = true;
        {
            let tasks = self.lock();
            for (id, task) in tasks.iter() {
                let state = task.state();
                is_current &= state == InstanceState::Current;
                if let Some(problem) = problem(&state) {
                    let serves_last_good = self.store.nova_pages(*id).is_some();
                    broken.push(BrokenDocument {
                        name: id.to_string(),
                        line: None,
                        column: None,
                        problem,
                        serves_last_good,
                    });
                }
            }
        }
        broken.sort_by(|one, other| one.name.cmp(&other.name));
        let error = self.client.endpoints.trouble();
        let mut synced = self.lock_synced();
        let now = SystemTime::now();
        if is_current && error.is_none() {
            synced.at = Some(now);
            synced.lagging_since = None;
        } else {
            synced.lagging_since.get_or_insert(now);
        }
        self.view.publish(SourceState {
            synced_at: synced.at,
            instances: self.store.len(),
            broken,
            error,
            lagging_since: synced.lagging_since,
            changed_at: synced.changed_at,
            endpoints: self.client.endpoints.states(),
            ..SourceState::new("nova", self.view.get().place.clone())
        });
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<InstanceId, Arc<InstanceTask>>> {
        self.tasks.lock()
    }

    fn lock_synced(&self) -> MutexGuard<'_, Synced> {
        self.synced.lock()
    }
}

/// Has an instance read again when what Nova's cache has of it now is over.
fn read_again(task: &Arc<InstanceTask>) {
    let task = Arc::clone(task);
    tokio::spawn(async move {
        tokio::time::sleep(FRESH).await;
        task.changed.notify_one();
    });
}

/// Returns what is wrong with one instance alone, and the remedy.
fn problem(state: &InstanceState) -> Option<String> {
    match state {
        InstanceState::New | InstanceState::Current | InstanceState::Unavailable => None,
        InstanceState::Unknown(_) => Some(
            "Nova does not know this instance, or not in this project: if it exists, compare nova:project in its libvirt domain \
             with its project in Nova"
                .to_owned(),
        ),
        InstanceState::WithoutProject => Some(
            "its project is missing or not valid, and Nova answers nothing without it: libvirt's domain XML has it; set \
             facts.libvirt_dir to the directory of these files"
                .to_owned(),
        ),
    }
}

/// Returns the duration, shortened at random by up to a fifth.
fn spread(duration: Duration) -> Duration {
    backoff::shorter(duration, 20, backoff::random())
}

#[cfg(test)]
mod tests;
