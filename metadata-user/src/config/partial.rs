//! What can be read of a configuration that is not accepted, for commands that need only a part of it.
//!
//! Promises: a value is given only if it is certain: it is written and possible, or neither written nor mentioned. What a
//! broken file may mean is not guessed.

use std::path::{Path, PathBuf};

use toml::de::DeTable;

use super::key::Table;
use super::refusal::Refusal;
use super::written::Reader;
use super::{Config, ConfigError, EXAMPLE, Source, admin, bpf, responder, snapshot, source, text};

/// A configuration, or what can be read of it.
#[derive(Debug)]
pub struct Partial {
    path: PathBuf,
    text: String,
    error: Option<ConfigError>,
    /// Whether the text is TOML.
    is_toml: bool,
}

impl Partial {
    /// Reads what can be read.
    #[must_use]
    pub fn load(path: &Path) -> Self {
        match text::read(path, EXAMPLE) {
            Ok(text) => Self::of(path, text),
            Err(error) => {
                let is_absent =
                    matches!(&error, ConfigError::Read { source, .. } if source.kind() == std::io::ErrorKind::NotFound);
                Self { path: path.to_owned(), text: String::new(), error: Some(error), is_toml: is_absent }
            }
        }
    }

    /// Reads what can be read of a text. `path` is only named.
    #[must_use]
    pub fn of(path: &Path, text: String) -> Self {
        let error = Config::parse(path, &text).err();
        let is_toml = error.is_none() || DeTable::parse(&text).is_ok();
        Self { path: path.to_owned(), text, error, is_toml }
    }

    /// Returns why the configuration is not accepted.
    #[must_use]
    pub fn error(&self) -> Option<&ConfigError> {
        self.error.as_ref()
    }

    /// Takes the error.
    #[must_use]
    pub fn into_error(self) -> Option<ConfigError> {
        self.error
    }

    /// Returns `admin.socket`.
    #[must_use]
    pub fn socket(&self) -> Option<PathBuf> {
        self.value(&admin::TABLE, "socket", |table| admin::read(table).map(|admin| admin.socket))
    }

    /// Returns `bpf.pin_dir`.
    #[must_use]
    pub fn pin_dir(&self) -> Option<PathBuf> {
        self.value(&bpf::TABLE, "pin_dir", bpf::pin_dir)
    }

    /// Returns `responder.namespace`.
    #[must_use]
    pub fn namespace(&self) -> Option<String> {
        self.value(&responder::TABLE, "namespace", responder::namespace)
    }

    /// Returns `responder.interface`.
    #[must_use]
    pub fn interface(&self) -> Option<String> {
        self.value(&responder::TABLE, "interface", responder::interface)
    }

    /// Returns `[snapshot]`.
    #[must_use]
    pub fn snapshot(&self) -> Option<snapshot::Snapshot> {
        self.value(&snapshot::TABLE, "snapshot", snapshot::read)
    }

    /// Returns `[source]`, if the file is TOML and this table of it is accepted.
    #[must_use]
    pub fn source(&self) -> Option<Source> {
        if !self.is_toml || matches!(self.error, Some(ConfigError::Read { .. })) {
            return None;
        }
        let document = DeTable::parse(&self.text).ok()?;
        source::read(&Reader::open(document.get_ref(), &source::TABLE).ok()?).ok()
    }

    /// Reads a part of a table. `name` is what the text must not mention if the part is not found in a text that is not
    /// TOML.
    fn value<T>(
        &self,
        table: &'static Table,
        name: &str,
        read: impl FnOnce(&Reader<'_>) -> Result<T, Refusal>,
    ) -> Option<T> {
        if !self.is_toml && self.text.is_empty() {
            return None;
        }
        let (document, _) = DeTable::parse_recoverable(&self.text);
        let table = Reader::open_leniently(document.get_ref(), table).ok()?;
        let is_certain = self.is_toml || table.span_of(name).is_some() || !self.text.contains(name);
        is_certain.then(|| read(&table).ok()).flatten()
    }

    /// Returns where the configuration is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }
}
