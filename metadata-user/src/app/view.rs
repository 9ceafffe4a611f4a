//! The daemon as the admin API shows it: core types in, wire types out.

mod boots;
mod config_drive;
mod evidence;
mod metrics;
mod named;
mod ports;
mod preview;
mod security;
mod waiting;

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::time::SystemTime;

use tokio::sync::mpsc;

use super::drops::LastDrops;
use crate::admin::preview::GuestRequest;
use crate::admin::wait::WaitFor;
use crate::admin::wire::{
    self, Broken, Endpoint, Http, Https, InstanceAccess, InstanceAnomalies, Password, PortCounters, PortStatus,
    Security, Snapshot, Source, Status, TokenlessClient, UserData, Vendordata, VendordataTarget,
};
use crate::admin::{
    Accepting, ConfigDriveError, Inspect, NoInstance, PasswordError, Previewing, Releasing, Tracing, Waiting,
};
use crate::api::Content;
use crate::audit::Audit;
use crate::clock::unix_of;
use crate::config_drive::KeeperState;
use crate::drain::Drain;
use crate::error_text;
use crate::exporter::Exporter;
use crate::facts::report::{ObserverState, ObserverView};
use crate::http::Guests;
use crate::https::HttpsState;
use crate::metrics::{Fault, Format, Metrics};
use crate::port::{GuardState, PortState};
use crate::readiness::Readiness;
use crate::record::InstanceId;
use crate::signing::SigningState;
use crate::snapshot::SnapshotState;
use crate::source::vendordata::VendordataState;
use crate::source::{Accepts, EndpointState, SourceState, SourceView};
use crate::state_view::StateView;
use crate::store::{ClearedPassword, Store};

use super::kernel::Kernel;
use super::release::{Release, Released};
use super::reload::ReloadState;

/// The parts of the daemon that the admin API shows.
pub(super) struct View {
    pub(super) started_at: SystemTime,
    pub(super) readiness: Readiness,
    pub(super) drain: Drain,
    pub(super) store: Arc<Store>,
    pub(super) source: SourceView,
    pub(super) accepts: Accepts,
    pub(super) snapshot: Option<StateView<SnapshotState>>,
    pub(super) drives: Option<StateView<KeeperState>>,
    pub(super) vendordata: Option<StateView<VendordataState>>,
    pub(super) observers: Vec<ObserverView>,
    pub(super) guests: Arc<Guests>,
    pub(super) audit: Arc<Audit>,
    pub(super) drops: LastDrops,
    pub(super) https: Option<StateView<HttpsState>>,
    pub(super) signing: Option<StateView<SigningState>>,
    pub(super) kernel: Kernel,
    pub(super) metrics: Arc<Metrics>,
    pub(super) exporter: Option<ExporterView>,
    pub(super) reload: StateView<ReloadState>,
    pub(super) release: Release,
    /// Connections of daemons that ask to take over.
    pub(super) successors: mpsc::Sender<UnixStream>,
}

/// Metrics over TCP, as they are shown.
pub(super) struct ExporterView {
    listen: SocketAddr,
    error: Option<String>,
    https: Option<StateView<HttpsState>>,
}

impl From<&Exporter> for ExporterView {
    fn from(exporter: &Exporter) -> Self {
        let https = exporter.https.as_ref().map(|https| https.state());
        Self { listen: exporter.listen, error: exporter.error.clone(), https }
    }
}

/// Returns the page of metrics, docs/metrics.md.
#[must_use]
pub fn metrics_page() -> String {
    metrics::page()
}

impl Inspect for View {
    fn security(&self) -> io::Result<Security> {
        security::security()
    }

