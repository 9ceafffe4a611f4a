//! Guests: a namespace each, joined to its node by a veth pair; the node's end is the tap.

use std::fmt::Write as _;
use std::net::Ipv6Addr;
use std::process::Command;

use anyhow::{Context as _, Result};
use serde_json::{Value, json};

use crate::command;
use crate::document::Document;
use crate::frame::FrameSocket;
use crate::http::{Request, Response};
use crate::netns::Namespace;
use crate::node::Node;
use crate::vlan::VlanLink;
use crate::wait;

/// How a guest finds its way to 169.254.169.254.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Route {
    /// A route to the address itself, through the interface.
    OnLink,
    /// The default route, through a gateway with a MAC that no device has.
    DeadGateway,
    /// None beside that of its own network, as with a link-local address.
    OwnNetwork,
}

/// How a guest gets its IPv6 link-local address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum InterfaceId {
    /// From its MAC (RFC 4291, appendix A), without looking for duplicates.
    Eui64,
    /// A random one by the kernel, which looks for duplicates as guests do.
    Random,
}

/// A guest's link and addresses, beside its MAC.
#[derive(Clone, Debug)]
struct Wiring {
    ipv4: Option<String>,
    route: Route,
    interface_id: InterfaceId,
    mtu: u32,
    vlan: Option<u16>,
    bridge: Option<String>,
}

/// What a guest is to be.
#[derive(Debug)]
pub struct GuestPlan<'n> {
    node: &'n Node,
    name: String,
    number: u32,
    mac: [u8; 6],
    tap: Option<String>,
    wiring: Wiring,
    document: Document,
    documented: bool,
    awaited: bool,
}

impl<'n> GuestPlan<'n> {
    pub(crate) fn new(node: &'n Node, name: &str) -> Self {
        let number = node.number();
        let [_, _, high, low] = number.to_be_bytes();
        let mac = [0xfa, 0x16, 0x3e, 0, high, low];
        let uuid = format!("{:08x}-0000-4000-9000-{number:012x}", std::process::id());
        let port = json!({"id": port_id(number), "mac_address": mac_text(mac)});
        Self {
            node,
            name: name.to_owned(),
            number,
            mac,
            tap: None,
            wiring: Wiring {
                ipv4: Some(format!("10.0.{high}.{low}/16")),
                route: Route::OnLink,
                interface_id: InterfaceId::Eui64,
                mtu: 1500,
                vlan: None,
                bridge: None,
            },
            document: Document::new(&uuid, name, port),
            documented: true,
            awaited: true,
        }
    }

    /// This MAC, on the wire and in the document.
    #[must_use]
    pub fn mac(mut self, mac: [u8; 6]) -> Self {
        self.mac = mac;
        self.document = self.document.with_port("mac_address", mac_text(mac));
        self
    }

    /// This IPv4 address and prefix length.
    #[must_use]
    pub fn ipv4(mut self, address: &str) -> Self {
        self.wiring.ipv4 = Some(address.to_owned());
        self
    }

    /// No IPv4 at all, and a random IPv6 interface identifier that the kernel checks for duplicates.
    #[must_use]
    pub fn ipv6_only(mut self) -> Self {
        self.wiring.ipv4 = None;
        self.wiring.interface_id = InterfaceId::Random;
        self
    }

    /// This way to the metadata service.
    #[must_use]
    pub fn route(mut self, route: Route) -> Self {
        self.wiring.route = route;
        self
    }

    /// This MTU at both ends.
    #[must_use]
    pub fn mtu(mut self, mtu: u32) -> Self {
        self.wiring.mtu = mtu;
        self
    }

    /// Frames are tagged with this VLAN.
    #[must_use]
    pub fn vlan(mut self, vlan: u16) -> Self {
        self.wiring.vlan = Some(vlan);
        self
    }

    /// The tap is a port of this bridge of the node's.
    #[must_use]
    pub fn bridge(mut self, bridge: &str) -> Self {
        self.wiring.bridge = Some(bridge.to_owned());
        self
    }

    /// The tap has this name instead of the one made from the port's id.
    #[must_use]
    pub fn tap(mut self, name: &str) -> Self {
        self.tap = Some(name.to_owned());
        self
    }

    /// The document, changed.
    #[must_use]
    pub fn document(mut self, change: impl FnOnce(Document) -> Document) -> Self {
        self.document = change(self.document);
        self
    }

    /// No document is written, and so nothing waited for.
    #[must_use]
    pub fn undocumented(mut self) -> Self {
        self.documented = false;
        self.awaited = false;
        self
    }

    /// Booting does not wait until the guest's port is bound.
    #[must_use]
    pub fn at_once(mut self) -> Self {
        self.awaited = false;
        self
    }

