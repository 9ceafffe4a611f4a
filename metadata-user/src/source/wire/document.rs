//! The document's fields. The comments here are the descriptions in the JSON Schema, so they address whoever writes a
//! document.

use schemars::JsonSchema;
use serde::Deserialize;

use super::notices::EventDocument;
use super::pages::Pages;
use super::policy::PolicyDocument;
use super::value::{
    Base64Text, MacText, Metadata, NonEmptyText, UuidText, choice, choice_or_default, nullable, optional_choice,
    or_default,
};

mod port;

pub(super) use port::{Ipv6AddressMode, PortDocument, SubnetDocument};

/// What metadatad serves to one instance. Only `uuid`, `project_id` and one port are required. Names follow Nova's and
/// Neutron's; unknown fields are refused.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(title = "Instance document of metadatad")]
pub(super) struct Document {
    /// Where the schema is, for editors. Not read.
    #[serde(rename = "$schema", default)]
    pub(super) _schema: Option<String>,

    /// The instance's UUID.
    pub(super) uuid: UuidText,

    /// The id of the instance's project.
    pub(super) project_id: NonEmptyText,

    /// The instance's ports, in the order of its network interfaces.
    #[schemars(length(min = 1))]
    pub(super) ports: Vec<PortDocument>,

    /// The name that the owner gave the instance; any text. Default: the host name.
    #[serde(default, deserialize_with = "nullable")]
    #[schemars(with = "Option<String>")]
    pub(super) display_name: Option<Option<Box<str>>>,

    /// The host name without the domain: 1 to 255 letters, digits, dashes, dots and underscores. Default: what Nova 34 makes
    /// of `display_name`: lower case, spaces, underscores and dots as dashes, other punctuation and everything beyond
    /// Latin-1 dropped, cut at 63 characters; `Server-` and the UUID if nothing is left.
    #[serde(default)]
    #[schemars(schema_with = "super::convert::host_name::schema")]
    pub(super) hostname: Option<Box<str>>,

    /// The availability zone. Default: none (null).
    #[serde(default)]
    pub(super) availability_zone: Option<Box<str>>,

    /// The instance's place among those that were created by one request. Default: 0.
    #[serde(default, deserialize_with = "nullable")]
    #[schemars(with = "Option<i64>")]
    pub(super) launch_index: Option<Option<i64>>,

    /// The request that created the instance. Default: `r-` and the first 8 hex digits of the SHA-256 of
    /// `uuid`.
    #[serde(default, deserialize_with = "nullable")]
    #[schemars(with = "Option<String>")]
    pub(super) reservation_id: Option<Option<Box<str>>>,

    /// The flavor's name. Default: none; the EC2 tree shows `None`.
    #[serde(default)]
    pub(super) flavor: Option<Box<str>>,

    /// The image's id. Default: none, as for an instance that boots from a volume.
    #[serde(default)]
    pub(super) image_ref: Option<Box<str>>,

    /// The id of the image's kernel. Default: none.
    #[serde(default)]
    pub(super) kernel_id: Option<Box<str>>,

    /// The id of the image's initial RAM disk. Default: none.
    #[serde(default)]
    pub(super) ramdisk_id: Option<Box<str>>,

    /// The names of instance and image in the EC2 tree. Default of each: derived from `uuid`, `image_ref`, `kernel_id`
    /// and `ramdisk_id`, see there.
    #[serde(default, deserialize_with = "or_default")]
    #[schemars(with = "Option<Ec2IdsDocument>")]
    pub(super) ec2_ids: Ec2IdsDocument,

    /// The name of the instance's key. Default: the name of the first of `keypairs`.
    #[serde(default, deserialize_with = "nullable")]
    #[schemars(with = "Option<String>")]
    pub(super) key_name: Option<Option<Box<str>>>,

    /// The public key that the EC2 tree shows. Default: the key of the first of `keypairs`.
    #[serde(default, deserialize_with = "nullable")]
    #[schemars(with = "Option<String>")]
    pub(super) key_data: Option<Option<Box<str>>>,

    /// The key pairs stored with the instance; guests see the first. Default: one SSH key of `key_name` and `key_data`, if
    /// both are given.
    #[serde(default)]
    pub(super) keypairs: Option<Vec<KeyPairDocument>>,

    /// The owner's keys and values; all are texts, and their order is kept. Default: none.
    #[serde(default, deserialize_with = "or_default")]
    #[schemars(with = "Option<Metadata>")]
    pub(super) metadata: Metadata,

