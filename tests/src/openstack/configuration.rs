//! The programs' configuration: files of `tests/controllers/openstack/etc` with values in the place of `@NAMES@`.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result};

use super::supervisor::script;
use crate::fetched;

/// Values by name.
#[derive(Clone, Debug, Default)]
pub(super) struct Values(BTreeMap<&'static str, String>);

impl Values {
    /// Some of every name, with which nothing is reached.
    pub(super) fn none() -> Self {
        let mut values = Self::default();
        for name in [
            "KEYSTONE",
            "NOVA",
            "PLACEMENT",
            "NEUTRON",
            "IMAGE",
            "TOKEN_SECONDS",
            "CACHE_SECONDS",
            "EVENTS_SECONDS",
            "TOKEN_CACHE_SECONDS",
        ] {
            values.set(name, 1);
        }
        values.set("RABBITMQ", "fake://");
        values.set("SECRET", "none");
        values.set("NOTIFICATION_FORMAT", "unversioned");
        values.set("NOTIFICATION_DRIVER", "noop");
        values.set("NOTIFY_ON_STATE_CHANGE", "");
        values
    }

    pub(super) fn set(&mut self, name: &'static str, value: impl ToString) {
        self.0.insert(name, value.to_string());
    }
}

/// Writes a program's configuration into its directory.
pub(super) fn write(program: &str, directory: &Path, values: &Values) -> Result<()> {
    let read = |name: &str| {
        let path = script("etc").join(name);
        fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))
    };
    let template = read(&format!("{program}.conf"))?.replace("@CREDENTIAL@", &read("credential.conf")?);
    let etc = fetched::collection("cloud")?.join("venv/etc");
    let mut text = String::new();
    // Text and names take turns.
    for (place, part) in template.split('@').enumerate() {
        match part {
            text_part if place % 2 == 0 => text += text_part,
            "DIRECTORY" => text += &directory.display().to_string(),
            "PASTE" => text += &etc.display().to_string(),
            name => text += values.0.get(name).with_context(|| format!("{program}.conf: no value for @{name}@"))?,
        }
    }
    fs::write(directory.join(format!("{program}.conf")), text)?;
    if program == "nova" {
        fs::copy(etc.join("nova/api-paste.ini"), directory.join("api-paste.ini"))?;
    }
    Ok(())
}
