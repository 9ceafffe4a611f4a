//! `hostile`: what one guest sees while another one on its node attacks the service.
//!
//! The guest that is measured asks at a modest, fixed rate, in turns without and with the attack; the time of a request
//! counts from when it was due. Its client has precedence over everything else on its processor, so what is measured is
//! the service, and not how two programs share the machine. The ratio of each pair is taken, once with the limits as they
//! are by default and once without. What the daemon used for the attack stands beside it. Before that, `cost` measures what
//! the limits cost a guest that keeps within them.

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
use crate::machine::{pin, take_precedence};
use crate::progress;
use crate::result::{Case, Goal, Ratio, Run};
use crate::usage::{Usage, busy, resident};
use attack::Attack;

/// What the guest that is measured asks for.
const PATH: &str = "/latest/meta-data/instance-id";
/// How often, per second: some guests' agents together.
const RATE: f64 = 250.0;
/// On so many connections.
const CONNECTIONS: usize = 4;
/// What `[http]` says where there are to be no limits but those of the memory.
const WITHOUT: &str = "[http]\nrequests_per_second = 0\nconnections_per_port = 8192\nconnections_per_instance = 8192\n";
/// How many times its quiet p99 a guest may see.
const WANTED: f64 = 2.0;

/// A node with a guest that is measured, and one that attacks.
struct World {
    victim: Guest,
    attacker: Guest,
    tls: TlsConnector,
    node: Node,
    _files: TempDir,
}

impl World {
    fn make(limits: bool, pinned: bool) -> Result<Self> {
        // The lab's nodes have no limits in the kernel unless the keys of `[ports]` are written, if only none of them.
        let plan = if limits { NodePlan::default().ports("") } else { NodePlan::default().further(WITHOUT) };
        let files = tempfile::tempdir().context("making a directory")?;
        let made = Tls::make_for(files.path(), &[&std::net::Ipv4Addr::from(METADATA_IPV4).to_string()])?;
        let https = format!("[https]\ncert_file = {:?}\nkey_file = {:?}\n", made.cert, made.key);
        let node = plan.further(&https).start()?;
        let victim = node.guest("victim").boot()?;
        let large = vec![b'x'; 64 << 10];
        let attacker = node.guest("attacker").document(|document| document.with_user_data(&large)).boot()?;
        if pinned {
            pin(node.daemon_id().context("the daemon runs")?, 0)?;
        }
        Ok(Self { victim, attacker, tls: connector(&made)?, node, _files: files })
    }

    /// What the guest sees for one slice.
    fn measure(&self, effort: Effort, pinned: bool) -> Result<(Outcome, u64)> {
        let server: SocketAddr = (METADATA_IPV4, 80).into();
        let load = Load { server, path: PATH.to_owned(), connections: CONNECTIONS, reconnect: false, rate: Some(RATE) };
        self.victim.namespace().run(|| {
            if pinned {
                pin(0, 1)?;
            }
            take_precedence()?;
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
    let (mut slow, mut failures, mut attempts) = (Vec::new(), 0, 0);
    let (mut daemon_cpu, mut node_cpu, mut seconds, mut largest) = (0.0, 0.0, 0.0, 0.0_f64);
    let mut sums = [histogram()?, histogram()?];
    for pair in effort.turns(&case.name.clone()) {
        let mut quantiles = [0.0; 2];
        for turn in [pair % 2, (pair + 1) % 2] {
            let attacked = turn == 1;
            let under_way = attacked.then(|| attack.start(&world.attacker, &world.tls, pinned)).transpose()?;
            let (used, worked) = (Usage::of(daemon)?, busy()?);
            let (outcome, failed) = world.measure(effort, pinned)?;
            if let Some(under_way) = under_way {
                daemon_cpu += Usage::of(daemon)?.since(used).cpu;
                node_cpu += busy()? - worked;
                seconds += outcome.elapsed.as_secs_f64();
                largest = largest.max(resident(daemon)?);
                failures += failed;
                attempts += under_way.stop()?;
            }
            let place = usize::from(attacked);
            sums[place].add(&outcome.latency).context("adding histograms")?;
            quantiles[place] = outcome.quantile(0.99);
        }
        slow.push(quantiles[1] / quantiles[0]);
    }
    case.ratios.push(Ratio {
        metric: "another guest's p99".to_owned(),
        of: "attacked".to_owned(),
        to: "quiet".to_owned(),
        pairs: slow,
        goal: limits.then_some(Goal::AtMost(WANTED)),
    });
    for (name, latency) in ["quiet", "attacked"].iter().zip(&sums) {
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
