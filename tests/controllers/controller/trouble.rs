//! Services that stop, hang, are slow, lie or are replaced: guests go on being served, nothing is removed, the status says what is wrong
//! and what to do, and all is well again afterwards.

use std::time::Duration;

use anyhow::{Context as _, Result};
use lab::asker::{Asker, Values};
use lab::controller::{Controller, ControllerPlan, HOST, PATIENCE, World};
use lab::openstack::{Cloud, Plan, Service, Way};
use lab::{EtcdPlan, Guest};
use lapin::options::{BasicPublishOptions, ConfirmSelectOptions};
use lapin::{BasicProperties, Connection, ConnectionProperties};
use serde_json::json;

/// Requests a second of all guests.
const RATE: u32 = 200;
/// The controller's queue, and the most that waits in it.
const QUEUE: (&str, u32) = ("trouble", 100);
/// What Nova needs for each answer when it is slow; less than the controller waits for one.
const SLOW: (Duration, &str) = (Duration::from_secs(5), "10s");
/// Members of etcd.
const MEMBERS: usize = 3;

/// Two instances whose guests ask all the time, and the controller that is tried.
struct Trial<'a> {
    world: &'a World<'a>,
    controller: Controller,
    servers: [String; 2],
    askers: Vec<Asker<Values>>,
    value: u64,
}

impl Trial<'_> {
    /// Sets a property of each instance by Nova's API.
    fn change(&mut self) {
        self.value += 1;
        for (server, asker) in self.servers.iter().zip(&self.askers) {
            asker.allow(self.value);
            // Nova may not know yet that a service is back.
            let set = || Ok(self.world.cloud.set_property(server, "value", &self.value.to_string()).ok());
            lab::wait::until_within(PATIENCE, "Nova sets a property", set).unwrap();
        }
    }

    /// Has the controller read an instance.
    fn reread(&self) {
        let reread = self.controller.run(&["reread", &self.servers[0]]).unwrap();
        assert!(reread.status.success(), "{reread:?}");
    }

    /// Waits until the status has one line with all of these words.
    fn wait_named(&self, words: &[&str]) {
        let named = self.controller.wait(&format!("the status names {words:?}"), |status| {
            status.problems.iter().any(|problem| words.iter().all(|word| problem.contains(word)))
        });
        let problems = named.unwrap().problems;
        assert!(problems.iter().all(|problem| !problem.contains('\n')), "{problems:?}");
        eprintln!("status: {problems:#?}");
    }

    fn check_documents(&self) {
        for server in &self.servers {
            assert!(self.world.document(HOST, server).unwrap().is_some(), "the document of {server} stays");
        }
    }

    /// Waits until the guests read what is newest.
    fn wait_newest(&self) -> Result<()> {
        self.askers.iter().try_for_each(|asker| asker.wait_newest(PATIENCE))
    }

    /// Something is wrong: it is named, and no document goes.
    fn wrong(&self, words: &[&str]) {
        self.wait_named(words);
        self.check_documents();
    }

    /// It was repaired: changes reach the guests, and nothing is wrong.
    fn well(&mut self, after: &str) {
        self.change();
        self.wait_newest().with_context(|| format!("after {after}\n{}", self.controller.log())).unwrap();
        self.controller
            .wait(&format!("all is well again after {after}"), |status| {
                status.state == "leading"
                    && status.problems.is_empty()
                    && status.backlog == 0
                    && status.reconcile.reason.is_none()
            })
            .unwrap();
        self.check_documents();
    }
}

