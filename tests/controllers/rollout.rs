//! A node is moved from Neutron's metadata agent to the daemon and back, while its guests ask.
//!
//! The old way is a real haproxy, configured as Neutron's template does it, in a namespace that has 169.254.169.254 and a port on
//! the guests' bridge. In front of what would be the agent's socket, it has somebody who answers `old`.

use std::fs::File;
use std::io::{BufRead as _, BufReader, Write as _};
use std::ops::Range;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::time::Instant;

use anyhow::{Context as _, Result};
use lab::asker::Asker;
use lab::crowd::{Fault, On};
use lab::guest::Route;
use lab::{Crowd, Guest, Namespace, Node, NodePlan, daemon, fetched, wait};
use serde_json::{Value, json};

/// Connections that guests keep, and new ones in a second.
const KEPT: usize = 8;
const NEW: u32 = 200;
/// Requests of each kind in between.
const SOME: u64 = 200;
/// Of this guest's instance, and the same each time.
const PATH: &str = "/latest/meta-data/instance-id";
/// The guests' taps, and that of the metadata port: Neutron names it as it does guests'.
const TAPS: usize = 3;
/// What the old way answers.
const OLD: &[u8] = b"old";
/// The metadata port of the guests' network: where DHCP has them send what is for 169.254.169.254.
const METADATA_PORT: &str = "10.0.255.1";

/// The way that guests are answered without the daemon.
struct OldWay {
    haproxy: Child,
    _network: Namespace,
}

impl OldWay {
    fn start(node: &Node) -> Result<Self> {
        node.namespace().ip_batch("link add br0 type bridge\nlink set br0 up\n")?;
        let network = Namespace::create("ovnmeta")?;
        let name = network.name();
        node.namespace().ip_batch(&format!(
            "link add tapd5ef61e3-50 type veth peer name eth0 netns {name}\nlink set tapd5ef61e3-50 master br0\nlink set tapd5ef61e3-50 up\n"
        ))?;
        network.ip_batch(&format!(
            "addr add {METADATA_PORT}/16 dev eth0\naddr add 169.254.169.254/32 dev eth0\nlink set eth0 up\n"
        ))?;
        let socket = node.path("metadata_proxy");
        let listener = UnixListener::bind(&socket).context("listening as Neutron's agent")?;
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                std::thread::spawn(move || answer(stream));
            }
        });
        let (configuration, log) = (node.path("haproxy.conf"), node.path("haproxy.log"));
        std::fs::write(&configuration, configuration_of(&socket)).context("writing haproxy's configuration")?;
        let unpacked = unpacked()?;
        let mut command = network.command(unpacked.join("sbin/haproxy"))?;
        command.env("LD_LIBRARY_PATH", unpacked.join("lib/x86_64-linux-gnu"));
        let output = File::create(&log).context("making haproxy's log")?;
        command.args(["-db", "-f"]).arg(&configuration);
        command.stdin(Stdio::null()).stdout(output.try_clone()?).stderr(output);
        let haproxy = command.spawn().context("starting haproxy")?;
        Ok(Self { haproxy, _network: network })
    }
}

impl Drop for OldWay {
    fn drop(&mut self) {
        let _ = self.haproxy.kill();
        let _ = self.haproxy.wait();
    }
}

/// Returns where haproxy is unpacked.
fn unpacked() -> Result<PathBuf> {
    Ok(fetched::collection("haproxy")?.join("debian/usr"))
}

/// What Neutron's agents write, but for users, log and going into the background.
fn configuration_of(socket: &Path) -> String {
    format!(
        "global\n  maxconn 1024\n\
         defaults\n  mode http\n  option http-server-close\n  option forwardfor\n  retries 3\n  timeout http-request 30s\n  \
         timeout connect 30s\n  timeout client 32s\n  timeout server 32s\n  timeout http-keep-alive 30s\n\
         listen listener\n  bind 169.254.169.254:80\n  server metadata {}\n  \
         http-request add-header X-OVN-Network-ID d5ef61e3-5118-42bf-80d8-f88308103859\n",
        socket.display()
    )
}

