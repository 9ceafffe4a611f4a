//! What others change or remove by hand while the daemon runs: it is put back, counted and logged, and a guest that keeps asking is
//! answered again on the connection that it has. What cannot be put back is reported by `metadatad status --check`, with the remedy that
//! docs/operations.md has, too.

use aya::programs::tc::TcAttachOptions;
use aya::programs::{LinkOrder, SchedClassifier, TcAttachType};
use lab::http::Connection;
use lab::{Asker, Guest, Namespace, Node, NodePlan, Request, command, wait};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

const PATH: &str = "/latest/meta-data/hostname";

/// A node with a guest that has a connection open, and keeps opening others.
struct World {
    node: Node,
    guest: Guest,
    connection: Connection,
    asker: Asker,
}

impl World {
    fn new(plan: NodePlan) -> Self {
        let node = plan.start().unwrap();
        let guest = node.guest("a").boot().unwrap();
        let request = Request::get(PATH);
        let body = guest.get(PATH).unwrap().body;
        let connection = guest.namespace().run(|| request.connect()).unwrap();
        let asker = Asker::start(&guest, PATH, 20, &body).unwrap();
        Self { node, guest, connection, asker }
    }

    /// Runs a program in the node.
    fn run(&self, line: &str) {
        let mut words = line.split_whitespace();
        let mut program = self.node.namespace().command(words.next().unwrap()).unwrap();
        command::run(program.args(words), "").unwrap();
    }

    fn pin(&self, name: &str) -> String {
        self.node.pins().join(name).display().to_string()
    }

    fn repairs(&self, what: &str) -> u64 {
        self.node.status().unwrap()["repairs"][what].as_u64().unwrap_or_default()
    }

    fn all_repairs(&self) -> u64 {
        let repairs = self.node.status().unwrap()["repairs"].take();
        repairs.as_object().into_iter().flatten().filter_map(|(_, count)| count.as_u64()).sum()
    }

    /// Breaks something, waits until its repair is counted and the guest is answered as before, and expects the log to say this. A look
    /// of the daemon's that was under way may have seen a part of it, and counts what it saw: then it is broken once more.
    fn breaks(&mut self, what: &str, logged: &str, breaking: impl Fn(&Self)) {
        let (before, lines) = (self.repairs(what), self.node.log().matches(logged).count());
        for _ in 0..3 {
            let all = self.all_repairs();
            breaking(self);
            wait::until(&format!("{what} is repaired"), || Ok((self.all_repairs() > all).then_some(())))
                .unwrap_or_else(|error| panic!("{error:#}; the log:\n{}", self.node.log()));
            self.is_answered();
            if self.repairs(what) > before {
                break;
            }
        }
        assert!(self.repairs(what) > before, "{what} is not counted:\n{}", self.node.log());
        let said = self.node.log().matches(logged).count();
        assert!(said > lines, "{what}: the log does not say {logged:?}:\n{}", self.node.log());
        let metrics = self.node.metrics().unwrap();
        let series = format!("metadatad_repairs_total{{what=\"{what}\"}} {}", self.repairs(what));
        assert!(metrics.lines().any(|line| line == series), "{series}: {metrics}");
    }

    /// The guest is answered on new connections, and on the one that it has had all the time.
    fn is_answered(&mut self) {
        assert_eq!(self.guest.read_uuid(false).unwrap(), self.guest.uuid());
        assert_eq!(self.guest.read_uuid(true).unwrap(), self.guest.uuid());
        assert_eq!(self.connection.exchange(&Request::get(PATH)).unwrap().status, 200, "on the old connection");
    }

    /// Nothing that came was wrong, and nothing is left to repair.
    fn end(self) {
        let report = self.asker.finish().unwrap();
        assert_eq!(report.wrong, 0, "{report:#?}");
        let status = self.node.status().unwrap();
        assert_eq!(status["faults"], serde_json::Value::Null, "{status}");
        self.node.ask(&["status", "--check"]).unwrap();
    }
}

/// The fault that the daemon shows of this kind.
fn fault(node: &Node, what: &str) -> Option<String> {
    let status = node.status().unwrap();
    let faults = status["faults"].as_array()?;
    faults.iter().find(|fault| fault["what"] == what)?["problem"].as_str().map(str::to_owned)
}

