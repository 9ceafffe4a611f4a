//! What a tap should be: a pure decision from the observers' facts about it and from the documents.
//!
//! Promises:
//! - observers come before documents: a tap that one of them names belongs to the instance that it names;
//! - all evidence must agree on instance, port and MAC as far as each piece has them; else the tap is refused, with both
//!   sides and the remedy in the reason;
//! - a tap that no observer names is bound by the documents' claims.
//!
//! What comes from where: the instance's document, where it describes the port, decides on allowed sources. A tap that is
//! bound by facts alone may use any address with its own MAC. The facts' addresses are not enforced, since libvirt keeps
//! those of the day on which the interface was plugged. Which instance's data is read does not depend on addresses.

use super::owner::Owner;
use crate::{
    config::{self, Unbound},
    dataplane::{fit_sources, join_sources},
    facts::{Fact, Observer},
    record::{InstanceId, InstanceRecord, MacAddress, PortId, PortRecord},
    store::Claim,
};

/// All evidence about a tap.
#[derive(Clone, Copy, Debug)]
pub struct Evidence<'a> {
    /// The tap's name.
    pub device: &'a str,
    /// The observers' facts, most trusted first.
    pub facts: &'a [(Observer, Fact)],
    /// The documents that name it.
    pub claims: &'a [Claim],
    /// The document of the instance that the first fact names.
    pub record: Option<&'a InstanceRecord>,
    /// Whether that instance has content, from a document or copied.
    pub has_content: bool,
}

/// What a tap should be.
#[derive(Clone, Debug, PartialEq)]
pub enum DesiredPort {
    /// Answered with an instance's data.
    Bound(Assignment),
    /// Answered with 503: there is no evidence.
    Held,
    /// Not touched.
    Passed,
    /// Answered with 503, because the evidence contradicts itself: the reason.
    Refused(String),
    /// Answered with 503, because the evidence is not enough: the reason.
    Lacking(String),
}

/// The instance that a tap belongs to, and what it may send.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Assignment {
    /// The instance.
    pub instance: InstanceId,
    /// Its project, where it is known.
    pub project: Option<String>,
    /// The port, where it is known.
    pub port: Option<PortId>,
    /// Its MAC.
    pub mac: MacAddress,
    /// Allowed sources: joined, and made to fit into the kernel's map.
    pub sources: Vec<(MacAddress, ipnet::IpNet)>,
    /// Any source address, with the own MAC.
    pub any_address: bool,
    /// Where the binding comes from.
    pub origin: BindingSource,
    /// How the sources differ from the document's, and the remedy.
    pub warning: Option<String>,
}

/// Where a binding comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BindingSource {
    /// The most trusted observer that names it.
    Observer(Observer),
    /// A document.
    Document,
}

impl BindingSource {
    /// Returns its name as commands show it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Observer(Observer::OpenVswitch) => "Open vSwitch",
            Self::Observer(Observer::Libvirt) => "libvirt",
            Self::Document => "document",
        }
    }
}

impl Assignment {
    /// Returns the owner that the tap gets.
    #[must_use]
    pub fn owner(&self) -> Owner {
        Owner { instance: self.instance, port: self.port }
    }

    fn by_document(claim: &Claim) -> Self {
        Self::of_port(claim.instance, claim.project.to_string(), &claim.port, BindingSource::Document)
    }

    fn of_port(instance: InstanceId, project: String, port: &PortRecord, origin: BindingSource) -> Self {
        let (sources, unfit) = fit_sources(port.mac_address, join_sources(&port.sources()));
        Self {
            instance,
            project: Some(project),
            port: Some(port.id),
            mac: port.mac_address,
            sources,
            any_address: !port.port_security,
            origin,
            warning: unfit.map(|unfit| unfit.to_string()),
        }
    }
}

/// Decides on a tap.
#[must_use]
pub fn desired(evidence: &Evidence<'_>, rules: &config::Ports) -> DesiredPort {
    match evidence.facts {
        [] => by_documents(evidence.device, evidence.claims, rules.unbound),
        // A roll-out beside other agents: instances that are not served here yet stay theirs.
        _ if !evidence.has_content && evidence.claims.is_empty() && rules.unbound == Unbound::Pass => {
            DesiredPort::Passed
        }
        [(first, _), ..] => by_facts(evidence, *first),
    }
}

fn by_documents(device: &str, claims: &[Claim], unbound: Unbound) -> DesiredPort {
    match claims {
        [] => match unbound {
            Unbound::Hold => DesiredPort::Held,
            Unbound::Pass => DesiredPort::Passed,
        },
        [claim] => DesiredPort::Bound(Assignment::by_document(claim)),
        several => DesiredPort::Refused(several_claims(device, several)),
    }
}

