//! Keys and tables as data: what may be written, what holds without it, and what it means.
//!
//! Promises: a key is declared once, in the file of its table. Reading, the example, the reference and the JSON Schema all
//! use that declaration. A default is written as an operator would write it, and read by the same code.

use serde_json::Value;
use toml::Spanned;
use toml::de::DeValue;

use super::kind::Kind;
use super::refusal::Refusal;

/// A table of the configuration.
pub(super) struct Table {
    /// Its name, with those of the tables that it is in: `source.etcd`.
    pub(super) name: &'static str,
    /// What it is for, in a sentence or two.
    pub(super) about: &'static str,
    /// Its keys, in the order in which they are shown.
    pub(super) keys: &'static [&'static dyn Described],
    /// Tables inside it.
    pub(super) tables: &'static [&'static Table],
    /// Whether an empty one is refused, or out of place, in a configuration that says nothing else.
    pub(super) is_optional: bool,
    /// Keys that a reload applies; the others need a restart.
    pub(super) live: &'static [&'static str],
}

impl Table {
    /// Returns the last part of the name.
    pub(super) fn short_name(&self) -> &'static str {
        self.name.rsplit('.').next().unwrap_or(self.name)
    }
}

/// A key with a default.
pub(super) struct Key<K> {
    /// Its name in the table.
    pub(super) name: &'static str,
    /// What may be written.
    pub(super) kind: K,
    /// The default, in TOML.
    pub(super) default: &'static str,
    /// What it means, for operators.
    pub(super) about: &'static str,
    /// Why the default has its value.
    pub(super) reason: &'static str,
}

/// A key without a default value.
pub(super) struct OptionalKey<K> {
    /// Its name in the table.
    pub(super) name: &'static str,
    /// What may be written.
    pub(super) kind: K,
    /// What holds without it.
    pub(super) unset: &'static str,
    /// What may be written, in TOML.
    pub(super) example: &'static str,
    /// What it means, for operators.
    pub(super) about: &'static str,
}

/// What is known of a key, whatever its type.
pub(super) trait Described: Sync {
    /// Its name in the table.
    fn name(&self) -> &'static str;
    /// What it means.
    fn about(&self) -> &'static str;
    /// The default in TOML and its reason, or what holds without a value.
    fn default(&self) -> Result<(&'static str, &'static str), &'static str>;
    /// Something that may be written, in TOML.
    fn example(&self) -> &'static str;
    /// Type and range, in words.
    fn kind(&self) -> String;
    /// Type and range, as JSON Schema.
    fn schema(&self) -> Value;
    /// Reads the example, and says what is wrong with it.
    #[cfg(test)]
    fn check_example(&self) -> Result<(), String>;
}

impl<K: Kind> Key<K> {
    /// Returns what holds when nothing is written.
    pub(super) fn default_value(&self) -> Result<K::Value, Refusal> {
        read(&self.kind, self.default)
    }
}

impl<K: Kind> Described for Key<K> {
    fn name(&self) -> &'static str {
        self.name
    }

    fn about(&self) -> &'static str {
        self.about
    }

    fn default(&self) -> Result<(&'static str, &'static str), &'static str> {
        Ok((self.default, self.reason))
    }

    fn example(&self) -> &'static str {
        self.default
    }

    fn kind(&self) -> String {
        self.kind.describe()
    }

    fn schema(&self) -> Value {
        self.kind.schema()
    }

    #[cfg(test)]
    fn check_example(&self) -> Result<(), String> {
        self.default_value().map(drop).map_err(|refusal| refusal.problem)
    }
}

impl<K: Kind> Described for OptionalKey<K> {
    fn name(&self) -> &'static str {
        self.name
    }

    fn about(&self) -> &'static str {
        self.about
    }

    fn default(&self) -> Result<(&'static str, &'static str), &'static str> {
        Err(self.unset)
    }

    fn example(&self) -> &'static str {
        self.example
    }

    fn kind(&self) -> String {
        self.kind.describe()
    }

    fn schema(&self) -> Value {
        self.kind.schema()
    }

    #[cfg(test)]
    fn check_example(&self) -> Result<(), String> {
        read(&self.kind, self.example).map(drop).map_err(|refusal| refusal.problem)
    }
}

/// Reads a value that is not from a file.
fn read<K: Kind>(kind: &K, text: &str) -> Result<K::Value, Refusal> {
    let value: Spanned<DeValue<'_>> = DeValue::parse(text).map_err(|error| Refusal::of_toml(&error))?;
    kind.read(&value)
}
