//! `metadatad schema`.

use std::io::Write;

use super::error::CliError;
use super::{exit, print_json};
use crate::source::wire;

pub(super) fn execute(out: &mut dyn Write) -> Result<u8, CliError> {
    print_json(&wire::schema(), out)?;
    Ok(exit::OK)
}
