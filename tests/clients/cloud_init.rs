//! cloud-init's OpenStack and EC2 sources.

use lab::{Guest, Node, NodePlan};
use serde_json::{Value, json};

use crate::case::{Case, IPV4, IPV6};
use crate::client::{self, Python};

/// The newest version that cloud-init 22.4 knows.
const VERSION: &str = "2018-08-27";

fn crawl(guest: &Guest, source: &str, urls: &[&str]) -> Value {
    let arguments: Vec<&str> = [source, "-"].iter().chain(urls).copied().collect();
    client::run(guest, Python::Debian, "cloud_init.py", &arguments).unwrap()
}

/// Looks at everything that the OpenStack source parsed, but the user data, which the caller knows.
fn check(case: &Case, mut crawled: Value, network_config: &Value) {
    assert_eq!(crawled["found"], true);
    let nova = |file: &str| case.nova_json(&format!("/openstack/{VERSION}/{file}")).unwrap();
    let mut expected = nova("meta_data.json");
    expected["instance-id"] = expected["uuid"].clone();
    expected["local-hostname"] = expected["hostname"].clone();
    for metadata in [&mut crawled["metadata"], &mut expected] {
        let seed = metadata.as_object_mut().unwrap().remove("random_seed");
        assert!(seed.is_some_and(|seed| !seed.is_null()), "no random seed");
    }
    assert_eq!(crawled["metadata"], expected);
    assert_eq!(crawled["metadata"]["uuid"], case.facts["instance"]["uuid"]);
    assert_eq!(crawled["metadata"]["name"], case.facts["instance"]["display_name"]);
    assert_eq!(crawled["metadata"]["availability_zone"], case.facts["instance"]["availability_zone"]);
    assert_eq!(crawled["networkdata"], nova("network_data.json"));
    assert_eq!(crawled["vendordata"], nova("vendor_data.json"));
    assert_eq!(crawled["vendordata2"], nova("vendor_data2.json"));
    assert_eq!(crawled["network_config"], *network_config, "{:#}", crawled["network_config"]);
}

/// What cloud-init's EC2 reader makes of the tree that Nova has at 2009-04-04: a directory becomes an object, a leaf of
/// several lines a list, a key is read by its number and kept by its name.
fn ec2_tree(case: &Case, directory: &str) -> Value {
    let mut tree = serde_json::Map::new();
    for line in case.nova(directory).unwrap().lines() {
        if let Some(name) = line.strip_suffix('/') {
            tree.insert(name.to_owned(), ec2_tree(case, &format!("{directory}{line}")));
            continue;
        }
        let (name, path) = match line.split_once('=') {
            Some((number, name)) => (name, format!("{directory}{number}/openssh-key")),
            None => (line, format!("{directory}{line}")),
        };
        let text = case.nova(&path).unwrap();
        let value = if text.contains('\n') { text.lines().collect() } else { json!(text) };
        tree.insert(name.to_owned(), value);
    }
    Value::Object(tree)
}

fn dhcp(mac: &str, mtu: Value, servers: &[&str]) -> Value {
    let link =
        json!({"type": "physical", "name": "eth0", "mac_address": mac, "mtu": mtu, "subnets": [{"type": "dhcp4"}]});
    let servers = servers.iter().map(|address| json!({"type": "nameserver", "address": address}));
    json!({"version": 1, "config": std::iter::once(link).chain(servers).collect::<Vec<_>>()})
}

#[test]
fn a_plain_instance_is_read_over_each_family_and_over_both() {
    let case = Case::load("plain").unwrap();
    let node = Node::start().unwrap();
    let guest = case.boot(&node).unwrap();
    for urls in [&[IPV4] as &[&str], &[IPV6], &[IPV6, IPV4]] {
        let crawled = crawl(&guest, "openstack", urls);
        assert_eq!(crawled["address"], urls[0]);
        assert_eq!(crawled["userdata"], json!({"base64": ""}));
        assert_eq!(crawled["ec2"], ec2_tree(&case, "/latest/meta-data/"));
        check(&case, crawled, &dhcp("fa:16:3e:11:22:01", Value::Null, &["8.8.8.8"]));
    }
}

#[test]
fn gzipped_user_data_arrives_as_stored_and_is_unpacked() {
    let case = Case::load("gzip-userdata").unwrap();
    let node = Node::start().unwrap();
    let guest = case.boot(&node).unwrap();
    let script = "#!/bin/sh\necho hello from gzip\n".repeat(40);
    for url in [IPV4, IPV6] {
        let crawled = crawl(&guest, "openstack", &[url]);
        assert_eq!(crawled["userdata"]["base64"], case.facts["instance"]["user_data_b64"]);
        assert_eq!(crawled["parts"], json!([["text/x-shellscript", script]]));
        assert_eq!(crawled["ec2"], ec2_tree(&case, "/latest/meta-data/"));
        check(&case, crawled, &dhcp("fa:16:3e:11:22:02", json!(1442), &["10.1.0.2", "10.1.0.3"]));
    }
    let crawled = crawl(&guest, "ec2", &[IPV4]);
    assert_eq!(crawled["userdata"]["base64"], case.facts["instance"]["user_data_b64"]);
    assert_eq!(crawled["parts"], json!([["text/x-shellscript", script]]));
}

