//! `metadatad jwks`.

use std::io::Write;

use super::error::CliError;
use super::{converse, exit, print_json};
use crate::admin::client::Client;

pub(super) fn execute(client: &Client, out: &mut dyn Write) -> Result<u8, CliError> {
    print_json(&converse(async { Ok(client.jwks().await?) })?, out)?;
    Ok(exit::OK)
}
