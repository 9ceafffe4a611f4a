//! Checks of evidence that no test can plant on a real node, and of what all of them promise.

use std::collections::BTreeMap;

use super::super::evidence::{Answers, Daemon, Settings};
use super::super::finding::Level;
use super::*;
use crate::admin::wire::{Anomaly, Https, Identity, LastDrop, PortStatus, State, Status};
use crate::dataplane::IfIndex;
use crate::dataplane::inspect::OnHook;
use crate::port::look::LinkView;

fn evidence(daemon: Daemon) -> Evidence {
    Evidence {
        now: 1_700_000_000,
        settings: Settings {
            error: None,
            socket: "/run/s".into(),
            pin_dir: "/pins".into(),
            namespace: "md".to_owned(),
            interface: "md0".to_owned(),
            listens: vec![80],
        },
        daemon,
        kernel: Err("not here".to_owned()),
        disks: Vec::new(),
        clock_jump: None,
        identity_changed_at: None,
        ports: Vec::new(),
    }
}

fn answering(status: Status) -> Evidence {
    evidence(Daemon::Answers(Box::new(Answers { status, ..Answers::default() })))
}

fn problems(findings: &[Finding]) -> Vec<String> {
    findings.iter().filter(|finding| finding.level == Level::Problem).map(Finding::sentence).collect()
}

#[test]
fn a_clock_that_was_set_is_named_with_its_way() {
    for (jump, expected) in
        [(0, None), (59, None), (-59, None), (7200, Some("forward by 2 h")), (-90, Some("back by 90 s"))]
    {
        let found = clock::check(&Evidence { clock_jump: Some(jump), ..answering(Status::default()) });
        assert_eq!(
            problems(&found).first().is_some_and(|text| text.contains(expected.unwrap_or("?"))),
            expected.is_some()
        );
    }
}

#[test]
fn a_daemon_that_does_not_answer_is_told_from_one_that_is_not_there() {
    let silent = |state| evidence(Daemon::Silent { process: Some(7), state });
    for (evidence, expected) in [
        (evidence(Daemon::Down), "no daemon runs"),
        (silent(Some('T')), "`kill -CONT 7`"),
        (silent(Some('D')), "hangs in the kernel"),
        (silent(Some('S')), "does not answer on its socket"),
        (answering(Status { waiting_for: vec!["source".to_owned()], ..Status::default() }), "it waits for source"),
        (answering(Status { draining: true, ready: true, ..Status::default() }), "is stopping"),
    ] {
        let found = problems(&daemon::check(&evidence));
        assert!(found.len() == 1 && found[0].contains(expected), "{found:?}");
    }
}

#[test]
fn a_certificate_is_named_before_and_after_its_end() {
    let now = 1_700_000_000;
    for (end, expected) in
        [(now - 60, Some("expired 60 s ago")), (now + 3600, Some("expires in 60 min")), (now + 30 * 24 * 3600, None)]
    {
        let https = Https { not_after: Some(end), ..Https::default() };
        let found = problems(&certificate::check(&answering(Status { https: Some(https), ..Status::default() })));
        assert_eq!(
            found.first().is_some_and(|text| text.contains(expected.unwrap_or("?"))),
            expected.is_some(),
            "{found:?}"
        );
    }
}