/// Waits for a fault, and expects that the check fails and says this, and that the metric is set.
fn is_faulty(node: &Node, what: &str, said: &str) {
    let problem = wait::until(&format!("the fault {what} is shown"), || Ok(fault(node, what)))
        .unwrap_or_else(|error| panic!("{error:#}; the log:\n{}", node.log()));
    assert!(problem.contains(said), "{problem}");
    let error = node.ask(&["status", "--check"]).expect_err("the check fails").to_string();
    assert!(error.contains(&format!("broken       {problem}")), "{error}");
    let series = format!("metadatad_faults{{what=\"{what}\"}} 1");
    let metrics = node.metrics().unwrap();
    assert!(metrics.lines().any(|line| line.starts_with(&series)), "{series}: {metrics}");
    assert!(node.log().contains(said), "{}", node.log());
}

fn is_over(node: &Node, what: &str) {
    wait::until(&format!("the fault {what} is over"), || Ok(fault(node, what).is_none().then_some(()))).unwrap();
    node.ask(&["status", "--check"]).unwrap();
}

#[test]
fn a_link_that_is_detached_by_hand_is_put_back_and_the_binding_stays() {
    let mut world =
        World::new(NodePlan::default().attach("tcx").ports("impersonation_guard = true\nguard = \"xdp\"\n"));
    let (tap, index) = (world.guest.tap().to_owned(), world.guest.ifindex());
    let tag = world.node.port(&tap).unwrap()["tag"].clone();
    for (what, pin, logged) in [
        ("from_guest", format!("links/tap-{index}"), "from_guest was detached from the tap"),
        ("from_network", format!("links/guard-{index}"), "from_network was detached from the tap"),
        ("from_guest_xdp", format!("links/xdp-{index}"), "from_guest_xdp was detached from the tap"),
        ("pair_program", "links/to_guest".to_owned(), "a program was detached from the responder's pair"),
        ("pair_program", "links/from_host".to_owned(), "a program was detached from the responder's pair"),
    ] {
        world.breaks(what, logged, |world| {
            let pin = world.pin(&pin);
            world.run(&format!("bpftool link detach pinned {pin}"));
        });
    }
    assert_eq!(world.node.port(&tap).unwrap()["tag"], tag);
    world.end();
}

#[test]
fn a_tap_that_was_replaced_is_not_taken_for_one_that_has_lost_its_program() {
    for attach in ["auto", "clsact"] {
        let node = NodePlan::default().attach(attach).start().unwrap();
        let mut guest = node.guest("a").boot().unwrap();
        let index = guest.ifindex();
        let tag = |node: &Node| anyhow::Ok(node.ports()?.get(&index).map(|port| port.tag));
        for _ in 0..5 {
            let before = tag(&node).unwrap();
            // What it sees first is an interface of this index without the program.
            while_stopped(&node, || {
                guest.unplug(&node).unwrap();
                guest.plug(&node, Some(index)).unwrap();
            });
            wait::until("it has a binding of its own", || Ok(tag(&node)?.filter(|tag| Some(*tag) != before))).unwrap();
            node.wait_bound(index).unwrap();
            assert_eq!(guest.read_uuid(false).unwrap(), guest.uuid());
        }
        assert_eq!(node.status().unwrap()["repairs"]["from_guest"], serde_json::Value::Null, "{}", node.log());
    }
}

#[test]
fn a_filter_that_is_deleted_is_put_back_and_the_binding_stays() {
    let mut world = World::new(NodePlan::default().attach("clsact").ports("impersonation_guard = true\n"));
    let tap = world.guest.tap().to_owned();
    let tag = world.node.port(&tap).unwrap()["tag"].clone();
    for (what, line, logged) in [
        ("from_guest", format!("{tap} ingress pref 2 handle 0xa9fe bpf"), "from_guest was detached from the tap"),
        ("from_guest", format!("{tap} ingress"), "from_guest was detached from the tap"),
        ("from_network", format!("{tap} egress pref 2"), "from_network was detached from the tap"),
        ("pair_program", "metadatad0 ingress".to_owned(), "a program was detached from the responder's pair"),
        ("pair_program", "metadatad0 egress".to_owned(), "a program was detached from the responder's pair"),
    ] {
        world.breaks(what, logged, |world| world.run(&format!("tc filter del dev {line}")));
    }
    world.breaks("from_guest", "from_guest was detached from the tap", |world| {
        world.run(&format!("tc qdisc del dev {tap} clsact"));
    });
    assert_eq!(world.node.port(&tap).unwrap()["tag"], tag);
    assert_eq!(world.node.port(&tap).unwrap()["guarded"], true);
    world.end();
}

