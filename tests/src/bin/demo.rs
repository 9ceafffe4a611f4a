//! The demonstration: two guests that look the same to a network, each reading its own metadata.
//!
//! `cargo xtask demo` and `cargo xtask run` build the daemon and start this. Everything happens in namespaces made here;
//! they are gone at the end, also after Ctrl-C, unless `--keep` says otherwise.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use lab::{Guest, Namespace, Node, NodePlan, command, counters, wait};
use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction};

/// Set by SIGINT and SIGTERM.
static INTERRUPTED: AtomicBool = AtomicBool::new(false);

/// Letters of a line that are shown: `random_seed` alone has nearly 700.
const WIDTH: usize = 220;

const MAC: [u8; 6] = [0xfa, 0x16, 0x3e, 0x0d, 0xec, 0x0d];

extern "C" fn note(_: nix::libc::c_int) {
    INTERRUPTED.store(true, Ordering::Relaxed);
}

#[derive(Debug, Default)]
struct Options {
    keep: bool,
    foreground: bool,
    seconds: Option<u64>,
}

fn main() -> Result<()> {
    let options = options()?;
    let action = SigAction::new(SigHandler::Handler(note), SaFlags::empty(), SigSet::empty());
    for signal in [Signal::SIGINT, Signal::SIGTERM] {
        // SAFETY: the handler stores into an atomic, which is async-signal-safe.
        unsafe { sigaction(signal, &action) }.with_context(|| format!("catching {signal}"))?;
    }
    match show(&options) {
        Err(error) if INTERRUPTED.load(Ordering::Relaxed) => {
            eprintln!("\ninterrupted; everything is cleaned up ({error})");
            std::process::exit(130);
        }
        other => other,
    }
}

fn options() -> Result<Options> {
    let mut options = Options::default();
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        match word.as_str() {
            "--keep" => options.keep = true,
            "--foreground" => options.foreground = true,
            "--seconds" => {
                let seconds = words.next().context("--seconds wants a number")?;
                options.seconds = Some(seconds.parse().with_context(|| format!("--seconds {seconds}"))?);
            }
            other => bail!("unknown option {other}: there are --keep, --foreground and --seconds N"),
        }
    }
    Ok(options)
}

fn show(options: &Options) -> Result<()> {
    say("a node: a network namespace with the daemon, its own bpf file system and a directory of documents");
    let node = NodePlan::default().lasting().start()?;
    println!("   node {}, responder {}", node.namespace().name(), node.responder().name());
    say("two guests with the same MAC and the same IPv4 address");
    let [red, blue] = [boot(&node, "red")?, boot(&node, "blue")?];
    if options.foreground {
        return foreground(&node, [red, blue], options.seconds);
    }
    for guest in [&red, &blue] {
        step()?;
        say(&format!("what {} reads, over IPv4 and IPv6", guest.name()));
        curl(guest, "http://169.254.169.254/openstack")?;
        let json = curl(guest, "http://169.254.169.254/openstack/latest/meta_data.json")?;
        let json6 = curl(guest, "http://[fe80::a9fe:a9fe%25eth0]/openstack/latest/meta_data.json")?;
        for text in [json, json6] {
            if !text.contains(guest.uuid()) {
                bail!("{} did not read its own data", guest.name());
            }
        }
        curl(guest, "http://[fe80::a9fe:a9fe%25eth0]/latest/meta-data/hostname")?;
        curl(guest, "http://169.254.169.254/openstack/latest/user_data")?;
    }
    step()?;
    say("the document of red changes, and red sees it");
    node.write(&red.document().clone().with("user_data", "#!/bin/sh\necho changed while the guest runs\n"))?;
    wait::until("red reads the changed document", || {
        step()?;
        let text = red.get("/openstack/latest/user_data")?.text();
        Ok(text.contains("changed while").then_some(()))
    })?;
    curl(&red, "http://169.254.169.254/openstack/latest/user_data")?;
    step()?;
    say("blue pretends to be another address; the packet is dropped and counted");
    blue.namespace().ip("addr add 10.0.0.66/16 dev eth0")?;
    let spoofed = blue.curl(&["--interface", "10.0.0.66", "--max-time", "1", "http://169.254.169.254/"]);
    println!("   curl: {}", if spoofed.is_err() { "no answer" } else { "an answer: this is a defect" });
    step()?;
    say("the node's view");
    print!("{}", node.told(&["status"])?);
    print!("{}", node.ask(&["ports"])?);
    step()?;
    say("the kernel's counters of red's tap and blue's, by bpftool");
    for guest in [&red, &blue] {
        counters(&node, guest)?;
    }
    if options.keep {
        return keep(node, [red, blue]);
    }
    say("cleaning up");
    let responder = node.responder();
    let names = [red.namespace().name(), blue.namespace().name(), node.namespace().name(), responder.name()];
    let (names, directory) = (names.map(str::to_owned), node.path(""));
    drop([red, blue]);
    node.stop_daemon()?;
    drop(node);
    let left: Vec<_> = names.iter().filter(|name| Namespace::existing(name).exists()).collect();
    if !left.is_empty() || directory.exists() {
        bail!(
            "left behind: {left:?} {}",
            if directory.exists() { directory.display().to_string() } else { String::new() }
        );
    }
    println!("   nothing is left");
    Ok(())
}

