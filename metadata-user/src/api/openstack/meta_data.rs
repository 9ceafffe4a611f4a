//! `meta_data.json`.
//!
//! Rendered in two parts with the random seed between them: a head that all versions share, and a tail by version.
//! Versions whose tails are equal for an instance share one.

use serde::ser::{SerializeMap, SerializeSeq};
use serde::{Serialize, Serializer};

use super::Version;
use crate::api::json;
use crate::base64;
use crate::record::{Device, DeviceKind, InstanceRecord};

/// What a tail holds; each holds more than the one before.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::api) enum Tail {
    /// Nothing.
    Empty,
    /// The project.
    Project,
    /// Devices with tags.
    Devices,
    /// Devices with VLANs.
    Vlans,
    /// Devices with trust.
    Trust,
    /// Dedicated CPUs.
    Cpus,
    /// Shares among the devices.
    Shares,
}

impl Tail {
    /// How many there are.
    pub(in crate::api) const COUNT: usize = 7;

    /// Returns the least tail that has what an instance shows in a version.
    pub(in crate::api) fn of(record: &InstanceRecord, version: Version) -> Self {
        let any = |wanted: fn(&DeviceKind) -> bool| record.devices.iter().any(|device| wanted(&device.kind));
        match version {
            Version::Epoxy if any(|kind| matches!(kind, DeviceKind::Share { .. })) => Self::Shares,
            Version::Victoria | Version::Epoxy => Self::Cpus,
            Version::Rocky if any(|kind| matches!(kind, DeviceKind::Nic { .. })) => Self::Trust,
            Version::Ocata | Version::Rocky if any(|kind| matches!(kind, DeviceKind::Nic { vlan: Some(_), .. })) => {
                Self::Vlans
            }
            Version::NewtonOne | Version::NewtonTwo | Version::Ocata | Version::Rocky => Self::Devices,
            Version::Liberty => Self::Project,
            Version::Folsom | Version::Grizzly | Version::Havana => Self::Empty,
        }
    }
}

/// Returns the part before the seed, without a closing brace.
pub(in crate::api) fn head(record: &InstanceRecord, hostname: &str, has_injected_network: bool) -> Vec<u8> {
    let keypair = record.key_name.as_ref().and_then(|_| record.keypairs.first());
    let head = Head {
        uuid: record.uuid.to_string(),
        meta: (!record.metadata.is_empty()).then_some(Pairs(&record.metadata)),
        network_config: has_injected_network
            .then_some(NetworkConfig { name: "network_config", content_path: "/content/0000" }),
        public_keys: keypair.map(|pair| OneKey(&pair.name, &pair.public_key)),
        keys: keypair.map(|pair| [Key { name: &pair.name, r#type: pair.kind.as_str(), data: &pair.public_key }]),
        hostname,
        name: record.display_name.as_deref(),
        launch_index: record.launch_index,
        availability_zone: record.availability_zone.as_deref(),
    };
    let mut out = json::to_vec(&head);
    out.pop();
    out
}

/// Returns the part after the seed, closing brace included.
pub(in crate::api) fn tail(record: &InstanceRecord, tail: Tail) -> Vec<u8> {
    let mut out = Vec::new();
    if tail >= Tail::Project {
        out.extend_from_slice(b", \"project_id\": ");
        json::append(&mut out, &record.project_id.as_str());
    }
    if tail >= Tail::Devices {
        out.extend_from_slice(b", \"devices\": ");
        json::append(&mut out, &Devices { devices: &record.devices, tail });
    }
    if tail >= Tail::Cpus {
        out.extend_from_slice(b", \"dedicated_cpus\": ");
        json::append(&mut out, &record.dedicated_cpus);
    }
    out.push(b'}');
    out
}

/// Puts head, seed and tail together.
pub(in crate::api) fn join(head: &[u8], seed: Option<&[u8; 512]>, tail: &[u8]) -> Vec<u8> {
    const KEY: &[u8] = b", \"random_seed\": \"";
    let seed_length = if seed.is_some() { KEY.len() + 512_usize.div_ceil(3) * 4 + 1 } else { 0 };
    let mut out = Vec::with_capacity(head.len() + seed_length + tail.len());
    out.extend_from_slice(head);
    if let Some(seed) = seed {
        out.extend_from_slice(KEY);
        base64::encode_into(seed, &mut out);
        out.push(b'"');
    }
    out.extend_from_slice(tail);
    out
}

#[derive(Serialize)]
struct Head<'a> {
    uuid: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    meta: Option<Pairs<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    network_config: Option<NetworkConfig>,
    #[serde(skip_serializing_if = "Option::is_none")]
    public_keys: Option<OneKey<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    keys: Option<[Key<'a>; 1]>,
    hostname: &'a str,
    name: Option<&'a str>,
    launch_index: Option<i64>,
    availability_zone: Option<&'a str>,
}

#[derive(Serialize)]
struct NetworkConfig {
    name: &'static str,
    content_path: &'static str,
}

#[derive(Serialize)]
struct Key<'a> {
    name: &'a str,
    r#type: &'a str,
    data: &'a str,
}

/// Keys and values as an object.
pub(super) struct Pairs<'a>(pub(super) &'a [(Box<str>, Box<str>)]);

impl Serialize for Pairs<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|(key, value)| (key, value)))
    }
}

struct OneKey<'a>(&'a str, &'a str);

impl Serialize for OneKey<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map([(self.0, self.1)])
    }
}

/// The devices that a version shows.
struct Devices<'a> {
    devices: &'a [Device],
    tail: Tail,
}

impl Serialize for Devices<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut list = serializer.serialize_seq(None)?;
        for device in self.devices {
            let is_shown = match device.kind {
                DeviceKind::Nic { vlan, .. } => {
                    device.tags.is_some() || (vlan.is_some() && self.tail >= Tail::Vlans) || self.tail >= Tail::Trust
                }
                DeviceKind::Disk { .. } => true,
                DeviceKind::Share { .. } => self.tail >= Tail::Shares,
            };
            if is_shown {
                list.serialize_element(&ShownDevice { device, tail: self.tail })?;
            }
        }
        list.end()
    }
}

struct ShownDevice<'a> {
    device: &'a Device,
    tail: Tail,
}

impl Serialize for ShownDevice<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        match &self.device.kind {
            DeviceKind::Nic { mac, vlan, vf_trusted } => {
                if let Some(vlan) = vlan
                    && self.tail >= Tail::Vlans
                {
                    map.serialize_entry("vlan", vlan)?;
                }
                if self.tail >= Tail::Trust {
                    map.serialize_entry("vf_trusted", vf_trusted)?;
                }
                map.serialize_entry("type", "nic")?;
                map.serialize_entry("mac", &mac.to_string())?;
            }
            DeviceKind::Disk { serial, path } => {
                map.serialize_entry("type", "disk")?;
                if let Some(serial) = serial {
                    map.serialize_entry("serial", serial)?;
                }
                if let Some(path) = path {
                    map.serialize_entry("path", path)?;
                }
            }
            DeviceKind::Share { share_id, tag } => {
                map.serialize_entry("type", "share")?;
                map.serialize_entry("share_id", share_id)?;
                map.serialize_entry("tag", tag)?;
            }
        }
        let (bus, address) = match &self.device.bus {
            Some(bus) => (bus.kind, bus.address.as_deref().unwrap_or("none")),
            None => ("none", "none"),
        };
        map.serialize_entry("bus", bus)?;
        map.serialize_entry("address", address)?;
        if let Some(tags) = &self.device.tags {
            map.serialize_entry("tags", tags)?;
        }
        map.end()
    }
}
