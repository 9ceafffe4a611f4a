//! Limits at XDP (`ports.guard`), on taps of the tun driver and on veths: where they are, what they drop, and what becomes of them.

use std::time::{Duration, Instant};

use etherparse::PacketBuilder;
use lab::{Document, FrameSocket, Namespace, Node, NodePlan, Tap, command, wait};
use metadata_ebpf::addr::{METADATA_IPV4, METADATA_IPV6, METADATA_MAC};
use serde_json::{Value, json};

use crate::bystanders::{FAR_MAC, written};

const LOW: &str = "guard = \"xdp\"\nnew_connections_per_second = 1\nnew_connections_burst = 3\n";
const MAC: [u8; 6] = [0xfa, 0x16, 0x3e, 0, 0, 9];
const IPV4: [u8; 4] = [10, 0, 0, 5];
const TAP: &str = "tapxdp";
/// The instance on the tap.
const UUID: &str = "000000d9-0000-4000-9000-000000000001";

/// A port with the addresses of the frames here.
struct Port {
    node: Node,
    tap: Tap,
}

fn document() -> Document {
    let port = json!({
        "id": "000000d9-0000-4000-8000-000000000001",
        "mac_address": lab::guest::mac_text(MAC),
        "fixed_ips": [{"ip_address": "10.0.0.5"}],
        "devname": TAP,
    });
    Document::new(UUID, "a", port)
}

impl Port {
    fn new(plan: NodePlan) -> Self {
        let node = plan.start().unwrap();
        node.write(&document()).unwrap();
        let tap = Tap::open(node.namespace(), TAP).unwrap();
        node.wait_bound(tap.ifindex()).unwrap();
        Self { node, tap }
    }

    /// Sends first segments of both families, every fourth with a VLAN tag, and returns how many were admitted, how many the
    /// limit dropped, and how many of those the driver did.
    fn flood(&self, count: u16) -> Flood {
        let counters = || self.node.counters(self.tap.ifindex()).unwrap();
        let (before, dropped, start) = (counters(), dropped_by_driver(&self.node), Instant::now());
        for number in 0..count {
            self.tap.send(&first_segment(number)).unwrap();
        }
        // A frame is counted before its sending ends.
        let after = counters();
        Flood {
            admitted: after.to_responder - before.to_responder,
            refused: after.drop_limit_connections - before.drop_limit_connections,
            at_xdp: dropped_by_driver(&self.node) - dropped,
            seconds: start.elapsed().as_secs_f64(),
        }
    }

    /// The service's MAC is asked for, and the answer comes.
    fn is_answered(&self) {
        let header = [8, 6, 0, 1, 8, 0, 6, 4, 0, 1];
        let request = [[0xff; 6].as_slice(), &MAC, &header, &MAC, &IPV4, &[0; 6], &METADATA_IPV4].concat();
        self.tap.send(&request).unwrap();
        wait::until("the tap answers", || {
            let frame = self.tap.receive(Duration::from_millis(200))?;
            Ok(frame.filter(|frame| frame.get(20..22) == Some(&[0, 2]) && frame.get(28..32) == Some(&METADATA_IPV4)))
        })
        .unwrap();
    }
}

#[derive(Debug)]
struct Flood {
    admitted: u64,
    refused: u64,
    at_xdp: u64,
    seconds: f64,
}

impl Flood {
    /// No more were admitted than the limit allows.
    fn is_limited(&self) {
        assert!(self.refused > 0 && self.admitted as f64 <= 3.0 + self.seconds, "{self:?}");
    }
}

fn first_segment(number: u16) -> Vec<u8> {
    let (port, ethernet) = (20_000 + number, PacketBuilder::ethernet2(MAC, METADATA_MAC));
    let link_local = [0xfe, 0x80, 0, 0, 0, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8];
    let packet = match number % 4 {
        0 => ethernet.ipv4(IPV4, METADATA_IPV4, 64),
        1 => ethernet.single_vlan(100.try_into().unwrap()).ipv4(IPV4, METADATA_IPV4, 64),
        2 => ethernet.ipv6(link_local, METADATA_IPV6, 64),
        _ => ethernet.single_vlan(100.try_into().unwrap()).ipv6(link_local, METADATA_IPV6, 64),
    };
    written(|out| packet.tcp(port, 81, 1, 1024).syn().write(out, &[]))
}

