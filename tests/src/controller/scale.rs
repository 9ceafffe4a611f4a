//! The controller at a size, measured: between a simulated OpenStack, a real RabbitMQ and a real etcd.
//!
//! Promises: requests are counted where they arrive; a change is in etcd when etcd shows it under each of its hosts; at the end
//! every document is compared with the simulated OpenStack. Everything listens on the loopback of a namespace that the lab made.
//!
//! Left out: nodes, which `fleet` measures; Nova's own work, of which there is a fixed time for each request.

mod documents;
mod figures;
mod plan;

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use tokio::runtime::Runtime;
use uuid::Uuid;

pub use self::figures::{Figures, Phase};
pub use self::plan::Plan;

use self::documents::Documents;
use super::{Controller, ControllerPlan, Site};
use crate::etcd::{Etcd, EtcdPlan};
use crate::netns::Namespace;
use crate::openstack::{RabbitMq, Simulation, SimulationPlan};
use crate::usage::{Usage, usage};
use crate::wait;

/// How long anything may take beside the requests that the rate allows.
const PATIENCE: Duration = Duration::from_secs(300);
/// Requests that reading an instance takes at most, to know how long all of them take.
const REQUESTS: u32 = 100;

/// Runs a controller through first fill, changes, quiet and take-over.
///
/// # Errors
/// If anything does not arrive in time, or is not what it should be at the end.
pub fn measure(plan: &Plan) -> Result<Figures> {
    let namespace = Namespace::create("ctl")?;
    namespace.run(|| {
        let etcd = EtcdPlan::default().on_disk().argument("--log-level=warn");
        let broker = RabbitMq::start()?;
        let simulation =
            SimulationPlan { instances: plan.instances, nodes: plan.nodes, cache: plan.cache, delay: plan.delay };
        let simulation = Simulation::start(&simulation, &broker.url())?;
        let site = Site {
            namespace: Namespace::existing(namespace.name()),
            etcd: etcd.endpoints(),
            auth_url: simulation.auth_url(),
            credential: simulation.credential(),
            metadata_url: simulation.metadata_url(),
            rabbitmq_url: broker.url(),
        };
        let etcd = etcd.start(&namespace)?;
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
        let documents = runtime.block_on(Documents::follow(&etcd.endpoints()))?;
        World { plan, etcd, simulation, site, runtime, documents }.measure()
    })
}

struct World<'a> {
    plan: &'a Plan,
    etcd: Etcd,
    simulation: Simulation,
    site: Site,
    runtime: Runtime,
    documents: Documents,
}

/// A phase that has begun.
struct Begun {
    at: Instant,
    requests: crate::openstack::Counts,
    usage: Usage,
}

