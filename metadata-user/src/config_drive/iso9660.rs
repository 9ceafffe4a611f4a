//! An ISO 9660 image (ECMA-119) with Rock Ridge and Joliet, as Nova has `mkisofs` make one.
//!
//! Promises:
//! - a reader sees every name as it is by whichever of the three it knows: the primary volume has lower-case names with several dots,
//!   as Nova's images (`-allow-lowercase -allow-multidot -l`), Rock Ridge repeats them with modes, and Joliet has them for Windows;
//! - files are root's and readable by all (`-r`);
//! - equal files share their bytes in the image: the user data that every version has is there once;
//! - the bytes depend on the files alone: every date is the first of 1980, as in [`super::vfat`].
//!
//! Left out: names, depths and sizes that a config drive has not (see [`super::tree`]), files of several extents, symbolic links, boot
//! records.
//!
//! | sectors | what |
//! |---|---|
//! | 0–15 | nothing: the system area |
//! | 16, 17, 18 | primary descriptor, Joliet's descriptor, end of descriptors |
//! | 19 on | path tables: primary and Joliet's, each in both byte orders |
//! | then | primary directories; the sector that names Rock Ridge; Joliet's directories |
//! | then | files |

mod descriptor;
mod record;

use std::collections::HashMap;

use bytes::Bytes;

use self::descriptor::PathTables;
use self::record::{Extent, Role};
use super::tree::{Directory, Entry, Node, Tree, TreeError};
use crate::api::DriveFile;

/// Bytes of a sector, and of a logical block.
const SECTOR: usize = 2048;

/// The first sector after the volume descriptors.
const FIRST_TABLE: u32 = 19;

/// Which of the two trees of directories.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Volume {
    /// With Rock Ridge.
    Primary,
    Joliet,
}

impl Volume {
    /// Returns how a name is written in directories and path tables.
    fn identifier(self, name: &str, is_file: bool) -> Vec<u8> {
        let version = if is_file { ";1" } else { "" };
        let characters = name.bytes().chain(version.bytes());
        match self {
            Self::Primary => characters.collect(),
            // UCS-2, the higher byte first.
            Self::Joliet => characters.flat_map(|character| [0, character]).collect(),
        }
    }
}

/// Returns an image with these files.
pub(super) fn image(files: &[DriveFile]) -> Result<Vec<u8>, TreeError> {
    let mut tree = Tree::of(files)?;
    for directory in &mut tree.directories {
        directory.entries.sort_by(|a, b| order(&a.name).cmp(&order(&b.name)));
    }
    let bytes = files.iter().map(|file| file.body.len() as u64 + SECTOR as u64).sum();
    // A block's number, and a file's length, have 32 bits.
    if u32::try_from(bytes).is_err() {
        return Err(TreeError::Size(bytes));
    }
    Ok(Layout::of(&tree).write(&tree))
}

/// Returns what entries of a directory are sorted by: the name before the first dot, then what is behind it (9.3). All characters of names
/// come after the blank, by which the shorter of two is filled up.
fn order(name: &str) -> (&str, &str) {
    name.split_once('.').unwrap_or((name, ""))
}

/// Where everything is.
struct Layout {
    /// Directories of the tree, in the order of path tables: by level, then by parent, then by name.
    order: Vec<usize>,
    tables: [PathTables; 2],
    /// By place in the tree, of the primary volume and of Joliet's.
    directories: [Vec<Extent>; 2],
    /// The sector that names Rock Ridge.
    extensions: u32,
    files: HashMap<Bytes, Extent>,
    /// The number of sectors.
    end: u32,
}

impl Layout {
    fn of(tree: &Tree) -> Self {
        let order = path_table_order(tree);
        let mut next = Sectors(FIRST_TABLE);
        let tables = [Volume::Primary, Volume::Joliet].map(|volume| {
            let length = descriptor::path_table(volume, tree, &order, &[], u32::to_le_bytes).len();
            PathTables { little: next.take(length), big: next.take(length) }
        });
        let directories_of = |volume, next: &mut Sectors| {
            let mut extents = vec![Extent::default(); tree.directories.len()];
            for &place in &order {
                // How long a record is does not depend on what it points to.
                let length = directory(volume, tree, place, &extents, &HashMap::new(), 0).len();
                extents[place] = next.take(length);
            }
            extents
        };
        let primary = directories_of(Volume::Primary, &mut next);
        let extensions = next.take(SECTOR).sector;
        let joliet = directories_of(Volume::Joliet, &mut next);
        let mut files = HashMap::new();
        for body in order.iter().flat_map(|place| &tree.directories[*place].entries).filter_map(file) {
            files.entry(body.clone()).or_insert_with(|| next.take(body.len()));
        }
        Self { order, tables, directories: [primary, joliet], extensions, files, end: next.0 }
    }

