//! The metadata that all instances share, from the configuration and the file that it names.

use std::io;
use std::path::PathBuf;

use crate::api::{self, StaticVendordata};
use crate::config;

/// Why it cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum CloudError {
    /// The vendor-data file cannot be read.
    #[error("reading cloud.vendordata_jsonfile_path {}: correct the path, or remove it", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The vendor-data file is not JSON.
    #[error("{} is not JSON; correct it, or remove cloud.vendordata_jsonfile_path", path.display())]
    Json {
        /// The file.
        path: PathBuf,
        /// Why, with the place.
        source: serde_json::Error,
    },
}

/// Reads the files that the configuration names.
///
/// # Errors
/// [`CloudError`] if the vendor-data file cannot be read, or is not JSON.
pub fn read(settings: &config::Cloud) -> Result<api::Cloud, CloudError> {
    let vendordata_static = match &settings.vendordata_jsonfile_path {
        None => StaticVendordata::default(),
        Some(path) => {
            let text = std::fs::read(path).map_err(|source| CloudError::Read { path: path.clone(), source })?;
            let text = text.strip_prefix(b"\xef\xbb\xbf").unwrap_or(&text);
            let value =
                serde_json::from_slice(text).map_err(|source| CloudError::Json { path: path.clone(), source })?;
            StaticVendordata::from(&value)
        }
    };
    Ok(api::Cloud::of(settings, vendordata_static))
}
