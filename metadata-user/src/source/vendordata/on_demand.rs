//! Targets that are asked when a guest reads.
//!
//! Promises:
//! - an answer is that to a request which began after the guest's, and no other guest or request gets it;
//! - requests for one instance follow one another, those in flight are bounded, and none is made for a guest that has left;
//! - an answer that says when it expires is not given afterwards; a target without a good answer reads as `{}`, as from Nova;
//! - an instance that a target refuses makes one line in the log, however often it asks and whatever others are answered;
//! - no answer is logged, shown, or kept.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::sync::Arc;
use std::time::SystemTime;

use bytes::Bytes;
use futures_util::future::join_all;
use jiff::Timestamp;
use serde_json::Value;
use tokio::sync::{Semaphore, oneshot};
use tokio::task::{self, JoinError, JoinSet};

use super::TargetState;
use super::fetch::{Client, FetchError};
use crate::api::vendor_data;
use crate::config::target::{Target, TargetUrl};
use crate::error_text;
use crate::on_demand::{Ask, Member};
use crate::record::InstanceId;

/// What guests read whose target fails.
const CONSEQUENCE: &str = "a dynamic vendor data target that is asked on demand fails: guests read {} of it";

/// Most requests of one instance that wait for the one in flight.
const MOST_WAITING: usize = 64;

/// What became of each target's request, in order.
type Outcomes = Vec<Result<(), String>>;

/// The targets, and who waits for them.
pub(super) struct OnDemandTargets {
    client: Arc<Client>,
    targets: Vec<OnDemandTarget>,
    places: Arc<Semaphore>,
    /// The instances with a request in flight, and those that wait for its end.
    waiting: HashMap<InstanceId, VecDeque<oneshot::Sender<Vec<Member>>>>,
    in_flight: HashMap<task::Id, InstanceId>,
    requests: JoinSet<Outcomes>,
}

/// One of them.
struct OnDemandTarget {
    url: Arc<TargetUrl>,
    /// The instances for which its last answer was of no use.
    failing: BTreeSet<InstanceId>,
    state: TargetState,
}

