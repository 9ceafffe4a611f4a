//! `metadatad detach`: a running daemon is asked to let go of its taps; where none runs, what it left is removed.
//!
//! It works with a configuration that is not accepted, as long as each value that it needs is certain: detaching at another
//! place than the daemon's, or asking another socket whether one runs, would be worse than not to detach.

use std::io::Write;
use std::path::{Path, PathBuf};

use serde::Serialize;

use super::error::CliError;
use super::lines::counted;
use super::{Form, converse, exit, note, print_json};
use crate::admin::client::{Client, ClientError};
use crate::admin::wire::Released;
use crate::config::partial::Partial;
use crate::config::snapshot::{BOOTS, REMOVED, Snapshot};
use crate::config::{CONFIG_PATH, ConfigError};
use crate::dataplane::detach;
use crate::durable;

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

/// What was done, as `--json` shows it.
#[derive(Debug, Default, Serialize)]
struct Done {
    /// What the running daemon has let go of; absent: none runs.
    #[serde(skip_serializing_if = "Option::is_none")]
    released: Option<Released>,
    /// What was removed; absent: a daemon runs.
    #[serde(skip_serializing_if = "Option::is_none")]
    removed: Option<Removed>,
}

/// What there was to remove.
#[derive(Debug, Default, Serialize)]
struct Removed {
    /// Programs, links and maps.
    pins: bool,
    /// The responder's namespace with its pair.
    namespace: bool,
    /// Files that are kept for a later start.
    kept: Vec<PathBuf>,
}

pub(super) fn execute(target: &Target, form: Form, out: &mut dyn Write) -> Result<u8, CliError> {
    let client = Client::new(&target.socket);
    let done = match converse(async { Ok(client.release().await) })? {
        Ok(released) => Done { released: Some(released), removed: None },
        Err(ClientError::Unreachable { .. }) => Done { released: None, removed: Some(remove(target)?) },
        Err(ClientError::Unknown(_) | ClientError::Broken { .. } | ClientError::Answer { .. }) => {
            return Err(CliError::DaemonRuns(target.socket.clone()));
        }
        Err(error) => return Err(error.into()),
    };
    if form.json {
        print_json(&done, out)?;
    } else {
        out.write_all(describe(&done, target).as_bytes())?;
    }
    let all = done.released.is_none_or(|released| released.left.is_empty());
    Ok(if all { exit::OK } else { exit::NOT_WELL })
}

fn remove(target: &Target) -> Result<Removed, CliError> {
    let detach::Removed { pins, namespace } = detach::detach(&target.pin_dir, &target.namespace, &target.interface)?;
    let snapshot = target.snapshot.iter().filter(|snapshot| snapshot.enabled);
    let files = snapshot.flat_map(|Snapshot { path, key_file, .. }| {
        let [removed, boots] = [REMOVED, BOOTS].map(|end| durable::beside(path, end));
        [path.clone(), removed, boots, key_file.clone()]
    });
    Ok(Removed { pins, namespace, kept: files.filter(|path| path.exists()).collect() })
}

fn describe(done: &Done, target: &Target) -> String {
    let mut lines = Vec::new();
    if let Some(released) = &done.released {
        let taps = counted(released.taps, "tap");
        lines.push(format!("released {taps}: guests' requests go on to the network"));
        if released.cut {
            lines.push("connections that were open after http.drain_timeout were cut".to_owned());
        }
        for left in &released.left {
            lines.push(format!("{}: not released: {}", left.tap, left.problem));
        }
        lines.push(if released.left.is_empty() {
            "the daemon still runs: `systemctl disable --now metadatad`, then `metadatad detach` again, removes the rest; \
             `systemctl restart metadatad` attaches to the taps again"
                .to_owned()
        } else {
            "try again with `metadatad detach`; `systemctl stop metadatad`, then `metadatad detach`, removes all of it".to_owned()
        });
    }
    if let Some(removed) = &done.removed {
        for (was_present, what) in [
            (removed.pins, format!("programs, links and maps under {}", target.pin_dir.display())),
            (removed.namespace, format!("namespace {} with its pair", target.namespace)),
        ] {
            lines.push(format!("{what}: {}", if was_present { "removed" } else { "nothing to remove" }));
        }
        for path in &removed.kept {
            lines.push(format!("{}: kept, for a later start; remove it if there is none", path.display()));
        }
    }
    lines.into_iter().map(|line| line + "\n").collect()
}
