//! Where the snapshot's key comes from: a systemd credential, else a file, which is made when it is missing.

use std::ffi::OsString;
use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use tracing::info;

use crate::durable::{self, Draft};
use crate::secret::seal::{SealError, SealKey, random_key};
use crate::secret::{Secret, SecretError};

/// Where the running unit's credentials are, for commands outside of it.
const OF_UNIT: &str = "/run/credentials/metadatad.service";

/// Name of the credential, as in systemd's `LoadCredentialEncrypted=`.
const CREDENTIAL: &str = "metadatad-snapshot-key";

/// Why there is no key.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// It cannot be read.
    #[error("snapshot.key_file or its credential")]
    Read(#[from] SecretError),
    /// It cannot be used.
    #[error("the key {}", path.display())]
    Use {
        /// The file.
        path: PathBuf,
        /// Why.
        source: SealError,
    },
    /// It cannot be made.
    #[error(
        "making the key {}: make its directory writable for the daemon, give snapshot.key_file another path, or set \
         snapshot.enabled = false",
        path.display()
    )]
    Make {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// Returns the key: that of the credential if there is one, else that of the file, which is made when missing.
pub(super) fn find(file: &Path) -> Result<SealKey, KeyError> {
    find_in(std::env::var_os("CREDENTIALS_DIRECTORY"), file)
}

fn find_in(credentials: Option<OsString>, file: &Path) -> Result<SealKey, KeyError> {
    let credential =
        credentials.map(|directory| PathBuf::from(directory).join(CREDENTIAL)).filter(|path| path.exists());
    let path = credential.as_deref().unwrap_or(file);
    if credential.is_none() && !present(path) {
        make(path).map_err(|source| KeyError::Make { path: path.to_owned(), source })?;
        info!(path = %path.display(), "a key for the snapshot was made");
    }
    SealKey::new(Secret::read(path)?).map_err(|source| KeyError::Use { path: path.to_owned(), source })
}

/// Returns the key of the first of these that there is: the file that is named explicitly, the credential, the running unit's
/// credential, the configuration's file. None is made.
pub(super) fn existing(explicit: Option<&Path>, file: &Path) -> Result<SealKey, KeyError> {
    let directories = std::env::var_os("CREDENTIALS_DIRECTORY").into_iter().chain([OsString::from(OF_UNIT)]);
    let credential = directories.map(|directory| PathBuf::from(directory).join(CREDENTIAL)).find(|path| path.exists());
    let path = explicit.or(credential.as_deref()).unwrap_or(file);
    SealKey::new(Secret::read(path)?).map_err(|source| KeyError::Use { path: path.to_owned(), source })
}

/// Whether there is anything of this name: a link to nowhere is not followed, and not replaced.
fn present(path: &Path) -> bool {
    !matches!(fs::symlink_metadata(path), Err(error) if error.kind() == io::ErrorKind::NotFound)
}

/// Makes the key, complete at once.
fn make(path: &Path) -> io::Result<()> {
    let key = random_key().map_err(io::Error::other)?;
    durable::make_directory(path)?;
    let draft = Draft::new(durable::beside(path, crate::config::snapshot::DRAFT))?;
    let mut file = draft.file();
    file.write_all(key.expose())?;
    file.write_all(b"\n")?;
    draft.replace(path)?;
    durable::sync_directory(path)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn a_key_is_made_once_and_only_for_its_owner() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("state/key");
        let first = find_in(None, &path).unwrap();
        assert_eq!(find_in(None, &path).unwrap().id(), first.id());
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o7777, 0o600);
        assert_eq!(fs::metadata(directory.path().join("state")).unwrap().permissions().mode() & 0o7777, 0o700);
        assert_eq!(fs::read_dir(directory.path().join("state")).unwrap().count(), 1, "a draft is left");
        fs::remove_file(&path).unwrap();
        assert_ne!(find_in(None, &path).unwrap().id(), first.id());
    }

    #[test]
    fn a_credential_goes_before_the_file() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("key");
        let of_file = find_in(Some(directory.path().into()), &file).unwrap();
        fs::write(directory.path().join(CREDENTIAL), "0123456789012345678901234567890123456789").unwrap();
        fs::set_permissions(directory.path().join(CREDENTIAL), fs::Permissions::from_mode(0o400)).unwrap();
        let of_credential = find_in(Some(directory.path().into()), &file).unwrap();
        assert_ne!(of_credential.id(), of_file.id());
    }

    #[test]
    fn what_is_wrong_with_a_key_is_named() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("key");
        let problem = |text: &str, mode| {
            fs::write(&path, text).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            crate::error_text::chain(&find_in(None, &path).unwrap_err())
        };
        assert!(problem("short", 0o600).contains("5 bytes, and at least 32"));
        assert!(problem("0123456789012345678901234567890123456789", 0o644).contains("readable by everyone"));
        assert!(problem("", 0o600).contains("is empty"));
        let nowhere = crate::error_text::chain(&find_in(None, Path::new("/proc/none/such/key")).unwrap_err());
        assert!(nowhere.contains("making the key /proc/none/such/key: make its directory writable"), "{nowhere}");
    }
}
