//! `[admin]`: the socket that the commands talk to.

use std::path::PathBuf;

use super::key::{Key, Table};
use super::kind::{AbsolutePath, Name};
use super::refusal::Refusal;
use super::written::Reader;

/// `[admin]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Admin {
    /// Path of the Unix socket.
    pub socket: PathBuf,
    /// Name of the group whose members may read, if there is one of this name.
    pub group: String,
}

pub(super) static TABLE: Table = Table {
    name: "admin",
    about: "The admin API, for the commands of `metadatad` on this node.",
    keys: &[&SOCKET, &GROUP],
    tables: &[],
    is_optional: false,
    live: &[],
};

static SOCKET: Key<AbsolutePath> = Key {
    name: "socket",
    kind: AbsolutePath::Socket,
    default: "\"/run/metadatad/admin.sock\"",
    about: "Unix socket that `metadatad status`, `ports`, `source`, `counters` and `trace` connect to.",
    reason: "In the directory that systemd makes for the daemon while it runs.",
};

/// The same for the controller.
pub(super) static CONTROLLER_TABLE: Table = Table {
    name: "admin",
    about: "The admin API, for `metadatad controller` on this host.",
    keys: &[&CONTROLLER_SOCKET, &GROUP],
    tables: &[],
    is_optional: false,
    live: &[],
};

static CONTROLLER_SOCKET: Key<AbsolutePath> = Key {
    name: "socket",
    kind: AbsolutePath::Socket,
    default: "\"/run/metadatad-controller/admin.sock\"",
    about: "Unix socket that `metadatad controller status` and its siblings connect to.",
    reason: "In the directory that systemd makes for the controller while it runs.",
};

/// Longest name of a group: what useradd(8) and its kin make.
const LONGEST_GROUP: usize = 32;

static GROUP: Key<Name> = Key {
    name: "group",
    kind: Name { longest: LONGEST_GROUP },
    default: "\"metadatad\"",
    about: "Members of this group may read: `metadatad status`, `ports`, `source` and `counters`, and whether an instance has \
            a password. The socket is theirs (mode 0660). Only root and the daemon's user may do more. Without a group of this \
            name the socket is for the daemon's user alone (mode 0600).",
    reason: "A group that no system has, so that nobody may read until an operator creates it for monitoring.",
};

pub(super) fn read(table: &Reader<'_>) -> Result<Admin, Refusal> {
    Ok(Admin { socket: table.value(&SOCKET)?, group: table.value(&GROUP)? })
}

/// Reads the controller's table.
pub(super) fn read_for_controller(table: &Reader<'_>) -> Result<Admin, Refusal> {
    Ok(Admin { socket: table.value(&CONTROLLER_SOCKET)?, group: table.value(&GROUP)? })
}

#[cfg(test)]
mod tests {
    use crate::config::tests::{read, refuses};

    #[test]
    fn values_are_taken_as_written() {
        let admin = read("[admin]\nsocket = '/tmp/a'\ngroup = 'watchers'").expect("accepted").admin;
        assert_eq!((admin.socket.as_path(), admin.group.as_str()), (std::path::Path::new("/tmp/a"), "watchers"));
    }

    #[test]
    fn refusals_name_place_and_remedy() {
        let long = format!("[admin]\nsocket = '/{}'", "x".repeat(107));
        refuses(&[
            ("[admin]\nsocket = 'a.sock'", "m.toml:2:10", "not an absolute path", "from `/`"),
            ("[admin]\ngroup = ''", "m.toml:2:9", "not a possible name", "1 to 32"),
            (&long, "m.toml:2:10", "of 108 bytes is too long", "use at most 107"),
            ("admin = '/x'", "m.toml:1:1", "`admin` is a table", "write [admin] on a line of its own"),
        ]);
    }
}
