//! The daemon: the only module that knows all others, and the only one that starts long-lived tasks.
//!
//! The order of start, and why:
//! 1. the log, so that everything after it can be told;
//! 2. the admin socket: `status` answers from here on, and a second daemon with the same configuration stops here,
//!    before it touches anything;
//! 3. the snapshot is read, so that guests have their content even if the source is away, and kept in step from here on;
//! 4. the source, and its first scan is waited for (at most [`FIRST_SCAN`]), and the first report of Open vSwitch and
//!    libvirt where they are (at most [`FIRST_FACTS`]): ports that an earlier daemon left bound then find their facts and
//!    claims, and keep their connections;
//! 5. the responder's namespace with the listening socket, adopted or made: connections wait in the backlog from here on;
//! 6. the kernel half;
//! 7. the ports: every tap that matches is attached and bound; only then is it known whose connections they are, so
//!    only then are they accepted;
//! 8. ready: the service manager is told.
//!
//! The order of end: no new connection is accepted and requests in flight finish, at most for `http.drain_timeout`. What
//! is in the kernel stays, for the next daemon. The snapshot is written last.
//!
//! Who runs where: guests are answered by `http.threads` threads that do nothing else, so no scan, netlink dump or admin
//! request can delay an answer. The ports have a thread (their system calls block), the source has one (files block),
//! the snapshot has one, Open vSwitch and libvirt are heard on one, and the main thread has the admin API, dynamic vendor
//! data, the log of drops and the signals.

mod answering;
mod error;
mod memory;
mod view;

use std::io;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use sd_notify::NotifyState;
use tokio::runtime::Builder;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tracing::{info, warn};

pub use error::AppError;

use crate::admin;
use crate::admin::socket::AdminSocket;
use crate::api::{self, StaticVendordata};
use crate::config::{self, Config};
use crate::dataplane::responder::ResponderNetns;
use crate::dataplane::{self, AttachMode, Dataplane, events};
use crate::drain::Drain;
use crate::facts::Facts;
use crate::facts::observers::Observers;
use crate::http::Guests;
use crate::identity::Identities;
use crate::metrics::Metrics;
use crate::port::{self, Ports, PortsError, PortsView};
use crate::readiness::{Blocker, Readiness};
use crate::secret;
use crate::snapshot::Snapshot;
use crate::source::vendordata::Vendordata;
use crate::source::{Restored, Source};
use crate::store::Store;
use crate::worker::Worker;
use view::{Kernel, View};

/// How long the first scan of the source is waited for. Ten thousand documents take about a second; a directory that hangs
/// must not keep the node's guests without a 503.
const FIRST_SCAN: Duration = Duration::from_secs(10);

/// How long the observers' first reports are waited for: they are on this node, and answer within milliseconds.
const FIRST_FACTS: Duration = Duration::from_secs(5);

/// Commands that may wait for the ports' thread.
const PORT_REQUESTS: usize = 16;

/// Runs the daemon until a signal ends it.
///
/// # Errors
/// [`AppError`] if it cannot start, or a part of it that it cannot do without has ended.
pub fn run(config: &Config) -> Result<(), AppError> {
    crate::telemetry::start(&config.log)?;
    info!(version = env!("CARGO_PKG_VERSION"), pid = std::process::id(), "metadatad starts");
    // Guests' user data and passwords are in here, whatever the source.
    secret::process::forbid_core_dumps().map_err(|error| AppError::CoreDumps(error.into()))?;
    dataplane::kernel::check()?;
    let control = Builder::new_current_thread().enable_all().build().map_err(AppError::Runtime)?;
    let ended = control.block_on(control_thread(config));
    // An error is told by whoever called.
    if ended.is_ok() {
        info!("metadatad ends");
    }
    ended
}