    fn status(&self) -> Status {
        let (mut ports, mut widened, mut guard) = (BTreeMap::new(), 0, wire::PortsGuard::default());
        for (_, port) in self.kernel.ports() {
            match port.guard {
                GuardState::Off => {}
                GuardState::Xdp => guard.xdp += 1,
                GuardState::Missing { name, .. } => *guard.missing.entry(name.to_owned()).or_insert(0) += 1,
            }
            widened += usize::from(matches!(&port.state, PortState::Bound(bound) if bound.warning.is_some()));
            *ports.entry(ports::state(&port.state).name().to_owned()).or_insert(0) += 1;
        }
        let repairs = self.kernel.repairs();
        let released = self.release.state();
        let waiting_for: Vec<_> = self.readiness.pending().into_iter().map(str::to_owned).collect();
        Status {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            pid: std::process::id(),
            started_at: unix_of(self.started_at),
            ready: waiting_for.is_empty() && released.is_none(),
            released: released.as_ref().as_ref().map(self::released),
            waiting_for,
            draining: self.drain.has_begun() && released.is_none(),
            source: source(&self.source.get()),
            snapshot: self.snapshot.as_ref().map(|state| snapshot(&state.get(), &self.source.get())),
            config_drives: self.drives.as_ref().map(|state| config_drive::state(&state.get())),
            vendordata: self.vendordata.as_ref().map(|state| vendordata(&state.get())),
            ports,
            ports_disagreements: self.kernel.disagreements(),
            ports_widened: widened,
            ports_guard: (guard != wire::PortsGuard::default()).then_some(guard),
            ports_repaired: repairs.iter().filter(|(repair, _)| repair.is_program()).map(|(_, count)| count).sum(),
            repairs: repairs.iter().map(|(repair, count)| (repair.name().to_owned(), *count)).collect(),
            faults: self.kernel.faults().into_iter().map(fault).collect(),
            facts: self.observers.iter().map(|state| observer(&state.get())).collect(),
            http: http(&self.guests),
            audit: audit(&self.audit),
            anomalies: self.audit.watch().totals().map(|(anomaly, count)| (anomaly.name().to_owned(), count)).collect(),
            https: self.https.as_ref().map(|state| https(&state.get())),
            identity: self.signing.as_ref().map(|state| identity(&state.get(), &self.guests)),
            reload: reload(&self.reload.get()),
            metrics: self.exporter.as_ref().map(|exporter| wire::Metrics {
                listen: exporter.listen.to_string(),
                error: exporter.error.as_deref().map(error_text::one_line),
                tls: exporter.https.as_ref().map(|state| https(&state.get())),
            }),
        }
    }

    fn ports(&self) -> Vec<PortStatus> {
        self.kernel.ports().into_iter().map(|(ifindex, port)| ports::port_status(ifindex, port)).collect()
    }

    fn counters(&self) -> Vec<PortCounters> {
        let counted = self.kernel.counters().into_iter().map(|(ifindex, name, counters)| PortCounters {
            ifindex: ifindex.0,
            tap: name.clone(),
            name,
            packets: ports::packets(&counters),
        });
        counted.collect()
    }

    fn anomalies(&self) -> Vec<InstanceAnomalies> {
        let shown = self.audit.watch().all().into_iter().map(|(instance, seen)| InstanceAnomalies {
            instance: instance.to_string(),
            project: self.store.served(instance).and_then(|content| content.project().map(ToString::to_string)),
            anomalies: seen
                .into_iter()
                .map(|seen| wire::Anomaly {
                    kind: seen.anomaly.name().to_owned(),
                    count: seen.count,
                    last_at: seen.last_at,
                })
                .collect(),
        });
        shown.collect()
    }

    fn boots(&self) -> Vec<wire::PortBoots> {
        boots::read(self)
    }

    fn evidence(&self) -> wire::Evidence {
        evidence::read(self)
    }

    fn source(&self) -> Source {
        source(&self.source.get())
    }

