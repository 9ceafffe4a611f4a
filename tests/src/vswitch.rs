//! A real Open vSwitch on a node: its database and `ovs-vswitchd`, both of Debian's packages.
//!
//! Promises: it works in the node's namespace and keeps what it writes in the node's directory; a command returns when the
//! switch has done what it says.

use std::fs;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use anyhow::{Context as _, Result};

use crate::command;
use crate::guest::Guest;
use crate::node::Node;
use crate::ovsdb::{Ovsdb, program};
use crate::wait;

/// What moves a bridge's packets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Datapath {
    /// The kernel's module.
    Kernel,
    /// `ovs-vswitchd` itself, which reads taps by packet sockets.
    Userspace,
}

/// A running switch. It ends with this value, its database last.
#[derive(Debug)]
pub struct Vswitch {
    child: Child,
    directory: PathBuf,
    database: Ovsdb,
}

/// The bridge that every switch here has.
pub const BRIDGE: &str = "br-int";

impl Vswitch {
    /// Starts it on the node, with the bridge [`BRIDGE`].
    ///
    /// # Errors
    /// If it is not installed (`cargo xtask setup --controllers`), or a kernel module that was asked for is missing.
    pub fn start(node: &Node, datapath: Datapath) -> Result<Self> {
        let database = Ovsdb::start(&node.ovsdb())?;
        let directory = node.ovsdb().parent().context("a socket in a directory")?.to_owned();
        let mut daemon = program("usr/lib/openvswitch-switch/ovs-vswitchd")?;
        let mut inside = node.namespace().command(daemon.get_program())?;
        inside.envs(daemon.get_envs().filter_map(|(name, value)| Some((name, value?))));
        inside.env("OVS_RUNDIR", &directory).env("OVS_LOGDIR", &directory);
        daemon = inside;
        daemon.arg(format!("unix:{}", node.ovsdb().display()));
        daemon.arg(format!("--unixctl={}", directory.join("switch.ctl").display()));
        let log = fs::File::create(directory.join("switch.log")).context("making the switch's log")?;
        daemon.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        let child = daemon.spawn().context("starting ovs-vswitchd")?;
        let switch = Self { child, directory, database };
        let kind = if datapath == Datapath::Kernel { "system" } else { "netdev" };
        let kind = format!("datapath_type={kind}");
        switch.vsctl(&["add-br", BRIDGE, "--", "set", "Bridge", BRIDGE, &kind]).with_context(|| switch.log())?;
        Ok(switch)
    }

    /// Runs ovs-vsctl and waits until the switch has done it.
    ///
    /// # Errors
    /// If it fails, or is not done in time.
    pub fn vsctl(&self, words: &[&str]) -> Result<String> {
        let mut vsctl = program("usr/bin/ovs-vsctl")?;
        vsctl.arg(format!("--db=unix:{}", self.directory.join("db.sock").display()));
        vsctl.arg(format!("--timeout={}", wait::PATIENCE.as_secs())).args(words);
        command::run(&mut vsctl, "")
    }

    /// Runs ovs-appctl against the switch.
    ///
    /// # Errors
    /// If it fails.
    pub fn appctl(&self, words: &[&str]) -> Result<String> {
        let mut appctl = program("usr/bin/ovs-appctl")?;
        appctl.arg("-t").arg(self.directory.join("switch.ctl")).args(words);
        command::run(&mut appctl, "")
    }

    /// Adds OpenFlow flows to [`BRIDGE`].
    ///
    /// # Errors
    /// If the switch refuses one.
    pub fn add_flows(&self, flows: &[&str]) -> Result<()> {
        for flow in flows {
            let mut ofctl = program("usr/bin/ovs-ofctl")?;
            ofctl.env("OVS_RUNDIR", &self.directory).arg("add-flow");
            command::run(ofctl.arg(self.directory.join(format!("{BRIDGE}.mgmt"))).arg(flow), "")?;
        }
        Ok(())
    }

    /// Makes a device a port of [`BRIDGE`], and waits until the switch has it.
    ///
    /// # Errors
    /// If the switch does not take it.
    pub fn add_port(&self, device: &str, further: &[&str]) -> Result<()> {
        let mut words = vec!["add-port", BRIDGE, device];
        words.extend(further);
        self.vsctl(&words)?;
        self.wait_port(device)
    }

    /// Plugs a guest's tap, as os-vif does.
    ///
    /// # Errors
    /// If the switch does not take it.
    pub fn plug(&self, guest: &Guest) -> Result<()> {
        self.database.plug(guest.tap(), guest, guest.uuid())?;
        self.wait_port(guest.tap())
    }

    /// Returns what the switch has logged.
    #[must_use]
    pub fn log(&self) -> String {
        fs::read_to_string(self.directory.join("switch.log")).unwrap_or_default()
    }

    fn wait_port(&self, device: &str) -> Result<()> {
        wait::until(&format!("{device} is a port of the switch"), || {
            let number = self.vsctl(&["get", "Interface", device, "ofport"])?;
            Ok(number.trim().parse::<i32>().is_ok_and(|number| number > 0).then_some(()))
        })
        .with_context(|| format!("{}\n{}", self.vsctl(&["show"]).unwrap_or_default(), self.log()))
    }
}

impl Drop for Vswitch {
    fn drop(&mut self) {
        // The kernel's datapath goes with the bridge; without a switch that answers it goes with the namespace.
        let _ = self.vsctl(&["del-br", BRIDGE]);
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Prepares `tc` in a node's namespace.
///
/// # Errors
/// If it fails.
pub fn tc(node: &Node, words: &str) -> Result<String> {
    let mut tc: Command = node.namespace().command("tc")?;
    command::run(tc.args(words.split_whitespace()), "")
}
