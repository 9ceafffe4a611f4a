//! `metadatad guest-attributes`.

use std::io::Write;

use super::error::CliError;
use super::{converse, exit, print_json, table};
use crate::admin::client::Client;
use crate::record::InstanceId;

#[derive(Debug, clap::Args)]
pub(super) struct Verb {
    /// The instance
    #[arg(value_name = "UUID")]
    instance: InstanceId,

    /// Print JSON as the admin API gives it
    #[arg(long)]
    json: bool,
}

impl Verb {
    pub(super) fn execute(&self, client: &Client, out: &mut dyn Write) -> Result<u8, CliError> {
        let shown = converse(async { Ok(client.guest_attributes(self.instance).await?) })?;
        if self.json {
            print_json(&shown, out)?;
            return Ok(exit::OK);
        }
        let mut rows = Vec::new();
        for (space, values) in &shown.attributes {
            for (key, value) in values {
                // A guest's text may be anything: a line, and nothing that moves the cursor.
                rows.push([space.clone(), key.clone(), value.trim_end().escape_debug().to_string()]);
            }
        }
        table::print(["NAMESPACE", "KEY", "VALUE"], &rows, out)?;
        Ok(exit::OK)
    }
}