    fn accept_source(&self) -> Accepting<'_> {
        Box::pin(async { self.accepts.accept().await.map_err(|error| error.to_string()) })
    }

    fn password(&self, instance: &str) -> Result<Password, PasswordError> {
        let id = instance.parse::<InstanceId>().map_err(|_| NoInstance)?;
        let content = self.store.served(id).ok_or(NoInstance)?;
        Ok(Password::new(id.to_string(), content.password()))
    }

    fn clear_password(&self, instance: &str) -> Result<Password, PasswordError> {
        let id = instance.parse::<InstanceId>().map_err(|_| NoInstance)?;
        match self.store.clear_password(id) {
            ClearedPassword::Cleared | ClearedPassword::None => Ok(Password::new(id.to_string(), None)),
            ClearedPassword::InDocument => Err(PasswordError::InDocument),
            ClearedPassword::KeptByNova => Err(PasswordError::KeptByNova),
            ClearedPassword::NoInstance => Err(NoInstance.into()),
        }
    }

    fn user_data(&self, instance: &str) -> Result<UserData, NoInstance> {
        let id = instance.parse::<InstanceId>().map_err(|_| NoInstance)?;
        self.store.served(id).ok_or(NoInstance)?;
        Ok(UserData { instance: id.to_string(), read_at: self.store.user_data_read(id) })
    }

    fn reset_user_data(&self, instance: &str) -> Result<UserData, NoInstance> {
        let id = instance.parse::<InstanceId>().map_err(|_| NoInstance)?;
        let is_known = self.store.reset_user_data(id);
        is_known.then(|| UserData { instance: id.to_string(), read_at: None }).ok_or(NoInstance)
    }

    fn access(&self) -> Vec<InstanceAccess> {
        let mut all = self.store.all();
        all.sort_unstable_by_key(Content::uuid);
        all.iter().map(|content| instance_access(content, &self.guests)).collect()
    }

    fn preview(&self, asked: GuestRequest) -> Previewing<'_> {
        Box::pin(self.read_as_guest(asked))
    }

    fn guest_attributes(&self, instance: &str) -> Result<wire::GuestAttributes, NoInstance> {
        let id = instance.parse::<InstanceId>().map_err(|_| NoInstance)?;
        self.store.served(id).ok_or(NoInstance)?;
        let attributes = self.store.attributes(id).map(|attributes| attributes.texts()).unwrap_or_default();
        Ok(wire::GuestAttributes { instance: id.to_string(), attributes })
    }

    fn jwks(&self) -> Option<String> {
        self.signing.as_ref().map(|state| state.get().jwks.clone())
    }

    fn config_drive(&self, instance: &str) -> Result<wire::ConfigDrive, ConfigDriveError> {
        self.config_drive_of(instance)
    }

    fn wait(&self, asked: WaitFor) -> Waiting<'_> {
        Box::pin(async move {
            let instance = asked.instance.parse::<InstanceId>().map_err(|_| NoInstance)?;
            Ok(self.wait_for(instance, &asked).await)
        })
    }

    fn metrics(&self, format: Format) -> String {
        self.metrics.text(format, metrics::read(self))
    }

    fn release(&self) -> Releasing<'_> {
        Box::pin(async { self.release.run().await.map(|released| self::released(&released)) })
    }

    /// One at a time: another is refused. A daemon that is still starting hands over once it answers guests.
    fn take_over(&self, stream: UnixStream) -> bool {
        self.successors.try_send(stream).is_ok()
    }

    fn trace(&self, port: String, lines: mpsc::Sender<String>) -> Tracing<'_> {
        Box::pin(self.kernel.trace(port, lines))
    }
}

fn fault((fault, problem): (Fault, String)) -> wire::Fault {
    wire::Fault { what: fault.name().to_owned(), problem: error_text::one_line(&problem) }
}

fn released(released: &Released) -> wire::Released {
    let left = released
        .left
        .iter()
        .map(|left| wire::NotReleased { tap: left.tap.clone(), problem: error_text::one_line(&left.reason) });
    wire::Released { at: unix_of(released.at), taps: released.taps, cut: released.cut, left: left.collect() }
}

fn source(state: &SourceState) -> Source {
    let broken = state.broken.iter().map(|document| Broken {
        name: document.name.clone(),
        line: document.line,
        column: document.column,
        problem: document.problem.clone(),
        serves_last_good: document.serves_last_good,
    });
    Source {
        kind: state.kind.to_owned(),
        place: state.place.clone(),
        synced_at: state.synced_at.map(unix_of),
        instances: state.instances,
        broken: broken.collect(),
        error: state.error.clone(),
        lagging_since: state.lagging_since.map(unix_of),
        changed_at: state.changed_at.map(unix_of),
        revision: state.revision,
        cluster: state.cluster.clone(),
        endpoints: state.endpoints.iter().map(endpoint).collect(),
        resyncs: state.resyncs,
        unconfirmed: state.unconfirmed.iter().map(ToString::to_string).collect(),
    }
}

fn endpoint(state: &EndpointState) -> Endpoint {
    Endpoint {
        url: state.url.clone(),
        in_use: state.in_use,
        answered_at: state.answered_at.map(unix_of),
        failing_since: state.error.as_ref().map(|(since, _)| unix_of(*since)),
        error: state.error.as_ref().map(|(_, error)| error_text::one_line(error)),
    }
}

fn snapshot(state: &SnapshotState, source: &SourceState) -> Snapshot {
    Snapshot {
        path: state.path.display().to_string(),
        written_at: state.written_at.map(unix_of),
        bytes: state.bytes,
        instances: state.instances,
        error: state.error.clone(),
        refused: state.refused.clone(),
        restored: state.restored.as_ref().map(|restored| crate::admin::wire::Restored {
            instances: restored.instances,
            as_of: unix_of(restored.as_of),
            confirmed: source.synced_at.is_some(),
        }),
    }
}

fn vendordata(state: &VendordataState) -> Vendordata {
    let targets: Vec<_> = state
        .targets
        .iter()
        .map(|target| VendordataTarget {
            name: target.name.clone(),
            url: target.url.clone(),
            on_demand: target.is_on_demand,
            instances: target.instances,
            failing: target.failing,
            failing_since: target.failing_since.map(unix_of),
            answered_at: target.answered_at.map(unix_of),
            failed_at: target.error.as_ref().map(|(at, _)| unix_of(*at)),
            error: target.error.as_ref().map(|(_, error)| error_text::one_line(error)),
        })
        .collect();
    let failing = targets.iter().filter(|target| target.failing > 0).count();
    Vendordata { reachable: targets.len() - failing, failing, targets }
}

