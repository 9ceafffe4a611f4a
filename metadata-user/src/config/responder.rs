//! `[responder]`: the network namespace in which guests are answered.

use super::key::{Key, Table};
use super::kind::{Name, Number};
use super::refusal::Refusal;
use super::written::Reader;

/// `[responder]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Responder {
    /// Name of the network namespace, as `ip netns` shows it.
    pub namespace: String,
    /// Name of the host's end of the pair; the far end has the same name inside the namespace.
    pub interface: String,
    /// TCP port on which guests are answered.
    pub port: u16,
}

pub(super) static TABLE: Table = Table {
    name: "responder",
    about: "The network namespace in which guests are answered. Nothing outside it can connect to the responder.",
    keys: &[&NAMESPACE, &INTERFACE, &PORT],
    tables: &[],
    is_optional: false,
    live: &[],
};

/// Longest name of a namespace: a file name under `/run/netns` (`NAME_MAX`).
const LONGEST_NAMESPACE: usize = 255;
/// Longest name of an interface: the kernel's `IFNAMSIZ` less its final zero.
pub(super) const LONGEST_INTERFACE: usize = 15;

static NAMESPACE: Key<Name> = Key {
    name: "namespace",
    kind: Name { longest: LONGEST_NAMESPACE },
    default: "\"metadatad\"",
    about: "Name of the network namespace, as `ip netns` shows it. It is created when it does not exist.",
    reason: "The name of the program, so that `ip netns` says what the namespace is for.",
};

static INTERFACE: Key<Name> = Key {
    name: "interface",
    kind: Name { longest: LONGEST_INTERFACE },
    default: "\"metadatad0\"",
    about: "Name of the veth pair between the node and that namespace; both ends have it. No pattern of `ports.match` may \
            match it.",
    reason: "It does not match the default of `ports.match`, so it is never taken for a guest's tap.",
};

static PORT: Key<Number<u16>> = Key {
    name: "port",
    kind: Number { least: 1, most: 65535 },
    default: "80",
    about: "TCP port on which guests are answered.",
    reason: "Every client of the metadata service asks port 80.",
};

pub(super) fn read(table: &Reader<'_>) -> Result<Responder, Refusal> {
    Ok(Responder { namespace: namespace(table)?, interface: interface(table)?, port: table.value(&PORT)? })
}

/// Reads the namespace alone.
pub(super) fn namespace(table: &Reader<'_>) -> Result<String, Refusal> {
    table.value(&NAMESPACE)
}

/// Reads the interface alone.
pub(super) fn interface(table: &Reader<'_>) -> Result<String, Refusal> {
    table.value(&INTERFACE)
}

#[cfg(test)]
mod tests {
    use crate::config::tests::{read, refuses};

    #[test]
    fn values_are_taken_as_written() {
        let text = "[responder]\nnamespace = 'ns1'\ninterface = 'pair1'\nport = 8080\n";
        let expected = super::Responder { namespace: "ns1".into(), interface: "pair1".into(), port: 8080 };
        assert_eq!(read(text).expect("accepted").responder, expected);
    }

    #[test]
    fn refusals_name_place_and_remedy() {
        refuses(&[
            ("[responder]\nprot = 80\n", "m.toml:2:1", "unknown field `prot`", "correct the name"),
            ("[responder]\nport = 'x'\n", "m.toml:2:8", "invalid type", "write a value"),
            ("[responder]\nport = 8.5\n", "m.toml:2:8", "invalid type: float", "without quotes or fractions"),
            ("[responder]\nport = 0\n", "m.toml:2:8", "0 is out of range", "use 1 to 65535"),
            ("[responder]\nport = 65536", "m.toml:2:8", "65536", "use 1 to 65535"),
            ("[responder]\nport = 99999999999999999999", "m.toml:2:8", "is out of range", "use 1 to 65535"),
            ("[responder]\ninterface = 'sixteen-letters-'", "m.toml:2:13", "not a possible name", "use 1 to 15"),
            ("[responder]\nnamespace = 'a/b'", "m.toml:2:13", "not a possible name", "use 1 to 255"),
            ("[responder]\ninterface = 'tap0'", "m.toml:2:13", "matches ports.match", "choose a name"),
        ]);
    }
}
