//! The life of a controller: its sockets, the election, one term after another.

use std::convert::Infallible;
use std::io;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Duration;

use sd_notify::NotifyState;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc;
use tracing::{info, warn};

use super::error::ControllerError;
use super::etcd::election::{self, Candidate, Term};
use super::lead::{self, Ended};
use super::openstack::OpenStack;
use super::queue::Queue;
use super::shared::{Command, Shared, State};
use super::view::View;
use crate::admin;
use crate::admin::controller::InspectController as _;
use crate::admin::socket::AdminSocket;
use crate::admin::wire::Resigned;
use crate::backoff::{self, Backoff};
use crate::clock;
use crate::config;
use crate::config::controller::Controller;
use crate::config::etcd::host_name;
use crate::drain::Drain;
use crate::exporter::{self, Exporter};
use crate::https::Https;
use crate::secret::{Secret, process};
use crate::source::etcd::connect::Credentials;
use crate::source::vendordata::cloud;
use crate::telemetry;

/// Waits between attempts to stand for election.
const AGAIN: Backoff = Backoff::new(Duration::from_millis(200), Duration::from_secs(5), 50);
/// How long etcd is given to revoke a candidacy when the controller ends.
const REVOKED: Duration = Duration::from_millis(200);
/// How often one that waits looks who leads.
const LOOK: Duration = Duration::from_secs(2);
/// How long one that resigned stays out of the election, so that another wins it.
const STAND_ASIDE: Duration = Duration::from_secs(5);

/// Runs a controller until SIGTERM or SIGINT.
///
/// # Errors
/// [`ControllerError`] if it cannot start. What fails later is tried again, and shown.
pub fn run(settings: Controller) -> Result<(), ControllerError> {
    telemetry::start(&settings.log)?;
    process::forbid_core_dumps().map_err(|error| ControllerError::System("disabling core dumps", error.into()))?;
    for warning in settings.warnings() {
        warn!("{warning}");
    }
    let cloud = cloud::read(&settings.cloud)?;
    let socket = AdminSocket::open(&settings.admin.socket, Some(&settings.admin.group))?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|source| ControllerError::System("starting the runtime", source))?;
    let ended = runtime.block_on(async {
        let (shared, commands) = Shared::new(settings.clone(), OpenStack::new(&settings)?, cloud);
        info!(
            version = env!("CARGO_PKG_VERSION"),
            pid = std::process::id(),
            name = settings.name,
            "controller is starting"
        );
        let signals = Signals::new().map_err(|source| ControllerError::System("waiting for signals", source))?;
        let view = Arc::new(View(Arc::clone(&shared)));
        let exporting = settings.metrics.as_ref().map(|metrics| export(metrics, &shared, &view)).transpose();
        let _exporting =
            exporting.map_err(|source| ControllerError::System("starting the thread of metrics", source))?;
        let admin = tokio::spawn(admin::controller::run(socket, view));
        notify(&[NotifyState::Ready]);
        let watchdog = tokio::spawn(watchdog());
        stand(&shared, commands, signals).await;
        notify(&[NotifyState::Stopping]);
        // A candidacy that is given up is revoked in the background; until then it would hold up the next leader's election.
        tokio::time::sleep(REVOKED).await;
        watchdog.abort();
        admin.abort();
        info!("controller has stopped");
        Ok(())
    });
    runtime.shutdown_timeout(Duration::from_secs(1));
    ended
}

/// Starts to answer readers of metrics over TCP. What is returned ends that when it is dropped.
fn export(settings: &config::Metrics, shared: &Shared, view: &Arc<View>) -> io::Result<Option<exporter::Running>> {
    let socket = std::net::TcpListener::bind(settings.listen);
    let socket = socket.and_then(|socket| socket.set_nonblocking(true).map(|()| socket));
    let mut exporter = Exporter::open(settings, socket);
    shared.shown.lock().metrics_error.clone_from(&exporter.error);
    let Some((running, renderer)) = exporter.start(Drain::new())? else { return Ok(None) };
    let view = Arc::clone(view);
    tokio::spawn(renderer.run(move |format| view.metrics(format)));
    Ok(Some(running))
}

/// Reads the files that the configuration names.
///
/// # Errors
/// [`ControllerError`] for the first that cannot be used.
pub fn check(settings: &Controller) -> Result<(), ControllerError> {
    cloud::read(&settings.cloud)?;
    OpenStack::new(settings)?;
    Credentials::read(&settings.etcd).map_err(|error| ControllerError::Etcd(error.into()))?;
    let (key, file) = settings.keystone.secret_file();
    Secret::read(file).map_err(|source| ControllerError::Secret { key, source })?;
    if let Some(tls) = settings.metrics.as_ref().and_then(|metrics| metrics.tls.as_ref()) {
        Https::check_for_metrics(tls)?;
    }
    if let Some(rabbitmq) = &settings.rabbitmq {
        Secret::read(&rabbitmq.urls_file)
            .map_err(|source| ControllerError::Secret { key: "rabbitmq.urls_file", source })?;
    }
    Ok(())
}