fn several_claims(device: &str, claims: &[Claim]) -> String {
    let ports: Vec<_> =
        claims.iter().map(|claim| format!("port {} of instance {}", claim.port.id.0, claim.instance.0)).collect();
    // Ids that were made at about the same time may begin alike (UUIDv7), and then so do the names of their taps.
    // A document that names no tap has the default name in its record.
    let by_default = claims.iter().filter(|claim| PortRecord::default_device_name(claim.port.id) == device).count();
    let remedy = match by_default {
        0 => format!("name {device} as tap in one document only"),
        1 => format!("correct tap where it is {device}, or give the other port its own tap's name as tap"),
        _ => format!(
            "their ids begin alike, so that {device} is the default tap name of each: give each port its own tap's name \
             as tap"
        ),
    };
    format!("claimed by {}: {remedy}", ports.join(" and "))
}

/// A piece of evidence: what one observer or document says of the tap.
struct Statement {
    name: String,
    instance: InstanceId,
    port: Option<PortId>,
    mac: Option<MacAddress>,
    /// Where to correct it.
    remedy: String,
}

impl Statement {
    fn of_fact(device: &str, (observer, fact): &(Observer, Fact)) -> Self {
        let remedy = match observer {
            Observer::OpenVswitch => format!("the external_ids of interface {device} in Open vSwitch"),
            Observer::Libvirt => format!("the domain {} in libvirt", fact.instance),
        };
        Self { name: observer.name().to_owned(), instance: fact.instance, port: fact.port, mac: fact.mac, remedy }
    }

    fn of_claim(claim: &Claim) -> Self {
        Self::of_document(claim.instance, &claim.port)
    }

    fn of_document(instance: InstanceId, port: &PortRecord) -> Self {
        Self {
            name: format!("the document of {instance}"),
            instance,
            port: Some(port.id),
            mac: Some(port.mac_address),
            remedy: format!("port {} in the document of {instance}", port.id),
        }
    }

    /// Returns how two contradict each other, if they do.
    fn against(&self, other: &Self) -> Option<String> {
        let (what, own, others) = if self.instance != other.instance {
            ("instance", self.instance.to_string(), other.instance.to_string())
        } else if let Some((own, others)) = differing(self.port, other.port) {
            ("port", own.to_string(), others.to_string())
        } else if let Some((own, others)) = differing(self.mac, other.mac) {
            ("MAC", own.to_string(), others.to_string())
        } else {
            return None;
        };
        let remedy = match self.remedy == other.remedy {
            true => self.remedy.clone(),
            false => format!("{} or {}", self.remedy, other.remedy),
        };
        Some(format!("{} says {what} {own}, {} says {what} {others}: correct {remedy}", self.name, other.name))
    }
}

/// Returns both, if both are known and differ.
fn differing<T: Copy + PartialEq>(own: Option<T>, other: Option<T>) -> Option<(T, T)> {
    own.zip(other).filter(|(own, other)| own != other)
}

fn by_facts(evidence: &Evidence<'_>, first: Observer) -> DesiredPort {
    let mut statements: Vec<_> = evidence.facts.iter().map(|fact| Statement::of_fact(evidence.device, fact)).collect();
    statements.extend(evidence.claims.iter().map(Statement::of_claim));
    let instance = statements[0].instance;
    let named: Option<PortId> = evidence.facts.iter().find_map(|(_, fact)| fact.port);
    let ports = || evidence.record.into_iter().flat_map(|record| &record.ports);
    let described: Vec<&PortRecord> = match named {
        Some(id) => ports().filter(|port| port.id == id).collect(),
        None => ports().filter(|port| port.device_name() == evidence.device).collect(),
    };
    statements.extend(described.iter().map(|port| Statement::of_document(instance, port)));
    let contradiction = statements
        .iter()
        .enumerate()
        .find_map(|(place, statement)| statements[place + 1..].iter().find_map(|other| statement.against(other)));
    if let Some(contradiction) = contradiction {
        return DesiredPort::Refused(contradiction);
    }
    let origin = BindingSource::Observer(first);
    if let (Some(port), Some(record)) = (described.first(), evidence.record) {
        return DesiredPort::Bound(Assignment::of_port(instance, record.project_id.to_string(), port, origin));
    }
    let Some(mac) = evidence.facts.iter().find_map(|(_, fact)| fact.mac) else {
        return DesiredPort::Lacking(format!(
            "{} has no MAC of this tap, and no document describes the port: set external_ids:attached-mac, or add the port \
             to the document of {instance}",
            first.name()
        ));
    };
    let of_record = evidence.record.map(|record| record.project_id.to_string());
    let of_facts = || evidence.facts.iter().find_map(|(_, fact)| fact.project.as_ref()).map(ToString::to_string);
    DesiredPort::Bound(Assignment {
        instance,
        project: of_record.or_else(of_facts),
        port: named,
        mac,
        sources: any_address(mac),
        any_address: false,
        origin,
        warning: None,
    })
}

/// Returns every address of both families, with this MAC.
fn any_address(mac: MacAddress) -> Vec<(MacAddress, ipnet::IpNet)> {
    vec![(mac, ipnet::Ipv4Net::default().into()), (mac, ipnet::Ipv6Net::default().into())]
}

#[cfg(test)]
mod tests;
