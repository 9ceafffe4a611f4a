//! What etcd has of documents, and since when: a watch of all of them.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use etcd_client::{Client, EventType, WatchOptions};
use parking_lot::Mutex;
use serde_json::Value;
use uuid::Uuid;

use crate::wait;

const PREFIX: &str = "/metadatad/nodes/";

/// The documents, as far as etcd has shown them.
pub(super) struct Documents {
    client: Client,
    seen: Arc<Mutex<Seen>>,
}

#[derive(Default)]
struct Seen {
    documents: HashMap<Uuid, BTreeMap<String, Document>>,
    error: Option<String>,
}

struct Document {
    sequence: String,
    bytes: usize,
    at: Instant,
}

impl Documents {
    /// Begins to follow an etcd that has none.
    pub(super) async fn follow(endpoints: &[String]) -> Result<Self> {
        let mut client = Client::connect(endpoints, None).await.context("connecting to etcd")?;
        let options = WatchOptions::new().with_prefix();
        let mut stream = client.watch(PREFIX, Some(options)).await.context("watching etcd")?;
        let seen = Arc::new(Mutex::new(Seen::default()));
        let shared = Arc::clone(&seen);
        tokio::spawn(async move {
            loop {
                match stream.message().await {
                    Ok(Some(answer)) => answer.events().iter().for_each(|event| shared.lock().note(event)),
                    Ok(None) => return shared.lock().error = Some("etcd ended the watch".to_owned()),
                    Err(error) => return shared.lock().error = Some(error.to_string()),
                }
            }
        });
        Ok(Self { client, seen })
    }

    /// Returns the number of instances that have documents.
    pub(super) fn len(&self) -> usize {
        self.seen.lock().documents.len()
    }

    /// Returns the hosts that have an instance's document, ascending.
    pub(super) fn hosts(&self, id: Uuid) -> Vec<String> {
        self.seen.lock().documents.get(&id).into_iter().flat_map(|hosts| hosts.keys().cloned()).collect()
    }

    /// Returns whether these hosts, and no others, have a document with this sequence.
    pub(super) fn is(&self, id: Uuid, hosts: &[String], sequence: &str) -> bool {
        let seen = self.seen.lock();
        let Some(found) = seen.documents.get(&id) else { return false };
        found.keys().eq(hosts) && found.values().all(|document| document.sequence == sequence)
    }

    /// Waits until instances have documents with this sequence. Returns how long after `since` each had it.
    pub(super) fn wait(
        &self,
        since: Instant,
        ids: &[Uuid],
        sequence: &str,
        patience: Duration,
    ) -> Result<Vec<Duration>> {
        wait::until_within(patience, &format!("{} documents have the sequence {sequence}", ids.len()), || {
            let seen = self.seen.lock();
            if let Some(error) = &seen.error {
                anyhow::bail!("following etcd: {error}");
            }
            let of = |id: &Uuid| {
                let mut hosts = seen.documents.get(id)?.values();
                let all = hosts.len() > 0 && hosts.all(|document| document.sequence == sequence);
                let last = seen.documents.get(id)?.values().map(|document| document.at).max()?;
                all.then(|| last.saturating_duration_since(since))
            };
            Ok(ids.iter().map(of).collect())
        })
    }

    /// Returns the mean size of a document, in bytes.
    pub(super) fn mean_size(&self) -> usize {
        let seen = self.seen.lock();
        let all = seen.documents.values().flat_map(BTreeMap::values);
        let (count, sum) = all.fold((0, 0), |(count, sum), document| (count + 1, sum + document.bytes));
        sum.checked_div(count).unwrap_or(0)
    }

    /// Returns the size of etcd's database, in bytes.
    pub(super) async fn database(&self) -> Result<u64> {
        let size = self.client.clone().status().await.context("asking etcd for its size")?.db_size();
        Ok(u64::try_from(size).unwrap_or(0))
    }
}

impl Seen {
    fn note(&mut self, event: &etcd_client::Event) {
        let Some(pair) = event.kv() else { return };
        let key = String::from_utf8_lossy(pair.key());
        let Some((host, id)) = key.strip_prefix(PREFIX).and_then(|rest| rest.split_once("/instances/")) else { return };
        let Ok(id) = id.parse() else { return };
        if event.event_type() == EventType::Put {
            let document: Value = serde_json::from_slice(pair.value()).unwrap_or_default();
            let sequence = document["metadata"]["sequence"].as_str().unwrap_or_default().to_owned();
            let document = Document { sequence, bytes: pair.value().len(), at: Instant::now() };
            self.documents.entry(id).or_default().insert(host.to_owned(), document);
        } else if let Some(hosts) = self.documents.get_mut(&id) {
            hosts.remove(host);
            if hosts.is_empty() {
                self.documents.remove(&id);
            }
        }
    }
}
