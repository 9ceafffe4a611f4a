//! nginx with static answers, behind a translation of the metadata address by nftables, in the network's namespace.
//!
//! The least that can stand there: one guest's answers as files, no look-up of who asks, no log, one worker for each thread
//! that answers guests in the daemon, sendfile and a cache of open files. It could not tell two guests with one address
//! apart, and knows nothing of a controller.

use std::fs;
use std::net::TcpStream;

use anyhow::{Context as _, Result};
use lab::fetched::collection;
use lab::{Guest, Namespace, Node, NodePlan, command, wait};

use super::rival::{ADDRESS, Asked, Goals, Process, Rival, Way, second_way, take};
use crate::Effort;
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

pub(super) fn run(effort: Effort, run: &mut Run) -> Result<()> {
    progress::step("starting nginx", 0, 1);
    let world = World::make()?;
    let rival = Rival {
        name: NGINX,
        guest: &world.guest,
        daemon: world.node.daemon_id().context("the daemon runs")?,
        processes: family(world.nginx.id())?,
    };
    // "At least on a par": its median at most, its requests per CPU second at least.
    let goals = Goals { rate: None, median: Some(Goal::AtMost(1.0)), per_cpu: Some(Goal::AtLeast(1.0)) };
    for (size, path) in [("small", SMALL), ("64 KB", LARGE)] {
        for reconnect in [false, true] {
            for connections in [1, 16, 64] {
                rival.compare(effort, run, &Asked { path, size, connections, reconnect }, goals)?;
            }
        }
    }
    Ok(())
}

struct World {
    nginx: Process,
    /// Where nginx runs.
    _network: Namespace,
    guest: Guest,
    node: Node,
}

impl World {
    fn make() -> Result<Self> {
        // The client closes by reset: the daemon sees that a little later, and must not refuse the next one meanwhile.
        let node = NodePlan::default().ports(crate::load::PORTS_UNLIMITED).further(crate::load::UNLIMITED).start()?;
        let guest = node.guest("peers").document(|document| document.with_user_data(&vec![b'x'; LARGE_BODY])).boot()?;
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
        let nginx = nginx(&node, &guest, &network)?;
        let world = Self { nginx, _network: network, guest, node };
        take(&world.guest, Way::Rival)?;
        for path in [SMALL, LARGE] {
            let theirs =
                wait::until("nginx answers", || Ok(world.guest.get(path).ok().filter(|answer| answer.status == 200)))
                    .with_context(|| fs::read_to_string(world.node.path("nginx.out")).unwrap_or_default())?;
            take(&world.guest, Way::Tap)?;
            anyhow::ensure!(
                world.guest.get(path)?.body == theirs.body,
                "nginx and the daemon answer {path} differently"
            );
            take(&world.guest, Way::Rival)?;
        }
        Ok(world)
    }
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

fn nginx(node: &Node, guest: &Guest, network: &Namespace) -> Result<Process> {
    let debian = collection("peers")?.join("debian");
    let directory = node.path("nginx");
    for path in [SMALL, LARGE] {
        let file = directory.join("www").join(path.trim_start_matches('/'));
        fs::create_dir_all(file.parent().context("a file has a directory")?).context("making nginx's directories")?;
        fs::write(&file, guest.get(path)?.body).with_context(|| format!("writing {}", file.display()))?;
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
            anyhow::bail!("nginx ended by itself: {status}: {output}");
        }
        network.run(|| Ok(TcpStream::connect((LISTENS, PORT)).ok()))
    })?;
    Ok(nginx)
}
