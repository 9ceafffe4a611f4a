//! `[configdrive]`: images of config drives that are kept current.

use std::path::PathBuf;

use super::key::{Key, Table};
use super::kind::{AbsolutePath, Choice, Text};
use super::refusal::{Fault, Refusal};
use super::written::Reader;

/// `[configdrive]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigDrive {
    /// Which instances have an image.
    pub auto: AutoDrive,
    /// Where images are.
    pub directory: PathBuf,
    /// Their format.
    pub format: DriveFormat,
    /// Name of the group that may read them; empty: none.
    pub group: String,
}

/// Which instances have an image of their config drive on the node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AutoDrive {
    /// None.
    Off,
    /// Those with a port that has no tap, or without a port: no packet from there reaches the service.
    UnreachablePorts,
    /// All.
    All,
}

/// How files are laid out in an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DriveFormat {
    /// As on a compact disc: ISO 9660 with Rock Ridge and Joliet.
    Iso9660,
    /// As on a disk: FAT with long names.
    Vfat,
}

pub(super) static TABLE: Table = Table {
    name: "configdrive",
    about: "Images of config drives that are kept current, for guests that cannot reach the service: docs/config-drive.md. They hold \
            user data in the clear.",
    keys: &[&AUTO, &DIRECTORY, &FORMAT, &GROUP],
    tables: &[],
    is_optional: false,
    live: &[],
};

static AUTO: Key<Choice<AutoDrive>> = Key {
    name: "auto",
    kind: Choice(&[
        ("off", AutoDrive::Off),
        ("unreachable-ports", AutoDrive::UnreachablePorts),
        ("all", AutoDrive::All),
    ]),
    default: "\"off\"",
    about: "Which instances have an image: \"off\": none. \"unreachable-ports\": those with a port that has no tap, as with SR-IOV and \
            vhost-user, and those without a port. \"all\": all, as for FreeBSD guests.",
    reason: "An image is a copy of the instance's secrets, and only whoever starts guests can attach it.",
};

static DIRECTORY: Key<AbsolutePath> = Key {
    name: "directory",
    kind: AbsolutePath::File,
    default: "\"/run/metadatad/config-drives\"",
    about: "The directory of the images, `UUID.iso` or `UUID.img`. It is made if just it is missing; one that is there must be root's, and \
            nobody else's to write to.",
    reason: "In memory, not on the disk. metadatad.service keeps it while the daemon is stopped.",
};

static FORMAT: Key<Choice<DriveFormat>> = Key {
    name: "format",
    kind: Choice(&[("iso9660", DriveFormat::Iso9660), ("vfat", DriveFormat::Vfat)]),
    default: "\"iso9660\"",
    about: "\"iso9660\", for a CD-ROM drive, or \"vfat\", for a disk of at least 4 MB.",
    reason: "Nova's default; an image has some 150 KB.",
};

static GROUP: Key<Text<String>> = Key {
    name: "group",
    kind: Text { what: "the name of a group, or nothing", check: group },
    default: "\"\"",
    about: "The group that may read images (mode 0640), such as the one that QEMU runs as. \"\": none (mode 0600). Without a group of this \
            name images are for root alone, and `metadatad status` shows an error.",
    reason: "libvirt gives a guest's images to QEMU's user when it starts the guest.",
};

/// Longest name of a group: what useradd(8) and its kin make.
const LONGEST_GROUP: usize = 32;

fn group(name: &str) -> Result<String, Fault> {
    if name.len() <= LONGEST_GROUP && name.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'/' && byte != b':') {
        return Ok(name.to_owned());
    }
    let remedy = format!("use at most {LONGEST_GROUP} letters, digits, `-`, `_` or `.`");
    Err(Fault::new(format!("`{name}` is not a possible name of a group"), remedy))
}

pub(super) fn read(table: &Reader<'_>) -> Result<ConfigDrive, Refusal> {
    Ok(ConfigDrive {
        auto: table.value(&AUTO)?,
        directory: table.value(&DIRECTORY)?,
        format: table.value(&FORMAT)?,
        group: table.value(&GROUP)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::tests::{read, refuses};

    #[test]
    fn values_are_taken_as_written() {
        let text = "[configdrive]\nauto = 'unreachable-ports'\ndirectory = '/a/b'\nformat = 'vfat'\ngroup = 'kvm'\n";
        let expected = ConfigDrive {
            auto: AutoDrive::UnreachablePorts,
            directory: "/a/b".into(),
            format: DriveFormat::Vfat,
            group: "kvm".to_owned(),
        };
        assert_eq!(read(text).expect("accepted").configdrive, expected);
        let default = read("").expect("accepted").configdrive;
        assert_eq!((default.auto, default.group.as_str()), (AutoDrive::Off, ""));
    }

    #[test]
    fn refusals_name_place_and_remedy() {
        refuses(&[
            ("[configdrive]\nauto = 'on'", "m.toml:2:8", "not known here", "\"unreachable-ports\""),
            ("[configdrive]\ndirectory = 'a'", "m.toml:2:13", "not an absolute path", "from `/`"),
            ("[configdrive]\nformat = 'iso'", "m.toml:2:10", "not known here", "\"iso9660\""),
            ("[configdrive]\ngroup = 'a b'", "m.toml:2:9", "not a possible name", "at most 32"),
        ]);
    }
}
