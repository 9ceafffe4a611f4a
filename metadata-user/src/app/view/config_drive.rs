//! The files of a config drive, for the admin API.

use std::collections::HashMap;

use bytes::Bytes;

use super::{View, named};
use crate::admin::ConfigDriveError;
use crate::admin::preview::PreviewError;
use crate::admin::wire::{self, ConfigDrive, ConfigDriveFile};
use crate::api::DriveFile;
use crate::base64::Encoded;
use crate::config_drive::{self, KeeperState};
use crate::error_text;

impl View {
    /// Returns the files of the drive that an instance has now.
    pub(super) fn config_drive_of(&self, name: &str) -> Result<ConfigDrive, ConfigDriveError> {
        let ports: Vec<_> = self.kernel.ports().into_iter().map(|(_, port)| port).collect();
        let id = named::instance(name, &ports, || self.store.all())?;
        let content = self.store.served(id).ok_or_else(|| PreviewError::NoInstance(name.to_owned()))?;
        let access = self.guests.policy(&content.policy()).access;
        let none = |reason: String| ConfigDriveError::None { instance: id.to_string(), reason };
        let files = config_drive::files(&content, &access).map_err(|error| none(error.to_string()))?;
        Ok(drive(id.to_string(), files))
    }
}

/// Returns the state of images that are kept.
pub(super) fn state(state: &KeeperState) -> wire::ConfigDrives {
    wire::ConfigDrives {
        directory: state.directory.display().to_string(),
        current: state.current,
        waiting: state.waiting,
        failed: state.failed,
        error: state.error.as_deref().map(error_text::one_line),
    }
}

/// Returns files with equal bodies once.
fn drive(instance: String, files: Vec<DriveFile>) -> ConfigDrive {
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
        let sent = drive("i".to_owned(), files.clone());
        assert_eq!(sent.bodies.len(), 3);
        assert_eq!(sent.decoded(), Some(files));
        assert_eq!(ConfigDrive { bodies: Vec::new(), ..sent.clone() }.decoded(), None);
        assert!(!format!("{sent:?}").contains("bodies"), "nothing of it is in a log");
    }
}
