//! The daemon is restarted, ends or is killed while guests ask, and none of them notices.

use std::time::Instant;

use lab::crowd::{Fault, On, Seen};
use lab::{Crowd, Guest, Node, NodePlan, Request, wait};

/// Guests' connections that are busy all the time, and new ones in a second.
const BUSY: usize = 64;
const NEW: u32 = 500;

/// Requests of each kind before and after whatever happens.
const SOME: u64 = 1000;

/// Without limits that a crowd of guests would reach.
const UNLIMITED: &str = "requests_per_second = 0\n";

fn node(threads: usize) -> NodePlan {
    NodePlan::default().further(&format!("[http]\n{UNLIMITED}threads = {threads}\n\n"))
}

fn guests(node: &Node) -> Vec<Guest> {
    ["a", "b", "c", "d"].map(|name| node.guest(name).boot().unwrap()).into()
}

/// Has guests ask while something happens, and returns what they saw.
fn while_asked(guests: &[Guest], happens: impl FnOnce()) -> Seen {
    let crowd = Crowd::start(guests, BUSY, NEW).unwrap();
    crowd.wait_for(SOME).unwrap();
    happens();
    crowd.wait_for(SOME).unwrap();
    let seen = crowd.finish().unwrap();
    println!(
        "{} requests on {BUSY} kept connections, {} on new ones, {:.0} per second; {} failed; the longest took {:?} from asking \
         for the connection to its answer",
        seen.kept,
        seen.new,
        seen.new as f64 / seen.lasted.as_secs_f64(),
        seen.faults.len(),
        seen.longest
    );
    seen
}

#[test]
fn a_restart_loses_no_request() {
    let node = node(2).keeps_sockets().start().unwrap();
    let guests = guests(&node);
    let seen = while_asked(&guests, || {
        node.stop_daemon().unwrap();
        node.start_daemon().unwrap();
    });
    assert!(seen.faults.is_empty(), "{:#?}", seen.faults);
    assert_eq!(node.kept_sockets(), ["guests-80-0", "guests-80-1"]);
    assert!(node.log().contains("listening where a former daemon did"), "{}", node.log());
}

#[test]
fn a_kill_loses_what_was_in_flight_and_refuses_nobody() {
    let node = node(2).keeps_sockets().start().unwrap();
    let guests = guests(&node);
    let mut killed = None;
    let seen = while_asked(&guests, || {
        node.kill_daemon().unwrap();
        killed = Some(Instant::now());
        node.start_daemon().unwrap();
    });
    let killed = killed.unwrap();
    let (kept, new): (Vec<_>, Vec<_>) = seen.faults.iter().partition(|fault: &&Fault| fault.on == On::Kept);
    assert!(seen.faults.iter().all(|fault| !fault.refused), "{:#?}", seen.faults);
    assert!(kept.len() <= BUSY, "more failed than there were connections: {kept:#?}");
    assert!(new.iter().all(|fault| fault.begun < killed), "began after the kill: {new:#?}");
}

#[test]
fn a_take_over_loses_no_request() {
    let node = node(2).start().unwrap();
    let guests = guests(&node);
    let former = node.daemon_id();
    let seen = while_asked(&guests, || node.take_over().unwrap());
    assert!(seen.faults.is_empty(), "{:#?}", seen.faults);
    assert_ne!(node.daemon_id(), former);
    assert!(!node.path("admin.sock.new").exists());
    // It manages the ports, and writes the snapshot.
    let late = node.guest("late").boot().unwrap();
    assert_eq!(late.read_uuid(false).unwrap(), late.uuid());
    wait::until("the snapshot has five", || Ok((node.status()?["snapshot"]["instances"] == 5).then_some(()))).unwrap();
    // And can be taken over from, in its turn.
    node.take_over().unwrap();
    assert_eq!(late.read_uuid(true).unwrap(), late.uuid());
}

