//! Tests of `port::reconcile`.

use uuid::Uuid;

use super::*;
use crate::config::Config;
use crate::store::tests::{id, record};

fn port(number: u128) -> PortId {
    PortId(Uuid::from_u128(number))
}

/// As the first port of [`record`] has it.
const MAC: MacAddress = MacAddress([0xfa, 0x16, 0x3e, 0, 0, 1]);
const OTHER_MAC: MacAddress = MacAddress([0xfa, 0x16, 0x3e, 0, 0, 0xff]);

fn fact(instance: u128, port_number: Option<u128>, mac: Option<MacAddress>) -> Fact {
    Fact {
        instance: id(instance),
        project: Some("of-fact".into()),
        port: port_number.map(port),
        mac,
        addresses: vec!["10.0.0.9".parse().expect("an address")],
        fingerprint: None,
    }
}

fn ovs(instance: u128, port: u128) -> (Observer, Fact) {
    (Observer::OpenVswitch, fact(instance, Some(port), Some(MAC)))
}

fn libvirt(instance: u128, port: Option<u128>) -> (Observer, Fact) {
    (Observer::Libvirt, fact(instance, port, Some(MAC)))
}

/// A document of an instance with one port on this device: port `instance << 8 | 1`.
fn document(instance: u128, device: &str) -> InstanceRecord {
    record(instance, "of-document", &[device])
}

/// Decides about `tap1` on a node with these documents.
fn decide(facts: &[(Observer, Fact)], documents: &[InstanceRecord], unbound: Unbound) -> DesiredPort {
    let claims: Vec<_> = documents
        .iter()
        .flat_map(|record| {
            record.ports.iter().filter(|port| port.device_name() == "tap1").map(|port| Claim {
                instance: record.uuid,
                project: record.project_id.clone(),
                port: port.clone(),
            })
        })
        .collect();
    let record = facts.first().and_then(|(_, fact)| documents.iter().find(|record| record.uuid == fact.instance));
    let mut rules = Config::default().ports;
    rules.unbound = unbound;
    desired(&Evidence { device: "tap1", facts, claims: &claims, record, has_content: record.is_some() }, &rules)
}

/// Instance, port, origin, project, and whether any address is allowed.
type Short = (InstanceId, Option<PortId>, &'static str, &'static str, bool);

#[track_caller]
fn bound(desired: DesiredPort) -> (Short, MacAddress) {
    let DesiredPort::Bound(to) = desired else { panic!("{desired:?}") };
    let any = to.sources == any_address(to.mac) && !to.any_address;
    let project = if to.project.as_deref() == Some("of-fact") { "of-fact" } else { "of-document" };
    ((to.instance, to.port, to.origin.name(), project, any), to.mac)
}

#[test]
fn facts_come_before_documents_and_documents_fill_in() {
    let p = |number| Some(port(number));
    for (facts, documents, expected) in [
        (vec![], vec![document(1, "tap1")], (id(1), p(0x101), "document", "of-document", false)),
        (vec![ovs(1, 0x101)], vec![], (id(1), p(0x101), "Open vSwitch", "of-fact", true)),
        (vec![libvirt(1, None)], vec![], (id(1), None, "libvirt", "of-fact", true)),
        (vec![ovs(1, 0x101), libvirt(1, Some(0x101))], vec![], (id(1), p(0x101), "Open vSwitch", "of-fact", true)),
        (vec![ovs(1, 0x101), libvirt(1, None)], vec![], (id(1), p(0x101), "Open vSwitch", "of-fact", true)),
        // By the port's id, whatever device the document names.
        (vec![ovs(1, 0x101)], vec![document(1, "tap9")], (id(1), p(0x101), "Open vSwitch", "of-document", false)),
        // By the device's name, where the observer knows no port.
        (vec![libvirt(1, None)], vec![document(1, "tap1")], (id(1), p(0x101), "libvirt", "of-document", false)),
        (vec![libvirt(1, None)], vec![document(1, "tap9")], (id(1), None, "libvirt", "of-document", true)),
        // Plugged in before the document knows of it.
        (vec![ovs(1, 0x102)], vec![document(1, "tap9")], (id(1), p(0x102), "Open vSwitch", "of-document", true)),
        // Somebody else's document about something else.
        (vec![ovs(1, 0x101)], vec![document(2, "tap9")], (id(1), p(0x101), "Open vSwitch", "of-fact", true)),
    ] {
        let (short, mac) = bound(decide(&facts, &documents, Unbound::Hold));
        assert_eq!((short, mac), (expected, MAC), "{facts:?} {documents:?}");
    }
}

