//! Dynamic vendor data: what the operator's services answer for each instance, prefetched.
//!
//! Promises:
//! - no guest waits for a service: guests read what the store holds; but for the targets that the configuration has asked on demand
//!   (`on_demand`);
//! - every other target is queried for every instance when its document is added or changes, and when the answer expires;
//! - after a failure the last good answer stays; without one, guests read `{}`, as from Nova;
//! - requests in flight, their time and the size of their answers are bounded, and no target can occupy all slots;
//!   back-offs and refreshes have random jitter;
//! - one line in the log when a target starts to fail, and one when it has answered for every instance again.
//!
//! Left out: keeping answers across a restart; `snapshot` does that, with the rest of the content.

pub mod cloud;
mod fetch;
mod on_demand;
mod queue;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::SystemTime;

use bytes::Bytes;
use serde_json::Value;
use tokio::sync::mpsc;
use tokio::task::{self, JoinError, JoinSet};
use tokio::time::{Instant, sleep_until};
use tracing::{info, warn};

use crate::api::vendor_data;
use crate::config;
use crate::config::target::TargetUrl;
use crate::error_text;
pub use crate::fetch::tls::TlsError;
use crate::on_demand::Ask;
use crate::record::InstanceId;
use crate::state_view::StateView;
use crate::store::{Changes, Store};
use fetch::{Client, FetchError};
use on_demand::OnDemandTargets;
use queue::{Outcome, Queue, Ticket};

/// The state of the targets, in the configuration's order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct VendordataState {
    /// The targets.
    pub targets: Vec<TargetState>,
}

/// The state of a target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TargetState {
    /// The key of its answers.
    pub name: String,
    /// Its URL, without a query.
    pub url: String,
    /// Whether it is asked when a guest reads.
    pub is_on_demand: bool,
    /// Number of instances that it is queried for ahead of time.
    pub instances: usize,
    /// Those for which the last request gave no good answer.
    pub failing: usize,
    /// Since when there are failing instances; `None`: there are none.
    pub failing_since: Option<SystemTime>,
    /// When it last gave a good answer.
    pub answered_at: Option<SystemTime>,
    /// The last error, and when it occurred.
    pub error: Option<(SystemTime, String)>,
}

/// Keeps dynamic vendor data up to date. Does nothing until [`Self::run`].
#[expect(missing_debug_implementations, reason = "holds keys of TLS")]
pub struct Vendordata {
    client: Arc<Client>,
    targets: Vec<Target>,
    /// Requests in flight, in all and to one target.
    most: (usize, usize),
    /// Index of the target that is next in turn.
    turn: usize,
    in_flight: HashMap<task::Id, (usize, Ticket)>,
    requests: JoinSet<Result<Value, FetchError>>,
    /// Those that are asked on demand.
    on_demand: OnDemandTargets,
    state: StateView<VendordataState>,
}

struct Target {
    url: Arc<TargetUrl>,
    queue: Queue,
    state: TargetState,
}

impl Vendordata {
    /// Prepares to ask the configured targets; `None` if there is none.
    ///
    /// # Errors
    /// [`TlsError`] if a target is `https` and there is no certificate to trust. The node's own may come later.
    pub fn new(cloud: &config::Cloud) -> Result<Option<Self>, TlsError> {
        let (asked, dynamic) = (cloud.asked_targets(), &cloud.vendordata_dynamic);
        if asked.is_empty() {
            return Ok(None);
        }
        let client = Arc::new(Client::new(cloud)?);
        let (on_demand, ahead): (Vec<_>, Vec<_>) = asked.iter().partition(|target| target.is_on_demand);
        let target = |target: &config::target::Target| Target {
            url: Arc::new(target.url.clone()),
            queue: Queue::new(dynamic.refresh),
            state: TargetState::of(target),
        };
        // One slot is kept for each of the others, so that a slow target cannot occupy all.
        let most_of_one = dynamic.requests.saturating_sub(ahead.len().saturating_sub(1)).max(1);
        let new = Self {
            on_demand: OnDemandTargets::new(Arc::clone(&client), on_demand.into_iter(), dynamic.requests),
            client,
            targets: ahead.into_iter().map(target).collect(),
            most: (dynamic.requests, most_of_one),
            turn: 0,
            in_flight: HashMap::new(),
            requests: JoinSet::new(),
            state: StateView::new(VendordataState::default()),
        };
        new.publish();
        Ok(Some(new))
    }

    /// Says whether the certificates that the configured targets need can be used.
    ///
    /// # Errors
    /// [`TlsError`] if one cannot.
    pub fn check(cloud: &config::Cloud) -> Result<(), TlsError> {
        if cloud.asked_targets().is_empty() { Ok(()) } else { Client::check(cloud) }
    }

    /// Returns a view of the targets' state.
    #[must_use]
    pub fn state(&self) -> StateView<VendordataState> {
        self.state.clone()
    }

    /// Returns whether some targets are asked on demand.
    #[must_use]
    pub fn has_on_demand(&self) -> bool {
        !self.on_demand.is_empty()
    }

