//! What all instances have in common: its files, and the targets of dynamic vendor data.

use super::AppError;
use crate::api;
use crate::config;
use crate::source::vendordata::{self, Vendordata};

/// Reads the files that the configuration names.
///
/// # Errors
/// [`AppError`] if the vendor-data file cannot be read, or is not JSON.
pub fn cloud(settings: &config::Cloud) -> Result<api::Cloud, AppError> {
    Ok(vendordata::cloud::read(settings)?)
}

/// Says whether the certificates for dynamic vendor data can be used.
///
/// # Errors
/// [`AppError`] if one cannot.
pub fn check_vendordata(settings: &config::Cloud) -> Result<(), AppError> {
    Ok(Vendordata::check(settings)?)
}

/// Prepares to query the targets of dynamic vendor data; `None` if none is configured.
///
/// # Errors
/// [`AppError`] if no certificate can be read, and a target needs one.
pub(super) fn vendordata(settings: &config::Cloud) -> Result<Option<Vendordata>, AppError> {
    Ok(Vendordata::new(settings)?)
}
