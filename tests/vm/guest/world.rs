//! What the real guests' worlds have in common.

use std::io::Write as _;
use std::process::{Command, Stdio};

use lab::document::base64;
use lab::guest::mac_text;
use lab::{Nic, Node, NodePlan, command};
use serde_json::{Value, json};

/// Keys of two kinds.
pub(crate) const ED25519: &str =
    "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJ2n4w0Hn9m8c7Qv7oR2gkTtYq5l0u3mJmY8s1v0Xx3d demo@laptop";
pub(crate) const RSA: &str = "ssh-rsa AAAAB3NzaC1yc2EAAAADAQABAAABAQDIgz5bqvDk2u1gT4bq4r8bY0cZ1d0ZcN9mE7m1v9k2Jv5XhV3o0m0zQm2o\
    Yb9w8pQf1T4cS6vJr3n5xW7yA2bC4dE6fG8hI0jK2lM4nO6pQ8rS0tU2vW4xY6z alice@example.org";

/// A node with a bridge, whose daemon tells each answer in its log.
pub(crate) fn node(further: &str) -> Node {
    let log = "[log]\nfilter = \"info,metadata_user::http=debug\"\n\n";
    let node = NodePlan::default().further(&format!("{log}{further}")).start().unwrap();
    node.namespace().ip_batch("link add br0 type bridge\nlink set br0 addrgenmode none\nlink set br0 up\n").unwrap();
    node
}

/// The interface of this number of a guest.
pub(crate) fn nic(number: u8) -> Nic {
    Nic { tap: format!("tap0000000{number}-77"), mac: [0xfa, 0x16, 0x3e, 0x77, 0, number] }
}

/// The port of a document that the interface belongs to.
pub(crate) fn port(nic: &Nic, addresses: &[&str], network: Value) -> Value {
    let fixed_ips: Vec<Value> = addresses.iter().map(|address| json!({"ip_address": address})).collect();
    json!({
        "id": format!("{}00-4000-8000-000000000077", nic.tap.trim_start_matches("tap")),
        "mac_address": mac_text(nic.mac),
        "fixed_ips": fixed_ips,
        "network": network,
    })
}

/// A file of vendor data for all guests, with this for cloud-init.
pub(crate) fn vendor_data(text: &str) -> tempfile::NamedTempFile {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    write!(file, "{}", json!({"cloud-init": text})).unwrap();
    file
}

/// Bytes as gzip packs them.
pub(crate) fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut gzip = Command::new("gzip");
    let mut gzip = gzip.args(["-n", "-c"]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    gzip.stdin.take().unwrap().write_all(bytes).unwrap();
    gzip.wait_with_output().unwrap().stdout
}

/// What the console says of a thing, a line each.
pub(crate) fn proofs(console: &str, of: &str) -> Vec<String> {
    let start = format!("proof {of} ");
    console.lines().filter_map(|line| Some(line.split_once(&start)?.1.trim().to_owned())).collect()
}

/// What ethtool says of the tap's features.
pub(crate) fn features(node: &Node, nic: &Nic) -> String {
    let mut ethtool = node.namespace().command("ethtool").unwrap();
    command::run(ethtool.args(["--show-features", &nic.tap]), "").unwrap()
}

/// Waits in the guest until its third interface is there and has a link-local address that is no duplicate.
pub(crate) const SEE_ETH2: &str = "until ip link set eth2 up; do :; done; \
    until ip -6 -o addr show dev eth2 scope link | grep fe80 | grep -qv tentative; do :; done; \
    ip addr add 10.77.1.6/24 dev eth2; ip route add 169.254.169.254 dev eth2";

/// Reads in the guest what it is told of its network, by a request that takes several segments. Its image has Python, and
/// no curl.
pub(crate) fn read_by_large_request(url: &str) -> String {
    format!(
        "python3 -c 'from urllib.request import Request, urlopen; \
         request = Request(\"{url}/openstack/latest/network_data.json\", headers={{\"x-large\": \"x\" * 6000}}); \
         print(urlopen(request, timeout=10).read().decode())'"
    )
}

/// Sends one packet to an address of the documentation's, by the default route.
pub(crate) const SEND_ELSEWHERE: &str =
    "python3 -c 'import socket; socket.socket(type=socket.SOCK_DGRAM).sendto(b\"x\", (\"192.0.2.1\", 9))'";

/// Text that does not compress, so that it stays as large as it is.
pub(crate) fn incompressible() -> String {
    let mut state = 1u64;
    let mut next = || {
        // Knuth's MMIX generator; its upper bits are the good ones.
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        state.to_be_bytes()[0]
    };
    base64(&(0..30_000).map(|_| next()).collect::<Vec<u8>>())
}
