//! `[source.etcd]`: the etcd cluster that documents come from.

use serde::Deserialize;

use super::ConfigError;
use super::raw::File;

/// `[source.etcd]`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Etcd {}

/// The table as written.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Raw {}

impl Raw {
    /// Checks the table.
    pub(super) fn check(self, _file: &File<'_>) -> Result<Etcd, ConfigError> {
        Ok(Etcd {})
    }
}
