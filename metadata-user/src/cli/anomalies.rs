//! `metadatad anomalies`.

use std::io::Write;

use super::error::CliError;
use super::lines::{self, ago};
use super::{Form, converse, exit, print_json, table};
use crate::admin::client::Client;
use crate::record::InstanceId;

#[derive(Debug, clap::Args)]
pub(super) struct Verb {
    /// Only this instance
    #[arg(value_name = "UUID")]
    instance: Option<InstanceId>,

    #[command(flatten)]
    form: Form,
}

impl Verb {
    pub(super) fn execute(&self, client: &Client, out: &mut dyn Write) -> Result<u8, CliError> {
        let mut instances = converse(async { Ok(client.anomalies().await?) })?;
        if let Some(wanted) = self.instance.map(|instance| instance.to_string()) {
            instances.retain(|shown| shown.instance == wanted);
        }
        if self.form.json {
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
