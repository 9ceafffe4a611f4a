//! `[snapshot]`: what the node keeps on disk, sealed.

use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::key::{Key, Table};
use super::kind::{AbsolutePath, Switch, TIMEOUT, Timeout};
use super::refusal::{Fault, Refusal};
use super::written::Reader;

/// What is at the end of the name of a file that is being written.
pub(crate) const DRAFT: &str = ".new";

/// What is at the end of the name of a snapshot that was refused.
pub(crate) const REFUSED: &str = ".refused";

/// What is at the end of the name of the file in which removals are recorded.
pub(crate) const REMOVED: &str = ".removed";

/// What is at the end of the name of the file with the history of boots.
pub(crate) const BOOTS: &str = ".boots";

/// Files beside the snapshot that it removes or replaces: the key must be none of them.
const BESIDE: [&str; 6] = [DRAFT, REFUSED, REMOVED, ".removed.new", BOOTS, ".boots.new"];

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

pub(super) static TABLE: Table = Table {
    name: "snapshot",
    about: "What guests read is kept on disk, sealed, so that a node that boots while its source is away serves what it had.",
    keys: &[&ENABLED, &PATH, &KEY_FILE, &INTERVAL],
    tables: &[],
    is_optional: false,
    live: &[],
};

static ENABLED: Key<Switch> = Key {
    name: "enabled",
    kind: Switch,
    default: "true",
    about: "Whether there is a snapshot.",
    reason: "A node that boots while its controller is away then has something to serve.",
};

static PATH: Key<AbsolutePath> = Key {
    name: "path",
    kind: AbsolutePath::File,
    default: "\"/var/lib/metadatad/snapshot\"",
    about: "The snapshot's file.",
    reason: "In the directory that systemd gives the daemon to keep state in.",
};

static KEY_FILE: Key<AbsolutePath> = Key {
    name: "key_file",
    kind: AbsolutePath::File,
    default: "\"/var/lib/metadatad/snapshot.key\"",
    about: "The file of its key, made at the first start. It protects copies of the snapshot that travel without it: \
            backups, a disk taken out of a RAID, a file attached to a report. It does not protect from root on this node, \
            nor a stolen disk that holds both. For that, keep the key in the machine's TPM: a systemd credential with the \
            name metadatad-snapshot-key (see LoadCredentialEncrypted= in metadatad.service) comes before this file.",
    reason: "Beside the snapshot, readable by root alone.",
};

static INTERVAL: Key<Timeout> = Key {
    name: "interval",
    kind: TIMEOUT,
    default: "\"2s\"",
    about: "Least time between two writes. A removal is written at once. Where a write takes longer than a twentieth of \
            this, as with very many instances, the pause grows with it.",
    reason: "A node that loses power loses at most two seconds of changes, which its controller sends again.",
};

pub(super) fn read(table: &Reader<'_>) -> Result<Snapshot, Refusal> {
    let snapshot = Snapshot {
        enabled: table.value(&ENABLED)?,
        path: table.value(&PATH)?,
        key_file: table.value(&KEY_FILE)?,
        interval: table.value(&INTERVAL)?,
    };
    match shared(&snapshot) {
        None => Ok(snapshot),
        Some(problem) => {
            let span = table.span_of(KEY_FILE.name).or_else(|| table.span_of(PATH.name)).unwrap_or_default();
            Err(Fault::new(problem, "give it a path of its own, best in another directory").at(span))
        }
    }
}

/// Says how the key's file and the snapshot's would overwrite each other.
fn shared(snapshot: &Snapshot) -> Option<String> {
    let (path, key_file) = (&snapshot.path, &snapshot.key_file);
    if key_file == path {
        return Some("snapshot.key_file is the snapshot itself".to_owned());
    }
    if let Some(suffix) = BESIDE.iter().find(|suffix| is_beside(key_file, path, suffix)) {
        return Some(format!("snapshot.key_file is the snapshot's path with {suffix}, which it overwrites"));
    }
    is_beside(path, key_file, DRAFT)
        .then(|| format!("snapshot.path is the key's path with {DRAFT}, which a new key overwrites"))
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
            ("[snapshot]\npath = '/var/lib/metadatad/snapshot.key'", "m.toml:2:8", "the snapshot itself", "of its own"),
            ("[snapshot]\ninterval = 2", "m.toml:2:12", "expected a string in quotes", "write a value"),
            ("[snapshot]\ninterval = '2h'", "m.toml:2:12", "not a possible time-out", "100ms"),
        ] {
            let message = Config::parse(Path::new("m.toml"), text).expect_err(text).to_string();
            assert!(message.starts_with(place), "{text:?}: {message}");
            assert!(message.contains(problem) && message.contains(remedy), "{text:?}: {message}");
        }
    }
}
