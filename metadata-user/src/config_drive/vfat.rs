//! A FAT image with long names (VFAT), as Nova has `mkfs.vfat` and the kernel make one.
//!
//! Promises:
//! - a reader sees every name as it is, and one that knows short names only sees each under one of its own;
//! - it is FAT with 16 bits, whatever its size: for that it has at least [`LEAST`] clusters, which is 4 MB;
//! - its bytes depend on the files alone: every date is the first of 1980, as in [`super::iso9660`], and the serial number is a constant.
//!
//! Left out: what a volume needs that is written to, such as room; partitions, as Nova's images have none; names, depths and sizes that a
//! config drive has not (see [`super::tree`]).
//!
//! The crate `fatfs` 0.3 would be there for this, but gives `.` and `..` long names, which fsck.fat takes for damage, and impossible dates.
//!
//! | sectors | what |
//! |---|---|
//! | 0 | the boot sector, with the sizes of all others |
//! | 1 on | two equal tables, of where each cluster's file goes on |
//! | then | the root directory |
//! | then | clusters, from number 2 on: directories and files, each in one piece |

mod names;

use self::names::{LABEL_ENTRY, entries, long_name_entries};
use super::LABEL;
use super::tree::{Directory, Node, Tree, TreeError};
use crate::api::DriveFile;

/// Bytes of a sector.
const SECTOR: usize = 512;

/// Bytes of an entry of a directory.
const ENTRY: usize = 32;

/// Least clusters of an image. Below 4,085 it would be FAT with 12 bits; Microsoft's specification advises to keep away from that number.
const LEAST: usize = 8_000;

/// Most clusters of an image that needs so many: below 65,525, where FAT with 32 bits begins, with room for what rounding adds.
const MOST: usize = 65_400;

/// Most sectors of a cluster: 32 KiB.
const LARGEST: usize = 64;

/// Sectors of a track, and heads: a geometry that any size is a multiple of, as readers from the days of disks want.
const TRACK: usize = 32;
const HEADS: usize = 2;

/// Least entries of the root directory, as mkfs.vfat has them.
const ROOT: usize = 512;

/// The volume's serial number.
const SERIAL: u32 = 0xc0f1_6002;

/// The mark of a file's last cluster.
const LAST: u16 = 0xffff;

/// Returns an image with these files.
pub(super) fn image(files: &[DriveFile]) -> Result<Vec<u8>, TreeError> {
    let tree = Tree::of(files)?;
    let layout = Layout::of(&tree)?;
    Ok(layout.write(&tree))
}

/// Sizes, in sectors where nothing else is said.
#[derive(Debug)]
struct Layout {
    cluster: usize,
    table: usize,
    root: usize,
    total: usize,
}

impl Layout {
    fn of(tree: &Tree) -> Result<Self, TreeError> {
        let (root, below) =
            tree.directories.split_first().map_or((0, &[][..]), |(root, below)| (bytes_of(root, true), below));
        let bodies = || {
            tree.directories.iter().flat_map(|directory| &directory.entries).map(|entry| match &entry.node {
                Node::Directory(_) => 0,
                Node::File(body) => body.len(),
            })
        };
        let needed = |cluster: usize| -> usize {
            let sizes = bodies().chain(below.iter().map(|directory| bytes_of(directory, false)));
            sizes.map(|bytes| bytes.div_ceil(cluster * SECTOR)).sum()
        };
        let mut clusters =
            std::iter::successors(Some(1), |cluster| Some(cluster * 2)).take_while(|cluster| *cluster <= LARGEST);
        let Some(cluster) = clusters.find(|cluster| needed(*cluster) <= MOST) else {
            return Err(TreeError::Size(bodies().map(|bytes| bytes as u64).sum()));
        };
        let count = needed(cluster).max(LEAST);
        // Rounding adds clusters, which have entries too, beside the two that no cluster has.
        let table = ((count + TRACK * HEADS + 2) * 2).div_ceil(SECTOR);
        let root = root.max(ROOT * ENTRY).div_ceil(SECTOR);
        let total = (1 + 2 * table + root + count * cluster).next_multiple_of(TRACK * HEADS);
        Ok(Self { cluster, table, root, total })
    }

    /// Returns the first sector of a cluster.
    fn sector(&self, cluster: u16) -> usize {
        1 + 2 * self.table + self.root + (usize::from(cluster) - 2) * self.cluster
    }

