//! What a careless host does to the daemon's things, and a hostile guest to its own: nobody reads another's data, and
//! nobody stays unserved.

use std::io::Write as _;
use std::time::Duration;

use lab::{Guest, Node, NodePlan, Request, command, wait};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

fn reads_own(guest: &Guest) {
    assert_eq!(guest.read_uuid(false).unwrap(), guest.uuid());
    assert_eq!(guest.read_uuid(true).unwrap(), guest.uuid());
}

fn signal(node: &Node, signal: Signal) {
    let id = i32::try_from(node.daemon_id().unwrap()).unwrap();
    kill(Pid::from_raw(id), signal).unwrap();
}

#[test]
fn answers_under_way_reach_nobody_else_after_the_pins_were_lost() {
    let node = Node::start().unwrap();
    let mac = [0xfa, 0x16, 0x3e, 0x77, 0x77, 0x77];
    let secret = "the-first-guests-secret ".repeat(20_000);
    let plan = node.guest("first").mac(mac).ipv4("10.0.0.5/16");
    let mut first = plan.document(|document| document.with("user_data", secret.as_str())).boot().unwrap();
    let other = node.guest("other").mac(mac).ipv4("10.0.0.5/16").boot().unwrap();
    let request = Request::get("/openstack/latest/user_data");
    let mut connection = first.namespace().run(|| request.connect()).unwrap();
    // Asked for, and not read: most of it waits in the responder's namespace.
    connection.send_raw(b"GET /openstack/latest/user_data HTTP/1.1\r\nhost: m\r\n\r\n").unwrap();
    lab::wait::until("the answer fills the responder's socket", || {
        let mut ss = node.responder().command("ss")?;
        let shown = command::run(ss.args(["-Htn"]), "")?;
        Ok(shown.split_whitespace().nth(2).and_then(|sent| sent.parse::<u64>().ok()).filter(|sent| *sent > 0))
    })
    .unwrap();
    node.kill_daemon().unwrap();
    first.unplug(&node).unwrap();
    node.remove_document(first.uuid()).unwrap();
    std::fs::remove_file(node.pins().join("META")).unwrap();
    let frames = other.frames().unwrap();
    node.start_daemon().unwrap();
    node.wait_bound(other.ifindex()).unwrap();
    let until = std::time::Instant::now() + Duration::from_secs(5);
    while std::time::Instant::now() < until {
        if let Some(frame) = frames.receive(Duration::from_millis(200)).unwrap() {
            let text = String::from_utf8_lossy(&frame);
            assert!(!text.contains("secret"), "the other guest is sent what the first one asked for");
        }
    }
    reads_own(&other);
}

#[test]
fn lost_link_events_are_made_good() {
    let node = Node::start().unwrap();
    let mut same_index = node.guest("same").boot().unwrap();
    let index = same_index.ifindex();
    let mut vanishes = node.guest("vanishes").boot().unwrap();
    let vanished = vanishes.ifindex();
    signal(&node, Signal::SIGSTOP);
    let mut lines = "link add vif0 type bridge\n".to_owned();
    for number in 0..4000 {
        lines += &format!("link set vif{number} name vif{}\n", number + 1);
    }
    node.namespace().ip_batch(&lines).unwrap();
    same_index.unplug(&node).unwrap();
    same_index.plug(&node, Some(index)).unwrap();
    vanishes.unplug(&node).unwrap();
    let late = node.guest("late").at_once().boot().unwrap();
    signal(&node, Signal::SIGCONT);
    node.wait_bound(late.ifindex()).unwrap();
    reads_own(&late);
    node.wait_unknown(vanished).unwrap();
    lab::wait::until("the guest is served again", || Ok(same_index.read_uuid(false).ok())).unwrap();
    reads_own(&same_index);
    assert!(node.log().contains("listing all links again"), "no event was lost: the test shows nothing");
}

#[test]
fn an_interface_with_a_name_that_is_no_text_is_in_nobodys_way() {
    use std::os::unix::ffi::OsStrExt as _;
    let node = NodePlan::default().make().unwrap();
    for name in [b"tap\xff\xfe".as_slice(), b"tap-\"'$(x)"] {
        let mut ip = node.namespace().command("ip").unwrap();
        let name = std::ffi::OsStr::from_bytes(name);
        command::run(ip.args(["link", "add"]).arg(name).args(["type", "bridge"]), "").unwrap();
    }
    let guest = node.guest("a").at_once().boot().unwrap();
    node.start_daemon().unwrap();
    node.wait_bound(guest.ifindex()).unwrap();
    reads_own(&guest);
    let mut ip = node.namespace().command("ip").unwrap();
    let name = std::ffi::OsStr::from_bytes(b"tap\xff\xfc");
    command::run(ip.args(["link", "add"]).arg(name).args(["type", "bridge"]), "").unwrap();
    let late = node.guest("b").boot().unwrap();
    reads_own(&late);
}