/// What `ip` says of an interface of the node.
fn link(node: &Node, name: &str) -> Value {
    let text = node.namespace().ip(&format!("-s -d -j link show dev {name}")).unwrap();
    serde_json::from_str::<Value>(&text).unwrap()[0].clone()
}

/// Frames of the tap that its driver dropped: a program at tc has no part in this number.
fn dropped_by_driver(node: &Node) -> u64 {
    link(node, TAP)["stats64"]["rx"]["dropped"].as_u64().unwrap()
}

/// The id of the XDP program on an interface, which must be in the driver itself.
fn program(node: &Node, name: &str) -> Option<u64> {
    /// `XDP_ATTACHED_DRV` of linux/if_link.h.
    const NATIVE: u64 = 1;
    let xdp = &link(node, name)["xdp"];
    let id = xdp["prog"]["id"].as_u64()?;
    assert_eq!(xdp["mode"].as_u64(), Some(NATIVE), "{xdp}");
    Some(id)
}

fn shows(node: &Node, tap: &str, guard: Option<&str>) {
    node.wait_port_shown(tap, "is shown with its guard", |port| port["guard"].as_str() == guard).unwrap();
}

fn set_guard(node: &Node, guard: &str) {
    let text = std::fs::read_to_string(node.config()).unwrap();
    let line =
        |line: &str| if line.starts_with("guard = ") { format!("guard = \"{guard}\"\n") } else { format!("{line}\n") };
    std::fs::write(node.config(), text.lines().map(line).collect::<String>()).unwrap();
}

#[test]
fn on_a_tap_the_driver_drops_what_is_beyond_the_limits_over_both_families_and_in_vlans() {
    let port = Port::new(NodePlan::default().ports(LOW));
    shows(&port.node, TAP, Some("xdp"));
    assert!(program(&port.node, TAP).is_some());
    let flood = port.flood(200);
    flood.is_limited();
    assert_eq!((flood.refused, flood.admitted + flood.refused), (flood.at_xdp, 200), "{flood:?}");
    port.is_answered();
    let status = port.node.status().unwrap();
    assert_eq!(status["ports_guard"], json!({"xdp": 1}), "{status}");
    let shown = port.node.told(&["ports"]).unwrap();
    assert!(shown.contains("+xdp"), "{shown}");
    // Sampled and logged as drops at tc are.
    wait::until("a drop is logged", || {
        let log = port.node.log();
        Ok((log.contains("limit_connections") && log.contains("fa:16:3e:00:00:09")).then_some(()))
    })
    .unwrap();
}

#[test]
fn packets_of_every_kind_are_limited_by_the_driver_and_others_pass_it() {
    let limits = "guard = \"xdp\"\npackets_per_second = 1\npackets_burst = 5\n";
    let port = Port::new(NodePlan::default().ports(limits));
    shows(&port.node, TAP, Some("xdp"));
    let counters = || port.node.counters(port.tap.ifindex()).unwrap();
    let (before, dropped, start) = (counters(), dropped_by_driver(&port.node), Instant::now());
    let echo = PacketBuilder::ethernet2(MAC, METADATA_MAC).ipv4(IPV4, METADATA_IPV4, 64).icmpv4_echo_request(7, 9);
    let echo = written(|out| echo.write(out, b"ping"));
    let spoofed = PacketBuilder::ethernet2(FAR_MAC, METADATA_MAC).ipv4(IPV4, METADATA_IPV4, 64).udp(5, 54);
    let spoofed = written(|out| spoofed.write(out, b"question"));
    let passing = PacketBuilder::ethernet2(MAC, METADATA_MAC).ipv4(IPV4, METADATA_IPV4, 64).udp(5, 53);
    let passing = written(|out| passing.write(out, b"question"));
    for _ in 0..50 {
        for frame in [&echo, &spoofed, &passing] {
            port.tap.send(frame).unwrap();
        }
    }
    let (after, seconds) = (counters(), start.elapsed().as_secs_f64());
    let refused = after.drop_limit_packets - before.drop_limit_packets;
    assert_eq!(after.passed - before.passed, 50);
    assert!(refused <= 100 && (100 - refused) as f64 <= 5.0 + seconds, "{refused} in {seconds} s");
    assert_eq!(dropped_by_driver(&port.node) - dropped, refused);
}

