//! systemd-imdsd of Debian unstable: a single request of it each, with the settings of EC2's metadata service.
//!
//! It runs with its own C library. systemd does not run in a guest here, so it is asked on its command line and not by its socket;
//! it asks the service in the same way.

use std::process::Stdio;

use lab::{Guest, NodePlan};
use serde_json::json;

use crate::case::Case;
use crate::client;

const USER_DATA: &str = "/latest/user-data";
const INSTANCE_ID: &str = "/latest/meta-data/instance-id";
/// Where it gets tokens, and how it asks with them.
const TOKENS: [&str; 3] = [
    "--token-url=http://169.254.169.254/latest/api/token",
    "--refresh-header-name=X-aws-ec2-metadata-token-ttl-seconds",
    "--token-header-name=X-aws-ec2-metadata-token",
];

/// What deploy/guest has for images.
const HWDB: &str = include_str!("../../deploy/guest/45-imds-openstack.hwdb");

/// Has it ask for a path, and returns what it read, or why it failed.
fn ask(guest: &Guest, further: &[&str], path: &str) -> Result<String, String> {
    let mut arguments = vec!["--vendor=test", "--data-url=http://169.254.169.254"];
    arguments.extend(further);
    arguments.push(path);
    let output = client::imdsd(guest, &arguments).unwrap().stdin(Stdio::null()).output().unwrap();
    let [out, error] = [output.stdout, output.stderr].map(|text| String::from_utf8_lossy(&text).into_owned());
    if output.status.success() { Ok(out) } else { Err(error) }
}

/// It asks for data from a low port, and for its token from any.
#[test]
fn systemd_imdsd_reads_with_required_tokens_what_only_root_may_read() {
    let access = "[access]\nsession = \"required\"\nprivileged = [\"user_data\", \"password\", \"identity\"]\n";
    let node = NodePlan::default().further(access).start().unwrap();
    let guest = node.guest("a").document(|document| document.with_user_data(b"for root")).boot().unwrap();
    assert_eq!(guest.get(USER_DATA).unwrap().status, 403, "other processes do not read it");
    assert_eq!(ask(&guest, &TOKENS, USER_DATA).unwrap(), "for root");
    assert!(ask(&guest, &TOKENS, INSTANCE_ID).unwrap().starts_with("i-"));
    let http = node.status().unwrap()["http"].clone();
    assert_eq!((&http["tokens_issued"], &http["denied"]), (&json!(2), &json!({"unprivileged": 1})), "{http}");
}

#[test]
fn systemd_imdsd_without_a_token_is_refused_where_one_is_required_and_reads_where_none_is() {
    for (session, reads) in [("required", false), ("optional", true), ("off", true)] {
        let node = NodePlan::default().further(&format!("[access]\nsession = \"{session}\"\n")).start().unwrap();
        let case = Case::load("plain").unwrap();
        let guest = case.boot(&node).unwrap();
        let read = ask(&guest, &[], INSTANCE_ID);
        assert_eq!(read.is_ok(), reads, "{session}: {read:?}");
        let denied = node.status().unwrap()["http"]["denied"]["token_missing"].as_u64();
        assert_eq!(denied.is_some(), !reads, "{session}");
    }
}

/// So an operator does not find it among those who would be refused.
#[test]
fn systemd_imdsd_asks_for_data_from_a_port_that_only_root_has() {
    let node = NodePlan::default().further("[access]\nprivileged = [\"everything\"]\n").start().unwrap();
    let guest = node.guest("a").document(|document| document.with_user_data(b"for root")).boot().unwrap();
    assert_eq!(ask(&guest, &[], USER_DATA).unwrap(), "for root");
    let shown: serde_json::Value = serde_json::from_str(&node.ask(&["access", "--json"]).unwrap()).unwrap();
    let unprivileged = shown[0]["unprivileged"].as_object().cloned().unwrap_or_default();
    assert!(unprivileged.values().all(|count| *count == json!(0)), "{shown}");
    assert_eq!(node.status().unwrap()["http"]["denied"], json!(null));
}

/// systemd reads the entry where the machine's modalias matches; here its settings are passed as options of the same names.
#[test]
fn systemd_imdsd_reads_what_the_hardware_database_entry_names() {
    assert!(HWDB.contains("\ndmi:*:pnOpenStackNova:*\n"), "{HWDB}");
    let settings: Vec<_> = HWDB.lines().filter_map(|line| line.strip_prefix(" IMDS_")?.split_once('=')).collect();
    let set = |name: &str| settings.iter().find(|(known, _)| *known == name).map(|(_, value)| *value);
    let url = set("DATA_URL").unwrap();
    let node = NodePlan::default().start().unwrap();
    let guest = Case::load("plain").unwrap().boot(&node).unwrap();
    let keys: Vec<_> = settings
        .iter()
        .filter_map(|(name, path)| Some((name.strip_prefix("KEY_")?.to_lowercase().replace('_', "-"), *path)))
        .collect();
    assert!(keys.len() >= 5, "{keys:?}");
    for (name, path) in keys {
        let expected = guest.get(&format!("/latest{path}")).unwrap();
        let arguments = [
            format!("--vendor={}", set("VENDOR").unwrap()),
            format!("--data-url={url}"),
            format!("--address-ipv4={}", set("ADDRESS_IPV4").unwrap()),
            format!("--well-known-key={name}:{path}"),
            format!("--well-known={name}"),
        ];
        let arguments: Vec<_> = arguments.iter().map(String::as_str).collect();
        let output = client::imdsd(&guest, &arguments).unwrap().stdin(Stdio::null()).output().unwrap();
        let read = (output.status.success(), output.stdout);
        let error = String::from_utf8_lossy(&output.stderr);
        match expected.status {
            200 => assert_eq!(read, (true, expected.body), "{name}: {error}"),
            status => assert!(status == 404 && !read.0, "{name}: {status}, {error}"),
        }
    }
}
