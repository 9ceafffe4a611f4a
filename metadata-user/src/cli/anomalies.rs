//! `metadatad anomalies`.

use std::io::Write;

use super::error::CliError;
use super::lines::{self, ago};
use super::selection::Selection;
use super::{converse, exit, print_json, table};
use crate::admin::client::Client;

#[derive(Debug, clap::Args)]
pub(super) struct Verb {
    #[command(flatten)]
    selection: Selection,
}

impl Verb {
    pub(super) fn execute(&self, client: &Client, out: &mut dyn Write) -> Result<u8, CliError> {
        let instances = converse(async { Ok(client.anomalies().await?) })?;
        // One without anomalies is not in the list.
        let instances = self.selection.filter(instances, |shown| Some(&shown.instance));
        if self.selection.json() {
            print_json(&instances, out)?;
            return Ok(exit::OK);
        }
        let (mut rows, now) = (Vec::new(), lines::now());
        for shown in instances {
            for anomaly in shown.anomalies {
                rows.push([
                    shown.instance.clone(),
                    shown.project.clone().unwrap_or_default(),
                    anomaly.kind,
                    anomaly.count.to_string(),
                    format!("{} ago", ago(now, anomaly.last_at)),
                ]);
            }
        }
        table::print(["INSTANCE", "PROJECT", "ANOMALY", "COUNT", "LAST"], &rows, out)?;
        Ok(exit::OK)
    }
}
