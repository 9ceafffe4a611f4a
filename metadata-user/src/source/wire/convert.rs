//! From a document to a record: checks between fields, and defaults.

use std::collections::HashSet;

use super::document::{
    BlockDeviceDocument, BusType, DestinationType, DeviceDocument, DeviceType, Document, Ipv6AddressMode,
    KeyKindDocument, SourceType,
};
use super::error::Fault;
use super::notices;
use super::place::Step;
use crate::record::{
    BlockDevice, Bus, Device, DeviceKind, InstanceId, InstanceRecord, KeyKind, KeyPair, PortRecord, ProjectId,
};
use crate::secret;

pub(super) mod ec2_ids;
pub(super) mod host_name;
pub(super) mod port;
mod subnets;

/// Where a document is from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Origin {
    /// Somebody wrote it.
    Written,
    /// This program wrote it of a record, an earlier version perhaps, which accepted any host name.
    Record,
}

/// Makes a record of a document.
pub(super) fn record(document: Document, origin: Origin) -> Result<InstanceRecord, Fault> {
    let uuid = document.uuid.0;
    if let Some(hostname) = document.hostname.as_deref().filter(|_| origin == Origin::Written) {
        host_name::check(hostname)?;
    }
    if document.user_data.is_some() && document.user_data_b64.is_some() {
        return Err(fault(["user_data_b64"], "the user data is given twice", "keep user_data or user_data_b64"));
    }
    if document.ports.is_empty() {
        return Err(fault(["ports"], "there is no port", "add at least one: it identifies the guest"));
    }
    let mut ports = Vec::with_capacity(document.ports.len());
    let mut ids = HashSet::new();
    for (index, port) in document.ports.into_iter().enumerate() {
        let at = vec![Step::from("ports"), Step::from(index)];
        if !ids.insert(port.id.0) {
            let at = [at, vec!["id".into()]].concat();
            return Err(fault(at, "another port has this id", "list each port once"));
        }
        ports.push(port::record(port, &at)?);
    }
    let mut devices = Vec::new();
    for (index, device) in document.device_metadata.unwrap_or_default().into_iter().enumerate() {
        devices.push(self::device(device, index)?);
    }
    let display_name = match document.display_name {
        Some(name) => name,
        None => Some(document.hostname.as_ref().map_or_else(|| host_name::unnamed(uuid), Clone::clone)),
    };
    let hostname = match (document.hostname, &display_name) {
        (Some(hostname), _) => hostname,
        (None, Some(display_name)) => host_name::of(display_name, uuid),
        (None, None) => host_name::unnamed(uuid),
    };
    let keys = Keys::of(
        document.key_name,
        document.key_data,
        document.keypairs.map(|pairs| {
            let pairs = pairs.into_iter().map(|pair| KeyPair {
                name: pair.name,
                kind: match pair.kind {
                    KeyKindDocument::Ssh => KeyKind::Ssh,
                    KeyKindDocument::X509 => KeyKind::X509,
                },
                public_key: pair.public_key,
            });
            pairs.collect()
        }),
    );
    let mut dedicated_cpus = document.dedicated_cpus;
    dedicated_cpus.sort_unstable();
    let security_groups = document
        .security_groups
        .unwrap_or_else(|| ports.iter().flat_map(|port| port.security_groups.iter().cloned()).collect());
    let user_data = match (document.user_data, document.user_data_b64) {
        (Some(text), _) => Some(secret::shared(text.into_boxed_bytes().into_vec())),
        (None, data) => data.map(|data| data.0),
    };
    Ok(InstanceRecord {
        uuid: InstanceId(uuid),
        project_id: ProjectId::from(&*document.project_id.0),
        display_name,
        hostname,
        availability_zone: document.availability_zone,
        launch_index: document.launch_index.unwrap_or(Some(0)),
        reservation_id: document.reservation_id.unwrap_or_else(|| Some(ec2_ids::reservation(uuid))),
        flavor: document.flavor,
        ec2_ids: ec2_ids::complete(
            document.ec2_ids,
            uuid,
            [&document.image_ref, &document.kernel_id, &document.ramdisk_id].map(|id| id.as_deref()),
        ),
        image_ref: document.image_ref,
        key_name: keys.name,
        key_data: keys.data,
        keypairs: keys.pairs,
        metadata: document.metadata.0,
        user_data,
        root_device_name: document.root_device_name.unwrap_or_else(|| Some("/dev/vda".into())),
        default_ephemeral_device: document.default_ephemeral_device,
        default_swap_device: document.default_swap_device,
        block_device_mapping: document.block_device_mapping.into_iter().map(block_device).collect(),
        devices,
        dedicated_cpus,
        security_groups,
        local_ipv4: document.local_ipv4.unwrap_or_else(|| local_ipv4(&ports)),
        password: document.password,
        boot_roles: document.boot_roles,
        policy: document.policy.overrides()?,
        ports,
        pages: document.pages.records()?,
        notices: notices::record(document.tags, document.events)?,
    })
}

