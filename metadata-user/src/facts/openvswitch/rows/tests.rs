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

fn told(rows: &Value) -> Report {
    let mut all = Rows::default();
    all.replace(rows);
    all.told()
}

fn devices(told: &Report) -> Vec<&str> {
    told.facts.iter().map(|(device, _)| device.as_str()).collect()
}

#[test]
fn a_guests_row_is_a_fact() {
    let told = told(&json!({"1": guest("tap1", "")}));
    let fact = Fact {
        instance: VM.parse().expect("an id"),
        project: None,
        port: Some(PORT.parse().expect("an id")),
        mac: Some(MAC.parse().expect("a MAC")),
        addresses: Vec::new(),
    };
    assert_eq!(told, Report { facts: vec![("tap1".to_owned(), fact)], ..Report::default() });
}

#[test]
fn with_hybrid_plugging_the_row_speaks_of_the_tap_beside_it() {
    let told = told(&json!({"1": guest("qvoaaaaaaaa-bb", "")}));
    assert_eq!(devices(&told), ["tapaaaaaaaa-bb", "qvoaaaaaaaa-bb"]);
    assert_eq!(told.facts[0].1, told.facts[1].1);
}

#[test]
fn rows_of_nobody_say_nothing() {
    let told = told(&json!({
        "1": row("tapdhcp", "internal", &[("iface-id", PORT), ("attached-mac", MAC)]),
        "2": row("br-int", "internal", &[]),
        "3": row("tap3", "", &[("vm-uuid", VM)]),
        "4": {"new": {"name": 7, "external_ids": ["map", 7]}},
        "5": {"new": {"name": "tap5", "external_ids": ["set", []]}},
        "6": {"new": "garbage"},
        "7": 7,
    }));
    assert_eq!(told, Report::default());
    let mut rows = Rows::default();
    rows.update(&Value::Null);
    rows.update(&json!(["garbage"]));
    assert_eq!(rows.told(), Report::default());
}

#[test]
fn rows_that_cannot_be_read_are_named_and_no_facts() {
    let told = told(&json!({
        "1": row("tap1", "", &[("iface-id", PORT), ("vm-uuid", "x")]),
        "2": row("tap2", "", &[("iface-id", "y"), ("vm-uuid", VM)]),
        "3": row("tap3", "", &[("iface-id", PORT), ("vm-uuid", VM), ("attached-mac", "z")]),
    }));
    assert!(told.facts.is_empty());
    for (problem, part) in told.unreadable.iter().zip(["tap1: external_ids:vm-uuid is `x`", "tap2: ", "tap3: "]) {
        assert!(problem.contains(part), "{problem}");
    }
    assert_eq!(told.unreadable.len(), 3);
}

#[test]
fn interfaces_around_the_kernel_are_named() {
    let told = told(&json!({"1": guest("vhuaaaaaaaa-bb", "dpdkvhostuserclient")}));
    assert!(told.facts.is_empty());
    assert_eq!(told.unreachable_ports[0].device, "vhuaaaaaaaa-bb");
}

#[test]
fn rows_come_change_and_go() {
    let mut rows = Rows::default();
    rows.replace(&json!({"1": guest("tap1", ""), "2": guest("tap2", "")}));
    rows.update(&json!({"1": {"old": {}}, "3": guest("tap3", "")}));
    assert_eq!(devices(&rows.told()), ["tap2", "tap3"]);
    rows.update(&json!({"2": row("tap2", "", &[])}));
    assert_eq!(devices(&rows.told()), ["tap3"]);
    rows.replace(&json!({}));
    assert!(rows.told().facts.is_empty());
}