#[test]
fn what_was_removed_by_hand_is_mended_by_the_next_start() {
    let node = Node::start().unwrap();
    let guest = node.guest("a").boot().unwrap();
    reads_own(&guest);
    let remove: [(&str, &dyn Fn()); 7] = [
        ("the responder's namespace", &|| {
            command::run(std::process::Command::new("ip").args(["netns", "del", node.responder().name()]), "").unwrap();
        }),
        ("the pair", &|| {
            node.responder().ip("link del guests").unwrap();
        }),
        ("the responder's address", &|| {
            node.responder().ip("addr flush dev guests").unwrap();
        }),
        ("the responder's IPv6", &|| node.responder().sysctl("ipv6/conf/guests/disable_ipv6", "1").unwrap()),
        ("the responder's link", &|| {
            node.responder().ip("link set guests down").unwrap();
        }),
        ("every pin", &|| std::fs::remove_dir_all(node.pins()).unwrap()),
        ("the pin of the ports", &|| std::fs::remove_file(node.pins().join("PORTS")).unwrap()),
    ];
    for (what, remove) in remove {
        eprintln!("removing {what}");
        node.kill_daemon().unwrap();
        remove();
        node.start_daemon().unwrap_or_else(|error| panic!("{what}: {error:#}"));
        node.wait_bound(guest.ifindex()).unwrap();
        reads_own(&guest);
    }
}

#[test]
fn filters_that_others_flush_are_put_back_at_once() {
    let node = NodePlan::default().attach("clsact").start().unwrap();
    let guest = node.guest("a").boot().unwrap();
    reads_own(&guest);
    let pair = node.namespace().ip("-o link show type veth").unwrap();
    let pair = pair.lines().find_map(|line| {
        let name = line.split(": ").nth(1)?.split('@').next()?;
        (name != guest.tap()).then(|| name.to_owned())
    });
    let pair = pair.expect("the pair's end in the node");
    let tap = guest.tap();
    // The tap's ingress; both of the pair; and the pair's with everything that they are in.
    for (count, line) in (1..).zip([
        format!("filter del dev {tap} ingress"),
        format!("filter del dev {tap} ingress pref 2"),
        format!("filter del dev {pair} ingress"),
        format!("filter del dev {pair} egress"),
        format!("qdisc del dev {pair} clsact"),
    ]) {
        let mut tc = node.namespace().command("tc").unwrap();
        command::run(tc.args(line.split(' ')), "").unwrap();
        let is_repaired = || Ok((node.status()?["ports_repaired"] == count).then_some(()));
        wait::until(&line, is_repaired).unwrap();
        node.wait_bound(guest.ifindex()).unwrap();
        reads_own(&guest);
    }
    let mut bpftool = node.namespace().command("bpftool").unwrap();
    let text = command::run(bpftool.args(["net", "show", "dev", &pair]), "").unwrap();
    for direction in ["clsact/ingress", "clsact/egress"] {
        assert_eq!(text.lines().filter(|line| line.contains(direction)).count(), 1, "{text}");
    }
}

/// How many programs are at the tap's ingress, in both ways of attaching.
fn programs_at(node: &Node, interface: &str) -> usize {
    let mut bpftool = node.namespace().command("bpftool").unwrap();
    let text = command::run(bpftool.args(["net", "show", "dev", interface]), "").unwrap();
    let filters = text.lines().filter(|line| line.contains("clsact/ingress")).count();
    // Older versions of bpftool do not know tcx.
    let links = node.namespace().run(|| {
        Ok(aya::programs::SchedClassifier::query_tcx(interface, aya::programs::TcAttachType::Ingress)
            .map_or(0, |(_, programs)| programs.len()))
    });
    filters + links.unwrap()
}

fn write_attach(node: &Node, mode: &str) {
    let text = std::fs::read_to_string(node.config()).unwrap();
    let lines = text.lines().map(|line| match line.starts_with("attach = ") {
        true => format!("attach = \"{mode}\"\n"),
        false => format!("{line}\n"),
    });
    let text: String = lines.collect();
    std::fs::File::create(node.config()).unwrap().write_all(text.as_bytes()).unwrap();
}

