//! Documents as keys of etcd, as the etcd source reads them: `<prefix>/nodes/<node>/instances/<uuid>`.
//!
//! Promises:
//! - a change is written by compare-and-swap on the key's revision: whoever lost a race decides anew on what is stored
//!   then, so no change of another writer is lost, whatever program it is;
//! - a list is one state of the cluster: all its pages are read at one revision.
//!
//! Left out: values near etcd's limit of a request (1.5 MiB, `--max-request-bytes`): etcd refuses those.

use std::future::Future;
use std::time::Duration;

use etcd_client::{Client, Compare, CompareOp, Error, GetOptions, KeyValue, KvClient, Txn, TxnOp};
use tokio::runtime::{Builder, Runtime};

use super::change::{ATTEMPTS, Decide, Decision, Outcome, Stored};
use crate::cli::error::instance::InstanceError;
use crate::config::etcd::Etcd;
use crate::record::InstanceId;
use crate::source::etcd::cluster::{LARGEST_ANSWER, after};
use crate::source::etcd::connect::connect;
use crate::source::etcd::error::EtcdError;

/// Documents in one answer at first; fewer where they are large.
const PAGE: i64 = 256;

/// A cluster's keys.
#[derive(Debug)]
pub(super) struct Keys {
    settings: Etcd,
    node: String,
    runtime: Runtime,
}

impl Keys {
    /// Prepares to read and write the documents of a node; nothing is sent yet.
    pub(super) fn new(settings: &Etcd, node: Option<&str>) -> Result<Self, InstanceError> {
        let node = node.unwrap_or(&settings.node).to_owned();
        if node.is_empty() || node.contains('/') || !node.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(InstanceError::Node(node));
        }
        let runtime = Builder::new_current_thread().enable_all().build().map_err(InstanceError::Runtime)?;
        Ok(Self { settings: settings.clone(), node, runtime })
    }

    pub(super) fn place(&self) -> String {
        format!("etcd under {}", self.settings.node_prefix(&self.node))
    }

    /// Returns all documents, by key.
    pub(super) fn list(&self, all_nodes: bool) -> Result<Vec<Stored>, InstanceError> {
        let prefix =
            if all_nodes { format!("{}/nodes/", self.settings.prefix) } else { self.settings.node_prefix(&self.node) };
        let pairs = self.talk(async |client| self.read_all(&client, &prefix).await)?;
        Ok(pairs.iter().filter_map(|pair| self.stored(pair)).collect())
    }

    /// Returns an instance's document.
    pub(super) fn find(&self, id: InstanceId) -> Result<Option<Stored>, InstanceError> {
        self.talk(async |client| self.look(&client, id).await)
    }

    /// Changes an instance's document as `decide` says.
    pub(super) fn change(&self, id: InstanceId, decide: &mut Decide<'_>) -> Result<Outcome, InstanceError> {
        self.talk(async |mut client| {
            let key = self.settings.key(&self.node, id);
            for attempt in 0..ATTEMPTS {
                let stored = self.look(&client, id).await?;
                let revision = stored.as_ref().and_then(|stored| stored.revision).unwrap_or(0);
                let (operation, outcome) = match (decide(stored.as_ref())?, &stored) {
                    (Decision::Leave, _) | (Decision::Remove, None) => return Ok(Outcome::Unchanged),
                    (Decision::Remove, Some(_)) => (TxnOp::delete(key.clone(), None), Outcome::Deleted),
                    (Decision::Write(bytes), Some(stored)) if stored.bytes.as_deref() == Ok(&bytes) => {
                        return Ok(Outcome::Unchanged);
                    }
                    (Decision::Write(bytes), stored) => {
                        let outcome = if stored.is_some() { Outcome::Changed } else { Outcome::Created };
                        (TxnOp::put(key.clone(), bytes, None), outcome)
                    }
                };
                // A missing key has the revision 0.
                let unchanged = Compare::mod_revision(key.clone(), CompareOp::Equal, revision);
                let swap = Txn::new().when([unchanged]).and_then([operation]);
                if client.txn(swap).await.map_err(|error| self.refused(&error, "write"))?.succeeded() {
                    return Ok(outcome);
                }
                // Those who race with each other part.
                tokio::time::sleep(Duration::from_millis(u64::from(attempt))).await;
            }
            Err(InstanceError::Raced { id, attempts: ATTEMPTS })
        })
    }

    async fn look(&self, client: &Client, id: InstanceId) -> Result<Option<Stored>, InstanceError> {
        let answer = reader(client).get(self.settings.key(&self.node, id), None).await;
        let answer = answer.map_err(|error| self.refused(&error, "read"))?;
        Ok(answer.kvs().first().and_then(|pair| self.stored(pair)))
    }

    async fn read_all(&self, client: &Client, prefix: &str) -> Result<Vec<KeyValue>, InstanceError> {
        let end = GetOptions::new().with_prefix();
        let mut pairs: Vec<KeyValue> = Vec::new();
        let (mut page, mut revision) = (PAGE, 0);
        loop {
            let mut options = end.clone().with_limit(page).with_revision(revision);
            let start = match pairs.last() {
                None => prefix.as_bytes().to_vec(),
                Some(last) => {
                    options = GetOptions::new().with_range(after(prefix)).with_limit(page).with_revision(revision);
                    [last.key(), &[0]].concat()
                }
            };
            let mut answer = match reader(client).get(start, Some(options)).await {
                Ok(answer) => answer,
                Err(error) if page > 1 && EtcdError::of(&error, self.settings.table, prefix) == EtcdError::TooLarge => {
                    page /= 2;
                    continue;
                }
                Err(error) => return Err(self.refused(&error, "read")),
            };
            revision =
                answer.header().map_or(revision, |header| if revision == 0 { header.revision() } else { revision });
            let more = answer.more();
            pairs.append(&mut answer.take_kvs());
            if !more {
                return Ok(pairs);
            }
        }
    }

    /// Returns a document; `None` if the key is not one of an instance.
    fn stored(&self, pair: &KeyValue) -> Option<Stored> {
        let name = String::from_utf8_lossy(pair.key()).into_owned();
        let rest = name.strip_prefix(&format!("{}/nodes/", self.settings.prefix))?;
        let (node, id) = rest.split_once("/instances/")?;
        // One spelling only, as the source has it: what the daemon refuses is not shown as good.
        let id = id.parse().ok().filter(|parsed: &InstanceId| parsed.to_string() == id);
        let node = node.to_owned();
        let bytes = match id {
            Some(_) => Ok(pair.value().to_vec()),
            None => Err("the last part of the key is not an instance's UUID in lower case; rename the key, or delete \
                         it with etcdctl"
                .to_owned()),
        };
        Some(Stored { id, name, node: Some(node), revision: Some(pair.mod_revision()), bytes })
    }

    /// Connects, and does what is to be done.
    fn talk<T, F: Future<Output = Result<T, InstanceError>>>(
        &self,
        work: impl FnOnce(Client) -> F,
    ) -> Result<T, InstanceError> {
        self.runtime.block_on(async {
            let client = connect(&self.settings).await.map_err(InstanceError::Connect)?;
            work(client).await
        })
    }

    fn refused(&self, error: &Error, what: &'static str) -> InstanceError {
        InstanceError::Etcd {
            what,
            prefix: self.settings.prefix.clone(),
            trouble: EtcdError::of(error, self.settings.table, &self.settings.prefix),
        }
    }
}

/// As the source receives answers: etcd can be configured to take larger documents than its default.
fn reader(client: &Client) -> KvClient {
    client.kv_client().max_decoding_message_size(LARGEST_ANSWER)
}