/// Answers one request in the old way.
fn answer(stream: UnixStream) {
    let mut reader = BufReader::new(&stream);
    let mut line = String::new();
    while reader.read_line(&mut line).is_ok_and(|length| length > 2) {
        line.clear();
    }
    // haproxy may have gone.
    let _ = (&stream).write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 3\r\nconnection: close\r\n\r\nold");
}

/// A node without a daemon, and guests that are answered in the old way.
fn world(plan: NodePlan) -> Result<(OldWay, Node, Vec<Guest>)> {
    // Beyond a limit, a first segment is dropped, and sent again a second later.
    let plan = plan.ports("new_connections_per_second = 0\npackets_per_second = 0\n");
    let node = plan.further("[http]\nrequests_per_second = 0\n").make()?;
    let old = OldWay::start(&node)?;
    let guests = ["a", "b"].into_iter().map(|name| guest(&node, name)).collect::<Result<Vec<_>>>()?;
    wait::until("the old way answers", || Ok(guests[0].get(PATH).ok().filter(|answer| answer.body == OLD)))?;
    Ok((old, node, guests))
}

/// A guest that sends what is for 169.254.169.254 to its network's metadata port, as DHCP tells it to.
fn guest(node: &Node, name: &str) -> Result<Guest> {
    let guest = node.guest(name).bridge("br0").route(Route::OwnNetwork).at_once().boot()?;
    guest.namespace().ip(&format!("route add 169.254.169.254 via {METADATA_PORT}"))?;
    Ok(guest)
}

/// Released taps, as `metadatad detach --json` shows them.
fn detach(node: &Node) -> Result<Value> {
    serde_json::from_str(&node.ask(&["detach", "--json"])?).context("reading what detach did")
}

fn links(node: &Node) -> Vec<String> {
    let links = std::fs::read_dir(node.pins().join("links")).into_iter().flatten().flatten();
    let names = links.filter_map(|entry| entry.file_name().into_string().ok());
    names.filter(|name| name.starts_with("tap-")).collect()
}

/// Starts the daemon, and returns when it did not attach yet, and when it had.
fn start(node: &Node) -> Range<Instant> {
    let begun = Instant::now();
    node.start_daemon().unwrap();
    begun..Instant::now()
}

/// Succeeds if every request was answered, but for new connections that were begun in these times; prints how many there were. None may
/// be refused.
fn answered(name: &str, crowd: Crowd, but: &[Range<Instant>]) {
    let seen = crowd.finish().unwrap();
    println!(
        "{name}: {} requests on {KEPT} kept connections, {} on new ones, {} failed; the longest took {:?}",
        seen.kept,
        seen.new,
        seen.faults.len(),
        seen.longest
    );
    let excused =
        |fault: &Fault| !fault.refused && fault.on == On::New && but.iter().any(|time| time.contains(&fault.begun));
    assert!(seen.faults.iter().all(excused), "{name}: {:#?}", seen.faults);
}

/// To the daemon, back, and to it again, with guests that ask all the time. Without tcx the kernel drops what is on its way to the guest
/// while it adds a queueing discipline to the tap (`dev_deactivate`): a handshake that loses a segment then is begun anew, with the
/// daemon, while the network goes on with it, too.
fn a_node_moves(attach: &'static str, drops: bool) {
    let (_old, node, guests) = world(NodePlan::default().attach(attach)).unwrap();
    let guest = &guests[0];
    // What it keeps, it has with haproxy.
    let first = Crowd::start(&guests, KEPT, NEW).unwrap();
    first.wait_for(SOME).unwrap();
    let mut starts = vec![start(&node)];
    // Ready: every tap has its program, and from here on nobody but the daemon answers.
    let new = guest.get(PATH).unwrap();
    assert_ne!(new.body, OLD);
    let asker = Asker::start(guest, PATH, 50, &new.body).unwrap();
    // What it keeps, it has with the daemon.
    let second = Crowd::start(&guests, KEPT, NEW).unwrap();
    for crowd in [&first, &second] {
        crowd.wait_for(SOME).unwrap();
    }
    asker.allow(OLD);
    let done = detach(&node).unwrap();
    assert_eq!((&done["released"]["taps"], &done["released"]["left"]), (&TAPS.into(), &Value::Null), "{done}");
    assert_eq!(done["released"]["cut"], false, "{done}");
    assert_eq!(guest.get(PATH).unwrap().body, OLD);
    asker.only(OLD);
    second.wait_for(SOME).unwrap();
    asker.finish().unwrap().perfect().unwrap();
    // A restart attaches again.
    node.stop_daemon().unwrap();
    assert_eq!(guest.get(PATH).unwrap().body, OLD);
    starts.push(start(&node));
    let asker = Asker::start(guest, PATH, 50, &new.body).unwrap();
    for crowd in [&first, &second] {
        crowd.wait_for(SOME).unwrap();
    }
    asker.finish().unwrap().perfect().unwrap();
    let but = if drops { &starts[..] } else { &[] };
    answered("from haproxy", first, but);
    answered("from the daemon", second, but);
}

