//! cloudbase-init's HTTP service, which runs on Linux as far as it reads metadata.
//!
//! Over IPv4 only: the release of requests that it gets from PyPI cannot connect to an address with a zone.

use lab::Node;
use serde_json::{Value, json};

use crate::case::{Case, IPV4};
use crate::client::{self, Python};

#[test]
fn cloudbase_init_reads_a_gzip_instance_and_posts_its_password() {
    let case = Case::load("gzip-userdata").unwrap();
    let facts = &case.facts["instance"];
    let node = Node::start().unwrap();
    let guest = case.boot(&node).unwrap();
    let read = client::run(&guest, Python::PyPi, "cloudbase_init.py", &[IPV4, "c2VjcmV0"]).unwrap();
    let certificate = facts["key_data"].as_str().unwrap().trim();
    let expected = json!({
        "loaded": true,
        "instance_id": facts["uuid"],
        "host_name": "worker-4.novalocal",
        "public_keys": [certificate],
        "certificates": [certificate],
        "user_data": facts["user_data_b64"],
        "decoded_user_data": "#!/bin/sh\necho hello from gzip\n".repeat(40),
        "links": [["fa:16:3e:11:22:02", 1442]],
        "networks": [],
        "can_post_password": true,
        "password_was_set": false,
        "posted": true,
        "password_is_set": true,
    });
    assert_eq!(read, expected);
    assert_eq!(guest.get("/openstack/2013-04-04/password").unwrap().text(), "c2VjcmV0");
}

#[test]
fn cloudbase_init_reads_the_static_networks_of_three_nics() {
    let case = Case::load("multi-nic").unwrap();
    let node = Node::start().unwrap();
    let guest = case.boot(&node).unwrap();
    let read = client::run(&guest, Python::PyPi, "cloudbase_init.py", &[IPV4, "c2VjcmV0"]).unwrap();
    assert_eq!(read["user_data"], Value::Null);
    let links = json!([["fa:16:3e:22:00:01", 1442], ["fa:16:3e:22:00:02", 9000], ["fa:16:3e:22:00:03", null]]);
    assert_eq!(read["links"], links);
    let networks = json!([
        ["10.20.1.5/16", ["1.1.1.1", "9.9.9.9"]],
        ["198.51.100.20/25", ["9.9.9.9", "10.0.0.53"]],
        ["10.30.0.9/24", []],
    ]);
    assert_eq!(read["networks"], networks);
}
