//! Directory records (ECMA-119, 9.1), with what Rock Ridge adds to them (IEEE P1281, P1282) in the primary volume.
//!
//! Left out: every field of Rock Ridge but `PX`, `NM` and those that announce it; times are those of the records.

use super::{SECTOR, Volume};

/// Where a file or a directory is, and how many bytes it has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Extent {
    pub(super) sector: u32,
    pub(super) length: u32,
}

/// What a record stands for. Directories have as many links as directories that name them.
#[derive(Debug)]
pub(super) enum Role<'a> {
    /// The directory that it is in. The root's names the sector with Rock Ridge's own name.
    Itself {
        links: u32,
        extensions: Option<u32>,
    },
    /// The directory above.
    Parent {
        links: u32,
    },
    Directory {
        name: &'a str,
        links: u32,
    },
    File {
        name: &'a str,
    },
}

/// The first of January 1980, in years since 1900.
const DATE: [u8; 7] = [80, 1, 1, 0, 0, 0, 0];

/// The flag of a directory.
const DIRECTORY: u8 = 2;

/// `S_IFDIR | 0555` and `S_IFREG | 0444`.
const MODES: (u32, u32) = (0o040_555, 0o100_444);

/// Bytes of a record before the identifier.
const HEAD: usize = 33;

/// A number in both byte orders (7.3.3).
pub(super) fn both(number: u32) -> [u8; 8] {
    let mut bytes = [0; 8];
    bytes[..4].copy_from_slice(&number.to_le_bytes());
    bytes[4..].copy_from_slice(&number.to_be_bytes());
    bytes
}

/// Returns the record of the root as a descriptor has it: without Rock Ridge.
pub(super) fn root(extent: Extent) -> Vec<u8> {
    plain(&[0], extent, true, &[])
}

/// Returns a record. Its length is even, and does not depend on the extent.
pub(super) fn record(volume: Volume, role: &Role<'_>, extent: Extent) -> Vec<u8> {
    let (identifier, is_directory) = match role {
        Role::Itself { .. } => (vec![0], true),
        Role::Parent { .. } => (vec![1], true),
        Role::Directory { name, .. } => (volume.identifier(name, false), true),
        Role::File { name } => (volume.identifier(name, true), false),
    };
    let system_use = if volume == Volume::Primary { system_use(role) } else { Vec::new() };
    plain(&identifier, extent, is_directory, &system_use)
}

fn plain(identifier: &[u8], extent: Extent, is_directory: bool, system_use: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0, 0];
    bytes.extend(both(extent.sector));
    bytes.extend(both(extent.length));
    bytes.extend(DATE);
    // Flags; no interleaving; the first volume of the set, in both byte orders.
    bytes.extend([if is_directory { DIRECTORY } else { 0 }, 0, 0, 1, 0, 0, 1]);
    bytes.push(byte(identifier.len()));
    debug_assert_eq!(bytes.len(), HEAD);
    bytes.extend(identifier);
    bytes.resize(bytes.len().next_multiple_of(2), 0);
    bytes.extend(system_use);
    bytes.resize(bytes.len().next_multiple_of(2), 0);
    bytes[0] = byte(bytes.len());
    bytes
}

/// Returns a length that names of this size keep below 256.
pub(super) fn byte(length: usize) -> u8 {
    debug_assert!(length < 256, "{length}");
    u8::try_from(length).unwrap_or(u8::MAX)
}

fn system_use(role: &Role<'_>) -> Vec<u8> {
    let mut bytes = Vec::new();
    if let Role::Itself { extensions: Some(_), .. } = role {
        // The sharing protocol is in use, and nothing stands before its fields.
        bytes.extend(*b"SP\x07\x01\xbe\xef\x00");
    }
    let (mode, links) = match role {
        Role::Itself { links, .. } | Role::Parent { links } | Role::Directory { links, .. } => (MODES.0, *links),
        Role::File { .. } => (MODES.1, 1),
    };
    bytes.extend(*b"PX\x24\x01");
    for number in [mode, links, 0, 0] {
        bytes.extend(both(number));
    }
    if let Role::Directory { name, .. } | Role::File { name } = role {
        bytes.extend([b'N', b'M', byte(name.len() + 5), 1, 0]);
        bytes.extend(name.bytes());
    }
    if let Role::Itself { extensions: Some(sector), .. } = role {
        // What follows is at the start of that sector.
        bytes.extend(*b"CE\x1c\x01");
        for number in [*sector, 0, u32::try_from(rock_ridge().len()).unwrap_or(0)] {
            bytes.extend(both(number));
        }
    }
    bytes
}

/// Returns the field that says that Rock Ridge is in use, with the texts that P1282 prescribes.
pub(super) fn rock_ridge() -> Vec<u8> {
    const ID: &[u8] = b"RRIP_1991A";
    const DESCRIPTION: &[u8] = b"THE ROCK RIDGE INTERCHANGE PROTOCOL PROVIDES SUPPORT FOR POSIX FILE SYSTEM SEMANTICS";
    const SOURCE: &[u8] =
        b"PLEASE CONTACT DISC PUBLISHER FOR SPECIFICATION SOURCE.  SEE PUBLISHER IDENTIFIER IN PRIMARY \
                            VOLUME DESCRIPTOR FOR CONTACT INFORMATION.";
    let texts = [ID, DESCRIPTION, SOURCE];
    let length = 8 + texts.iter().map(|text| text.len()).sum::<usize>();
    debug_assert!(length < SECTOR);
    let mut bytes = vec![b'E', b'R', byte(length), 1];
    bytes.extend(texts.map(|text| byte(text.len())));
    bytes.push(1);
    bytes.extend(texts.concat());
    bytes
}
