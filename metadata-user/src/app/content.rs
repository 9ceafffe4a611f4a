//! The parts that supply content and facts: observers, snapshot, source, dynamic vendor data.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;
use tracing::{info, warn};

use super::{AppError, Shared, cloud};
use crate::config::Config;
use crate::config_drive::{self, KeeperState};
use crate::facts::observers::Observers;
use crate::facts::report::ObserverView;
use crate::hold::Holder;
use crate::on_demand;
use crate::readiness::{Blocker, Readiness};
use crate::secret::token::TokenKey;
use crate::snapshot::{Keeper, Snapshot, SnapshotState};
use crate::source::vendordata::{Vendordata, VendordataState};
use crate::source::{Restored, Source};
use crate::state_view::StateView;
use crate::worker::{Stop, Worker};

/// How long start waits for the first scan of the source. Ten thousand documents take about a second; a directory that
/// hangs must not keep guests from getting at least a 503.
const FIRST_SCAN: Duration = Duration::from_secs(10);

/// How long start waits for the first report of the observers: they are on this node, and answer within milliseconds.
const FIRST_FACTS: Duration = Duration::from_secs(5);

/// A random number of each boot (random(4)).
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";

/// The parts that fill the store and the facts. Fields are dropped in this order.
pub(super) struct Content {
    /// Ends before the source does, and writes pending changes.
    keeper: Option<Keeper>,
    /// Keeps images of config drives current, if there are any.
    drives: Option<config_drive::Keeper>,
    pub(super) source: Source,
    pub(super) observers: Observers,
    /// Fetches dynamic vendor data, if there is any.
    pub(super) fetching: Option<Fetching>,
    pub(super) snapshot: Option<StateView<SnapshotState>>,
    pub(super) vendordata: Option<StateView<VendordataState>>,
}

impl Content {
    /// Reads the snapshot and starts everything that keeps content and facts current.
    ///
    /// # Errors
    /// [`AppError`] if a part cannot be started.
    pub(super) fn start(
        config: &Config,
        shared: &Shared,
        source_read: Blocker,
        facts_reported: Blocker,
    ) -> Result<Self, AppError> {
        let store = &shared.store;
        let vendordata = cloud::vendordata(&config.cloud)?;
        let vendordata_state = vendordata.as_ref().map(Vendordata::state);
        let fetching = vendordata.map(|vendordata| Fetching::start(vendordata, shared)).transpose()?;
        let observers = Observers::start(&config.facts, &config.ports, &shared.facts, facts_reported);
        let observers = observers.map_err(AppError::Runtime)?;
        let snapshot = Snapshot::open(&config.snapshot, &config.source, store);
        let boot = std::fs::read(BOOT_ID).map_err(AppError::BootId)?;
        let tokens = match snapshot.as_ref().and_then(|snapshot| snapshot.token_key(&boot)) {
            Some(key) => key,
            None => {
                info!("session tokens end with this daemon: there is no snapshot's key to seal them with");
                TokenKey::random().map_err(|error| AppError::Runtime(std::io::Error::other(error)))?
            }
        };
        shared.guests.seal_tokens_with(tokens);
        let boot = String::from_utf8_lossy(&boot).trim().to_owned();
        if let Some(snapshot) = &snapshot {
            snapshot.restore_boots(shared.guests.boots(), &boot);
        }
        let snapshot_state = snapshot.as_ref().map(Snapshot::state);
        let restored = snapshot.as_ref().and_then(Snapshot::restored);
        let restored = restored.map(|restored| Restored { cluster: restored.cluster, revision: restored.revision });
        // The store now equals the file.
        let written = store.revision();
        let source = Source::start(&config.source, Arc::clone(store), shared.facts.clone(), restored, source_read)?;
        let keeper = match snapshot {
            Some(snapshot) => {
                let boots = (Arc::clone(shared.guests.boots()), boot);
                snapshot.keep(written, Arc::clone(store), source.state(), boots).map_err(AppError::Runtime)?
            }
            None => None,
        };
        let drives = config_drives(config, shared, &source, &observers).map_err(AppError::Runtime)?;
        if let Some(origin) = source.origin() {
            shared.guests.ask_at(origin);
        }
        for warning in config.warnings() {
            warn!("{warning}");
        }
        Ok(Self { keeper, drives, source, observers, fetching, snapshot: snapshot_state, vendordata: vendordata_state })
    }
}

/// The thread that asks services for vendor data. It reads their certificates again, which the main thread's user may not be allowed to.
pub(super) struct Fetching {
    /// Resolves when it has ended.
    pub(super) ended: oneshot::Receiver<()>,
    _worker: Worker,
}

impl Fetching {
    fn start(vendordata: Vendordata, shared: &Shared) -> Result<Self, AppError> {
        let (store, changes) = (Arc::clone(&shared.store), shared.store.subscribe());
        let (on_demand, asks) = on_demand::channel();
        if vendordata.has_on_demand() {
            shared.guests.ask_services_at(on_demand.clone());
        }
        let (sender, ended) = oneshot::channel::<()>();
        let worker = Worker::spawn("vendordata", move |mut stop: Stop| async move {
            // Kept, so that the end of asking is that of the store alone; dropped at the end, which tells.
            let _kept = (on_demand, sender);
            tokio::select! {
                () = vendordata.run(store, changes, asks) => {}
                () = stop.requested() => {}
            }
        });
        Ok(Self { ended, _worker: worker.map_err(AppError::Runtime)? })
    }
}

impl Content {
    /// Returns what pauses the threads that write files: the snapshot's, and that of config drives.
    pub(super) fn writers(&self) -> Vec<Holder> {
        let snapshot = self.keeper.as_ref().map(Keeper::holder);
        snapshot.into_iter().chain(self.drives.as_ref().and_then(config_drive::Keeper::holder)).collect()
    }

    /// Returns the state of config drives; `None`: no images are kept.
    pub(super) fn drives(&self) -> Option<StateView<KeeperState>> {
        self.drives.as_ref().map(config_drive::Keeper::state)
    }
}

/// Starts what keeps images of config drives current, if the configuration wants any.
fn config_drives(
    config: &Config,
    shared: &Shared,
    source: &Source,
    observers: &Observers,
) -> std::io::Result<Option<config_drive::Keeper>> {
    let (guests, views) = (Arc::clone(&shared.guests), observers.views());
    let access = Box::new(move |overrides: &_| guests.policy(overrides).access);
    let observed = Box::new(move || {
        let of_view =
            |view: &ObserverView| view.get().unreachable_ports.iter().map(|port| port.instance).collect::<Vec<_>>();
        views.iter().flat_map(of_view).collect()
    });
    let content = (Arc::clone(&shared.store), source.state());
    let readiness = &shared.readiness;
    // Guests that the service manager starts after this daemon find their images.
    let first = readiness.wait_for("config drives");
    config_drive::Keeper::start(&config.configdrive, content, (access, observed), readiness.clone(), first)
}

/// Waits for the first scan of the source and the first report of the observers, in bounded time.
pub(super) async fn first(readiness: &Readiness) {
    if tokio::time::timeout(FIRST_SCAN, readiness.not_waiting_for("source")).await.is_err() {
        warn!(
            "the first scan of the source takes more than {FIRST_SCAN:?}; continuing, ports are held until it is done"
        );
    }
    if tokio::time::timeout(FIRST_FACTS, readiness.not_waiting_for("facts")).await.is_err() {
        warn!("no data from Open vSwitch or libvirt after {FIRST_FACTS:?}; continuing without it");
    }
}
