//! Guest attributes, written through to etcd for readers elsewhere: `<prefix>/attributes/<node>/<uuid>` holds those of an instance, in
//! JSON, by namespace and key.
//!
//! Promises:
//! - a guest never waits for etcd: what it writes is the node's at once, and etcd's as soon as that answers;
//! - of several changes meanwhile the newest is written, and each instance's key goes with its attributes, or with the instance;
//! - a node whose guests write none asks etcd nothing;
//! - no log has a value.
//!
//! Left out: reading them back. An instance that moves to another node writes its own again, or has none there.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use tokio::time::{Duration, sleep};
use tracing::{info, warn};

use super::cluster::{Cluster, ClusterError};
use crate::backoff::{self, Backoff};
use crate::config::etcd::Etcd;
use crate::record::{Attributes, InstanceId};
use crate::store::{Change, Store};

/// Delays after requests that failed.
const DELAYS: Backoff = Backoff::new(Duration::from_millis(500), Duration::from_secs(30), 50);

/// Writes attributes.
struct Writer {
    cluster: Cluster,
    store: Arc<Store>,
    /// What etcd has, as far as this daemon has written it.
    written: HashMap<InstanceId, Arc<Attributes>>,
    /// What may differ from that.
    due: BTreeSet<InstanceId>,
    /// Requests in a row that failed.
    failures: u32,
}

/// Writes attributes through, until the store is gone.
pub(super) async fn run(settings: Etcd, store: Arc<Store>) {
    let mut changes = store.subscribe();
    let restored = store.kept().into_iter().filter(|kept| kept.attributes.is_some());
    let due = restored.map(|kept| kept.content.uuid()).collect();
    let cluster = Cluster::new(&settings);
    let mut writer = Writer { cluster, store, written: HashMap::new(), due, failures: 0 };
    loop {
        let pause = writer.write_due().await;
        tokio::select! {
            changed = changes.next(usize::MAX) => match changed {
                Some(changed) => writer.note(&changed),
                None => return,
            },
            () = sleep(pause.unwrap_or_default()), if pause.is_some() => {}
        }
    }
}

impl Writer {
    fn note(&mut self, changed: &[Change]) {
        for id in changed.iter().map(|change| change.instance) {
            if self.store.attributes(id).as_ref() != self.written.get(&id) {
                self.due.insert(id);
            }
        }
    }

    /// Writes what is due. Returns how long to wait before what could not be written is tried again; `None`: all was.
    async fn write_due(&mut self) -> Option<Duration> {
        while let Some(&id) = self.due.first() {
            match self.write(id).await {
                Ok(()) => {
                    self.due.remove(&id);
                    if std::mem::take(&mut self.failures) > 0 {
                        info!("guest attributes are written to etcd again");
                    }
                }
                Err(error) => {
                    if self.failures == 0 {
                        let prefix = prefix(self.cluster.settings());
                        let remedy = if error.is_refused() {
                            format!("; the node's role needs readwrite on {prefix}")
                        } else {
                            String::new()
                        };
                        warn!("guest attributes cannot be written to etcd, and are tried again: {error}{remedy}");
                    }
                    self.failures = self.failures.saturating_add(1);
                    return Some(DELAYS.delay(self.failures, backoff::random()));
                }
            }
        }
        None
    }

    /// Makes etcd's key what the store has.
    async fn write(&mut self, id: InstanceId) -> Result<(), ClusterError> {
        let (cluster, attributes) = (&self.cluster, self.store.attributes(id));
        let key = key(cluster.settings(), id);
        match attributes {
            Some(attributes) => {
                let text = serde_json::json!(attributes.texts()).to_string();
                let put = |mut client: etcd_client::Client| {
                    let (key, text) = (key.clone(), text.clone());
                    async move { client.put(key, text, None).await }
                };
                cluster.request(cluster.limit(), put).await?;
                self.written.insert(id, attributes);
            }
            None => {
                let delete = |mut client: etcd_client::Client| {
                    let key = key.clone();
                    async move { client.delete(key, None).await }
                };
                cluster.request(cluster.limit(), delete).await?;
                self.written.remove(&id);
            }
        }
        Ok(())
    }
}

/// Returns what the keys of this node start with.
fn prefix(settings: &Etcd) -> String {
    format!("{}/attributes/{}/", settings.prefix, settings.node)
}

fn key(settings: &Etcd, id: InstanceId) -> String {
    format!("{}{id}", prefix(settings))
}
