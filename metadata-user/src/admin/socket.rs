//! The admin socket's path in the file system.
//!
//! Promises: a socket on which a daemon answers is never replaced, nor is anything that is not a socket; one that a daemon
//! left behind when it was killed is. Only root, the daemon's user and the group of readers can connect, from the moment
//! that it is there.

use std::io;
use std::os::unix::fs::FileTypeExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use nix::unistd::Group;
use tracing::warn;

use crate::sockets;

/// The admin socket cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum SocketError {
    /// Another daemon answers on it.
    #[error("another metadatad answers on {}; stop it, or give this one its own admin.socket", .0.display())]
    InUse(PathBuf),
    /// The path exists, and is something else.
    #[error("{} is not a socket; move it away, or correct admin.socket", .0.display())]
    NotASocket(PathBuf),
    /// The system refuses.
    #[error("{doing} {}", path.display())]
    System {
        /// What was being done.
        doing: &'static str,
        /// To which path.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// The open socket. Dropping it removes it from the file system.
#[derive(Debug)]
pub struct AdminSocket {
    pub(super) listener: UnixListener,
    /// The group whose members may read.
    pub(super) readers: Option<u32>,
    path: PathBuf,
}

impl AdminSocket {
    /// Opens the socket, for its owner, and for this group if there is one of that name. One that a former daemon left
    /// behind is replaced.
    ///
    /// # Errors
    /// See [`SocketError`].
    pub fn open(path: &Path, group: Option<&str>) -> Result<Self, SocketError> {
        let system = |doing| move |source| SocketError::System { doing, path: path.to_owned(), source };
        if let Some(directory) = path.parent() {
            std::fs::create_dir_all(directory).map_err(system("creating the directory of"))?;
        }
        match std::fs::symlink_metadata(path) {
            Ok(found) if !found.file_type().is_socket() => return Err(SocketError::NotASocket(path.to_owned())),
            Ok(_) => match UnixStream::connect(path) {
                Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
                    std::fs::remove_file(path).map_err(system("removing the left-over socket"))?;
                }
                Ok(_) => return Err(SocketError::InUse(path.to_owned())),
                Err(error) => return Err(system("probing the socket")(error)),
            },
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(system("looking for the socket")(error)),
        }
        let listener = sockets::admin(path).map_err(system("opening the socket"))?;
        let group = group.and_then(|name| Group::from_name(name).ok().flatten());
        let readers = group.map(|group| group.gid.as_raw()).filter(|group| match sockets::share(path, *group) {
            Ok(()) => true,
            // Operators can still use it.
            Err(error) => {
                let remedy = "add CAP_CHOWN to CapabilityBoundingSet=";
                warn!(%error, group, "cannot give the admin socket to the group that may read: {remedy}");
                false
            }
        });
        Ok(Self { listener, readers, path: path.to_owned() })
    }
}

impl Drop for AdminSocket {
    fn drop(&mut self) {
        // It may have been removed by an operator already.
        let _ = std::fs::remove_file(&self.path);
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn a_left_over_socket_is_replaced_and_a_live_one_is_not() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("deep/admin.sock");
        let first = AdminSocket::open(&path, None).expect("a free place");
        let mode = std::fs::metadata(&path).expect("there").permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        assert!(matches!(AdminSocket::open(&path, None), Err(SocketError::InUse(_))));
        drop(first);
        assert!(!path.exists());

        drop(UnixListener::bind(&path).expect("a socket"));
        assert!(path.exists(), "left over");
        drop(AdminSocket::open(&path, None).expect("replaced"));

        std::fs::write(&path, "").expect("a file");
        assert!(matches!(AdminSocket::open(&path, None), Err(SocketError::NotASocket(_))));
        assert!(path.exists(), "never removed");
    }

    #[test]
    fn a_group_of_readers_can_connect_if_there_is_one() {
        let directory = tempfile::tempdir().expect("a directory");
        for (group, mode, readers) in [("root", 0o660, Some(0)), ("no-such-group", 0o600, None)] {
            let path = directory.path().join(group);
            let socket = AdminSocket::open(&path, Some(group)).expect("opened");
            let found = std::fs::metadata(&path).expect("there").permissions().mode();
            assert_eq!((found & 0o777, socket.readers), (mode, readers), "{group}");
        }
    }
}
