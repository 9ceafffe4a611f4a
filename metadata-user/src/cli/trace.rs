//! `metadatad trace`.

use std::io::Write;

use super::error::CliError;
use super::{converse_silently, exit};
use crate::admin::client::Client;

#[derive(Debug, clap::Args)]
pub(super) struct Verb {
    /// The tap
    #[arg(value_name = "TAP")]
    port: String,
}

impl Verb {
    pub(super) fn execute(&self, client: &Client, out: &mut dyn Write) -> Result<u8, CliError> {
        converse_silently(async {
            let mut trace = client.trace(&self.port).await?;
            while let Some(lines) = trace.next().await? {
                out.write_all(&lines)?;
                out.flush()?;
            }
            Ok(exit::OK)
        })
    }
}
