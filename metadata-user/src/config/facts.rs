//! `[facts]`: who on this node says whose a device is.

use serde::Deserialize;

use super::ConfigError;
use super::raw::File;

/// `[facts]`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Facts {}

/// The table as written.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Raw {}

impl Raw {
    /// Checks the table.
    pub(super) fn check(self, _file: &File<'_>) -> Result<Facts, ConfigError> {
        Ok(Facts {})
    }
}
