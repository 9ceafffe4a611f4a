//! `hostile`: what one guest sees while another one on its node attacks the service.
//!
//! The guest that is measured asks at a fixed rate within its limits, in turns without the attack, with it, and with the same
//! attack on another node's daemon, which shows what sharing the processors with an attacker costs by itself; the time of a
//! request counts from when it was due. Its client has precedence over everything else on its processor, and attackers and
//! daemons over the machine's other programs; so what is measured is the service, and not how programs share the machine.
//! The ratio of each pair is taken, once with the limits as they are by default and once without. What the daemon used for
//! the attack stands beside it. Before that, `cost` measures what the limits cost a guest that keeps within them.

mod attack;
mod cost;

use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::{Context as _, Result};
use lab::tls::Tls;
use lab::{Guest, Node, NodePlan};
use metadata_ebpf::addr::METADATA_IPV4;
use tempfile::TempDir;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::client::Resumption;
use tokio_rustls::rustls::pki_types::CertificateDer;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::{ClientConfig, RootCertStore};

use crate::Effort;
use crate::load::{Load, Outcome, histogram};
use crate::machine::{pin, prefer, take_precedence};
use crate::progress;
use crate::result::{Case, Goal, Ratio, Run};
use crate::usage::{Usage, busy, resident};
use attack::Attack;

/// What the guest that is measured asks for.
const PATH: &str = "/latest/meta-data/instance-id";
/// How often, per second: less than the limit by default, and enough for a p99 of a slice.
const RATE: f64 = 800.0;
/// On so many connections.
const CONNECTIONS: usize = 4;
/// What `[http]` says where there are to be no limits but those of the memory.
const WITHOUT: &str = "[http]\nrequests_per_second = 0\nconnections_per_port = 8192\nconnections_per_instance = 8192\n";
/// What is measured in turns.
const TURNS: [&str; 3] = ["quiet", "attacked", "attacked elsewhere"];
/// How many times its p99 a guest may see: when nobody attacks, and when it is another daemon that is attacked.
const WANTED: f64 = 2.0;

/// A node with a guest that is measured, and one that attacks.
struct World {
    victim: Guest,
    attacker: Guest,
    /// A guest of another node, whose attack does not reach this one's daemon.
    elsewhere: Guest,
    tls: TlsConnector,
    node: Node,
    _other: Node,
    _files: TempDir,
}

impl World {
    fn make(limits: bool, pinned: bool) -> Result<Self> {
        // The lab's nodes have no limits in the kernel unless the keys of `[ports]` are written, if only none of them.
        let plan = || if limits { NodePlan::default().ports("") } else { NodePlan::default().further(WITHOUT) };
        let files = tempfile::tempdir().context("making a directory")?;
        let made = Tls::make_for(files.path(), &[&std::net::Ipv4Addr::from(METADATA_IPV4).to_string()])?;
        let https = format!("[https]\ncert_file = {:?}\nkey_file = {:?}\n", made.cert, made.key);
        let start = || {
            let node = plan().further(&https).start()?;
            let daemon = node.daemon_id().context("the daemon runs")?;
            prefer(daemon)?;
            if pinned {
                pin(daemon, 0)?;
            }
            anyhow::Ok(node)
        };
        let (node, other) = (start()?, start()?);
        let victim = node.guest("victim").boot()?;
        let large = vec![b'x'; 64 << 10];
        let attacker = |node: &Node| node.guest("attacker").document(|document| document.with_user_data(&large)).boot();
        let (attacker, elsewhere) = (attacker(&node)?, attacker(&other)?);
        Ok(Self { victim, attacker, elsewhere, tls: connector(&made)?, node, _other: other, _files: files })
    }

    /// What the guest sees for one slice.
    fn measure(&self, effort: Effort, pinned: bool) -> Result<(Outcome, u64)> {
        let server: SocketAddr = (METADATA_IPV4, 80).into();
        let load = Load {
            server,
            path: PATH.to_owned(),
            connections: CONNECTIONS,
            reconnect: false,
            header: String::new(),
            rate: Some(RATE),
        };
        self.victim.namespace().run(|| {
            if pinned {
                pin(0, 1)?;
            }
            take_precedence(0)?;
            load.run_with_failures(effort.slice)
        })
    }
}

