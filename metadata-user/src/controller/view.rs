//! What a controller shows of itself, and what the operator may ask of it.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use tokio::sync::oneshot;

use super::etcd::election;
use super::metrics;
use super::notifications::Kind;
use super::openstack::ServiceState;
use super::queue::{self, Urgency};
use super::shared::{Command, Shared, State};
use super::table::Entry;
use crate::admin::controller::{Acting, ControllerProblem, InspectController};
use crate::admin::wire::{
    ControlledInstance, ControllerDifference, ControllerStatus, Instances, Lag, Leader, Notifications, PageBeside,
    Passwords, Reconcile, Reread, Resigned, Service, Written,
};
use crate::clock::unix_of;
use crate::metrics::{Format, Metrics};
use crate::record::InstanceId;

/// A controller, as its admin API shows it.
pub(super) struct View(pub(super) Arc<Shared>);

impl InspectController for View {
    fn status(&self) -> ControllerStatus {
        status(&self.0)
    }

    fn instances(&self) -> Result<Vec<ControlledInstance>, ControllerProblem> {
        self.check_leading()?;
        let table = self.0.table.lock();
        Ok(table.iter().map(|(id, entry)| instance(id, entry)).collect())
    }

    fn reread(&self, instance: Option<InstanceId>) -> Result<Reread, ControllerProblem> {
        self.check_leading()?;
        let instances = match instance {
            // Nova may know one that was not listed yet.
            Some(id) => self.0.push([id], Urgency::Change),
            None => {
                let all: Vec<InstanceId> = self.0.table.lock().iter().map(|(id, _)| id).collect();
                self.0.push(all, Urgency::Slow)
            }
        };
        Ok(Reread { instances })
    }

    fn differences(&self, instance: InstanceId) -> Acting<'_, Vec<ControllerDifference>> {
        self.ask(|answer| Command::Differences(instance, answer))
    }

    fn resign(&self) -> Acting<'_, Resigned> {
        self.ask(Command::Resign)
    }

    fn accept(&self) -> Acting<'_, ()> {
        self.ask(Command::Accept)
    }

    fn metrics(&self, format: Format) -> String {
        Metrics::state_text(format, metrics::read(&self.0, &status(&self.0)))
    }
}

impl View {
    fn check_leading(&self) -> Result<(), ControllerProblem> {
        let is_leading = self.0.shown.lock().state == State::Leading;
        if is_leading { Ok(()) } else { Err(self.0.not_leading()) }
    }

    fn ask<T: Send + 'static>(
        &self,
        command: impl FnOnce(oneshot::Sender<Result<T, ControllerProblem>>) -> Command,
    ) -> Acting<'_, T> {
        let (sender, answer) = oneshot::channel();
        self.0.command(command(sender));
        Box::pin(async move {
            answer.await.unwrap_or_else(|_| Err(ControllerProblem::Failed("the controller is ending".to_owned())))
        })
    }
}

fn status(shared: &Shared) -> ControllerStatus {
    let now = Instant::now();
    let states = shared.openstack.states();
    let services: Vec<Service> = states.iter().map(service).collect();
    let etcd = etcd(shared);
    let notifications = notifications(shared);
    let backlog = shared.queue.lock().backlog();
    let (counts, an_error) = {
        let table = shared.table.lock();
        (table.counts(), table.an_error().map(str::to_owned))
    };
    let lag = {
        let (lag, reading) = (shared.lag.lock(), shared.reading.lock());
        let quantile = |of: &queue::Lag, hundredths| of.quantile(hundredths).map_or(0, milliseconds);
        Lag {
            changes: lag.count(),
            p50_ms: quantile(&lag, 50),
            p99_ms: quantile(&lag, 99),
            reading_p50_ms: quantile(&reading, 50),
            reading_p99_ms: quantile(&reading, 99),
        }
    };
    let shown = shared.shown.lock();
    let mut status = ControllerStatus {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        pid: std::process::id(),
        started_at: unix_of(shared.started_at),
        name: shared.settings.name.clone(),
        state: shown.state.as_str().to_owned(),
        leader: shown.leader.clone().map(shown_leader),
        problems: Vec::new(),
        etcd,
        services,
        notifications,
        instances: Instances {
            known: counts.known,
            documents: counts.documents,
            with_pages: counts.with_pages,
            failed: counts.failed,
        },
        backlog: backlog.changed + backlog.slow,
        oldest_change_ms: backlog.oldest_change.map(|since| milliseconds(now.saturating_duration_since(since))),
        lag,
        reconcile: Reconcile {
            listed_at: shown.listed_at.map(unix_of),
            servers: shown.servers,
            in_step_at: shown.in_step_at.map(unix_of),
            reason: shown.reason.clone(),
        },
        passwords: Passwords { passed_on: shown.passwords.passed_on, failed: shown.passwords.failed },
    };
    if let Some((trouble, _)) = &shown.trouble {
        status.problems.push(trouble.clone());
    }
    status.problems.extend(shown.metrics_error.iter().map(|error| format!("metrics: {error}")));
    let is_leading = shown.state == State::Leading;
    drop(shown);
    let slow = states.iter().filter(|state| state.error.is_none());
    let slow = slow.filter_map(|state| state.slow.map(|took| state.service.slow(took))).collect();
    problems(&mut status, is_leading, slow, an_error);
    status
}

