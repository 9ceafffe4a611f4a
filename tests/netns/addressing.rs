//! However a guest is addressed, routed and plugged in, it gets whole answers over both families it has.

use lab::{Guest, Node, NodePlan, Request, Route};

/// 1 MiB in which every place differs from its neighbours, and no two KiB are alike.
fn one_megabyte() -> Vec<u8> {
    let mut state = 0x2545_f491_u32;
    std::iter::repeat_with(|| {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        state.to_le_bytes()[1]
    })
    .take(1 << 20)
    .collect()
}

fn reads_a_megabyte_at(mtu: u32) {
    let node = Node::start().unwrap();
    let bytes = one_megabyte();
    let guest = node.guest("a").mtu(mtu).document(|document| document.with_user_data(&bytes)).boot().unwrap();
    for response in [guest.get("/openstack/latest/user_data"), guest.get6("/openstack/latest/user_data")] {
        let response = response.unwrap();
        assert_eq!((response.status, response.body.len()), (200, bytes.len()));
        assert!(response.body == bytes, "the body differs");
    }
}

#[test]
fn a_megabyte_arrives_intact_at_mtu_1280() {
    reads_a_megabyte_at(1280);
}

#[test]
fn a_megabyte_arrives_intact_at_mtu_1450() {
    reads_a_megabyte_at(1450);
}

#[test]
fn a_megabyte_arrives_intact_at_mtu_1500() {
    reads_a_megabyte_at(1500);
}

#[test]
fn a_megabyte_arrives_intact_at_mtu_9000() {
    reads_a_megabyte_at(9000);
}

fn reads_own_uuid(guest: &Guest, over_ipv6: bool) {
    assert_eq!(guest.read_uuid(over_ipv6).unwrap(), guest.uuid());
}

#[test]
fn a_guest_with_only_a_link_local_ipv4_address_is_answered() {
    let node = Node::start().unwrap();
    let plan = node.guest("a").ipv4("169.254.77.5/16").route(Route::OwnNetwork);
    let guest = plan.document(|document| document.with_port("fixed_ips", serde_json::json!([]))).boot().unwrap();
    reads_own_uuid(&guest, false);
}

#[test]
fn a_guest_whose_gateway_does_not_exist_is_answered() {
    let node = Node::start().unwrap();
    let guest = node.guest("a").route(Route::DeadGateway).boot().unwrap();
    reads_own_uuid(&guest, false);
}

#[test]
fn a_guest_with_ipv6_only_and_a_random_interface_id_is_answered() {
    let node = Node::start().unwrap();
    let guest = node.guest("a").ipv6_only().boot().unwrap();
    reads_own_uuid(&guest, true);
    assert!(guest.get("/").is_err(), "this guest has no IPv4");
}

#[test]
fn a_guest_with_vlan_tags_is_answered() {
    let node = Node::start().unwrap();
    let guest = node.guest("a").vlan(100).boot().unwrap();
    reads_own_uuid(&guest, false);
    reads_own_uuid(&guest, true);
}

#[test]
fn a_guest_behind_a_bridge_port_is_answered() {
    let node = Node::start().unwrap();
    node.namespace().ip_batch("link add br0 type bridge\nlink set br0 up\n").unwrap();
    let guest = node.guest("a").bridge("br0").boot().unwrap();
    reads_own_uuid(&guest, false);
    reads_own_uuid(&guest, true);
}

#[test]
fn a_guest_is_answered_where_clsact_is_forced() {
    let node = NodePlan::default().attach("clsact").start().unwrap();
    let guest = node.guest("a").boot().unwrap();
    reads_own_uuid(&guest, false);
    reads_own_uuid(&guest, true);
    let mut tc = node.namespace().command("tc").unwrap();
    let shown = lab::command::run(tc.args(["filter", "show", "dev", guest.tap(), "ingress"]), "").unwrap();
    assert!(shown.contains("from_guest"), "not attached by clsact: {shown:?}");
    drop(guest);
}

#[test]
fn curl_reads_over_both_families_and_keeps_its_connection() {
    let node = Node::start().unwrap();
    let guest = node.guest("a").boot().unwrap();
    let own = |text: &str| text.matches(guest.uuid()).count();
    let url = "http://169.254.169.254/openstack/latest/meta_data.json";
    assert_eq!(own(&guest.curl(&["--write-out", "%{num_connects} ", url, url]).unwrap()), 2);
    let connects =
        guest.curl(&["--write-out", "%{num_connects}", "--output", "/dev/null", url, "--output", "/dev/null", url]);
    assert_eq!(connects.unwrap(), "10", "the second request took a connection of its own");
    let url = "http://[fe80::a9fe:a9fe%25eth0]/openstack/latest/meta_data.json";
    assert_eq!(own(&guest.curl(&["--globoff", url]).unwrap()), 1);
}

#[test]
fn ping_is_answered_over_both_families() {
    let node = Node::start().unwrap();
    let guest = node.guest("a").boot().unwrap();
    let frames = guest.frames().unwrap();
    let mac = metadata_ebpf::addr::METADATA_MAC;
    let echo4 = etherparse::PacketBuilder::ethernet2(guest.mac(), mac)
        .ipv4(guest_ipv4(&guest), metadata_ebpf::addr::METADATA_IPV4, 64)
        .icmpv4_echo_request(1, 1);
    let echo6 = etherparse::PacketBuilder::ethernet2(guest.mac(), mac)
        .ipv6(guest.link_local().octets(), metadata_ebpf::addr::METADATA_IPV6, 64)
        .icmpv6_echo_request(1, 1);
    let (mut request4, mut request6) = (Vec::new(), Vec::new());
    echo4.write(&mut request4, b"ping").unwrap();
    echo6.write(&mut request6, b"ping").unwrap();
    for request in [request4, request6] {
        node.assert_moved(guest.ifindex(), &[("answered_echo", 1)], || frames.send(&request)).unwrap();
    }
}

fn guest_ipv4(guest: &Guest) -> [u8; 4] {
    let [.., high, low] = guest.mac();
    [10, 0, high, low]
}

#[test]
fn a_head_request_and_a_closed_port_behave() {
    let node = Node::start().unwrap();
    let guest = node.guest("a").boot().unwrap();
    let head = guest.send(&Request::get("/openstack").method("HEAD")).unwrap();
    assert_eq!((head.status, head.body.len()), (200, 0));
    assert_ne!(head.header("content-length"), Some("0"));
    for request in [Request::get("/").port(81), Request::get("/").port(81).over_ipv6()] {
        let error = guest.send(&request).unwrap_err();
        assert!(format!("{error:#}").contains("refused"), "{error:#}");
    }
}