#[test]
fn another_way_of_attaching_leaves_one_program_and_nothing_behind() {
    let node = Node::start().unwrap();
    let guest = node.guest("a").boot().unwrap();
    reads_own(&guest);
    let has_tcx = aya::util::KernelVersion::current().unwrap() >= aya::util::KernelVersion::new(6, 6, 0);
    // Without tcx all are one, and once is enough.
    let modes: &[_] = if has_tcx { &["clsact", "tcx", "clsact", "clsact", "auto"] } else { &["clsact", "auto"] };
    for mode in modes {
        node.kill_daemon().unwrap();
        write_attach(&node, mode);
        node.start_daemon().unwrap();
        node.wait_bound(guest.ifindex()).unwrap();
        reads_own(&guest);
        assert_eq!(programs_at(&node, guest.tap()), 1, "{mode}: programs at the tap");
        assert_eq!(programs_at(&node, "metadatad0"), 1, "{mode}: programs at the pair's ingress");
    }
    let mut tc = node.namespace().command("tc").unwrap();
    let qdiscs = command::run(tc.args(["qdisc", "show"]), "").unwrap();
    let any = ["clsact", "ingress"].iter().any(|kind| qdiscs.contains(&format!("qdisc {kind} ")));
    assert_eq!(any, !has_tcx, "tcx needs none: {qdiscs}");
}

#[test]
fn the_mark_of_a_queueing_discipline_goes_with_its_tap() {
    let node = NodePlan::default().attach("clsact").start().unwrap();
    let mut guest = node.guest("a").boot().unwrap();
    let mark = node.pins().join("links").join(format!("qdisc-{}", guest.ifindex()));
    assert!(mark.exists(), "the test looks in the wrong place");
    guest.unplug(&node).unwrap();
    lab::wait::until("the mark is gone", || Ok((!mark.exists()).then_some(()))).unwrap();
}

#[test]
fn a_guest_without_offloads_and_behind_a_pair_of_macs_gets_everything_whole() {
    let node = Node::start().unwrap();
    let body: Vec<u8> = (0..1_000_000u32).map(|number| b'a' + u8::try_from(number % 23).unwrap()).collect();
    for (mtu, offload) in [(1280, "off"), (1500, "off"), (9000, "off"), (1280, "on"), (9000, "on"), (65535, "on")] {
        let pairs = serde_json::json!([{"ip_address": "198.51.100.7", "mac_address": "fa:16:3e:99:99:99"}]);
        let plan = node
            .guest("a")
            .mtu(mtu)
            .document(|document| document.with_user_data(&body).with_port("allowed_address_pairs", pairs.clone()));
        let guest = plan.boot().unwrap();
        for (namespace, interface) in [(guest.namespace(), "eth0"), (node.namespace(), guest.tap())] {
            let mut ethtool = namespace.command("ethtool").unwrap();
            ethtool.args(["-K", interface]);
            for feature in ["tx", "tso", "gso", "gro", "sg"] {
                ethtool.args([feature, offload]);
            }
            command::run(&mut ethtool, "").unwrap();
        }
        // The second MAC, with its address, as a guest that took over a virtual address has.
        for _ in 0..2 {
            assert!(guest.get("/openstack/latest/user_data").unwrap().body == body, "{mtu} {offload}");
            assert!(guest.get6("/openstack/latest/user_data").unwrap().body == body, "{mtu} {offload}");
            guest
                .namespace()
                .ip_batch(&format!(
                    "link set eth0 down\nlink set eth0 address fa:16:3e:99:99:99\nlink set eth0 up\n\
                     addr flush dev eth0\naddr add 198.51.100.7/24 dev eth0\n\
                     addr add {}/64 dev eth0 nodad\nroute add 169.254.169.254 dev eth0\n",
                    guest.link_local()
                ))
                .unwrap();
        }
    }
}

#[test]
fn detach_finds_filters_whose_pins_were_removed_by_hand() {
    let node = NodePlan::default().attach("clsact").start().unwrap();
    let guest = node.guest("a").boot().unwrap();
    reads_own(&guest);
    node.kill_daemon().unwrap();
    std::fs::remove_dir_all(node.pins()).unwrap();
    node.ask(&["detach"]).unwrap();
    assert_eq!(programs_at(&node, guest.tap()), 0, "a program is left on the tap");
}

/// Tells threads that it is over when it is dropped: also by a panic, which waits for them.
struct Over<'a>(&'a std::sync::atomic::AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, std::sync::atomic::Ordering::Relaxed);
    }
}

