//! Cells of Nova's with a metadata API each.

use lab::controller::World;
use lab::nova::{another, facts};

use super::golden::plan;
use super::patiently;
use crate::nova::cloud::{Ask, uuid};
use crate::nova::golden::{ELSEWHERE, WHOLE};
use crate::openstack::CLOUD;

#[test]
fn cells_with_a_metadata_api_each_are_asked_for_their_own_instances_also_after_a_move() {
    let (cloud, whole) = (CLOUD.get().unwrap(), WHOLE.get().unwrap());
    let (first, second) = std::thread::scope(|scope| {
        let first = scope.spawn(|| whole.nova.cell_metadata_api("cell1").unwrap());
        (whole.nova.cell_metadata_api("cell2").unwrap(), first.join().unwrap())
    });
    let (second, first) = (first, second);
    let plain = facts("plain").unwrap();
    let mut moving = another(&plain, ELSEWHERE);
    let ask = Ask::get("/openstack");
    let status = |port, facts| ask.of_nova(port, facts).map(|answer| answer.status);
    assert_eq!((status(first.port(), &plain), status(first.port(), &moving)), (Some(200), Some(404)));
    assert_eq!((status(second.port(), &plain), status(second.port(), &moving)), (Some(404), Some(200)));

    let ports = [first.port(), second.port(), whole.compute.port(), whole.nova.neutron_port()];
    let world = World::reaching(&cloud, "", &ports).unwrap();
    let cells = format!("cells = [[{:?}], [{:?}]]", first.url(), second.url());
    let plan = plan(&whole, &cells).further("[reconcile]\nrequests_per_second = 2000\nlist_interval = 5\n");
    let mut controller = plan.make(&world).unwrap();
    controller.start().unwrap();
    let status = controller.wait_in_step().unwrap();
    assert_eq!(status.problems, Vec::<String>::new());
    world.wait_on(&uuid(&plain), &["host1"]).unwrap();
    world.wait_on(&uuid(&moving), &["host2"]).unwrap();

    // To a host that no cell is known by.
    moving["host"] = "host3".into();
    moving["instance"]["metadata"] = serde_json::json!({"cell": "the first"});
    whole.nova.move_to_cell("cell1", &moving).unwrap();
    patiently("the instance has a document on its new host, from its new cell", || {
        let document = world.document("host3", &uuid(&moving))?;
        Ok(document.filter(|document| document["metadata"]["cell"] == "the first").map(drop))
    })
    .unwrap();
    world.wait_on(&uuid(&moving), &[]).unwrap();

    // Without a cell's API nothing goes, and the other cell's instances are read.
    drop(first);
    let reread = |facts| controller.run(&["reread", &uuid(facts)]).unwrap();
    reread(&plain);
    let failing = controller.wait("the cell's API is reported", |status| !status.problems.is_empty()).unwrap();
    assert!(failing.problems.iter().any(|problem| problem.contains("metadata")), "{:?}", failing.problems);
    assert!(world.document("host1", &uuid(&plain)).unwrap().is_some());
}
