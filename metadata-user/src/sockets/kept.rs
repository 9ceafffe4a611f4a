//! Listening sockets that are older than this process: a former daemon opened them, and the service manager or that daemon has kept them open since.
//!
//! Promises: a kept socket is used only if it is what would be opened in its place: one that listens, at the same address, in the
//! same network namespace. That is asked of the kernel; the socket's name only tells the store which one is meant. What does not fit
//! is left, with the reason, for the caller to close.

use std::fmt;
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use nix::libc;
use nix::sys::socket::getsockopt;
use nix::sys::socket::sockopt::GetStruct;
use socket2::{SockRef, Socket, Type};

/// A listening socket, and the name under which it is kept.
#[derive(Debug)]
pub struct Listening<S> {
    /// Names it in the store: what listens there, its port, and a number where several do.
    pub name: String,
    /// The socket.
    pub socket: S,
    /// Whether a former daemon opened it; else it has to be put into the store.
    pub was_kept: bool,
}

/// Kept sockets that nobody has taken yet.
#[derive(Debug, Default)]
pub struct Kept(Vec<Candidate>);

#[derive(Debug)]
struct Candidate {
    name: String,
    socket: OwnedFd,
    /// Why it was not taken.
    unfit: Option<Unfit>,
}

/// Why a kept socket is not used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unfit {
    /// It is at another address.
    Elsewhere,
    /// It is in another network namespace: that of the responder has been made anew.
    OtherNamespace,
    /// It does not listen, or is no TCP socket.
    NotListening,
    /// There are enough of its kind: `http.threads` is less than before.
    Surplus,
}

impl fmt::Display for Unfit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Elsewhere => "nothing listens at its address any more",
            Self::OtherNamespace => "it belongs to another network namespace",
            Self::NotListening => "it does not listen",
            Self::Surplus => "http.threads is less than before",
        })
    }
}

/// `SO_NETNS_COOKIE` (Linux 5.14): a number that no other network namespace has until the next boot.
#[derive(Clone, Copy, Debug)]
struct NetnsCookie;

nix::getsockopt_impl!(NetnsCookie, libc::SOL_SOCKET, libc::SO_NETNS_COOKIE, u64, GetStruct<u64>);

impl Kept {
    /// Returns sockets of these names. Each is there once, however often it was kept.
    pub fn new(sockets: impl IntoIterator<Item = (String, OwnedFd)>) -> Self {
        let mut kept = Self::default();
        let mut cookies = Vec::new();
        for (name, socket) in sockets {
            let cookie = SockRef::from(&socket).cookie().ok();
            if cookie.is_none() || !cookies.contains(&cookie) {
                cookies.push(cookie);
                kept.0.push(Candidate { name, socket, unfit: None });
            }
        }
        kept
    }

    /// Takes those that listen at `address` in the network namespace of `like`, a socket of the caller's.
    pub(super) fn take(&mut self, address: SocketAddr, like: impl AsFd) -> Vec<Listening<Socket>> {
        let namespace = getsockopt(&like, NetnsCookie);
        let (mut taken, mut left) = (Vec::new(), Vec::new());
        for mut candidate in self.0.drain(..) {
            match fits(candidate.socket.as_fd(), address, namespace) {
                Ok(()) => {
                    let Candidate { name, socket, .. } = candidate;
                    taken.push(Listening { name, socket: socket.into(), was_kept: true });
                }
                Err(unfit) => {
                    // The address that is looked for last may not be its own.
                    if candidate.unfit.is_none_or(|before| before == Unfit::Elsewhere) {
                        candidate.unfit = Some(unfit);
                    }
                    left.push(candidate);
                }
            }
        }
        self.0 = left;
        taken.sort_by(|one, other| one.name.cmp(&other.name));
        taken
    }

    /// Puts back what is not needed.
    pub(super) fn put_back(&mut self, surplus: impl IntoIterator<Item = Listening<Socket>>) {
        self.0.extend(surplus.into_iter().map(|Listening { name, socket, .. }| Candidate {
            name,
            socket: socket.into(),
            unfit: Some(Unfit::Surplus),
        }));
    }

