//! libvirt's run-time directory, written by the test: status documents of domains with Nova's metadata in them, as
//! libvirt and Nova lay them out, put into place as libvirt does, by renaming. No libvirt runs.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result};

use crate::guest::{Guest, mac_text};

/// A domain.
#[derive(Clone, Debug)]
pub struct Domain {
    uuid: String,
    interfaces: Vec<Interface>,
    state: &'static str,
}

#[derive(Clone, Debug)]
struct Interface {
    kind: &'static str,
    device: String,
    mac: String,
    port: Option<String>,
    address: String,
}

impl Domain {
    /// A running domain without interfaces.
    #[must_use]
    pub fn new(uuid: &str) -> Self {
        Self { uuid: uuid.to_owned(), interfaces: Vec::new(), state: "running" }
    }

    /// The domain of a guest of the lab: its instance, tap, port and MAC.
    #[must_use]
    pub fn of(guest: &Guest) -> Self {
        Self::new(guest.uuid()).with(guest)
    }

    /// One more interface: the link of this guest of the lab, whatever instance it was made for.
    #[must_use]
    pub fn with(self, guest: &Guest) -> Self {
        self.interface("bridge", guest.tap(), &mac_text(guest.mac()), Some(guest.port()))
    }

    /// One more interface.
    #[must_use]
    pub fn interface(mut self, kind: &'static str, device: &str, mac: &str, port: Option<&str>) -> Self {
        self.interfaces.push(Interface {
            kind,
            device: device.to_owned(),
            mac: mac.to_owned(),
            port: port.map(str::to_owned),
            address: format!("10.9.0.{}", self.interfaces.len() + 1),
        });
        self
    }

    /// As while it is migrated to this node: its memory arrives, and it does not run yet.
    #[must_use]
    pub fn incoming(mut self) -> Self {
        self.state = "paused";
        self
    }

    /// Returns the status document.
    #[must_use]
    pub fn text(&self) -> String {
        let (mut ports, mut interfaces) = (String::new(), String::new());
        for Interface { kind, device, mac, port, address } in &self.interfaces {
            if let Some(port) = port {
                let _ = writeln!(
                    ports,
                    "<nova:port uuid=\"{port}\"><nova:ip type=\"fixed\" address=\"{address}\" ipVersion=\"4\"/></nova:port>"
                );
            }
            let virtualport = port.as_ref().map_or_else(String::new, |port| {
                format!("<virtualport type='openvswitch'><parameters interfaceid='{port}'/></virtualport>")
            });
            // What libvirt made of its network is in <actual>.
            let source = match *kind {
                "network" => format!(
                    "<source network='ovs' bridge='br-int'/>\
                     <actual type='bridge'>{virtualport}<source bridge='br-int'/></actual>"
                ),
                _ => format!("<source bridge='br-int'/>{virtualport}"),
            };
            let _ = writeln!(
                interfaces,
                "<interface type='{kind}'><mac address='{mac}'/>{source}\
                 <target dev='{device}'/><model type='virtio'/><alias name='net0'/></interface>"
            );
        }
        let (uuid, state) = (&self.uuid, self.state);
        let job =
            if state == "paused" { "<job type='none' async='migration in' phase='prepare' flags='0x0'/>" } else { "" };
        format!(
            "<!--\nWARNING: THIS IS AN AUTO-GENERATED FILE. CHANGES TO IT ARE LIKELY TO BE\nOVERWRITTEN AND LOST.\n-->\n\
             <domstatus state='{state}' reason='unknown' pid='1'>\n{job}\n<domain type='kvm' id='1'>\n\
             <name>instance-{uuid}</name>\n<uuid>{uuid}</uuid>\n<metadata>\n\
             <nova:instance xmlns:nova=\"http://openstack.org/xmlns/libvirt/nova/1.1\">\n\
             <nova:owner><nova:project uuid=\"project-of-libvirt\">p</nova:project></nova:owner>\n\
             <nova:ports>\n{ports}</nova:ports>\n</nova:instance>\n</metadata>\n\
             <devices>\n{interfaces}</devices>\n</domain>\n</domstatus>\n"
        )
    }

    /// Puts the document into the directory, which is made when absent: complete at once, as libvirt does.
    ///
    /// # Errors
    /// If the directory cannot be written.
    pub fn write(&self, directory: &Path) -> Result<()> {
        fs::create_dir_all(directory).context("making libvirt's directory")?;
        let new = directory.join(format!("instance-{}.xml.new", self.uuid));
        fs::write(&new, self.text()).context("writing a domain")?;
        fs::rename(&new, directory.join(format!("instance-{}.xml", self.uuid))).context("putting a domain into place")
    }

    /// Takes it away, as libvirt does when a domain has ended.
    ///
    /// # Errors
    /// If it does not exist.
    pub fn remove(&self, directory: &Path) -> Result<()> {
        fs::remove_file(directory.join(format!("instance-{}.xml", self.uuid))).context("removing a domain")
    }
}