/// Adds what is wrong, in a line each, with the remedy: also of services that answer, and are `slow`; and `an_error` of those instances
/// that are not in step.
fn problems(status: &mut ControllerStatus, is_leading: bool, slow: Vec<String>, an_error: Option<String>) {
    let mut found = std::mem::take(&mut status.problems);
    let mut add = |problem: &str| {
        if !found.iter().any(|known| known.contains(problem)) {
            found.push(problem.to_owned());
        }
    };
    if let Some(error) = &status.etcd.error {
        add(error);
    }
    // What another one reads is that one's to tell.
    if is_leading {
        status.services.iter().filter_map(|service| service.error.as_deref()).for_each(&mut add);
        slow.iter().for_each(|line| add(line));
        if let Some(error) = status.notifications.as_ref().and_then(|heard| heard.error.as_deref()) {
            add(&format!("notifications from RabbitMQ: {error}"));
        }
        let subject = match status.instances.failed {
            0 => None,
            1 => Some("1 instance is".to_owned()),
            failed => Some(format!("{failed} instances are")),
        };
        // What is wrong with a service is said already.
        let an_error = an_error.filter(|_| status.services.iter().all(|service| service.error.is_none()));
        match (subject, an_error) {
            (None, _) => {}
            (Some(subject), None) => add(&format!("{subject} not in step: `metadatad controller list` says why")),
            (Some(subject), Some(error)) => {
                add(&format!("{subject} not in step (`metadatad controller list` says why): {error}"));
            }
        }
    }
    status.problems = found;
}

fn milliseconds(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// Returns a leader as it is shown.
pub(super) fn shown_leader(leader: election::Leader) -> Leader {
    Leader { name: leader.name, since: leader.since }
}

fn etcd(shared: &Shared) -> Written {
    let state = shared.cluster.state();
    let counts = shared.writer.counts();
    let settings = &shared.settings.etcd;
    let endpoint = state.endpoint.unwrap_or_else(|| settings.endpoints.join(", "));
    let (error, failing_since) = state.error.map(|(since, error)| (error, unix_of(since))).unzip();
    Written {
        place: format!("{endpoint} {}", settings.prefix),
        documents: counts.written,
        unchanged: counts.unchanged,
        removed: counts.removed,
        overwritten: counts.overwritten,
        failed: shared.shown.lock().write_failures,
        failing_since,
        error,
    }
}

fn service(state: &ServiceState) -> Service {
    let urls: Vec<&str> = state.endpoints.iter().map(|endpoint| &*endpoint.url).collect();
    let (since, error) = state.error.clone().unzip();
    Service {
        name: state.service.as_str().to_owned(),
        place: if urls.is_empty() { "not known yet".to_owned() } else { urls.join(", ") },
        reads: state.requests,
        failures: state.failures,
        in_flight: state.in_flight as u64,
        failing_since: since.map(unix_of),
        error,
    }
}

fn notifications(shared: &Shared) -> Option<Notifications> {
    shared.settings.rabbitmq.as_ref()?;
    let view = shared.shown.lock().notifications.clone();
    let Some(view) = view else { return Some(Notifications::default()) };
    let (connection, counts) = (view.connection(), view.counts());
    let (place, connected_since) = connection.connected.unzip();
    let mut error = connection.last_error.filter(|_| connected_since.is_none());
    if error.is_none() && !connection.missing_exchanges.is_empty() {
        let missing = connection.missing_exchanges.join(", ");
        let text = format!(
            "RabbitMQ has no exchange {missing}, so no notification comes from there: look at the options of docs/controller.md, and \
             at rabbitmq.nova_exchange and rabbitmq.neutron_exchange"
        );
        error = Some((text, connected_since.unwrap_or(SystemTime::now())));
    }
    let (error, since) = error.unzip();
    let (last_gap, last_gap_at) = counts.last_gap.as_ref().map(|(why, at)| (why.to_string(), unix_of(*at))).unzip();
    let (ignored, malformed) = (counts.of(Kind::Ignored), counts.of(Kind::Malformed) + counts.of(Kind::TooLong));
    Some(Notifications {
        place: place.unwrap_or_default(),
        connected_since: connected_since.map(unix_of),
        last_at: counts.last_message.map(unix_of),
        read: counts.messages.iter().sum::<u64>().saturating_sub(ignored + malformed),
        ignored,
        malformed,
        gaps: counts.gaps.iter().map(|(_, count)| count).sum(),
        last_gap,
        last_gap_at,
        failing_since: since.map(unix_of),
        error,
    })
}

fn instance(id: InstanceId, entry: &Entry) -> ControlledInstance {
    let fidelity = match &entry.beside {
        None => "unread",
        Some(pages) if pages.is_empty() => "document",
        Some(_) => "pages",
    };
    let pages = entry.beside.iter().flatten();
    ControlledInstance {
        instance: id.to_string(),
        project: entry.project.as_ref().map(ToString::to_string),
        nodes: entry.nodes.iter().cloned().collect(),
        status: entry.status.clone(),
        fidelity: fidelity.to_owned(),
        pages: pages.map(|(path, reason)| PageBeside { path: path.clone(), reason: reason.clone() }).collect(),
        read_at: entry.read_at.map(unix_of),
        error: entry.error.clone(),
    }
}
