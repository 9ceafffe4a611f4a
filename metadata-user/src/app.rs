//! The daemon: the only module that uses all others, and the one that starts every long-lived part.
//!
//! The order of start, and why:
//! 1. logging, so that every later step can log;
//! 2. the admin socket: `status` answers from here on, and a second daemon with the same configuration stops here,
//!    before it touches anything, unless it is to take over (`take_over`); metrics can be read over TCP, if configured, from soon
//!    after;
//! 3. the snapshot is read, so that guests have their content even if the source is unavailable, and kept current from
//!    here on;
//! 4. the source and the observers; their first scan and first reports are waited for (`content`, in bounded time), so
//!    that ports that an earlier daemon left bound find their facts and claims, and keep their connections;
//! 5. the responder's namespace with the listening socket, adopted or made: connections wait in the backlog from here on;
//! 6. the kernel half;
//! 7. the ports: every tap that matches is attached and bound; only then is it known which instance a
//!    connection is from, so only then are they accepted;
//! 8. ready: the service manager is notified, and from here on its watchdog, as long as guests can be answered.
//!
//! Privileges: at the start the process gives up all that set-up does not need; each thread gives up what its work does
//! not need as it starts, and the main thread the rest after step 7 ([`crate::privilege`]).
//!
//! The order of shutdown: connections end as [`crate::drain`] says, within `http.drain_timeout`. Listening sockets and the state in
//! the kernel stay, for the next daemon (`listening`). The snapshot is written last, unless another daemon has taken over
//! (`hand_over`). The wait for each thread is bounded ([`crate::worker`]), so no busy or hanging source prevents shutdown.
//!
//! Threads: guests are answered by `http.threads` threads that do nothing else, so no scan, netlink dump or admin
//! request can delay an answer. The ports have a thread (their system calls block), the source has one (files block),
//! one is inside the responder's namespace and restores what others change there, the snapshot, the audit log, each certificate, the keys of identity tokens and
//! the readers of metrics have one each, the observers of Open vSwitch and libvirt share one, and the main thread runs the admin API,
//! dynamic vendor data, the log of drops and signal handling, and writes metrics.

mod answering;
mod audit;
mod boots;
mod cloud;
mod content;
mod drops;
mod error;
mod hand_over;
mod kernel;
mod late;
mod listening;
mod memory;
mod refused;
mod release;
mod reload;
mod signals;
mod take_over;
mod view;
mod watchdog;
mod writable;

use std::io;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use sd_notify::NotifyState;
use tokio::runtime::Builder;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tracing::{error, info, warn};

pub use cloud::{check_vendordata, cloud};
pub use error::AppError;
pub use take_over::TakeOverError;
pub use view::metrics_page;

use crate::admin::socket::{AdminSocket, Beside};
use crate::admin::{self, Inspect as _};
use crate::audit::{Audit, Writer};
use crate::config::{self, Config, ConfigFile, Guard};
use crate::dataplane::responder::ResponderNetns;
use crate::dataplane::{self, Dataplane, events};
use crate::drain::{Drain, Successor};
use crate::error_text;
use crate::exporter::Exporter;
use crate::facts::Facts;
use crate::http::Guests;
use crate::https::Https;
use crate::identity::Identities;
use crate::metrics::Metrics;
use crate::open_files::OpenFiles;
use crate::port::{self, Ports, PortsError, PortsView};
use crate::privilege;
use crate::pulse::Pulse;
use crate::readiness::{Blocker, Readiness};
use crate::secret;
use crate::signing::Signing;
use crate::sockets;
use crate::store::Store;
use crate::telemetry::LogFilter;
use crate::worker::Worker;
use answering::Sockets;
use content::{Content, Fetching};
use drops::LastDrops;
use hand_over::HandOver;
use kernel::Kernel;
use listening::{Copies, Listeners};
use release::Release;
use reload::Reloader;
use signals::Signals;
use take_over::TakeOver;
use view::View;
use watchdog::{Watchdog, Work};