#[test]
fn a_daemon_whose_successor_fails_goes_on() {
    let node = node(2).start().unwrap();
    let guests = guests(&node);
    let broken = node.path("broken.toml");
    let text = std::fs::read_to_string(node.config()).unwrap();
    // It fails where it has the sockets, and is about to load the programs.
    std::fs::write(&broken, text.replace("pin_dir = \"", "pin_dir = \"/proc/none")).unwrap();
    let seen = while_asked(&guests, || {
        node.fail_to_take_over(&broken, |_| Ok(())).unwrap();
        node.fail_to_take_over(node.config(), |daemon| {
            // The second one that gets them.
            let got = || node.log().matches("listening where a former").count();
            wait::until("it has the sockets", || Ok((got() == 2).then_some(())))?;
            daemon.kill()
        })
        .unwrap();
    });
    assert!(seen.faults.is_empty(), "{:#?}", seen.faults);
    assert_eq!(node.log().matches("putting the programs back").count(), 2, "{}", node.log());
    let late = node.guest("late").boot().unwrap();
    assert_eq!(late.read_uuid(false).unwrap(), late.uuid());
    wait::until("the snapshot has five", || Ok((node.status()?["snapshot"]["instances"] == 5).then_some(()))).unwrap();
}

#[test]
fn a_take_over_without_a_daemon_is_a_start() {
    let node = node(1).make().unwrap();
    node.start_daemon_with(&["--take-over"]).unwrap();
    let guest = node.guest("a").boot().unwrap();
    assert_eq!(guest.read_uuid(false).unwrap(), guest.uuid());
}

/// Waits for the daemon's end, and for the next one with other settings; meanwhile guests connect and ask.
fn connections_that_wait_are_answered(before: usize, after: usize) {
    let node = node(before).keeps_sockets().start().unwrap();
    let guest = node.guest("a").boot().unwrap();
    node.kill_daemon().unwrap();
    let request = Request::get("/openstack").patience(wait::PATIENCE);
    let answers = guest.namespace().run(|| {
        let mut waiting = Vec::new();
        // Enough for every socket to have some of them in its queue.
        for _ in 0..64 {
            waiting.push(request.connect()?);
        }
        let text = std::fs::read_to_string(node.config())?;
        let (was, is) = (format!("threads = {before}\n"), format!("threads = {after}\n"));
        assert!(text.contains(&was), "{text}");
        std::fs::write(node.config(), text.replace(&was, &is))?;
        node.start_daemon()?;
        waiting
            .iter_mut()
            .map(|connection| Ok(connection.exchange(&request)?.status))
            .collect::<anyhow::Result<Vec<_>>>()
    });
    assert_eq!(answers.unwrap(), [200; 64]);
    let names: Vec<_> = (0..after).map(|number| format!("guests-80-{number}")).collect();
    // What is notified arrives a moment later.
    wait::until("the store holds what is in use", || Ok((node.kept_sockets() == names).then_some(()))).unwrap();
}

#[test]
fn with_fewer_threads_what_waits_at_the_sockets_too_many_is_answered() {
    connections_that_wait_are_answered(4, 1);
}

#[test]
fn with_more_threads_sockets_are_added() {
    connections_that_wait_are_answered(1, 3);
}

#[test]
fn sockets_of_a_namespace_that_is_gone_are_closed() {
    let node = node(2).keeps_sockets().start().unwrap();
    let guest = node.guest("a").boot().unwrap();
    node.stop_daemon().unwrap();
    node.ask(&["detach"]).unwrap();
    node.start_daemon().unwrap();
    node.wait_bound(guest.ifindex()).unwrap();
    assert_eq!(guest.read_uuid(false).unwrap(), guest.uuid());
    assert!(node.log().contains("it belongs to another network namespace"), "{}", node.log());
    wait::until("the store holds the new ones", || {
        Ok((node.kept_sockets() == ["guests-80-0", "guests-80-1"]).then_some(()))
    })
    .unwrap();
    assert_eq!(guest.read_uuid(true).unwrap(), guest.uuid());
}
