//! Documents of the directory source, as a controller would write them.

use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result};
use serde_json::{Value, json};

/// An instance's document. Any field can be set or taken away, so that wrong ones can be made too.
#[derive(Clone, Debug, PartialEq)]
pub struct Document(Value);

impl Document {
    /// A document with the required fields and one port.
    #[must_use]
    pub fn new(uuid: &str, hostname: &str, port: Value) -> Self {
        Self(json!({
            "uuid": uuid,
            "project_id": "f7ac731cc11f40efbc03a9f9e1d1d21f",
            "hostname": hostname,
            "ports": [port],
        }))
    }

    /// Sets a field of the top level.
    #[must_use]
    pub fn with(mut self, field: &str, value: impl Into<Value>) -> Self {
        self.0[field] = value.into();
        self
    }

    /// Sets a field of the first port.
    #[must_use]
    pub fn with_port(mut self, field: &str, value: impl Into<Value>) -> Self {
        self.0["ports"][0][field] = value.into();
        self
    }

    /// Sets the user data; it is written in base64, since it may be anything.
    #[must_use]
    pub fn with_user_data(self, bytes: &[u8]) -> Self {
        self.with("user_data_b64", base64(bytes))
    }

    /// Returns the instance.
    #[must_use]
    pub fn uuid(&self) -> &str {
        self.0["uuid"].as_str().unwrap_or_default()
    }

    /// Returns the first address of the first port.
    #[must_use]
    pub fn ipv4(&self) -> Option<String> {
        self.0["ports"][0]["fixed_ips"][0]["ip_address"].as_str().map(str::to_owned)
    }

    /// Returns the document as it is written.
    #[must_use]
    pub fn text(&self) -> String {
        format!("{:#}\n", self.0)
    }

    /// Writes it to `<uuid>.json` in the directory, complete at once: by rename.
    ///
    /// # Errors
    /// If the directory cannot be written.
    pub fn write(&self, directory: &Path) -> Result<()> {
        let file = directory.join(format!("{}.json", self.uuid()));
        let draft = directory.join(format!(".{}.draft", self.uuid()));
        fs::write(&draft, self.text()).with_context(|| format!("writing {}", draft.display()))?;
        fs::rename(&draft, &file).with_context(|| format!("renaming to {}", file.display()))
    }
}

/// A whole document, as it is.
impl From<Value> for Document {
    fn from(document: Value) -> Self {
        Self(document)
    }
}

/// Returns bytes in base64 (RFC 4648, section 4).
#[must_use]
pub fn base64(bytes: &[u8]) -> String {
    use ::base64::Engine as _;
    ::base64::engine::general_purpose::STANDARD.encode(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_daemon_accepts_what_the_lab_writes() {
        let port = json!({"id": "00000001-0000-4000-8000-000000000001", "mac_address": "fa:16:3e:00:00:01",
            "fixed_ips": [{"ip_address": "10.0.0.5"}]});
        let document = Document::new("00000001-0000-4000-8000-000000000002", "a", port).with_user_data(b"\0\xff");
        let record = metadata_user::source::wire::parse(document.text().as_bytes()).unwrap();
        assert_eq!(record.user_data.as_deref(), Some(b"\0\xff".as_slice()));
        assert_eq!(record.ports[0].device_name(), "tap00000001-00");
    }
}