#[test]
fn a_guest_on_a_veth_is_limited_at_xdp_and_served() {
    let node = NodePlan::default().ports(LOW).start().unwrap();
    let body: Vec<u8> = (0..300_000u32).map(|number| b'a' + u8::try_from(number % 23).unwrap()).collect();
    let guest = node.guest("a").mtu(9000).document(|document| document.with_user_data(&body)).boot().unwrap();
    shows(&node, guest.tap(), Some("xdp"));
    assert!(program(&node, guest.tap()).is_some());
    assert!(guest.get("/openstack/latest/user_data").unwrap().body == body);
    assert!(guest.get6("/openstack/latest/user_data").unwrap().body == body);
    let frames = guest.frames().unwrap();
    let start = Instant::now();
    let before = node.counters(guest.ifindex()).unwrap();
    let source = guest.ipv4().unwrap().octets();
    for port in 0..200 {
        let syn = PacketBuilder::ethernet2(guest.mac(), METADATA_MAC).ipv4(source, METADATA_IPV4, 64);
        frames.send(&written(|out| syn.tcp(30_000 + port, 81, 1, 1024).syn().write(out, &[]))).unwrap();
    }
    wait::until("all are counted", || {
        let after = node.counters(guest.ifindex())?;
        let admitted = after.to_responder - before.to_responder;
        anyhow::ensure!(admitted as f64 <= 3.0 + start.elapsed().as_secs_f64(), "{admitted}");
        Ok((admitted + after.drop_limit_connections - before.drop_limit_connections >= 200).then_some(()))
    })
    .unwrap();
}

#[test]
fn large_segments_of_a_guarded_guest_reach_others_whole() {
    let port = Port::new(NodePlan::default().ports(LOW));
    shows(&port.node, TAP, Some("xdp"));
    let far = Namespace::create("far").unwrap();
    let lines = format!(
        "link add br0 type bridge mcast_snooping 0\nlink set br0 up\nlink set {TAP} master br0\n\
         link add far type veth peer name eth0 address {} netns {}\nlink set far master br0\nlink set far up\n",
        lab::guest::mac_text(FAR_MAC),
        far.name()
    );
    port.node.namespace().ip_batch(&lines).unwrap();
    far.ip_batch("link set eth0 addrgenmode none\nlink set eth0 up\n").unwrap();
    let receiver = far.run(|| FrameSocket::open("eth0")).unwrap();
    let payload: Vec<u8> = (0..20_000u32).map(|number| u8::try_from(number % 251).unwrap()).collect();
    let packet = PacketBuilder::ethernet2(MAC, FAR_MAC).ipv4(IPV4, [10, 0, 0, 7], 64).tcp(40_000, 7, 1, 1024).ack(1);
    let frame = written(|out| packet.write(out, &payload));
    wait::until("the bridge lets it pass", || {
        port.tap.send_large(&frame, 1448)?;
        let mut arrived = Vec::new();
        while let Some(found) = receiver.receive(Duration::from_millis(500))? {
            if found.get(26..30) == Some(&IPV4) {
                arrived.extend_from_slice(&found[54..]);
            }
            if arrived.len() >= payload.len() {
                break;
            }
        }
        Ok((arrived == payload).then_some(()))
    })
    .unwrap();
    assert!(program(&port.node, TAP).is_some());
}

#[test]
fn limits_stay_at_xdp_while_the_daemon_is_away_and_leave_it_by_configuration_and_with_detach() {
    let port = Port::new(NodePlan::default().ports(LOW));
    let node = &port.node;
    shows(node, TAP, Some("xdp"));
    let first = program(node, TAP);
    node.kill_daemon().unwrap();
    assert_eq!(program(node, TAP), first);
    let flood = port.flood(100);
    flood.is_limited();
    assert_eq!(flood.refused, flood.at_xdp);
    node.start_daemon().unwrap();
    shows(node, TAP, Some("xdp"));
    let second = program(node, TAP);
    assert!(second.is_some() && second != first, "the new daemon's program is in the old one's link");
    for (guard, shown) in [("off", None), ("xdp", Some("xdp"))] {
        node.stop_daemon().unwrap();
        set_guard(node, guard);
        node.start_daemon().unwrap();
        node.wait_bound(port.tap.ifindex()).unwrap();
        shows(node, TAP, shown);
        assert_eq!(program(node, TAP).is_some(), shown.is_some(), "{guard}");
        let flood = port.flood(100);
        flood.is_limited();
        assert_eq!(flood.at_xdp, if shown.is_some() { flood.refused } else { 0 }, "{guard}");
    }
    node.stop_daemon().unwrap();
    node.ask(&["detach"]).unwrap();
    assert_eq!(program(node, TAP), None);
    assert!(!node.pins().exists());
}

