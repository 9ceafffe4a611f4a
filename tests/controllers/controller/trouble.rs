//! Services that stop, hang, lie or are replaced: guests go on being served, nothing is removed, and the status says what is wrong.

use lab::controller::{Controller, ControllerPlan, HOST, World};
use lab::openstack::{Cloud, Plan, Service};

/// Waits until the status names a problem with all of these words, and no document went.
fn wait_problem(world: &World<'_>, controller: &Controller, server: &str, words: &[&str]) {
    controller
        .wait(&format!("the status names {words:?}"), |status| {
            status.problems.iter().any(|problem| words.iter().all(|word| problem.contains(word)))
        })
        .unwrap();
    assert!(world.document(HOST, server).unwrap().is_some(), "the document stays");
}

#[test]
fn whatever_fails_is_named_and_takes_no_document_away() {
    let cloud = Cloud::start(Plan::default().hosts(1)).unwrap();
    let world = World::new(&cloud).unwrap();
    let server = cloud.create_server("steady", HOST).unwrap();
    let plan = ControllerPlan::named("c1").queue("trouble");
    let plan = plan.further("[reconcile]\nrequests_per_second = 2000\nlist_interval = 5\n");
    let mut controller = plan.make(&world).unwrap();
    controller.start().unwrap();
    controller.wait_in_step().unwrap();
    let well = |what: &str| {
        controller
            .wait(&format!("all is well again after {what}"), |status| {
                status.problems.is_empty() && status.backlog == 0
            })
            .unwrap();
    };
    for (service, words) in [
        (Service::Nova, ["Nova", "nova-api"]),
        (Service::Metadata, ["metadata", "nova-api-metadata"]),
        (Service::Neutron, ["Neutron", "neutron-server"]),
    ] {
        cloud.stop(&service).unwrap();
        controller.run(&["reread", &server]).unwrap();
        wait_problem(&world, &controller, &server, &words);
        cloud.resume(&service).unwrap();
        well(&format!("{service:?}"));
    }
    cloud.rabbitmq().stop().unwrap();
    wait_problem(&world, &controller, &server, &["RabbitMQ"]);
    cloud.set_property(&server, "while", "away").unwrap_or_default();
    cloud.rabbitmq().resume().unwrap();
    // Its exchange is there again when it next sends something.
    cloud.create_security_group("sends-a-notification").unwrap();
    well("RabbitMQ");
    // A fresh database: another cloud, of which every instance is unknown.
    cloud.replace_nova().unwrap();
    wait_problem(&world, &controller, &server, &["controller accept"]);
    // Only the operator's word makes its answers count.
    let accepted = controller.run(&["accept"]).unwrap();
    assert!(accepted.status.success(), "{accepted:?}");
    world.wait_on(&server, &[]).unwrap();
}
