//! `metadatad controller run`, between a real OpenStack, RabbitMQ and etcd on one side and a node's guests on the other.

mod cells;
mod golden;
mod leaders;
mod metrics;
mod scale;
mod takeover;
mod tls;
mod trouble;

use std::time::Duration;

use anyhow::{Context as _, Result};
use lab::Guest;
use lab::agent;
use lab::controller::{ControllerPlan, HOST, PATIENCE, World};
use lab::http::Response;
use lab::openstack::Cloud;
use metadata_user::admin::wire::ControllerStatus;
use serde_json::Value;

use crate::openstack::CLOUD;

/// As [`lab::wait::until`], as long as a controller may take.
fn patiently<T>(what: &str, ask: impl FnMut() -> Result<Option<T>>) -> Result<T> {
    lab::wait::until_within(PATIENCE, what, ask)
}

/// Waits until a guest reads this property; `None`: until it has none of that name.
fn wait_property(guest: &Guest, key: &str, value: Option<&str>) -> Result<()> {
    patiently(&format!("the guest reads {key}={value:?}"), || {
        let answer = guest.get("/openstack/latest/meta_data.json")?;
        if answer.status != 200 {
            return Ok(None);
        }
        let read = answer.json()?;
        Ok((read["meta"][key].as_str() == value).then_some(()))
    })
}

/// Asks Nova's metadata API itself, as Neutron's agents do.
fn of_nova(cloud: &Cloud, server: &Value, address: &str, path: &str) -> Result<Response> {
    let instance = server["id"].as_str().context("an id")?;
    let project = server["tenant_id"].as_str().context("a project")?;
    agent::For { instance, project, address: Some(address) }.get(cloud.ports().metadata, path)
}

/// Masks the seed, which is fresh in every answer.
fn without_seed(body: &str) -> String {
    match body.split_once("\"random_seed\": \"") {
        Some((before, rest)) => format!("{before}{}", rest.split_once('"').map_or("", |(_, rest)| rest)),
        None => body.to_owned(),
    }
}

/// What is compared with Nova's own answers.
const PATHS: [&str; 12] = [
    "/openstack",
    "/openstack/latest",
    "/openstack/latest/meta_data.json",
    "/openstack/2018-08-27/meta_data.json",
    "/openstack/latest/network_data.json",
    "/openstack/latest/vendor_data.json",
    "/openstack/latest/vendor_data2.json",
    "/",
    "/latest/meta-data/",
    "/latest/meta-data/instance-id",
    "/latest/meta-data/local-ipv4",
    "/2009-04-04/meta-data/block-device-mapping/",
];