#[test]
fn what_is_detached_by_hand_is_put_back_and_the_limits_hold_meanwhile() {
    let port = Port::new(NodePlan::default().ports(LOW));
    let node = &port.node;
    shows(node, TAP, Some("xdp"));
    let pin = node.pins().join(format!("links/xdp-{}", port.tap.ifindex()));
    let mut bpftool = node.namespace().command("bpftool").unwrap();
    command::run(bpftool.args(["link", "detach", "pinned"]).arg(&pin), "").unwrap();
    port.flood(100).is_limited();
    let status = wait::until("it is put back", || {
        Ok(Some(node.status()?).filter(|status| status["repairs"]["from_guest_xdp"].as_u64() == Some(1)))
    });
    assert_eq!(status.unwrap()["ports_guard"], json!({"xdp": 1}));
    assert!(program(node, TAP).is_some());
    port.flood(100).is_limited();
    assert!(node.log().contains("from_guest_xdp was detached from the tap"), "{}", node.log());
}

#[test]
fn an_xdp_program_of_others_stays_and_its_tap_is_limited_at_tc_until_it_goes() {
    let port = Port::new(NodePlan::default().ports(&LOW.replace("\"xdp\"", "\"off\"")));
    let node = &port.node;
    node.stop_daemon().unwrap();
    // Any program will do: this one is loaded a second time, and knows no port.
    let mut others = aya::Ebpf::load(metadata_user::dataplane::OBJECT).unwrap();
    let theirs: &mut aya::programs::Xdp = others.program_mut("from_guest_xdp").unwrap().try_into().unwrap();
    theirs.load().unwrap();
    let id = u64::from(theirs.info().unwrap().id());
    let attach = || Ok(theirs.attach_to_if_index(port.tap.ifindex(), aya::programs::XdpMode::Driver)?);
    node.namespace().run(attach).unwrap();
    set_guard(node, "xdp");
    node.start_daemon().unwrap();
    node.wait_port_shown(TAP, "is limited at tc only", |port| {
        port["guard_missing"].as_str().is_some_and(|reason| reason.contains("another XDP program"))
    })
    .unwrap();
    assert_eq!(program(node, TAP), Some(id));
    let status = node.status().unwrap();
    assert_eq!(status["ports_guard"], json!({"xdp": 0, "missing": {"occupied": 1}}), "{status}");
    let flood = port.flood(100);
    flood.is_limited();
    assert_eq!(flood.at_xdp, 0, "their program knows no limits");
    port.is_answered();
    let told = node.told(&["status"]).unwrap();
    assert!(told.contains("1 limited at tc only: another XDP program is on the tap"), "{told}");
    drop(others);
    shows(node, TAP, Some("xdp"));
    assert!(program(node, TAP).is_some_and(|found| found != id));
}

#[test]
fn an_interface_without_native_xdp_is_served_without_and_says_why() {
    let node = NodePlan::default().ports(LOW).start().unwrap();
    node.namespace().ip("link add tapplain type bridge").unwrap();
    node.wait_port_shown("tapplain", "is limited at tc only", |port| {
        port["state"] == "held" && port["guard_missing"].as_str().is_some_and(|reason| reason.contains("no native XDP"))
    })
    .unwrap();
    assert_eq!(program(&node, "tapplain"), None, "generic XDP is no substitute");
    assert_eq!(node.status().unwrap()["ports_guard"], json!({"xdp": 0, "missing": {"unsupported": 1}}));
}

#[test]
fn a_port_without_limits_and_one_that_is_left_to_others_have_nothing_at_xdp() {
    let unlimited = "new_connections_per_second = 0\npackets_per_second = 0\n";
    let port = Port::new(NodePlan::default().ports(&format!("guard = \"xdp\"\nunbound = \"pass\"\n{unlimited}")));
    let node = &port.node;
    assert_eq!(program(node, TAP), None);
    node.write(&document().with("policy", json!({"new_connections_per_second": 5}))).unwrap();
    shows(node, TAP, Some("xdp"));
    assert!(program(node, TAP).is_some());
    node.remove_document(UUID).unwrap();
    node.wait_port_shown(TAP, "is left to others", |port| port["state"] == "passed").unwrap();
    shows(node, TAP, None);
    assert_eq!(program(node, TAP), None);
}