#[test]
fn a_port_that_is_taken_out_of_the_maps_is_written_again() {
    let mut world = World::new(NodePlan::default().ports("packets_per_second = 5000\n"));
    let tag = world.node.port(world.guest.tap()).unwrap()["tag"].as_u64().unwrap();
    let (index, tag) = (world.guest.ifindex(), u32::try_from(tag).unwrap());
    for (map, key) in [("PORTS", index), ("TAGS", tag)] {
        world.breaks("port", "the port's entries were removed from the BPF maps", |world| {
            let key: Vec<String> = key.to_ne_bytes().iter().map(|byte| format!("{byte:#04x}")).collect();
            world.run(&format!("bpftool map delete pinned {} key {}", world.pin(map), key.join(" ")));
        });
    }
    assert_eq!(world.node.ports().unwrap()[&index].tag, tag);
    world.end();
}

#[test]
fn pins_that_are_removed_are_made_again_and_the_programs_never_leave_their_taps() {
    let mut world = World::new(NodePlan::default());
    let before = world.node.port(world.guest.tap()).unwrap()["tag"].clone();
    // Without tcx, programs are in filters, which have no pins.
    let links = [format!("links/tap-{}", world.guest.ifindex()), "links/to_guest".to_owned()];
    let links = links.into_iter().filter(|name| world.node.pins().join(name).exists()).collect::<Vec<_>>();
    for name in links.into_iter().chain(["PORTS".to_owned()]) {
        world.breaks("pin", "pins were removed", |world| {
            std::fs::remove_file(world.pin(&name)).unwrap();
        });
        assert!(world.node.pins().join(&name).exists());
    }
    world.breaks("pin", "pins were removed", |world| {
        std::fs::remove_dir_all(world.node.pins()).unwrap();
    });
    let report = {
        let World { node, guest, asker, .. } = world;
        // What was made again is what a next start takes over.
        node.kill_daemon().unwrap();
        node.start_daemon().unwrap();
        node.wait_bound(guest.ifindex()).unwrap();
        assert_eq!(node.port(guest.tap()).unwrap()["tag"], before);
        asker.finish().unwrap()
    };
    assert_eq!(report.wrong, 0, "{report:#?}");
}

#[test]
fn without_its_file_system_nothing_is_pinned_and_every_program_stays_until_it_is_back() {
    let mut world = World::new(NodePlan::default());
    let mounted = world.node.path("bpf");
    let refused = umount2(&mounted, MntFlags::empty());
    assert_eq!(refused, Err(nix::errno::Errno::EBUSY), "the daemon holds it");
    umount2(&mounted, MntFlags::MNT_DETACH).unwrap();
    is_faulty(&world.node, "pins", &format!("mount -t bpf bpf {}", mounted.display()));
    world.is_answered();
    assert_eq!(world.repairs("from_guest"), 0);
    mount(Some("bpf"), &mounted, Some("bpf"), MsFlags::empty(), None::<&str>).unwrap();
    is_over(&world.node, "pins");
    assert!(world.repairs("pin") > 0);
    world.is_answered();
    let World { node, guest, asker, .. } = world;
    let tag = node.port(guest.tap()).unwrap()["tag"].clone();
    assert_eq!(asker.finish().unwrap().perfect().map_err(|error| error.to_string()), Ok(()));
    node.kill_daemon().unwrap();
    node.start_daemon().unwrap();
    node.wait_bound(guest.ifindex()).unwrap();
    assert_eq!(node.port(guest.tap()).unwrap()["tag"], tag);
    assert_eq!(guest.read_uuid(false).unwrap(), guest.uuid());
}

#[test]
fn a_port_whose_program_cannot_be_put_back_is_reported_and_protected_once_it_can() {
    let node = NodePlan::default().attach("clsact").start().unwrap();
    let guest = node.guest("a").boot().unwrap();
    let tap = guest.tap();
    let mut tc = node.namespace().command("tc").unwrap();
    let lines =
        format!("filter del dev {tap} ingress\nfilter add dev {tap} ingress pref 2 protocol all u32 match u32 0 0\n");
    command::run(tc.args(["-batch", "-"]), &lines).unwrap();
    node.wait_port_shown(tap, "is failed", |port| {
        port["state"] == "failed"
            && port["reason"].as_str().is_some_and(|reason| reason.contains("another program has"))
    })
    .unwrap();
    node.ask(&["status", "--check"]).expect_err("a failed port");
    let metrics = node.metrics().unwrap();
    assert!(metrics.lines().any(|line| line.starts_with("metadatad_ports{state=\"failed\"} 1")), "{metrics}");
    assert!(node.log().contains("tap failed"), "{}", node.log());
    let mut tc = node.namespace().command("tc").unwrap();
    command::run(tc.args(["filter", "del", "dev", tap, "ingress"]), "").unwrap();
    node.wait_bound(guest.ifindex()).unwrap();
    assert_eq!(guest.read_uuid(false).unwrap(), guest.uuid());
    node.ask(&["status", "--check"]).unwrap();
}