fn fault<S: Into<Step>>(path: impl IntoIterator<Item = S>, problem: impl Into<String>, remedy: &'static str) -> Fault {
    Fault { path: path.into_iter().map(Into::into).collect(), problem: problem.into(), remedy }
}

/// Returns the EC2 tree's `local-ipv4` of an instance with these ports.
pub(super) fn local_ipv4(ports: &[PortRecord]) -> Option<Box<str>> {
    let addresses = || ports.iter().filter(|port| port.listed).flat_map(PortRecord::addresses).map(|ip| &ip.ip_address);
    addresses()
        .find(|address| address.ip().is_ipv4())
        .or_else(|| addresses().next())
        .map(|address| address.to_string().into())
}

/// The three fields about keys, which complete each other.
struct Keys {
    name: Option<Box<str>>,
    data: Option<Box<str>>,
    pairs: Vec<KeyPair>,
}

impl Keys {
    fn of(name: Option<Option<Box<str>>>, data: Option<Option<Box<str>>>, pairs: Option<Vec<KeyPair>>) -> Self {
        let first = pairs.as_ref().and_then(|pairs| pairs.first());
        let name = name.unwrap_or_else(|| first.map(|pair| pair.name.clone())).filter(|name| !name.is_empty());
        let data = data.unwrap_or_else(|| first.map(|pair| pair.public_key.clone()));
        let pairs = pairs.unwrap_or_else(|| match (&name, &data) {
            (Some(name), Some(data)) => {
                vec![KeyPair { name: name.clone(), kind: KeyKind::Ssh, public_key: data.clone() }]
            }
            _ => Vec::new(),
        });
        Self { name, data, pairs }
    }
}

fn block_device(disk: BlockDeviceDocument) -> BlockDevice {
    let destination = disk.destination_type.unwrap_or(match disk.source_type {
        SourceType::Volume | SourceType::Snapshot => DestinationType::Volume,
        SourceType::Image | SourceType::Blank => DestinationType::Local,
    });
    BlockDevice {
        is_volume: matches!(destination, DestinationType::Volume),
        is_blank: disk.source_type == SourceType::Blank,
        device_name: disk.device_name,
        guest_format: disk.guest_format,
    }
}

fn device(device: DeviceDocument, index: usize) -> Result<Device, Fault> {
    let at = |field: &str| [Step::from("device_metadata"), Step::from(index), Step::from(field)];
    let missing = |field: &str, kind: &str| fault(at(field), format!("a {kind} without {field:?}"), "add the field");
    let foreign = [
        ("mac", device.mac.is_some(), DeviceType::Nic),
        ("vlan", device.vlan.is_some(), DeviceType::Nic),
        ("vf_trusted", device.vf_trusted.is_some(), DeviceType::Nic),
        // Null shows as null with a disk, and is as good as absent with anything else.
        ("serial", device.serial.as_ref().is_some_and(Option::is_some), DeviceType::Disk),
        ("path", device.path.as_ref().is_some_and(Option::is_some), DeviceType::Disk),
        ("share_id", device.share_id.is_some(), DeviceType::Share),
        ("tag", device.tag.is_some(), DeviceType::Share),
    ];
    if let Some((field, ..)) = foreign.into_iter().find(|(_, is_given, kind)| *is_given && *kind != device.kind) {
        let problem = format!("{field:?} does not go with this type of device");
        return Err(fault(at(field), problem, "remove the field or correct the type"));
    }
    let kind = match device.kind {
        DeviceType::Nic => DeviceKind::Nic {
            mac: device.mac.ok_or_else(|| missing("mac", "nic"))?.0,
            vlan: device.vlan,
            vf_trusted: device.vf_trusted.unwrap_or(false),
        },
        DeviceType::Disk => DeviceKind::Disk { serial: device.serial, path: device.path },
        DeviceType::Share => DeviceKind::Share {
            share_id: device.share_id.ok_or_else(|| missing("share_id", "share"))?,
            tag: device.tag.ok_or_else(|| missing("tag", "share"))?,
        },
    };
    let bus = device.bus.map(|bus| Bus {
        kind: match bus.kind {
            BusType::Pci => "pci",
            BusType::Usb => "usb",
            BusType::Scsi => "scsi",
            BusType::Ide => "ide",
            BusType::Xen => "xen",
        },
        address: bus.address,
    });
    Ok(Device { kind, bus, tags: device.tags })
}

fn mode_name(mode: Ipv6AddressMode) -> &'static str {
    match mode {
        Ipv6AddressMode::Slaac => "slaac",
        Ipv6AddressMode::Dhcpv6Stateful => "dhcpv6-stateful",
        Ipv6AddressMode::Dhcpv6Stateless => "dhcpv6-stateless",
    }
}