/// Capacity of the queue of commands to the ports' thread.
const PORT_REQUESTS: usize = 16;

/// How long shutdown waits for blocking calls.
const BLOCKING_CALLS: Duration = Duration::from_secs(1);

/// State that several parts of the daemon share.
struct Shared {
    readiness: Readiness,
    drain: Drain,
    metrics: Arc<Metrics>,
    store: Arc<Store>,
    facts: Facts,
    identities: Arc<Identities>,
    guests: Arc<Guests>,
    audit: Arc<Audit>,
    drops: LastDrops,
    /// Writes what is recorded; it ends last, when no request is in flight any more.
    _audit_writer: Option<Writer>,
    https: Option<Arc<Https>>,
    signing: Option<Arc<Signing>>,
    kernel: Kernel,
}

impl Shared {
    fn new(config: &Config) -> Result<Self, AppError> {
        let (mut metrics, identities) = (Metrics::new(), Arc::new(Identities::new()));
        let kernel = Kernel::default();
        metrics.read_packets(kernel.clone());
        let store = Arc::new(Store::new(cloud(&config.cloud)?));
        let mut possible = config.clone();
        possible.http.connections = possible_connections(config.http.connections);
        let guests = Guests::new(&possible, Arc::clone(&identities), Arc::clone(&store), metrics.http.clone());
        let (audit, writer) =
            Audit::start(&config.audit, &metrics.audit, &metrics.anomalies).map_err(AppError::Runtime)?;
        let audit = Arc::new(audit);
        guests.record_at(Arc::clone(&audit));
        let signing = config.identity.signer.as_ref().map(|signer| Arc::new(Signing::open(signer)));
        if let Some(signing) = &signing {
            guests.sign_with(config, Arc::clone(signing));
        }
        Ok(Self {
            readiness: Readiness::new(),
            drain: Drain::new(),
            metrics: Arc::new(metrics),
            store,
            facts: Facts::new(),
            identities,
            guests: Arc::new(guests),
            audit,
            drops: LastDrops::default(),
            _audit_writer: writer,
            https: config.https.as_ref().map(|https| Arc::new(Https::open(https))),
            signing,
            kernel,
        })
    }
}

/// Allows the process as many open files as it may have, and returns how many connections these are enough for.
fn possible_connections(wanted: usize) -> usize {
    match OpenFiles::raise().or_else(|_| OpenFiles::allowed()) {
        Ok(files) => {
            if let Some(warning) = files.warning(wanted) {
                warn!("{warning}");
            }
            files.connections(wanted)
        }
        // Then the accept loop says so when they run out.
        Err(_) => wanted,
    }
}

/// Runs the daemon until a signal ends it, or another daemon takes over. `take_over`: it takes over from a running daemon, if there is
/// one.
///
/// # Errors
/// [`AppError`] if it cannot start, or an essential part of it has ended.
pub fn run(file: &ConfigFile, take_over: bool) -> Result<(), AppError> {
    let config = &file.config;
    let log = crate::telemetry::start(&config.log)?;
    info!(version = env!("CARGO_PKG_VERSION"), pid = std::process::id(), "metadatad is starting");
    // Before there is another thread.
    let listeners = Listeners::in_store();
    // Guests' user data and passwords are in here, whatever the source.
    secret::process::forbid_core_dumps().map_err(|error| AppError::CoreDumps(error.into()))?;
    // Before there is another thread: what this one has given up, none has.
    privilege::SET_UP.enter()?;
    privilege::set_user(&config.security.user);
    privilege::set_writable(writable::places(config));
    dataplane::kernel::check()?;
    let control = Builder::new_current_thread().enable_all().on_thread_start(plain_thread).build();
    let control = control.map_err(AppError::Runtime)?;
    let ended = control.block_on(control_thread(file, log, listeners, take_over));
    // What blocks in the system's resolver is not waited for.
    control.shutdown_timeout(BLOCKING_CALLS);
    // The caller reports an error.
    if ended.is_ok() {
        info!("metadatad has stopped");
    }
    ended
}

