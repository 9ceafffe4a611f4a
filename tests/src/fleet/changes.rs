//! Documents that are written and changed, and how long a change takes from a put to the store of the right node.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use etcd_client::{Client, Txn, TxnOp};
use metadata_user::record::InstanceId;
use tokio::task::JoinSet;

use super::plan::{id, key};
use super::{Fleet, PATIENCE};

/// Documents that are written in one transaction: etcd takes 128 operations and 1.5 MiB.
const BATCH: usize = 100;

/// Times from a put to the store of the right node.
#[derive(Clone, Debug)]
pub struct Latencies {
    pub(super) sorted: Vec<Duration>,
    pub(super) cpu: Duration,
    pub(super) wall: Duration,
    /// Changes that another node's store saw.
    pub wrong: usize,
}

impl Latencies {
    /// Returns the time within which this share (of 1) of the changes arrived.
    #[must_use]
    pub fn quantile(&self, share: f64) -> Duration {
        let count = self.sorted.len();
        let place = (1..=count).find(|rank| *rank as f64 >= share * count as f64).unwrap_or(count);
        self.sorted.get(place.saturating_sub(1)).copied().unwrap_or_default()
    }
}

impl Fleet<'_> {
    /// Writes every document of every node.
    pub(super) async fn fill(&self, client: &mut Client) -> Result<()> {
        let all: Vec<_> = (0..self.plan.nodes)
            .flat_map(|node| (0..self.plan.instances).map(move |instance| (node, instance)))
            .collect();
        for batch in all.chunks(BATCH) {
            let puts: Vec<_> = batch
                .iter()
                .map(|&(node, instance)| TxnOp::put(key(node, instance), self.plan.document(node, instance, 0), None))
                .collect();
            client.txn(Txn::new().and_then(puts)).await.context("writing documents")?;
        }
        Ok(())
    }

    /// Changes one document after the other: the next when the former has arrived.
    pub(super) async fn change_one_by_one(&mut self, changes: usize) -> Result<Latencies> {
        let mut client = self.client().await?;
        let mut found = Vec::with_capacity(changes);
        let mut wrong = 0;
        while self.seen.try_recv().is_ok() {}
        let (cpu, begun) = (self.usage()?.cpu, Instant::now());
        for change in 0..changes {
            // Spread over nodes and instances.
            let node = change * 7919 % self.plan.nodes;
            let instance = change % self.plan.instances;
            self.written += 1;
            let document = self.plan.document(node, instance, self.written);
            let put = Instant::now();
            client.put(key(node, instance), document, None).await.context("writing a change")?;
            loop {
                let seen = tokio::time::timeout(PATIENCE, self.seen.recv()).await.context("a change did not arrive")?;
                let (at, what, when) = seen.context("the nodes ended")?;
                if (at, what) == (node, id(node, instance)?) {
                    found.push(when.saturating_duration_since(put));
                    break;
                }
                wrong += 1;
            }
            self.check(node, instance, self.written)?;
        }
        self.latencies(found, wrong, cpu, begun)
    }

    /// Changes documents at the plan's rate, whether the former ones have arrived or not.
    pub(super) async fn change_paced(&mut self) -> Result<Latencies> {
        let client = self.client().await?;
        let changes = self.plan.changes.min(self.plan.nodes * self.plan.instances);
        let mut under_way: HashMap<(usize, InstanceId), Instant> = HashMap::new();
        let mut found = Vec::with_capacity(changes);
        let mut wrong = 0;
        let mut puts: JoinSet<Result<_, etcd_client::Error>> = JoinSet::new();
        let mut ticks = tokio::time::interval(Duration::from_secs(1) / self.plan.rate.max(1));
        let (cpu, begun) = (self.usage()?.cpu, Instant::now());
        let mut next = 0;
        while found.len() < changes {
            ensure!(begun.elapsed() < PATIENCE, "{} of {changes} changes did not arrive", under_way.len());
            tokio::select! {
                seen = self.seen.recv() => {
                    let (at, what, when) = seen.context("the nodes ended")?;
                    match under_way.remove(&(at, what)) {
                        Some(put) => found.push(when.saturating_duration_since(put)),
                        None => wrong += 1,
                    }
                }
                Some(done) = puts.join_next() => { done.context("a put")?.context("writing a change")?; }
                _ = ticks.tick(), if next < changes => {
                    let (node, instance) = (next % self.plan.nodes, next / self.plan.nodes);
                    next += 1;
                    self.written += 1;
                    let document = self.plan.document(node, instance, self.written);
                    under_way.insert((node, id(node, instance)?), Instant::now());
                    let mut client = client.clone();
                    puts.spawn(async move { client.put(key(node, instance), document, None).await });
                }
                () = tokio::time::sleep(Duration::from_secs(1)) => {}
            }
        }
        self.latencies(found, wrong, cpu, begun)
    }

    fn latencies(&self, mut sorted: Vec<Duration>, wrong: usize, cpu: Duration, begun: Instant) -> Result<Latencies> {
        let wall = begun.elapsed();
        sorted.sort_unstable();
        Ok(Latencies { sorted, wrong, wall, cpu: self.usage()?.cpu.saturating_sub(cpu) })
    }
}