    /// User data as plain text. Default: none, which guests can distinguish from an empty text.
    #[serde(default)]
    pub(super) user_data: Option<Box<str>>,

    /// User data in base64, for what is not plain text. Not beside `user_data`.
    #[serde(default)]
    pub(super) user_data_b64: Option<Base64Text>,

    /// The root device. Default: `/dev/vda`.
    #[serde(default, deserialize_with = "nullable")]
    #[schemars(with = "Option<String>")]
    pub(super) root_device_name: Option<Option<Box<str>>>,

    /// The first ephemeral device. Default: none.
    #[serde(default)]
    pub(super) default_ephemeral_device: Option<Box<str>>,

    /// The swap device. Default: none.
    #[serde(default)]
    pub(super) default_swap_device: Option<Box<str>>,

    /// The instance's disks, in Nova's order. Default: none.
    #[serde(default, deserialize_with = "or_default")]
    #[schemars(with = "Option<Vec<BlockDeviceDocument>>")]
    pub(super) block_device_mapping: Vec<BlockDeviceDocument>,

    /// Devices with tags, VLANs and the like, in Nova's order. Default: none.
    #[serde(default)]
    pub(super) device_metadata: Option<Vec<DeviceDocument>>,

    /// The host CPUs that are this instance's own. Default: none.
    #[serde(default, deserialize_with = "or_default")]
    #[schemars(with = "Option<Vec<u32>>")]
    pub(super) dedicated_cpus: Vec<u32>,

    /// The names of the security groups as the EC2 tree lists them. Default: those of the ports, in order, repeats kept.
    #[serde(default)]
    pub(super) security_groups: Option<Vec<Box<str>>>,

    /// The EC2 tree's `local-ipv4`. Default: the first fixed IPv4 address, else the first fixed address.
    #[serde(default, deserialize_with = "nullable")]
    #[schemars(with = "Option<String>")]
    pub(super) local_ipv4: Option<Option<Box<str>>>,

    /// The password that the guest posted earlier. Default: none yet.
    #[serde(default)]
    pub(super) password: Option<Box<str>>,

    /// The roles of the user who booted the instance, with commas between, for dynamic vendor data. Default: none.
    #[serde(default)]
    pub(super) boot_roles: Option<Box<str>>,

    /// What this instance may do, where it differs from the node's configuration. Default: nothing differs.
    #[serde(default, deserialize_with = "or_default")]
    #[schemars(with = "Option<PolicyDocument>")]
    pub(super) policy: PolicyDocument,

    /// Answers that are given as they are, in place of what would be rendered, by path: without the first slash, and without
    /// `ec2/`. Null: there is no such path (404). Methods, errors and spellings of the path are as for everything else, and a
    /// `random_seed` in JSON is fresh in every answer. Default: none.
    #[serde(default, deserialize_with = "or_default")]
    #[schemars(with = "Option<Pages>")]
    pub(super) pages: Pages,

    /// Keys and values for the guest, at `/latest/meta-data/tags/instance/`, where `guests.extensions` is on; their order is kept. Default:
    /// none.
    #[serde(default, deserialize_with = "or_default")]
    #[schemars(with = "Option<Metadata>")]
    pub(super) tags: Metadata,

    /// Scheduled maintenance, which the guest reads at `/openstack/latest/events`, where `guests.extensions` is on; their order is kept.
    /// Default: none.
    #[serde(default, deserialize_with = "or_default")]
    #[schemars(with = "Option<Vec<EventDocument>>", length(max = 64))]
    pub(super) events: Vec<EventDocument>,
}

/// Names in the EC2 tree.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Ec2IdsDocument {
    /// The instance's. Default: `i-` and the first 8 hex digits of the SHA-256 of `uuid`, as
    /// `printf %s UUID | sha256sum` prints it.
    #[serde(default)]
    pub(super) instance_id: Option<NonEmptyText>,

    /// The image's; null is an instance without an image. Default: `ami-` and the first 8 hex digits of the SHA-256
    /// of `image_ref`.
    #[serde(default, deserialize_with = "nullable")]
    #[schemars(with = "Option<String>")]
    pub(super) ami_id: Option<Option<Box<str>>>,

    /// The kernel's; null if there is none. Default: `aki-` and the first 8 hex digits of the SHA-256
    /// of `kernel_id`.
    #[serde(default, deserialize_with = "nullable")]
    #[schemars(with = "Option<String>")]
    pub(super) kernel_id: Option<Option<Box<str>>>,

    /// The RAM disk's; null if there is none. Default: `ari-` and the first 8 hex digits of the SHA-256
    /// of `ramdisk_id`.
    #[serde(default, deserialize_with = "nullable")]
    #[schemars(with = "Option<String>")]
    pub(super) ramdisk_id: Option<Option<Box<str>>>,
}

