//! Secrets: kept out of logs and error messages, and zeroed after use.
//!
//! Promises: a [`Secret`] is redacted in `Debug`, has no `Display`, and overwrites its memory when it is dropped. Only
//! this module names the crypto library.
//!
//! Left out: swap, which the node should encrypt or disable.

pub mod digest;
pub mod heap;
pub mod jwt;
pub mod process;
pub mod seal;
pub mod sign;
pub mod token;

use std::fmt;
use std::io::Read as _;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use bytes::Bytes;
use zeroize::Zeroizing;

/// Largest secret, in bytes: far above any key or password, so that a wrong path cannot fill the memory.
const LIMIT: u64 = 64 << 10;

/// Secret bytes. Overwritten when dropped.
pub struct Secret(Zeroizing<Vec<u8>>);

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// Why a secret cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum SecretError {
    /// The file cannot be read.
    #[error("reading the secret {}: correct its path, owner and mode", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The file is readable by everyone.
    #[error("the secret {} is readable by everyone (mode {mode:04o}): replace it, and set the file's mode to 0600", path.display())]
    Exposed {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// The file is empty.
    #[error("the secret {} is empty: write it into the file", .0.display())]
    Empty(PathBuf),
    /// The file is too long for a secret.
    #[error("the secret {} is longer than {} KiB: this is probably another file; correct its path", .0.display(), LIMIT >> 10)]
    TooLong(PathBuf),
}

impl Secret {
    /// Makes a secret of bytes.
    #[must_use]
    pub fn new(bytes: Vec<u8>) -> Self {
        Self(Zeroizing::new(bytes))
    }

    /// Reads a secret from a file, without the newline at its end.
    ///
    /// # Errors
    /// [`SecretError`] if it cannot be read, is empty or too long, or is readable by everyone.
    pub fn read(path: &Path) -> Result<Self, SecretError> {
        let unreadable = |source| SecretError::Read { path: path.to_owned(), source };
        let nonblocking = nix::fcntl::OFlag::O_NONBLOCK.bits();
        let file = std::fs::File::options().read(true).custom_flags(nonblocking).open(path).map_err(unreadable)?;
        let metadata = file.metadata().map_err(unreadable)?;
        let mode = metadata.mode() & 0o7777;
        if mode & 0o007 != 0 {
            return Err(SecretError::Exposed { path: path.to_owned(), mode });
        }
        if metadata.len() > LIMIT {
            return Err(SecretError::TooLong(path.to_owned()));
        }
        // Allocated in full at once: a vector that grows leaves copies behind.
        let mut bytes = Zeroizing::new(Vec::with_capacity(usize::try_from(LIMIT).unwrap_or(0) + 1));
        file.take(LIMIT + 1).read_to_end(&mut bytes).map_err(unreadable)?;
        while bytes.last().is_some_and(|byte| matches!(byte, b'\n' | b'\r')) {
            bytes.pop();
        }
        match bytes.len() {
            0 => Err(SecretError::Empty(path.to_owned())),
            length if length as u64 > LIMIT => Err(SecretError::TooLong(path.to_owned())),
            _ => Ok(Self(bytes)),
        }
    }

    /// Returns the bytes, for their one intended use.
    #[must_use]
    pub fn expose(&self) -> &[u8] {
        &self.0
    }
}

/// Returns bytes that are overwritten when their last clone is dropped; those in flight to a guest stay valid.
#[must_use]
pub fn shared(bytes: Vec<u8>) -> Bytes {
    Bytes::from_owner(Zeroizing::new(bytes))
}

/// Returns bytes as hex digits. The text is allocated in full at once, so no copies are left behind.
pub(crate) fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut text = String::with_capacity(2 * bytes.len());
    for byte in bytes {
        text.push(char::from(DIGITS[usize::from(byte >> 4)]));
        text.push(char::from(DIGITS[usize::from(byte & 15)]));
    }
    text
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn secrets_are_read_from_files_that_not_everyone_can_read() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("secret");
        std::fs::write(&path, "s3cret\n").unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o640)).unwrap();
        let secret = Secret::read(&path).unwrap();
        assert_eq!(secret.expose(), b"s3cret");
        assert!(!format!("{secret:?}").contains("s3cret"));
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
        assert!(matches!(Secret::read(&path), Err(SecretError::Exposed { mode: 0o644, .. })));
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        std::fs::write(&path, "\n").unwrap();
        assert!(matches!(Secret::read(&path), Err(SecretError::Empty(_))));
        assert!(matches!(Secret::read(&directory.path().join("none")), Err(SecretError::Read { .. })));
    }
}
