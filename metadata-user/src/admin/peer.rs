//! Who is at the other end of the admin socket, and what they may.
//!
//! Promises: the kernel says who connected (unix(7), `SO_PEERCRED` and `SO_PEERGROUPS`), at the time of connecting; the
//! socket's mode is not relied upon. Root and the daemon's own user may read and change; members of one group may read;
//! nobody else may do anything.

use std::io;
use std::os::fd::{AsFd, AsRawFd as _};

use nix::libc;
use nix::unistd::geteuid;
use tokio::net::UnixStream;

/// What somebody may do. A greater one includes the lesser.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Right {
    /// See how the daemon and its ports are doing; nothing secret.
    Read,
    /// Change something, or see secrets.
    Change,
}

/// The other end of a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Peer {
    user: u32,
    groups: Vec<u32>,
}

impl Peer {
    /// Returns who connected.
    ///
    /// # Errors
    /// If the kernel does not tell.
    pub(super) fn of(stream: &UnixStream) -> io::Result<Self> {
        let credentials = stream.peer_cred()?;
        let mut groups = further_groups(stream)?;
        groups.push(credentials.gid());
        Ok(Self { user: credentials.uid(), groups })
    }

    /// Returns what they may do, if anything. `readers`: the group whose members may read.
    pub(super) fn right(&self, readers: Option<u32>) -> Option<Right> {
        if self.user == 0 || self.user == geteuid().as_raw() {
            return Some(Right::Change);
        }
        readers.filter(|group| self.groups.contains(group)).map(|_| Right::Read)
    }

    /// Makes somebody up, for tests and fuzzers.
    pub(super) fn sample(user: u32, groups: &[u32]) -> Self {
        Self { user, groups: groups.to_vec() }
    }

    /// Returns their user id.
    pub(super) fn user(&self) -> u32 {
        self.user
    }
}

/// Returns the supplementary groups (Linux 4.13).
fn further_groups(stream: &impl AsFd) -> io::Result<Vec<u32>> {
    const GROUP: usize = size_of::<u32>();
    let mut groups = vec![0_u32; 64];
    loop {
        let mut bytes = libc::socklen_t::try_from(groups.len() * GROUP).map_err(io::Error::other)?;
        // SAFETY: the kernel writes at most `bytes` bytes, which the vector has, and the number that it has written.
        let result = unsafe {
            libc::getsockopt(
                stream.as_fd().as_raw_fd(),
                libc::SOL_SOCKET,
                libc::SO_PEERGROUPS,
                groups.as_mut_ptr().cast(),
                &raw mut bytes,
            )
        };
        let length = usize::try_from(bytes).map_err(io::Error::other)? / GROUP;
        match result {
            0 => {
                groups.truncate(length);
                return Ok(groups);
            }
            // More than there is room for: the kernel says how much it takes.
            _ if io::Error::last_os_error().raw_os_error() == Some(libc::ERANGE) && length > groups.len() => {
                groups.resize(length, 0);
            }
            _ => return Err(io::Error::last_os_error()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reading_and_changing_are_separate_rights() {
        const READERS: u32 = 4_000_000;
        let peer = Peer::sample;
        for (peer, readers, expected) in [
            (peer(0, &[0]), None, Some(Right::Change)),
            (peer(geteuid().as_raw(), &[]), None, Some(Right::Change)),
            (peer(4_000_001, &[5, READERS]), Some(READERS), Some(Right::Read)),
            (peer(4_000_001, &[5]), Some(READERS), None),
            (peer(4_000_001, &[5, READERS]), None, None),
            // Being in root's group is not being root.
            (peer(4_000_001, &[0]), Some(READERS), None),
        ] {
            assert_eq!(peer.right(readers), expected, "{peer:?}");
        }
        assert!(Right::Change > Right::Read);
    }

    #[tokio::test]
    async fn the_kernel_says_who_connected() {
        let (one, _other) = UnixStream::pair().expect("a pair");
        let peer = Peer::of(&one).expect("known");
        assert_eq!(peer.user(), geteuid().as_raw());
        assert!(peer.groups.contains(&nix::unistd::getegid().as_raw()));
    }
}
