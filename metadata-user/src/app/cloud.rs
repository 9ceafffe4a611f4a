//! The metadata that all instances share, from the configuration and the file that it names.

use super::AppError;
use crate::api::{self, StaticVendordata};
use crate::config;
use crate::source::vendordata::Vendordata;

/// Reads the files that the configuration names.
///
/// # Errors
/// [`AppError`] if the vendor-data file cannot be read, or is not JSON.
pub fn cloud(settings: &config::Cloud) -> Result<api::Cloud, AppError> {
    let vendordata_static = match &settings.vendordata_jsonfile_path {
        None => StaticVendordata::default(),
        Some(path) => {
            let text = std::fs::read(path).map_err(|source| AppError::Vendordata { path: path.clone(), source })?;
            let text = text.strip_prefix(b"\xef\xbb\xbf").unwrap_or(&text);
            let value = serde_json::from_slice(text)
                .map_err(|source| AppError::VendordataJson { path: path.clone(), source })?;
            StaticVendordata::from(&value)
        }
    };
    Ok(api::Cloud::of(settings, vendordata_static))
}

/// Prepares to query the targets of dynamic vendor data; `None` if none is configured.
///
/// # Errors
/// [`AppError`] if no certificate can be read, and a target needs one.
pub fn vendordata(settings: &config::Cloud) -> Result<Option<Vendordata>, AppError> {
    Ok(Vendordata::new(settings)?)
}
