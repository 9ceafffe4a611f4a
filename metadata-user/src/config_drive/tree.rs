//! Files by path, as directories with entries.
//!
//! Promises: every name and place in a [`Tree`] is one that both formats can hold as it is, without another spelling.
//!
//! Limits: names of 1 to [`LONGEST_NAME`] letters, digits, `-`, `_` and `.`, not differing in case alone; at most [`DEEPEST`]
//! directories above a file. A config drive needs far less.

use bytes::Bytes;

use crate::api::DriveFile;

/// Longest name: with `;1` behind it, what ISO 9660 has room for.
pub(super) const LONGEST_NAME: usize = 29;

/// Most directories above a file, the root included: ISO 9660 has eight levels, the last of which is the file's.
pub(super) const DEEPEST: usize = 7;

/// A file that a drive cannot hold.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TreeError {
    /// Its name, or one on its path, is not possible.
    #[error(
        "{0:?} is no path on a config drive: names have 1 to {LONGEST_NAME} letters, digits, dashes, underscores and dots"
    )]
    Name(String),
    /// It is too deep.
    #[error("{0:?} is too deep for a config drive: at most {most} directories above a file", most = DEEPEST - 1)]
    Depth(String),
    /// Another one is there already.
    #[error("{0:?} is on the config drive already, as a file, a directory, or in other case")]
    Taken(String),
    /// The image is too large.
    #[error("the files are too large for an image: {0} bytes")]
    Size(u64),
}

/// Directories, the root first, each before those in it.
#[derive(Debug)]
pub(super) struct Tree {
    pub(super) directories: Vec<Directory>,
}

#[derive(Debug)]
pub(super) struct Directory {
    /// Its name; empty for the root.
    pub(super) name: String,
    /// Its parent's place; the root is its own.
    pub(super) parent: usize,
    /// How many directories are above it.
    level: usize,
    /// In no order.
    pub(super) entries: Vec<Entry>,
}

#[derive(Debug)]
pub(super) struct Entry {
    pub(super) name: String,
    pub(super) node: Node,
}

#[derive(Debug)]
pub(super) enum Node {
    /// The place of a directory.
    Directory(usize),
    File(Bytes),
}

impl Tree {
    /// Returns the tree of these files.
    pub(super) fn of(files: &[DriveFile]) -> Result<Self, TreeError> {
        let root = Directory { name: String::new(), parent: 0, level: 0, entries: Vec::new() };
        let mut tree = Self { directories: vec![root] };
        for DriveFile { path, body } in files {
            let mut above = 0;
            let mut names = path.split('/').peekable();
            while let Some(name) = names.next() {
                if !is_possible(name) {
                    return Err(TreeError::Name(path.clone()));
                }
                let known = tree.directories[above].entries.iter().find(|entry| entry.name.eq_ignore_ascii_case(name));
                above = match (names.peek().is_some(), known) {
                    (true, None) => tree.add_directory(above, name, path)?,
                    (true, Some(Entry { name: known, node: Node::Directory(place) })) if known == name => *place,
                    (false, None) => {
                        let node = Node::File(body.clone());
                        tree.directories[above].entries.push(Entry { name: name.to_owned(), node });
                        break;
                    }
                    (_, Some(_)) => return Err(TreeError::Taken(path.clone())),
                };
            }
        }
        Ok(tree)
    }

    fn add_directory(&mut self, parent: usize, name: &str, path: &str) -> Result<usize, TreeError> {
        let level = self.directories[parent].level + 1;
        if level >= DEEPEST {
            return Err(TreeError::Depth(path.to_owned()));
        }
        let place = self.directories.len();
        self.directories.push(Directory { name: name.to_owned(), parent, level, entries: Vec::new() });
        self.directories[parent].entries.push(Entry { name: name.to_owned(), node: Node::Directory(place) });
        Ok(place)
    }
}

fn is_possible(name: &str) -> bool {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    (1..=LONGEST_NAME).contains(&name.len())
        && name.bytes().all(is_plain)
        // A dot at an end is not kept by FAT, and has a meaning at the start.
        && !name.starts_with('.')
        && !name.ends_with('.')
}

#[cfg(test)]
pub(super) mod tests {
    use proptest::prelude::*;

    use super::*;

    pub(in crate::config_drive) fn file(path: &str, body: &[u8]) -> DriveFile {
        DriveFile { path: path.to_owned(), body: Bytes::copy_from_slice(body) }
    }

    /// Files of a tree that is possible, ascending by path.
    pub(in crate::config_drive) fn possible_files() -> impl Strategy<Value = Vec<DriveFile>> {
        let path = "[a-z0-9]([a-z0-9._-]{0,26}[a-z0-9_-])?(/[a-z0-9_]{1,3}){0,5}";
        let body = prop_oneof![
            4 => proptest::collection::vec(any::<u8>(), 0..200),
            1 => (0_usize..20_000, any::<u8>()).prop_map(|(length, byte)| vec![byte; length]),
        ];
        proptest::collection::btree_map(path, body, 0..60).prop_map(|files| {
            let mut kept: Vec<DriveFile> = Vec::new();
            for (path, body) in files {
                kept.push(file(&path, &body));
                if Tree::of(&kept).is_err() {
                    kept.pop();
                }
            }
            kept
        })
    }

    #[test]
    fn names_and_places_that_a_drive_has_not_are_refused() {
        let check = |paths: &[&str]| Tree::of(&paths.iter().map(|path| file(path, b"")).collect::<Vec<_>>()).map(drop);
        assert_eq!(check(&["openstack/2012-08-10/meta_data.json", "openstack/content/0000", "ec2/latest/x"]), Ok(()));
        for wrong in ["", "a//b", "/a", "a/", "..", "a/../b", ".a", "a.", "ä", "a b", "a;1", &"x".repeat(30)] {
            assert_eq!(check(&[wrong]), Err(TreeError::Name(wrong.to_owned())));
        }
        assert_eq!(check(&["1/2/3/4/5/6/f"]), Ok(()));
        assert_eq!(check(&["1/2/3/4/5/6/7/f"]), Err(TreeError::Depth("1/2/3/4/5/6/7/f".to_owned())));
        for [first, second] in [["a", "a"], ["a", "A"], ["a", "a/b"], ["a/b", "a"], ["a/b", "A/c"]] {
            assert_eq!(check(&[first, second]), Err(TreeError::Taken(second.to_owned())), "{first}");
        }
    }
}
