//! A simulated fleet: the etcd source of many nodes in one process, on one real etcd.
//!
//! Promises: each node is the daemon's own source with a store, a connection and a watch of its own; what is measured is
//! from a writer's put to the store of the right node, and a change that another node sees is counted. Everything listens
//! on the loopback of a namespace that the lab made.
//!
//! Left out: taps, guests and the network between nodes and etcd. Nodes share this machine's cores with etcd, so its own
//! figures are worse here than on a machine of its own.

mod changes;
mod figures;
mod nodes;
mod plan;
mod storm;

use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use etcd_client::Client;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use tokio::runtime::Builder;
use tokio::sync::{mpsc, oneshot};

pub use self::changes::Latencies;
pub use self::figures::Figures;
pub use self::plan::Plan;
pub use self::storm::Storm;

use self::nodes::{Node, Seen};
use crate::etcd::{Etcd, EtcdPlan};
use crate::netns::Namespace;
use crate::usage::{Usage, usage};

/// How long anything may take.
const PATIENCE: Duration = Duration::from_secs(300);

/// Builds the fleet, measures, and takes it down.
///
/// # Errors
/// If anything does not arrive in time.
pub fn measure(plan: &Plan) -> Result<Figures> {
    raise_file_limit()?;
    let namespace = Namespace::create("fleet")?;
    namespace.run(|| {
        let etcd = EtcdPlan::default().on_disk().argument("--log-level=warn").start(&namespace)?;
        let runtime = Builder::new_current_thread().enable_all().build().context("starting a runtime")?;
        let mut fleet = Fleet::new(plan, &namespace, etcd)?;
        let figures = runtime.block_on(fleet.measure())?;
        fleet.end();
        Ok(figures)
    })
}

struct Fleet<'a> {
    plan: &'a Plan,
    namespace: &'a Namespace,
    etcd: Etcd,
    nodes: Vec<Node>,
    seen: mpsc::UnboundedReceiver<Seen>,
    sender: mpsc::UnboundedSender<Seen>,
    threads: Vec<(oneshot::Sender<()>, JoinHandle<Result<()>>)>,
    written: usize,
}

impl<'a> Fleet<'a> {
    fn new(plan: &'a Plan, namespace: &'a Namespace, etcd: Etcd) -> Result<Self> {
        ensure!(plan.nodes > 0 && plan.instances > 0 && plan.threads > 0, "a fleet of nothing");
        let (sender, seen) = mpsc::unbounded_channel();
        Ok(Self { plan, namespace, etcd, nodes: Vec::new(), seen, sender, threads: Vec::new(), written: 0 })
    }

    async fn measure(&mut self) -> Result<Figures> {
        let mut client = self.client().await?;
        self.fill(&mut client).await?;
        let database = client.status().await.context("asking etcd for its size")?.db_size();
        let filled = self.usage()?;
        let begun = Instant::now();
        self.start_nodes()?;
        self.wait_in_step("every node has read its documents").await?;
        let loaded = begun.elapsed();
        for (number, node) in self.nodes.iter().enumerate() {
            ensure!(node.store.len() == self.plan.instances, "node {number} has {} instances", node.store.len());
        }
        let idle = self.usage()?;
        let fleet = usage(std::process::id())?;
        let alone = self.change_one_by_one(self.plan.changes).await?;
        let paced = self.change_paced().await?;
        let after = self.usage()?;
        let resumed = self.storm(false).await?;
        let compacted = self.storm(true).await?;
        Ok(Figures {
            plan: self.plan.clone(),
            document: self.plan.document(0, 0, 0).len(),
            database,
            filled,
            loaded,
            load_cpu: idle.cpu.saturating_sub(filled.cpu),
            idle,
            fleet,
            alone,
            paced,
            after,
            resumed,
            compacted,
        })
    }

    fn end(self) {
        for (stop, thread) in self.threads {
            // It may have ended by itself, and said so.
            let _ = stop.send(());
            let _ = thread.join();
        }
    }

    async fn client(&self) -> Result<Client> {
        Client::connect(self.etcd.endpoints(), None).await.context("connecting to etcd")
    }

    fn usage(&self) -> Result<Usage> {
        usage(self.etcd.id(0).context("etcd does not run")?)
    }
}

fn raise_file_limit() -> Result<()> {
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).context("asking for the limit of open files")?;
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard).context("raising the limit of open files")
}
