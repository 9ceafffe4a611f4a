//! A real guest: Debian's cloud kernel and cloud-init, unchanged, on taps of a node.
//!
//! What cloud-init made of the metadata is read from the guest's serial console; what it asked for, from the daemon's log.

mod crawl;
pub(crate) mod world;

use std::time::{Duration, Instant};

use lab::dhcp::Dhcp;
use lab::document::base64;
use lab::{Document, MachinePlan, wait};
use serde_json::json;

use self::crawl::{CRAWL, asked};
use self::world::{ED25519, RSA, gzip, nic, node, port, proofs, vendor_data};

/// Tells cloud-init where the service is, and for how many seconds it is to ask, by the kernel's command line. 22.4 knows
/// the IPv4 address by itself, and asks once.
fn source(url: &str, max_wait: u32) -> String {
    format!(
        "cc:{{datasource: {{OpenStack: {{metadata_urls: [\"{url}\"], max_wait: {max_wait}, timeout: 10}}}}}} end_cc"
    )
}

const UUID: &str = "77777777-0000-4000-9000-000000000001";
const OTHER_UUID: &str = "77777777-0000-4000-9000-000000000002";

#[test]
fn over_ipv4_cloud_init_takes_everything_and_again_as_another_instance() {
    let vendor = vendor_data("#cloud-config\nbootcmd:\n- mkdir -p /var/proofs\n- echo told >/var/proofs/vendor\n");
    let node = node(&format!("[cloud]\nvendordata_jsonfile_path = \"{}\"\n", vendor.path().display()));
    let (first, second, third) = (nic(1), nic(2), nic(3));
    let dhcp = Dhcp::start(&node, "br0", "10.77.1", &[(first.mac, "10.77.1.5"), (third.mac, "10.77.1.6")]).unwrap();
    let index = first.make(node.namespace(), "br0").unwrap();
    second.make(node.namespace(), "br0").unwrap();
    let script = "#!/bin/sh\nmkdir -p /var/proofs\necho run by $(hostname) >>/var/proofs/script\n";
    let packed = base64(&gzip(b"#!/bin/sh\necho unpacked >/var/proofs/packed\n"));
    let large = world::incompressible();
    let config = format!(
        "#cloud-config\nwrite_files:\n- {{path: /var/large, encoding: b64, content: {large}}}\n\
         - {{path: /var/proofs/config, content: written}}\n"
    );
    let template =
        "## template: jinja\n#cloud-config\nruncmd:\n- echo {{ ds.meta_data.meta.role }} >/var/proofs/meta\n";
    let user_data = format!(
        "Content-Type: multipart/mixed; boundary=\"=\"\nMIME-Version: 1.0\n\n--=\nContent-Type: text/x-shellscript\n\n\
         {script}\n--=\nContent-Type: text/cloud-config\n\n{config}\n--=\nContent-Type: text/jinja2\n\n{template}\n--=\n\
         Content-Type: application/gzip\nContent-Transfer-Encoding: base64\n\n{packed}\n--=--\n"
    );
    let network = json!({"subnets": [
        {"cidr": "10.77.2.0/24", "enable_dhcp": false,
            "host_routes": [{"destination": "10.88.0.0/16", "nexthop": "10.77.2.254"}]},
        {"cidr": "2001:db8:77::/64", "enable_dhcp": false},
    ]});
    let ports =
        json!([port(&first, &["10.77.1.5"], json!({})), port(&second, &["10.77.2.5", "2001:db8:77::5"], network),]);
    let document = Document::new(UUID, "real", json!({}))
        .with("ports", ports.clone())
        .with("metadata", json!({"role": "database"}))
        .with("keypairs", json!([{"name": "k", "public_key": ED25519}]))
        .with_user_data(user_data.as_bytes());
    node.write(&document).unwrap();
    node.wait_bound(index).unwrap();

    let plan = MachinePlan::new(node.namespace(), UUID).nic(&first).nic(&second);
    let mut machine = plan.power_on().unwrap();
    let finished = machine.wait_console("finished at").unwrap();
    machine.wait_console("proof done").unwrap();
    let console = machine.console();
    println!("IPv4: cloud-init done {:.1} s after power-on", finished.as_secs_f64());
    let said = |of| proofs(&console, of);
    assert_eq!(said("found"), ["datasource_list: [ OpenStack, None ]"]);
    assert_eq!(said("result"), [r#"{ "v1": { "datasource": "DataSourceOpenStackLocal [net,ver=2]", "errors": [] } }"#]);
    assert_eq!(said("instance"), [UUID]);
    assert_eq!(said("hostname"), ["real"]);
    assert_eq!(said("key"), [ED25519]);
    assert_eq!(said("address"), ["eth0 inet 10.77.1.5/24", "eth1 inet 10.77.2.5/24", "eth1 inet6 2001:db8:77::5/64"]);
    assert!(said("route").iter().any(|route| route.starts_with("10.88.0.0/16 via 10.77.2.254 dev eth1")), "{console}");
    let files = ["config written", "meta database", "packed unpacked", "script run by real", "vendor told"];
    assert_eq!(said("file"), files);
    assert_eq!(asked(&node), CRAWL);
    assert!(machine.shell("base64 -w 0 /var/large").unwrap() == large, "the large file arrived differently");

    // The guest's driver has told the tap that it takes unfinished checksums and large segments.
    let features = world::features(&node, &first);
    for feature in ["tx-checksum-ip-generic", "tx-tcp-segmentation", "tx-tcp6-segmentation"] {
        assert!(features.contains(&format!("{feature}: on")), "{features}");
    }

    // A third interface, while it runs.
    let mut ports = ports;
    ports.as_array_mut().unwrap().push(port(&third, &["10.77.1.6"], json!({})));
    let index = third.make(node.namespace(), "br0").unwrap();
    node.wait_held(index).unwrap();
    machine.plug(&third).unwrap();
    node.write(&document.clone().with("ports", ports.clone())).unwrap();
    node.wait_bound(index).unwrap();
    machine.shell(world::SEE_ETH2).unwrap();
    let before = asked(&node).len();
    for url in ["http://169.254.169.254", "http://[fe80::a9fe:a9fe%eth2]"] {
        let told = machine.shell(&world::read_by_large_request(url)).unwrap();
        let told: serde_json::Value = serde_json::from_str(&told).unwrap_or_else(|error| panic!("{error}: {told:?}"));
        assert_eq!(told["links"].as_array().map(Vec::len), Some(3), "{told}");
    }
    let network_data = "GET /openstack/latest/network_data.json 200";
    assert_eq!(asked(&node)[before..], [network_data, network_data]);

    // The same disk as another instance, as after a rebuild: everything is taken anew, and the key is of another kind.
    let disk = machine.power_off().unwrap();
    node.remove_document(UUID).unwrap();
    let document = document.with("uuid", OTHER_UUID).with("hostname", "other").with("ports", ports);
    // Its document is there three seconds after the guest has asked: a time for which the service makes it wait.
    let before = asked(&node).len();
    let waited = || anyhow::Ok(node.status()?["http"]["waited"].as_u64().unwrap_or_default());
    let had_waited = waited().unwrap();
    let plan = MachinePlan::new(node.namespace(), OTHER_UUID).nic(&first).nic(&second).nic(&third);
    let mut machine = plan.power_on_with(disk).unwrap();
    let first_asked = || Ok((waited()? > had_waited).then(Instant::now));
    let first_asked = machine.wait_until("the guest asks", first_asked).unwrap();
    let late = Duration::from_secs(3);
    wait::until("the document is late", || Ok((first_asked.elapsed() >= late).then_some(()))).unwrap();
    node.write(&document.with("keypairs", json!([{"name": "k2", "public_key": RSA}]))).unwrap();
    let finished = machine.wait_console("finished at").unwrap();
    println!("IPv4, another instance: cloud-init done {:.1} s after power-on", finished.as_secs_f64());
    machine.wait_console("proof done").unwrap();
    let console = machine.console();
    let said = |of| proofs(&console, of);
    assert_eq!(said("instance"), [OTHER_UUID]);
    assert_eq!(said("hostname"), ["other"]);
    assert!(said("key").contains(&RSA.to_owned()), "{console}");
    assert!(said("file").contains(&"script run by real run by other".to_owned()), "{console}");
    assert_eq!(asked(&node)[before..], *CRAWL);
    // Nothing of all this went to the gateway, by which the guest believes to reach the service.
    assert_eq!(dhcp.strays().unwrap(), 0);
    machine.shell(world::SEND_ELSEWHERE).unwrap();
    wait::until("the gateway sees what does go to it", || Ok((dhcp.strays()? == 1).then_some(()))).unwrap();
}

#[test]
fn over_ipv6_alone_cloud_init_takes_everything() {
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
    let said = |of| proofs(&console, of);
    assert_eq!(said("found"), ["datasource_list: [ OpenStack, None ]"]);
    assert_eq!(said("result"), [r#"{ "v1": { "datasource": "DataSourceOpenStack [net,ver=2]", "errors": [] } }"#]);
    assert_eq!(said("instance"), [UUID]);
    assert_eq!(said("hostname"), ["six"]);
    assert_eq!(said("key"), [RSA]);
    assert_eq!(said("file"), ["script run"]);
    assert_eq!(said("address"), ["eth0 inet6 2001:db8:77::5/64"]);
    // The EC2 tree is asked for over IPv4, where there is no way: cloud-init goes on without it.
    assert_eq!(asked(&node), CRAWL[..7]);
    assert!(machine.shell("cat /var/large").unwrap() == large, "the large file arrived differently");
}

#[test]
fn a_document_that_comes_20_seconds_late_is_waited_for() {
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
    let said = |of| proofs(&console, of);
    assert_eq!(said("result"), [r#"{ "v1": { "datasource": "DataSourceOpenStackLocal [net,ver=2]", "errors": [] } }"#]);
    assert_eq!(said("instance"), [UUID]);
    assert_eq!(said("hostname"), ["late"]);
    assert_eq!(said("file"), ["script run"]);
    assert_eq!(said("key"), [ED25519]);
    let asked = asked(&node);
    let refused = asked.iter().take_while(|line| *line == "GET /openstack 503").count();
    // Each waits for 5 s, and it asks again; what it sees is the first answer that is not 503.
    assert!((2..=6).contains(&refused), "{asked:#?}");
    assert_eq!(asked[refused..], *CRAWL);
}