    /// Makes the guest: document, link, addresses, and waits until its port is bound.
    ///
    /// # Errors
    /// If the network cannot be made, or the port is not bound in time.
    pub fn boot(self) -> Result<Guest> {
        let tap = self.tap.clone().unwrap_or_else(|| default_tap(self.number));
        let mut document = self.document;
        if let Some(ipv4) = &self.wiring.ipv4 {
            let address = ipv4.split('/').next().unwrap_or_default();
            document = document.with_port("fixed_ips", json!([{"ip_address": address}]));
        }
        if self.tap.is_some() {
            document = document.with_port("devname", tap.as_str());
        }
        let mut guest = Guest {
            name: self.name,
            namespace: Namespace::create("guest")?,
            tap,
            ifindex: 0,
            interface: self.wiring.vlan.map_or_else(|| "eth0".to_owned(), |vlan| format!("eth0.{vlan}")),
            mac: self.mac,
            port: port_id(self.number),
            wiring: self.wiring,
            document,
            vlan: None,
        };
        if self.documented {
            self.node.write(&guest.document)?;
        }
        guest.plug(self.node, None)?;
        if self.awaited {
            self.node.wait_bound(guest.ifindex).with_context(|| format!("booting {}", guest.name))?;
        }
        Ok(guest)
    }
}

/// A guest that is up.
#[derive(Debug)]
pub struct Guest {
    name: String,
    namespace: Namespace,
    tap: String,
    ifindex: u32,
    interface: String,
    mac: [u8; 6],
    port: String,
    wiring: Wiring,
    document: Document,
    vlan: Option<VlanLink>,
}

impl Guest {
    /// Returns its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Returns its namespace.
    #[must_use]
    pub fn namespace(&self) -> &Namespace {
        &self.namespace
    }

    /// Leaves its namespace behind when this value goes.
    pub fn keep(&mut self) {
        self.namespace.keep();
    }

    /// Returns the name of its tap.
    #[must_use]
    pub fn tap(&self) -> &str {
        &self.tap
    }

    /// Returns the index of its tap in the node.
    #[must_use]
    pub fn ifindex(&self) -> u32 {
        self.ifindex
    }

    /// Returns its MAC.
    #[must_use]
    pub fn mac(&self) -> [u8; 6] {
        self.mac
    }

    /// Returns its IPv4 address, if it has one.
    #[must_use]
    pub fn ipv4(&self) -> Option<std::net::Ipv4Addr> {
        self.wiring.ipv4.as_ref()?.split('/').next()?.parse().ok()
    }

    /// Returns its port's id, by which the tap is called unless it has another name.
    #[must_use]
    pub fn port(&self) -> &str {
        &self.port
    }

    /// Returns its document.
    #[must_use]
    pub fn document(&self) -> &Document {
        &self.document
    }

    /// Returns its instance.
    #[must_use]
    pub fn uuid(&self) -> &str {
        self.document.uuid()
    }

    /// Reads a path over IPv4.
    ///
    /// # Errors
    /// If there is no answer.
    pub fn get(&self, path: &str) -> Result<Response> {
        self.send(&Request::get(path))
    }

    /// Reads a path over IPv6.
    ///
    /// # Errors
    /// If there is no answer.
    pub fn get6(&self, path: &str) -> Result<Response> {
        self.send(&Request::get(path).over_ipv6())
    }

    /// Sends a request from the guest.
    ///
    /// # Errors
    /// If there is no answer.
    pub fn send(&self, request: &Request) -> Result<Response> {
        let request = request.clone().through(&self.interface);
        self.namespace.run(|| request.send()).with_context(|| format!("a request of {}", self.name))
    }

    /// Returns the `uuid` of `/openstack/latest/meta_data.json`, over IPv4 or IPv6.
    ///
    /// # Errors
    /// If there is no answer, or it is another one.
    pub fn read_uuid(&self, over_ipv6: bool) -> Result<String> {
        let path = "/openstack/latest/meta_data.json";
        let response = if over_ipv6 { self.get6(path)? } else { self.get(path)? };
        let json: Value = response.json()?;
        Ok(json["uuid"].as_str().with_context(|| format!("no uuid in {json}"))?.to_owned())
    }

    /// Runs curl in the guest and returns what it printed.
    ///
    /// # Errors
    /// If curl fails.
    pub fn curl(&self, arguments: &[&str]) -> Result<String> {
        let mut curl: Command = self.namespace.command("curl")?;
        curl.args(["--silent", "--show-error", "--noproxy", "*", "--max-time", "10"]);
        command::run(curl.args(arguments), "")
    }

    /// Opens a packet socket on the guest's interface; frames that are sent look as if the guest's kernel had.
    ///
    /// # Errors
    /// If there is no interface.
    pub fn frames(&self) -> Result<FrameSocket> {
        self.namespace.run(|| FrameSocket::open("eth0"))
    }

    /// Returns the link-local address that belongs to its MAC.
    #[must_use]
    pub fn link_local(&self) -> Ipv6Addr {
        let [a, b, c, d, e, f] = self.mac;
        Ipv6Addr::from([0xfe, 0x80, 0, 0, 0, 0, 0, 0, a ^ 2, b, c, 0xff, 0xfe, d, e, f])
    }