    fn write(&self, tree: &Tree) -> Vec<u8> {
        let mut image = Image { bytes: vec![0; self.total * SECTOR], layout: self, next: 2 };
        image.put(0, &self.boot_sector());
        image.link(0, 0xfff8);
        image.link(1, LAST);
        // A directory's entries need the clusters of those in it, and these the cluster of the one above.
        let places: Vec<u16> = tree
            .directories
            .iter()
            .enumerate()
            .map(|(place, directory)| match place {
                0 => 0,
                _ => image.take(bytes_of(directory, false)),
            })
            .collect();
        for (place, directory) in tree.directories.iter().enumerate() {
            let mut bytes = match place {
                0 => LABEL_ENTRY.to_vec(),
                _ => entries::dots(places[place], places[directory.parent]),
            };
            for (number, entry) in directory.entries.iter().enumerate() {
                let (cluster, length) = match &entry.node {
                    Node::Directory(place) => (places[*place], None),
                    Node::File(body) => {
                        let cluster = image.take(body.len());
                        if cluster != 0 {
                            image.put(self.sector(cluster), body);
                        }
                        (cluster, Some(body.len()))
                    }
                };
                bytes.extend(entries::of(&entry.name, number, cluster, length));
            }
            let sector = if place == 0 { 1 + 2 * self.table } else { self.sector(places[place]) };
            image.put(sector, &bytes);
        }
        let table = image.bytes[SECTOR..(1 + self.table) * SECTOR].to_vec();
        image.put(1 + self.table, &table);
        image.bytes
    }

    fn boot_sector(&self) -> [u8; SECTOR] {
        // All but the last are far below these limits.
        let number = |value: usize| u16::try_from(value).unwrap_or(0).to_le_bytes();
        let mut sector = [0; SECTOR];
        let mut put = |at: usize, bytes: &[u8]| sector[at..at + bytes.len()].copy_from_slice(bytes);
        // A jump over all this, to nothing; and a name that every reader knows.
        put(0, b"\xeb\x3c\x90MSDOS5.0");
        put(11, &number(SECTOR));
        put(13, &number(self.cluster)[..1]);
        // Sectors before the tables; tables.
        put(14, &[1, 0, 2]);
        put(17, &number(self.root * SECTOR / ENTRY));
        // One of two fields, by size.
        put(19, &number(self.total));
        // A disk that is not taken out.
        put(21, &[0xf8]);
        put(22, &number(self.table));
        put(24, &number(TRACK));
        put(26, &number(HEADS));
        if u16::try_from(self.total).is_err() {
            put(32, &u32::try_from(self.total).unwrap_or(u32::MAX).to_le_bytes());
        }
        // The first disk; and that three more fields follow.
        put(36, &[0x80, 0, 0x29]);
        put(39, &SERIAL.to_le_bytes());
        put(43, &LABEL_ENTRY[..11]);
        put(54, b"FAT16   ");
        put(510, b"\x55\xaa");
        debug_assert!(LABEL_ENTRY.starts_with(LABEL.as_bytes()));
        sector
    }
}

/// Returns the bytes of a directory's entries.
fn bytes_of(directory: &Directory, is_root: bool) -> usize {
    // The label, or `.` and `..`.
    let own = if is_root { 1 } else { 2 };
    let entries: usize = directory.entries.iter().map(|entry| long_name_entries(&entry.name) + 1).sum();
    (own + entries) * ENTRY
}

struct Image<'a> {
    bytes: Vec<u8>,
    layout: &'a Layout,
    /// The next cluster that is free.
    next: u16,
}

impl Image<'_> {
    fn put(&mut self, sector: usize, bytes: &[u8]) {
        self.bytes[sector * SECTOR..][..bytes.len()].copy_from_slice(bytes);
    }

    /// Takes clusters, one after the other, and returns the first; 0 for nothing.
    fn take(&mut self, bytes: usize) -> u16 {
        let count = bytes.div_ceil(self.layout.cluster * SECTOR);
        let first = self.next;
        for number in 1..=count {
            let own = self.next;
            // The layout has so many.
            self.next = own.saturating_add(1);
            self.link(own, if number == count { LAST } else { self.next });
        }
        if count == 0 { 0 } else { first }
    }

    /// Writes where a cluster's file goes on, to the first table.
    fn link(&mut self, cluster: u16, next: u16) {
        self.bytes[SECTOR + usize::from(cluster) * 2..][..2].copy_from_slice(&next.to_le_bytes());
    }
}

#[cfg(test)]
mod tests;