/// Reads what the configuration only names.
///
/// # Errors
/// [`AppError`] if the vendor-data file cannot be read, or is no JSON.
pub fn cloud(settings: &config::Cloud) -> Result<api::Cloud, AppError> {
    let vendordata_static = match &settings.vendordata_jsonfile_path {
        None => StaticVendordata::default(),
        Some(path) => {
            let text = std::fs::read(path).map_err(|source| AppError::Vendordata { path: path.clone(), source })?;
            let text = text.strip_prefix(b"\xef\xbb\xbf").unwrap_or(&text);
            let value = serde_json::from_slice(text)
                .map_err(|source| AppError::VendordataJson { path: path.clone(), source })?;
            StaticVendordata::from(&value)
        }
    };
    let providers = settings.vendordata_providers.iter().map(|provider| match provider {
        config::VendordataProvider::StaticJson => api::VendordataProvider::StaticJson,
        config::VendordataProvider::DynamicJson => api::VendordataProvider::DynamicJson,
    });
    Ok(api::Cloud {
        dhcp_domain: settings.dhcp_domain.clone(),
        vendordata_providers: providers.collect(),
        vendordata_static,
        vendordata_dynamic_targets: settings.vendordata_dynamic.targets.clone(),
    })
}

/// Prepares to ask the targets of dynamic vendor data; `None` if there is none to ask.
///
/// # Errors
/// [`AppError`] if no certificate can be read, and a target needs one.
pub fn vendordata(settings: &config::Cloud) -> Result<Option<Vendordata>, AppError> {
    Ok(Vendordata::new(settings)?)
}

async fn control_thread(config: &Config) -> Result<(), AppError> {
    let mut signals = Signals::new().map_err(AppError::Runtime)?;
    let readiness = Readiness::new();
    let (source_read, ports_attached) = (readiness.wait_for("source"), readiness.wait_for("ports"));
    let facts_heard = readiness.wait_for("facts");
    let drain = Drain::new();
    let store = Arc::new(Store::new(cloud(&config.cloud)?));
    let vendordata = vendordata(&config.cloud)?;
    let identities = Arc::new(Identities::new());
    let metrics = Metrics::new();
    let guests = Arc::new(Guests::new(&config.http, Arc::clone(&identities), Arc::clone(&store), metrics.http.clone()));

    let socket = AdminSocket::open(&config.admin.socket)?;
    let facts = Facts::new();
    // Subscribed before source and observers start, so that the ports miss no change.
    let changes = port::Changes::of(&store, &facts);
    let vendordata_state = vendordata.as_ref().map(Vendordata::state);
    let mut fetching =
        vendordata.map(|vendordata| tokio::spawn(vendordata.run(Arc::clone(&store), store.subscribe_to_content())));
    let observers = Observers::start(&config.facts, &config.ports, &facts, facts_heard).map_err(AppError::Runtime)?;
    let snapshot = Snapshot::open(&config.snapshot, &config.source, &store);
    let snapshot_state = snapshot.as_ref().map(Snapshot::state);
    let restored = snapshot.as_ref().and_then(Snapshot::restored);
    let restored = restored.map(|restored| Restored { cluster: restored.cluster, revision: restored.revision });
    // What the store has now is what the file has.
    let written = *store.changes().borrow();
    let source = Source::start(&config.source, Arc::clone(&store), facts.clone(), restored, source_read)?;
    // Ends before the source does, and writes what is not written yet.
    let keeper = match snapshot {
        Some(snapshot) => snapshot.keep(written, Arc::clone(&store), source.state()).map_err(AppError::Runtime)?,
        None => None,
    };
    if let Some(origin) = source.origin() {
        guests.ask_at(origin);
    }
    for warning in config.cloud.warnings() {
        warn!("{warning}");
    }
    let kernel = Kernel::default();
    let view = Arc::new(View {
        started_at: SystemTime::now(),
        readiness: readiness.clone(),
        drain: drain.clone(),
        source: source.state(),
        accepts: source.accepts(),
        snapshot: snapshot_state,
        vendordata: vendordata_state,
        observers: observers.views(),
        guests: Arc::clone(&guests),
        kernel: kernel.clone(),
    });
    // The socket's file goes with this task, at the end of the runtime.
    let mut admin = tokio::spawn(admin::server::run(socket, view));

    if tokio::time::timeout(FIRST_SCAN, readiness.not_waiting_for("source")).await.is_err() {
        warn!("the source's first scan takes long: going on without it, ports are held until it is done");
    }
    if tokio::time::timeout(FIRST_FACTS, readiness.not_waiting_for("facts")).await.is_err() {
        warn!("no data from Open vSwitch or libvirt after 5 s: continuing without it");
    }
    info!(instances = store.len(), "source read");

    let netns = ResponderNetns::set_up(&config.responder.namespace, &config.responder.interface)?;
    // Before any program can hand it a packet.
    let listeners = netns.listen(config.responder.port, config.http.threads)?;
    let mode = match config.bpf.attach {
        config::Attach::Auto => AttachMode::Auto,
        config::Attach::Tcx => AttachMode::Tcx,
        config::Attach::Clsact => AttachMode::Clsact,
    };
    let pass: Vec<_> = config.ports.pass.iter().map(|port| port.pair()).collect();
    let mut dataplane = Dataplane::load(&config.bpf.pin_dir, mode, netns.pair(), netns.pair_name(), &pass)?;
    let ports_view = PortsView::new(metrics.ports.clone());
    let names = ports_view.clone();
    let drops = tokio::spawn(events::log(dataplane.take_events()?, move |ifindex| names.name_of(ifindex)));
    let counters = dataplane.counters_reader()?;
    let mut answering = answering::start(listeners, &guests, &readiness, &drain).map_err(AppError::Runtime)?;

    let (requests, inbox) = mpsc::channel(PORT_REQUESTS);
    kernel.set(ports_view.clone(), counters, requests);
    let ports = Ports::new(dataplane, identities, Arc::clone(&store), facts, config.ports.clone(), ports_view);
    let mut ports = port_thread(ports, changes, inbox, ports_attached)?;

    let ready = async {
        readiness.ready().await;
        info!("ready");
        tell_service_manager(&[NotifyState::Ready]);
        memory::keep_small().await;
    };
    let ended = tokio::select! {
        name = signals.next() => {
            info!(signal = name, "draining");
            Ok(())
        }
        ended = &mut ports => Err(AppError::Ports(ended.unwrap_or(Err(PortsError::StoreGone)).err())),
        Some(ended) = answering.join_next() => {
            Err(AppError::Guests(ended.map_err(io::Error::other).and_then(|ended| ended).err()))
        }
        ended = &mut admin => Err(AppError::Admin(ended.map_err(io::Error::other).and_then(|ended| ended).err())),
        _ = ended(fetching.as_mut()) => Err(AppError::VendordataEnded),
        () = ready => Ok(()),
    };
    tell_service_manager(&[NotifyState::Stopping]);
    drain.begin();
    if !drain.finished(config.http.drain_timeout).await {
        warn!("requests are still in flight: cutting them off");
    }
    drops.abort();
    drop(keeper);
    ended
}