    /// Follows the store's changes and writes answers into it, until the store is gone; and answers those who ask.
    pub async fn run(mut self, store: Arc<Store>, mut changes: Changes, mut asks: mpsc::Receiver<Ask>) {
        let body = |instance| {
            let instance = store.get(instance)?;
            Some(Bytes::from(vendor_data::request_body(instance.record())))
        };
        loop {
            let wake = self.start_due(&store);
            self.publish();
            tokio::select! {
                changed = changes.next(usize::MAX) => {
                    let Some(changed) = changed else { return };
                    for change in changed.into_iter().filter(|change| change.document) {
                        self.follow(&store, change.instance);
                    }
                }
                Some(done) = self.requests.join_next_with_id() => self.done(&store, done),
                Some(ask) = asks.recv() => self.on_demand.ask(ask, body),
                Some(done) = self.on_demand.next() => self.on_demand.done(done, body),
                () = sleep_until(wake.unwrap_or_else(Instant::now)), if wake.is_some() => {}
            }
        }
    }

    fn follow(&mut self, store: &Store, instance: InstanceId) {
        let (exists, now) = (store.get(instance).is_some(), Instant::now());
        if !exists {
            self.on_demand.remove(instance);
        }
        for target in &mut self.targets {
            if exists {
                target.queue.touch(instance, now);
            } else {
                target.queue.remove(instance);
                target.count();
            }
        }
    }

    /// Starts due requests while slots are free. Returns when the next one is due, if nothing happens before.
    fn start_due(&mut self, store: &Store) -> Option<Instant> {
        let (most, most_of_one) = self.most;
        let mut passed_over = 0;
        while passed_over < self.targets.len() {
            if self.in_flight.len() >= most {
                return None;
            }
            // Round robin, so that a free slot does not always go to the first target.
            let index = self.turn;
            self.turn = (index + 1) % self.targets.len();
            let target = &mut self.targets[index];
            let Some(ticket) = target.queue.next(Instant::now(), most_of_one) else {
                passed_over += 1;
                continue;
            };
            passed_over = 0;
            let Some(instance) = store.get(ticket.instance) else {
                // It was just removed; the change event is still to arrive.
                target.queue.give_up(ticket);
                continue;
            };
            let body = Bytes::from(vendor_data::request_body(instance.record()));
            let (client, url) = (Arc::clone(&self.client), Arc::clone(&target.url));
            let request = self.requests.spawn(async move { client.ask(&url, body).await });
            self.in_flight.insert(request.id(), (index, ticket));
        }
        self.targets.iter().filter_map(|target| target.queue.wake(most_of_one)).min()
    }

    fn done(&mut self, store: &Store, done: Result<(task::Id, Result<Value, FetchError>), JoinError>) {
        let (id, result) = match done {
            Ok((id, Ok(answer))) => (id, Ok(answer)),
            Ok((id, Err(error))) => {
                let outcome = if error.is_of_service() { Outcome::Unreachable } else { Outcome::Unusable };
                (id, Err((outcome, error_text::chain(&error))))
            }
            // A panic, which has been reported already.
            Err(error) => (error.id(), Err((Outcome::Unusable, error.to_string()))),
        };
        let Some((index, ticket)) = self.in_flight.remove(&id) else {
            return;
        };
        let target = &mut self.targets[index];
        let outcome = result.as_ref().map_or_else(|(outcome, _)| *outcome, |_| Outcome::Answered);
        // Without randomness there is no jitter, which is no reason to stop.
        let random = getrandom::u32().unwrap_or_default();
        let is_wanted = target.queue.done(ticket, outcome, Instant::now(), random);
        let now = SystemTime::now();
        match result {
            Ok(answer) => {
                target.state.answered_at = Some(now);
                if is_wanted {
                    store.set_dynamic(ticket.instance, &target.state.name, answer);
                }
            }
            Err((_, error)) => target.state.error = Some((now, error)),
        }
        target.count();
    }

    fn publish(&self) {
        let targets =
            self.targets.iter().map(|target| TargetState { instances: target.queue.len(), ..target.state.clone() });
        self.state.publish(VendordataState { targets: targets.chain(self.on_demand.states()).collect() });
    }
}

impl Target {
    /// Counts failing instances again.
    fn count(&mut self) {
        self.state.note_failing(
            self.queue.failing(),
            "a dynamic vendor data target fails: its last good answers stay served",
        );
    }
}

impl TargetState {
    fn of(target: &config::target::Target) -> Self {
        Self {
            name: target.name.clone(),
            url: target.url.to_string(),
            is_on_demand: target.is_on_demand,
            instances: 0,
            failing: 0,
            failing_since: None,
            answered_at: None,
            error: None,
        }
    }

    /// Notes how many instances are failing. Logs when a target starts to fail, with what that means, and when it recovers.
    fn note_failing(&mut self, failing: usize, consequence: &str) {
        self.failing = failing;
        match (self.failing_since, failing) {
            (None, 1..) => {
                self.failing_since = Some(SystemTime::now());
                let error = self.error.as_ref().map_or("", |(_, error)| error);
                warn!(name = self.name, url = self.url, error, "{consequence}");
            }
            (Some(_), 0) => {
                self.failing_since = None;
                info!(name = self.name, url = self.url, "a dynamic vendor data target has recovered");
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests;
