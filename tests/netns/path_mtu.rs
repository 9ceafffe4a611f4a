//! Large answers arrive whatever lies between the tap and the client, and no packet is larger than the tap's MTU.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use etherparse::{NetSlice, PacketBuilder, SlicedPacket, TransportSlice};
use lab::{FrameSocket, Guest, Namespace, Node, Request};
use metadata_ebpf::addr::{METADATA_IPV4, METADATA_IPV6};
use serde_json::json;

const PATH: &str = "/openstack/latest/user_data";

/// 64 KiB in which every place differs from its neighbours.
fn content() -> Vec<u8> {
    (0..65_536u32).map(|place| place.wrapping_mul(0x9e37_79b9).to_be_bytes()[0]).collect()
}

/// A guest with such user data, which may use any address with its MAC, and at its tap segments one by one: the kernel would
/// otherwise carry many in one frame, past every MTU.
fn boot(node: &Node, mtu: u32) -> Guest {
    let plan = node
        .guest("a")
        .mtu(mtu)
        .document(|document| document.with_user_data(&content()).with_port("port_security", json!(false)));
    let guest = plan.boot().unwrap();
    node.namespace().ip(&format!("link set {} gso_max_segs 1", guest.tap())).unwrap();
    guest
}

/// A client behind the guest, on a link of its own with this MTU at the client's end, and another at the guest's.
struct Client {
    namespace: Namespace,
}

impl Client {
    /// The guest routes between them, and says where a packet does not fit.
    fn routed(guest: &Guest, mtu: u32, hop_mtu: u32) -> Self {
        let namespace = Namespace::create("client").unwrap();
        guest
            .namespace()
            .ip_batch(&format!(
                "link add inner mtu {hop_mtu} type veth peer name eth0 mtu {mtu} netns {}\n\
                 addr add 10.50.0.1/24 dev inner\nlink set inner up\n",
                namespace.name()
            ))
            .unwrap();
        guest.namespace().sysctl("ipv4/ip_forward", "1").unwrap();
        namespace
            .ip_batch("addr add 10.50.0.2/24 dev eth0\nlink set eth0 up\nroute add default via 10.50.0.1\n")
            .unwrap();
        Self { namespace }
    }

    /// The guest is a switch, which drops a frame that does not fit and says nothing. The client has the guest's MAC and
    /// addresses.
    fn switched(guest: &Guest, mtu: u32, hop_mtu: u32) -> Self {
        let namespace = Namespace::create("client").unwrap();
        let [.., high, low] = guest.mac();
        guest
            .namespace()
            .ip_batch(&format!(
                "addr flush dev eth0\nlink add br0 type bridge mcast_snooping 0\nlink set br0 addrgenmode none\n\
                 link set eth0 address 02:00:00:00:00:07\nlink set eth0 master br0\n\
                 link add inner mtu {hop_mtu} type veth peer name eth0 address {} mtu {mtu} netns {}\n\
                 link set inner addrgenmode none\nlink set inner master br0\nlink set inner up\nlink set br0 up\n",
                lab::guest::mac_text(guest.mac()),
                namespace.name()
            ))
            .unwrap();
        namespace
            .ip_batch(&format!(
                "link set eth0 addrgenmode none\nlink set eth0 up\naddr add 10.0.{high}.{low}/16 dev eth0\n\
                 addr add {}/64 dev eth0 nodad\nroute add 169.254.169.254 dev eth0\n",
                guest.link_local()
            ))
            .unwrap();
        Self { namespace }
    }

    fn reads_all(&self, over_ipv6: bool) {
        let request = Request::get(PATH).patience(Duration::from_secs(20));
        let request = if over_ipv6 { request.over_ipv6() } else { request };
        let response = self.namespace.run(|| request.send()).unwrap();
        assert_eq!(response.status, 200);
        assert!(response.body == content(), "{} bytes, not as they should be", response.body.len());
    }
}

/// The MTUs that the responder's kernel has learned.
fn learned(node: &Node) -> String {
    node.responder().ip("-6 route show cache").unwrap()
}

#[test]
fn a_router_in_the_guest_that_reports_a_smaller_mtu_is_believed() {
    for (hop_mtu, expected) in [(1400, "mtu 1420"), (1280, "mtu 1300")] {
        let node = Node::start().unwrap();
        let guest = boot(&node, 1500);
        let client = Client::routed(&guest, 1500, hop_mtu);
        client.reads_all(false);
        assert!(learned(&node).contains(expected), "{hop_mtu}: {}", learned(&node));
        assert!(node.counters(guest.ifindex()).unwrap().path_mtu > 0);
    }
}

