//! The files of a config drive, for the admin API.

use std::collections::HashMap;

use bytes::Bytes;

use super::{View, named};
use crate::admin::ConfigDriveError;
use crate::admin::preview::PreviewError;
use crate::admin::wire::{ConfigDrive, ConfigDriveFile};
use crate::api::DriveFile;
use crate::base64::Encoded;
use crate::config_drive;

impl View {
    /// Returns the files of the drive that an instance has now.
    pub(super) fn drive(&self, name: &str) -> Result<ConfigDrive, ConfigDriveError> {
        let ports: Vec<_> = self.kernel.ports().into_iter().map(|(_, port)| port).collect();
        let id = named::instance(name, &ports, || self.store.all())?;
        let content = self.store.served(id).ok_or_else(|| PreviewError::NoInstance(name.to_owned()))?;
        let access = self.guests.policy(&content.policy()).access;
        let none = |reason: String| ConfigDriveError::None { instance: id.to_string(), reason };
        let files = config_drive::files(&content, &access).map_err(|error| none(error.to_string()))?;
        Ok(wire(id.to_string(), files))
    }
}

/// Returns files with equal bodies once.
fn wire(instance: String, files: Vec<DriveFile>) -> ConfigDrive {
    let mut drive = ConfigDrive { instance, ..ConfigDrive::default() };
    let mut known: HashMap<Bytes, usize> = HashMap::new();
    for DriveFile { path, body } in files {
        let bodies = &mut drive.bodies;
        let body = *known.entry(body).or_insert_with_key(|body| {
            bodies.push(Encoded(body).to_string());
            bodies.len() - 1
        });
        drive.files.push(ConfigDriveFile { path, body });
    }
    drive
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_sent_is_what_there_is_with_each_body_once() {
        let files = [("a/1", "x"), ("a/2", "y"), ("b", "x"), ("c", "")];
        let files = files.map(|(path, body)| DriveFile { path: path.to_owned(), body: body.into() }).to_vec();
        let sent = wire("i".to_owned(), files.clone());
        assert_eq!(sent.bodies.len(), 3);
        assert_eq!(sent.decoded(), Some(files));
        assert_eq!(ConfigDrive { bodies: Vec::new(), ..sent.clone() }.decoded(), None);
        assert!(!format!("{sent:?}").contains("bodies"), "nothing of it is in a log");
    }
}
