//! What controllers write to etcd, version by version, as etcd itself tells it.
//!
//! Promises: every version of every key from the start on is seen once, in the order of the writes; who leads is read from the keys of the
//! election as etcd does, without a controller being asked.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use etcd_client::{Client, EventType, WatchOptions};
use serde_json::Value;
use tokio::sync::oneshot;

use super::World;
use crate::netns::Namespace;
use crate::wait;

const PREFIX: &str = "/metadatad/";
const ELECTION: &str = "/metadatad/controller/election/";
const NODES: &str = "/metadatad/nodes/";

/// A record of what is written. It ends when it is dropped.
#[derive(Debug)]
pub struct History {
    state: Arc<Mutex<State>>,
    end: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct State {
    /// Candidates by the revision at which they stood: the first one leads.
    candidates: BTreeMap<i64, (String, String)>,
    /// Leaders in order, and when etcd said so.
    leaders: Vec<(String, Instant)>,
    /// Values of each document's property `value`, version by version, and of no document's.
    values: BTreeMap<String, Vec<Option<u64>>>,
    error: Option<String>,
}

impl History {
    /// Starts to record, for a world of one member or more.
    ///
    /// # Errors
    /// If there is no thread.
    pub fn start(world: &World<'_>) -> Result<Self> {
        let state = Arc::<Mutex<State>>::default();
        let (end, ended) = oneshot::channel();
        let namespace = Namespace::existing(world.node.namespace().name());
        let (endpoints, shared) = (world.endpoints.clone(), Arc::clone(&state));
        let thread = std::thread::Builder::new().name("history".to_owned()).spawn(move || {
            if let Err(error) = record(&namespace, endpoints, &shared, ended) {
                lock(&shared).error = Some(format!("{error:#}"));
            }
        })?;
        Ok(Self { state, end: Some(end), thread: Some(thread) })
    }

    /// Returns who leads.
    #[must_use]
    pub fn leader(&self) -> Option<String> {
        lock(&self.state).candidates.first_key_value().map(|(_, (_, name))| name.clone())
    }

    /// Waits until this controller leads. Returns how long after a moment etcd said so.
    ///
    /// # Errors
    /// If it does not come.
    pub fn wait_leader(&self, name: &str, since: Instant) -> Result<Duration> {
        wait::until(&format!("{name} leads"), || {
            let state = lock(&self.state);
            if let Some(error) = &state.error {
                bail!("the history has ended: {error}");
            }
            let last = state.leaders.last().filter(|(leader, at)| leader == name && *at >= since);
            Ok(last.map(|(_, at)| at.duration_since(since)))
        })
    }

    /// Returns the values of the property `value` that a document had, version by version.
    ///
    /// # Errors
    /// If the record has ended, or the document was removed or had no such value after it had one.
    pub fn values(&self, host: &str, server: &str) -> Result<Vec<u64>> {
        let state = lock(&self.state);
        if let Some(error) = &state.error {
            bail!("the history has ended: {error}");
        }
        let values = state.values.get(&format!("{host}/instances/{server}")).cloned().unwrap_or_default();
        let values = values.into_iter().skip_while(Option::is_none);
        values.collect::<Option<Vec<u64>>>().context("a version without the property")
    }
}

impl Drop for History {
    fn drop(&mut self) {
        drop(self.end.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

fn record(
    namespace: &Namespace,
    endpoints: Vec<String>,
    state: &Mutex<State>,
    mut ended: oneshot::Receiver<()>,
) -> Result<()> {
    namespace.enter()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let mut client = Client::connect(endpoints, None).await?;
        let options = WatchOptions::new().with_prefix().with_start_revision(1);
        let mut watch = client.watch(PREFIX, Some(options)).await?;
        loop {
            let message = tokio::select! {
                message = watch.message() => message?.context("the watch ended")?,
                _ = &mut ended => return Ok(()),
            };
            anyhow::ensure!(!message.canceled(), "etcd has ended the watch: {}", message.cancel_reason());
            let (now, mut state) = (Instant::now(), lock(state));
            for event in message.events() {
                let pair = event.kv().context("an event without a key")?;
                let is_put = event.event_type() == EventType::Put;
                let value = is_put.then(|| serde_json::from_slice(pair.value()).unwrap_or_default());
                state.note(pair.key_str()?, pair.create_revision(), value, now);
            }
        }
    })
}

impl State {
    fn note(&mut self, key: &str, created: i64, value: Option<Value>, now: Instant) {
        if key.starts_with(ELECTION) {
            let name = |value: &Value| value["name"].as_str().unwrap_or_default().to_owned();
            match &value {
                Some(value) => drop(self.candidates.insert(created, (key.to_owned(), name(value)))),
                None => self.candidates.retain(|_, (candidate, _)| candidate != key),
            }
            let leader = self.candidates.first_key_value().map(|(_, (_, name))| name);
            if let Some(leader) = leader.filter(|leader| self.leaders.last().map(|(last, _)| last) != Some(*leader)) {
                self.leaders.push((leader.clone(), now));
            }
        } else if let Some(place) = key.strip_prefix(NODES) {
            let value = value.and_then(|document| document["metadata"]["value"].as_str()?.parse().ok());
            self.values.entry(place.to_owned()).or_default().push(value);
        }
    }
}
