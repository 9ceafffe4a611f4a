//! Tests of `facts::libvirt::domain`.

use proptest::prelude::*;

use super::*;

/// As libvirt 9 and Nova 29 write it, less what is not read.
const STATUS: &str = r#"<!--
WARNING: THIS IS AN AUTO-GENERATED FILE. CHANGES TO IT ARE LIKELY TO BE OVERWRITTEN.
-->
<domstatus state='running' reason='booted' pid='4711'>
  <taint flag='high-privileges'/>
  <monitor path='/var/lib/libvirt/qemu/domain-1/monitor.sock' type='unix'/>
  <domain type='kvm' id='1'>
    <name>instance-00000001</name>
    <uuid>11111111-2222-4333-8444-555555555555</uuid>
    <metadata>
      <nova:instance xmlns:nova="http://openstack.org/xmlns/libvirt/nova/1.1">
        <nova:package version="29.0.1"/>
        <nova:name>web &amp; more</nova:name>
        <nova:owner>
          <nova:user uuid="0123">demo</nova:user>
          <nova:project uuid="4567abcd">demo</nova:project>
        </nova:owner>
        <nova:ports>
          <nova:port uuid="aaaaaaaa-bbbb-4ccc-8ddd-000000000001">
            <nova:ip type="fixed" address="10.0.0.5" ipVersion="4"/>
            <nova:ip type="fixed" address="2001:db8::5" ipVersion="6"/>
          </nova:port>
          <nova:port uuid="aaaaaaab-bbbb-4ccc-8ddd-000000000002">
            <nova:ip type="fixed" address="10.1.0.5" ipVersion="4"/>
          </nova:port>
        </nova:ports>
      </nova:instance>
    </metadata>
    <devices>
      <interface type='bridge'>
        <mac address='fa:16:3e:00:00:01'/>
        <source bridge='br-int'/>
        <virtualport type='openvswitch'><parameters interfaceid='aaaaaaaa-bbbb-4ccc-8ddd-000000000001'/></virtualport>
        <target dev='tapother'/>
        <alias name='net0'/>
      </interface>
      <interface type='ethernet'>
        <mac address='FA:16:3E:00:00:02'/>
        <target dev='tapaaaaaaab-bb'/>
      </interface>
      <interface type='vhostuser'>
        <mac address='fa:16:3e:00:00:03'/>
        <source type='unix' path='/run/vhu3' mode='server'/>
        <target dev='vhu3'/>
      </interface>
      <interface type='hostdev' managed='yes'><mac address='fa:16:3e:00:00:04'/></interface>
    </devices>
  </domain>
</domstatus>"#;

fn port(text: &str) -> Option<PortId> {
    Some(text.parse().expect("an id"))
}

#[test]
fn a_status_document_has_its_interfaces() {
    let report = parse(STATUS).expect("readable");
    let instance: InstanceId = "11111111-2222-4333-8444-555555555555".parse().expect("an id");
    let fact = |port_id, mac: &str, addresses: &[&str]| Fact {
        instance,
        project: Some("4567abcd".into()),
        port: port(port_id),
        mac: Some(mac.parse().expect("a MAC")),
        addresses: addresses.iter().map(|address| address.parse().expect("an address")).collect(),
        fingerprint: report.facts[0].1.fingerprint,
    };
    assert_eq!(
        report.facts,
        [
            (
                "tapother".to_owned(),
                fact("aaaaaaaa-bbbb-4ccc-8ddd-000000000001", "fa:16:3e:00:00:01", &["10.0.0.5", "2001:db8::5"])
            ),
            (
                "tapaaaaaaab-bb".to_owned(),
                fact("aaaaaaab-bbbb-4ccc-8ddd-000000000002", "fa:16:3e:00:00:02", &["10.1.0.5"])
            ),
        ]
    );
    let unreachable_ports: Vec<_> = report.unreachable_ports.iter().map(|device| device.device.as_str()).collect();
    assert_eq!(unreachable_ports, ["vhu3", "fa:16:3e:00:00:04"]);
}

#[test]
fn novas_metadata_is_known_by_its_namespace_not_by_its_prefix() {
    let renamed = STATUS.replace("nova:", "n:").replace("xmlns:nova", "xmlns:n").replace("nova/1.1", "nova/1.0");
    assert_eq!(parse(&renamed).expect("readable"), parse(STATUS).expect("readable"));
    let default = STATUS.replace("<nova:", "<").replace("</nova:", "</").replace("xmlns:nova", "xmlns");
    assert_eq!(parse(&default).expect("readable"), parse(STATUS).expect("readable"));
    let foreign = parse(&STATUS.replace("openstack.org", "example.org")).expect("readable");
    assert!(foreign.facts.iter().all(|(_, fact)| fact.project.is_none() && fact.addresses.is_empty()));
    assert_eq!(foreign.facts[1].1.port, None, "no port is called so");
}