    /// Makes the link between guest and node, with this index for the tap if one is given, and the guest's addresses.
    /// Booting does so; this is for a link that was taken away.
    ///
    /// # Errors
    /// If the kernel refuses, for example because there is still a link.
    pub fn plug(&mut self, node: &Node, index: Option<u32>) -> Result<()> {
        let (tap, guest, mtu) = (&self.tap, self.namespace.name(), self.wiring.mtu);
        let mac = mac_text(self.mac);
        let index = index.map_or_else(String::new, |index| format!("index {index} "));
        let mut lines = format!(
            "link add {tap} {index}mtu {mtu} type veth peer name eth0 address {mac} mtu {mtu} netns {guest}\n\
             link set {tap} addrgenmode none\n"
        );
        if let Some(bridge) = &self.wiring.bridge {
            writeln!(lines, "link set {tap} master {bridge}")?;
        }
        writeln!(lines, "link set {tap} up")?;
        node.namespace().ip_batch(&lines).with_context(|| format!("plugging {}", self.name))?;
        self.ifindex = node.namespace().ifindex(tap)?;
        self.wire_up()
    }

    /// Takes the link away; the guest's end goes with the tap.
    ///
    /// # Errors
    /// If there is none.
    pub fn unplug(&mut self, node: &Node) -> Result<()> {
        self.vlan = None;
        node.namespace().ip(&format!("link del {}", self.tap)).map(drop)
    }

    /// Gives the guest's end its addresses and routes.
    fn wire_up(&mut self) -> Result<()> {
        let Wiring { ipv4, route, interface_id, mtu, vlan, .. } = self.wiring.clone();
        let interface = self.interface.as_str();
        let mode = if interface_id == InterfaceId::Random { "random" } else { "none" };
        let mut lines = String::new();
        if let Some(vlan) = vlan {
            self.vlan = Some(VlanLink::start(&self.namespace, interface, vlan)?);
            writeln!(lines, "link set {interface} address {} mtu {mtu}", mac_text(self.mac))?;
            writeln!(lines, "link set eth0 addrgenmode none\nlink set eth0 up")?;
        }
        writeln!(lines, "link set {interface} addrgenmode {mode}\nlink set {interface} up")?;
        if interface_id == InterfaceId::Eui64 {
            writeln!(lines, "addr add {}/64 dev {interface} nodad", self.link_local())?;
        }
        if let Some(ipv4) = ipv4 {
            writeln!(lines, "addr add {ipv4} dev {interface}")?;
            match route {
                Route::OnLink => writeln!(lines, "route add 169.254.169.254 dev {interface}")?,
                Route::DeadGateway => writeln!(
                    lines,
                    "neigh add 10.0.255.254 lladdr 02:de:ad:00:be:ef dev {interface} nud permanent\n\
                     route add default via 10.0.255.254 dev {interface}"
                )?,
                Route::OwnNetwork => {}
            }
        }
        self.namespace.ip_batch(&lines).with_context(|| format!("giving {} its addresses", self.name))?;
        if interface_id == InterfaceId::Random {
            self.wait_address()?;
        }
        Ok(())
    }

    fn wait_address(&self) -> Result<()> {
        let show = format!("-6 -o addr show dev {} scope link", self.interface);
        wait::until("the kernel has found the guest's address to be no duplicate", || {
            let text = self.namespace.ip(&show)?;
            Ok((text.contains("fe80::") && !text.contains("tentative")).then_some(()))
        })
    }
}

/// Returns the id of the node's port of this number: its first 11 characters make the tap's name.
#[must_use]
pub fn port_id(number: u32) -> String {
    format!("{number:08x}-0000-4000-8000-{:012x}", std::process::id())
}

/// Returns the tap's name of the port of this number.
#[must_use]
pub fn default_tap(number: u32) -> String {
    format!("tap{:.11}", port_id(number))
}

/// Returns a MAC as text.
#[must_use]
pub fn mac_text(mac: [u8; 6]) -> String {
    let [a, b, c, d, e, f] = mac;
    format!("{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{f:02x}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::NodePlan;

    #[test]
    fn a_guest_of_each_kind_is_plugged_in_and_reaches_its_node() {
        let node = NodePlan::default().make().unwrap();
        node.namespace()
            .ip_batch("link add br0 type bridge\nlink set br0 up\naddr add 10.0.0.254/16 dev br0\n")
            .unwrap();
        let guest = node.guest("a").bridge("br0").ipv4("10.0.0.7/16").at_once().boot().unwrap();
        let listener = node.namespace().run(|| Ok(std::net::TcpListener::bind("10.0.0.254:7")?)).unwrap();
        guest.namespace().run(|| Ok(std::net::TcpStream::connect("10.0.0.254:7")?)).unwrap();
        drop(listener);
        let tagged = node.guest("b").vlan(100).route(Route::DeadGateway).at_once().boot().unwrap();
        assert!(tagged.namespace().ip("addr show dev eth0.100").unwrap().contains("10.0."));
        let random = node.guest("c").ipv6_only().mtu(9000).at_once().boot().unwrap();
        assert!(!random.namespace().ip("-6 addr show dev eth0").unwrap().contains(&random.link_local().to_string()));
        assert_ne!(guest.ifindex(), random.ifindex());
    }
}
