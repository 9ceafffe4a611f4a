//! `controller`: a property is set by Nova's API, and the controller brings it to the guest. In turns with that, a client asks Nova's metadata
//! API itself, as Neutron's agent does for a guest.
//!
//! All of it is real, as `cargo xtask demo openstack` shows it: Keystone, Nova with its fake driver, Neutron, RabbitMQ, etcd, the controller
//! and a node. Both sides never stop asking, and the time counts from the moment when Nova has answered the call that sets the property.
//! Whose time it is: the controller says how long OpenStack took to answer it, and the rest is this project's, from RabbitMQ to the guest.

use std::sync::mpsc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use hdrhistogram::Histogram;
use lab::agent;
use lab::controller::{Controller, ControllerPlan, HOST, World};
use lab::openstack::{Cloud, Plan};
use lab::{Guest, Request};
use serde_json::Value;

use super::sync::{Seen, until};
use crate::Effort;
use crate::load::histogram;
use crate::progress;
use crate::result::{Case, Goal, Run};

const NAME: &str = "a property set by Nova's API";
const DOCUMENT: &str = "/openstack/latest/meta_data.json";
const KEY: &str = "change";
/// `api.metadata_cache_expiration` of the lab's Nova; by default it is 15 seconds.
const CACHE: u32 = 1;
/// Instances that are changed in turn, so that Nova has forgotten one when its turn comes again.
const SERVERS: usize = 8;
/// Changes of a slice.
const CHANGES: usize = 24;
/// How often either side asks. Nova is slower to answer, and has the controller to answer as well.
const GUEST_ASKS: Duration = Duration::from_millis(2);
const BARE_ASKS: Duration = Duration::from_millis(20);

pub(super) fn run(effort: Effort, run: &mut Run) -> Result<()> {
    let case = measure(effort)?;
    progress::say(&format!("{}: {}", case.name, crate::page::ratios(&case)));
    run.cases.push(case);
    Ok(())
}

fn measure(effort: Effort) -> Result<Case> {
    let cloud = Cloud::start(Plan::default().hosts(1).cache(CACHE))?;
    let world = World::with(&cloud, crate::load::UNLIMITED)?;
    let servers: Vec<String> =
        (0..SERVERS).map(|number| cloud.create_server(&format!("sync-{number}"), HOST)).collect::<Result<_>>()?;
    let mut controller = ControllerPlan::named("bench").queue("bench").make(&world)?;
    controller.start()?;
    controller.wait_in_step()?;
    world.node.start_daemon()?;
    let guests: Vec<Guest> = servers.iter().map(|server| world.boot(server)).collect::<Result<_>>()?;
    for guest in &guests {
        world.node.wait_bound(guest.ifindex())?;
    }
    let project = cloud.server(&servers[0])?["tenant_id"].as_str().context("a project")?.to_owned();
    let bench = Bench { cloud: &cloud, controller: &controller, servers: &servers, guests: &guests, project };
    let mut seen = Seen::new()?;
    let (mut own, mut next) = (histogram()?, 1);
    for pair in effort.turns(NAME) {
        let mut slice = |by_guest: bool, own: &mut Histogram<u64>| {
            let first = next;
            next += CHANGES;
            if by_guest { bench.by_guest(first, own) } else { bench.by_nova(first) }
        };
        let (guest, bare) = if pair % 2 == 0 {
            (slice(true, &mut own)?, slice(false, &mut own)?)
        } else {
            let bare = slice(false, &mut own)?;
            (slice(true, &mut own)?, bare)
        };
        seen.add(&guest, &bare, Duration::ZERO)?;
    }
    let p99 = |seen: &Histogram<u64>| seen.value_at_quantile(0.99) as f64 / 1e6;
    let total = p99(&seen.guest);
    let mut case = seen.case("controller", NAME, "Nova itself", "Nova itself");
    case.judged("guest, p99 ms", total, Some(Goal::AtMost(1000.0)));
    case.figure("of it ours, p50 ms", own.value_at_quantile(0.5) as f64 / 1e6);
    case.judged("of it ours, p99 ms", p99(&own), Some(Goal::AtMost(300.0)));
    case.figure("of it ours, changes", own.len() as f64);
    case.figure("Nova's metadata_cache_expiration here, s (15 by default)", f64::from(CACHE));
    Ok(case)
}