/// Gives up privileges in a thread that looks up names or reads files for the main thread.
fn plain_thread() {
    if let Err(error) = privilege::MAIN.enter() {
        error!(error = error_text::chain(&error), "a helping thread keeps the privileges of set-up");
    }
}

/// Starts the parts in the order of this file's header, waits for a signal, and stops them.
async fn control_thread(
    file: &ConfigFile,
    log: LogFilter,
    mut listeners: Listeners,
    take_over: bool,
) -> Result<(), AppError> {
    let config = &file.config;
    let mut signals = Signals::new().map_err(AppError::Runtime)?;
    let mut taking_over = None;
    if take_over && let Some((other, kept)) = TakeOver::begin(&config.admin.socket).await? {
        listeners = Listeners::of(kept);
        taking_over = Some(other);
    }
    let shared = Shared::new(config)?;
    let mut reloader =
        Reloader::new(file.clone(), log, Arc::clone(&shared.guests), shared.kernel.clone(), shared.readiness.clone());
    // All are registered before the first is dropped.
    let [source_read, facts_reported, ports_attached] =
        ["source", "facts", "ports"].map(|name| shared.readiness.wait_for(name));
    // Subscribed before source and observers start, so that the ports miss no change.
    let changes = port::Changes::of(&shared.store, &shared.facts);

    let (socket, taking_over) = open_admin_socket(config, taking_over)?;
    let mut content = Content::start(config, &shared, source_read, facts_reported)?;
    let jwks = shared.signing.as_ref().map(|signing| signing.state());
    let exporter = config.metrics.as_ref().map(|metrics| open_exporter(metrics, &mut listeners));
    let mut exporter = exporter.map(|exporter| exporter.with_keys(jwks));
    let (successors, requests) = mpsc::channel(1);
    let view = view(&shared, &content, exporter.as_ref(), &reloader, successors);
    let exporting = exporter
        .as_mut()
        .map(|exporter| exporter.start(shared.drain.clone()))
        .transpose()
        .map_err(AppError::Runtime)?
        .flatten();
    let exporting = exporting.map(|(running, renderer)| {
        let view = Arc::clone(&view);
        // It ends with the thread that asks it.
        tokio::spawn(renderer.run(move |format| view.metrics(format)));
        running
    });
    // The socket's file is removed with this task, at the end of the runtime.
    let mut admin = tokio::spawn(admin::server::run(socket, view));
    show_status("waiting for the source and the observers");
    content::first(&shared.readiness).await;
    info!(instances = shared.store.len(), "source read");
    let (sockets, kept, kernel) = load_programs(config, listeners)?;
    let https = shared.https.clone().map(Https::keep).transpose().map_err(AppError::Runtime)?;
    let keys = shared.signing.clone().map(Signing::keep).transpose().map_err(AppError::Runtime)?;
    let refused = tokio::spawn(refused::log(shared.metrics.refused_calls.clone()));
    let mut watchdog = Watchdog::of_service_manager();
    let mut answering = answering::start(sockets, &shared, &mut watchdog).map_err(AppError::Runtime)?;
    show_status("attaching to the guests' taps");
    let pulse = watchdog.add_thread("ports", Work::Attaches);
    let (mut ports, commands, drops) = start_ports(config, &shared, kernel, changes, (ports_attached, pulse))?;
    let mut taken_over = taking_over.map(|(other, beside)| other.commit(beside, &shared)).transpose()?;
    let (writers, store) = (content.writers(), Arc::clone(&shared.store));
    let mut hand_over = HandOver { requests, ports: commands, writers, store, sockets: kept };
    // It ends with the runtime.
    let (boots, counters) = (Arc::clone(shared.guests.boots()), shared.metrics.boots.clone());
    let (matched, readiness) = (config.ports.clone(), shared.readiness.clone());
    tokio::spawn(boots::follow(boots, matched, shared.kernel.clone(), counters, readiness));
    // Every thread that needs more than this one has it by now.
    privilege::MAIN.enter()?;

    let ended = tokio::select! {
        name = signals.next(&mut reloader) => {
            info!(signal = name, "draining");
            Ok(None)
        }
        handed_over = hand_over.completed() => Ok(Some(handed_over)),
        Err(error) = take_over::failed(taken_over.as_mut()) => Err(AppError::TakeOver(error)),
        ended = &mut ports => Err(AppError::Ports(ended.unwrap_or(Err(PortsError::StoreGone)).err())),
        Some(ended) = answering.join_next() => {
            Err(AppError::Guests(ended.map_err(io::Error::other).and_then(|ended| ended).err()))
        }
        ended = &mut admin => Err(AppError::Admin(ended.map_err(io::Error::other).and_then(|ended| ended).err())),
        () = ended(content.fetching.as_mut()) => Err(AppError::VendordataEnded),
        () = stay_ready(&shared.readiness, watchdog) => Ok(None),
    };
    let successor = if matches!(ended, Ok(Some(_))) { Successor::Accepts } else { Successor::Later };
    drain(&shared.drain, *reloader.drain_timeout().get(), successor).await;
    drops.abort();
    let ended = match ended {
        Ok(Some(handed_over)) => {
            handed_over.finish(&shared.store).await;
            Ok(())
        }
        other => other.map(drop),
    };
    refused.abort();
    drop((content, https, keys, exporting));
    ended
}

