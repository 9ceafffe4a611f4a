//! OpenStack's own chain: haproxy in the network's namespace → unix socket → neutron-metadata-agent → Nova's metadata API.
//!
//! haproxy is configured by Neutron's own code and template, agent and Nova by their defaults: one worker of the agent for
//! two processors, one of Nova for each, and Nova's cache of 15 s. Chain and daemon answer the same guest in turns: only
//! its route to the metadata address changes. Left out of the chain, in its favour: Neutron's server and the message bus
//! that the agent asks for each request's port (see `agent.py`).

use std::fs;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use lab::agent::SECRET;
use lab::fetched::collection;
use lab::nova::{Nova, facts};
use lab::{Guest, Namespace, Node, NodePlan, command, wait};
use serde_json::json;

use super::rival::{ADDRESS, Asked, Goals, Process, Rival, Way, second_way, take};
use crate::Effort;
use crate::progress;
use crate::result::{Goal, Run};
use crate::usage::family;

const PATH: &str = "/latest/meta-data/instance-id";
/// Nova's own default.
const CACHE: u32 = 15;
/// Python loads Neutron in seconds, on processors that others use too.
const START: Duration = Duration::from_secs(60);
const CHAIN: &str = "OpenStack's chain";
/// What is wanted with 64 connections: of requests/s, and of requests per CPU second.
const TIMES: f64 = 100.0;
const TIMES_PER_CPU: f64 = 150.0;

pub(super) fn run(effort: Effort, run: &mut Run) -> Result<()> {
    progress::step("starting OpenStack's chain", 0, 1);
    let world = World::make()?;
    let chain = [Some(world.haproxy.id()), Some(world.agent.id()), world.nova.id()].into_iter().flatten();
    let rival = Rival {
        name: CHAIN,
        guest: &world.guest,
        daemon: world.node.daemon_id().context("the daemon runs")?,
        processes: chain.map(family).collect::<Result<Vec<_>>>()?.concat(),
    };
    for reconnect in [false, true] {
        for connections in [1, 16, 64] {
            let goal = |times| (connections == 64).then_some(Goal::AtLeast(times));
            let goals = Goals { rate: goal(TIMES), per_cpu: goal(TIMES_PER_CPU), ..Goals::default() };
            rival.compare(effort, run, &Asked { path: PATH, connections, reconnect, ..Asked::default() }, goals)?;
        }
    }
    Ok(())
}

/// One guest with two ways to its metadata.
struct World {
    haproxy: Process,
    agent: Process,
    nova: Nova,
    /// Where haproxy listens; it goes with the processes in it.
    _network: Namespace,
    guest: Guest,
    node: Node,
}

impl World {
    fn make() -> Result<Self> {
        let target = collection("openstack")?;
        // The client closes by reset: the daemon sees that a little later, and must not refuse the next one meanwhile.
        let node = NodePlan::default().ports(crate::load::PORTS_UNLIMITED).further(crate::load::UNLIMITED).start()?;
        let guest = node.guest("peers").boot()?;
        let address = guest.document().ipv4().context("the guest has an IPv4 address")?;
        let mut known = facts("plain")?;
        known["instance"]["uuid"] = guest.uuid().into();
        for port in known["neutron_ports"].as_array_mut().into_iter().flatten() {
            port["device_id"] = guest.uuid().into();
        }
        let nova = node.namespace().run(|| Nova::with_cache(std::slice::from_ref(&known), CACHE))?;
        let network = network(&guest, &address)?;
        let project = known["instance"]["project_id"].as_str().context("facts have a project")?;
        let agent = agent(&target, &node, &nova, &guest, &address, project)?;
        let haproxy = haproxy(&target, &node, &network)?;
        let world = Self { haproxy, agent, nova, _network: network, guest, node };
        take(&world.guest, Way::Rival)?;
        wait::until_within(START, "OpenStack's chain answers", || {
            Ok(world.guest.get(PATH).ok().filter(|answer| answer.status == 200))
        })
        .with_context(|| world.logs())?;
        Ok(world)
    }

    fn logs(&self) -> String {
        ["agent.out", "haproxy.out"].map(|name| fs::read_to_string(self.node.path(name)).unwrap_or_default()).join("\n")
    }
}

fn script(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("bench/scenario/peers").join(name)
}

/// The network of the guest: a namespace that has the metadata address, at the other end of the guest's second interface.
fn network(guest: &Guest, address: &str) -> Result<Namespace> {
    let network = Namespace::create("net")?;
    second_way(guest, &network, address)?;
    network.ip(&format!("addr add {ADDRESS}/32 dev net0"))?;
    Ok(network)
}

/// The id of the guest's network; any UUID is one.
const NETWORK: &str = "d5ef61e3-5118-42bf-80d8-f88308103859";

fn agent(target: &Path, node: &Node, nova: &Nova, guest: &Guest, address: &str, project: &str) -> Result<Process> {
    let state = node.path("neutron");
    fs::create_dir(&state).context("making Neutron's directory")?;
    let ports = json!([{"id": guest.port(), "network_id": NETWORK, "ip_address": address, "device_id": guest.uuid(),
        "project_id": project, "tenant_id": project}]);
    fs::write(node.path("ports.json"), ports.to_string()).context("writing the agent's ports")?;
    let socket = state.join("metadata_proxy");
    let text = format!(
        "[DEFAULT]\nhost = node\nstate_path = {}\nlog_file = {}\ntransport_url = fake://\nmetadata_proxy_socket = {}\n\
         metadata_proxy_shared_secret = {SECRET}\nnova_metadata_host = 127.0.0.1\nnova_metadata_port = {}\n",
        state.display(),
        state.join("agent.log").display(),
        socket.display(),
        nova.port()
    );
    fs::write(node.path("agent.ini"), text).context("writing the agent's configuration")?;
    let mut command = node.namespace().command(target.join("venv/bin/python3"))?;
    command.arg(script("agent.py")).arg(node.path("ports.json")).arg("--config-file").arg(node.path("agent.ini"));
    let log = node.path("agent.out");
    let mut agent = Process::start(&mut command, &log)?;
    wait::until_within(START, "neutron-metadata-agent listens", || {
        if let Some(status) = agent.try_wait().context("asking whether the agent runs")? {
            bail!("the agent ended by itself: {status}");
        }
        Ok(UnixStream::connect(&socket).ok())
    })
    .with_context(|| fs::read_to_string(&log).unwrap_or_default())?;
    Ok(agent)
}

fn haproxy(target: &Path, node: &Node, network: &Namespace) -> Result<Process> {
    let mut command = Command::new(target.join("venv/bin/python3"));
    command.arg(script("haproxy.py")).arg(node.path("agent.ini")).args([NETWORK, ADDRESS, "80"]);
    let path = command::run(&mut command, "").context("having Neutron write haproxy's configuration")?;
    let path = path.lines().last().context("Neutron named no configuration of haproxy")?;
    let debian = target.join("debian");
    let mut command = network.command(debian.join("usr/sbin/haproxy"))?;
    command.env("LD_LIBRARY_PATH", debian.join("usr/lib/x86_64-linux-gnu"));
    // -db: not in the background, as its template has it, so that it ends with the bench.
    Process::start(command.args(["-db", "-f", path]), &node.path("haproxy.out"))
}
