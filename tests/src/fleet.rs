//! A simulated fleet: the etcd source of many nodes in one process, on one real etcd.
//!
//! Promises: each node is the daemon's own source with a store, a connection and a watch of its own; what is measured is
//! from a writer's put to the store of the right node, and a change that another node sees is counted. Everything listens
//! on the loopback of a namespace that the lab made.
//!
//! Left out: taps, guests and the network between nodes and etcd. Nodes share this machine's cores with etcd, so its own
//! figures are worse here than on a machine of its own.

use std::collections::HashMap;
use std::fmt;
use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc as std_mpsc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use etcd_client::{Client, CompactionOptions, Txn, TxnOp};
use metadata_user::app;
use metadata_user::config::{Config, Source};
use metadata_user::readiness::Readiness;
use metadata_user::record::InstanceId;
use metadata_user::source::SourceView;
use metadata_user::source::etcd::Etcd as EtcdSource;
use metadata_user::store::Store;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use serde_json::json;
use tokio::runtime::Builder;
use tokio::sync::{mpsc, oneshot};
use tokio::task::{JoinSet, LocalSet};

use crate::etcd::{Etcd, EtcdPlan};
use crate::netns::Namespace;

/// How long anything may take.
const PATIENCE: Duration = Duration::from_secs(300);
/// Documents that are written in one transaction: etcd takes 128 operations and 1.5 MiB.
const BATCH: usize = 100;

/// What the fleet is to be.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Nodes.
    pub nodes: usize,
    /// Instances of each.
    pub instances: usize,
    /// Changes to measure, one after the other, and as many at a pace.
    pub changes: usize,
    /// Changes per second, when paced.
    pub rate: u32,
    /// How long etcd stays away in a storm.
    pub down: Duration,
    /// Threads that the nodes share.
    pub threads: usize,
}

/// Times from a put to the store of the right node.
#[derive(Clone, Debug)]
pub struct Latencies {
    sorted: Vec<Duration>,
    cpu: Duration,
    wall: Duration,
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

/// What a return of etcd cost.
#[derive(Clone, Debug)]
pub struct Storm {
    first: Duration,
    half: Duration,
    /// From etcd's start until the last node was in step.
    pub last: Duration,
    cpu: Duration,
    peak: u64,
    /// Nodes that had to read everything again.
    pub resyncs: u64,
}

/// A process at a moment.
#[derive(Clone, Copy, Debug, Default)]
struct Usage {
    resident: u64,
    anonymous: u64,
    peak: u64,
    files: usize,
    cpu: Duration,
}

/// What was measured.
#[derive(Clone, Debug)]
pub struct Figures {
    plan: Plan,
    document: usize,
    database: i64,
    filled: Usage,
    loaded: Duration,
    load_cpu: Duration,
    idle: Usage,
    fleet: Usage,
    /// One change at a time.
    pub alone: Latencies,
    /// At the plan's rate.
    pub paced: Latencies,
    after: Usage,
    /// etcd was killed and started; the nodes went on where they were.
    pub resumed: Storm,
    /// The same, compacted before: every node reads everything again.
    pub compacted: Storm,
}

/// Builds the fleet, measures, and takes it down.
///
/// # Errors
/// If anything does not arrive in time.
pub fn measure(plan: &Plan) -> Result<Figures> {
    raise_file_limit()?;
    let namespace = Namespace::create("fleet")?;
    namespace.run(|| {
        let etcd = EtcdPlan::default().argument("--log-level=warn").start(&namespace)?;
        let runtime = Builder::new_current_thread().enable_all().build().context("starting a runtime")?;
        let mut fleet = Fleet::new(plan, &namespace, etcd)?;
        let figures = runtime.block_on(fleet.measure())?;
        fleet.end();
        Ok(figures)
    })
}

/// One node as the others see it.
struct Node {
    store: Arc<Store>,
    state: SourceView,
}

impl Node {
    fn in_step(&self) -> bool {
        let state = self.state.get();
        state.synced_at.is_some() && state.lagging_since.is_none() && state.endpoints.iter().any(|one| one.in_use)
    }
}

/// A node's store has changed: which node, what, and when.
type Seen = (usize, InstanceId, Instant);

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
            document: self.document(0, 0, 0).len(),
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

    /// Writes every document of every node.
    async fn fill(&self, client: &mut Client) -> Result<()> {
        let all: Vec<_> = (0..self.plan.nodes)
            .flat_map(|node| (0..self.plan.instances).map(move |instance| (node, instance)))
            .collect();
        for batch in all.chunks(BATCH) {
            let puts: Vec<_> = batch
                .iter()
                .map(|&(node, instance)| TxnOp::put(key(node, instance), self.document(node, instance, 0), None))
                .collect();
            client.txn(Txn::new().and_then(puts)).await.context("writing documents")?;
        }
        Ok(())
    }

