//! nginx with static answers, behind a translation of the metadata address by nftables, in the network's namespace.
//!
//! The least that can stand there: one guest's answers as files, no look-up of who asks, no log, one worker for each thread
//! that answers guests in the daemon, sendfile and a cache of open files. It could not tell two guests with one address
//! apart, and knows nothing of a controller.
//!
//! The daemon counts each connection, packet and request in every case, as by default, with limits that are never reached. It
//! is also compared as it may be configured, with nginx as it is: with tokens required, with the audit log on a disk, and with
//! the limits of a default configuration. Of these the guest keeps within, so it asks at a fixed rate.

use std::fs;
use std::net::TcpStream;
use std::path::Path;

use anyhow::{Context as _, Result, bail, ensure};
use lab::fetched::collection;
use lab::{Guest, Namespace, Node, NodePlan, Request, command, wait};
use tempfile::TempDir;

use super::rival::{ADDRESS, Asked, Goals, Process, Rival, Way, second_way, take};
use crate::Effort;
use crate::load::{PORTS_UNLIMITED, UNLIMITED};
use crate::progress;
use crate::result::{Goal, Run};
use crate::usage::family;

const NGINX: &str = "nginx behind DNAT";
const SMALL: &str = "/latest/meta-data/instance-id";
const LARGE: &str = "/latest/user-data";
const LARGE_BODY: usize = 64 << 10;
/// Where nginx listens, behind the translation.
const LISTENS: &str = "192.0.2.1";
const PORT: u16 = 8080;

/// How the daemon is configured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Configured {
    /// As little as possible, but for counting.
    Plain,
    Tokens,
    Audit,
    Limits,
}

impl Configured {
    /// Those that are compared beside the first one.
    const FURTHER: [Self; 3] = [Self::Tokens, Self::Audit, Self::Limits];

    /// Returns what the case is called.
    fn name(self) -> &'static str {
        match self {
            Self::Plain => "",
            Self::Tokens => "tokens required",
            Self::Audit => "audit log on",
            Self::Limits => "limits as by default, 180 requests/s",
        }
    }

    /// Returns the requests per second of a guest that keeps within the limits.
    fn rate(self) -> Option<f64> {
        (self == Self::Limits).then_some(180.0)
    }

    /// Returns the node; files are in the directory.
    fn plan(self, directory: &Path) -> NodePlan {
        let plan = NodePlan::default().ports(if self == Self::Limits { "" } else { PORTS_UNLIMITED });
        // The client closes by reset: the daemon sees that a little later, and must not refuse the next one meanwhile.
        let plan = if self == Self::Limits { plan } else { plan.further(UNLIMITED) };
        match self {
            Self::Plain | Self::Limits => plan,
            Self::Tokens => plan.further("[access]\nsession = \"required\"\n"),
            Self::Audit => {
                let path = directory.join("audit.jsonl");
                plan.further(&format!("[audit]\nto = \"file\"\npath = {path:?}\n"))
            }
        }
    }

    /// Returns the header field with which the guest asks, with its end of line.
    fn header(self, guest: &Guest) -> Result<String> {
        if self != Self::Tokens {
            return Ok(String::new());
        }
        let request =
            Request::get("/latest/api/token").method("PUT").header("X-aws-ec2-metadata-token-ttl-seconds", "21600");
        let answer = guest.send(&request)?;
        ensure!(answer.status == 200, "the daemon gave no token, but {}", answer.status);
        Ok(format!("{TOKEN}: {}\r\n", answer.text()))
    }
}

/// The field that has a session token.
const TOKEN: &str = "X-aws-ec2-metadata-token";

pub(super) fn run(effort: Effort, run: &mut Run) -> Result<()> {
    let world = World::make(Configured::Plain)?;
    for (size, path) in [("small", SMALL), ("64 KB", LARGE)] {
        for reconnect in [false, true] {
            for connections in [1, 16, 64] {
                let asked = Asked { path, size, connections, reconnect, ..Asked::default() };
                world.rival()?.compare(effort, run, &asked, goals(&asked))?;
            }
        }
    }
    drop(world);
    for configured in Configured::FURTHER {
        let world = World::make(configured)?;
        let asked = Asked {
            path: SMALL,
            size: "small",
            connections: 16,
            reconnect: true,
            configured: configured.name(),
            header: world.header.clone(),
            rate: configured.rate(),
        };
        // nginx has none of these: what they cost is to be seen, and nothing is wanted.
        world.rival()?.compare(effort, run, &asked, Goals::default())?;
    }
    Ok(())
}

/// What is wanted: as good as nginx or better, and where it counts by a margin.
fn goals(asked: &Asked) -> Goals {
    let is_small = asked.path == SMALL;
    let median = if is_small && asked.reconnect { 0.95 } else { 1.0 };
    let per_cpu = Some(Goal::AtLeast(if is_small && !asked.reconnect { 1.1 } else { 1.0 }));
    Goals { rate: None, median: Some(Goal::AtMost(median)), per_cpu, per_busy: per_cpu }
}

struct World {
    nginx: Process,
    /// Where nginx runs.
    _network: Namespace,
    guest: Guest,
    /// See [`Configured::header`].
    header: String,
    node: Node,
    _files: TempDir,
}