#[test]
fn evidence_that_disagrees_is_named_with_the_remedy() {
    let other_mac = |observer, instance, number| (observer, fact(instance, Some(number), Some(OTHER_MAC)));
    for (facts, documents, parts) in [
        (
            vec![ovs(1, 0x101), libvirt(2, Some(0x101))],
            vec![],
            vec!["Open vSwitch says instance", "libvirt says instance", "external_ids of interface tap1", "the domain"],
        ),
        (
            vec![ovs(1, 0x101), libvirt(1, Some(0x102))],
            vec![],
            vec!["Open vSwitch says port", "libvirt says port 00000000-0000-0000-0000-000000000102"],
        ),
        (
            vec![ovs(1, 0x101), other_mac(Observer::Libvirt, 1, 0x101)],
            vec![],
            vec!["Open vSwitch says MAC fa:16:3e:00:00:01", "libvirt says MAC fa:16:3e:00:00:ff"],
        ),
        (
            vec![libvirt(1, None), libvirt(2, None)],
            vec![],
            vec!["libvirt says instance", "correct the domain 00000000-0000-0000-0000-000000000001 in libvirt or"],
        ),
        (
            vec![ovs(1, 0x101), ovs(2, 0x101)],
            vec![],
            vec!["Open vSwitch says instance", ": correct the external_ids of interface tap1 in Open vSwitch"],
        ),
        (
            vec![ovs(1, 0x101)],
            vec![document(2, "tap1")],
            vec!["Open vSwitch says instance", "the document of 00000000-0000-0000-0000-000000000002 says instance"],
        ),
        (
            vec![ovs(1, 0x101)],
            vec![document(1, "tap9"), document(2, "tap1")],
            vec!["the document of 00000000-0000-0000-0000-000000000002 says instance"],
        ),
        (
            vec![ovs(1, 0x1ff)],
            vec![document(1, "tap1")],
            vec!["Open vSwitch says port", "the document of", "says port 00000000-0000-0000-0000-000000000101"],
        ),
        (
            vec![other_mac(Observer::OpenVswitch, 1, 0x101)],
            vec![document(1, "tap9")],
            vec!["says MAC fa:16:3e:00:00:ff", "says MAC fa:16:3e:00:00:01", "or port 00000000"],
        ),
        (vec![libvirt(1, None)], vec![record(1, "p", &["tap1", "tap1"])], vec!["says MAC", "the document of"]),
        (vec![], vec![document(1, "tap1"), document(2, "tap1")], vec!["claimed by", "tap in one document only"]),
    ] {
        let DesiredPort::Refused(reason) = decide(&facts, &documents, Unbound::Hold) else {
            panic!("bound: {facts:?} {documents:?}")
        };
        assert!(parts.iter().all(|part| reason.contains(part)), "{reason}");
        assert_eq!(decide(&facts, &documents, Unbound::Pass) == DesiredPort::Passed, documents.is_empty(), "{reason}");
    }
}

#[test]
fn without_a_mac_nothing_is_bound_until_somebody_names_it() {
    let unknown = (Observer::OpenVswitch, fact(1, Some(0x101), None));
    let DesiredPort::Lacking(reason) = decide(std::slice::from_ref(&unknown), &[], Unbound::Hold) else {
        panic!("bound")
    };
    assert!(reason.contains("attached-mac"), "{reason}");
    bound(decide(&[unknown.clone(), libvirt(1, None)], &[], Unbound::Hold));
    bound(decide(&[unknown], &[document(1, "tap9")], Unbound::Hold));
}