impl World<'_> {
    fn measure(mut self) -> Result<Figures> {
        let mut first = self.controller("first")?;
        let started = Instant::now();
        first.start()?;
        first.wait("the controller answers", |_| true)?;
        let idle = usage(first.id()?)?;
        let begun = Begun { at: started, requests: Default::default(), usage: Usage::default() };
        self.check("after the first fill")?;
        let filled = begun.at.elapsed();
        let fill = Phase { time: filled, ..self.settled(&begun, &first)? };

        let all = self.simulation.ids();
        let (burst, paced) = self.chosen(&all);
        let begun = self.begin(&first)?;
        self.simulation.set_sequence(&burst, "burst")?;
        let latencies = self.documents.wait(begun.at, &burst, "burst", PATIENCE)?;
        let lag = first.status()?.lag;
        let burst = self.settled(&begun, &first)?.with(latencies, lag);

        let begun = self.begin(&first)?;
        let latencies = self.change_paced(&paced)?;
        let lag = first.status()?.lag;
        let paced = self.settled(&begun, &first)?.with(latencies, lag);
        self.move_one(&first)?;

        self.wait_calm(&first)?;
        let begun = self.begin(&first)?;
        std::thread::sleep(self.plan.quiet);
        let quiet = self.phase(&begun, &first)?;
        self.check("after the quiet period")?;

        let mut second = self.controller("second")?;
        second.start()?;
        second.wait("the second controller waits", |status| status.state == "waiting")?;
        let begun = self.begin(&second)?;
        first.kill()?;
        second.wait("the second controller leads and has listed all servers", |status| {
            status.state == "leading" && status.reconcile.listed_at.is_some()
        })?;
        let led = begun.at.elapsed();
        let take_over = Phase { time: led, ..self.settled(&begun, &second)? };
        self.check("after the take-over")?;
        let database = self.runtime.block_on(self.documents.database())?;
        let etcd = usage(self.etcd.id(0).context("etcd does not run")?)?;
        let document = self.documents.mean_size();
        Ok(Figures { plan: self.plan.clone(), idle, fill, burst, paced, quiet, take_over, database, document, etcd })
    }

    fn controller(&self, name: &str) -> Result<Controller> {
        let plan = ControllerPlan::named(name).queue("controller").further(&self.plan.reconcile());
        plan.make_at(&self.site)
    }

    /// Returns the servers to change at once, and those to change one after the other.
    fn chosen(&self, all: &[Uuid]) -> (Vec<Uuid>, Vec<Uuid>) {
        let spread = |count: usize, from: usize| {
            let count = count.min(all.len());
            let step = all.len().checked_div(count).unwrap_or(1).max(1);
            all.iter().skip(from).step_by(step).take(count).copied().collect()
        };
        (spread(self.plan.changes as usize, 0), spread(self.plan.paced as usize, 1))
    }

    fn begin(&self, controller: &Controller) -> Result<Begun> {
        Ok(Begun { at: Instant::now(), requests: self.simulation.counts(), usage: usage(controller.id()?)? })
    }

    fn phase(&self, begun: &Begun, controller: &Controller) -> Result<Phase> {
        let now = usage(controller.id()?)?;
        Ok(Phase {
            time: begun.at.elapsed(),
            counted: begun.at.elapsed(),
            requests: self.simulation.counts() - begun.requests,
            most: self.simulation.most_since(begun.at),
            cpu: now.cpu.saturating_sub(begun.usage.cpu),
            usage: now,
            latencies: Vec::new(),
            lag: Default::default(),
        })
    }

    /// Returns what has been used since a phase began, with all that comes of it: instances are read again where Nova's cache may have hidden
    /// a change.
    fn settled(&self, begun: &Begun, controller: &Controller) -> Result<Phase> {
        if self.plan.settles {
            self.wait_in_step(controller)?;
        }
        self.phase(begun, controller)
    }

    /// Waits until the controller leads, and has read and written everything.
    fn wait_in_step(&self, controller: &Controller) -> Result<()> {
        controller.wait_within(self.patience(), "the controller leads and is in step", |status| {
            status.state == "leading"
                && status.reconcile.in_step_at.is_some()
                && status.backlog == 0
                && status.reconcile.reason.is_none()
                && status.instances.failed == 0
        })?;
        Ok(())
    }

    /// Changes servers at the plan's pace, whether the former ones have arrived or not.
    fn change_paced(&self, servers: &[Uuid]) -> Result<Vec<Duration>> {
        let (begun, spacing) = (Instant::now(), Duration::from_secs(1) / self.plan.pace.max(1));
        let mut latencies = Vec::new();
        let mut sent = Vec::new();
        for (place, server) in (0u32..).zip(servers) {
            std::thread::sleep((begun + place * spacing).saturating_duration_since(Instant::now()));
            sent.push((*server, Instant::now()));
            self.simulation.set_sequence(&[*server], "paced")?;
        }
        for (server, at) in sent {
            latencies.extend(self.documents.wait(at, &[server], "paced", PATIENCE)?);
        }
        Ok(latencies)
    }

    /// Creates a server, moves it, and deletes it; its documents follow.
    fn move_one(&mut self, controller: &Controller) -> Result<()> {
        let id = self.simulation.create()?;
        self.wait_hosts(id, 1)?;
        self.simulation.begin_move(id)?;
        self.wait_hosts(id, 2)?;
        self.simulation.end_move(id)?;
        self.wait_hosts(id, 1)?;
        self.simulation.delete(id)?;
        self.wait_hosts(id, 0).with_context(|| controller.log())
    }

    fn wait_hosts(&self, id: Uuid, count: usize) -> Result<()> {
        let expected = self.simulation.expected().remove(&id).map(|(hosts, _)| hosts).unwrap_or_default();
        ensure!(expected.len() == count, "the server is on {expected:?}");
        wait::until_within(PATIENCE, &format!("the server has documents on {expected:?}"), || {
            Ok((self.documents.hosts(id) == expected).then_some(()))
        })
    }

    /// Waits until nothing waits, and what was read again because a cache may have hidden a change, was.
    fn wait_calm(&self, controller: &Controller) -> Result<()> {
        self.wait_in_step(controller)?;
        let mut before = (self.simulation.counts(), Instant::now());
        wait::until_within(PATIENCE, "no request for a while", || {
            let now = self.simulation.counts();
            if now != before.0 {
                before = (now, Instant::now());
            }
            Ok((before.1.elapsed() > self.plan.calm()).then_some(()))
        })
    }

    /// Compares every document with the simulated OpenStack.
    fn check(&self, when: &str) -> Result<()> {
        wait::until_within(self.patience(), &format!("all documents are right {when}"), || {
            if self.documents.len() != self.simulation.servers() {
                return Ok(None);
            }
            let expected = self.simulation.expected();
            let is_right =
                |(id, (hosts, sequence)): (&Uuid, &(Vec<String>, String))| self.documents.is(*id, hosts, sequence);
            Ok(expected.iter().all(is_right).then_some(()))
        })
    }

    fn patience(&self) -> Duration {
        PATIENCE + Duration::from_secs((self.plan.instances * REQUESTS / self.plan.rate).into())
    }
}
