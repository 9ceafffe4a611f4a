//! An instance's disks and the devices it was given metadata for.

use super::MacAddress;

/// A disk: a row of Nova's block device mapping.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BlockDevice {
    /// Whether it is a volume, rather than a disk of the node.
    pub is_volume: bool,
    /// Whether it was empty at first.
    pub is_blank: bool,
    /// Its name, for example `/dev/vdb`.
    pub device_name: Option<Box<str>>,
    /// How it is formatted, for example `swap`.
    pub guest_format: Option<Box<str>>,
}

/// A device with metadata.
///
/// Nova distinguishes a field that was never set from one that is null; where both occur, the outer `Option` is "set".
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Device {
    /// What it is.
    pub kind: DeviceKind,
    /// Where it is plugged.
    pub bus: Option<Bus>,
    /// Its tags.
    pub tags: Option<Vec<Box<str>>>,
}

/// What a device is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DeviceKind {
    /// A network interface.
    Nic {
        /// Its Ethernet address.
        mac: MacAddress,
        /// Its VLAN, of a hardware network interface.
        vlan: Option<u32>,
        /// Whether it is a trusted virtual function.
        vf_trusted: bool,
    },
    /// A disk.
    Disk {
        /// Its serial number.
        serial: Option<Option<Box<str>>>,
        /// Its path.
        path: Option<Option<Box<str>>>,
    },
    /// A shared file system.
    Share {
        /// The share.
        share_id: Box<str>,
        /// The name to mount it by.
        tag: Box<str>,
    },
}

/// A place on a bus.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bus {
    /// `pci`, `usb`, `scsi`, `ide` or `xen`.
    pub kind: &'static str,
    /// The place.
    pub address: Option<Box<str>>,
}
