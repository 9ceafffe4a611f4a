//! `metadatad prepare`.

use super::error::CliError;
use super::exit;
use crate::config::Config;
use crate::dataplane::prepare;

pub(super) fn execute(config: &Config) -> Result<u8, CliError> {
    prepare::prepare(&config.bpf.pin_dir, &config.responder.namespace)?;
    Ok(exit::OK)
}
