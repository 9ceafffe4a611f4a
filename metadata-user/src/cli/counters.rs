//! `metadatad counters`.

use std::io::Write;

use super::error::CliError;
use super::{Form, converse, exit, print_json, table};
use crate::admin::client::Client;

#[derive(Debug, clap::Args)]
pub(super) struct Verb {
    /// Only this tap
    #[arg(value_name = "TAP")]
    port: Option<String>,

    #[command(flatten)]
    form: Form,

    /// Show counters that are zero too
    #[arg(long)]
    all: bool,
}

impl Verb {
    pub(super) fn execute(&self, client: &Client, out: &mut dyn Write) -> Result<u8, CliError> {
        let mut counters = converse(async { Ok(client.counters().await?) })?;
        if let Some(name) = &self.port {
            counters.retain(|port| port.name == *name);
            if counters.is_empty() {
                return Err(CliError::NoSuchPort(name.clone()));
            }
        }
        if self.form.json {
            print_json(&counters, out)?;
            return Ok(exit::OK);
        }
        let mut rows = Vec::new();
        for port in counters {
            for (what, count) in port.packets {
                if count > 0 || self.all {
                    rows.push([port.name.clone(), what, count.to_string()]);
                }
            }
        }
        table::print(["TAP", "COUNTER", "PACKETS"], &rows, out)?;
        Ok(exit::OK)
    }
}
