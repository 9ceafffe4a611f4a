//! `boot-storm`: a rack that comes back after a power failure.
//!
//! Every guest sends what cloud-init sends: one request after the other, each on a connection of its own, all guests at
//! once. The guests are interfaces of one namespace, told apart by IPv6 scope; their client is one thread, which takes
//! its share of the machine. The limits are those of a default configuration.
//!
//! There is nothing to compare with, so several storms say how far a figure can be trusted: each meets a daemon that has
//! just started, and what is shown is the median of them; of the largest ones, also the least and the most.

use std::net::SocketAddrV6;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use hdrhistogram::Histogram;
use lab::{Node, NodePlan, Rack};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::load::histogram;
use crate::progress;
use crate::result::{Case, Curve, Goal, Run};
use crate::stats::Spread;
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
/// Storms of each size.
const STORMS: u32 = 5;
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

/// A storm, and what the daemon used for it.
struct Weathered {
    storm: Storm,
    /// Seconds.
    cpu: f64,
    /// Megabytes.
    resident: f64,
}

pub(super) fn run(run: &mut Run) -> Result<()> {
    for guests in [100, 300, MOST] {
        let name = format!("{guests} guests");
        let node = NodePlan::default().ports("").make()?;
        let rack = Rack::plug(&node, guests, |document| {
            document.with_user_data(&[b'x'; 2048]).with("key_name", "bench").with("key_data", KEY)
        })?;
        let mut weathered = Vec::new();
        for number in 0..STORMS {
            progress::step(&name, number, STORMS);
            weathered.push(weather(&node, &rack, guests)?);
        }
        let case = case(name, guests, &weathered);
        progress::say(&format!(
            "{}: {:.2} s, {} failed{}",
            case.name,
            case.figures.get(LAST).copied().unwrap_or(f64::NAN),
            weathered.iter().map(|weathered| weathered.storm.failures.len()).sum::<usize>(),
            weathered
                .iter()
                .find_map(|weathered| weathered.storm.failures.first())
                .map(|failure| format!(", the first: {failure}"))
                .unwrap_or_default()
        ));
        run.cases.push(case);
    }
    Ok(())
}

/// Starts the daemon, lets all guests boot, and ends it.
fn weather(node: &Node, rack: &Rack, guests: u32) -> Result<Weathered> {
    node.start_daemon()?;
    super::scale::wait_bound(node, guests)?;
    let servers = rack.servers()?;
    let daemon = node.daemon_id().context("the daemon runs")?;
    let before = Usage::of(daemon)?;
    let storm = rack.namespace().run(|| storm(&servers))?;
    let cpu = Usage::of(daemon)?.since(before).cpu;
    let resident = resident(daemon)?;
    node.stop_daemon()?;
    Ok(Weathered { storm, cpu, resident })
}

const LAST: &str = "seconds until the last is done";

fn case(name: String, guests: u32, weathered: &[Weathered]) -> Case {
    let mut case = Case::new("boot-storm", name);
    // What is wanted of the largest storm.
    let goal = |most| (guests == MOST).then_some(Goal::AtMost(most));
    let mut add = |name: &str, goal: Option<Goal>, of: &dyn Fn(&Weathered) -> f64| {
        let mut values: Vec<f64> = weathered.iter().map(of).collect();
        values.sort_by(f64::total_cmp);
        case.judged(name, Spread::of(&values).median, goal);
        for (which, value) in
            [("least", values.first()), ("most", values.last())].into_iter().filter(|_| guests == MOST)
        {
            case.figures.extend(value.map(|value| (format!("{name}: {which}"), *value)));
        }
    };
    add(LAST, goal(1.5), &|of| of.storm.elapsed.as_secs_f64());
    for (name, at) in [("p50", 0.5), ("p99", 0.99), ("slowest", 1.0)] {
        let goal = if name == "p99" { goal(43.0) } else { None };
        add(&format!("{name}, ms per request"), goal, &|of| of.storm.latency.value_at_quantile(at) as f64 / 1e6);
    }
    add("daemon, CPU ms per guest", goal(0.85), &|of| of.cpu * 1e3 / f64::from(guests));
    add("daemon, MB resident", goal(128.0), &|of| of.resident);
    let sum = |of: &dyn Fn(&Storm) -> f64| weathered.iter().map(|weathered| of(&weathered.storm)).sum::<f64>();
    let answered = sum(&|storm| storm.latency.len() as f64);
    case.figure("requests/s", answered / sum(&|storm| storm.elapsed.as_secs_f64()));
    case.judged("failed requests", sum(&|storm| storm.failures.len() as f64), goal(0.0));
    case.curve = weathered.last().map(|last| done_over_time(&last.storm.done));
    case
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
