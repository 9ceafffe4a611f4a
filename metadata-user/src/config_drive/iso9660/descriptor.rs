//! Volume descriptors (ECMA-119, section 8) and path tables (9.4).

use super::record::{self, Extent, both, byte};
use super::{SECTOR, Tree, Volume};
use crate::config_drive::LABEL;

/// The path tables of a volume: numbers with the lower byte first, and with the higher one first.
#[derive(Clone, Copy, Debug)]
pub(super) struct PathTables {
    pub(super) little: Extent,
    pub(super) big: Extent,
}

/// What made the image; letters that every field may have.
const MAKER: &str = "METADATAD";

/// What says that names are UCS-2, with every character that this has: level 3 of Joliet.
const UCS2: &[u8] = b"%/E";

/// A date as descriptors have it, and one that is not given.
const DATE: &[u8; 17] = b"1980010100000000\0";
const NO_DATE: &[u8; 17] = b"0000000000000000\0";

/// Returns a volume's descriptor. `end`: the number of sectors.
pub(super) fn volume(volume: Volume, end: u32, tables: &PathTables, root: Extent) -> [u8; SECTOR] {
    let mut sector = [0; SECTOR];
    let mut put = |at: usize, bytes: &[u8]| sector[at..at + bytes.len()].copy_from_slice(bytes);
    put(0, &[if volume == Volume::Primary { 1 } else { 2 }]);
    put(1, b"CD001\x01");
    for (at, length, value) in [
        // Of the system.
        (8, 32, ""),
        (40, 32, LABEL),
        // Of the set of volumes.
        (190, 128, ""),
        (318, 128, MAKER),
        // Of who prepared it.
        (446, 128, ""),
        (574, 128, MAKER),
        // Files with the copyright, an abstract, and a bibliography.
        (702, 37, ""),
        (739, 37, ""),
        (776, 37, ""),
    ] {
        put(at, &text(volume, value, length));
    }
    put(80, &both(end));
    if volume == Volume::Joliet {
        put(88, UCS2);
    }
    // One volume, the first; bytes of a block.
    for (at, number) in [(120, 1_u16), (124, 1), (128, 2048)] {
        put(at, &number.to_le_bytes());
        put(at + 2, &number.to_be_bytes());
    }
    put(132, &both(tables.little.length));
    put(140, &tables.little.sector.to_le_bytes());
    put(148, &tables.big.sector.to_be_bytes());
    put(156, &record::root(root));
    // Made and changed; then when it ends and begins to be valid.
    for (at, date) in [(813, DATE), (830, DATE), (847, NO_DATE), (864, NO_DATE)] {
        put(at, date);
    }
    // The version of this structure.
    put(881, &[1]);
    sector
}

/// Returns the descriptor that ends the list of descriptors.
pub(super) fn end() -> [u8; SECTOR] {
    let mut sector = [0; SECTOR];
    sector[..7].copy_from_slice(b"\xffCD001\x01");
    sector
}

/// Returns a text, with blanks up to its length. UCS-2 leaves the last byte of an odd length 0.
fn text(volume: Volume, value: &str, length: usize) -> Vec<u8> {
    let mut bytes = volume.identifier(value, false);
    while bytes.len() + 1 < length || bytes.len() < length && volume == Volume::Primary {
        bytes.extend(volume.identifier(" ", false));
    }
    bytes.resize(length, 0);
    bytes
}

/// Returns a path table: each directory in order, with the place of its parent among them. `extents` are by place in the tree; without
/// them, only the length counts.
pub(super) fn path_table(
    volume: Volume,
    tree: &Tree,
    order: &[usize],
    extents: &[Extent],
    number: fn(u32) -> [u8; 4],
) -> Vec<u8> {
    let is_big = number(1) == 1_u32.to_be_bytes();
    let mut bytes = Vec::new();
    for &place in order {
        let directory = &tree.directories[place];
        let identifier = if place == 0 { vec![0] } else { volume.identifier(&directory.name, false) };
        let parent = order.iter().position(|other| *other == directory.parent).unwrap_or_default() + 1;
        let parent = u16::try_from(parent).unwrap_or(u16::MAX);
        bytes.extend([byte(identifier.len()), 0]);
        bytes.extend(number(extents.get(place).copied().unwrap_or_default().sector));
        bytes.extend(if is_big { parent.to_be_bytes() } else { parent.to_le_bytes() });
        bytes.extend(identifier);
        bytes.resize(bytes.len().next_multiple_of(2), 0);
    }
    bytes
}
