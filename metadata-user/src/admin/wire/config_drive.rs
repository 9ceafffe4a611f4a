//! The files of a config drive, as the admin API answers them.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::api::DriveFile;

/// The files of an instance's config drive. `Debug` names the instance only.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConfigDrive {
    /// The instance.
    pub instance: String,
    /// What is in the files, each once, in base64.
    pub bodies: Vec<String>,
    /// The files, ascending by path.
    pub files: Vec<ConfigDriveFile>,
}

/// A file of a config drive.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConfigDriveFile {
    /// Its path, without a first slash.
    pub path: String,
    /// Where in the bodies its own is, from 0.
    pub body: usize,
}

/// Images of config drives that are kept current.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConfigDrives {
    /// Where they are.
    pub directory: String,
    /// Images that are current.
    pub current: usize,
    /// Instances whose content is not known yet.
    pub waiting: usize,
    /// Images that cannot be written or removed.
    pub failed: usize,
    /// Why one of these cannot, or none can, and the remedy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

impl fmt::Debug for ConfigDrive {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ConfigDrive").field("instance", &self.instance).finish_non_exhaustive()
    }
}

impl ConfigDrive {
    /// Returns the files with their bodies; `None`: a body is missing, or not base64.
    #[must_use]
    pub fn decoded(&self) -> Option<Vec<DriveFile>> {
        let file = |ConfigDriveFile { path, body }: &ConfigDriveFile| {
            let body = crate::base64::decode(self.bodies.get(*body)?).ok()?.into();
            Some(DriveFile { path: path.clone(), body })
        };
        self.files.iter().map(file).collect()
    }
}