#[test]
fn a_router_with_less_than_ipv6s_least_mtu_is_served_too() {
    let node = Node::start().unwrap();
    let guest = boot(&node, 1500);
    Client::routed(&guest, 1500, 576).reads_all(false);
}

#[test]
fn where_no_report_comes_back_answers_arrive_all_the_same() {
    for hop_mtu in [1400, 1280] {
        for over_ipv6 in [false, true] {
            let node = Node::start().unwrap();
            let guest = boot(&node, 1500);
            let client = Client::switched(&guest, 1500, hop_mtu);
            let start = Instant::now();
            client.reads_all(over_ipv6);
            assert!(start.elapsed() > Duration::from_millis(200), "nothing was lost: the hop is no obstacle");
            assert_eq!(node.counters(guest.ifindex()).unwrap().path_mtu, 0, "somebody reported");
        }
    }
}

/// Reads frames of the service until `work` ends; returns the length of the longest, and how many there were.
fn longest_frame(frames: &FrameSocket, work: impl FnOnce() + Send) -> (usize, usize) {
    work();
    let (mut longest, mut count) = (0, 0);
    while let Some(frame) = frames.receive(Duration::from_millis(50)).unwrap() {
        if is_reply(&frame) {
            longest = longest.max(frame.len());
            count += 1;
        }
    }
    (longest, count)
}

fn is_reply(frame: &[u8]) -> bool {
    match SlicedPacket::from_ethernet(frame).ok().and_then(|packet| packet.net) {
        Some(NetSlice::Ipv4(ip)) => ip.header().source() == METADATA_IPV4,
        Some(NetSlice::Ipv6(ip)) => ip.header().source() == METADATA_IPV6,
        _ => false,
    }
}

#[test]
fn no_packet_is_larger_than_the_taps_mtu_whatever_the_guest_announces() {
    for mtu in [1280, 1400] {
        let node = Node::start().unwrap();
        let guest = boot(&node, mtu);
        // Announces 8960 and 8940.
        guest.namespace().ip("link set eth0 mtu 9000").unwrap();
        let frames = guest.frames().unwrap();
        for over_ipv6 in [false, true] {
            let (longest, count) = longest_frame(&frames, || {
                let response = if over_ipv6 { guest.get6(PATH) } else { guest.get(PATH) }.unwrap();
                assert!(response.body == content());
            });
            assert_eq!(longest, mtu as usize + 14, "of {count} frames, at MTU {mtu}, IPv6: {over_ipv6}");
        }
        assert_eq!(node.counters(guest.ifindex()).unwrap().path_mtu, 0, "segments were bounded from the start");
    }
}

#[test]
fn a_client_behind_the_guest_with_a_larger_mtu_than_the_tap_is_served() {
    let node = Node::start().unwrap();
    let guest = boot(&node, 1500);
    Client::routed(&guest, 9000, 9000).reads_all(false);
}

#[test]
fn a_connection_outlives_a_smaller_mtu_of_its_tap() {
    for over_ipv6 in [false, true] {
        let node = Node::start().unwrap();
        let guest = boot(&node, 1500);
        let frames = guest.frames().unwrap();
        let mut connection = connect(&guest, over_ipv6);
        ask_and_read(&mut connection);
        while frames.receive(Duration::from_millis(50)).unwrap().is_some() {}

        node.namespace().ip(&format!("link set {} mtu 1300", guest.tap())).unwrap();
        let (longest, count) = longest_frame(&frames, || {
            ask_and_read(&mut connection);
        });
        assert!(longest <= 1314, "{longest} bytes, of {count} frames");
        assert!(node.counters(guest.ifindex()).unwrap().path_mtu > 0);
        assert!(learned(&node).contains(if over_ipv6 { "mtu 1300" } else { "mtu 1320" }), "{}", learned(&node));
    }
}

fn connect(guest: &Guest, over_ipv6: bool) -> TcpStream {
    guest
        .namespace()
        .run(|| {
            let stream = if over_ipv6 {
                let scope = nix::net::if_::if_nametoindex("eth0")?;
                TcpStream::connect(std::net::SocketAddrV6::new(METADATA_IPV6.into(), 80, 0, scope))?
            } else {
                TcpStream::connect(std::net::SocketAddr::from((METADATA_IPV4, 80)))?
            };
            stream.set_read_timeout(Some(Duration::from_secs(20)))?;
            Ok(stream)
        })
        .unwrap()
}