#[test]
fn keys_that_cannot_be_used_are_a_problem_and_those_that_rest_for_long_are_noted() {
    const DAY: u64 = 24 * 3600;
    let found = |keys: &[&str], error: Option<&str>, days: Option<u64>| {
        let key_ids = keys.iter().map(|key| (*key).to_owned()).collect();
        let identity = Identity { key_ids, error: error.map(str::to_owned), ..Identity::default() };
        let evidence = answering(Status { identity: Some(identity), ..Status::default() });
        let identity_changed_at = days.map(|days| evidence.now - days * DAY);
        let found = identity::check(&Evidence { identity_changed_at, ..evidence });
        found.into_iter().map(|finding| (finding.level, finding.sentence())).collect::<Vec<_>>()
    };
    assert!(identity::check(&answering(Status::default())).is_empty(), "nothing is to be signed");
    for (keys, error, days, expected) in [
        (&["a"][..], None, None, vec![(Level::Passed, "with the key a")]),
        (&["a", "b"], None, Some(6), vec![(Level::Passed, "with the key a")]),
        (&["a"], Some("it is gone"), Some(1), vec![(Level::Problem, "a signs: it is gone")]),
        (&[], Some("it is empty"), Some(400), vec![(Level::Problem, "get 503: it is empty")]),
        (&["a", "b"], None, Some(8), vec![(Level::Passed, "a"), (Level::Note, "8 days, and has 2 keys")]),
        (&["a"], None, Some(366), vec![(Level::Passed, "a"), (Level::Note, "366 days: rotate the key")]),
    ] {
        let found = found(keys, error, days);
        let is_as_expected = |((level, text), (expected, part)): (&(Level, String), &(Level, &str))| {
            level == expected && text.contains(part)
        };
        assert!(found.len() == expected.len() && found.iter().zip(&expected).all(is_as_expected), "{found:?}");
    }
}

#[test]
fn a_limit_of_long_ago_is_no_problem_of_now() {
    let evidence = answering(Status::default());
    let drop = |at| LastDrop { reason: "limit_packets".to_owned(), at, ..LastDrop::default() };
    let port = |at| Port {
        packets: BTreeMap::from([("limit_packets".to_owned(), 5)]),
        drops: vec![drop(at)],
        ..Port::default()
    };
    assert!(problems(&limits::check(&evidence, &port(evidence.now - 60)))[0].contains("5 packets"));
    assert!(problems(&limits::check(&evidence, &port(evidence.now - 7200))).is_empty());
    let reached = Anomaly { kind: "limit_reached".to_owned(), count: 2, last_at: evidence.now - 1 };
    let found = limits::check(&evidence, &Port { anomalies: vec![reached], ..Port::default() });
    assert!(problems(&found)[0].contains("2 requests or connections"));
}

#[test]
fn policing_of_open_vswitch_is_no_foreign_program() {
    let on = |what: &str, ours: Option<&str>, is_policing| OnHook {
        what: what.to_owned(),
        ours: ours.map(str::to_owned),
        is_policing,
    };
    let link = LinkView { ifindex: IfIndex(3), name: "tap".to_owned(), is_up: true, has_carrier: true, carrier_ups: 1 };
    let kernel = Ok(super::super::evidence::Kernel {
        maps_error: None,
        is_pinned: true,
        is_of_this_version: true,
        responder: Err(String::new()),
        pair_from: Vec::new(),
        pair_to: Vec::new(),
        bridge_netfilter: false,
    });
    let evidence = Evidence { kernel, ..answering(Status::default()) };
    let ours = || on("the filter of kind bpf", Some("from_guest"), false);
    let found = |first| {
        let port = Port { link: Some(link.clone()), from_guest: vec![first, ours()], ..Port::default() };
        problems(&attachment::check(&evidence, &port))
    };
    assert!(found(on("the filter of kind matchall, priority 1", None, true)).is_empty());
    assert!(found(on("the filter of kind flower, priority 1", None, false))[0].contains("kind flower"));
}

/// What a check knows nothing of it says nothing of.
#[test]
fn without_evidence_only_its_absence_is_found() {
    let port = Port { tap: "tap1".to_owned(), ..Port::default() };
    let found = run(&evidence(Daemon::Down), &[&port]);
    assert_eq!(problems(&found).len(), 1, "{found:?}");
    let refused = PortStatus {
        ifindex: 3,
        tap: "tap1".to_owned(),
        name: "tap1".to_owned(),
        tag: None,
        state: State::Refused,
        instance: None,
        project: None,
        port: None,
        origin: None,
        mac: None,
        sources: Vec::new(),
        attached: None,
        guarded: false,
        guard: None,
        guard_missing: None,
        reason: Some("claimed by two".to_owned()),
    };
    let port = Port { status: Some(refused), ..port };
    let found = run(&answering(Status { ready: true, ..Status::default() }), &[&port]);
    assert!(problems(&found).iter().any(|text| text.contains("claimed by two")), "{found:?}");
    assert!(found.iter().all(|finding| !finding.check.is_empty()));
}