/// Completes when a task has ended; never without one.
async fn ended<T>(task: Option<&mut JoinHandle<T>>) -> Option<T> {
    match task {
        Some(task) => task.await.ok(),
        None => std::future::pending().await,
    }
}

/// Starts the ports' thread. The receiver gets how it ended. It ends with the process: what it knows of the kernel's links
/// must not be dropped, since that would detach them.
fn port_thread(
    ports: Ports,
    changes: port::Changes,
    inbox: mpsc::Receiver<port::Request>,
    attached: Blocker,
) -> Result<oneshot::Receiver<Result<(), PortsError>>, AppError> {
    let (sender, ended) = oneshot::channel();
    let worker = Worker::spawn("ports", async move |_| {
        // Nobody listens while the daemon ends.
        let _ = sender.send(ports.run(changes, inbox, move || drop(attached)).await);
    });
    worker.map_err(AppError::Runtime)?.detach();
    Ok(ended)
}

fn tell_service_manager(state: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(state) {
        warn!(%error, "cannot tell the service manager");
    }
}

/// The signals that end the daemon, and the one that other daemons reload on.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hang_up: Signal,
}

impl Signals {
    fn new() -> io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hang_up: signal(SignalKind::hangup())?,
        })
    }

    /// Waits for a signal that ends the daemon. SIGHUP is only told: out of habit it is sent to every daemon, and must
    /// not end this one.
    async fn next(&mut self) -> &'static str {
        loop {
            tokio::select! {
                _ = self.terminate.recv() => return "SIGTERM",
                _ = self.interrupt.recv() => return "SIGINT",
                _ = self.hang_up.recv() => {
                    info!("SIGHUP changes nothing: documents are watched, the configuration is read at the start");
                }
            }
        }
    }
}
