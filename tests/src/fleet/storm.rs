//! A return of etcd: it is killed and started, and all nodes come back at once.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use etcd_client::CompactionOptions;

use super::nodes::Node;
use super::{Fleet, PATIENCE};

/// What a return of etcd cost.
#[derive(Clone, Debug)]
pub struct Storm {
    pub(super) first: Duration,
    pub(super) half: Duration,
    /// From etcd's start until the last node was in step.
    pub last: Duration,
    pub(super) cpu: Duration,
    pub(super) peak: u64,
    /// Nodes that had to read everything again.
    pub resyncs: u64,
}

impl Fleet<'_> {
    /// Kills etcd, starts it again, and watches all nodes come back at once.
    pub(super) async fn storm(&mut self, compacted: bool) -> Result<Storm> {
        if compacted {
            let mut client = self.client().await?;
            // Beyond what any node has seen.
            client.put("fleet", "", None).await.context("writing a key that no node reads")?;
            let put = client.put("fleet", "", None).await.context("writing a key that no node reads")?;
            let revision = put.header().context("an answer without a header")?.revision();
            client.compact(revision, Some(CompactionOptions::new().with_physical())).await.context("compacting")?;
        }
        let before: Vec<u64> = self.nodes.iter().map(|node| node.state.get().resyncs).collect();
        // A watch of a compacted revision lasts for a moment, until etcd refuses it.
        let is_back =
            |(node, before): &(&Node, &u64)| node.in_step() && (!compacted || node.state.get().resyncs > **before);
        self.etcd.kill(0)?;
        let begun = Instant::now();
        while self.nodes.iter().any(Node::in_step) {
            ensure!(begun.elapsed() < PATIENCE, "a node did not notice that etcd is gone");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        // The nodes' back-off grows meanwhile.
        tokio::time::sleep(self.plan.down).await;
        let begun = Instant::now();
        self.etcd.start(0)?;
        let (mut first, mut half) = (None, None);
        let last = loop {
            let count = self.nodes.iter().zip(&before).filter(is_back).count();
            let now = begun.elapsed();
            if count > 0 {
                first.get_or_insert(now);
            }
            if count * 2 >= self.nodes.len() {
                half.get_or_insert(now);
            }
            if count == self.nodes.len() {
                break now;
            }
            ensure!(now < PATIENCE, "only {count} nodes came back");
            tokio::time::sleep(Duration::from_millis(5)).await;
        };
        let usage = self.usage()?;
        let resyncs = self.nodes.iter().map(|node| node.state.get().resyncs).sum::<u64>() - before.iter().sum::<u64>();
        // They really follow again, and each its own documents.
        let after = self.change_one_by_one(self.plan.changes.min(50)).await?;
        ensure!(after.wrong == 0, "{} changes reached another node after the storm", after.wrong);
        Ok(Storm {
            first: first.unwrap_or(last),
            half: half.unwrap_or(last),
            last,
            cpu: usage.cpu,
            peak: usage.peak,
            resyncs,
        })
    }
}