#[test]
fn what_changes_in_openstack_reaches_the_guest_as_nova_answers_it() {
    let cloud = CLOUD.get().unwrap();
    let world = World::new(&cloud).unwrap();
    let server = cloud.create_server("web", HOST).unwrap();
    let mut controller = ControllerPlan::named("c1").queue("reaches").make(&world).unwrap();
    controller.start().unwrap();
    controller.wait_in_step().unwrap();
    world.node.start_daemon().unwrap();
    let guest = world.boot(&server).unwrap();
    world.node.wait_bound(guest.ifindex()).unwrap();

    let said = cloud.server(&server).unwrap();
    let address = guest.ipv4().unwrap().to_string();
    for path in PATHS {
        let (nova, ours) = (of_nova(&cloud, &said, &address, path).unwrap(), guest.get(path).unwrap());
        assert_eq!(ours.status, nova.status, "{path}");
        assert_eq!(without_seed(&ours.text()), without_seed(&nova.text()), "{path}");
    }
    let known = controller.instances().unwrap();
    let known = known.iter().find(|known| known.instance == server).unwrap();
    assert_eq!(
        (known.fidelity.as_str(), known.nodes.as_slice()),
        ("document", [HOST.to_owned()].as_slice()),
        "{known:?}"
    );

    cloud.set_property(&server, "role", "web").unwrap();
    wait_property(&guest, "role", Some("web")).unwrap();
    cloud.unset_property(&server, "role").unwrap();
    wait_property(&guest, "role", None).unwrap();
    cloud.rename(&server, "renamed").unwrap();
    patiently("the guest reads its new name", || {
        let read = guest.get("/openstack/latest/meta_data.json")?.json()?;
        Ok((read["name"] == "renamed").then_some(()))
    })
    .unwrap();
    // The client that operators use.
    cloud.openstack(&["server", "set", "--property", "colour=green", &server]).unwrap();
    wait_property(&guest, "colour", Some("green")).unwrap();

    let (floating, public) = cloud.add_floating_ip(guest_port(&cloud, &server).as_str()).unwrap();
    let reads = |expected: &str| {
        patiently(&format!("the guest reads the public address {expected:?}"), || {
            let read = guest.get("/latest/meta-data/public-ipv4")?;
            Ok((read.status == 200 && read.text() == expected).then_some(()))
        })
    };
    reads(&public).unwrap();
    cloud.delete_floating_ip(&floating).unwrap();
    reads("").unwrap();

    let port = cloud.attach_port(&server).unwrap();
    patiently("the guest sees its new interface", || {
        let read = guest.get("/openstack/latest/network_data.json")?.json()?;
        let links = read["links"].as_array().map_or(0, Vec::len);
        Ok((links == 2).then_some(()))
    })
    .unwrap();
    cloud.detach_port(&server, &port).unwrap();
    patiently("the interface is gone", || {
        let read = guest.get("/openstack/latest/network_data.json")?.json()?;
        Ok((read["links"].as_array().map_or(0, Vec::len) == 1).then_some(()))
    })
    .unwrap();

    let is_well = |status: &ControllerStatus| status.backlog == 0 && status.problems.is_empty();
    let status = controller.wait("nothing waits, and nothing is wrong", is_well).unwrap();
    assert!(
        status.lag.changes >= 6 && status.notifications.as_ref().is_some_and(|heard| heard.read > 5),
        "{status:#?}"
    );
    let metrics = controller.metrics().unwrap();
    for line in ["metadatad_controller_leading 1", "metadatad_controller_service_up{service=\"neutron\"} 1"] {
        assert!(metrics.contains(line), "{line}: {metrics}");
    }
    eprintln!("from notification to etcd: median {} ms, p99 {} ms", status.lag.p50_ms, status.lag.p99_ms);

    cloud.delete_server(&server).unwrap();
    world.wait_on(&server, &[]).unwrap();
    world.node.wait_held(guest.ifindex()).unwrap();
    assert_eq!(guest.get("/openstack/latest/meta_data.json").unwrap().status, 503);
    assert!(controller.terminate().unwrap().success());
}

fn guest_port(cloud: &Cloud, server: &str) -> String {
    cloud.ports_of(server).unwrap()[0]["id"].as_str().unwrap().to_owned()
}

#[test]
fn a_migrating_instance_has_its_document_on_both_hosts_and_then_on_its_new_one() {
    let cloud = CLOUD.get().unwrap();
    let world = World::new(&cloud).unwrap();
    let server = cloud.create_server("moving", "host1").unwrap();
    let mut controller = ControllerPlan::named("c1").queue("migrating").make(&world).unwrap();
    controller.start().unwrap();
    controller.wait_in_step().unwrap();
    world.wait_on(&server, &["host1"]).unwrap();
    cloud.migrations_take(Duration::from_secs(30)).unwrap();
    cloud.begin_live_migration(&server, "host2").unwrap();
    world.wait_on(&server, &["host1", "host2"]).unwrap();
    world.wait_on(&server, &["host2"]).unwrap();
    cloud.delete_server(&server).unwrap();
    world.wait_on(&server, &[]).unwrap();
}

#[test]
fn a_change_without_a_notification_is_found_by_the_listing() {
    let cloud = CLOUD.get().unwrap();
    let world = World::new(&cloud).unwrap();
    let server = cloud.create_server("quiet", HOST).unwrap();
    let plan = ControllerPlan::named("c1").further("[reconcile]\nrequests_per_second = 2000\nlist_interval = 5\n");
    let mut controller = plan.make(&world).unwrap();
    controller.start().unwrap();
    controller.wait_in_step().unwrap();
    cloud.set_property(&server, "role", "db").unwrap();
    let later = cloud.create_server("later", HOST).unwrap();
    patiently("the documents have what the listing found", || {
        let (first, second) = (world.document(HOST, &server)?, world.document(HOST, &later)?);
        Ok((first.is_some_and(|document| document["metadata"]["role"] == "db") && second.is_some()).then_some(()))
    })
    .unwrap();
    cloud.delete_server(&later).unwrap();
    world.wait_on(&later, &[]).unwrap();
    let status = controller.wait("nothing is wrong", |status| status.problems.is_empty()).unwrap();
    assert!(status.notifications.is_none(), "{status:#?}");
    cloud.delete_server(&server).unwrap();
}
