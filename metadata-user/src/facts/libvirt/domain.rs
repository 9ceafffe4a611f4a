//! A domain's XML as facts about its interfaces: pure, text in, a report out.
//!
//! Reads libvirt's status documents (root `domstatus`, in the run-time directory) and plain ones (root `domain`), and
//! Nova's metadata in them by its namespace, whatever its prefix. An interface is the port that its `virtualport` names,
//! else the one of Nova's ports after which its device is called: `tap` and the first 11 characters of the id.
//!
//! An interface of type network is, while the domain runs, what its `<actual>` says: libvirt puts there the type and the
//! `virtualport` that it made of the interface, the network and the port group. Where interface and `<actual>` name
//! different ports both are reported, so that the tap is refused.
//!
//! Promises: a document is read in time proportional to its size; how deep it is nested and how many interfaces, ports and
//! addresses it has is bounded.
//!
//! Left out: everything but uuid, metadata and interfaces, of which the facts are made, and the names of disks, which are part of the
//! fingerprint. A document with a DTD is refused: libvirt writes none.

use std::collections::{BTreeMap, HashMap};
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::net::IpAddr;

use quick_xml::XmlVersion;
use quick_xml::events::{BytesStart, Event};
use quick_xml::name::{Namespace, ResolveResult};
use quick_xml::reader::NsReader;

use crate::facts::Fact;
use crate::facts::report::{Report, UnreachablePort};
use crate::record::{InstanceId, MacAddress, PortId, PortRecord, ProjectId};

/// Namespaces of Nova's metadata: 1.0 until Yoga's predecessors, 1.1 since.
const NOVA: [&str; 2] = ["http://openstack.org/xmlns/libvirt/nova/1.1", "http://openstack.org/xmlns/libvirt/nova/1.0"];

/// Deepest nesting that is followed. libvirt's documents have about ten levels.
const DEEPEST: usize = 64;

/// Longest part of a foreign text that an error repeats, in characters.
const LONGEST: usize = 100;

/// The most interfaces of a domain, ports of its metadata, and addresses of a port. A guest has some dozens of PCI slots;
/// Neutron allows 5 addresses of a port by default.
const MOST: usize = 1024;

/// The most ports that an interface names: one in its own `virtualport`, one in `<actual>`.
const MOST_VIRTUALPORTS: usize = 4;

/// Why a document cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum DomainError {
    /// Not XML, or the end is missing.
    #[error("it is not complete XML: {0}")]
    Malformed(String),
    /// XML of something else.
    #[error("it is not a domain: its root is `{0}`")]
    NoDomain(String),
    /// With a DTD.
    #[error("it has a DTD, which libvirt never writes")]
    Dtd,
    /// Nested too deeply.
    #[error("it is nested more than {DEEPEST} levels deep")]
    TooDeep,
    /// With more of something than any domain has.
    #[error("it has more than {most} {what}")]
    TooMany {
        /// Of what.
        what: &'static str,
        /// How many are read.
        most: usize,
    },
    /// Without a usable uuid.
    #[error("its uuid is `{0}`, which is not a UUID")]
    Uuid(String),
}

/// A domain.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Domain {
    uuid: String,
    project: Option<ProjectId>,
    /// Addresses of Nova's ports.
    ports: BTreeMap<PortId, Vec<IpAddr>>,
    interfaces: Vec<Interface>,
    fingerprint: u64,
}

#[derive(Debug, Default, PartialEq, Eq)]
struct Interface {
    kind: String,
    device: Option<String>,
    /// As written, for people.
    mac: Option<String>,
    /// The ports that its `virtualport`s name. More than one: they contradict each other.
    ports: Vec<PortId>,
}

/// Reads a document.
///
/// # Errors
/// [`DomainError`]; nothing of such a document is used.
pub fn parse(text: &str) -> Result<Report, DomainError> {
    let mut domain = read(text)?;
    let instance: InstanceId = domain.uuid.trim().parse().map_err(|_| DomainError::Uuid(shorten(&domain.uuid)))?;
    for addresses in domain.ports.values_mut() {
        addresses.sort_unstable();
        addresses.dedup();
    }
    let mut named_after = HashMap::with_capacity(domain.ports.len());
    for port in domain.ports.keys() {
        named_after.entry(PortRecord::default_device_name(*port)).or_insert(*port);
    }
    let mut report = Report::default();
    for interface in &domain.interfaces {
        interface.report(instance, &domain, &named_after, &mut report);
    }
    Ok(report)
}

