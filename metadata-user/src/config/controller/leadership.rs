//! `[controller]`: the name and the lease of a controller in the election.

use std::time::Duration;

use crate::config::etcd::host_name;
use crate::config::key::{Key, OptionalKey, Table};
use crate::config::kind::{Name, Timeout};
use crate::config::refusal::{Fault, Refusal};
use crate::config::written::Reader;

pub(super) static TABLE: Table = Table {
    name: "controller",
    about: "This controller among the others. One of them leads, the others wait.",
    keys: &[&NAME, &LEASE],
    tables: &[],
    is_optional: false,
    live: &[],
};

/// Longest name of a controller: of a host (RFC 1035, section 2.3.4).
const LONGEST_NAME: usize = 253;

static NAME: OptionalKey<Name> = OptionalKey {
    name: "name",
    kind: Name { longest: LONGEST_NAME },
    unset: "the host's name",
    example: "\"control-1\"",
    about: "This controller's name, as `metadatad controller status` shows the leader.",
};

static LEASE: Key<Timeout> = Key {
    name: "lease",
    kind: Timeout { range: Duration::from_secs(2)..=Duration::from_secs(60), zero: false },
    default: "\"6s\"",
    about: "How long a leader that hangs or is cut off stays the leader. Another takes over when it has passed.",
    reason: "A take-over ends within ten seconds, and an election among etcd's members does not end a lease.",
};

pub(super) fn read(table: &Reader<'_>) -> Result<(String, Duration), Refusal> {
    let name = match table.optional(&NAME)? {
        Some(name) => name,
        None => host_name().ok_or_else(|| {
            Fault::new("this host has no name that could be the controller's", "write controller.name").at(table.span())
        })?,
    };
    Ok((name, table.value(&LEASE)?))
}
