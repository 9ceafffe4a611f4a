//! A configuration file that was read, and its differences from another version of it: key by key, and whether a reload applies
//! them.
//!
//! Promises: pure but for reading the file; a value that is written differently but means the same (`"1s"`, `"1000ms"`) counts as
//! changed.

use std::path::{Path, PathBuf};

use toml::Value;

use super::key::{Described, Table};
use super::reference::all_tables;
use super::{Config, ConfigError, EXAMPLE, text};

/// A configuration file, as it was read.
#[derive(Clone, Debug)]
pub struct ConfigFile {
    /// Where it was read.
    pub path: PathBuf,
    /// What it says.
    pub config: Config,
    /// The same, as TOML's values.
    written: toml::Table,
}

/// A key that differs between two files; or a table whose presence does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Changed {
    /// Its name, with that of its table: `http.connections`.
    pub key: String,
    /// Whether a reload applies it.
    pub is_live: bool,
}

impl ConfigFile {
    /// Reads and checks a file.
    ///
    /// # Errors
    /// As [`Config::load`].
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        Self::parse(path, &text::read(path, EXAMPLE)?)
    }

    /// Checks a file that is already read.
    ///
    /// # Errors
    /// As [`Config::parse`].
    pub fn parse(path: &Path, text: &str) -> Result<Self, ConfigError> {
        let config = Config::parse(path, text)?;
        // What is accepted is TOML.
        let written = toml::from_str(text::without_mark(text)).unwrap_or_default();
        Ok(Self { path: path.to_owned(), config, written })
    }

    /// Returns the differences of another version of the file, in the order of the reference.
    #[must_use]
    pub fn changes(&self, other: &Self) -> Vec<Changed> {
        let mut changes = Vec::new();
        for table in all_tables() {
            let [ours, theirs] = [self, other].map(|file| find(&file.written, table));
            let before = changes.len();
            for key in table.keys {
                if value(ours, *key) != value(theirs, *key) {
                    let is_live = table.live.contains(&key.name());
                    changes.push(Changed { key: format!("{}.{}", table.name, key.name()), is_live });
                }
            }
            // Where the table itself switches something on.
            if table.is_optional && changes.len() == before && ours.is_some() != theirs.is_some() {
                changes.push(Changed { key: table.name.to_owned(), is_live: false });
            }
        }
        changes
    }
}

/// Returns a table of a document, if it is there.
fn find<'a>(document: &'a toml::Table, table: &Table) -> Option<&'a toml::Table> {
    table.name.split('.').try_fold(document, |document, name| document.get(name)?.as_table())
}

/// Returns the value of a key, or its default.
fn value(table: Option<&toml::Table>, key: &dyn Described) -> Option<Value> {
    let written = table.and_then(|table| table.get(key.name())).cloned();
    written.or_else(|| key.default().ok().and_then(|(default, _)| parsed(default)))
}

/// Parses a TOML value.
fn parsed(text: &str) -> Option<Value> {
    toml::from_str::<toml::Table>(&format!("value = {text}")).ok()?.remove("value")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(text: &str) -> ConfigFile {
        ConfigFile::parse(Path::new("m.toml"), text).expect("accepted")
    }

    fn changes(old: &str, new: &str) -> Vec<(String, bool)> {
        file(old).changes(&file(new)).into_iter().map(|changed| (changed.key, changed.is_live)).collect()
    }

    #[test]
    fn changes_are_named_with_what_a_reload_does_with_them() {
        let none: [(String, bool); 0] = [];
        assert_eq!(changes("", "[log]\nfilter = 'info'\n[http]\n"), none, "a default that is written is none");
        let new = "[log]\nfilter = 'debug'\nformat = 'json'\n[http]\nthreads = 3\nrequest_burst = 7\n";
        for (old, new) in [("", new), (new, "")] {
            let expected =
                [("http.request_burst", true), ("http.threads", false), ("log.filter", true), ("log.format", false)];
            assert_eq!(changes(old, new), expected.map(|(key, is_live)| (key.to_owned(), is_live)));
        }
        let etcd = "[source]\nkind = 'etcd'\n[source.etcd]\nendpoints = ['http://a:1']\n";
        let kinds = changes("", etcd);
        assert!(kinds.contains(&("source.kind".to_owned(), false)), "{kinds:?}");
        assert!(kinds.contains(&("source.etcd.endpoints".to_owned(), false)), "{kinds:?}");
    }

    #[test]
    fn what_is_live_is_declared_of_keys_that_there_are() {
        for table in all_tables() {
            for name in table.live {
                assert!(table.keys.iter().any(|key| key.name() == *name), "{}.{name}", table.name);
            }
        }
    }
}