/// A key pair.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct KeyPairDocument {
    /// Its name.
    pub(super) name: Box<str>,

    /// What kind of key it is. Default: `ssh`.
    #[serde(rename = "type", default, deserialize_with = "choice_or_default")]
    #[schemars(with = "Option<KeyKindDocument>")]
    pub(super) kind: KeyKindDocument,

    /// The public key, served unchanged.
    pub(super) public_key: Box<str>,
}

/// Kinds of key pair.
#[derive(Clone, Copy, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(super) enum KeyKindDocument {
    /// An SSH key.
    #[default]
    Ssh,
    /// A certificate, for Windows.
    X509,
}

/// A disk.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct BlockDeviceDocument {
    /// Where its content came from.
    #[serde(deserialize_with = "choice")]
    pub(super) source_type: SourceType,

    /// What it is. Default: `volume` for a volume or a snapshot, else `local`.
    #[serde(default, deserialize_with = "optional_choice")]
    pub(super) destination_type: Option<DestinationType>,

    /// Its name, for example `/dev/vdb`. Default: unknown (null).
    #[serde(default)]
    pub(super) device_name: Option<Box<str>>,

    /// How it is formatted, for example `swap`. Default: unknown (null).
    #[serde(default)]
    pub(super) guest_format: Option<Box<str>>,
}

/// Where a disk's content came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(super) enum SourceType {
    /// An image.
    Image,
    /// A volume.
    Volume,
    /// A snapshot of a volume.
    Snapshot,
    /// Nothing.
    Blank,
}

/// What a disk is.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(super) enum DestinationType {
    /// A volume.
    Volume,
    /// A disk of the compute node.
    Local,
}

/// A device with metadata. Which fields go with which type: `mac`, `vlan` and `vf_trusted` with a nic; `serial` and `path`
/// with a disk; `share_id` and `tag` with a share; `bus` and `tags` with all.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct DeviceDocument {
    /// What it is.
    #[serde(rename = "type", deserialize_with = "choice")]
    pub(super) kind: DeviceType,

    /// Where it is plugged. Default: unknown; guests read `none`.
    #[serde(default)]
    pub(super) bus: Option<BusDocument>,

    /// Its tags. An empty list is not the same as none.
    #[serde(default)]
    pub(super) tags: Option<Vec<Box<str>>>,

    /// A nic's MAC address; required for a nic.
    #[serde(default)]
    pub(super) mac: Option<MacText>,

    /// A nic's VLAN. Default: none.
    #[serde(default)]
    pub(super) vlan: Option<u32>,

    /// Whether a nic is a trusted virtual function. Default: false.
    #[serde(default)]
    pub(super) vf_trusted: Option<bool>,

    /// A disk's serial number. Null is shown as null; without the field nothing is shown.
    #[serde(default, deserialize_with = "nullable")]
    #[schemars(with = "Option<String>")]
    pub(super) serial: Option<Option<Box<str>>>,

    /// A disk's path. Null is shown as null; without the field nothing is shown.
    #[serde(default, deserialize_with = "nullable")]
    #[schemars(with = "Option<String>")]
    pub(super) path: Option<Option<Box<str>>>,

    /// A share's id; required for a share.
    #[serde(default)]
    pub(super) share_id: Option<Box<str>>,

    /// The name to mount a share by; required for a share.
    #[serde(default)]
    pub(super) tag: Option<Box<str>>,
}

/// Kinds of device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(super) enum DeviceType {
    /// A network interface.
    Nic,
    /// A disk.
    Disk,
    /// A shared file system.
    Share,
}

/// A place on a bus.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct BusDocument {
    /// The bus.
    #[serde(rename = "type", deserialize_with = "choice")]
    pub(super) kind: BusType,

    /// The place on it, for example `0000:00:03.0`. Default: unknown; guests read `none`.
    #[serde(default)]
    pub(super) address: Option<Box<str>>,
}

/// Buses.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(super) enum BusType {
    Pci,
    Usb,
    Scsi,
    Ide,
    Xen,
}
