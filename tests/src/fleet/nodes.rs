//! The nodes of a fleet: the daemon's etcd source with a store, many on a thread.

use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc as std_mpsc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use metadata_user::app;
use metadata_user::config::{Config, Source};
use metadata_user::readiness::Readiness;
use metadata_user::record::InstanceId;
use metadata_user::source::SourceView;
use metadata_user::source::etcd::Etcd as EtcdSource;
use metadata_user::store::Store;
use tokio::runtime::Builder;
use tokio::sync::{mpsc, oneshot};
use tokio::task::LocalSet;

use super::plan::{host_name, id, node_name};
use super::{Fleet, PATIENCE};
use crate::netns::Namespace;

/// A node that runs: its store, and the state of its source.
pub(super) struct Node {
    pub(super) store: Arc<Store>,
    pub(super) state: SourceView,
}

impl Node {
    /// Tells whether it follows etcd and has missed nothing.
    pub(super) fn in_step(&self) -> bool {
        let state = self.state.get();
        state.synced_at.is_some() && state.lagging_since.is_none() && state.endpoints.iter().any(|one| one.in_use)
    }
}

/// A change in a node's store: which node, which instance, and when.
pub(super) type Seen = (usize, InstanceId, Instant);

impl Fleet<'_> {
    /// Starts the nodes, and waits until each runs, though not until it has read anything.
    pub(super) fn start_nodes(&mut self) -> Result<()> {
        let (started, nodes) = std_mpsc::channel();
        let namespace = self.namespace.name().to_owned();
        for first in 0..self.plan.threads {
            let numbers: Vec<_> = (first..self.plan.nodes).step_by(self.plan.threads).collect();
            let settings =
                numbers.iter().map(|number| config(*number, &self.etcd.endpoints())).collect::<Result<Vec<_>>>()?;
            let (stop, stopped) = oneshot::channel();
            let (started, sender, namespace) = (started.clone(), self.sender.clone(), namespace.clone());
            let thread = std::thread::spawn(move || {
                Namespace::existing(&namespace).enter()?;
                run_nodes(numbers.into_iter().zip(settings), &started, &sender, stopped)
            });
            self.threads.push((stop, thread));
        }
        drop(started);
        let mut numbered: Vec<(usize, Node)> = Vec::new();
        while numbered.len() < self.plan.nodes {
            numbered.push(nodes.recv_timeout(PATIENCE).context("a node did not start")?);
        }
        numbered.sort_by_key(|(number, _)| *number);
        self.nodes = numbered.into_iter().map(|(_, node)| node).collect();
        Ok(())
    }

    /// Waits until every node is in step.
    pub(super) async fn wait_in_step(&self, what: &str) -> Result<()> {
        let begun = Instant::now();
        while !self.nodes.iter().all(Node::in_step) {
            ensure!(begun.elapsed() < PATIENCE, "waited {PATIENCE:?} in vain: {what}");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        Ok(())
    }

    /// Checks that a node's store holds a change.
    pub(super) fn check(&self, node: usize, instance: usize, change: usize) -> Result<()> {
        let held = self.nodes[node].store.get(id(node, instance)?).context("the instance is gone")?;
        let expected = host_name(node, instance, change);
        let found = &held.record().hostname;
        ensure!(**found == *expected, "node {node} holds {found} instead of {expected}");
        Ok(())
    }
}

/// Runs some nodes on this thread until they are stopped.
fn run_nodes(
    nodes: impl Iterator<Item = (usize, metadata_user::config::etcd::Etcd)>,
    started: &std_mpsc::Sender<(usize, Node)>,
    sender: &mpsc::UnboundedSender<Seen>,
    stopped: oneshot::Receiver<()>,
) -> Result<()> {
    let runtime = Builder::new_current_thread().enable_all().build().context("starting a runtime")?;
    let local = LocalSet::new();
    for (number, settings) in nodes {
        let store = Arc::new(Store::new(app::cloud(&Config::default().cloud)?));
        let mut changes = store.subscribe();
        let (state, following) =
            EtcdSource::follow(settings, Arc::clone(&store), None, Readiness::new().wait_for("source"));
        local.spawn_local(following);
        let sender = sender.clone();
        local.spawn_local(async move {
            while let Some(changed) = changes.next(usize::MAX).await {
                let seen = Instant::now();
                if changed.into_iter().any(|change| sender.send((number, change.instance, seen)).is_err()) {
                    break;
                }
            }
        });
        if started.send((number, Node { store, state })).is_err() {
            bail!("the fleet has ended");
        }
    }
    local.block_on(&runtime, async {
        // A sender that was dropped stops them too.
        let _ = stopped.await;
    });
    Ok(())
}

fn config(number: usize, endpoints: &[String]) -> Result<metadata_user::config::etcd::Etcd> {
    let text =
        format!("[source]\nkind = 'etcd'\n[source.etcd]\nendpoints = {endpoints:?}\nnode = '{}'\n", node_name(number));
    match Config::parse(Path::new("fleet.toml"), &text)?.source {
        Source::Etcd(settings) => Ok(settings),
        other => bail!("another source: {other:?}"),
    }
}