#[test]
fn a_node_moves_to_the_daemon_and_back_without_a_lost_request() {
    a_node_moves("auto", false);
}

#[test]
fn without_tcx_a_node_moves_and_refuses_nobody() {
    a_node_moves("clsact", true);
}

#[test]
fn a_released_daemon_stays_so_until_it_starts_again() {
    let (_old, node, guests) = world(NodePlan::default()).unwrap();
    node.start_daemon().unwrap();
    let text = node.ask(&["detach"]).unwrap();
    assert!(text.starts_with(&format!("released {TAPS} taps: ")) && text.contains("disable --now"), "{text}");
    assert_eq!(links(&node), Vec::<String>::new());
    // Idempotent.
    assert_eq!(node.ask(&["detach"]).unwrap(), text);
    // No tap is taken on, whatever changes, and nothing that was taken off is put back.
    let late = guest(&node, "late").unwrap();
    node.write(guests[0].document()).unwrap();
    assert_eq!(late.get(PATH).unwrap().body, OLD);
    assert_eq!(guests[0].get(PATH).unwrap().body, OLD);
    assert!(node.ports().unwrap().is_empty());
    let status = node.told(&["status"]).unwrap();
    assert!(status.contains("released") && status.contains("systemctl restart metadatad"), "{status}");
    let check = daemon::verb(node.namespace(), node.config(), &["status", "--check"]).unwrap().output().unwrap();
    assert_eq!(check.status.code(), Some(1));
    assert!(node.told(&["doctor"]).unwrap().contains("let go of its taps"));
    assert!(node.metrics().unwrap().contains("metadatad_released 1"));
    assert!(node.log().contains("released the taps"), "{}", node.log());
    node.stop_daemon().unwrap();
    assert!(node.ask(&["detach"]).unwrap().contains("removed"));
    assert!(!node.pins().exists());
    node.start_daemon().unwrap();
    assert_eq!(late.read_uuid(false).unwrap(), late.uuid());
}

#[test]
fn a_tap_that_cannot_be_released_is_named_and_passes_everything() {
    let (_old, node, guests) = world(NodePlan::default()).unwrap();
    node.start_daemon().unwrap();
    // A directory in the place of a pin cannot be removed as one.
    let pin = node.pins().join(format!("links/tap-{}", guests[1].ifindex()));
    std::fs::remove_file(&pin).unwrap();
    std::fs::create_dir(&pin).unwrap();
    let mut command = daemon::verb(node.namespace(), node.config(), &["detach", "--json"]).unwrap();
    let output = command.output().unwrap();
    assert_eq!(output.status.code(), Some(1), "{}", String::from_utf8_lossy(&output.stderr));
    let done: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(done["released"]["taps"], TAPS - 1, "{done}");
    assert_eq!(done["released"]["left"][0]["tap"], guests[1].tap(), "{done}");
    assert_eq!(node.status().unwrap()["ports"], json!({"failed": 1}));
    assert!(guests.iter().all(|guest| guest.get(PATH).unwrap().body == OLD));
    std::fs::remove_dir(&pin).unwrap();
    let done = detach(&node).unwrap();
    assert_eq!((&done["released"]["taps"], &done["released"]["left"]), (&TAPS.into(), &Value::Null), "{done}");
    assert!(node.ports().unwrap().is_empty());
}
