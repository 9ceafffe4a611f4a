//! `[facts]`: who on this node says whose a device is.

use std::path::PathBuf;

use serde::Deserialize;

use super::ConfigError;
use super::raw::{File, Written};

/// Where Open vSwitch's database listens, by its own default and in every package.
pub const OPENVSWITCH_SOCKET: &str = "/var/run/openvswitch/db.sock";

/// Where libvirt keeps the XML of running domains.
pub const LIBVIRT_DIR: &str = "/run/libvirt/qemu";

/// `[facts]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Facts {
    /// Socket of Open vSwitch's database; `None`: it is not asked.
    pub openvswitch: Option<PathBuf>,
    /// Directory of libvirt's running domains; `None`: it is not read.
    pub libvirt: Option<PathBuf>,
}

impl Default for Facts {
    /// Both are used wherever they are present.
    fn default() -> Self {
        Self { openvswitch: Some(OPENVSWITCH_SOCKET.into()), libvirt: Some(LIBVIRT_DIR.into()) }
    }
}

/// The table as written.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Raw {
    openvswitch: Written<String>,
    openvswitch_socket: Written<String>,
    libvirt: Written<String>,
    libvirt_dir: Written<String>,
}

impl Raw {
    /// Checks the table.
    pub(super) fn check(self, file: &File<'_>) -> Result<Facts, ConfigError> {
        let mut facts = Facts::default();
        if let Some(socket) = self.openvswitch_socket {
            facts.openvswitch = Some(file.socket(socket)?);
        }
        if let Some(dir) = self.libvirt_dir {
            facts.libvirt = Some(file.absolute(dir)?);
        }
        for (written, place) in [(self.openvswitch, &mut facts.openvswitch), (self.libvirt, &mut facts.libvirt)] {
            if let Some(written) = written
                && !file.one_of(written, &[("auto", true), ("off", false)])?
            {
                *place = None;
            }
        }
        Ok(facts)
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::config::Config;

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
