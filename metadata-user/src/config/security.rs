//! `[security]`: what the daemon gives up.

use super::key::{Key, Table};
use super::kind::Name;
use super::refusal::Refusal;
use super::written::Reader;

/// `[security]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Security {
    /// Name of the user that threads become, if there is one of this name.
    pub user: String,
}

pub(super) static TABLE: Table = Table {
    name: "security",
    about: "What the daemon gives up. `metadatad status --security` shows what each of its threads has left.",
    keys: &[&USER],
    tables: &[],
    is_optional: false,
    live: &[],
};

/// Longest name of a user: what useradd(8) makes.
const LONGEST_USER: usize = 32;

static USER: Key<Name> = Key {
    name: "user",
    kind: Name { longest: LONGEST_USER },
    default: "\"metadatad\"",
    about: "The threads that answer guests, and the main thread (admin API) become this user after \
            set-up. Without a user of this name, or with \"root\", they stay root's, without capabilities. The threads of \
            ports, source, observers and snapshot stay root's, as the files that they use are.",
    reason: "A user of its own: it owns no file and runs nothing else. No system has it until an operator creates it.",
};

pub(super) fn read(table: &Reader<'_>) -> Result<Security, Refusal> {
    Ok(Security { user: table.value(&USER)? })
}

#[cfg(test)]
mod tests {
    use crate::config::tests::{read, refuses};

    #[test]
    fn values_are_taken_as_written() {
        assert_eq!(read("").expect("accepted").security.user, "metadatad");
        assert_eq!(read("[security]\nuser = 'root'").expect("accepted").security.user, "root");
    }

    #[test]
    fn refusals_name_place_and_remedy() {
        refuses(&[("[security]\nuser = ''", "m.toml:2:8", "not a possible name", "1 to 32")]);
    }
}
