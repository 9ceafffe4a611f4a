//! From Nova's answers and Neutron's ports to a document that renders to the same answers.
//!
//! Promises:
//! - the document, read by a node with the same `[cloud]`, answers each path that Nova answered with Nova's status, content
//!   type and bytes; the random seed alone is fresh. What the facts do not render to is in the document as a page, and named
//!   in [`Derived::beside`];
//! - equal input gives equal bytes, whatever the order of Neutron's answers;
//! - who a guest is, and which addresses are its own, is Neutron's to say: ids, MACs, addresses and pairs of a port are
//!   Neutron's where it has them, also where Nova's copy is behind;
//! - what Nova answers may be anything: a page that makes no sense is kept beside the facts.
//!
//! Left out: dynamic vendor data where `[cloud]` has targets, which nodes ask themselves, without the `boot-roles` that no API of
//! Nova's shows; the password, which is a fact and never a page. No I/O, no clock.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use uuid::Uuid;

use crate::api::{Cloud, NovaPages};
use crate::record::{
    Address, AddressPair, FixedIp, InstanceId, InstanceRecord, MacAddress, PageAnswer, PageRecord, PortId, PortRecord,
};
use crate::source::wire::{self, DocumentError};

mod answers;
mod block_devices;
mod compare;
mod devices;
mod ec2;
mod injected;
mod meta_data;
mod network_data;
mod neutron;
mod ports;
mod services;

use answers::Answers;
pub use compare::Difference;

/// What is known of an instance.
#[derive(Clone, Copy, Debug)]
pub struct Facts<'a> {
    /// Nova's answers, of all versions that Nova lists.
    pub pages: &'a NovaPages,
    /// Neutron's ports of the instance, in any order.
    pub ports: &'a [PortFacts],
    /// The id of its image, as Nova's API says it; `None`: it boots from a volume. Guests do not see it; dynamic vendor data is asked
    /// with it.
    pub image: Option<&'a str>,
}

/// What Neutron says of a port.
#[derive(Clone, Debug, PartialEq)]
pub struct PortFacts {
    /// The port.
    pub id: PortId,
    /// The guest's Ethernet address on it.
    pub mac_address: MacAddress,
    /// The guest's addresses, in any order.
    pub fixed_ips: Vec<IpAddr>,
    /// Further addresses that the guest may use, in any order. A pair's MAC may be the port's own.
    pub allowed_address_pairs: Vec<AddressPair>,
    /// Neutron's port security.
    pub port_security: bool,
    /// Its network.
    pub network: Option<Uuid>,
    /// The name of its tap, where Neutron knows another than the usual one.
    pub tap: Option<Box<str>>,
}

/// What an instance's facts become. `Debug` names the instance only.
#[derive(Clone, PartialEq)]
pub struct Derived {
    /// The document: JSON, pages included.
    pub document: Vec<u8>,
    /// What a node makes of it.
    pub record: InstanceRecord,
    /// The pages in it, ascending by path.
    pub beside: Vec<Beside>,
}

impl fmt::Debug for Derived {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Derived").field("uuid", &self.record.uuid).field("beside", &self.beside).finish_non_exhaustive()
    }
}

/// A page that is kept beside the facts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Beside {
    /// Its path, without the first slash.
    pub path: Box<str>,
    /// What differs, in a few words, without any value of the instance's.
    pub reason: String,
}

/// Why there is no document.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum DeriveError {
    /// No `meta_data.json` says which project the instance is of.
    #[error("none of Nova's meta_data.json of instance {0} names its project")]
    NoProject(InstanceId),
    /// The answers are not this instance's, or not of one moment.
    #[error("Nova answered {path} of instance {id} for another instance or project: read it again")]
    Contradiction {
        /// The instance.
        id: InstanceId,
        /// Where Nova says something else.
        path: String,
    },
    /// Nothing can ask: neither Nova's network data nor Neutron has a port of the instance.
    #[error("instance {0} has no port yet: neither Nova nor Neutron names one")]
    NoPort(InstanceId),
    /// The document is not one that nodes read: it is too large, or has too many pages.
    #[error("the document of instance {id} cannot be used")]
    Document {
        /// The instance.
        id: InstanceId,
        /// Why.
        #[source]
        source: DocumentError,
    },
    /// A defect of this program: a node would answer otherwise than Nova, though the page is beside the facts.
    #[error("the document of instance {id} would not answer {path} as Nova does: report this")]
    Unfaithful {
        /// The instance.
        id: InstanceId,
        /// Where it differs.
        path: String,
    },
}

