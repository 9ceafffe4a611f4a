//! A real guest: Debian's cloud kernel and cloud-init, unchanged, on taps of a node.
//!
//! What cloud-init made of the metadata is read from the guest's serial console; what it asked for, from the daemon's log.

mod crawl;
mod rebuilt;
pub(crate) mod world;

use std::time::{Duration, Instant};

use lab::dhcp::Dhcp;
use lab::{Document, MachinePlan, wait};
use serde_json::json;

use self::crawl::{CRAWL, asked};
use self::rebuilt::{Again, First, Plugged, RUN};
use self::world::{ED25519, RSA, gzip, nic, node, port, proofs};
use crate::run::Slot;

/// Tells cloud-init where the service is, and for how many seconds it is to ask, by the kernel's command line. 22.4 knows
/// the IPv4 address by itself, and asks once.
fn source(url: &str, max_wait: u32) -> String {
    format!(
        "cc:{{datasource: {{OpenStack: {{metadata_urls: [\"{url}\"], max_wait: {max_wait}, timeout: 10}}}}}} end_cc"
    )
}

const UUID: &str = "77777777-0000-4000-9000-000000000001";
const OTHER_UUID: &str = "77777777-0000-4000-9000-000000000002";

/// The first boot over IPv4 left this console.
#[track_caller]
fn first(judge: impl FnOnce(&First)) {
    match &RUN.first {
        Some(first) => judge(first),
        None => RUN.cut_short(),
    }
}

/// The boot of its disk as another instance left this console.
#[track_caller]
fn again(judge: impl FnOnce(&Again)) {
    match &RUN.again {
        Some(again) => judge(again),
        None => RUN.cut_short(),
    }
}

#[test]
fn over_ipv4_cloud_init_takes_everything_that_the_document_has() {
    first(|First { console, .. }| {
        let proofs = |of| proofs(console, of);
        assert_eq!(proofs("found"), ["datasource_list: [ OpenStack, None ]"]);
        let result = r#"{ "v1": { "datasource": "DataSourceOpenStackLocal [net,ver=2]", "errors": [] } }"#;
        assert_eq!(proofs("result"), [result]);
        assert_eq!(proofs("instance"), [UUID]);
        assert_eq!(proofs("hostname"), ["real"]);
        assert_eq!(proofs("key"), [ED25519]);
        let files = ["config written", "meta database", "packed unpacked", "script run by real", "vendor present"];
        assert_eq!(proofs("file"), files);
    });
}

#[test]
fn over_ipv4_the_guests_interfaces_are_configured_as_the_document_says() {
    first(|First { console, .. }| {
        let addresses = ["eth0 inet 10.77.1.5/24", "eth1 inet 10.77.2.5/24", "eth1 inet6 2001:db8:77::5/64"];
        assert_eq!(proofs(console, "address"), addresses);
        let expected = "10.88.0.0/16 via 10.77.2.254 dev eth1";
        assert!(proofs(console, "route").iter().any(|route| route.starts_with(expected)), "{console}");
    });
}

#[test]
fn over_ipv4_cloud_init_asks_for_what_is_known_and_each_is_answered() {
    first(|First { requests, .. }| assert_eq!(*requests, CRAWL));
}

#[test]
fn over_ipv4_a_large_file_arrives_as_it_was_sent() {
    first(|First { large, received, .. }| assert!(large == received, "the large file arrived differently"));
}

/// The guest's driver has announced to the tap that it takes unfinished checksums and large segments.
#[test]
fn the_guests_driver_uses_its_offloads() {
    first(|First { features, .. }| {
        for feature in ["tx-checksum-ip-generic", "tx-tcp-segmentation", "tx-tcp6-segmentation"] {
            assert!(features.contains(&format!("{feature}: on")), "{features}");
        }
    });
}

#[test]
fn an_interface_that_is_plugged_in_while_the_guest_runs_is_served_over_both_families() {
    let Some(Plugged { answers, requests }) = &RUN.plugged else { return RUN.cut_short() };
    for answer in answers {
        let parsed: serde_json::Value =
            serde_json::from_str(answer).unwrap_or_else(|error| panic!("{error}: {answer:?}"));
        assert_eq!(parsed["links"].as_array().map(Vec::len), Some(3), "{parsed}");
    }
    let network_data = "GET /openstack/latest/network_data.json 200";
    assert_eq!(*requests, [network_data, network_data]);
}

/// As after a rebuild: everything is taken anew, and the key is of another kind.
#[test]
fn the_same_disk_as_another_instance_takes_everything_anew() {
    again(|Again { console, .. }| {
        let proofs = |of| proofs(console, of);
        assert_eq!(proofs("instance"), [OTHER_UUID]);
        assert_eq!(proofs("hostname"), ["other"]);
        assert!(proofs("key").contains(&RSA.to_owned()), "{console}");
        assert!(proofs("file").contains(&"script run by real run by other".to_owned()), "{console}");
    });
}

