//! What the daemon's threads may do, read from /proc of the running daemon, while guests are answered.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt as _;

use lab::{Node, NodePlan, wait};

/// What the kernel says of a thread.
struct Thread {
    name: String,
    fields: BTreeMap<String, String>,
}

impl Thread {
    fn field(&self, name: &str) -> &str {
        self.fields.get(name).unwrap_or_else(|| panic!("{} of {}", name, self.name))
    }

    fn set(&self, name: &str) -> u64 {
        u64::from_str_radix(self.field(name), 16).unwrap()
    }
}

/// Returns the threads of the node's daemon. One that ends meanwhile is left out.
fn threads(node: &Node) -> Vec<Thread> {
    let tasks = fs::read_dir(format!("/proc/{}/task", node.daemon_id().unwrap())).unwrap();
    let texts = tasks.filter_map(|task| fs::read_to_string(task.unwrap().path().join("status")).ok());
    let threads = texts.map(|text| {
        let fields: BTreeMap<_, _> = text
            .lines()
            .filter_map(|line| line.split_once(':'))
            .map(|(name, value)| (name.to_owned(), value.trim().to_owned()))
            .collect();
        Thread { name: fields["Name"].clone(), fields }
    });
    threads.collect()
}

/// `CAP_NET_ADMIN`, `CAP_PERFMON` and `CAP_BPF`, by capabilities(7).
const PORTS: u64 = 1 << 12 | 1 << 38 | 1 << 39;
/// `CAP_NET_ADMIN`.
const RESPONDER: u64 = 1 << 12;
/// `CAP_DAC_OVERRIDE`.
const FACTS: u64 = 1 << 1;

#[test]
fn each_thread_keeps_only_the_capabilities_of_its_work() {
    let node = Node::start().unwrap();
    let guest = node.guest("a").boot().unwrap();
    assert_eq!(guest.get("/openstack").unwrap().status, 200);
    let threads = threads(&node);
    for name in ["metadatad", "ports", "responder", "facts", "source", "snapshot", "guests"] {
        assert!(threads.iter().any(|thread| thread.name == name), "no thread {name}");
    }
    for thread in &threads {
        let allowed = match thread.name.as_str() {
            "ports" => PORTS,
            "responder" => RESPONDER,
            "facts" => FACTS,
            _ => 0,
        };
        for set in ["CapPrm", "CapEff", "CapBnd"] {
            assert_eq!(thread.set(set), allowed, "{set} of {}", thread.name);
        }
        for set in ["CapInh", "CapAmb"] {
            assert_eq!(thread.set(set), 0, "{set} of {}", thread.name);
        }
        assert_eq!(thread.field("NoNewPrivs"), "1", "{}", thread.name);
    }
}

#[test]
fn threads_that_read_guests_bytes_have_a_filter_and_no_file() {
    let node = Node::start().unwrap();
    let guest = node.guest("a").boot().unwrap();
    assert_eq!(guest.get("/openstack").unwrap().status, 200);
    let guests: Vec<_> = threads(&node).into_iter().filter(|thread| thread.name == "guests").collect();
    assert!(!guests.is_empty());
    for thread in &guests {
        assert_eq!(thread.field("Seccomp"), "2", "a filter");
    }
    let shown = node.security().unwrap();
    let shown: Vec<_> = shown.threads.iter().filter(|thread| thread.name == "guests").collect();
    assert_eq!(shown.len(), guests.len());
    for thread in shown {
        let landlock = thread.landlock.as_deref().unwrap();
        assert!(landlock.starts_with("no file"), "{landlock}");
    }
}

#[test]
fn the_status_shows_what_the_kernel_does() {
    let node = NodePlan::default().further("[http]\nthreads = 3\n").start().unwrap();
    let guest = node.guest("a").boot().unwrap();
    assert_eq!(guest.get("/openstack").unwrap().status, 200);
    let shown = node.security().unwrap().threads;
    assert_eq!(shown.iter().filter(|thread| thread.name == "guests").count(), 3);
    let ports = shown.iter().find(|thread| thread.name == "ports").unwrap();
    let names: Vec<_> = ports.capabilities.iter().map(|held| held.name.as_str()).collect();
    assert_eq!(names, ["CAP_NET_ADMIN", "CAP_PERFMON", "CAP_BPF"]);
    assert!(ports.capabilities.iter().all(|held| held.reason.is_some()));
    let text = node.told(&["status", "--security"]).unwrap();
    for expected in ["guests", "ports keeps CAP_NET_ADMIN: attach", "filter", "no file"] {
        assert!(text.contains(expected), "{expected}: {text}");
    }
    assert!(node.told(&["status", "--security", "--json"]).unwrap().contains("\"landlock\""));
}

