//! What cloud-init 22.4's OpenStack source asks for, in this order.

use lab::Node;

/// First whether there is a service and which versions it has; then the OpenStack tree; then, over IPv4 whatever the
/// service's address is, the EC2 tree for the names of devices.
pub(crate) const CRAWL: &[&str] = &[
    "GET /openstack 200",
    "GET /openstack 200",
    "GET /openstack/2018-08-27/meta_data.json 200",
    "GET /openstack/2018-08-27/user_data 200",
    "GET /openstack/2018-08-27/vendor_data.json 200",
    "GET /openstack/2018-08-27/vendor_data2.json 200",
    "GET /openstack/2018-08-27/network_data.json 200",
    "GET /latest/meta-data/ 200",
    "GET /latest/meta-data/block-device-mapping/ 200",
    "GET /latest/meta-data/block-device-mapping/ami 200",
    "GET /latest/meta-data/block-device-mapping/root 200",
    "GET /latest/meta-data/placement/ 200",
    "GET /latest/meta-data/placement/availability-zone 200",
    "GET /latest/meta-data/public-keys/ 200",
    "GET /latest/meta-data/public-keys/0/openssh-key 200",
    "GET /latest/meta-data/ami-id 200",
    "GET /latest/meta-data/ami-launch-index 200",
    "GET /latest/meta-data/ami-manifest-path 200",
    "GET /latest/meta-data/hostname 200",
    "GET /latest/meta-data/instance-action 200",
    "GET /latest/meta-data/instance-id 200",
    "GET /latest/meta-data/instance-type 200",
    "GET /latest/meta-data/local-hostname 200",
    "GET /latest/meta-data/local-ipv4 200",
    "GET /latest/meta-data/public-hostname 200",
    "GET /latest/meta-data/public-ipv4 200",
    "GET /latest/meta-data/reservation-id 200",
    "GET /latest/meta-data/security-groups 200",
];

/// Returns what the daemon was asked for and answered so far: method, target and status of each request.
pub(crate) fn asked(node: &Node) -> Vec<String> {
    let log = node.log();
    let lines = log.lines().filter(|line| line.contains(" request ended tag="));
    let field = |line: &str, name: &str| {
        let value = line.split_once(&format!(" {name}=")).map_or("", |(_, rest)| rest);
        value.split(' ').next().unwrap_or_default().trim_matches('"').to_owned()
    };
    lines.map(|line| ["method", "target", "status"].map(|name| field(line, name)).join(" ")).collect()
}
