//! `[admin]`: the socket that the commands talk to.

use std::path::PathBuf;

use super::key::{Key, Table};
use super::kind::AbsolutePath;
use super::refusal::Refusal;
use super::written::Reader;

/// `[admin]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Admin {
    /// Path of the Unix socket.
    pub socket: PathBuf,
}

pub(super) static TABLE: Table = Table {
    name: "admin",
    about: "The admin API, for the commands of `metadatad` on this node.",
    keys: &[&SOCKET],
    tables: &[],
    is_optional: false,
};

static SOCKET: Key<AbsolutePath> = Key {
    name: "socket",
    kind: AbsolutePath::Socket,
    default: "\"/run/metadatad/admin.sock\"",
    about: "Unix socket (mode 0600) that `metadatad status`, `ports`, `source`, `counters` and `trace` connect to.",
    reason: "In the directory that systemd makes for the daemon while it runs.",
};

pub(super) fn read(table: &Reader<'_>) -> Result<Admin, Refusal> {
    Ok(Admin { socket: table.value(&SOCKET)? })
}

#[cfg(test)]
mod tests {
    use crate::config::tests::{read, refuses};

    #[test]
    fn values_are_taken_as_written() {
        assert_eq!(read("[admin]\nsocket = '/tmp/a'").expect("accepted").admin.socket, std::path::Path::new("/tmp/a"));
    }

    #[test]
    fn refusals_name_place_and_remedy() {
        let long = format!("[admin]\nsocket = '/{}'", "x".repeat(107));
        refuses(&[
            ("[admin]\nsocket = 'a.sock'", "m.toml:2:10", "not an absolute path", "from `/`"),
            (&long, "m.toml:2:10", "of 108 bytes is too long", "use at most 107"),
            ("admin = '/x'", "m.toml:1:1", "`admin` is a table", "write [admin] on a line of its own"),
        ]);
    }
}