#[test]
fn threads_that_need_no_file_of_roots_become_the_configured_user() {
    // There on every Debian, and in no group that matters.
    let plan = NodePlan::default().further("[security]\nuser = \"nobody\"\n");
    let node = plan.start().unwrap();
    let guest = node.guest("a").boot().unwrap();
    assert_eq!(guest.get("/openstack").unwrap().status, 200);
    let nobody = nix::unistd::User::from_name("nobody").unwrap().unwrap();
    for thread in threads(&node) {
        let (user, group) = match thread.name.as_str() {
            "guests" | "metadatad" => (nobody.uid.as_raw(), nobody.gid.as_raw()),
            "ports" | "responder" | "facts" | "source" | "snapshot" => (0, 0),
            // Helpers have the user of whom they help.
            _ => continue,
        };
        // Real, effective, saved, of the file system.
        for (field, expected) in [("Uid", user), ("Gid", group)] {
            assert_eq!(
                thread.field(field),
                [expected.to_string().as_str(); 4].join("\t"),
                "{field} of {}",
                thread.name
            );
        }
        if user != 0 {
            assert_eq!(thread.field("Groups"), "", "{}", thread.name);
        }
    }
    assert_eq!(node.security().unwrap().no_user, None);
    // A change of user would let the process be dumped where fs.suid_dumpable allows it: its files in /proc are root's only
    // while it cannot be (proc(5)).
    let memory = fs::metadata(format!("/proc/{}/mem", node.daemon_id().unwrap())).unwrap();
    assert_eq!(memory.uid(), 0, "it can be dumped");
    // Everything goes on: a changed document, another tap, a restart.
    node.write(&guest.document().clone().with("user_data", "changed\n")).unwrap();
    wait::until("the changed document", || {
        let text = guest.get("/openstack/latest/user_data")?.text();
        Ok((text == "changed\n").then_some(()))
    })
    .unwrap();
    let second = node.guest("b").boot().unwrap();
    assert_eq!(second.get("/openstack").unwrap().status, 200);
    node.stop_daemon().unwrap();
    node.start_daemon().unwrap();
    node.wait_bound(guest.ifindex()).unwrap();
    assert_eq!(guest.get("/openstack").unwrap().status, 200);
}

#[test]
fn without_the_user_threads_stay_roots_and_the_status_says_so() {
    let plan = NodePlan::default().further("[security]\nuser = \"no-such-user\"\n");
    let node = plan.start().unwrap();
    assert!(threads(&node).iter().all(|thread| thread.field("Uid").starts_with("0\t")));
    let text = node.told(&["status", "--security"]).unwrap();
    assert!(text.contains("there is no user `no-such-user`"), "{text}");
}

#[test]
fn each_thread_changes_files_only_where_its_work_is() {
    let node = Node::start().unwrap();
    let guest = node.guest("a").boot().unwrap();
    assert_eq!(guest.get("/openstack").unwrap().status, 200);
    let shown = node.security().unwrap();
    // Above the BPF file system, so that it holds for another one that is mounted there.
    let pins = node.pins().parent().unwrap().parent().unwrap().to_owned();
    let pins = format!("changes only pins below {} /sys/kernel/rcu_expedited /dev/null ", pins.display());
    let below = |path: std::path::PathBuf| format!("changes only {} ", path.parent().unwrap().display());
    let [state, socket] = [node.snapshot(), node.path("admin.sock")].map(below);
    for (name, expected) in [
        ("ports", pins.as_str()),
        ("responder", "changes only /proc/sys/net "),
        ("snapshot", &state),
        ("metadatad", &socket),
        ("source", "changes no file"),
        // The source's, which watches the documents by inotify.
        ("notify-rs inoti", "changes no file"),
        ("facts", "changes no file"),
        ("guests", "no file"),
    ] {
        let mut threads =
            shown.threads.iter().filter(|thread| thread.name == name && thread.profile.is_some()).peekable();
        assert!(threads.peek().is_some(), "no thread {name}");
        for thread in threads {
            let landlock = thread.landlock.as_deref().unwrap_or_default();
            assert!(landlock.starts_with(expected), "{name}: {landlock}, not {expected}");
        }
    }
    let unknown: Vec<_> = shown.threads.iter().filter(|thread| thread.landlock.is_none()).collect();
    assert!(unknown.is_empty(), "{unknown:#?}");
    assert_eq!((shown.refused_calls, shown.last_refused_call), (0, None), "all that guests' threads do is allowed");
}