#[test]
fn an_instance_with_three_nics_gets_each_of_them_configured() {
    let case = Case::load("multi-nic").unwrap();
    let node = Node::start().unwrap();
    let guest = case.boot(&node).unwrap();
    let network = serde_json::from_str(include_str!("multi_nic_network.json")).unwrap();
    for url in [IPV4, IPV6] {
        let crawled = crawl(&guest, "openstack", &[url]);
        assert_eq!(crawled["ec2"], ec2_tree(&case, "/latest/meta-data/"));
        check(&case, crawled, &network);
    }
}

#[test]
fn an_ipv6_only_instance_is_read_over_ipv6() {
    let case = Case::load("ipv6-only").unwrap();
    let node = Node::start().unwrap();
    let guest = case.boot(&node).unwrap();
    let crawled = crawl(&guest, "openstack", &[IPV6]);
    // cloud-init's OpenStack source reads the EC2 tree over IPv4 alone, and goes on without it.
    assert_eq!(crawled["ec2"], json!({}));
    let network = json!({"version": 1, "config": [
        {"type": "physical", "name": "eth0", "mac_address": "fa:16:3e:66:00:08", "mtu": null, "accept-ra": true,
            "subnets": [{"type": "ipv6_dhcpv6-stateful", "netmask": "ffff:ffff:ffff:ffff::", "routes": [
                {"network": "::", "netmask": "::", "gateway": "fe80::1"},
                {"network": "2001:db8:aaaa::", "netmask": "ffff:ffff:ffff:ffff::", "gateway": "2001:db8:6::ff"},
            ]}]},
        {"type": "nameserver", "address": "2001:db8:6::53"},
    ]});
    check(&case, crawled, &network);
    let crawled = crawl(&guest, "ec2", &[IPV6]);
    assert_eq!(crawled["metadata"], ec2_tree(&case, "/2009-04-04/meta-data/"));
}

#[test]
fn the_clouds_vendor_data_reaches_cloud_init() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("vendor_data.json");
    std::fs::write(&file, r##"{"cloud-init": "#cloud-config\nmanual_cache_clean: true\n", "site": "žluť"}"##).unwrap();
    let api = format!("[cloud]\nvendordata_jsonfile_path = \"{}\"\n", file.display());
    let node = NodePlan::default().further(&api).start().unwrap();
    let guest = Case::load("plain").unwrap().boot(&node).unwrap();
    let crawled = crawl(&guest, "openstack", &[IPV4]);
    let vendor: Value = serde_json::from_slice(&std::fs::read(&file).unwrap()).unwrap();
    assert_eq!(crawled["vendordata"], vendor);
    assert_eq!(crawled["vendordata2"], json!({"static": vendor}));
}

#[test]
fn the_ec2_source_reads_the_whole_tree_over_each_family_and_over_both() {
    for name in ["plain", "multi-nic", "gzip-userdata"] {
        let case = Case::load(name).unwrap();
        let node = Node::start().unwrap();
        let guest = case.boot(&node).unwrap();
        for urls in [&[IPV4] as &[&str], &[IPV6], &[IPV6, IPV4]] {
            let crawled = crawl(&guest, "ec2", urls);
            assert_eq!(crawled["address"], urls[0]);
            assert_eq!(crawled["metadata"], ec2_tree(&case, "/2009-04-04/meta-data/"), "{name} at {urls:?}");
        }
    }
}

#[test]
fn the_ec2_source_of_amazons_machines_reads_with_session_tokens_where_they_are_required() {
    let case = Case::load("gzip-userdata").unwrap();
    let node = NodePlan::default().further("[access]\nsession = \"required\"\n").start().unwrap();
    let guest = case.boot(&node).unwrap();
    let crawled = crawl(&guest, "aws", &[IPV4]);
    assert_eq!(crawled["address"], IPV4);
    assert_eq!(crawled["metadata"]["instance-id"], case.nova("/latest/meta-data/instance-id").unwrap());
    assert_eq!(crawled["userdata"]["base64"], case.facts["instance"]["user_data_b64"]);
    let http = node.status().unwrap()["http"].clone();
    assert!(http["tokens_issued"].as_u64() > Some(0), "{http}");
    assert_eq!(http["denied"], json!(null), "{http}");
}
