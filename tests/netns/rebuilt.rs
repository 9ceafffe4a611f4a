//! An upgrade or downgrade to a version with other maps: they are made anew, and no port is open meanwhile.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use aya::maps::{Array, Map, MapData};
use etherparse::PacketBuilder;
use lab::{FrameSocket, Guest, Namespace, Node, NodePlan, wait};
use metadata_ebpf::abi::{ABI_VERSION, Meta};
use metadata_ebpf::addr::{METADATA_IPV4, METADATA_MAC};

/// How often it is tried, as what must not happen would take some microseconds; once on one processor, where the guest sends in the
/// daemon's pauses only.
fn rounds() -> usize {
    if std::thread::available_parallelism().is_ok_and(|count| count.get() == 1) { 1 } else { 5 }
}

/// Makes the pins those of another version.
fn plant(node: &Node, version: u32) {
    let data = MapData::from_pin(node.pins().join("META")).unwrap();
    let mut meta: Array<_, Meta> = Map::Array(data).try_into().unwrap();
    let planted = Meta { abi_version: version, ..meta.get(&0, 0).unwrap() };
    meta.set(0, planted, 0).unwrap();
}

/// The first segment of a connection.
fn syn(guest: &Guest, address: [u8; 4], port: u16) -> Vec<u8> {
    let builder = PacketBuilder::ethernet2(guest.mac(), METADATA_MAC)
        .ipv4(guest.ipv4().unwrap().octets(), address, 64)
        .tcp(port, 80, 1, 64240)
        .syn();
    let mut frame = Vec::new();
    builder.write(&mut frame, &[]).unwrap();
    frame
}

/// Restarts the daemon over pins of another version while the guest sends the first segments of connections without a pause, and
/// a neighbour listens for what gets out to the guest's network.
fn nothing_gets_out(attach: &'static str, version: u32) {
    let node = NodePlan::default().attach(attach).start().unwrap();
    let neighbour = Namespace::create("other").unwrap();
    let lines = format!(
        "link add br0 type bridge\nlink set br0 up\nlink add other type veth peer name eth0 netns {}\n\
         link set other master br0\nlink set other up\n",
        neighbour.name()
    );
    node.namespace().ip_batch(&lines).unwrap();
    neighbour.ip_batch("link set eth0 up promisc on\n").unwrap();
    let guest = node.guest("a").bridge("br0").boot().unwrap();
    assert_eq!(guest.read_uuid(false).unwrap(), guest.uuid());
    let tag = node.ports().unwrap()[&guest.ifindex()].tag;
    let (frames, heard) = (guest.frames().unwrap(), neighbour.run(|| FrameSocket::open("eth0")).unwrap());
    let (stop, sent) = (AtomicBool::new(false), AtomicU64::new(0));
    std::thread::scope(|scope| {
        let segments: Vec<_> = (1024..2048).map(|port| syn(&guest, METADATA_IPV4, port)).collect();
        for _ in 0..2 {
            let segments = segments.clone();
            scope.spawn(|| {
                for segment in segments.into_iter().cycle() {
                    if stop.load(Ordering::Relaxed) {
                        break;
                    }
                    // The queue may be full.
                    let _ = frames.send(&segment);
                    sent.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        let more = || {
            let before = sent.load(Ordering::Relaxed);
            wait::until("the guest sends", || Ok((sent.load(Ordering::Relaxed) > before + 1000).then_some(())))
                .unwrap();
        };
        more();
        for _ in 0..rounds() {
            node.stop_daemon().unwrap();
            plant(&node, version);
            node.start_daemon().unwrap();
            more();
        }
        stop.store(true, Ordering::Relaxed);
    });
    node.wait_bound(guest.ifindex()).unwrap();
    // One that must get out, and so ends what is looked through.
    let last = syn(&guest, [10, 9, 8, 7], 1);
    frames.send(&last).unwrap();
    let out = heard.receive_until(&last).unwrap();
    let out = out.iter().filter(|frame| frame.windows(4).any(|window| window == METADATA_IPV4)).count();
    assert_eq!(out, 0, "of {} segments to the metadata address so many got out to the network", sent.into_inner());
    assert!(node.log().contains("replacing the maps of another version"), "{}", node.log());
    assert_ne!(node.ports().unwrap()[&guest.ifindex()].tag, tag, "a tag of the former maps");
    assert!(!node.pins().join("links/rebuilding").exists());
    assert_eq!(guest.read_uuid(false).unwrap(), guest.uuid());
    assert_eq!(guest.read_uuid(true).unwrap(), guest.uuid());
    let found = MapData::from_pin(node.pins().join("META")).unwrap();
    let meta: Array<_, Meta> = Map::Array(found).try_into().unwrap();
    assert_eq!(meta.get(&0, 0).unwrap().abi_version, ABI_VERSION);
}

#[test]
fn an_upgrade_over_maps_of_an_older_version_opens_no_port() {
    nothing_gets_out("auto", ABI_VERSION - 1);
}

#[test]
fn a_downgrade_over_maps_of_a_newer_version_opens_no_port() {
    nothing_gets_out("auto", ABI_VERSION + 1);
}

#[test]
fn maps_of_another_version_are_replaced_where_clsact_was_forced_too() {
    nothing_gets_out("clsact", ABI_VERSION + 1);
}