impl Interface {
    /// Adds what the interface comes to. `named_after` has Nova's ports by the names that their taps have by default.
    fn report(
        &self,
        instance: InstanceId,
        domain: &Domain,
        named_after: &HashMap<String, PortId>,
        report: &mut Report,
    ) {
        let unreachable = match self.kind.as_str() {
            "vhostuser" => Some("vhost-user: its packets bypass the kernel"),
            "hostdev" => Some("a passed-through device: its packets bypass the node"),
            "vdpa" => Some("vDPA: its packets bypass the kernel"),
            "direct" => Some("macvtap: its packets go straight to the lower device"),
            _ if self.device.is_none() => Some("without a device on the node"),
            _ => None,
        };
        let (Some(device), None) = (&self.device, unreachable) else {
            let name = self.device.clone().or_else(|| self.mac.clone()).unwrap_or_else(|| "an interface".to_owned());
            let (port, kind) = (self.ports.first().copied(), unreachable.unwrap_or_default().to_owned());
            report.unreachable_ports.push(UnreachablePort { device: name, instance, port, kind });
            return;
        };
        let mac: Option<MacAddress> = self.mac.as_deref().and_then(|mac| mac.parse().ok());
        let fact = |port: Option<PortId>| {
            let addresses = port.and_then(|port| domain.ports.get(&port)).cloned().unwrap_or_default();
            let (project, fingerprint) = (domain.project.clone(), Some(domain.fingerprint));
            Fact { instance, project, port, mac, addresses, fingerprint }
        };
        if self.ports.is_empty() {
            report.facts.push((device.clone(), fact(named_after.get(device).copied())));
        }
        report.facts.extend(self.ports.iter().map(|port| (device.clone(), fact(Some(*port)))));
    }
}

fn malformed(error: quick_xml::Error) -> DomainError {
    // The error repeats names from the document.
    DomainError::Malformed(shorten(&error.to_string()))
}

fn read(text: &str) -> Result<Domain, DomainError> {
    let mut reader = NsReader::from_str(text);
    reader.config_mut().expand_empty_elements = true;
    let mut domain = Domain::default();
    let mut path: Vec<String> = Vec::new();
    // The port of Nova's whose addresses are being read.
    let mut port = None;
    let mut complete = false;
    let mut fingerprint = DefaultHasher::new();
    loop {
        let (namespace, event) = reader.read_resolved_event().map_err(malformed)?;
        match event {
            Event::Start(element) => {
                let nova = matches!(namespace, ResolveResult::Bound(Namespace(name)) if NOVA.contains(&name));
                let local = element.local_name().into_inner().to_owned();
                let name = if nova { format!("nova:{local}") } else { local };
                if path.is_empty() && (complete || !["domstatus", "domain"].contains(&name.as_str())) {
                    return Err(DomainError::NoDomain(shorten(&name)));
                }
                if path.len() >= DEEPEST {
                    return Err(DomainError::TooDeep);
                }
                path.push(name);
                if is_in_fingerprint(within(&path)) {
                    path.hash(&mut fingerprint);
                    let attributes =
                        element.attributes().flatten().filter(|one| one.key.as_namespace_binding().is_none());
                    attributes.for_each(|one| (one.key.as_ref(), &one.value).hash(&mut fingerprint));
                }
                take(&mut domain, &mut port, within(&path), &element)?;
            }
            Event::End(_) => {
                path.pop();
                complete |= path.is_empty();
            }
            Event::Text(text) if within(&path) == ["uuid"] => domain.uuid.push_str(&text.xml10_content()),
            Event::Text(text) if is_in_fingerprint(within(&path)) => text.trim().hash(&mut fingerprint),
            Event::DocType(_) => return Err(DomainError::Dtd),
            Event::Eof => break,
            _ => {}
        }
    }
    domain.fingerprint = fingerprint.finish();
    if complete && path.is_empty() { Ok(domain) } else { Err(DomainError::Malformed("its end is missing".to_owned())) }
}