#[test]
fn a_change_of_the_instance_changes_its_fingerprint_and_what_libvirt_does_by_itself_does_not() {
    let disk = |file: &str, serial: &str| {
        format!(
            "<disk type='file'><source file='{file}'/><target dev='vdb'/><serial>{serial}</serial></disk></devices>"
        )
    };
    let with = |file: &str, serial: &str| STATUS.replace("</devices>", &disk(file, serial));
    let fingerprint = |text: &str| parse(text).expect("readable").facts[0].1.fingerprint.expect("a fingerprint");
    let before = fingerprint(&with("/a", "1"));
    for changed in [
        with("/a", "2"),
        STATUS.to_owned(),
        with("/a", "1").replace("29.0.1", "29.0.2"),
        with("/a", "1").replace("web &amp; more", "web"),
        with("/a", "1").replace("address=\"10.1.0.5\"", "address=\"10.1.0.6\""),
    ] {
        assert_ne!(fingerprint(&changed), before, "{changed}");
    }
    for same in
        [with("/snapshot", "1"), with("/a", "1").replace("pid='4711'", "pid='4712'").replace("<taint", "\n<taint")]
    {
        assert_eq!(fingerprint(&same), before, "{same}");
    }
}

#[test]
fn a_domain_without_nova_is_an_instance_by_its_uuid() {
    let report = parse(
        "<domain><uuid>11111111-2222-4333-8444-555555555555</uuid><devices><interface type='network'>\
         <mac address='52:54:00:00:00:01'/><target dev='vnet0'/></interface></devices></domain>",
    )
    .expect("readable");
    let [(device, fact)] = &report.facts[..] else { panic!("{report:?}") };
    assert_eq!((device.as_str(), fact.port, fact.project.clone()), ("vnet0", None, None));
    assert!(fact.mac.is_some());
}

/// A domain with one interface of type network, with these elements in it.
fn of_network(elements: &str) -> Report {
    let text = format!(
        "<domstatus><domain><uuid>11111111-2222-4333-8444-555555555555</uuid><devices><interface type='network'>\
         <mac address='52:54:00:00:00:01'/>{elements}<target dev='vnet0'/></interface></devices></domain></domstatus>"
    );
    parse(&text).expect("readable")
}

/// A `virtualport` that names a port.
fn virtualport(port: &str) -> String {
    format!("<virtualport type='openvswitch'><parameters interfaceid='{port}'/></virtualport>")
}

#[test]
fn an_interface_of_a_network_is_what_it_actually_is() {
    const PORT: &str = "aaaaaaaa-bbbb-4ccc-8ddd-000000000001";
    const OTHER: &str = "aaaaaaaa-bbbb-4ccc-8ddd-000000000002";
    let actual = |kind: &str, rest: &str| {
        format!("<source network='ovs' portid='{OTHER}' bridge='br-int'/><actual type='{kind}'>{rest}</actual>")
    };
    let ports = |elements: &str| -> Vec<_> {
        let report = of_network(elements);
        assert!(report.unreachable_ports.is_empty(), "{elements}");
        report.facts.iter().map(|(device, fact)| (device.clone(), fact.port)).collect()
    };
    let vnet0 = |id| ("vnet0".to_owned(), port(id));
    let in_actual = format!("{}<source bridge='br-int'/>", virtualport(PORT));
    assert_eq!(ports(&actual("bridge", &in_actual)), [vnet0(PORT)]);
    assert_eq!(ports(&format!("{}{}", virtualport(PORT), actual("bridge", &in_actual))), [vnet0(PORT)]);
    assert_eq!(ports(&format!("{}{}", virtualport(PORT), actual("bridge", ""))), [vnet0(PORT)]);
    assert_eq!(ports(&format!("{}{}", virtualport(OTHER), actual("bridge", &in_actual))), [vnet0(OTHER), vnet0(PORT)]);
    assert_eq!(ports(&actual("network", "")), [("vnet0".to_owned(), None)]);
    let foreign = "<virtualport type='802.1Qbg'><parameters managerid='11' typeid='1' instanceid='x'/></virtualport>";
    assert_eq!(ports(&actual("bridge", foreign)), [("vnet0".to_owned(), None)]);
    for (kind, name) in [("hostdev", "passed-through"), ("direct", "macvtap"), ("vhostuser", "vhost-user")] {
        let report = of_network(&actual(kind, ""));
        assert!(report.facts.is_empty(), "{kind}");
        assert!(report.unreachable_ports[0].kind.contains(name), "{report:?}");
    }
}