#[test]
fn killed_over_and_over_under_load_the_daemon_serves_all_again() {
    let _looking = LOOKING.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let node = Node::start().unwrap();
    let guests: Vec<_> = (0..20).map(|_| node.guest("g").boot().unwrap()).collect();
    let before = std::fs::read_to_string(EXPEDITED).unwrap();
    let over = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        let _over = Over(&over);
        for guest in &guests[..4] {
            let over = &over;
            scope.spawn(move || {
                while !over.load(std::sync::atomic::Ordering::Relaxed) {
                    let request = Request::get("/openstack/latest/meta_data.json").patience(Duration::from_millis(500));
                    if let Ok(response) = guest.send(&request) {
                        assert!(response.status == 503 || response.json().unwrap()["uuid"] == guest.uuid());
                    }
                }
            });
        }
        for turn in 0..6u64 {
            node.kill_daemon().unwrap();
            if turn % 2 == 0 {
                std::fs::remove_dir_all(node.pins()).unwrap();
            }
            // Killed before it is ready, at another moment each time.
            let begun = std::time::Instant::now();
            std::thread::scope(|scope| {
                let starting = scope.spawn(|| node.start_daemon());
                while begun.elapsed() < Duration::from_millis(60 + 40 * turn) {
                    std::thread::yield_now();
                }
                if let Ok(mut children) = pidof(&node) {
                    for id in children.drain(..) {
                        let _ = kill(Pid::from_raw(id), Signal::SIGKILL);
                    }
                }
                let _ = starting.join();
            });
            let _ = node.kill_daemon();
            node.start_daemon().unwrap();
        }
    });
    for guest in &guests {
        node.wait_bound(guest.ifindex()).unwrap();
        reads_own(guest);
    }
    assert_eq!(std::fs::read_to_string(EXPEDITED).unwrap(), before);
    node.stop_daemon().unwrap();
    node.ask(&["detach"]).unwrap();
    assert!(!node.pins().exists());
}

#[test]
fn a_node_whose_interfaces_have_ipv6_switched_off_serves_its_guests() {
    let node = NodePlan::default().make().unwrap();
    for interfaces in ["all", "default"] {
        node.namespace().sysctl(&format!("ipv6/conf/{interfaces}/disable_ipv6"), "1").unwrap();
    }
    node.start_daemon().unwrap();
    let guest = node.guest("a").boot().unwrap();
    reads_own(&guest);
}

/// The kernel's setting that the daemon changes while it attaches many taps.
const EXPEDITED: &str = "/sys/kernel/rcu_expedited";

/// Held by tests that look at it: it is the whole machine's.
static LOOKING: std::sync::Mutex<()> = std::sync::Mutex::new(());

#[test]
fn a_daemon_killed_while_it_attaches_many_taps_leaves_no_setting_of_the_machine_behind() {
    let _looking = LOOKING.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let node = NodePlan::default().make().unwrap();
    let lines: String =
        (0..200).map(|number| format!("link add tapa{number} type veth peer name tapb{number}\n")).collect();
    node.namespace().ip_batch(&lines).unwrap();
    let mark = node.pins().join("links/expedited");
    node.start_daemon().unwrap();
    assert!(!mark.exists());
    if node.port("tapa0").unwrap()["attached"] == "clsact" {
        // Attaching waits for no grace period: the setting is never touched.
        return;
    }
    node.kill_daemon().unwrap();
    std::fs::remove_dir_all(node.pins()).unwrap();
    let mut killed_meanwhile = false;
    for _ in 0..10 {
        std::thread::scope(|scope| {
            let starting = scope.spawn(|| node.start_daemon());
            while !starting.is_finished() && !killed_meanwhile {
                killed_meanwhile = mark.exists() && std::fs::read_to_string(EXPEDITED).unwrap().trim() == "1";
            }
            for id in pidof(&node).unwrap() {
                let _ = kill(Pid::from_raw(id), Signal::SIGKILL);
            }
            let _ = starting.join();
        });
        let _ = node.kill_daemon();
        // Nobody is left who knows of it, and no daemon is started again.
        let _ = std::fs::remove_dir_all(node.pins());
        lab::wait::until("the machine's setting is back", || {
            Ok((std::fs::read_to_string(EXPEDITED)?.trim() == "0").then_some(()))
        })
        .unwrap();
        if killed_meanwhile {
            break;
        }
    }
    assert!(killed_meanwhile, "the daemon was never killed while it attached: the test shows nothing");
    node.start_daemon().unwrap();
    assert_eq!(node.ports().unwrap().len(), 400);
    assert!(!mark.exists());
}

/// The process ids of this node's daemon: those whose command line has its configuration.
fn pidof(node: &Node) -> std::io::Result<Vec<i32>> {
    let config = node.config().display().to_string();
    let mut ids = Vec::new();
    for entry in std::fs::read_dir("/proc")?.flatten() {
        let Some(id) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
        let line = std::fs::read_to_string(entry.path().join("cmdline")).unwrap_or_default();
        if line.contains(&config) && line.contains("run") {
            ids.push(id);
        }
    }
    Ok(ids)
}