/// Opens the admin socket; in a take-over, beside that of the other daemon.
fn open_admin_socket(
    config: &Config,
    taking_over: Option<TakeOver>,
) -> Result<(AdminSocket, Option<(TakeOver, Beside)>), AppError> {
    let (path, group) = (&config.admin.socket, Some(config.admin.group.as_str()));
    let Some(other) = taking_over else { return Ok((AdminSocket::open(path, group)?, None)) };
    let (socket, beside) = AdminSocket::open_beside(path, group)?;
    Ok((socket, Some((other, beside))))
}

/// Returns what the admin API and metrics show.
fn view(
    shared: &Shared,
    content: &Content,
    exporter: Option<&Exporter>,
    reloader: &Reloader,
    successors: mpsc::Sender<UnixStream>,
) -> Arc<View> {
    let release = Release::new(shared, reloader.drain_timeout());
    Arc::new(View {
        started_at: SystemTime::now(),
        readiness: shared.readiness.clone(),
        drain: shared.drain.clone(),
        store: Arc::clone(&shared.store),
        source: content.source.state(),
        accepts: content.source.accepts(),
        snapshot: content.snapshot.clone(),
        drives: content.drives(),
        vendordata: content.vendordata.clone(),
        observers: content.observers.views(),
        guests: Arc::clone(&shared.guests),
        audit: Arc::clone(&shared.audit),
        drops: shared.drops.clone(),
        https: shared.https.as_ref().map(|https| https.state()),
        signing: shared.signing.as_ref().map(|signing| signing.state()),
        kernel: shared.kernel.clone(),
        metrics: Arc::clone(&shared.metrics),
        exporter: exporter.map(Into::into),
        reload: reloader.state(),
        release,
        successors,
    })
}

/// Opens what metrics are read from, or takes it from a former daemon.
fn open_exporter(metrics: &config::Metrics, listeners: &mut Listeners) -> Exporter {
    let socket = sockets::metrics(metrics.listen, &mut listeners.kept);
    Exporter::open(metrics, socket.map(|socket| listeners.use_socket(socket)))
}

/// Makes or adopts the responder's namespace with its listening sockets, then loads the programs.
fn load_programs(
    config: &Config,
    mut listeners: Listeners,
) -> Result<(Sockets, Copies, (Dataplane, ResponderNetns)), AppError> {
    let netns = ResponderNetns::set_up(&config.responder.namespace, &config.responder.interface)?;
    // Before any program can redirect a packet to it.
    let sockets = listeners.guests(config, &netns)?;
    let copies = listeners.settle();
    let pass: Vec<_> = config.ports.pass.iter().map(|port| port.pair()).collect();
    let (bpf, xdp) = (&config.bpf, config.ports.guard == Guard::Xdp);
    let dataplane =
        Dataplane::load(&bpf.pin_dir, bpf.attach, (netns.pair(), netns.number()), netns.pair_name(), &pass, xdp)?;
    Ok((sockets, copies, (dataplane, netns)))
}