#[test]
fn other_and_incomplete_documents_are_refused_by_name() {
    for (text, problem) in [
        ("", "its end is missing"),
        ("not XML", "its end is missing"),
        ("<domain><uuid>11111111-2222-4333-8444-555555555555</uuid>", "its end is missing"),
        ("<domain><uuid>x</uuid></domain>", "`x`"),
        ("<domain/>", "its uuid is ``"),
        ("<network/>", "`network`"),
        ("<domain/><domain/>", "`domain`"),
        ("<domain></network>", "not complete XML"),
        ("<!DOCTYPE d [<!ENTITY a 'b'>]><domain/>", "DTD"),
        ("<domstatus><domain><uuid>&undefined;</uuid></domain></domstatus>", "its uuid is"),
    ] {
        let error = parse(text).expect_err(text).to_string();
        assert!(error.contains(problem), "{text}: {error}");
    }
    let deep = format!("{}{}", "<domain>".repeat(100_000), "</domain>".repeat(100_000));
    assert!(matches!(parse(&deep), Err(DomainError::TooDeep)));
    let half = STATUS.replace("mac address='fa:16:3e:00:00:01'", "mac address='&bad;'");
    assert!(parse(&half).is_err());
}

#[test]
fn no_part_of_a_document_is_taken_for_the_whole() {
    let whole = parse(STATUS).expect("readable");
    for end in (0..STATUS.len()).filter(|end| STATUS.is_char_boundary(*end)) {
        let part = parse(&STATUS[..end]);
        assert!(part.is_err(), "{end}: {part:?}");
    }
    assert_eq!(parse(&format!("{STATUS}\n")).expect("readable"), whole);
}

proptest! {
    #[test]
    fn no_text_is_a_panic(start in 0..STATUS.len(), length in 0..64_usize, put in "\\PC{0,24}|[<>&;'\"/a: ]{0,24}") {
        let end = (start + length).min(STATUS.len());
        let mut bytes = STATUS.as_bytes().to_vec();
        bytes.splice(start..end, put.bytes());
        let _ = parse(&String::from_utf8_lossy(&bytes));
    }
}

/// Returns a status document with this in its metadata and among its devices.
fn with(metadata: &str, devices: &str) -> String {
    STATUS
        .replace("<nova:ports>", &format!("<nova:ports>{metadata}"))
        .replace("<devices>", &format!("<devices>{devices}"))
}

fn many(count: usize, one: impl Fn(usize) -> String) -> String {
    (0..count).map(one).collect()
}

#[test]
fn numbers_beyond_any_domain_are_refused() {
    let id = |n: usize| format!("00000000-0000-4000-8000-{n:012}");
    let port = |n: usize| format!("<nova:port uuid='{}'/>", id(n));
    let ip = |n: usize| format!("<nova:ip address='10.0.{}.{}'/>", n / 250, n % 250);
    let interface = |n: usize| format!("<interface type='ethernet'><target dev='t{n}'/></interface>");
    let named = |n: usize| format!("<virtualport><parameters interfaceid='{}'/></virtualport>", id(n));
    for (what, below, above) in [
        ("interfaces", with("", &many(1000, interface)), with("", &many(100_000, interface))),
        ("ports", with(&many(1000, port), ""), with(&many(100_000, port), "")),
        (
            "addresses of one port",
            with(&format!("<nova:port uuid='{}'>{}</nova:port>", id(1), many(1000, ip)), ""),
            with(&format!("<nova:port uuid='{}'>{}</nova:port>", id(1), many(50_000, ip)), ""),
        ),
        (
            "ports of one interface",
            with("", &format!("<interface type='ethernet'>{}</interface>", many(2, named))),
            with("", &format!("<interface type='ethernet'>{}</interface>", many(20_000, named))),
        ),
    ] {
        parse(&below).unwrap_or_else(|error| panic!("{what}: {error}"));
        let error = parse(&above).expect_err(what).to_string();
        assert!(error.starts_with("it has more than ") && error.ends_with(what), "{error}");
    }
}

#[test]
fn a_megabyte_of_anything_is_read_or_refused_in_few_words() {
    const SIZE: usize = 1_000_000;
    let attributes = format!("<a {}/>", many(SIZE / 12, |n| format!("a{n:07}='' ")));
    let spaces = format!("<a {}/>", many(SIZE / 20, |n| format!("xmlns:a{n:07}='' ")));
    let nested = "<a>".repeat(SIZE / 3);
    let empty = "<a/>".repeat(SIZE / 4);
    let long = format!("<{}/>", "a".repeat(SIZE));
    let comment = format!("<!-- {} -->", "- ".repeat(SIZE / 2));
    let entities = "&amp;".repeat(SIZE / 5);
    for filler in [attributes, spaces, nested, empty, long, comment, entities, "<".repeat(SIZE), "&".repeat(SIZE)] {
        for text in [with("", &filler), with(&filler, ""), STATUS.replace("1111</uuid>", &filler), filler.clone()] {
            if let Err(error) = parse(&text) {
                assert!(error.to_string().len() < 500, "{} bytes", error.to_string().len());
            }
        }
    }
}