/// Nova, its metadata API and Neutron: closed, answering 404 to everything, hanging, and slow.
fn services(trial: &mut Trial<'_>) {
    let ports = trial.world.cloud.ports();
    let (nova, metadata, neutron) = (ports.nova, ports.metadata, ports.neutron);
    for (port, way, words) in [
        (nova, Way::Closed, ["Nova", "whether nova-api runs"]),
        (nova, Way::NotFound, ["Nova answered 404", "something else may answer there"]),
        (metadata, Way::Closed, ["metadata API", "whether nova-api-metadata runs"]),
        (metadata, Way::NotFound, ["metadata API", "does not know"]),
        (neutron, Way::Closed, ["Neutron", "whether neutron-server runs"]),
    ] {
        trial.world.reach.set(port, way);
        trial.reread();
        trial.wrong(&words);
        trial.world.reach.set(port, Way::Open);
        trial.well(&format!("{way:?}, {words:?}"));
    }
    for (service, words) in [
        (Service::Nova, ["Nova", "nova-api"]),
        (Service::Metadata, ["metadata API", "nova-api-metadata"]),
        (Service::Neutron, ["Neutron", "neutron-server"]),
    ] {
        let hang = trial.world.cloud.hang(&service).unwrap();
        trial.reread();
        trial.wrong(&words);
        drop(hang);
        trial.well(&format!("a hang of {service:?}"));
    }
    trial.world.reach.set(nova, Way::Slow(SLOW.0));
    trial.change();
    trial.wrong(&["Nova is slow", "nova-api"]);
    trial.wait_newest().unwrap();
    trial.world.reach.set(nova, Way::Open);
    trial.well("a slow Nova");
}

/// RabbitMQ: out of reach, stopped and started, hanging, its queue deleted, and too full.
fn rabbitmq(trial: &mut Trial<'_>) {
    let broker = trial.world.cloud.rabbitmq();
    // Changes go on, and are found without notifications.
    trial.world.reach.set(broker.port(), Way::Closed);
    broker.close_connections().unwrap();
    trial.wrong(&["RabbitMQ"]);
    trial.change();
    trial.wait_newest().unwrap();
    trial.world.reach.set(broker.port(), Way::Open);
    trial.well("a broker out of reach");
    broker.stop().unwrap();
    trial.wrong(&["RabbitMQ"]);
    broker.resume().unwrap();
    // Its exchange is there again when it next sends something.
    trial.world.cloud.create_security_group("sends-a-notification").unwrap();
    trial.well("a stopped broker");
    let hang = broker.hang().unwrap();
    trial.wrong(&["RabbitMQ"]);
    drop(hang);
    trial.well("a hang of the broker");
    let wait_gap = |trial: &Trial<'_>, words: &str| {
        let heard = trial.controller.wait(&format!("a gap: {words}"), |status| {
            let last = status.notifications.as_ref().and_then(|heard| heard.last_gap.as_deref());
            last.is_some_and(|last| last.contains(words))
        });
        eprintln!("status: gaps: {:?}", heard.unwrap().notifications.unwrap().last_gap);
    };
    broker.delete_queue(QUEUE.0).unwrap();
    wait_gap(trial, "was deleted");
    trial.well("a deleted queue");
    // While no controller runs, more than the queue holds.
    trial.controller.kill().unwrap();
    publish(&broker.url(), &trial.servers[0], QUEUE.1 + 20).unwrap();
    trial.change();
    trial.controller.start().unwrap();
    wait_gap(trial, "the queue was full");
    trial.well("a full queue");
}

/// Publishes notifications of an instance, as Nova does.
fn publish(url: &str, server: &str, count: u32) -> Result<()> {
    let payload = json!({"nova_object.name": "InstanceUpdatePayload", "nova_object.data": {"uuid": server}});
    let message = json!({"event_type": "instance.update", "payload": payload}).to_string();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    runtime.block_on(async {
        let connection = Connection::connect(url, ConnectionProperties::default()).await?;
        let channel = connection.create_channel().await?;
        channel.confirm_select(ConfirmSelectOptions::default()).await?;
        let key = "versioned_notifications.info";
        for _ in 0..count {
            let (options, properties) = (BasicPublishOptions::default(), BasicProperties::default());
            channel
                .basic_publish("nova".into(), key.into(), options, message.as_bytes(), properties.with_delivery_mode(2))
                .await?
                .await?;
        }
        Ok(connection.close(200, "done".into()).await?)
    })
}