fn observer(state: &ObserverState) -> wire::Observer {
    let unreachable_ports = state.unreachable_ports.iter().map(|device| wire::UnreachablePort {
        device: device.device.clone(),
        instance: device.instance.to_string(),
        kind: device.kind.clone(),
    });
    wire::Observer {
        name: state.observer.name().to_owned(),
        place: state.place.clone(),
        present: state.present,
        since: unix_of(state.since),
        facts: state.facts,
        error: state.error.as_deref().map(error_text::one_line),
        unreadable: state.unreadable.iter().map(|problem| error_text::one_line(problem)).collect(),
        unreachable_ports: unreachable_ports.collect(),
    }
}

fn instance_access(content: &Content, guests: &Guests) -> InstanceAccess {
    let access = guests.policy(&content.policy()).access;
    let usage = guests.usages().view(content.uuid()).unwrap_or_default();
    let mut unprivileged: BTreeMap<_, _> =
        usage.unprivileged.iter().map(|(subject, count)| (subject.name().to_owned(), *count)).collect();
    unprivileged.insert("everything".to_owned(), usage.unprivileged.iter().map(|(_, count)| count).sum());
    let clients = usage.clients.iter().map(|client| TokenlessClient {
        user_agent: client.agent.escape_ascii().to_string(),
        requests: client.requests,
        last_seen: client.last_seen,
    });
    InstanceAccess {
        instance: content.uuid().to_string(),
        session: access.session.name().to_owned(),
        privileged: access.privileged.names().map(str::to_owned).collect(),
        unprivileged,
        refused_unprivileged: usage.refused_unprivileged,
        tokens_issued: usage.issued,
        with_token: usage.with_token,
        without_token: usage.without_token,
        refused_token: usage.refused_token,
        clients: clients.collect(),
        clients_forgotten: usage.forgotten,
    }
}

fn http(guests: &Guests) -> Http {
    let counters = guests.counters();
    Http {
        open: guests.open(),
        accepted: counters.accepted.get(),
        refused_unknown: counters.refused_unknown.get(),
        refused_port_limit: counters.refused_port_limit.get(),
        refused_instance_limit: counters.refused_instance_limit.get(),
        refused_total_limit: counters.refused_total_limit.get(),
        gave_way: counters.gave_way.get(),
        binding_ended: counters.binding_ended.get(),
        timed_out: counters.timed_out.get(),
        malformed: counters.malformed.get(),
        handshake_failed: counters.handshake_failed.get(),
        waited: counters.waited.get(),
        waiting: guests.waiting(),
        waits_refused: counters.waits_refused.get(),
        limited: counters.limited.get(),
        claimed_identity: counters.claimed_identity.get(),
        unanswered: counters.unanswered.get(),
        tokens_issued: counters.tokens_issued.get(),
        denied: counters.denials().map(|(reason, count)| (reason.to_owned(), count)).collect(),
        answers: counters.answers().collect(),
    }
}

fn audit(audit: &Audit) -> Option<wire::Audit> {
    let log = audit.log()?;
    let counters = log.counters();
    Some(wire::Audit {
        written: counters.written.get(),
        lost_queue_full: counters.lost_queue_full.get(),
        lost_write_failed: counters.lost_write_failed.get(),
        left_out: counters.left_out.get(),
        error: log.state().get().error.clone(),
    })
}

fn reload(state: &ReloadState) -> Option<wire::Reload> {
    Some(wire::Reload {
        at: unix_of(state.at?),
        error: state.error.clone(),
        applied: state.applied.clone(),
        restart_needed: state.restart_needed.clone(),
    })
}

fn identity(state: &SigningState, guests: &Guests) -> wire::Identity {
    let counters = guests.counters();
    wire::Identity {
        key_ids: state.key_ids.clone(),
        loaded_at: state.loaded_at.map(unix_of),
        error: state.error.as_deref().map(error_text::one_line),
        tokens: counters.identity_tokens.get(),
        documents: counters.identity_documents.get(),
        refused: counters.signatures_refused().map(|(reason, count)| (reason.to_owned(), count)).collect(),
    }
}

fn https(state: &HttpsState) -> Https {
    Https {
        loaded_at: state.loaded_at.map(unix_of),
        not_after: state.not_after.map(unix_of),
        error: state.error.as_deref().map(error_text::one_line),
    }
}