    /// Closes what nobody has taken, and returns names and reasons.
    #[must_use]
    pub fn close(self) -> Vec<(String, Unfit)> {
        self.0.into_iter().map(|candidate| (candidate.name, candidate.unfit.unwrap_or(Unfit::Elsewhere))).collect()
    }
}

fn fits(socket: BorrowedFd<'_>, address: SocketAddr, namespace: nix::Result<u64>) -> Result<(), Unfit> {
    let it = SockRef::from(&socket);
    if !it.is_listener().unwrap_or(false) || !it.r#type().is_ok_and(|kind| kind == Type::STREAM) {
        return Err(Unfit::NotListening);
    }
    if it.local_addr().ok().and_then(|own| own.as_socket()) != Some(address) {
        return Err(Unfit::Elsewhere);
    }
    match (getsockopt(&socket, NetnsCookie), namespace) {
        (Ok(its), Ok(wanted)) if its == wanted => Ok(()),
        _ => Err(Unfit::OtherNamespace),
    }
}

/// Returns the first name of this kind that none of these has.
pub(super) fn free_name<'a>(kind: &str, taken: impl Iterator<Item = &'a str> + Clone) -> String {
    let mut names = (0_u32..).map(|number| format!("{kind}-{number}"));
    names.find(|name| taken.clone().all(|other| other != name)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, TcpListener, TcpStream};

    use super::*;

    const LOCALHOST: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

    fn kept(sockets: Vec<(&str, OwnedFd)>) -> Kept {
        Kept::new(sockets.into_iter().map(|(name, socket)| (name.to_owned(), socket)))
    }

    fn listener() -> (OwnedFd, SocketAddr) {
        let listener = TcpListener::bind(LOCALHOST).expect("a socket");
        let address = listener.local_addr().expect("an address");
        (listener.into(), address)
    }

    #[test]
    fn what_listens_at_the_address_is_taken_once_and_keeps_its_queue() {
        let (socket, address) = listener();
        let waits = TcpStream::connect(address).expect("in the queue");
        let again = socket.try_clone().expect("a copy");
        let mut kept = kept(vec![("one", socket), ("one again", again)]);
        let taken = kept.take(address, &waits);
        let [Listening { name, socket, was_kept: true }] = &taken[..] else { panic!("{taken:?}") };
        assert_eq!(name, "one");
        let (_, peer) = socket.accept().expect("what waits");
        assert_eq!(peer.as_socket(), waits.local_addr().ok());
        assert_eq!(kept.close(), []);
    }

    #[test]
    fn what_does_not_fit_is_left_with_its_reason() {
        let ((other, _), (own, address)) = (listener(), listener());
        let like = own.try_clone().expect("a copy");
        let deaf = Socket::new(socket2::Domain::IPV4, Type::STREAM, None).expect("a socket");
        let file = std::fs::File::open("/dev/null").expect("a file");
        let mut kept = kept(vec![("other", other), ("deaf", deaf.into()), ("file", file.into()), ("own", own)]);
        let taken = kept.take(address, &like);
        assert_eq!(taken.len(), 1);
        kept.put_back(taken);
        let reasons = kept.close();
        let expected = [
            ("other", Unfit::Elsewhere),
            ("deaf", Unfit::NotListening),
            ("file", Unfit::NotListening),
            ("own", Unfit::Surplus),
        ];
        assert_eq!(reasons, expected.map(|(name, unfit)| (name.to_owned(), unfit)));
    }

    #[test]
    fn a_socket_of_another_namespace_does_not_fit() {
        let (socket, address) = listener();
        assert_eq!(fits(socket.as_fd(), address, Ok(1)), Err(Unfit::OtherNamespace));
        assert_eq!(fits(socket.as_fd(), address, Err(nix::errno::Errno::ENOPROTOOPT)), Err(Unfit::OtherNamespace));
        assert_eq!(fits(socket.as_fd(), address, getsockopt(&socket, NetnsCookie)), Ok(()));
    }

    #[test]
    fn a_new_name_is_free() {
        assert_eq!(free_name("a", [].into_iter()), "a-0");
        assert_eq!(free_name("a", ["a-0", "b-1", "a-2"].into_iter()), "a-1");
    }
}
