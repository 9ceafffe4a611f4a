//! A controller's metrics, made of what its status shows.

use super::shared::Shared;
use crate::admin::wire::ControllerStatus;
use crate::metrics::process;
use crate::metrics::state::controller as declared;
use crate::metrics::state::{self, State};

/// Returns everything that applies now.
pub(super) fn read(shared: &Shared, status: &ControllerStatus) -> State {
    let mut state = State::default();
    state.say(&state::BUILD, &status.version);
    state.set(&declared::LEADING, flag(status.state == "leading"));
    state.set(&declared::PROBLEMS, size(status.problems.len()));
    state.set(&declared::OTHER_CLOUD, flag(status.state == "leading" && shared.shown.lock().is_other_cloud));
    let instances = &status.instances;
    let unread = instances.known.saturating_sub(instances.documents + instances.with_pages);
    for (fidelity, count) in [("document", instances.documents), ("pages", instances.with_pages), ("unread", unread)] {
        state.set_for(&declared::KNOWN, fidelity, size(count));
    }
    state.set(&declared::FAILED, size(instances.failed));
    state.set(&declared::BACKLOG, size(status.backlog));
    state.set(&declared::OLDEST, seconds(status.oldest_change_ms.unwrap_or(0)));
    for (histogram, lag) in [(&declared::LAG, &shared.lag), (&declared::READING, &shared.reading)] {
        let lag = lag.lock();
        state.set_histogram(histogram, &lag.buckets(), lag.sum());
    }
    let etcd = &status.etcd;
    for (result, count) in [
        ("written", etcd.documents),
        ("unchanged", etcd.unchanged),
        ("removed", etcd.removed),
        ("overwritten", etcd.overwritten),
    ] {
        state.set_for(&declared::WRITES, result, number(count));
    }
    state.set(&declared::WRITE_FAILURES, number(etcd.failed));
    for of in shared.openstack.states() {
        let service = of.service.as_str();
        state.set_for(&declared::REQUESTS, service, number(of.requests));
        state.set_for(&declared::REQUEST_FAILURES, service, number(of.failures));
        state.set_for(&declared::IN_FLIGHT, service, size(of.in_flight));
        state.set_for(&declared::SERVICE_UP, service, flag(of.error.is_none()));
    }
    if let Some(heard) = status.notifications.as_ref().filter(|_| status.state == "leading") {
        state.set(&declared::CONNECTED, flag(heard.connected_since.is_some()));
        for (result, count) in [("read", heard.read), ("ignored", heard.ignored), ("malformed", heard.malformed)] {
            state.set_for(&declared::NOTIFICATIONS, result, number(count));
        }
        state.set(&declared::GAPS, number(heard.gaps));
    }
    state.set_if(&declared::LISTED, status.reconcile.listed_at.map(number));
    state.set_for(&declared::PASSWORDS, "passed_on", number(status.passwords.passed_on));
    state.set_for(&declared::PASSWORDS, "failed", number(status.passwords.failed));
    process::read(&mut state, status.started_at);
    state
}

#[expect(clippy::cast_precision_loss, reason = "counts stay below 2^53")]
fn number(value: u64) -> f64 {
    value as f64
}

fn size(value: usize) -> f64 {
    number(value as u64)
}

fn seconds(milliseconds: u64) -> f64 {
    number(milliseconds) / 1000.0
}

fn flag(is: bool) -> f64 {
    f64::from(u8::from(is))
}
