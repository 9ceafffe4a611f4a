//! Tests of `facts::openvswitch::rows`.

use serde_json::json;

use super::*;

const VM: &str = "11111111-2222-4333-8444-555555555555";
const PORT: &str = "aaaaaaaa-bbbb-4ccc-8ddd-000000000001";
const MAC: &str = "fa:16:3e:00:00:01";

fn row(name: &str, kind: &str, ids: &[(&str, &str)]) -> Value {
    let pairs: Vec<_> = ids.iter().map(|(key, value)| json!([key, value])).collect();
    json!({"new": {"name": name, "type": kind, "external_ids": ["map", pairs]}})
}

fn guest(name: &str, kind: &str) -> Value {
    let ids = [("iface-id", PORT), ("vm-uuid", VM), ("attached-mac", MAC), ("iface-status", "active")];
    row(name, kind, &ids)
}

fn report(rows: &Value) -> Report {
    let mut all = Rows::default();
    all.replace(rows);
    all.report()
}

fn devices(report: &Report) -> Vec<&str> {
    report.facts.iter().map(|(device, _)| device.as_str()).collect()
}

#[test]
fn a_guests_row_is_a_fact() {
    let report = report(&json!({"1": guest("tap1", "")}));
    let fact = Fact {
        instance: VM.parse().expect("an id"),
        project: None,
        port: Some(PORT.parse().expect("an id")),
        mac: Some(MAC.parse().expect("a MAC")),
        addresses: Vec::new(),
        fingerprint: None,
    };
    assert_eq!(report, Report { facts: vec![("tap1".to_owned(), fact)], ..Report::default() });
}

#[test]
fn libvirts_own_plugging_names_the_instance_too() {
    for ids in [
        &[("vm-id", VM)][..],
        &[("vm-id", VM), ("vm-uuid", VM)],
        &[("vm-id", &VM.to_uppercase()), ("vm-uuid", VM)],
        &[("vm-id", VM), ("vm-uuid", "")],
        &[("vm-id", "instance-00000001"), ("vm-uuid", VM)],
        &[("vm-id", VM), ("iface-status", "inactive")],
    ] {
        let ids = [&[("attached-mac", MAC), ("iface-id", PORT)], ids].concat();
        let rows = json!({"1": row("tap1", "", &ids)});
        assert_eq!(report(&rows), report(&json!({"1": guest("tap1", "")})), "{ids:?}");
    }
}

#[test]
fn a_row_that_names_two_instances_reports_both() {
    const OTHER: &str = "ffffffff-2222-4333-8444-555555555555";
    let ids = [("iface-id", PORT), ("vm-uuid", VM), ("vm-id", OTHER)];
    let both = report(&json!({"1": row("qvo1", "", &ids)}));
    let named: Vec<_> = both.facts.iter().map(|(device, fact)| (device.as_str(), fact.instance.to_string())).collect();
    let expected = [("tap1", VM), ("tap1", OTHER), ("qvo1", VM), ("qvo1", OTHER)];
    assert_eq!(named, expected.map(|(device, instance)| (device, instance.to_owned())));
    let around = report(&json!({"1": row("vhu1", "dpdkvhostuser", &ids)}));
    assert_eq!(around.unreachable_ports.len(), 2);
}

#[test]
fn with_hybrid_plugging_the_row_describes_the_tap_beside_it() {
    let report = report(&json!({"1": guest("qvoaaaaaaaa-bb", "")}));
    assert_eq!(devices(&report), ["tapaaaaaaaa-bb", "qvoaaaaaaaa-bb"]);
    assert_eq!(report.facts[0].1, report.facts[1].1);
}

#[test]
fn rows_of_others_are_no_facts() {
    let report = report(&json!({
        "1": row("tapdhcp", "internal", &[("iface-id", PORT), ("attached-mac", MAC)]),
        "2": row("br-int", "internal", &[]),
        "3": row("tap3", "", &[("vm-uuid", VM)]),
        "4": {"new": {"name": 7, "external_ids": ["map", 7]}},
        "5": {"new": {"name": "tap5", "external_ids": ["set", []]}},
        "6": {"new": "garbage"},
        "7": 7,
    }));
    assert_eq!(report, Report::default());
    let mut rows = Rows::default();
    rows.update(&Value::Null);
    rows.update(&json!(["garbage"]));
    assert_eq!(rows.report(), Report::default());
}

#[test]
fn rows_that_cannot_be_read_are_named_and_no_facts() {
    let report = report(&json!({
        "1": row("tap1", "", &[("iface-id", PORT), ("vm-uuid", "x")]),
        "2": row("tap2", "", &[("iface-id", "y"), ("vm-uuid", VM)]),
        "3": row("tap3", "", &[("iface-id", PORT), ("vm-uuid", VM), ("attached-mac", "z")]),
        "4": row("tap4", "", &[("iface-id", PORT), ("vm-id", "instance-00000001")]),
    }));
    assert!(report.facts.is_empty());
    for (problem, part) in report.unreadable.iter().zip([
        "tap1: external_ids:vm-uuid is `x`, which is not a UUID",
        "tap2: ",
        "tap3: external_ids:attached-mac is `z`, which is not a MAC address",
        "tap4: external_ids:vm-id is `instance-",
    ]) {
        assert!(problem.contains(part), "{problem}");
    }
    assert_eq!(report.unreadable.len(), 4);
}

#[test]
fn interfaces_around_the_kernel_are_named() {
    let report = report(&json!({"1": guest("vhuaaaaaaaa-bb", "dpdkvhostuserclient")}));
    assert!(report.facts.is_empty());
    assert_eq!(report.unreachable_ports[0].device, "vhuaaaaaaaa-bb");
}

#[test]
fn rows_come_change_and_go() {
    let mut rows = Rows::default();
    rows.replace(&json!({"1": guest("tap1", ""), "2": guest("tap2", "")}));
    rows.update(&json!({"1": {"old": {}}, "3": guest("tap3", "")}));
    assert_eq!(devices(&rows.report()), ["tap2", "tap3"]);
    rows.update(&json!({"2": row("tap2", "", &[])}));
    assert_eq!(devices(&rows.report()), ["tap3"]);
    rows.replace(&json!({}));
    assert!(rows.report().facts.is_empty());
}
