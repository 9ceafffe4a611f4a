//! `[facts]`: which programs of this node are asked which instance a tap belongs to.

use std::path::PathBuf;

use super::key::{Key, Table};
use super::kind::{AbsolutePath, Choice};
use super::refusal::Refusal;
use super::written::Reader;

/// `[facts]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Facts {
    /// Socket of Open vSwitch's database; `None`: it is not asked.
    pub openvswitch: Option<PathBuf>,
    /// Directory of libvirt's running domains; `None`: it is not read.
    pub libvirt: Option<PathBuf>,
}

pub(super) static TABLE: Table = Table {
    name: "facts",
    about: "Programs on this node that know which instance a tap belongs to. They come before documents. A tap on which \
            they disagree is refused: see `metadatad ports`.",
    keys: &[&OPENVSWITCH, &OPENVSWITCH_SOCKET, &LIBVIRT, &LIBVIRT_DIR],
    tables: &[],
    is_optional: false,
    live: &[],
};

const SWITCH: Choice<bool> = Choice(&[("auto", true), ("off", false)]);

static OPENVSWITCH: Key<Choice<bool>> = Key {
    name: "openvswitch",
    kind: SWITCH,
    default: "\"auto\"",
    about: "\"auto\": Open vSwitch is asked where it runs, also when it starts later. \"off\": never.",
    reason: "Where it runs, it knows each tap's port and instance before any document does.",
};

static OPENVSWITCH_SOCKET: Key<AbsolutePath> = Key {
    name: "openvswitch_socket",
    kind: AbsolutePath::Socket,
    default: "\"/var/run/openvswitch/db.sock\"",
    about: "Socket of Open vSwitch's database.",
    reason: "Open vSwitch's own default, and every package's.",
};

static LIBVIRT: Key<Choice<bool>> = Key {
    name: "libvirt",
    kind: SWITCH,
    default: "\"auto\"",
    about: "\"auto\": libvirt's running domains are read where there are any, also when it starts later. \"off\": never.",
    reason: "Where it runs, it knows each tap's instance before any document does.",
};

static LIBVIRT_DIR: Key<AbsolutePath> = Key {
    name: "libvirt_dir",
    kind: AbsolutePath::Any,
    default: "\"/run/libvirt/qemu\"",
    about: "Directory in which libvirt keeps the XML of running domains.",
    reason: "libvirt's own default for the system's QEMU driver.",
};

pub(super) fn read(table: &Reader<'_>) -> Result<Facts, Refusal> {
    let (socket, dir) = (table.value(&OPENVSWITCH_SOCKET)?, table.value(&LIBVIRT_DIR)?);
    Ok(Facts {
        openvswitch: table.value(&OPENVSWITCH)?.then_some(socket),
        libvirt: table.value(&LIBVIRT)?.then_some(dir),
    })
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::config::{Config, ConfigError};

    fn read(text: &str) -> Result<Facts, ConfigError> {
        Config::parse(Path::new("m.toml"), text).map(|config| config.facts)
    }

    #[test]
    fn each_observer_has_a_place_and_a_switch() {
        let facts = read("[facts]\nopenvswitch = 'off'\nlibvirt = 'auto'\nlibvirt_dir = '/x'").expect("possible");
        assert_eq!(facts, Facts { openvswitch: None, libvirt: Some("/x".into()) });
        let facts = read("[facts]\nopenvswitch_socket = '/s'\nlibvirt = 'off'").expect("possible");
        assert_eq!(facts, Facts { openvswitch: Some("/s".into()), libvirt: None });
    }

    #[test]
    fn impossible_values_are_refused_with_the_remedy() {
        for (text, place, problem, remedy) in [
            ("[facts]\nlibvirt = 'on'", "m.toml:2:11", "`on`", "\"auto\" or \"off\""),
            ("[facts]\nopenvswitch = 'yes'", "m.toml:2:15", "`yes`", "\"auto\" or \"off\""),
            ("[facts]\nlibvirt_dir = 'qemu'", "m.toml:2:15", "not an absolute path", "from `/`"),
            ("[facts]\nopenvswitch_socket = 'db.sock'", "m.toml:2:22", "not an absolute path", "from `/`"),
            ("[facts]\novn = 'auto'", "m.toml:2:1", "unknown field", "correct the name"),
        ] {
            let message = read(text).expect_err(text).to_string();
            assert!(message.starts_with(place), "{text:?}: {message}");
            assert!(message.contains(problem) && message.contains(remedy), "{text:?}: {message}");
        }
    }
}
