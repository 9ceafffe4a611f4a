//! What the daemon reports.

use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use nix::sys::socket::{getsockopt, sockopt::PeerCredentials};

use super::super::evidence::{Answers, Daemon};
use super::process;
use crate::admin::client::{Client, ClientError};
use crate::cli::converse;
use crate::cli::error::CliError;
use crate::error_text;

/// How long the daemon has for all its answers: it takes milliseconds.
const PATIENCE: Duration = Duration::from_secs(5);

/// Asks the daemon for everything.
pub(super) fn ask(socket: &Path) -> Result<Daemon, CliError> {
    let client = Client::new(socket);
    let asked = converse(async { Ok(tokio::time::timeout(PATIENCE, answers(&client)).await) })?;
    Ok(match asked {
        Ok(Ok(answers)) => Daemon::Answers(Box::new(answers)),
        Ok(Err(ClientError::Unreachable { .. })) => Daemon::Down,
        Ok(Err(error)) => Daemon::Refuses(error_text::chain(&error)),
        Err(_) => {
            let process = listener(socket);
            Daemon::Silent { process, state: process.and_then(process::state) }
        }
    })
}

async fn answers(client: &Client) -> Result<Answers, ClientError> {
    let evidence = client.evidence().await?;
    Ok(Answers {
        status: client.status().await?,
        ports: client.ports().await?,
        content: evidence.content,
        claims: evidence.claims,
        drops: evidence.drops,
        anomalies: client.anomalies().await?,
        boots: client.boots().await?,
    })
}

/// Returns the process that listens on a socket.
fn listener(socket: &Path) -> Option<i32> {
    let stream = UnixStream::connect(socket).ok()?;
    let peer = getsockopt(&stream, PeerCredentials).ok()?;
    Some(peer.pid()).filter(|process| *process > 0)
}