    /// Starts the nodes, and waits until each is there, though not yet until it has read anything.
    fn start_nodes(&mut self) -> Result<()> {
        let (there, nodes) = std_mpsc::channel();
        let namespace = self.namespace.name().to_owned();
        for first in 0..self.plan.threads {
            let numbers: Vec<_> = (first..self.plan.nodes).step_by(self.plan.threads).collect();
            let settings =
                numbers.iter().map(|number| config(*number, &self.etcd.endpoints())).collect::<Result<Vec<_>>>()?;
            let (stop, stopped) = oneshot::channel();
            let (there, sender, namespace) = (there.clone(), self.sender.clone(), namespace.clone());
            let thread = std::thread::spawn(move || {
                Namespace::existing(&namespace).enter()?;
                run_nodes(numbers.into_iter().zip(settings), &there, &sender, stopped)
            });
            self.threads.push((stop, thread));
        }
        drop(there);
        let mut numbered: Vec<(usize, Node)> = Vec::new();
        while numbered.len() < self.plan.nodes {
            numbered.push(nodes.recv_timeout(PATIENCE).context("a node did not start")?);
        }
        numbered.sort_by_key(|(number, _)| *number);
        self.nodes = numbered.into_iter().map(|(_, node)| node).collect();
        Ok(())
    }

