//! `metadatad check-config`.

use std::io::Write;
use std::path::Path;

use super::error::CliError;
use super::exit;
use crate::app::{self, AppError};
use crate::config::{self, Config};
use crate::dataplane::kernel;
use crate::https::Https;
use crate::open_files::OpenFiles;
use crate::signing::Signing;
use crate::source;

pub(super) fn execute(path: &Path, config: &Config, out: &mut dyn Write) -> Result<u8, CliError> {
    kernel::check().map_err(AppError::from)?;
    app::cloud(&config.cloud)?;
    app::check_vendordata(&config.cloud)?;
    if let Some(https) = &config.https {
        Https::check(https).map_err(AppError::from)?;
    }
    if let Some(tls) = config.metrics.as_ref().and_then(|metrics| metrics.tls.as_ref()) {
        Https::check_for_metrics(tls).map_err(AppError::from)?;
    }
    if let Some(signer) = &config.identity.signer {
        Signing::check(signer).map_err(AppError::from)?;
    }
    for warning in config.warnings() {
        writeln!(out, "{}: warning: {warning}", path.display())?;
    }
    // The unit's limit, where a unit runs this; else that of the shell.
    if let Some(warning) = OpenFiles::allowed().ok().and_then(|files| files.warning(config.http.connections)) {
        writeln!(out, "{}: warning: {warning}", path.display())?;
    }
    if let config::Source::Directory { path: directory } = &config.source
        && !directory.is_dir()
    {
        let directory = directory.display();
        writeln!(out, "{}: warning: source.path: there is no directory {directory} yet: create it", path.display())?;
    }
    for warning in source::warnings(&config.source).map_err(AppError::from)? {
        writeln!(out, "{}: warning: {warning}", path.display())?;
    }
    writeln!(out, "{}: accepted", path.display())?;
    Ok(exit::OK)
}
