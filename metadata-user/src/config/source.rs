//! `[source]`: where the content of instances comes from.

use std::path::PathBuf;

use super::etcd::{self, Etcd};
use super::key::{Key, Table};
use super::kind::{AbsolutePath, Choice};
use super::nova::{self, Nova};
use super::refusal::{Fault, Refusal};
use super::written::Reader;

/// `[source]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// `kind = "directory"`: a directory of `*.json`, one document per instance.
    Directory {
        /// The directory.
        path: PathBuf,
    },
    /// `kind = "etcd"`: keys of an etcd cluster.
    Etcd(Etcd),
    /// `kind = "nova"`: an unchanged OpenStack's metadata API.
    Nova(Nova),
}

/// Kinds of source.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Directory,
    Etcd,
    Nova,
}

pub(super) static TABLE: Table = Table {
    name: "source",
    about: "Where the content of instances comes from.",
    keys: &[&KIND, &PATH],
    tables: &[&etcd::TABLE, &nova::TABLE],
    is_optional: false,
    live: &[],
};

static KIND: Key<Choice<Kind>> = Key {
    name: "kind",
    kind: Choice(&[("directory", Kind::Directory), ("etcd", Kind::Etcd), ("nova", Kind::Nova)]),
    default: "\"directory\"",
    about: "\"directory\": a directory of *.json, one document per instance, watched. \"etcd\": keys of an etcd cluster, \
            watched; see [source.etcd]. \"nova\": an unchanged OpenStack's metadata API; see [source.nova].",
    reason: "It needs nothing but files.",
};

static PATH: Key<AbsolutePath> = Key {
    name: "path",
    kind: AbsolutePath::Any,
    default: "\"/etc/metadatad/instances\"",
    about: "The directory, with `kind = \"directory\"`.",
    reason: "Beside the configuration.",
};

pub(super) fn read(table: &Reader<'_>) -> Result<Source, Refusal> {
    let kind = table.value(&KIND)?;
    for (name, of) in [("path", Kind::Directory), ("etcd", Kind::Etcd), ("nova", Kind::Nova)] {
        if let Some(span) = table.span_of(name).filter(|_| of != kind) {
            let other = KIND.kind.0.iter().find(|(_, kind)| *kind == of).map_or("", |(other, _)| other);
            let problem = format!("source.{name} is set, but source.kind is not \"{other}\"");
            return Err(Fault::new(problem, "remove it, or correct source.kind").at(span));
        }
    }
    let empty = toml::de::DeTable::new();
    let written = table.written().unwrap_or(&empty);
    Ok(match kind {
        Kind::Directory => Source::Directory { path: table.value(&PATH)? },
        Kind::Etcd => {
            let place = table.span_of("kind").unwrap_or_else(|| table.span());
            Source::Etcd(etcd::read(&Reader::open(written, &etcd::TABLE)?, place)?)
        }
        Kind::Nova => Source::Nova(nova::read(&Reader::open(written, &nova::TABLE)?)?),
    })
}

#[cfg(test)]
mod tests {
    use super::Source;
    use crate::config::tests::{read, refuses};

    #[test]
    fn values_are_taken_as_written() {
        let source = read("[source]\nkind = 'directory'\npath = '/srv/docs'\n").expect("accepted").source;
        assert_eq!(source, Source::Directory { path: "/srv/docs".into() });
    }

    #[test]
    fn refusals_name_place_and_remedy() {
        refuses(&[
            ("[source]\nkind = 'consul'", "m.toml:2:8", "`consul`", "\"directory\" or \"etcd\""),
            ("[source]\nkind = 'etcd'\npath = '/x'", "m.toml:3:8", "source.path", "correct source.kind"),
            ("[source.nova]\nrequests = 1", "m.toml:1:1", "source.kind is not \"nova\"", "correct source.kind"),
            ("[source]\nkind = 'nova'\nnova = 1", "m.toml:3:1", "`source.nova` is a table", "write [source.nova]"),
        ]);
    }
}