    async fn wait_in_step(&self, what: &str) -> Result<()> {
        let begun = Instant::now();
        while !self.nodes.iter().all(Node::in_step) {
            ensure!(begun.elapsed() < PATIENCE, "waited {PATIENCE:?} in vain: {what}");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        Ok(())
    }

    /// Changes one document after the other: the next when the former has arrived.
    async fn change_one_by_one(&mut self, changes: usize) -> Result<Latencies> {
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
            let document = self.document(node, instance, self.written);
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
    async fn change_paced(&mut self) -> Result<Latencies> {
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
                    let document = self.document(node, instance, self.written);
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

    /// Kills etcd, starts it again, and watches all nodes come back at once.
    async fn storm(&mut self, compacted: bool) -> Result<Storm> {
        if compacted {
            let mut client = self.client().await?;
            // Beyond what any node has seen.
            client.put("fleet", "", None).await.context("writing a key of nobody")?;
            let put = client.put("fleet", "", None).await.context("writing a key of nobody")?;
            let revision = put.header().context("an answer without a header")?.revision();
            client.compact(revision, Some(CompactionOptions::new().with_physical())).await.context("compacting")?;
        }
        let before: Vec<u64> = self.nodes.iter().map(|node| node.state.get().resyncs).collect();
        // A watch of a compacted revision stands for a moment, until etcd refuses it.
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

    fn check(&self, node: usize, instance: usize, change: usize) -> Result<()> {
        let held = self.nodes[node].store.get(id(node, instance)?).context("the instance is gone")?;
        let expected = host_name(node, instance, change);
        let found = &held.record().hostname;
        ensure!(**found == *expected, "node {node} holds {found} instead of {expected}");
        Ok(())
    }

    /// A document as a cloud would have it, with a key and some user data.
    fn document(&self, node: usize, instance: usize, change: usize) -> String {
        let number = node * self.plan.instances + instance;
        let [_, _, a, b] = u32::try_from(number).unwrap_or(u32::MAX).to_be_bytes();
        json!({
            "uuid": uuid(node, instance),
            "project_id": "f7ac731cc11f40efbc03a9f9e1d1d21f",
            "display_name": format!("web {instance}"),
            "hostname": host_name(node, instance, change),
            "availability_zone": "az-1",
            "flavor": "m1.small",
            "image_ref": "70c1db56-66e8-4cf6-a6ec-1d8b2b9d0f4e",
            "keypairs": [{"name": "admin", "public_key": format!("ssh-rsa {} admin", "A".repeat(372))}],
            "metadata": {"role": "web", "owner": "team-7", "cost-centre": "4711"},
            "security_groups": ["default", "web"],
            "user_data": format!("#cloud-config\n{}", "# a line of user data as people write them, more or less\n".repeat(26)),
            "ports": [{
                "id": format!("{number:08x}-0000-4000-8000-000000000000"),
                "mac_address": format!("fa:16:3e:00:{a:02x}:{b:02x}"),
                "fixed_ips": [{"ip_address": format!("10.1.{a}.{b}"), "floating_ips": ["203.0.113.5"]}],
                "security_groups": ["default", "web"],
                "network": {
                    "id": "0a7b4b4e-0d59-4d62-a6c3-7c0f2a6f1111",
                    "mtu": 1450,
                    "subnets": [{"cidr": "10.1.0.0/16", "gateway_ip": "10.1.0.1", "dns_nameservers": ["10.1.0.2", "10.1.0.3"]}],
                },
            }],
        })
        .to_string()
    }
}

/// Runs some nodes on this thread until it is told to stop.
fn run_nodes(
    nodes: impl Iterator<Item = (usize, metadata_user::config::etcd::Etcd)>,
    there: &std_mpsc::Sender<(usize, Node)>,
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
        if there.send((number, Node { store, state })).is_err() {
            bail!("nobody waits for the nodes");
        }
    }
    local.block_on(&runtime, async {
        // An end without a word is an end too.
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

fn node_name(number: usize) -> String {
    format!("node-{number:05}")
}

fn uuid(node: usize, instance: usize) -> String {
    format!("{node:08x}-0000-4000-9000-{instance:012x}")
}

fn id(node: usize, instance: usize) -> Result<InstanceId> {
    uuid(node, instance).parse().context("a uuid")
}

fn key(node: usize, instance: usize) -> String {
    format!("/metadatad/nodes/{}/instances/{}", node_name(node), uuid(node, instance))
}

fn host_name(node: usize, instance: usize, change: usize) -> String {
    format!("web-{node}-{instance}-{change}")
}

fn raise_file_limit() -> Result<()> {
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).context("asking for the limit of open files")?;
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard).context("raising the limit of open files")
}

fn usage(process: u32) -> Result<Usage> {
    let read =
        |file: &str| fs::read_to_string(format!("/proc/{process}/{file}")).with_context(|| format!("reading {file}"));
    let status = read("status")?;
    let field = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default();
        line.split_whitespace().next().and_then(|number| number.parse::<u64>().ok()).unwrap_or(0) * 1024
    };
    let stat = read("stat")?;
    // The name may have blanks; after it come the state and the fields from the fourth on.
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    let ticks: u64 = [11, 12].iter().filter_map(|field| fields.get(*field)?.parse::<u64>().ok()).sum();
    Ok(Usage {
        resident: field("VmRSS:"),
        anonymous: field("RssAnon:"),
        peak: field("VmHWM:"),
        files: fs::read_dir(format!("/proc/{process}/fd")).map_or(0, Iterator::count),
        // Linux counts hundredths of a second for user space on every machine.
        cpu: Duration::from_millis(ticks * 10),
    })
}

impl fmt::Display for Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Plan { nodes, instances, .. } = self.plan;
        let mut row = |name: &str, value: String| writeln!(f, "{name:<34} {value}");
        row(
            "nodes, instances of each",
            format!("{nodes}, {instances}: {} documents of {} bytes", nodes * instances, self.document),
        )?;
        row("etcd's database", mega(u64::try_from(self.database).unwrap_or(0)))?;
        row("etcd before the nodes", resident(&self.filled))?;
        row("all nodes read everything", format!("{:.2?}, etcd's CPU {:.2?}", self.loaded, self.load_cpu))?;
        row("etcd with the nodes", resident(&self.idle))?;
        let nodes_count = u64::try_from(nodes).unwrap_or(1).max(1);
        let more = self.idle.anonymous.saturating_sub(self.filled.anonymous) / nodes_count;
        row("  of it per node", format!("{} KB anonymous", more / 1000))?;
        row(
            "the fleet's process",
            format!("{}, {} KB per node", mega(self.fleet.resident), self.fleet.resident / nodes_count / 1000),
        )?;
        for (name, one) in [("put to store, one at a time", &self.alone), ("put to store, paced", &self.paced)] {
            row(
                name,
                format!(
                    "p50 {:.2?}, p99 {:.2?}, most {:.2?} ({} changes in {:.1?}, etcd's CPU {:.2?}, {} at a wrong node)",
                    one.quantile(0.5),
                    one.quantile(0.99),
                    one.quantile(1.0),
                    one.sorted.len(),
                    one.wall,
                    one.cpu,
                    one.wrong
                ),
            )?;
        }
        row("etcd after the changes", resident(&self.after))?;
        for (name, storm) in
            [("etcd back, all go on", &self.resumed), ("etcd back compacted, all read again", &self.compacted)]
        {
            row(
                name,
                format!(
                    "first node {:.2?}, half {:.2?}, last {:.2?} after its start; etcd's CPU {:.2?}, peak {}; {} read again",
                    storm.first,
                    storm.half,
                    storm.last,
                    storm.cpu,
                    mega(storm.peak),
                    storm.resyncs
                ),
            )?;
        }
        Ok(())
    }
}

fn mega(bytes: u64) -> String {
    format!("{} MB", bytes / 1_000_000)
}

fn resident(usage: &Usage) -> String {
    format!("{} resident, {} anonymous, {} open files", mega(usage.resident), mega(usage.anonymous), usage.files)
}