impl World {
    fn make(configured: Configured) -> Result<Self> {
        progress::step("starting nginx", 0, 1);
        let files = tempfile::tempdir().context("making a directory")?;
        let node = configured.plan(files.path()).start()?;
        let guest = node.guest("peers").document(|document| document.with_user_data(&vec![b'x'; LARGE_BODY])).boot()?;
        let header = configured.header(&guest)?;
        let network = Namespace::create("net")?;
        let address = guest.document().ipv4().context("the guest has an IPv4 address")?;
        second_way(&guest, &network, &address)?;
        network.ip(&format!("addr add {LISTENS}/32 dev net0"))?;
        guest.namespace().ip("route add 192.0.2.1/32 dev eth1")?;
        // It resolves the metadata address at its second interface as if a router had it.
        network.sysctl("ipv4/conf/net0/proxy_arp", "1")?;
        network.sysctl("ipv4/ip_forward", "1")?;
        network.sysctl("ipv4/neigh/net0/proxy_delay", "0")?;
        network.ip("link set lo up")?;
        network.ip(&format!("route add {ADDRESS}/32 dev lo"))?;
        translate(&network)?;
        let bodies = [SMALL, LARGE].map(|path| Ok((path, body(&guest, path, &header)?)));
        let bodies = bodies.into_iter().collect::<Result<Vec<_>>>()?;
        let nginx = nginx(&node, &bodies, &network)?;
        let world = Self { nginx, _network: network, guest, header, node, _files: files };
        take(&world.guest, Way::Rival)?;
        for (path, ours) in &bodies {
            let theirs =
                wait::until("nginx answers", || Ok(world.guest.get(path).ok().filter(|answer| answer.status == 200)))
                    .with_context(|| fs::read_to_string(world.node.path("nginx.out")).unwrap_or_default())?;
            ensure!(theirs.body == *ours, "nginx and the daemon answer {path} differently");
        }
        Ok(world)
    }

    fn rival(&self) -> Result<Rival<'_>> {
        Ok(Rival {
            name: NGINX,
            guest: &self.guest,
            daemon: self.node.daemon_id().context("the daemon runs")?,
            processes: family(self.nginx.id())?,
        })
    }
}

/// Returns what the daemon answers.
fn body(guest: &Guest, path: &str, header: &str) -> Result<Vec<u8>> {
    let request = Request::get(path);
    let request = match header.trim_end().split_once(": ") {
        Some((name, value)) => request.header(name, value),
        None => request,
    };
    let answer = guest.send(&request)?;
    ensure!(answer.status == 200, "the daemon answers {path} with {}", answer.status);
    Ok(answer.body)
}

/// Has nftables send what goes to the metadata address to nginx.
fn translate(network: &Namespace) -> Result<()> {
    let debian = collection("peers")?.join("debian");
    let mut nft = network.command(debian.join("usr/sbin/nft"))?;
    nft.env("LD_LIBRARY_PATH", debian.join("usr/lib/x86_64-linux-gnu")).args(["-f", "-"]);
    let rules = format!(
        "table ip metadata {{ chain prerouting {{ type nat hook prerouting priority dstnat;\n\
         ip daddr {ADDRESS} tcp dport 80 dnat to {LISTENS}:{PORT}\n}}\n}}\n"
    );
    command::run(&mut nft, &rules).context("translating the metadata address by nftables").map(drop)
}

fn nginx(node: &Node, bodies: &[(&str, Vec<u8>)], network: &Namespace) -> Result<Process> {
    let debian = collection("peers")?.join("debian");
    let directory = node.path("nginx");
    for (path, body) in bodies {
        let file = directory.join("www").join(path.trim_start_matches('/'));
        fs::create_dir_all(file.parent().context("a file has a directory")?).context("making nginx's directories")?;
        fs::write(&file, body).with_context(|| format!("writing {}", file.display()))?;
    }
    let place = directory.display();
    let text = format!(
        "daemon off;\nuser root;\nworker_processes 2;\npid {place}/pid;\nerror_log {place}/error.log warn;\n\
         events {{ worker_connections 8192; }}\n\
         http {{\n default_type 'text/html; charset=UTF-8';\n access_log off;\n server_tokens off;\n sendfile on;\n\
         tcp_nopush on;\n tcp_nodelay on;\n keepalive_requests 1000000000;\n etag off;\n\
         open_file_cache max=100 inactive=1h;\n open_file_cache_valid 1h;\n\
         client_body_temp_path {place}/body;\n proxy_temp_path {place}/proxy;\n fastcgi_temp_path {place}/fastcgi;\n\
         uwsgi_temp_path {place}/uwsgi;\n scgi_temp_path {place}/scgi;\n\
         server {{ listen {LISTENS}:{PORT} backlog=4096; root {place}/www; }}\n}}\n"
    );
    let config = directory.join("nginx.conf");
    fs::write(&config, text).context("writing nginx's configuration")?;
    let mut command = network.command(debian.join("usr/sbin/nginx"))?;
    command.env("LD_LIBRARY_PATH", debian.join("usr/lib/x86_64-linux-gnu"));
    let mut nginx = Process::start(command.arg("-p").arg(&directory).arg("-c").arg(&config), &node.path("nginx.out"))?;
    wait::until("nginx listens", || {
        if let Some(status) = nginx.try_wait()? {
            let output = fs::read_to_string(node.path("nginx.out")).unwrap_or_default();
            bail!("nginx ended by itself: {status}: {output}");
        }
        network.run(|| Ok(TcpStream::connect((LISTENS, PORT)).ok()))
    })?;
    Ok(nginx)
}