/// Returns the document of an instance.
///
/// # Errors
/// [`DeriveError`].
pub fn derive(facts: &Facts<'_>, cloud: &Arc<Cloud>) -> Result<Derived, DeriveError> {
    let id = facts.pages.uuid();
    let answers = Answers::of(facts.pages)?;
    let facts_alone = Arc::new(record(&answers, facts, cloud)?);
    let differing = compare::differing(facts.pages, &facts_alone, cloud);
    let beside = differing
        .iter()
        .map(|(path, nova, ours)| Beside { path: (*path).into(), reason: compare::reason(path, nova, ours) });
    let beside = beside.collect();
    let pages = differing.iter().map(|(path, nova, _)| page(path, nova)).collect();
    let record = InstanceRecord { pages, ..(*facts_alone).clone() };
    let (document, record) = document(&record).map_err(|source| DeriveError::Document { id, source })?;
    // What a node reads, not what was meant.
    let record = Arc::new(record);
    if let Some((path, ..)) = compare::differing(facts.pages, &record, cloud).first() {
        return Err(DeriveError::Unfaithful { id, path: (*path).to_owned() });
    }
    Ok(Derived { document, record: Arc::unwrap_or_clone(record), beside })
}

/// Returns what a node with this record answers otherwise than Nova: pages that it renders, or that are kept beside its facts and
/// are no longer Nova's.
#[must_use]
pub fn differences(pages: &NovaPages, record: &InstanceRecord, cloud: &Arc<Cloud>) -> Vec<Difference> {
    let differing = compare::differing(pages, &Arc::new(record.clone()), cloud);
    differing.into_iter().map(|(path, nova, ours)| Difference::of(path, nova, &ours)).collect()
}

/// Returns the document of a record, and what a node makes of it.
fn document(record: &InstanceRecord) -> Result<(Vec<u8>, InstanceRecord), DocumentError> {
    // Writing to memory does not fail; if it did, no document would parse.
    let document = wire::document(record).unwrap_or_default();
    let record = wire::parse(&document)?;
    Ok((document, record))
}

fn page(path: &str, nova: &crate::api::Page) -> PageRecord {
    let answer = nova
        .is_found()
        .then(|| PageAnswer { content_type: nova.content_type().map(Into::into), body: nova.body().clone() });
    PageRecord { path: path.into(), answer }
}

/// Returns the facts, without pages.
fn record(answers: &Answers<'_>, facts: &Facts<'_>, cloud: &Cloud) -> Result<InstanceRecord, DeriveError> {
    let uuid = answers.uuid;
    let mut ports = ports::of(answers, facts.ports);
    if ports.is_empty() {
        return Err(DeriveError::NoPort(uuid));
    }
    let local_ipv4 = match answers.leaf("local-ipv4") {
        Some(text) => answers::or_null(text).map(Into::into),
        None => wire::local_ipv4(&ports),
    };
    floating(answers, local_ipv4.as_deref(), &mut ports);
    let hostname = meta_data::hostname(answers, &cloud.dhcp_domain);
    let keypairs = meta_data::keypairs(answers);
    let (key_name, key_data) = ec2::key(answers, &keypairs);
    let disks = block_devices::of(answers);
    Ok(InstanceRecord {
        uuid,
        project_id: answers.project.clone(),
        display_name: meta_data::display_name(answers, &hostname),
        hostname,
        availability_zone: meta_data::availability_zone(answers),
        launch_index: meta_data::launch_index(answers),
        reservation_id: ec2::reservation(answers),
        flavor: ec2::flavor(answers),
        // Where there is none, Nova has an empty text.
        image_ref: Some(facts.image.unwrap_or_default().into()),
        ec2_ids: ec2::ids(answers, facts.image),
        key_name,
        key_data,
        keypairs,
        metadata: meta_data::metadata(answers),
        user_data: answers.user_data(),
        root_device_name: disks.root,
        default_ephemeral_device: disks.ephemeral,
        default_swap_device: disks.swap,
        block_device_mapping: disks.mapping,
        devices: devices::of(answers),
        dedicated_cpus: meta_data::dedicated_cpus(answers),
        security_groups: ec2::security_groups(answers),
        local_ipv4,
        password: answers.password(),
        boot_roles: None,
        policy: Default::default(),
        ports,
        pages: Vec::new(),
        notices: None,
    })
}

/// Puts the public address to a fixed one. Nova says only which it is; most likely it leads to the address that the EC2 tree
/// shows.
fn floating(answers: &Answers<'_>, local_ipv4: Option<&str>, ports: &mut [PortRecord]) {
    let Some(public) = answers.leaf("public-ipv4").and_then(|text| text.parse::<Address>().ok()) else { return };
    let addresses = || {
        ports.iter().enumerate().filter(|(_, port)| port.listed).flat_map(|(number, port)| {
            let places = port.network.subnets.iter().flat_map(|subnet| &subnet.fixed_ips);
            places.filter_map(move |&place| Some((number, place, port.fixed_ips.get(place)?)))
        })
    };
    let is_shown = |ip: &FixedIp| local_ipv4.is_some_and(|local| ip.ip_address.to_string() == local);
    let found = addresses().find(|(.., ip)| is_shown(ip)).or_else(|| addresses().next());
    let place = found.map(|(number, place, _)| (number, place));
    if let Some(ip) = place.and_then(|(number, place)| ports.get_mut(number)?.fixed_ips.get_mut(place)) {
        ip.floating_ips.push(public);
    }
}
