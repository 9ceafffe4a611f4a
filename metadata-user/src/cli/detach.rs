//! `metadatad detach`.
//!
//! It works with a configuration that is not accepted, as long as each value that it needs is certain: detaching at another
//! place than the daemon's, or asking another socket whether one runs, would be worse than not to detach.

use std::io::Write;
use std::path::{Path, PathBuf};

use super::error::CliError;
use super::{converse, exit, note};
use crate::admin::client::{Client, ClientError};
use crate::config::partial::Partial;
use crate::config::snapshot::Snapshot;
use crate::config::{CONFIG_PATH, ConfigError};
use crate::dataplane::detach;

/// What is detached, and what is asked first.
pub(super) struct Target {
    socket: PathBuf,
    pin_dir: PathBuf,
    namespace: String,
    interface: String,
    snapshot: Option<Snapshot>,
}

impl Target {
    /// Takes what is needed from a configuration.
    pub(super) fn of(path: &Path, socket: Option<PathBuf>, notes: &mut dyn Write) -> Result<Self, CliError> {
        let partial = Partial::load(path);
        // No file in its usual place: metadatad was uninstalled. Anywhere else, the path is wrong.
        let is_certain = path == Path::new(CONFIG_PATH) || !matches!(partial.error(), Some(ConfigError::Read { .. }));
        let target = is_certain.then(|| Self::read(&partial, socket)).flatten();
        match (target, partial.into_error()) {
            (Some(target), None) => Ok(target),
            (Some(target), Some(error)) => {
                let socket = target.socket.display();
                let pin_dir = target.pin_dir.display();
                let place = format!(
                    "using the socket {socket}, the pins under {pin_dir} and the namespace {}",
                    target.namespace
                );
                note(notes, &error, &place)?;
                Ok(target)
            }
            (None, Some(error)) => Err(error.into()),
            // An accepted configuration has all of it.
            (None, None) => {
                Err(CliError::Runtime(std::io::Error::other("the configuration changed meanwhile; try again")))
            }
        }
    }

    fn read(partial: &Partial, socket: Option<PathBuf>) -> Option<Self> {
        Some(Self {
            socket: socket.or_else(|| partial.socket())?,
            pin_dir: partial.pin_dir()?,
            namespace: partial.namespace()?,
            interface: partial.interface()?,
            snapshot: partial.snapshot(),
        })
    }
}

pub(super) fn execute(target: &Target, out: &mut dyn Write) -> Result<u8, CliError> {
    let client = Client::new(&target.socket);
    let answer = converse(async { Ok(client.status().await) })?;
    match answer {
        Err(ClientError::Unreachable { .. }) => {}
        Err(error @ ClientError::NotPermitted { .. }) => return Err(error.into()),
        Ok(_) | Err(_) => return Err(CliError::DaemonRuns(target.socket.clone())),
    }
    let removed = detach::detach(&target.pin_dir, &target.namespace, &target.interface)?;
    for (was_present, what) in [
        (removed.pins, format!("programs, links and maps under {}", target.pin_dir.display())),
        (removed.namespace, format!("namespace {} with its pair", target.namespace)),
    ] {
        writeln!(out, "{what}: {}", if was_present { "removed" } else { "nothing to remove" })?;
    }
    let snapshot = target.snapshot.iter().filter(|snapshot| snapshot.enabled);
    for path in snapshot.flat_map(|snapshot| [&snapshot.path, &snapshot.key_file]).filter(|path| path.exists()) {
        writeln!(out, "{}: kept, for a later start; remove it if there is none", path.display())?;
    }
    Ok(exit::OK)
}
