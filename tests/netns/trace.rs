//! `metadatad trace`: what it leaves behind when it ends.

use std::io::{BufRead as _, BufReader, Read as _};
use std::process::{Child, ChildStdout, Stdio};

use lab::{Guest, Node, NodePlan, bpf, daemon, wait};

/// Programs of the node that are loaded.
fn programs(node: &Node) -> Vec<u64> {
    let maps: Vec<_> = bpf::pinned_maps(node).unwrap().iter().filter_map(|(_, map)| map["id"].as_u64()).collect();
    bpf::programs_with(node, &maps).unwrap()
}

/// A trace that runs, and the pipe that it prints to, without which it would end.
type Trace = (Child, BufReader<ChildStdout>);

/// Starts a trace, and waits until it has printed what became of a packet of the guest's.
fn traced(node: &Node, guest: &Guest) -> Trace {
    let mut trace = daemon::verb(node.namespace(), node.config(), &["trace", guest.tap()]).unwrap();
    let mut trace = trace.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap();
    let mut printed = BufReader::new(trace.stdout.take().unwrap());
    let printed = std::thread::scope(|scope| {
        let reading = scope.spawn(move || {
            let found = printed.by_ref().lines().any(|line| line.is_ok_and(|line| line.contains("to_guest")));
            (found, printed)
        });
        wait::until("the trace prints what to_guest did", || {
            guest.get("/openstack")?;
            Ok(reading.is_finished().then_some(()))
        })
        .unwrap();
        let (found, printed) = reading.join().unwrap();
        assert!(found, "the trace ended");
        printed
    });
    (trace, printed)
}

fn end((mut trace, _): Trace) {
    // It may have ended with its tap.
    let _ = trace.kill();
    trace.wait().unwrap();
}

fn leaves_nothing(attach: &'static str) {
    let node = NodePlan::default().attach(attach).ports("guard = \"xdp\"\n").start().unwrap();
    let guest = node.guest("a").boot().unwrap();
    let mut going = node.guest("b").boot().unwrap();
    let before = programs(&node);
    let as_before = |what: &str| {
        wait::until(what, || Ok((programs(&node) == before).then_some(())))
            .unwrap_or_else(|error| panic!("{error:#}: {before:?}, {:?}; the log:\n{}", programs(&node), node.log()));
        assert_eq!(guest.read_uuid(true).unwrap(), guest.uuid());
    };
    let trace = traced(&node, &guest);
    assert!(programs(&node).len() > before.len(), "the test looks for the wrong programs");
    end(trace);
    as_before("a trace that is interrupted takes its programs along");

    let trace = traced(&node, &going);
    going.unplug(&node).unwrap();
    node.wait_unknown(going.ifindex()).unwrap();
    end(trace);
    as_before("a trace takes its programs along though its tap has gone");
}

#[test]
fn a_trace_leaves_no_program_behind_even_if_its_tap_goes_first() {
    leaves_nothing("auto");
}

#[test]
fn a_trace_leaves_no_program_behind_where_clsact_was_forced() {
    leaves_nothing("clsact");
}