/// Keystone: a token that is revoked, a credential that is refused, and Keystone stopped and hanging.
fn keystone(trial: &mut Trial<'_>) {
    let (cloud, reach) = (trial.world.cloud, &trial.world.reach);
    let token = || reach.token(cloud.ports().nova).unwrap();
    let revoked = token();
    cloud.revoke(&revoked).unwrap();
    lab::wait::until_within(PATIENCE, "the controller has another token", || {
        trial.reread();
        Ok((token() != revoked).then_some(()))
    })
    .unwrap();
    trial.well("a revoked token");
    let credential = trial.controller.write_credential("another").unwrap();
    cloud.revoke(&token()).unwrap();
    trial.wrong(&["Keystone refuses the credential", "correct the credential in [keystone]"]);
    trial.controller.write_credential(&credential).unwrap();
    trial.well("a refused credential");
    cloud.stop(&Service::Keystone).unwrap();
    trial.wrong(&["Keystone"]);
    cloud.resume(&Service::Keystone).unwrap();
    trial.well("a stopped Keystone");
    // Nova and Neutron hang with it.
    let hang = cloud.hang(&Service::Keystone).unwrap();
    trial.reread();
    trial.wrong(&["Keystone", "whether Keystone runs"]);
    drop(hang);
    trial.well("a hang of Keystone");
}

/// etcd: without a quorum, and hanging.
fn etcd(trial: &mut Trial<'_>) {
    let etcd = &trial.world.etcd;
    for member in 1..MEMBERS {
        etcd.kill(member).unwrap();
    }
    trial.wait_named(&["etcd", "no quorum"]);
    etcd.start_all().unwrap();
    trial.well("an etcd without quorum");
    for member in 0..MEMBERS {
        trial.world.etcd.pause(member).unwrap();
    }
    trial.wait_named(&["etcd"]);
    for member in 0..MEMBERS {
        trial.world.etcd.resume(member).unwrap();
    }
    trial.well("a hang of etcd");
}

/// Starts a cloud, a controller and two guests that ask, and checks that no request failed or was answered with anything but the instance's
/// own content during a trial. What comes afterwards may take documents away.
fn guests_ask(during: impl FnOnce(&mut Trial<'_>), afterwards: impl FnOnce(&Trial<'_>)) {
    let cloud = Cloud::start(Plan::default().hosts(1).token_cache(10)).unwrap();
    let world = World::with_etcd(&cloud, EtcdPlan::default().members(MEMBERS)).unwrap();
    let servers = ["steady", "too"].map(|name| cloud.create_server(name, HOST).unwrap());
    for server in &servers {
        cloud.set_property(server, "value", "0").unwrap();
    }
    let plan = ControllerPlan::named("c1").queue(QUEUE.0).queue_limit(QUEUE.1).patience(SLOW.1);
    let plan = plan.further("[reconcile]\nrequests_per_second = 2000\nlist_interval = 5\n");
    let mut controller = plan.make(&world).unwrap();
    controller.start().unwrap();
    controller.wait_in_step().unwrap();
    world.node.start_daemon().unwrap();
    let guests: Vec<Guest> = servers.iter().map(|server| world.boot(server).unwrap()).collect();
    let mut askers = Vec::new();
    for (guest, server) in guests.iter().zip(&servers) {
        world.node.wait_bound(guest.ifindex()).unwrap();
        askers.push(Asker::follow(guest, server, RATE / 2, 0).unwrap());
    }
    let mut trial = Trial { world: &world, controller, servers, askers, value: 0 };
    trial.well("the start");
    during(&mut trial);
    for asker in std::mem::take(&mut trial.askers) {
        let report = asker.finish().unwrap();
        report.perfect().unwrap();
        eprintln!(
            "{} requests of a guest in {:?} ({:.0} a second), none wrong, none failed; the slowest took {:?}",
            report.asked,
            report.lasted,
            report.rate(),
            report.slowest
        );
    }
    afterwards(&trial);
}

#[test]
fn openstack_services_that_fail_are_named_and_guests_are_served_by_documents_that_stay() {
    guests_ask(services, |_| {});
}

#[test]
fn rabbitmq_etcd_keystone_and_another_cloud_are_named_and_documents_stay() {
    let during = |trial: &mut Trial<'_>| {
        rabbitmq(trial);
        etcd(trial);
        keystone(trial);
        // A fresh database: another cloud, of which every instance is unknown.
        trial.world.cloud.replace_nova().unwrap();
        trial.wrong(&["another cloud", "controller accept"]);
    };
    // Only the operator's word makes its answers count.
    guests_ask(during, |trial| {
        let accepted = trial.controller.run(&["accept"]).unwrap();
        assert!(accepted.status.success(), "{accepted:?}");
        for server in &trial.servers {
            trial.world.wait_on(server, &[]).unwrap();
        }
    });
}