    fn write(&self, tree: &Tree) -> Vec<u8> {
        let mut image = Image(vec![0; self.end as usize * SECTOR]);
        for (number, volume) in [Volume::Primary, Volume::Joliet].into_iter().enumerate() {
            let (tables, extents) = (&self.tables[number], &self.directories[number]);
            image.put(16 + number, &descriptor::volume(volume, self.end, tables, extents[0]));
            for (extent, bytes) in [
                (tables.little, descriptor::path_table(volume, tree, &self.order, extents, u32::to_le_bytes)),
                (tables.big, descriptor::path_table(volume, tree, &self.order, extents, u32::to_be_bytes)),
            ] {
                image.put(extent.sector as usize, &bytes);
            }
            for &place in &self.order {
                let bytes = directory(volume, tree, place, extents, &self.files, self.extensions);
                image.put(extents[place].sector as usize, &bytes);
            }
        }
        image.put(18, &descriptor::end());
        image.put(self.extensions as usize, &record::rock_ridge());
        for (body, extent) in &self.files {
            image.put(extent.sector as usize, body);
        }
        image.0
    }
}

/// The next sector that is free.
struct Sectors(u32);

impl Sectors {
    /// Takes as many as hold these bytes. The caller has checked that all bytes together have a number of 32 bits.
    fn take(&mut self, bytes: usize) -> Extent {
        let number = |value: usize| u32::try_from(value).unwrap_or(u32::MAX);
        let extent = Extent { sector: self.0, length: number(bytes) };
        self.0 += number(bytes.div_ceil(SECTOR));
        extent
    }
}

struct Image(Vec<u8>);

impl Image {
    fn put(&mut self, sector: usize, bytes: &[u8]) {
        let start = sector * SECTOR;
        self.0[start..start + bytes.len()].copy_from_slice(bytes);
    }
}

fn file(entry: &Entry) -> Option<&Bytes> {
    match &entry.node {
        Node::Directory(_) => None,
        Node::File(body) => Some(body),
    }
}

fn path_table_order(tree: &Tree) -> Vec<usize> {
    let mut order = vec![0];
    let mut done = 0;
    while let Some(&place) = order.get(done) {
        order.extend(subdirectories(&tree.directories[place]));
        done += 1;
    }
    order
}

fn subdirectories(directory: &Directory) -> impl Iterator<Item = usize> {
    directory.entries.iter().filter_map(|entry| match entry.node {
        Node::Directory(place) => Some(place),
        Node::File(_) => None,
    })
}

/// Returns a directory's sectors.
fn directory(
    volume: Volume,
    tree: &Tree,
    place: usize,
    extents: &[Extent],
    files: &HashMap<Bytes, Extent>,
    extensions: u32,
) -> Vec<u8> {
    let links = |place: usize| {
        let count = subdirectories(&tree.directories[place]).count() + 2;
        u32::try_from(count).unwrap_or(u32::MAX)
    };
    let own = &tree.directories[place];
    let itself = Role::Itself { links: links(place), extensions: (place == 0).then_some(extensions) };
    let mut records = vec![
        record::record(volume, &itself, extents[place]),
        record::record(volume, &Role::Parent { links: links(own.parent) }, extents[own.parent]),
    ];
    for entry in &own.entries {
        records.push(match &entry.node {
            Node::Directory(place) => {
                let role = Role::Directory { name: &entry.name, links: links(*place) };
                record::record(volume, &role, extents[*place])
            }
            Node::File(body) => {
                let extent = files.get(body).copied().unwrap_or_default();
                record::record(volume, &Role::File { name: &entry.name }, extent)
            }
        });
    }
    let mut bytes = Vec::new();
    for record in records {
        // No record lies in two sectors (6.8.1.1).
        if bytes.len() % SECTOR + record.len() > SECTOR {
            bytes.resize(bytes.len().next_multiple_of(SECTOR), 0);
        }
        bytes.extend(record);
    }
    // Its length is that of its sectors.
    bytes.resize(bytes.len().next_multiple_of(SECTOR), 0);
    bytes
}

#[cfg(test)]
mod tests;
