//! `boot-storm`: a rack that comes back after a power failure.
//!
//! Every guest sends what cloud-init sends: one request after the other, each on a connection of its own, all guests at
//! once. The guests are interfaces of one namespace, told apart by IPv6 scope; their client is one thread, which takes
//! its share of the machine.

use std::net::SocketAddrV6;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use hdrhistogram::Histogram;
use lab::{NodePlan, Rack};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::load::histogram;
use crate::progress;
use crate::result::{Case, Curve, Goal, Run};
use crate::usage::{Usage, resident};

/// What cloud-init asks at boot: its OpenStack source, then the tree of the EC2 one.
const SEQUENCE: [&str; 28] = [
    "/openstack",
    "/openstack/2018-08-27/meta_data.json",
    "/openstack/2018-08-27/user_data",
    "/openstack/2018-08-27/vendor_data.json",
    "/openstack/2018-08-27/vendor_data2.json",
    "/openstack/2018-08-27/network_data.json",
    "/latest/meta-data/",
    "/latest/meta-data/ami-id",
    "/latest/meta-data/ami-launch-index",
    "/latest/meta-data/ami-manifest-path",
    "/latest/meta-data/block-device-mapping/",
    "/latest/meta-data/block-device-mapping/ami",
    "/latest/meta-data/block-device-mapping/root",
    "/latest/meta-data/hostname",
    "/latest/meta-data/instance-action",
    "/latest/meta-data/instance-id",
    "/latest/meta-data/instance-type",
    "/latest/meta-data/local-hostname",
    "/latest/meta-data/local-ipv4",
    "/latest/meta-data/placement/",
    "/latest/meta-data/placement/availability-zone",
    "/latest/meta-data/public-hostname",
    "/latest/meta-data/public-ipv4",
    "/latest/meta-data/public-keys/",
    "/latest/meta-data/public-keys/0/openssh-key",
    "/latest/meta-data/reservation-id",
    "/latest/meta-data/security-groups",
    "/latest/user-data",
];
/// Longest time for one request; a guest that waits longer has failed.
const PATIENCE: Duration = Duration::from_secs(10);
/// Guests of the largest storm.
const MOST: u32 = 1000;
/// Points of a curve, which no eye can tell apart from more.
const POINTS: usize = 100;
const KEY: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIOMqqnkVzrm0SdG6UOoqKLsabgH5C9okWi0dh2l9GKJl bench";

/// What the guests saw.
struct Storm {
    latency: Histogram<u64>,
    failures: Vec<String>,
    elapsed: Duration,
    /// When each guest was done, in no order.
    done: Vec<Duration>,
}

pub(super) fn run(run: &mut Run) -> Result<()> {
    for guests in [100, 300, MOST] {
        progress::step(&format!("{guests} guests"), 0, 1);
        let node = NodePlan::default().make()?;
        let rack = Rack::plug(&node, guests, |document| {
            document.with_user_data(&[b'x'; 2048]).with("key_name", "bench").with("key_data", KEY)
        })?;
        node.start_daemon()?;
        super::scale::wait_bound(&node, guests)?;
        let servers = rack.servers()?;
        let daemon = node.daemon_id().context("the daemon runs")?;
        let before = Usage::of(daemon)?;
        let storm = rack.namespace().run(|| storm(&servers))?;
        let used = Usage::of(daemon)?.since(before);
        let mut case = Case::new("boot-storm", format!("{guests} guests"));
        // What is wanted of the largest storm.
        let goal = |most| (guests == MOST).then_some(Goal::AtMost(most));
        case.judged("seconds until the last is done", storm.elapsed.as_secs_f64(), goal(10.0));
        case.judged("failed requests", storm.failures.len() as f64, goal(0.0));
        for (name, at) in [("p50", 0.5), ("p99", 0.99), ("slowest", 1.0)] {
            case.figure(format!("{name}, ms per request"), storm.latency.value_at_quantile(at) as f64 / 1e6);
        }
        case.figure("requests/s", storm.latency.len() as f64 / storm.elapsed.as_secs_f64());
        case.figure("daemon, CPU seconds", used.cpu);
        case.judged("daemon, MB resident", resident(daemon)?, goal(128.0));
        case.curve = Some(done_over_time(&storm.done));
        progress::say(&format!(
            "{guests} guests: {:.2} s, {} failed{}",
            storm.elapsed.as_secs_f64(),
            storm.failures.len(),
            storm.failures.first().map(|failure| format!(", the first: {failure}")).unwrap_or_default()
        ));
        run.cases.push(case);
    }
    Ok(())
}

fn storm(servers: &[SocketAddrV6]) -> Result<Storm> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("a runtime")?;
    runtime.block_on(async {
        let start = Instant::now();
        let guests: Vec<_> = servers.iter().map(|server| tokio::spawn(boot(*server))).collect();
        let mut storm =
            Storm { latency: histogram()?, failures: Vec::new(), elapsed: Duration::ZERO, done: Vec::new() };
        for guest in guests {
            let (times, failures, done) = guest.await.context("a guest's task ended early")?;
            storm.done.push(done - start);
            for time in times {
                storm.latency.saturating_record(u64::try_from(time.as_nanos()).unwrap_or(u64::MAX));
            }
            storm.failures.extend(failures);
        }
        storm.elapsed = start.elapsed();
        Ok(storm)
    })
}

/// Returns how many guests were done after how many seconds.
fn done_over_time(done: &[Duration]) -> Curve {
    let mut sorted: Vec<f64> = done.iter().map(Duration::as_secs_f64).collect();
    sorted.sort_by(f64::total_cmp);
    let last = sorted.len().saturating_sub(1);
    let shown = |place: usize| place.is_multiple_of((last / POINTS).max(1)) || place == last;
    let points = sorted.iter().enumerate().filter(|(place, _)| shown(*place));
    Curve {
        x: "seconds since all began".to_owned(),
        y: "guests that are done".to_owned(),
        points: points.map(|(place, at)| (*at, place as f64 + 1.0)).collect(),
    }
}

/// One guest's boot: the time of each request that was answered, what went wrong with the others, and its end.
async fn boot(server: SocketAddrV6) -> (Vec<Duration>, Vec<String>, Instant) {
    let (mut times, mut failures) = (Vec::with_capacity(SEQUENCE.len()), Vec::new());
    for path in SEQUENCE {
        let start = Instant::now();
        match tokio::time::timeout(PATIENCE, ask(server, path)).await {
            Ok(Ok(())) => times.push(start.elapsed()),
            Ok(Err(error)) => failures.push(format!("{path}: {error:#}")),
            Err(_) => failures.push(format!("{path}: no answer within {PATIENCE:?}")),
        }
    }
    (times, failures, Instant::now())
}

async fn ask(server: SocketAddrV6, path: &str) -> Result<()> {
    let mut stream = TcpStream::connect(server).await.context("connecting")?;
    let request = format!("GET {path} HTTP/1.1\r\nHost: 169.254.169.254\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.context("asking")?;
    let mut answer = Vec::with_capacity(4096);
    stream.read_to_end(&mut answer).await.context("reading")?;
    // 404 is an answer as well: not every instance has everything.
    if !answer.starts_with(b"HTTP/1.1 200") && !answer.starts_with(b"HTTP/1.1 404") {
        bail!("answered {:?}", String::from_utf8_lossy(&answer[..answer.len().min(32)]));
    }
    Ok(())
}
