//! The responder's network namespace: only guests' packets enter it, and only through the programs.
//!
//! Promises:
//! - it holds one end of a pair, one address, one route and one neighbour; no IPv4, no router advertisements, no
//!   link-local address (`pair`);
//! - the pair's other end, in the node's namespace, has no address and no IPv6; a program drops whatever is sent into
//!   it. So neither the host nor a network can reach the responder;
//! - it is named (`/run/netns/<name>`) and outlives the daemon; a new start adopts it, with what is in it, and mends
//!   what is missing (`namespace`).
//!
//! It needs IPv6 in the kernel, also where guests have IPv4 only; `kernel` says so before anything is made.

mod namespace;
mod pair;

use std::{
    fs::File,
    io,
    net::TcpListener,
    path::{Path, PathBuf},
    time::Duration,
};

use self::namespace::enter;
pub(super) use self::namespace::{on_thread, with_netlink};
use super::IfIndex;
use crate::sockets;

/// Why the namespace could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum NetnsError {
    /// A system call on a file or namespace failed.
    #[error("cannot {doing} {}", path.display())]
    System {
        /// What was being done.
        doing: &'static str,
        /// To which file.
        path: PathBuf,
        /// The system's reason.
        #[source]
        source: io::Error,
    },
    /// The kernel refused a change of its network configuration.
    #[error("cannot {doing} {interface}")]
    Netlink {
        /// What was being done.
        doing: &'static str,
        /// To which interface.
        interface: String,
        /// The kernel's reason.
        #[source]
        source: rtnetlink::Error,
    },
    /// The kernel cannot make pairs.
    #[error(
        "cannot make the pair {0}: the kernel has no veth interfaces (CONFIG_VETH, module veth): load or enable them"
    )]
    NoVeth(String),
    /// An interface is not where it has just been made.
    #[error("interface {0} is missing right after it was made: is another program removing interfaces?")]
    Vanished(String),
}

/// The namespace, set up.
#[derive(Debug)]
pub struct ResponderNetns {
    namespace: File,
    pair: IfIndex,
    pair_name: String,
    adopted: bool,
}

impl ResponderNetns {
    /// Makes or adopts the namespace `name` and the pair whose end here is called `pair_name`.
    ///
    /// # Errors
    /// See [`NetnsError`]. Half of it may have been made; the next try goes on from there.
    pub fn set_up(name: &str, pair_name: &str) -> Result<Self, NetnsError> {
        let (namespace, adopted) = namespace::open_or_make(name)?;
        let (pair_name, inside) = (pair_name.to_owned(), namespace.try_clone());
        let inside = inside.map_err(system("use", &namespace::path_of(name)))?;
        let pair = on_thread({
            let pair_name = pair_name.clone();
            move || {
                let pair = pair::set_up(&pair_name, &inside)?;
                enter(&inside)?;
                pair::configure_inside()?;
                Ok(pair)
            }
        })?;
        Ok(Self { namespace, pair, pair_name, adopted })
    }

    /// Makes the namespace `name`, without anything in it, if there is none.
    ///
    /// # Errors
    /// See [`NetnsError`].
    pub fn make(name: &str) -> Result<(), NetnsError> {
        namespace::open_or_make(name).map(drop)
    }

    /// Returns the pair's interface in this namespace.
    #[must_use]
    pub fn pair(&self) -> IfIndex {
        self.pair
    }

    /// Returns the name of the pair's interface in this namespace.
    #[must_use]
    pub fn pair_name(&self) -> &str {
        &self.pair_name
    }

    /// Tells whether the namespace was there already.
    #[must_use]
    pub fn adopted(&self) -> bool {
        self.adopted
    }

    /// Opens so many listening sockets inside, on the responder's address: the kernel spreads connections over them. Not
    /// blocking. What a guest does not acknowledge for as long as `patience` ends its connection.
    ///
    /// # Errors
    /// If a socket cannot be opened: mostly, because another process listens there.
    pub fn listen(&self, port: u16, count: usize, patience: Duration) -> Result<Vec<TcpListener>, NetnsError> {
        let path = PathBuf::from(format!("the listening socket, port {port} in the responder's namespace"));
        let namespace = self.namespace.try_clone().map_err(system("use", &path))?;
        on_thread(move || {
            enter(&namespace)?;
            sockets::guests(port, count, patience).map_err(system("open", &path))
        })
    }

    /// Removes the namespace `name` and the pair, if they are there. `true` if anything was.
    ///
    /// # Errors
    /// If one of them cannot be removed.
    pub fn remove(name: &str, pair_name: &str) -> Result<bool, NetnsError> {
        let pair_name = pair_name.to_owned();
        let had_pair = on_thread(move || pair::remove(&pair_name))?;
        let had_namespace = namespace::remove(name)?;
        Ok(had_pair || had_namespace)
    }
}

fn system(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> NetnsError + use<> {
    let path = path.to_path_buf();
    move |source| NetnsError::System { doing, path, source }
}

fn netlink(doing: &'static str, interface: &str) -> impl FnOnce(rtnetlink::Error) -> NetnsError + use<> {
    let interface = interface.to_owned();
    move |source| NetnsError::Netlink { doing, interface, source }
}
