//! `[snapshot]`: what the node keeps on disk, sealed.

use serde::Deserialize;

use super::ConfigError;
use super::raw::File;

/// `[snapshot]`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Snapshot {}

/// The table as written.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Raw {}

impl Raw {
    /// Checks the table.
    pub(super) fn check(self, _file: &File<'_>) -> Result<Snapshot, ConfigError> {
        Ok(Snapshot {})
    }
}
