//! A configuration as written: the TOML of a table with its places, read key by key.
//!
//! Promises: a key or table that is not declared is refused where it is written.

use std::ops::Range;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::key::{Described, Key, OptionalKey, Table};
use super::kind::Kind;
use super::refusal::{Fault, Refusal};

/// A table while it is read. An absent table reads as an empty one.
pub(super) struct Reader<'a> {
    table: &'static Table,
    written: Option<&'a DeTable<'a>>,
    span: Range<usize>,
}

impl<'a> Reader<'a> {
    /// Opens a table in the one that it is in. Keys that it does not have are refused.
    pub(super) fn open(parent: &'a DeTable<'a>, table: &'static Table) -> Result<Self, Refusal> {
        let reader = Self::open_leniently(parent, table)?;
        let is_known = |name: &str| {
            table.keys.iter().any(|key| key.name() == name)
                || table.tables.iter().any(|table| table.short_name() == name)
        };
        let names =
            || table.keys.iter().map(|key| key.name()).chain(table.tables.iter().map(|table| table.short_name()));
        match reader.written.and_then(|written| unknown(written, is_known)) {
            Some(key) => Err(refuse_unknown(key, names())),
            None => Ok(reader),
        }
    }

    /// Reads a table that is an element of a list. Keys that it does not have are refused.
    pub(super) fn of(written: &'a DeTable<'a>, table: &'static Table, span: Range<usize>) -> Result<Self, Refusal> {
        let names = || table.keys.iter().map(|key| key.name());
        match unknown(written, |name| names().any(|known| known == name)) {
            Some(key) => Err(refuse_unknown(key, names())),
            None => Ok(Self { table, written: Some(written), span }),
        }
    }

    /// Opens a table without a look at its keys.
    pub(super) fn open_leniently(parent: &'a DeTable<'a>, table: &'static Table) -> Result<Self, Refusal> {
        let Some((key, value)) = entry(parent, table.short_name()) else {
            return Ok(Self { table, written: None, span: 0..0 });
        };
        let written = value.get_ref().as_table().ok_or_else(|| {
            let remedy = format!("write [{}] on a line of its own, and its keys below", table.name);
            Fault::new(format!("`{}` is a table, not a value", table.name), remedy).at(key.span())
        })?;
        Ok(Self { table, written: Some(written), span: key.span() })
    }

    /// Returns the table's name.
    pub(super) fn name(&self) -> &'static str {
        self.table.name
    }

    /// Returns the written table, for those in it.
    pub(super) fn written(&self) -> Option<&'a DeTable<'a>> {
        self.written
    }

    /// Returns where the table is.
    pub(super) fn span(&self) -> Range<usize> {
        self.span.clone()
    }

    /// Returns where the value of a key is, if it is written.
    pub(super) fn span_of(&self, name: &str) -> Option<Range<usize>> {
        Some(entry(self.written?, name)?.1.span())
    }

    /// Reads a key; its default if it is not written.
    pub(super) fn value<K: Kind>(&self, key: &Key<K>) -> Result<K::Value, Refusal> {
        debug_assert!(self.has(key), "{}.{} is not declared", self.table.name, key.name);
        match self.written.and_then(|written| entry(written, key.name)) {
            Some((_, value)) => key.kind.read(value),
            None => key.default_value(),
        }
    }

    /// Reads a key without a default.
    pub(super) fn optional<K: Kind>(&self, key: &OptionalKey<K>) -> Result<Option<K::Value>, Refusal> {
        debug_assert!(self.has(key), "{}.{} is not declared", self.table.name, key.name);
        let value = self.written.and_then(|written| entry(written, key.name));
        value.map(|(_, value)| key.kind.read(value)).transpose()
    }

    /// Reads two keys that belong together: both or none.
    pub(super) fn both<A: Kind, B: Kind>(
        &self,
        first: &OptionalKey<A>,
        second: &OptionalKey<B>,
    ) -> Result<Both<A, B>, Refusal> {
        let (written, name, missing) = match (self.optional(first)?, self.optional(second)?) {
            (Some(first), Some(second)) => return Ok(Some((first, second))),
            (None, None) => return Ok(None),
            (Some(_), None) => (first.name, first.name, second.name),
            (None, Some(_)) => (second.name, second.name, first.name),
        };
        let fault = Fault::new(format!("{name} without {missing}"), format!("write {missing} too, or remove {name}"));
        Err(fault.at(self.span_of(written).unwrap_or_default()))
    }

    fn has(&self, key: &dyn Described) -> bool {
        self.table.keys.iter().any(|declared| declared.name() == key.name())
    }
}

/// Refuses tables that the configuration does not have.
pub(super) fn only_tables(document: &DeTable<'_>, tables: &[&Table]) -> Result<(), Refusal> {
    match unknown(document, |name| tables.iter().any(|table| table.name == name)) {
        Some(key) => Err(refuse_unknown(key, tables.iter().map(|table| table.name))),
        None => Ok(()),
    }
}

/// Two values that belong together, or neither.
type Both<A, B> = Option<(<A as Kind>::Value, <B as Kind>::Value)>;

type Entry<'a> = (&'a Spanned<std::borrow::Cow<'a, str>>, &'a Spanned<DeValue<'a>>);

fn entry<'a>(table: &'a DeTable<'a>, name: &str) -> Option<Entry<'a>> {
    table.iter().find(|(key, _)| key.get_ref() == name)
}

/// Returns the first key, by place, that is not known.
fn unknown<'a>(
    table: &'a DeTable<'a>,
    is_known: impl Fn(&str) -> bool,
) -> Option<&'a Spanned<std::borrow::Cow<'a, str>>> {
    table.keys().filter(|key| !is_known(key.get_ref())).min_by_key(|key| key.span().start)
}

fn refuse_unknown<'a>(key: &Spanned<std::borrow::Cow<'_, str>>, known: impl Iterator<Item = &'a str>) -> Refusal {
    let known: Vec<String> = known.map(|name| format!("`{name}`")).collect();
    let problem = format!("unknown field `{}`, expected one of {}", key.get_ref(), known.join(", "));
    Fault::new(problem, "correct the name, or remove it to have the default").at(key.span()).with_example()
}