struct Bench<'a> {
    cloud: &'a Cloud,
    controller: &'a Controller,
    servers: &'a [String],
    guests: &'a [Guest],
    project: String,
}

impl Bench<'_> {
    /// Changes as guests see them; `own` gets the part of each that no service of OpenStack took.
    fn by_guest(&self, first: usize, own: &mut Histogram<u64>) -> Result<Histogram<u64>> {
        let mut seen = histogram()?;
        for change in first..first + CHANGES {
            let guest = &self.guests[change % SERVERS];
            let before = self.read_so_far()?;
            let (asks, asked) = mpsc::channel();
            let took = std::thread::scope(|scope| {
                let seeing = scope.spawn(move || {
                    guest.namespace().run(|| {
                        let request = Request::get(DOCUMENT);
                        let mut connection = request.connect()?;
                        connection.exchange(&request)?;
                        // Its receiver waits for this.
                        let _ = asks.send(());
                        let wanted = change.to_string();
                        until(GUEST_ASKS, || {
                            Ok(connection.exchange(&request)?.json()?["meta"][KEY] == wanted.as_str())
                        })?;
                        Ok(Instant::now())
                    })
                });
                // An error is the thread's.
                let start = asked.recv().ok().map(|()| self.change(change)).transpose()?;
                let seen = seeing.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
                let seen = seen.with_context(|| format!("change {change}: the log:\n{}", self.controller.log()))?;
                anyhow::Ok(seen.saturating_duration_since(start.context("the guest asks")?))
            })?;
            seen.saturating_record(nanoseconds(took));
            // Where an instance was read more than once meanwhile, nobody can say whose time it was.
            let after = lab::wait::until("the change is counted", || {
                let now = self.read_so_far()?;
                Ok((now.changes > before.changes).then_some(now))
            })?;
            if after.changes == before.changes + 1 {
                let reading = Duration::from_secs_f64((after.seconds - before.seconds).max(0.0));
                own.saturating_record(nanoseconds(took.saturating_sub(reading)));
            }
        }
        Ok(seen)
    }

    /// Changes as a client of Nova's metadata API sees them.
    fn by_nova(&self, first: usize) -> Result<Histogram<u64>> {
        let mut seen = histogram()?;
        for change in first..first + CHANGES {
            let number = change % SERVERS;
            self.ask_nova(number)?;
            let start = self.change(change)?;
            let wanted = change.to_string();
            until(BARE_ASKS, || Ok(self.ask_nova(number)?["meta"][KEY] == wanted.as_str()))
                .with_context(|| format!("change {change} in Nova"))?;
            seen.saturating_record(nanoseconds(start.elapsed()));
        }
        Ok(seen)
    }

    /// Sets a property, and returns when Nova has answered that it is set.
    fn change(&self, change: usize) -> Result<Instant> {
        self.cloud.set_property(&self.servers[change % SERVERS], KEY, &change.to_string())?;
        Ok(Instant::now())
    }

    /// Asks Nova as Neutron's agent does.
    fn ask_nova(&self, number: usize) -> Result<Value> {
        let address = self.guests[number].ipv4().context("an address")?.to_string();
        let guest = agent::For { instance: &self.servers[number], project: &self.project, address: Some(&address) };
        let answer = guest.get(self.cloud.ports().metadata, DOCUMENT)?;
        ensure!(answer.status == 200, "Nova answered {}", answer.status);
        answer.json()
    }

    /// Returns what the controller says of the changes so far.
    fn read_so_far(&self) -> Result<Reading> {
        let metrics = self.controller.metrics()?;
        let value = |name: &str| {
            let line =
                metrics.lines().find_map(|line| line.strip_prefix(name)).with_context(|| format!("no {name}"))?;
            line.trim().parse::<f64>().with_context(|| format!("the value of {name}"))
        };
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a count of some hundreds")]
        let changes = value("metadatad_controller_reading_seconds_count")? as u64;
        Ok(Reading { changes, seconds: value("metadatad_controller_reading_seconds_sum")? })
    }
}

/// What a controller has read because of changes.
struct Reading {
    changes: u64,
    seconds: f64,
}

fn nanoseconds(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}