/// Returns the path below `domain`; empty elsewhere.
fn within(path: &[String]) -> &[String] {
    match path {
        [root, domain, rest @ ..] if root == "domstatus" && domain == "domain" => rest,
        [root, rest @ ..] if root == "domain" => rest,
        _ => &[],
    }
}

/// Returns whether an element tells of a change of the instance: Nova's metadata, with flavor, image and ports, and which disks there
/// are. What a disk is made of changes with every snapshot and copy.
fn is_in_fingerprint(path: &[String]) -> bool {
    match path {
        [metadata, ..] if metadata == "metadata" => true,
        [devices, disk, name, ..] => devices == "devices" && disk == "disk" && (name == "target" || name == "serial"),
        _ => false,
    }
}

/// Takes an element's values. One that cannot be read counts as absent.
fn take(
    domain: &mut Domain,
    port: &mut Option<PortId>,
    path: &[String],
    element: &BytesStart<'_>,
) -> Result<(), DomainError> {
    let attribute = |name: &str| -> Result<Option<String>, DomainError> {
        let value = element.try_get_attribute(name).map_err(quick_xml::Error::from).and_then(|attribute| {
            attribute.map(|found| Ok(found.normalized_value(XmlVersion::Implicit1_0)?.into_owned())).transpose()
        });
        value.map_err(malformed)
    };
    let bounded = |length: usize, most: usize, what: &'static str| {
        if length < most { Ok(()) } else { Err(DomainError::TooMany { what, most }) }
    };
    let path: Vec<&str> = path.iter().map(String::as_str).collect();
    match path[..] {
        ["metadata", "nova:instance", "nova:owner", "nova:project"] => {
            domain.project = attribute("uuid")?.filter(|id| !id.is_empty()).map(|id| id.as_str().into());
        }
        ["metadata", "nova:instance", "nova:ports", "nova:port"] => {
            *port = attribute("uuid")?.and_then(|id| id.parse().ok());
            if let Some(port) = *port {
                bounded(domain.ports.len(), MOST, "ports")?;
                domain.ports.entry(port).or_default();
            }
        }
        ["metadata", "nova:instance", "nova:ports", "nova:port", "nova:ip"] => {
            let address = attribute("address")?.and_then(|address| address.parse().ok());
            if let (Some(address), Some(addresses)) = (address, port.and_then(|port| domain.ports.get_mut(&port))) {
                bounded(addresses.len(), MOST, "addresses of one port")?;
                addresses.push(address);
            }
        }
        ["devices", "interface"] => {
            let kind = attribute("type")?.unwrap_or_default();
            bounded(domain.interfaces.len(), MOST, "interfaces")?;
            domain.interfaces.push(Interface { kind, ..Interface::default() });
        }
        ["devices", "interface", ref rest @ ..] => {
            let Some(interface) = domain.interfaces.last_mut() else {
                return Ok(());
            };
            match rest {
                ["mac"] => interface.mac = attribute("address")?,
                ["target"] => interface.device = attribute("dev")?.filter(|device| !device.is_empty()),
                ["actual"] => {
                    if let Some(kind) = attribute("type")? {
                        interface.kind = kind;
                    }
                }
                ["virtualport", "parameters"] | ["actual", "virtualport", "parameters"] => {
                    let port: Option<PortId> = attribute("interfaceid")?.and_then(|id| id.parse().ok());
                    if let Some(port) = port.filter(|port| !interface.ports.contains(port)) {
                        bounded(interface.ports.len(), MOST_VIRTUALPORTS, "ports of one interface")?;
                        interface.ports.push(port);
                    }
                }
                _ => {}
            }
        }
        _ => {}
    }
    Ok(())
}

/// Returns the start of a text that may be anything.
fn shorten(text: &str) -> String {
    text.chars().take(LONGEST).collect()
}

#[cfg(test)]
mod tests;
