//! Two controllers: one leads, and another takes over when it dies, hangs or resigns.

use std::time::Instant;

use anyhow::Context as _;
use lab::controller::{Controller, ControllerPlan, HOST, World};
use nix::sys::signal::Signal;

use super::{CLOUD, patiently};

#[test]
fn another_controller_takes_over_and_no_older_content_is_written_over_newer() {
    let cloud = CLOUD.get().unwrap();
    let world = World::new(&cloud).unwrap();
    let servers: Vec<String> =
        (0..3).map(|number| cloud.create_server(&format!("led-{number}"), HOST).unwrap()).collect();
    let mut first = ControllerPlan::named("c1").queue("leaders").make(&world).unwrap();
    let mut second = ControllerPlan::named("c2").queue("leaders").make(&world).unwrap();
    first.start().unwrap();
    first.wait_in_step().unwrap();
    second.start().unwrap();
    second
        .wait("the second waits", |status| {
            status.state == "waiting" && status.leader.as_ref().is_some_and(|leader| leader.name == "c1")
        })
        .unwrap();
    // Only the leader does what only a leader can.
    let refused = second.run(&["reread", "--all"]).unwrap();
    assert!(!refused.status.success());
    assert!(String::from_utf8_lossy(&refused.stderr).contains("c1 leads; ask it there"), "{refused:?}");

    let mut value = 0;
    let mut change = |rounds: usize| {
        for _ in 0..rounds {
            value += 1;
            for server in &servers {
                cloud.set_property(server, "value", &value.to_string()).unwrap();
            }
        }
        value
    };
    let converged = |expected: usize, leader: &Controller| {
        let expected = expected.to_string();
        patiently(&format!("every document has the value {expected}"), || {
            for server in &servers {
                let document = world.document(HOST, server)?;
                if document.is_none_or(|document| document["metadata"]["value"].as_str() != Some(&expected)) {
                    return Ok(None);
                }
            }
            Ok(Some(()))
        })
        .with_context(|| format!("the leader's log:\n{}", leader.log()))
        .unwrap();
    };
    // Resigned.
    let resigned = first.run(&["resign"]).unwrap();
    assert!(resigned.status.success(), "{resigned:?}");
    assert_eq!(String::from_utf8_lossy(&resigned.stdout), "c2 leads now\n");
    let last = change(3);
    converged(last, &second);
    // Hangs, and goes on later, while the other leads.
    let start = Instant::now();
    second.signal(Signal::SIGSTOP).unwrap();
    let last = change(5);
    first.wait("the first leads again", |status| status.state == "leading").unwrap();
    eprintln!("another leads {:?} after the leader began to hang", start.elapsed());
    converged(last, &first);
    second.signal(Signal::SIGCONT).unwrap();
    let last = change(5);
    second.wait("the second knows that it does not lead", |status| status.state == "waiting").unwrap();
    converged(last, &first);
    // Killed.
    let start = Instant::now();
    first.kill().unwrap();
    let last = change(5);
    second.wait("the second leads", |status| status.state == "leading").unwrap();
    eprintln!("another leads {:?} after the leader was killed", start.elapsed());
    converged(last, &second);
    for server in &servers {
        cloud.delete_server(server).unwrap();
    }
    for server in &servers {
        world.wait_on(server, &[]).unwrap();
    }
}
