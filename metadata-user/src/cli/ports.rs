//! `metadatad ports`.

use std::io::Write;

use super::error::CliError;
use super::{Form, converse, exit, print_json, table};
use crate::admin::client::Client;
use crate::admin::wire::PortStatus;

pub(super) fn execute(form: Form, client: &Client, out: &mut dyn Write) -> Result<u8, CliError> {
    let ports = converse(async { Ok(client.ports().await?) })?;
    if form.json {
        print_json(&ports, out)?;
    } else {
        let rows: Vec<_> = ports.into_iter().map(row).collect();
        table::print(["TAP", "INDEX", "STATE", "INSTANCE", "PORT", "ORIGIN", "MAC", "ATTACHED", "REASON"], &rows, out)?;
    }
    Ok(exit::OK)
}

fn row(port: PortStatus) -> [String; 9] {
    let missing = port.guard_missing.map(|reason| format!("limited at tc only: {reason}"));
    let reasons: Vec<_> = [port.reason, missing].into_iter().flatten().collect();
    [
        port.name,
        port.ifindex.to_string(),
        port.state.name().to_owned(),
        port.instance.unwrap_or_default(),
        port.port.unwrap_or_default(),
        port.origin.unwrap_or_default(),
        port.mac.unwrap_or_default(),
        [port.attached, port.guard].into_iter().flatten().collect::<Vec<_>>().join("+"),
        reasons.join("; "),
    ]
}