fn ask(connection: &mut TcpStream) {
    write!(connection, "GET {PATH} HTTP/1.1\r\nhost: 169.254.169.254\r\n\r\n").unwrap();
}

/// Sends a request and reads its answer up to the last byte of the body; the connection stays.
fn ask_and_read(connection: &mut TcpStream) {
    ask(connection);
    let (content, mut answer, mut buffer) = (content(), Vec::new(), [0; 65_536]);
    while !answer.ends_with(&content) {
        let count = connection.read(&mut buffer).unwrap();
        assert!(count > 0, "closed after {} bytes", answer.len());
        answer.extend_from_slice(&buffer[..count]);
    }
    assert!(answer.starts_with(b"HTTP/1.1 200"), "{:?}", String::from_utf8_lossy(&answer[..40]));
}

/// A router behind the guest's IPv6 address, played by the test: a kernel forwards no link-local addresses.
#[test]
fn a_router_that_reports_over_ipv6_is_believed() {
    let node = Node::start().unwrap();
    let guest = boot(&node, 1500);
    let client = Client::switched(&guest, 1500, 1280);
    let frames = guest.frames().unwrap();
    std::thread::scope(|scope| {
        let reader = scope.spawn(|| client.reads_all(true));
        while !reader.is_finished() {
            let Some(frame) = frames.receive(Duration::from_millis(50)).unwrap() else { continue };
            if let Some(report) = packet_too_big(&guest, &frame, 1280) {
                frames.send(&report).unwrap();
            }
        }
        reader.join().unwrap();
    });
    assert!(node.counters(guest.ifindex()).unwrap().path_mtu > 0);
    assert!(learned(&node).contains("mtu 1280"), "{}", learned(&node));
}

/// What a router says about a frame that is larger than its MTU.
fn packet_too_big(guest: &Guest, frame: &[u8], mtu: u32) -> Option<Vec<u8>> {
    let packet = SlicedPacket::from_ethernet(frame).ok()?;
    let is_tcp = matches!(packet.transport, Some(TransportSlice::Tcp(_)));
    if !is_tcp || !is_reply(frame) || frame.len() <= mtu as usize + 14 {
        return None;
    }
    let header = etherparse::Icmpv6Type::PacketTooBig { mtu };
    let builder = PacketBuilder::ethernet2(guest.mac(), frame[6..12].try_into().ok()?)
        .ipv6(guest.link_local().octets(), METADATA_IPV6, 64)
        .icmpv6(header);
    let mut report = Vec::new();
    // As much as fits 1280 bytes, as RFC 4443 wants it.
    builder.write(&mut report, &frame[14..14 + 1200]).ok()?;
    Some(report)
}

#[test]
fn a_report_about_somebody_elses_connection_changes_nothing() {
    let node = Node::start().unwrap();
    let guest = boot(&node, 1500);
    let neighbour = node.guest("b").boot().unwrap();
    let mut connection = connect(&guest, false);
    ask(&mut connection);
    let port = connection.local_addr().unwrap().port();
    let [.., high, low] = guest.mac();
    let mut quoted = Vec::new();
    PacketBuilder::ipv4(METADATA_IPV4, [10, 0, high, low], 64)
        .tcp(80, port, 0, 500)
        .write(&mut quoted, &[0; 1200])
        .unwrap();
    let header = etherparse::icmpv4::DestUnreachableHeader::FragmentationNeeded { next_hop_mtu: 600 };
    let [.., other_high, other_low] = neighbour.mac();
    let mut report = Vec::new();
    PacketBuilder::ethernet2(neighbour.mac(), [2; 6])
        .ipv4([10, 0, other_high, other_low], METADATA_IPV4, 64)
        .icmpv4(etherparse::Icmpv4Type::DestinationUnreachable(header))
        .write(&mut report, &quoted)
        .unwrap();
    let frames = neighbour.frames().unwrap();
    node.assert_moved(neighbour.ifindex(), &[("path_mtu", 1)], || frames.send(&report)).unwrap();
    assert!(!learned(&node).contains("mtu"), "{}", learned(&node));
}
