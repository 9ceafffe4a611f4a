//! The responder's network namespace: only guests' packets enter it, and only through the programs.
//!
//! Promises:
//! - it holds one end of a pair, one address, one route and one neighbour; no IPv4, no router advertisements, no
//!   link-local address (`pair`);
//! - the pair's other end, in the node's namespace, has no address and no IPv6; a program drops whatever is sent into
//!   it. So neither the host nor a network can reach the responder;
//! - it is named (`/run/netns/<name>`) and outlives the daemon; a new start adopts it, with what is in it, and mends
//!   what is missing (`namespace`);
//! - while the daemon runs, what others change of all this is restored, without the privileges of set-up ([`ResponderNetns::mend`]):
//!   `state` decides what is to be done, `keeper` is the thread inside that does it. A pair that is made again has the former one's
//!   index, which the programs know. Only the name of the namespace cannot be restored from here: that takes a mount in the host's
//!   mount namespace.
//!
//! It needs IPv6 in the kernel, also where guests have IPv4 only; `kernel` says so before anything is made.

pub mod inspect;
mod keeper;
mod namespace;
mod netfilter;
mod pair;
mod state;

use std::{
    fs::File,
    io,
    net::TcpListener,
    path::{Path, PathBuf},
    time::Duration,
};

pub(super) use self::namespace::{on_thread, with_netlink};
use self::{
    keeper::{Keeper, Netlink},
    namespace::enter,
    state::{Step, steps},
};
use super::IfIndex;
use crate::metrics::Repair;
use crate::sockets::{
    self,
    kept::{Kept, Listening},
};

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
    name: String,
    namespace: File,
    keeper: Keeper,
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
        let keeper = Keeper::start(&namespace)?;
        let found = keeper.run(async |netlink: Netlink| pair::find(&netlink).await)?;
        let pair = match found {
            Some(pair) => pair,
            None => make(&keeper, &namespace, pair_name, None)?,
        };
        let (name, pair_name) = (name.to_owned(), pair_name.to_owned());
        let netns = Self { name, namespace, keeper, pair, pair_name, adopted };
        // Also what it lacks of what an earlier daemon did.
        netns.name_outer()?;
        netns.name_inner()?;
        netns.set_outer()?;
        netns.configure()?;
        Ok(netns)
    }

    /// Puts back what others have changed of the pair and in the namespace, and returns what that was, for people. None: all is as it
    /// should be.
    ///
    /// # Errors
    /// See [`NetnsError`]. What was done before it stays.
    pub fn mend(&self) -> Result<Vec<(Repair, String)>, NetnsError> {
        let pair = self.pair;
        let seen = self.keeper.run(async move |netlink: Netlink| pair::see(&netlink, pair).await)?;
        let steps = steps(&seen, &self.pair_name, pair::INNER_NAME);
        for step in &steps {
            match step {
                Step::Make => {
                    make(&self.keeper, &self.namespace, &self.pair_name, Some(self.pair))?;
                    self.set_outer()?;
                    self.configure()?;
                }
                Step::NameOuter => {
                    self.name_outer()?;
                    self.set_outer()?;
                }
                Step::NameInner => {
                    self.name_inner()?;
                    self.configure()?;
                }
                Step::SetOuter => self.set_outer()?,
                Step::Configure(_) => self.configure()?,
            }
        }
        Ok(steps.iter().flat_map(Step::repairs).collect())
    }

    fn name_outer(&self) -> Result<(), NetnsError> {
        let (pair, name) = (self.pair, self.pair_name.clone());
        if nix::net::if_::if_nametoindex(name.as_str()).is_ok_and(|index| index == pair.0) {
            return Ok(());
        }
        self.keeper.run(async move |netlink: Netlink| pair::rename(&netlink.node, pair, &name).await)
    }

    fn name_inner(&self) -> Result<(), NetnsError> {
        let pair = self.pair;
        self.keeper.run(async move |netlink: Netlink| match pair::inner_of(&netlink.inside, pair).await? {
            Some((ifindex, name)) if name != pair::INNER_NAME => {
                pair::rename(&netlink.inside, ifindex, pair::INNER_NAME).await
            }
            _ => Ok(()),
        })
    }

    fn set_outer(&self) -> Result<(), NetnsError> {
        let (pair, name) = (self.pair, self.pair_name.clone());
        self.keeper.run(async move |netlink: Netlink| {
            netlink.switch_ipv6_off(&name)?;
            pair::up(&netlink.node, pair, &name).await
        })
    }

    fn configure(&self) -> Result<(), NetnsError> {
        self.keeper.run(async |netlink: Netlink| pair::configure_inside(&netlink.inside).await)
    }

    /// Says what happened to the namespace's name, and the remedy; `None`: nothing.
    #[must_use]
    pub fn lost_name(&self) -> Option<String> {
        namespace::lost_name(&self.name, &self.namespace, self.keeper.id())
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

    /// Returns the number that this namespace has for the responder's; `None` if the kernel does not tell.
    #[must_use]
    pub fn number(&self) -> Option<u32> {
        let pair = self.pair;
        self.keeper
            .run(async move |netlink: Netlink| Ok(pair::number_of_inner(&netlink.node, pair).await))
            .ok()
            .flatten()
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
    /// blocking. What a guest does not acknowledge for as long as `patience` ends its connection. Kept ones that fit are taken out of
    /// `kept` for it.
    ///
    /// # Errors
    /// If a socket cannot be opened: mostly, because another process listens there.
    pub fn listen(
        &self,
        port: u16,
        count: usize,
        patience: Duration,
        kept: &mut Kept,
    ) -> Result<Vec<Listening<TcpListener>>, NetnsError> {
        let path = PathBuf::from(format!("the listening socket, port {port} in the responder's namespace"));
        let namespace = self.namespace.try_clone().map_err(system("use", &path))?;
        let mut candidates = std::mem::take(kept);
        let (sockets, left) = on_thread(move || {
            enter(&namespace)?;
            let sockets = sockets::guests(port, count, patience, &mut candidates);
            Ok((sockets.map_err(system("open", &path)), candidates))
        })?;
        *kept = left;
        sockets
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

/// Makes the pair, with this index if it is to have one.
fn make(keeper: &Keeper, namespace: &File, name: &str, index: Option<IfIndex>) -> Result<IfIndex, NetnsError> {
    let namespace = namespace.try_clone().map_err(system("use", Path::new("the responder's namespace")))?;
    let name = name.to_owned();
    keeper.run(async move |netlink: Netlink| pair::make(&netlink, &name, &namespace, index).await)
}

fn system(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> NetnsError + use<> {
    let path = path.to_path_buf();
    move |source| NetnsError::System { doing, path, source }
}

fn netlink(doing: &'static str, interface: &str) -> impl FnOnce(rtnetlink::Error) -> NetnsError + use<> {
    let interface = interface.to_owned();
    move |source| NetnsError::Netlink { doing, interface, source }
}