/// Returns what performs handshakes of TLS, each in full.
fn connector(made: &Tls) -> Result<TlsConnector> {
    let mut roots = RootCertStore::empty();
    let ca = CertificateDer::from_pem_file(&made.ca).context("reading the authority's certificate")?;
    roots.add(ca).context("trusting it")?;
    let mut config = ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
    config.resumption = Resumption::disabled();
    Ok(TlsConnector::from(Arc::new(config)))
}

pub(super) fn run(effort: Effort, run: &mut Run) -> Result<()> {
    let pinned = run.machine.processors > 1;
    cost::run(effort, run, pinned)?;
    for (limits, name) in [(true, "limits as by default"), (false, "without limits")] {
        let world = World::make(limits, pinned)?;
        for attack in Attack::ALL {
            let case = measure(&world, attack, effort, pinned, limits, name)?;
            progress::say(&format!("{}: {}", case.name, crate::page::ratios(&case)));
            run.cases.push(case);
        }
    }
    Ok(())
}

fn measure(world: &World, attack: Attack, effort: Effort, pinned: bool, limits: bool, name: &str) -> Result<Case> {
    let daemon = world.node.daemon_id().context("the daemon runs")?;
    let mut case = Case::new("hostile", format!("{}, {name}", attack.name()));
    let (mut slow, mut slower, mut failures, mut attempts) = (Vec::new(), Vec::new(), 0, 0);
    let (mut daemon_cpu, mut node_cpu, mut seconds, mut largest) = (0.0, 0.0, 0.0, 0.0_f64);
    let mut sums = [histogram()?, histogram()?, histogram()?];
    for pair in effort.turns(&case.name.clone()) {
        let mut quantiles = [0.0; TURNS.len()];
        for turn in 0..TURNS.len() {
            let place = (turn + pair as usize) % TURNS.len();
            let attacker = [None, Some(&world.attacker), Some(&world.elsewhere)][place];
            let under_way = attacker.map(|guest| attack.start(guest, &world.tls, pinned)).transpose()?;
            let (used, worked) = (Usage::of(daemon)?, busy()?);
            let (outcome, failed) = world.measure(effort, pinned)?;
            let (used, worked) = (Usage::of(daemon)?.since(used), busy()? - worked);
            let done = under_way.map_or(Ok(0), attack::UnderWay::stop)?;
            if place == 1 {
                daemon_cpu += used.cpu;
                node_cpu += worked;
                seconds += outcome.elapsed.as_secs_f64();
                largest = largest.max(resident(daemon)?);
                failures += failed;
                attempts += done;
            }
            sums[place].add(&outcome.latency).context("adding histograms")?;
            quantiles[place] = outcome.quantile(0.99);
        }
        let [quiet, attacked, elsewhere] = quantiles;
        slow.push(attacked / quiet);
        slower.push(attacked / elsewhere);
    }
    let ratio = |to: &str, pairs, goal| Ratio {
        metric: "another guest's p99".to_owned(),
        of: TURNS[1].to_owned(),
        to: to.to_owned(),
        pairs,
        goal,
    };
    case.ratios.push(ratio(TURNS[0], slow, limits.then_some(Goal::AtMost(WANTED))));
    case.ratios.push(ratio(TURNS[2], slower, limits.then_some(Goal::AtMost(WANTED))));
    for (name, latency) in TURNS.iter().zip(&sums) {
        for (quantile, at) in [("p50", 0.5), ("p99", 0.99)] {
            case.figure(format!("{name}, {quantile} µs"), latency.value_at_quantile(at) as f64 / 1000.0);
        }
    }
    case.judged("failed requests", failures as f64, limits.then_some(Goal::AtMost(0.0)));
    case.figure(format!("attack, {} per second", attack.counts()), attempts as f64 / seconds);
    case.figure("attacked, daemon's CPU seconds per second", daemon_cpu / seconds);
    case.figure("attacked, node's CPU seconds per second, attacker's included", node_cpu / seconds);
    case.figure("attacked, daemon, MB resident", largest);
    Ok(case)
}
