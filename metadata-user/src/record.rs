//! What the daemon knows of an instance.
//!
//! Promises: every value was validated where it was read, so users of a record need not validate it again; defaults are
//! already filled in; all types are plain data, cheap to compare and to share behind an `Arc`.
//!
//! Left out: any serialised form. The document is `source::wire`, what guests read is `api`.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;
use std::sync::Arc;

use bytes::Bytes;
use ipnet::IpNet;
use uuid::Uuid;

use crate::policy::PolicyOverrides;

mod address;
mod attributes;
mod device;
mod notice;
mod page;
mod port;

pub use address::Address;
pub use attributes::{
    AttributeError, Attributes, LONGEST_VALUE as LONGEST_ATTRIBUTE, MOST_BYTES as MOST_ATTRIBUTE_BYTES,
    Texts as AttributeTexts, is_name as is_attribute_name,
};
pub use device::{BlockDevice, Bus, Device, DeviceKind};
pub use notice::{EventKind, EventRecord, EventState, Notices};
pub use page::{PageAnswer, PageRecord};
pub use port::{AddressPair, FixedIp, NetworkRecord, PortRecord, Route, SubnetRecord};

/// An instance's UUID.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct InstanceId(pub Uuid);

/// A port's UUID.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PortId(pub Uuid);

/// A project's id: a text, since Keystone's have no dashes and other clouds' need not be UUIDs.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ProjectId(Arc<str>);

/// An Ethernet address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct MacAddress(pub [u8; 6]);

/// The record of one instance. Its `Debug` output names the instance and nothing else: most of the rest is secret.
#[derive(Clone, PartialEq)]
pub struct InstanceRecord {
    /// The instance.
    pub uuid: InstanceId,
    /// Its project.
    pub project_id: ProjectId,
    /// The name that its owner gave it; any text.
    pub display_name: Option<Box<str>>,
    /// Its host name, without the domain.
    pub hostname: Box<str>,
    /// Its availability zone.
    pub availability_zone: Option<Box<str>>,
    /// Its place among the instances that were created by one request.
    pub launch_index: Option<i64>,
    /// The request that created it.
    pub reservation_id: Option<Box<str>>,
    /// Its flavor's name.
    pub flavor: Option<Box<str>>,
    /// Its image.
    pub image_ref: Option<Box<str>>,
    /// Its names in the EC2 tree.
    pub ec2_ids: Ec2Ids,
    /// The name of its key.
    pub key_name: Option<Box<str>>,
    /// The key as the EC2 tree shows it.
    pub key_data: Option<Box<str>>,
    /// The key pairs stored with the instance. Only the first is ever shown.
    pub keypairs: Vec<KeyPair>,
    /// Its owner's keys and values, in order. Keys are unique.
    pub metadata: Vec<(Box<str>, Box<str>)>,
    /// Its user data, decoded. `None` and empty are different things.
    pub user_data: Option<Bytes>,
    /// Its root device, for example `/dev/vda`.
    pub root_device_name: Option<Box<str>>,
    /// Its first ephemeral device.
    pub default_ephemeral_device: Option<Box<str>>,
    /// Its swap device.
    pub default_swap_device: Option<Box<str>>,
    /// Its disks, in order.
    pub block_device_mapping: Vec<BlockDevice>,
    /// Devices with tags or other metadata, in order.
    pub devices: Vec<Device>,
    /// The host CPUs that are dedicated to the instance, ascending and unique.
    pub dedicated_cpus: Vec<u32>,
    /// Names of its security groups as the EC2 tree lists them; repeats are kept.
    pub security_groups: Vec<Box<str>>,
    /// The EC2 tree's `local-ipv4`.
    pub local_ipv4: Option<Box<str>>,
    /// The password that the guest posted, as far as the source knows it.
    pub password: Option<Box<str>>,
    /// Roles of the user who booted it, joined by commas, for dynamic vendor data.
    pub boot_roles: Option<Box<str>>,
    /// What it may do, where that differs from the configuration.
    pub policy: PolicyOverrides,
    /// Its ports, in order of its network interfaces.
    pub ports: Vec<PortRecord>,
    /// Answers that are given as they are, whatever would be rendered; ascending by path, each path once.
    pub pages: Vec<PageRecord>,
    /// Its tags and events; `None`: it has neither.
    pub notices: Option<Box<Notices>>,
}

impl fmt::Debug for InstanceRecord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("InstanceRecord").field("uuid", &self.uuid).finish_non_exhaustive()
    }
}

/// An instance's names in the EC2 tree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ec2Ids {
    /// `i-` and a number.
    pub instance_id: Box<str>,
    /// `ami-` and a number.
    pub ami_id: Option<Box<str>>,
    /// `aki-` and a number.
    pub kernel_id: Option<Box<str>>,
    /// `ari-` and a number.
    pub ramdisk_id: Option<Box<str>>,
}

/// A key pair.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyPair {
    /// Its name.
    pub name: Box<str>,
    /// What kind of key it is.
    pub kind: KeyKind,
    /// The public half, unchanged, final newline included.
    pub public_key: Box<str>,
}

/// Kinds of key pair.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyKind {
    /// For a Unix guest.
    Ssh,
    /// A certificate, for a Windows guest.
    X509,
}

impl KeyKind {
    /// Returns Nova's name of it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ssh => "ssh",
            Self::X509 => "x509",
        }
    }
}

impl fmt::Display for InstanceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for InstanceId {
    type Err = uuid::Error;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.parse().map(Self)
    }
}

impl fmt::Display for PortId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for PortId {
    type Err = uuid::Error;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.parse().map(Self)
    }
}

impl ProjectId {
    /// Returns the id as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl From<&str> for ProjectId {
    fn from(text: &str) -> Self {
        Self(text.into())
    }
}

impl fmt::Display for ProjectId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for MacAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

/// A text that is not an Ethernet address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a MAC address: write six pairs of hex digits with colons between, like fa:16:3e:00:00:01")]
pub struct MacAddressError;

impl FromStr for MacAddress {
    type Err = MacAddressError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut octets = [0; 6];
        let mut parts = text.split(':');
        for octet in &mut octets {
            let part = parts.next().ok_or(MacAddressError)?;
            if part.len() != 2 || !part.bytes().all(|byte| byte.is_ascii_hexdigit()) {
                return Err(MacAddressError);
            }
            *octet = u8::from_str_radix(part, 16).map_err(|_| MacAddressError)?;
        }
        parts.next().is_none().then_some(Self(octets)).ok_or(MacAddressError)
    }
}

/// Returns the network that holds just this address.
pub(crate) fn host_net(address: IpAddr) -> IpNet {
    IpNet::from(address)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mac_addresses_are_read_in_either_case_and_shown_in_lower_case() {
        let mac: MacAddress = "FA:16:3e:00:0A:01".parse().unwrap();
        assert_eq!(mac.to_string(), "fa:16:3e:00:0a:01");
        for wrong in
            ["", "fa:16:3e:00:0a", "fa:16:3e:00:0a:01:02", "fa-16-3e-00-0a-01", "fa:16:3e:00:0a:1", "+a:16:3e:00:0a:01"]
        {
            assert_eq!(wrong.parse::<MacAddress>(), Err(MacAddressError), "{wrong}");
        }
    }
}
