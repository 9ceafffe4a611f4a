//! `[audit]`: where the record of each request goes.

use std::path::PathBuf;

use super::key::{Key, Table};
use super::kind::{AbsolutePath, Choice, Number};
use super::refusal::Refusal;
use super::written::Reader;

/// `[audit]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Audit {
    /// Where records go.
    pub to: AuditTarget,
    /// The file.
    pub path: PathBuf,
    /// Size in MiB at which the file is rotated; 0: never.
    pub rotate_size: u64,
    /// Rotated files that are kept.
    pub rotate_keep: u32,
    /// Records that may wait to be written.
    pub queue: usize,
}

/// Where audit records go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AuditTarget {
    /// Nowhere.
    None,
    /// A file.
    File,
    /// The systemd journal.
    Journald,
}

pub(super) static TABLE: Table = Table {
    name: "audit",
    about: "The audit log: one record for each request of a guest, and for connections that are refused or end early. It holds no \
            bodies, no tokens and no queries. docs/audit.md lists its fields.",
    keys: &[&TO, &PATH, &ROTATE_SIZE, &ROTATE_KEEP, &QUEUE],
    tables: &[],
    is_optional: false,
    live: &[],
};

/// Most MiB of one file: more than anybody opens.
const LARGEST: u64 = 1 << 20;
/// Most records that may wait: each takes about 600 bytes of memory, waiting or not.
const LONGEST_QUEUE: usize = 1 << 20;

static TO: Key<Choice<AuditTarget>> = Key {
    name: "to",
    kind: Choice(&[("none", AuditTarget::None), ("file", AuditTarget::File), ("journald", AuditTarget::Journald)]),
    default: "\"none\"",
    about: "\"none\", \"file\" (one JSON object per line) or \"journald\" (fields with the prefix METADATAD_).",
    reason: "A record per request is data about the guests' owners: who keeps it decides so.",
};

static PATH: Key<AbsolutePath> = Key {
    name: "path",
    kind: AbsolutePath::File,
    default: "\"/var/log/metadatad/audit.jsonl\"",
    about: "The file of `to = \"file\"`, mode 0640. Its directory must exist. A file that another program has renamed or removed is \
            made anew within a second.",
    reason: "In the directory that systemd gives the daemon for logs.",
};

static ROTATE_SIZE: Key<Number<u64>> = Key {
    name: "rotate_size",
    kind: Number { least: 0, most: LARGEST },
    default: "64",
    about: "Size in MiB at which the file is renamed to `audit.jsonl.1`, that to `.2`, and so on. 0: never, for logrotate.",
    reason: "About 150,000 records; an editor opens it.",
};

static ROTATE_KEEP: Key<Number<u32>> = Key {
    name: "rotate_keep",
    kind: Number { least: 1, most: 1000 },
    default: "7",
    about: "Rotated files that are kept beside the one that is written. The oldest is removed.",
    reason: "With `rotate_size`, half a GiB of disk at most.",
};

static QUEUE: Key<Number<usize>> = Key {
    name: "queue",
    kind: Number { least: 16, most: LONGEST_QUEUE },
    default: "8192",
    about: "Most records that wait to be written. Beyond it records are lost and counted: no guest waits for the log.",
    reason: "5 MiB of memory, only while the audit log is on; a disk that hangs for a second loses nothing at 8,000 requests per \
             second.",
};

pub(super) fn read(table: &Reader<'_>) -> Result<Audit, Refusal> {
    Ok(Audit {
        to: table.value(&TO)?,
        path: table.value(&PATH)?,
        rotate_size: table.value(&ROTATE_SIZE)?,
        rotate_keep: table.value(&ROTATE_KEEP)?,
        queue: table.value(&QUEUE)?,
    })
}

#[cfg(test)]
mod tests {
    use super::{Audit, AuditTarget};
    use crate::config::tests::{read, refuses};

    #[test]
    fn values_are_taken_as_written() {
        let text = "[audit]\nto = 'file'\npath = '/a/b'\nrotate_size = 0\nrotate_keep = 2\nqueue = 16\n";
        let expected = Audit { to: AuditTarget::File, path: "/a/b".into(), rotate_size: 0, rotate_keep: 2, queue: 16 };
        assert_eq!(read(text).expect("accepted").audit, expected);
        assert_eq!(read("").expect("accepted").audit.to, AuditTarget::None);
    }

    #[test]
    fn refusals_name_place_and_remedy() {
        refuses(&[
            ("[audit]\nto = 'syslog'", "m.toml:2:6", "`syslog`", "\"file\" or \"journald\""),
            ("[audit]\npath = 'audit'", "m.toml:2:8", "not an absolute path", "from `/`"),
            ("[audit]\npath = '/var/log/'", "m.toml:2:8", "is a directory", "name a file in it"),
            ("[audit]\nrotate_size = '64M'", "m.toml:2:15", "expected a number", "write a value"),
            ("[audit]\nrotate_keep = 0", "m.toml:2:15", "0 is out of range", "use 1 to 1000"),
            ("[audit]\nqueue = 1", "m.toml:2:9", "1 is out of range", "use 16 to"),
        ]);
    }
}