#[test]
fn a_program_of_others_before_ours_is_reported_until_it_goes() {
    // All of tcx runs before all of clsact.
    for attach in ["tcx", "clsact"] {
        a_program_before_ours_is_reported(attach);
    }
}

fn a_program_before_ours_is_reported(attach: &'static str) {
    let node = NodePlan::default().attach(attach).start().unwrap();
    let guest = node.guest("a").boot().unwrap();
    node.ask(&["status", "--check"]).unwrap();
    // Any program will do: this one is loaded a second time, and knows no port.
    let mut others = aya::Ebpf::load(metadata_user::dataplane::OBJECT).unwrap();
    let theirs: &mut SchedClassifier = others.program_mut("from_guest").unwrap().try_into().unwrap();
    theirs.load().unwrap();
    let id = theirs.info().unwrap().id();
    let order = TcAttachOptions::TcxOrder(LinkOrder::first());
    let attach = || Ok(theirs.attach_with_options(guest.tap(), TcAttachType::Ingress, order)?);
    node.namespace().run(attach).unwrap();
    is_faulty(&node, "preceded", &format!("run before from_guest on {}", guest.tap()));
    assert!(fault(&node, "preceded").unwrap().contains(&format!("`bpftool prog show id {id}`")));
    assert_eq!(guest.read_uuid(false).unwrap(), guest.uuid(), "it lets everything pass");
    drop(others);
    is_over(&node, "preceded");
}

/// Does something so that the daemon sees only how it ends.
fn while_stopped(node: &Node, work: impl FnOnce()) {
    let daemon = Pid::from_raw(i32::try_from(node.daemon_id().unwrap()).unwrap());
    kill(daemon, Signal::SIGSTOP).unwrap();
    work();
    kill(daemon, Signal::SIGCONT).unwrap();
}

/// Runs `ip`. Before Linux 6.2 an interface has to be down to be renamed.
fn change(namespace: &Namespace, line: &str) {
    match line.split_whitespace().collect::<Vec<_>>()[..] {
        ["link", "set", from, "name", to] => {
            let lines = format!("link set {from} down\nlink set {from} name {to}\nlink set {to} up\n");
            namespace.ip_batch(&lines).unwrap();
        }
        _ => drop(namespace.ip(line).unwrap()),
    }
}

/// Breaks the pair, and what is configured on it, in each way.
fn the_way_to_the_responder_is_put_back(attach: &'static str) {
    let mut world = World::new(NodePlan::default().attach(attach));
    let index = world.node.namespace().ifindex("metadatad0").unwrap();
    let tag = world.node.port(world.guest.tap()).unwrap()["tag"].clone();
    for (what, inside, line, logged) in [
        ("pair", false, "link del metadatad0", "the pair of interfaces to the responder was gone"),
        ("pair", true, "link del guests", "the pair of interfaces to the responder was gone"),
        ("pair_link", false, "link set metadatad0 down", "the pair was down"),
        ("pair_link", false, "link set metadatad0 mtu 1500", "the pair was down, or had another MTU"),
        ("pair_link", false, "link set metadatad0 name elsewhere", "the pair was renamed"),
        ("pair_link", true, "link set guests down", "end in the responder's namespace was down"),
        ("pair_link", true, "link set guests name elsewhere", "end in the responder's namespace was renamed"),
        ("address", true, "addr del fd6d::a9fe:a9fe/128 dev guests", "the responder's address was gone"),
        ("route", true, "-6 route del fd6d::/16", "route to the guests was gone"),
        ("route", true, "-6 route change fd6d::/16 via fe80::1 dev guests", "route to the guests was gone or changed"),
        ("neighbour", true, "neigh del fe80::1 dev guests", "neighbour entry was gone"),
    ] {
        world.breaks(what, logged, |world| {
            let namespace =
                if inside { world.node.responder() } else { Namespace::existing(world.node.namespace().name()) };
            while_stopped(&world.node, || change(&namespace, line));
        });
        assert_eq!(world.node.namespace().ifindex("metadatad0").unwrap(), index, "{line}");
    }
    for (path, value, logged) in [
        ("ipv4/tcp_mtu_probing", "0", "ipv4.tcp_mtu_probing"),
        ("ipv4/tcp_no_metrics_save", "0", "ipv4.tcp_no_metrics_save"),
        ("ipv6/conf/guests/disable_ipv6", "1", "ipv6.conf.guests.disable_ipv6"),
        ("ipv6/conf/guests/accept_ra", "2", "ipv6.conf.guests.accept_ra"),
    ] {
        world.breaks("settings", logged, |world| world.node.responder().sysctl(path, value).unwrap());
    }
    assert_eq!(world.node.port(world.guest.tap()).unwrap()["tag"], tag);
    world.end();
}

