//! What a leader leaves for the next one: instances that have not changed are not read again.

use lab::controller::{ControllerPlan, HOST, World};
use lab::openstack::{Cloud, Plan};
use metadata_user::admin::wire::ControllerStatus;
use serde_json::Value;

use super::patiently;

/// Requests to Nova's metadata API so far.
fn requests(status: &ControllerStatus) -> u64 {
    status.services.iter().filter(|service| service.name == "metadata_api").map(|service| service.reads).sum()
}

#[test]
fn the_next_leader_reads_only_what_has_changed_or_was_to_be_read_again() {
    // Its own, in which no other test changes anything.
    let cloud = Cloud::start(Plan::default().hosts(1)).unwrap();
    let world = World::new(&cloud).unwrap();
    let servers: Vec<String> =
        (0..3).map(|number| cloud.create_server(&format!("left-{number}"), HOST).unwrap()).collect();
    let mut first = ControllerPlan::named("c1").queue("takeover").make(&world).unwrap();
    let mut second = ControllerPlan::named("c2").queue("takeover").make(&world).unwrap();
    first.start().unwrap();
    first.wait_in_step().unwrap();
    let note = |server: &str| -> anyhow::Result<Option<Value>> {
        let key = format!("/metadatad/controller/instances/{server}");
        let text = world.etcd.etcdctl(&["get", &key, "--print-value-only"])?;
        if text.trim().is_empty() { Ok(None) } else { Ok(Some(serde_json::from_str(&text)?)) }
    };
    patiently("each instance is read again after the time of Nova's cache, and nothing is open", || {
        for server in &servers {
            if note(server)?.is_none_or(|note| note["is_open"] != false) {
                return Ok(None);
            }
        }
        Ok(Some(()))
    })
    .unwrap();
    let read = first.status().unwrap();
    assert!(requests(&read) > 0, "{read:#?}");

    second.start().unwrap();
    second.wait("the second waits", |status| status.state == "waiting").unwrap();
    assert!(first.run(&["resign"]).unwrap().status.success());
    let status = second.wait_in_step().unwrap();
    assert_eq!(requests(&status), 0, "nothing has changed: {status:#?}");
    let known = second.instances().unwrap();
    for server in &servers {
        let known = known.iter().find(|known| known.instance == *server).unwrap();
        assert_eq!((known.fidelity.as_str(), known.status.as_deref()), ("document", Some("ACTIVE")), "{known:?}");
    }

    // A change while nobody leads is found.
    second.kill().unwrap();
    first.kill().unwrap();
    cloud.rename(&servers[0], "renamed-meanwhile").unwrap();
    first.start().unwrap();
    patiently("the document has the new name", || {
        let document = world.document(HOST, &servers[0])?;
        Ok(document.filter(|document| document["display_name"] == "renamed-meanwhile"))
    })
    .unwrap();
    for server in &servers {
        cloud.delete_server(server).unwrap();
        world.wait_on(server, &[]).unwrap();
        assert_eq!(note(server).unwrap(), None, "the note goes with the documents");
    }
}