impl OnDemandTargets {
    /// At most so many instances are asked for at a time.
    pub(super) fn new<'a>(client: Arc<Client>, targets: impl Iterator<Item = &'a Target>, most: usize) -> Self {
        let targets = targets.map(|target| OnDemandTarget {
            url: Arc::new(target.url.clone()),
            failing: BTreeSet::new(),
            state: TargetState::of(target),
        });
        Self {
            client,
            targets: targets.collect(),
            places: Arc::new(Semaphore::new(most)),
            waiting: HashMap::new(),
            in_flight: HashMap::new(),
            requests: JoinSet::new(),
        }
    }

    /// Returns whether there are no targets.
    pub(super) fn is_empty(&self) -> bool {
        self.targets.is_empty()
    }

    /// Returns the targets' states.
    pub(super) fn states(&self) -> impl Iterator<Item = TargetState> {
        self.targets.iter().map(|target| target.state.clone())
    }

    /// Asks for a guest, now or after those that came before. `body` makes a request's, if there is the instance.
    pub(super) fn ask(&mut self, ask: Ask, body: impl Fn(InstanceId) -> Option<Bytes>) {
        let Some(waiting) = self.waiting.get_mut(&ask.instance) else { return self.start(ask, body) };
        if waiting.len() >= MOST_WAITING {
            // Guests may have left meanwhile.
            waiting.retain(|waits| !waits.is_closed());
        }
        // Beyond, the guest's end is dropped: it reads the document without these answers.
        if waiting.len() < MOST_WAITING {
            waiting.push_back(ask.done);
        }
    }

    /// Forgets an instance that is gone.
    pub(super) fn remove(&mut self, instance: InstanceId) {
        for target in &mut self.targets {
            if target.failing.remove(&instance) {
                target.state.note_failing(target.failing.len(), CONSEQUENCE);
            }
        }
    }

    /// Returns the next request that has ended; never, while none is in flight.
    pub(super) async fn next(&mut self) -> Option<Result<(task::Id, Outcomes), JoinError>> {
        self.requests.join_next_with_id().await
    }

    /// Notes what became of a request, and makes the next for its instance.
    pub(super) fn done(
        &mut self,
        done: Result<(task::Id, Outcomes), JoinError>,
        body: impl Fn(InstanceId) -> Option<Bytes>,
    ) {
        let (id, outcomes) = match done {
            Ok((id, outcomes)) => (id, outcomes),
            // A panic, which has been reported already.
            Err(error) => (error.id(), self.targets.iter().map(|_| Err(error.to_string())).collect()),
        };
        let Some(instance) = self.in_flight.remove(&id) else { return };
        let now = SystemTime::now();
        for (target, outcome) in self.targets.iter_mut().zip(outcomes) {
            match outcome {
                Ok(()) => {
                    target.state.answered_at = Some(now);
                    target.failing.remove(&instance);
                }
                Err(error) => {
                    target.state.error = Some((now, error));
                    target.failing.insert(instance);
                }
            }
            target.state.note_failing(target.failing.len(), CONSEQUENCE);
        }
        let mut waiting = self.waiting.remove(&instance).unwrap_or_default();
        while let Some(next) = waiting.pop_front() {
            if !next.is_closed() {
                self.start(Ask { instance, done: next }, body);
                break;
            }
        }
        if let Some(later) = self.waiting.get_mut(&instance) {
            later.append(&mut waiting);
        }
    }

    /// Makes a request, unless the instance is gone.
    fn start(&mut self, ask: Ask, body: impl Fn(InstanceId) -> Option<Bytes>) {
        let Some(body) = body(ask.instance) else { return };
        let targets: Vec<_> =
            self.targets.iter().map(|target| (Arc::clone(&target.url), target.state.name.clone())).collect();
        let (client, places, done) = (Arc::clone(&self.client), Arc::clone(&self.places), ask.done);
        let request = self.requests.spawn(async move {
            // It is never closed.
            let _place = places.acquire().await;
            if done.is_closed() {
                return Outcomes::new();
            }
            let answers = join_all(targets.iter().map(|(url, _)| client.ask(url, body.clone()))).await;
            let (mut members, mut outcomes) = (Vec::new(), Outcomes::new());
            for ((_, name), answer) in targets.into_iter().zip(answers) {
                let answer = answer.and_then(|answer| check(answer, Timestamp::now()));
                let value = answer.as_ref().map_or_else(|_| Bytes::from_static(b"{}"), vendor_data::text);
                members.push(Member { name, value });
                outcomes.push(answer.map(drop).map_err(|error| error_text::chain(&error)));
            }
            // The guest may have left; then nobody gets them.
            let _ = done.send(members);
            outcomes
        });
        self.in_flight.insert(request.id(), ask.instance);
        self.waiting.insert(ask.instance, VecDeque::new());
    }
}

/// Refuses an answer that has expired, by `expires_at` in it or in one of its members: RFC 3339, or seconds of Unix time.
fn check(answer: Value, now: Timestamp) -> Result<Value, FetchError> {
    let expires_at = |value: &Value| match value.get("expires_at")? {
        Value::String(text) => text.parse().ok(),
        number => Timestamp::from_second(number.as_i64()?).ok(),
    };
    let members = answer.as_object().into_iter().flat_map(|object| object.values());
    let first = members.chain([&answer]).filter_map(expires_at).min();
    match first {
        Some(at) if at <= now => Err(FetchError::Expired(at)),
        _ => Ok(answer),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_answer_that_has_expired_is_none() {
        let now: Timestamp = "2026-11-27T12:00:00Z".parse().expect("a time");
        for (answer, is_good) in [
            (json!({"token": "x"}), true),
            (json!({"expires_at": "2026-11-27T12:00:01Z"}), true),
            (json!({"expires_at": "2026-11-27T12:00:00Z"}), false),
            (json!({"spiffe_jwt": {"token": "x", "expires_at": "2026-11-27T13:00:00+02:00"}}), false),
            (json!({"spiffe_jwt": {"token": "x", "expires_at": now.as_second() + 1}}), true),
            (json!({"a": {"expires_at": now.as_second() + 1}, "b": {"expires_at": 1}}), false),
            (json!({"expires_at": "soon"}), true),
            (json!(["expires_at"]), true),
        ] {
            assert_eq!(check(answer.clone(), now).is_ok(), is_good, "{answer}");
        }
    }
}
