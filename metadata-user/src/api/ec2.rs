//! The EC2 tree: `/latest/meta-data/` and its earlier versions, and `user-data`.
//!
//! Rendered once per instance: one text that holds every value and every listing, and a sorted index into it.
//!
//! Ours, not Nova's: `meta-data/meta-data/` in every version lists the instance's own metadata and gives its values. It
//! is in no listing, so clients that crawl see what Nova shows. A key is listed if its name, as a line, leads to its
//! value both as it is and percent-encoded (see [`own_metadata`]).

use std::ops::Range;

use bytes::Bytes;

use crate::record::InstanceRecord;

mod block_device;
pub(super) mod drive;
mod own_metadata;
mod tree;

pub(super) use own_metadata::is_listed;
use tree::{Leaf, Node};

/// The versions, ascending.
const VERSIONS: [&str; 9] = [
    "1.0",
    "2007-01-19",
    "2007-03-01",
    "2007-08-29",
    "2007-10-10",
    "2007-12-15",
    "2008-02-01",
    "2008-09-01",
    "2009-04-04",
];

/// What `/` answers.
pub(super) const VERSION_LIST: &str = "1.0\n2007-01-19\n2007-03-01\n2007-08-29\n2007-10-10\n2007-12-15\n2008-02-01\n\
                                       2008-09-01\n2009-04-04\nlatest";

/// Returns the place of a version among [`VERSIONS`]; `latest` is the last.
pub(super) fn version(name: &str) -> Option<u8> {
    if name == "latest" {
        return u8::try_from(VERSIONS.len() - 1).ok();
    }
    VERSIONS.iter().position(|known| *known == name).and_then(|index| u8::try_from(index).ok())
}

/// An instance's EC2 tree, of all versions.
#[derive(Debug)]
pub(super) struct Tree {
    text: Bytes,
    /// Sorted by path, then version.
    entries: Vec<Entry>,
}

#[derive(Debug)]
struct Entry {
    path: Box<str>,
    /// First and last version that has this text.
    versions: (u8, u8),
    text: Range<usize>,
}

impl Tree {
    /// Renders an instance's tree.
    pub(super) fn render(record: &InstanceRecord, hostname: &str) -> Self {
        let leaves = tree::leaves(record, hostname);
        let mut builder = Builder { text: String::new(), entries: Vec::with_capacity(leaves.len() + 16) };
        builder.directory("", &Node::of(&leaves), record.user_data.is_some());
        for Leaf { path, since, value, .. } in leaves {
            builder.push(path, (since, LAST), &value.text());
        }
        builder.own_metadata(record);
        let Builder { text, mut entries } = builder;
        entries.sort_by(|a, b| (&a.path, a.versions).cmp(&(&b.path, b.versions)));
        entries.shrink_to_fit();
        Self { text: Bytes::from(text.into_boxed_str().into_boxed_bytes()), entries }
    }

    /// Returns what is at a path below a version.
    pub(super) fn get(&self, version: u8, path: &str) -> Option<Bytes> {
        let start = self.entries.partition_point(|entry| &*entry.path < path);
        self.entries[start..]
            .iter()
            .take_while(|entry| &*entry.path == path)
            .find(|entry| (entry.versions.0..=entry.versions.1).contains(&version))
            .map(|entry| self.text.slice(entry.text.clone()))
    }
}

/// The last version's place.
const LAST: u8 = 8;

struct Builder {
    text: String,
    entries: Vec<Entry>,
}

impl Builder {
    fn push(&mut self, path: impl Into<Box<str>>, versions: (u8, u8), value: &str) {
        let start = self.text.len();
        self.text.push_str(value);
        self.entries.push(Entry { path: path.into(), versions, text: start..self.text.len() });
    }

    /// Adds a directory's listings and those of the directories in it. Equal listings of neighbouring versions are one.
    fn directory(&mut self, path: &str, node: &Node<'_>, has_user_data: bool) {
        let mut open: Option<(u8, String)> = None;
        for version in 0..=LAST {
            let listing = if path.is_empty() {
                Some(if has_user_data { "meta-data/\nuser-data" } else { "meta-data/" }.to_owned())
            } else {
                node.listing(version)
            };
            if open.as_ref().map(|(_, text)| text) == listing.as_ref() {
                continue;
            }
            if let Some((since, text)) = open.take() {
                self.push(path, (since, version - 1), &text);
            }
            open = listing.map(|text| (version, text));
        }
        if let Some((since, text)) = open {
            self.push(path, (since, LAST), &text);
        }
        for (name, child) in node.directories() {
            let path = if path.is_empty() { name.to_owned() } else { format!("{path}/{name}") };
            self.directory(&path, child, has_user_data);
        }
    }

    fn own_metadata(&mut self, record: &InstanceRecord) {
        const PATH: &str = "meta-data/meta-data";
        let mut listed = Vec::new();
        for (key, value) in record.metadata.iter().filter(|(key, _)| own_metadata::has_path(key)) {
            self.push(format!("{PATH}/{key}"), (0, LAST), value);
            listed.extend(own_metadata::is_listed(key).then_some(&**key));
        }
        if !listed.is_empty() {
            listed.sort_unstable();
            self.push(PATH, (0, LAST), &listed.join("\n"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_names_every_version() {
        assert_eq!(VERSION_LIST, format!("{}\nlatest", VERSIONS.join("\n")));
        assert_eq!(usize::from(LAST) + 1, VERSIONS.len());
        assert_eq!((version("1.0"), version("latest"), version("2009-04-04")), (Some(0), Some(8), Some(8)));
        assert_eq!((version("2009-04-05"), version("openstack"), version("")), (None, None, None));
    }
}
