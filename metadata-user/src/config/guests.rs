//! `[guests]`: what guests have beyond Nova's trees.

use super::key::{Key, Table};
use super::kind::{Number, Switch, TIMEOUT, Timeout};
use super::refusal::Refusal;
use super::written::Reader;
use crate::policy::Extensions;

pub(super) static TABLE: Table = Table {
    name: "guests",
    about: "What guests have beyond Nova's trees: docs/guest-extensions.md. None of it is in a listing, and a request that does not ask for \
            it is answered as Nova answers it.",
    keys: &[&EXTENSIONS, &WAITS_PER_INSTANCE, &LONGEST_WAIT, &ATTRIBUTES_PER_INSTANCE],
    tables: &[],
    is_optional: false,
    live: &["extensions", "waits_per_instance", "longest_wait", "attributes_per_instance"],
};

/// Most waits of an instance: more than it can have connections for.
const MOST_WAITS: usize = 65_536;

static EXTENSIONS: Key<Switch> = Key {
    name: "extensions",
    kind: Switch,
    default: "true",
    about: "Whether guests have any of it. false: headers and queries that ask for it mean nothing, and its paths answer 404, as with \
            Nova.",
    reason: "No client of Nova's asks for it by chance, and what it costs is bounded.",
};

static WAITS_PER_INSTANCE: Key<Number<usize>> = Key {
    name: "waits_per_instance",
    kind: Number { least: 0, most: MOST_WAITS },
    default: "64",
    about: "Most requests of one instance that wait for a change (`?wait_for_change=true`) at a time, all its ports together; one beyond \
            is answered with 429 and `Retry-After: 1`. 0: none may wait. Each holds a connection, which gives way when another needs its \
            place.",
    reason: "A guest has a few agents; a container host some for each pod.",
};

static LONGEST_WAIT: Key<Timeout> = Key {
    name: "longest_wait",
    kind: TIMEOUT,
    default: "\"5m\"",
    about: "Longest time that a request waits for a change, also where it asks for more or names no `timeout_sec`; then the answer is what \
            there is.",
    reason: "A client that waits on asks again with the tag that it has, at no cost. What has left without a word is noticed then.",
};

/// Most attributes of an instance: more than 64 KiB have room for, if each has a name.
const MOST_ATTRIBUTES: usize = 1024;

static ATTRIBUTES_PER_INSTANCE: Key<Number<usize>> = Key {
    name: "attributes_per_instance",
    kind: Number { least: 0, most: MOST_ATTRIBUTES },
    default: "0",
    about: "Most guest attributes of an instance: texts of at most 4 KiB that the guest writes for its operator, such as its SSH host keys, below \
            /openstack/latest/guest-attributes/; 64 KiB in all, 10 writes per second. 0: guests write none, and the paths answer 404.",
    reason: "Nobody reads what guests write unless they are asked to.",
};

pub(super) fn read(table: &Reader<'_>) -> Result<Extensions, Refusal> {
    Ok(Extensions {
        enabled: table.value(&EXTENSIONS)?,
        waits_per_instance: table.value(&WAITS_PER_INSTANCE)?,
        longest_wait: table.value(&LONGEST_WAIT)?,
        attributes_per_instance: table.value(&ATTRIBUTES_PER_INSTANCE)?,
    })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::config::tests::{read, refuses};

    #[test]
    fn values_are_taken_as_written() {
        let text =
            "[guests]\nextensions = false\nwaits_per_instance = 0\nlongest_wait = '90s'\nattributes_per_instance = 9\n";
        let expected = Extensions {
            enabled: false,
            waits_per_instance: 0,
            longest_wait: Duration::from_secs(90),
            attributes_per_instance: 9,
        };
        assert_eq!(read(text).expect("accepted").guests, expected);
    }

    #[test]
    fn refusals_name_place_and_remedy() {
        refuses(&[
            ("[guests]\nwaits_per_instance = -1", "m.toml:2:22", "-1 is out of range", "use 0 to"),
            ("[guests]\nlongest_wait = '0s'", "m.toml:2:16", "not a possible time-out", "10s"),
        ]);
    }
}