fn boot(node: &Node, name: &str) -> Result<Guest> {
    step()?;
    let user_data = format!("#!/bin/sh\necho I am {name}\n");
    let plan = node.guest(name).mac(MAC).ipv4("10.0.0.5/16");
    let guest = plan.document(|document| document.with("user_data", user_data)).boot()?;
    println!("   {name}: instance {}, tap {}, namespace {}", guest.uuid(), guest.tap(), guest.namespace().name());
    Ok(guest)
}

fn curl(guest: &Guest, url: &str) -> Result<String> {
    step()?;
    println!("{}$ curl {url}", guest.name());
    let text = guest.curl(&["--globoff", "--fail", url])?;
    for line in text.lines() {
        let (shown, more) = (line.chars().take(WIDTH).collect::<String>(), line.chars().count() > WIDTH);
        println!("   {shown}{}", if more { " …" } else { "" });
    }
    Ok(text)
}

/// Prints the counters of a tap that are not 0, as bpftool finds them in the pinned map.
fn counters(node: &Node, guest: &Guest) -> Result<()> {
    let pin = node.pins().join("COUNTERS");
    let (place, _) = counters::find(&node.pins(), guest.ifindex())?.context("the tap has no counters")?;
    let key = place.to_ne_bytes().map(|byte| byte.to_string());
    println!("$ bpftool map lookup pinned {} key {}   # {}", pin.display(), key.join(" "), guest.tap());
    let mut bpftool = node.namespace().command("bpftool")?;
    bpftool.arg("--json").args(["map", "lookup", "pinned"]).arg(&pin).arg("key").args(&key);
    let found: serde_json::Value = serde_json::from_str(&command::run(&mut bpftool, "")?)?;
    let fields = found["formatted"]["value"].as_object().context("bpftool shows no fields")?;
    for (name, value) in fields.iter().filter(|(_, value)| value.as_u64() != Some(0)) {
        println!("   {name}: {value}");
    }
    Ok(())
}

/// Runs until Ctrl-C, and prints the log as it grows.
fn foreground(node: &Node, guests: [Guest; 2], seconds: Option<u64>) -> Result<()> {
    hints(node, &guests);
    say("metadatad's log; Ctrl-C ends it");
    let (start, mut shown) = (Instant::now(), 0);
    while !INTERRUPTED.load(Ordering::Relaxed) && seconds.is_none_or(|limit| start.elapsed().as_secs() < limit) {
        let log = node.log();
        print!("{}", log.get(shown..).unwrap_or_default());
        shown = log.len();
        std::thread::sleep(Duration::from_millis(200));
    }
    drop(guests);
    node.stop_daemon()
}

fn keep(node: Node, mut guests: [Guest; 2]) -> Result<()> {
    say("everything stays");
    hints(&node, &guests);
    for guest in &mut guests {
        guest.keep();
    }
    let names = guests.each_ref().map(|guest| guest.namespace().name().to_owned());
    let (process, config) = (node.daemon_id().unwrap_or(0), node.config().to_path_buf());
    let (name, program) = (node.namespace().name().to_owned(), lab::daemon::program()?);
    let directory = node.keep();
    println!("To end it all:");
    println!("   kill {process}; while kill -0 {process} 2>/dev/null; do sleep 0.1; done");
    println!("   nsenter --net=/run/netns/{name} {} detach --config {}", program.display(), config.display());
    println!("   umount {}/bpf; rm -r {}", directory.display(), directory.display());
    println!("   for name in {name} {}; do ip netns del $name; done", names.join(" "));
    Ok(())
}

fn hints(node: &Node, guests: &[Guest]) {
    println!("To enter a namespace (its mounts stay the machine's, so that pins can be seen):");
    println!("   nsenter --net=/run/netns/{} bash      # the node", node.namespace().name());
    for guest in guests {
        println!("   nsenter --net=/run/netns/{} bash      # {}", guest.namespace().name(), guest.name());
    }
    println!("Documents: {}   Configuration: {}", node.instances().display(), node.config().display());
    println!("Pins: {}   Log: {}", node.pins().display(), node.path("daemon.log").display());
}

fn say(text: &str) {
    println!("\n== {text}");
}

/// Fails once Ctrl-C was pressed, so that everything is dropped on the way out.
fn step() -> Result<()> {
    if INTERRUPTED.load(Ordering::Relaxed) {
        bail!("stopped by a signal");
    }
    Ok(())
}
