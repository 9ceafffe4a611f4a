//! `metadatad detach`.

use std::io::Write;

use super::error::CliError;
use super::{converse, exit};
use crate::admin::client::{Client, ClientError};
use crate::config::Config;
use crate::dataplane::detach;

pub(super) fn execute(config: &Config, client: &Client, out: &mut dyn Write) -> Result<u8, CliError> {
    let answer = converse(async { Ok(client.status().await) })?;
    match answer {
        Err(ClientError::Unreachable { .. }) => {}
        Err(error @ ClientError::NotPermitted { .. }) => return Err(error.into()),
        Ok(_) | Err(_) => return Err(CliError::DaemonRuns(config.admin.socket.clone())),
    }
    let removed = detach::detach(&config.bpf.pin_dir, &config.responder.namespace, &config.responder.interface)?;
    for (was_there, what) in [
        (removed.pins, format!("programs, links and maps under {}", config.bpf.pin_dir.display())),
        (removed.namespace, format!("namespace {} with its pair", config.responder.namespace)),
    ] {
        writeln!(out, "{what}: {}", if was_there { "removed" } else { "nothing there" })?;
    }
    let kept = [&config.snapshot.path, &config.snapshot.key_file];
    for path in kept.into_iter().filter(|path| config.snapshot.enabled && path.exists()) {
        writeln!(out, "{}: kept, for a later start; remove it if there is none", path.display())?;
    }
    Ok(exit::OK)
}