#[test]
fn a_document_that_comes_3_seconds_late_is_waited_for_by_the_service() {
    again(|Again { requests, .. }| assert_eq!(*requests, CRAWL));
}

/// The guest believes to reach the service by its gateway.
#[test]
fn no_request_goes_to_the_gateway() {
    again(|Again { strays, .. }| assert_eq!(*strays, 0));
}

#[test]
fn over_ipv6_alone_cloud_init_takes_everything() {
    let _slot = Slot::take();
    let node = node("");
    let nic = nic(1);
    let index = nic.make(node.namespace(), "br0").unwrap();
    let network =
        json!({"subnets": [{"cidr": "2001:db8:77::/64", "enable_dhcp": false, "gateway_ip": "2001:db8:77::1"}]});
    let large = world::incompressible();
    let script = format!("#!/bin/sh\nmkdir -p /var/proofs\necho run >/var/proofs/script\nprintf {large} >/var/large\n");
    let document = Document::new(UUID, "six", port(&nic, &["2001:db8:77::5"], network))
        .with("keypairs", json!([{"name": "k", "public_key": RSA}]))
        .with_user_data(&gzip(script.as_bytes()));
    node.write(&document).unwrap();
    node.wait_bound(index).unwrap();
    let plan = MachinePlan::new(node.namespace(), UUID).nic(&nic);
    let plan = plan.command_line(&source("http://[fe80::a9fe:a9fe%eth0]", 120));
    let mut machine = plan.power_on().unwrap();
    let finished = machine.wait_console("finished at").unwrap();
    println!("IPv6: cloud-init done {:.1} s after power-on", finished.as_secs_f64());
    machine.wait_console("proof done").unwrap();
    let console = machine.console();
    let proof = |of| proofs(&console, of);
    assert_eq!(proof("found"), ["datasource_list: [ OpenStack, None ]"]);
    assert_eq!(proof("result"), [r#"{ "v1": { "datasource": "DataSourceOpenStack [net,ver=2]", "errors": [] } }"#]);
    assert_eq!(proof("instance"), [UUID]);
    assert_eq!(proof("hostname"), ["six"]);
    assert_eq!(proof("key"), [RSA]);
    assert_eq!(proof("file"), ["script run"]);
    assert_eq!(proof("address"), ["eth0 inet6 2001:db8:77::5/64"]);
    // The EC2 tree is asked for over IPv4, where there is no way: cloud-init goes on without it.
    assert_eq!(asked(&node), CRAWL[..7]);
    assert!(machine.shell("cat /var/large").unwrap() == large, "the large file arrived differently");
}

#[test]
fn a_document_that_comes_20_seconds_late_is_waited_for_by_cloud_init() {
    let _slot = Slot::take();
    let node = node("");
    let nic = nic(1);
    let _dhcp = Dhcp::start(&node, "br0", "10.77.1", &[(nic.mac, "10.77.1.5")]).unwrap();
    let index = nic.make(node.namespace(), "br0").unwrap();
    node.wait_held(index).unwrap();
    let plan = MachinePlan::new(node.namespace(), UUID).nic(&nic);
    let mut machine = plan.command_line(&source("http://169.254.169.254", 120)).power_on().unwrap();
    let first = machine.wait_until("the guest asks", || Ok((!asked(&node).is_empty()).then(Instant::now))).unwrap();
    let late = Duration::from_secs(20);
    wait::until_within(2 * late, "the document is late", || Ok((first.elapsed() >= late).then_some(()))).unwrap();
    let document = Document::new(UUID, "late", port(&nic, &["10.77.1.5"], json!({})));
    let document = document.with("keypairs", json!([{"name": "k", "public_key": ED25519}]));
    node.write(&document.with_user_data(b"#!/bin/sh\nmkdir -p /var/proofs\necho run >/var/proofs/script\n")).unwrap();
    let finished = machine.wait_console("finished at").unwrap();
    println!("document late: cloud-init done {:.1} s after power-on", finished.as_secs_f64());
    machine.wait_console("proof done").unwrap();
    let console = machine.console();
    let proof = |of| proofs(&console, of);
    assert_eq!(
        proof("result"),
        [r#"{ "v1": { "datasource": "DataSourceOpenStackLocal [net,ver=2]", "errors": [] } }"#]
    );
    assert_eq!(proof("instance"), [UUID]);
    assert_eq!(proof("hostname"), ["late"]);
    assert_eq!(proof("file"), ["script run"]);
    assert_eq!(proof("key"), [ED25519]);
    let asked = asked(&node);
    let refused = asked.iter().take_while(|line| *line == "GET /openstack 503").count();
    // Each waits for 5 s, and it asks again; what it sees is the first answer that is not 503.
    assert!((2..=6).contains(&refused), "{asked:#?}");
    assert_eq!(asked[refused..], *CRAWL);
}
