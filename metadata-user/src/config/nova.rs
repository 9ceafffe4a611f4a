//! `[source.nova]`: the Nova metadata API that content comes from.

use serde::Deserialize;

use super::ConfigError;
use super::raw::File;

/// `[source.nova]`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Nova {}

/// The table as written.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Raw {}

impl Raw {
    /// Checks the table.
    pub(super) fn check(self, _file: &File<'_>) -> Result<Nova, ConfigError> {
        Ok(Nova {})
    }
}