#[test]
fn beside_other_agents_only_instances_with_a_document_are_taken() {
    assert_eq!(decide(&[ovs(1, 0x101)], &[], Unbound::Pass), DesiredPort::Passed);
    assert_eq!(decide(&[], &[], Unbound::Pass), DesiredPort::Passed);
    assert_eq!(decide(&[], &[], Unbound::Hold), DesiredPort::Held);
    bound(decide(&[ovs(1, 0x101)], &[document(1, "tap9")], Unbound::Pass));
}

#[test]
fn copied_content_binds_a_tap_that_is_otherwise_passed() {
    let facts = [libvirt(1, Some(1))];
    let mut rules = Config::default().ports;
    rules.unbound = Unbound::Pass;
    let evidence = Evidence { device: "tap1", facts: &facts, claims: &[], record: None, has_content: false };
    assert_eq!(desired(&evidence, &rules), DesiredPort::Passed);
    assert!(matches!(desired(&Evidence { has_content: true, ..evidence }, &rules), DesiredPort::Bound(_)));
}

#[test]
fn ports_whose_ids_begin_alike_are_told_apart_by_tap() {
    let alike = |instance, last: u128| {
        let mut record = record(instance, "p", &["tap1"]);
        // As two UUIDs of version 7 that were made within the same milliseconds.
        record.ports[0].id = port(0x0192_aaaa_bb00_7000_8000_0000_0000_0000 + last);
        // What reading a document makes of a port without a tap's name.
        record.ports[0].tap = Some(PortRecord::default_device_name(record.ports[0].id).into());
        record
    };
    let documents = [alike(1, 1), alike(2, 2)];
    let device = documents[0].ports[0].device_name();
    let claims = documents.each_ref().map(|record| Claim {
        instance: record.uuid,
        project: record.project_id.clone(),
        port: record.ports[0].clone(),
    });
    let evidence = Evidence { device: &device, facts: &[], claims: &claims, record: None, has_content: false };
    let decide = |evidence: &Evidence<'_>| match desired(evidence, &Config::default().ports) {
        DesiredPort::Refused(reason) => reason,
        other => panic!("{other:?}"),
    };
    let reason = decide(&evidence);
    assert!(reason.contains("begin alike") && reason.contains("its own tap's name as tap"), "{reason}");
    assert!(!reason.contains("remove"), "{reason}");
    let mut named = claims.clone();
    named[0].port.id = port(3);
    named[0].port.tap = Some(device.as_str().into());
    let reason = decide(&Evidence { claims: &named, ..evidence });
    assert!(reason.contains("correct tap where it is tap0192aaaa-bb"), "{reason}");
}

#[test]
fn a_port_with_more_sources_than_fit_is_bound_with_wider_ones_and_a_warning() {
    let mut many = document(1, "tap1");
    many.ports[0].allowed_address_pairs = (0..100)
        .map(|last| crate::record::AddressPair {
            ip_address: format!("10.20.0.{}/32", 2 * last + 1).parse().expect("a prefix"),
            mac_address: None,
        })
        .collect();
    let DesiredPort::Bound(bound) = decide(&[], &[many.clone()], Unbound::Hold) else { panic!("not bound") };
    assert!(bound.sources.len() <= metadata_ebpf::abi::MAX_SOURCES);
    let warning = bound.warning.expect("a warning");
    assert!(warning.contains("allowed_address_pairs") && warning.contains("64"), "{warning}");
    many.ports[0].allowed_address_pairs.truncate(10);
    let DesiredPort::Bound(bound) = decide(&[], &[many], Unbound::Hold) else { panic!("not bound") };
    assert_eq!(bound.warning, None);
}
