//! A network's DHCP server, as Neutron runs it: dnsmasq in a namespace of its own, joined to a bridge of the node's.
//!
//! Promises: only configured hosts get an address, always the same one, and a default route through a gateway
//! that answers ARP and carries nothing. It ends with its value.

use std::fs::{self, File};
use std::process::{Child, Stdio};

use anyhow::{Context as _, Result};

use crate::guest::mac_text;
use crate::machine;
use crate::netns::{Namespace, unique};
use crate::node::Node;
use crate::wait;

/// A running DHCP server.
#[derive(Debug)]
pub struct Dhcp {
    child: Child,
    namespace: Namespace,
    log: std::path::PathBuf,
}

impl Dhcp {
    /// Starts one for a network, for example `10.7.0`: its first address is the gateway's, its second the server's.
    ///
    /// # Errors
    /// If dnsmasq is not installed (`cargo xtask setup --vm`), or does not start.
    pub fn start(node: &Node, bridge: &str, network: &str, hosts: &[([u8; 6], &str)]) -> Result<Self> {
        let namespace = Namespace::create("dhcp")?;
        let (link, name) = (unique("dh"), namespace.name());
        node.namespace().ip_batch(&format!(
            "link add {link} type veth peer name eth0 netns {name}\nlink set {link} addrgenmode none\n\
             link set {link} master {bridge}\nlink set {link} up\n"
        ))?;
        namespace.ip_batch(&format!(
            "addr add {network}.1/24 dev eth0\naddr add {network}.2/24 dev eth0\nlink set eth0 up\n"
        ))?;
        let log = node.path("dhcp.log");
        let output = File::create(&log).context("making a log")?;
        let mut dnsmasq = machine::program(&namespace, "usr/sbin/dnsmasq")?;
        dnsmasq.args(["--keep-in-foreground", "--conf-file=/dev/null", "--user=root", "--group=root", "--pid-file="]);
        dnsmasq.args([
            "--port=0",
            "--no-hosts",
            "--no-resolv",
            "--interface=eth0",
            "--bind-interfaces",
            "--except-interface=lo",
        ]);
        dnsmasq.args(["--leasefile-ro", "--log-dhcp", "--log-facility=-"]);
        dnsmasq.arg(format!("--dhcp-range={network}.0,static,255.255.255.0,86400s"));
        dnsmasq.arg(format!("--dhcp-option=option:router,{network}.1"));
        for (mac, address) in hosts {
            let host = address.replace('.', "-");
            dnsmasq.arg(format!("--dhcp-host={},host-{host},{address}", mac_text(*mac)));
        }
        dnsmasq.stdin(Stdio::null()).stdout(output.try_clone()?).stderr(output);
        let dhcp = Self { child: dnsmasq.spawn().context("starting dnsmasq")?, namespace, log };
        wait::until("dnsmasq serves", || Ok(dhcp.log().contains("sockets bound").then_some(())))
            .with_context(|| format!("its log:\n{}", dhcp.log()))?;
        Ok(dhcp)
    }

    /// Returns its log.
    #[must_use]
    pub fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Returns how many IPv4 packets the gateway received for addresses other than its own.
    ///
    /// # Errors
    /// If the kernel does not report it.
    pub fn strays(&self) -> Result<u64> {
        let text = self.namespace.run(|| Ok(fs::read_to_string("/proc/thread-self/net/snmp")?))?;
        let mut lines = text.lines().filter_map(|line| line.strip_prefix("Ip: "));
        let (names, values) = lines.next().zip(lines.next()).context("no counters of IPv4")?;
        let mut pairs = names.split(' ').zip(values.split(' '));
        let (_, value) = pairs.find(|(name, _)| *name == "InAddrErrors").context("no counter of strays")?;
        Ok(value.parse()?)
    }
}

impl Drop for Dhcp {
    fn drop(&mut self) {
        // Ended already is as good.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