/// The signals that end a controller.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn new() -> io::Result<Self> {
        Ok(Self { terminate: signal(SignalKind::terminate())?, interrupt: signal(SignalKind::interrupt())? })
    }

    async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
        }
    }
}

/// Stands for election again and again, and leads when it is elected, until a signal comes.
async fn stand(shared: &Shared, mut commands: mpsc::UnboundedReceiver<Command>, mut signals: Signals) {
    let settings = &shared.settings;
    let candidate = Candidate {
        name: settings.name.clone(),
        host: host_name().unwrap_or_default(),
        admin: Some(settings.admin.socket.display().to_string()),
        lease: settings.lease,
    };
    let mut failures = 0;
    loop {
        let elected = tokio::select! {
            signal = signals.next() => {
                info!(signal, "controller is stopping");
                return;
            }
            elected = election::campaign(&shared.cluster, &candidate) => elected,
            never = wait(shared, &mut commands) => match never {},
        };
        let term = match elected {
            Ok(term) => term,
            Err(error) => {
                failures += 1;
                shared.trouble(Some(format!("standing for election: {error}")));
                shared.shown.lock().state = State::Connecting;
                tokio::select! {
                    _ = signals.next() => return,
                    () = tokio::time::sleep(AGAIN.delay(failures, backoff::random())) => continue,
                }
            }
        };
        failures = 0;
        let ended = tokio::select! {
            signal = signals.next() => {
                info!(signal, "controller is stopping, and resigns");
                Ended::Stopped
            }
            ended = lead_with(shared, &term, &mut commands) => ended,
        };
        if end(shared, term, ended).await.is_break() {
            return;
        }
    }
}

async fn lead_with(shared: &Shared, term: &Term, commands: &mut mpsc::UnboundedReceiver<Command>) -> Ended {
    {
        let mut shown = shared.shown.lock();
        shown.state = State::Leading;
        shown.trouble = None;
        let Candidate { name, host, admin, .. } = term.candidate().clone();
        shown.leader = Some(election::Leader { name, host, admin, since: clock::unix() });
    }
    info!(term = term.number(), "this controller leads");
    lead::lead(shared, term, commands).await
}

/// Ends a term; and the controller, if that is to stop.
async fn end(shared: &Shared, term: Term, ended: Ended) -> ControlFlow<()> {
    shared.shown.lock().notifications = None;
    // Its jobs are gone, and so is the consumer: what was not written returns to the broker, for the next leader.
    *shared.queue.lock() = Queue::new();
    shared.table.lock().clear();
    match ended {
        Ended::Stopped => {
            if let Err(error) = term.resign().await {
                warn!("resigning: {error}; another controller leads when the lease has run out");
            }
            return ControlFlow::Break(());
        }
        Ended::Lost(why) => {
            warn!("this controller leads no more: {why}");
            step_down(shared);
        }
        Ended::Resigned(answer) => {
            let resigned = term.resign().await;
            info!("resigned, as the operator asked");
            step_down(shared);
            let found = async {
                loop {
                    if let Ok(Some(leader)) = election::leader(&shared.cluster).await {
                        return leader;
                    }
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            };
            let leader = match resigned {
                Ok(()) => tokio::time::timeout(STAND_ASIDE, found).await.ok(),
                Err(_) => None,
            };
            shared.shown.lock().leader.clone_from(&leader);
            let leader = leader.map(super::view::shown_leader);
            // The operator may not wait any more.
            let _ = answer.send(Ok(Resigned { leader }));
        }
    }
    ControlFlow::Continue(())
}

fn step_down(shared: &Shared) {
    let mut shown = shared.shown.lock();
    shown.state = State::Waiting;
    shown.leader = None;
    shown.in_step_at = None;
    shown.reason = None;
}

/// Answers the operator while another controller leads, and looks who that is.
async fn wait(shared: &Shared, commands: &mut mpsc::UnboundedReceiver<Command>) -> Infallible {
    let mut looks = tokio::time::interval(LOOK);
    looks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            command = commands.recv() => match command {
                Some(Command::Resign(answer)) => drop(answer.send(Err(shared.not_leading()))),
                Some(Command::Accept(answer)) => drop(answer.send(Err(shared.not_leading()))),
                Some(Command::Differences(_, answer)) => drop(answer.send(Err(shared.not_leading()))),
                Some(Command::Wake) => {}
                None => std::future::pending().await,
            },
            _ = looks.tick() => match election::leader(&shared.cluster).await {
                Ok(leader) => {
                    let mut shown = shared.shown.lock();
                    shown.state = State::Waiting;
                    shown.leader = leader;
                    drop(shown);
                    shared.trouble(None);
                }
                Err(error) => shared.trouble(Some(format!("looking who leads: {error}"))),
            },
        }
    }
}

/// Notifies the service manager that this thread runs.
async fn watchdog() {
    let Some(time) = sd_notify::watchdog_enabled() else { return };
    let mut beats = tokio::time::interval(time / 2);
    loop {
        beats.tick().await;
        notify(&[NotifyState::Watchdog]);
    }
}

fn notify(state: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(state) {
        warn!(%error, "cannot notify the service manager");
    }
}
