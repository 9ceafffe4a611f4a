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
    /// Where it was bound, and where it will be renamed to.
    paths: Vec<PathBuf>,
    /// Device and inode of its file.
    file: Option<(u64, u64)>,
}

/// A socket beside that of the daemon from which this one takes over.
#[derive(Debug)]
pub struct Beside {
    bound: PathBuf,
    path: PathBuf,
}

impl Beside {
    /// Tells whether a daemon answers on the socket that this is to replace.
    #[must_use]
    pub fn is_answered(&self) -> bool {
        UnixStream::connect(&self.path).is_ok()
    }

    /// Replaces the other socket: from here on, clients connect to this daemon.
    ///
    /// # Errors
    /// If it cannot be renamed.
    pub fn replace(self) -> io::Result<()> {
        std::fs::rename(self.bound, self.path)
    }
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
        Self::bind(path, group)
    }

    /// Opens the socket beside the path, for a daemon that takes over from the one that answers there. The left-over socket of an earlier
    /// attempt is removed.
    ///
    /// # Errors
    /// See [`SocketError`].
    pub fn open_beside(path: &Path, group: Option<&str>) -> Result<(Self, Beside), SocketError> {
        let mut bound = path.as_os_str().to_owned();
        bound.push(".new");
        let bound = PathBuf::from(bound);
        match std::fs::remove_file(&bound) {
            Err(source) if source.kind() != io::ErrorKind::NotFound => {
                return Err(SocketError::System { doing: "removing the left-over socket", path: bound, source });
            }
            _ => {}
        }
        let mut socket = Self::bind(&bound, group)?;
        socket.paths.push(path.to_owned());
        Ok((socket, Beside { bound, path: path.to_owned() }))
    }

    fn bind(path: &Path, group: Option<&str>) -> Result<Self, SocketError> {
        let system = |doing| move |source| SocketError::System { doing, path: path.to_owned(), source };
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
        Ok(Self { listener, readers, paths: vec![path.to_owned()], file: file_of(path) })
    }
}

impl Drop for AdminSocket {
    fn drop(&mut self) {
        for path in &self.paths {
            // It may belong to a daemon that has taken over.
            if self.file.is_some() && file_of(path) == self.file {
                // An operator may have removed it.
                let _ = std::fs::remove_file(path);
            }
        }
    }
}

/// Returns device and inode of a file.
fn file_of(path: &Path) -> Option<(u64, u64)> {
    use std::os::unix::fs::MetadataExt as _;
    std::fs::symlink_metadata(path).ok().map(|found| (found.dev(), found.ino()))
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
    fn a_daemon_that_takes_over_puts_its_socket_in_the_place_of_the_other_which_leaves_it_there() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("admin.sock");
        let first = AdminSocket::open(&path, None).expect("a free place");
        drop(AdminSocket::open_beside(&path, None).expect("beside it"));
        assert_eq!(std::fs::read_dir(&directory).expect("there").count(), 1, "one that failed leaves nothing");
        let (second, beside) = AdminSocket::open_beside(&path, None).expect("beside it");
        beside.replace().expect("renamed");
        drop(first);
        assert!(UnixStream::connect(&path).is_ok());
        drop(second);
        assert_eq!(std::fs::read_dir(&directory).expect("there").count(), 0);
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
