//! `[snapshot]`: what the node keeps on disk, sealed.

use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;

use super::ConfigError;
use super::raw::{File, Written};

/// Whether there is a snapshot: a node that boots while its controller is away then has something to serve.
pub const ENABLED: bool = true;

/// The snapshot: in the directory that systemd gives the daemon to keep state in.
pub const PATH: &str = "/var/lib/metadatad/snapshot";

/// Its key, where no systemd credential brings one.
pub const KEY_FILE: &str = "/var/lib/metadatad/snapshot.key";

/// What a node that loses power may miss: two seconds of changes, which its controller tells it again.
pub const INTERVAL: Duration = Duration::from_secs(2);

/// What is at the end of the name of a file that is being written.
pub(crate) const DRAFT: &str = ".new";

/// What is at the end of the name of a snapshot that was refused.
pub(crate) const REFUSED: &str = ".refused";

/// What is at the end of the name of the file in which removals are recorded.
pub(crate) const REMOVED: &str = ".removed";

/// Files beside the snapshot that it removes or replaces: the key must be none of them.
const BESIDE: [&str; 4] = [DRAFT, REFUSED, REMOVED, ".removed.new"];

/// `[snapshot]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshot {
    /// Whether there is one.
    pub enabled: bool,
    /// The file.
    pub path: PathBuf,
    /// The file of its key, where no systemd credential brings one.
    pub key_file: PathBuf,
    /// Least time between two writes, but for those that follow a removal.
    pub interval: Duration,
}

impl Default for Snapshot {
    fn default() -> Self {
        Self { enabled: ENABLED, path: PATH.into(), key_file: KEY_FILE.into(), interval: INTERVAL }
    }
}

/// The table as written.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Raw {
    enabled: Option<bool>,
    path: Written<String>,
    key_file: Written<String>,
    interval: Written<String>,
}

impl Raw {
    /// Checks the table.
    pub(super) fn check(self, file: &File<'_>) -> Result<Snapshot, ConfigError> {
        let mut snapshot = Snapshot::default();
        if let Some(enabled) = self.enabled {
            snapshot.enabled = enabled;
        }
        if let Some(path) = self.path {
            snapshot.path = file.file(path)?;
        }
        if let Some(path) = self.key_file {
            let span = path.span();
            snapshot.key_file = file.file(path)?;
            let remedy = "give it a path of its own, best in another directory";
            if snapshot.key_file == snapshot.path {
                let problem = "snapshot.key_file is the snapshot itself".to_owned();
                return Err(file.refuse(span, problem, remedy));
            }
            if let Some(suffix) = BESIDE.iter().find(|suffix| is_beside(&snapshot.key_file, &snapshot.path, suffix)) {
                let problem = format!("snapshot.key_file is the snapshot's path with {suffix}, which it overwrites");
                return Err(file.refuse(span, problem, remedy));
            }
            if is_beside(&snapshot.path, &snapshot.key_file, DRAFT) {
                let problem = format!("snapshot.path is the key's path with {DRAFT}, which a new key overwrites");
                return Err(file.refuse(span, problem, remedy));
            }
        }
        if let Some(interval) = self.interval {
            snapshot.interval = file.timeout(interval)?;
        }
        Ok(snapshot)
    }
}

/// Whether a path is another one with something at its end.
fn is_beside(path: &Path, of: &Path, suffix: &str) -> bool {
    path.as_os_str().as_bytes().strip_suffix(suffix.as_bytes()) == Some(of.as_os_str().as_bytes())
}

#[cfg(test)]
mod tests {
    use super::super::Config;
    use super::*;

    #[test]
    fn values_are_taken_as_written() {
        let text = "[snapshot]\nenabled = false\npath = '/a/b'\nkey_file = '/c'\ninterval = '500ms'\n";
        let expected = Snapshot {
            enabled: false,
            path: "/a/b".into(),
            key_file: "/c".into(),
            interval: Duration::from_millis(500),
        };
        assert_eq!(Config::parse(Path::new("m.toml"), text).unwrap().snapshot, expected);
    }

    #[test]
    fn refusals_name_place_and_remedy() {
        for (text, place, problem, remedy) in [
            ("[snapshot]\nfile = '/x'", "m.toml:2:1", "unknown field `file`", "correct the name"),
            ("[snapshot]\nenabled = 1", "m.toml:2:11", "invalid type", "write a value"),
            ("[snapshot]\npath = 'x'", "m.toml:2:8", "not an absolute path", "from `/`"),
            ("[snapshot]\npath = '/var/lib/'", "m.toml:2:8", "is a directory", "name a file in it"),
            ("[snapshot]\nkey_file = 'x'", "m.toml:2:12", "not an absolute path", "from `/`"),
            ("[snapshot]\npath = '/x'\nkey_file = '/x'", "m.toml:3:12", "the snapshot itself", "of its own"),
            ("[snapshot]\npath = '/x'\nkey_file = '/x.new'", "m.toml:3:12", "overwrites", "of its own"),
            ("[snapshot]\npath = '/x'\nkey_file = '/x.refused'", "m.toml:3:12", "overwrites", "of its own"),
            ("[snapshot]\npath = '/x.new'\nkey_file = '/x'", "m.toml:3:12", "overwrites", "of its own"),
            ("[snapshot]\ninterval = 2", "m.toml:2:12", "expected a text in quotes", "write a value"),
            ("[snapshot]\ninterval = '2h'", "m.toml:2:12", "not a possible time-out", "100ms"),
        ] {
            let message = Config::parse(Path::new("m.toml"), text).expect_err(text).to_string();
            assert!(message.starts_with(place), "{text:?}: {message}");
            assert!(message.contains(problem) && message.contains(remedy), "{text:?}: {message}");
        }
    }
}