/// The result of the ports' thread, once it has ended.
type PortsEnd = oneshot::Receiver<Result<(), PortsError>>;

/// What the ports' thread takes.
type PortsCommands = mpsc::Sender<port::Request>;

/// Starts the ports' thread, and the log of dropped packets.
fn start_ports(
    config: &Config,
    shared: &Shared,
    (mut dataplane, responder): (Dataplane, ResponderNetns),
    changes: port::Changes,
    (attached, pulse): (Blocker, Pulse),
) -> Result<(PortsEnd, PortsCommands, JoinHandle<io::Result<()>>), AppError> {
    let view = PortsView::new(shared.metrics.ports.clone());
    let names = view.clone();
    let seen = audit::drops(Arc::clone(&shared.audit), view.clone(), shared.drops.clone());
    let drops = tokio::spawn(events::log(dataplane.take_events()?, move |ifindex| names.name_of(ifindex), seen));
    let (requests, inbox) = mpsc::channel(PORT_REQUESTS);
    shared.kernel.set(view.clone(), dataplane.counters(), requests.clone());
    let (identities, store) = (Arc::clone(&shared.identities), Arc::clone(&shared.store));
    let ports = Ports::new(dataplane, responder, identities, store, shared.facts.clone(), config.ports.clone(), view);
    Ok((port_thread(ports.watched(&pulse), pulse, changes, inbox, attached)?, requests, drops))
}

/// Starts the ports' thread. The receiver gets its result. The thread ends with the process: its handles of BPF links
/// must not be dropped, since that would detach the programs.
fn port_thread(
    ports: Ports,
    pulse: Pulse,
    changes: port::Changes,
    inbox: mpsc::Receiver<port::Request>,
    attached: Blocker,
) -> Result<PortsEnd, AppError> {
    let (sender, ended) = oneshot::channel();
    let worker = Worker::spawn_as(&privilege::PORTS, "ports", async move |_| {
        // On this thread: its runtime has no other.
        tokio::spawn(pulse.beat());
        // The receiver is gone during shutdown.
        let _ = sender.send(ports.run(changes, inbox, move || drop(attached)).await);
    });
    worker.map_err(AppError::Runtime)?.detach();
    Ok(ended)
}

/// Notifies the service manager when everything is ready, and keeps the process small from then on. Never completes.
async fn stay_ready(readiness: &Readiness, watchdog: Watchdog) {
    readiness.ready().await;
    info!("ready");
    notify_service_manager(&[NotifyState::Ready, NotifyState::Status("answering guests")]);
    tokio::join!(memory::keep_small(), watchdog.keep(|| notify_service_manager(&[NotifyState::Watchdog])));
}

/// Waits for requests in flight, in bounded time.
async fn drain(drain: &Drain, timeout: Duration, successor: Successor) {
    notify_service_manager(&[NotifyState::Stopping, NotifyState::Status("finishing requests in flight")]);
    if !drain.run(timeout, successor).await {
        warn!("requests still in flight after http.drain_timeout: closing their connections");
    }
}

/// Completes when the task has ended; never, if there is no task.
async fn ended(fetching: Option<&mut Fetching>) {
    match fetching {
        // Nothing is ever sent: its end is what counts.
        Some(fetching) => drop((&mut fetching.ended).await),
        None => std::future::pending().await,
    }
}

/// What `systemctl status` shows.
fn show_status(status: &str) {
    notify_service_manager(&[NotifyState::Status(status)]);
}

fn notify_service_manager(state: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(state) {
        warn!(%error, "cannot notify the service manager");
    }
}