#[test]
fn the_way_to_the_responder_is_put_back_and_connections_go_on() {
    the_way_to_the_responder_is_put_back("auto");
}

#[test]
fn the_way_to_the_responder_is_put_back_without_tcx_too() {
    the_way_to_the_responder_is_put_back("clsact");
}

#[test]
fn a_pair_that_cannot_be_made_again_is_reported_until_it_can() {
    let mut world = World::new(NodePlan::default());
    let index = world.node.namespace().ifindex("metadatad0").unwrap();
    // Another interface takes the index that the programs know, before the daemon can.
    let lines = format!("link del metadatad0\nlink add vif9 index {index} type bridge\n");
    while_stopped(&world.node, || drop(world.node.namespace().ip_batch(&lines).unwrap()));
    is_faulty(
        &world.node,
        "responder",
        "the responder's pair or namespace cannot be checked or restored, so guests may get no answer: cannot make the pair",
    );
    assert!(fault(&world.node, "responder").unwrap().contains("`systemctl restart metadatad`"));
    world.node.namespace().ip("link del vif9").unwrap();
    is_over(&world.node, "responder");
    world.is_answered();
    world.end();
}

#[test]
fn a_renamed_pair_is_recognised_by_the_next_start() {
    let node = Node::start().unwrap();
    let guest = node.guest("a").boot().unwrap();
    let index = node.namespace().ifindex("metadatad0").unwrap();
    for (inside, line) in [(false, "link set metadatad0 name elsewhere"), (true, "link set guests name elsewhere")] {
        node.stop_daemon().unwrap();
        let namespace = if inside { node.responder() } else { Namespace::existing(node.namespace().name()) };
        change(&namespace, line);
        node.start_daemon().unwrap();
        node.wait_bound(guest.ifindex()).unwrap();
        assert_eq!(guest.read_uuid(false).unwrap(), guest.uuid(), "{line}");
        assert_eq!(node.namespace().ifindex("metadatad0").unwrap(), index, "{line}: it is still the same");
    }
}

#[test]
fn a_namespace_without_its_name_is_reported_with_the_command_that_gives_it_back() {
    let node = Node::start().unwrap();
    let guest = node.guest("a").boot().unwrap();
    let path = std::path::Path::new("/run/netns").join(node.responder().name());
    let inode = || std::os::unix::fs::MetadataExt::ino(&path.metadata().unwrap());
    let own = inode();
    let remove =
        || drop(command::run(std::process::Command::new("ip").args(["netns", "del"]).arg(node.responder().name()), ""));
    let unmount = || umount2(&path, MntFlags::MNT_DETACH).unwrap();
    for (break_it, said) in [(&remove as &dyn Fn(), "is gone"), (&unmount, "is not the responder's namespace any more")]
    {
        break_it();
        is_faulty(&node, "namespace", said);
        assert_eq!(guest.read_uuid(false).unwrap(), guest.uuid());
        let problem = fault(&node, "namespace").unwrap();
        let line = problem.split('`').nth(1).unwrap();
        command::run(std::process::Command::new("sh").args(["-c", line]), "").unwrap();
        is_over(&node, "namespace");
        assert_eq!(inode(), own);
    }
    node.stop_daemon().unwrap();
    node.start_daemon().unwrap();
    node.wait_bound(guest.ifindex()).unwrap();
    assert_eq!(inode(), own, "the next start adopts it");
    assert_eq!(guest.read_uuid(false).unwrap(), guest.uuid());
}
