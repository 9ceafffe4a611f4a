//! The responder's network namespace: a room that only guests' packets enter, and only through the programs.
//!
//! Promises:
//! - it holds one end of a pair, one address, one route and one neighbour; no IPv4, no router advertisements, no
//!   link-local address;
//! - the pair's other end, in the node's namespace, has no address and no IPv6; a program drops whatever is sent into
//!   it. So neither the host nor a network can reach the responder;
//! - it is named (`/run/netns/<name>`) and outlives the daemon; a new start adopts it, with what is in it, and mends
//!   what is missing.
//!
//! All guests' identity addresses are behind one gateway with one permanent neighbour: the table of neighbours does
//! not grow with guests, so no guest can fill it.

use std::{
    fs::File,
    io,
    net::{Ipv6Addr, TcpListener},
    os::fd::AsFd as _,
    path::{Path, PathBuf},
    thread,
};

use futures_util::TryStreamExt as _;
use metadata_ebpf::addr::{IDENTITY_PREFIX, METADATA_MAC, RESPONDER_IPV6};
use nix::{
    mount::{MntFlags, MsFlags, mount, umount2},
    sched::{CloneFlags, setns, unshare},
    sys::statfs::{FsType, statfs},
};
use rtnetlink::{
    Handle, LinkUnspec, LinkVeth, RouteMessageBuilder,
    packet_route::{
        address::AddressHeaderFlags,
        link::{LinkAttribute, LinkMessage},
    },
};

use super::IfIndex;
use crate::sockets;

/// Where named namespaces are, by iproute2's convention.
const NETNS_DIR: &str = "/run/netns";
/// Name of the pair's end inside the namespace.
const INNER_NAME: &str = "guests";
/// The largest MTU that a pair takes: packets of guests with any MTU fit, with 20 bytes more.
const PAIR_MTU: u32 = 65535;
/// The gateway to all guests. Nobody has it; its neighbour entry is permanent.
const GATEWAY: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1);
/// Length of the identity addresses' prefix, in bits.
const IDENTITY_PREFIX_LEN: u8 = 16;
/// `st_fstype` of a namespace file.
const NSFS_MAGIC: FsType = FsType(0x6e73_6673);

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
        let (namespace, adopted) = open_or_make(name)?;
        let (pair_name, inside) = (pair_name.to_owned(), namespace.try_clone());
        let inside = inside.map_err(system("use", &path_of(name)))?;
        let pair = on_thread({
            let pair_name = pair_name.clone();
            move || {
                let pair = with_netlink(async |handle| find_or_make_pair(&handle, &pair_name, &inside).await)?;
                set_sysctl("ipv6", &pair_name, "disable_ipv6", "1")?;
                with_netlink(async |handle| up(&handle, pair, &pair_name).await)?;
                enter(&inside)?;
                configure_inside()?;
                Ok(pair)
            }
        })?;
        Ok(Self { namespace, pair, pair_name, adopted })
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
    /// blocking.
    ///
    /// # Errors
    /// If a socket cannot be opened: mostly, because another process listens there.
    pub fn listen(&self, port: u16, count: usize) -> Result<Vec<TcpListener>, NetnsError> {
        let path = PathBuf::from(format!("the listening socket, port {port} in the responder's namespace"));
        let namespace = self.namespace.try_clone().map_err(system("use", &path))?;
        on_thread(move || {
            enter(&namespace)?;
            sockets::guests(port, count).map_err(system("open", &path))
        })
    }

    /// Removes the namespace `name` and the pair, if they are there. `true` if anything was.
    ///
    /// # Errors
    /// If one of them cannot be removed.
    pub fn remove(name: &str, pair_name: &str) -> Result<bool, NetnsError> {
        let pair_name = pair_name.to_owned();
        let had_pair = on_thread(move || {
            with_netlink(async |handle| {
                let Some(link) = link_by_name(&handle, &pair_name).await else {
                    return Ok(false);
                };
                handle.link().del(link.header.index).execute().await.map_err(netlink("remove", &pair_name))?;
                Ok(true)
            })
        })?;
        let path = path_of(name);
        let had_namespace = path.exists();
        if had_namespace {
            unmount_and_remove(&path)?;
        }
        Ok(had_pair || had_namespace)
    }
}

fn path_of(name: &str) -> PathBuf {
    Path::new(NETNS_DIR).join(name)
}

fn system(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> NetnsError + use<> {
    let path = path.to_path_buf();
    move |source| NetnsError::System { doing, path, source }
}

fn netlink(doing: &'static str, interface: &str) -> impl FnOnce(rtnetlink::Error) -> NetnsError + use<> {
    let interface = interface.to_owned();
    move |source| NetnsError::Netlink { doing, interface, source }
}

/// Runs `work` on a thread of its own, which may change its namespace and then ends.
pub(super) fn on_thread<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, NetnsError> + Send + 'static,
) -> Result<T, NetnsError> {
    let path = PathBuf::from("a thread for the responder's namespace");
    let thread = thread::Builder::new().name("netns".into()).spawn(work).map_err(system("start", &path))?;
    match thread.join() {
        Ok(result) => result,
        Err(panic) => std::panic::resume_unwind(panic),
    }
}

/// Opens the named namespace; makes it if there is none. `true` if there was one.
fn open_or_make(name: &str) -> Result<(File, bool), NetnsError> {
    let path = path_of(name);
    if path.exists() {
        if statfs(&path).is_ok_and(|stat| stat.filesystem_type() == NSFS_MAGIC) {
            return Ok((File::open(&path).map_err(system("open", &path))?, true));
        }
        // A name whose namespace is gone: its mount did not survive a reboot or a mount namespace.
        unmount_and_remove(&path)?;
    }
    std::fs::create_dir_all(NETNS_DIR).map_err(system("make the directory", Path::new(NETNS_DIR)))?;
    File::create(&path).map_err(system("make", &path))?;
    let made = on_thread({
        let path = path.clone();
        move || {
            unshare(CloneFlags::CLONE_NEWNET)
                .map_err(io::Error::from)
                .map_err(system("make a network namespace for", &path))?;
            mount(Some("/proc/thread-self/ns/net"), &path, None::<&str>, MsFlags::MS_BIND, None::<&str>)
                .map_err(io::Error::from)
                .map_err(system("mount the network namespace on", &path))
        }
    });
    if let Err(error) = made {
        let _ = std::fs::remove_file(&path);
        return Err(error);
    }
    Ok((File::open(&path).map_err(system("open", &path))?, false))
}

fn unmount_and_remove(path: &Path) -> Result<(), NetnsError> {
    // Not mounted: then there is only the file to remove.
    let _ = umount2(path, MntFlags::MNT_DETACH);
    std::fs::remove_file(path).map_err(system("remove", path))
}

/// Moves this thread into the namespace.
fn enter(namespace: &File) -> Result<(), NetnsError> {
    setns(namespace.as_fd(), CloneFlags::CLONE_NEWNET)
        .map_err(io::Error::from)
        .map_err(system("enter", Path::new("the responder's namespace")))
}

/// Runs `work` with a netlink connection in this thread's namespace.
pub(super) fn with_netlink<T>(work: impl AsyncFnOnce(Handle) -> Result<T, NetnsError>) -> Result<T, NetnsError> {
    let socket = PathBuf::from("a netlink socket");
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_io().build().map_err(system("wait for", &socket))?;
    runtime.block_on(async {
        let (connection, handle, _) = rtnetlink::new_connection().map_err(system("open", &socket))?;
        let connection = tokio::spawn(connection);
        let result = work(handle).await;
        connection.abort();
        result
    })
}

async fn link_by_name(handle: &Handle, name: &str) -> Option<LinkMessage> {
    handle.link().get().match_name(name).execute().try_next().await.ok().flatten()
}

/// Returns the pair's end here; makes the pair anew unless its other end is in the namespace.
async fn find_or_make_pair(handle: &Handle, name: &str, namespace: &File) -> Result<IfIndex, NetnsError> {
    if let Some(link) = link_by_name(handle, name).await {
        if peer_is_inside(&link, namespace)? {
            return Ok(IfIndex(link.header.index));
        }
        let removed = handle.link().del(link.header.index).execute().await;
        // The kernel takes the pair away by itself, a moment after its namespace: it may be quicker.
        if link_by_name(handle, name).await.is_some_and(|left| left.header.index == link.header.index) {
            removed.map_err(netlink("remove the stale", name))?;
        }
    }
    // Made inside with its other end sent out here would need this namespace's file; so the other way round: made
    // here under both names, then its inner end moves. The name of that end is unique for that moment.
    let inner = format!("{}-in", name.chars().take(12).collect::<String>());
    handle
        .link()
        .add(LinkVeth::new(name, &inner).mtu(PAIR_MTU).build())
        .execute()
        .await
        .map_err(netlink("make the pair", name))?;
    let inner_link = link_by_name(handle, &inner).await.ok_or_else(|| NetnsError::Vanished(inner.clone()))?;
    use std::os::fd::AsRawFd as _;
    handle
        .link()
        .set(
            LinkUnspec::new_with_index(inner_link.header.index)
                .name(INNER_NAME)
                .mtu(PAIR_MTU)
                .setns_by_fd(namespace.as_raw_fd())
                .build(),
        )
        .execute()
        .await
        .map_err(netlink("move into the responder's namespace", &inner))?;
    let link = link_by_name(handle, name).await.ok_or_else(|| NetnsError::Vanished(name.to_owned()))?;
    Ok(IfIndex(link.header.index))
}

/// Tells whether the link's peer is the interface `guests` of the namespace.
fn peer_is_inside(link: &LinkMessage, namespace: &File) -> Result<bool, NetnsError> {
    let Some(peer) = link_attribute(link) else {
        return Ok(false);
    };
    let outer = link.header.index;
    let inside = namespace.try_clone().map_err(system("use", Path::new("the responder's namespace")))?;
    on_thread(move || {
        enter(&inside)?;
        with_netlink(async |handle| {
            Ok(link_by_name(&handle, INNER_NAME)
                .await
                .is_some_and(|link| link.header.index == peer && link_attribute(&link) == Some(outer)))
        })
    })
}

/// Returns the index of a pair's other end, in that end's namespace.
fn link_attribute(link: &LinkMessage) -> Option<u32> {
    link.attributes.iter().find_map(|attribute| match attribute {
        LinkAttribute::Link(index) => Some(*index),
        _ => None,
    })
}

async fn up(handle: &Handle, ifindex: IfIndex, name: &str) -> Result<(), NetnsError> {
    handle
        .link()
        .set(LinkUnspec::new_with_index(ifindex.0).mtu(PAIR_MTU).arp(false).up().build())
        .execute()
        .await
        .map_err(netlink("bring up", name))
}

/// Sets address, route and neighbour. Called inside the namespace.
fn configure_inside() -> Result<(), NetnsError> {
    // No link-local address (1: none is generated), no probes for the one that is set, nothing learned from anybody.
    // And IPv6 on, even where the node was booted without it.
    for (key, value) in [
        ("disable_ipv6", "0"),
        ("addr_gen_mode", "1"),
        ("accept_dad", "0"),
        ("accept_ra", "0"),
        ("accept_redirects", "0"),
    ] {
        set_sysctl("ipv6", INNER_NAME, key, value)?;
    }
    with_netlink(async |handle| {
        let link =
            link_by_name(&handle, INNER_NAME).await.ok_or_else(|| NetnsError::Vanished(INNER_NAME.to_owned()))?;
        let ifindex = IfIndex(link.header.index);
        up(&handle, ifindex, INNER_NAME).await?;
        let mut address = handle.address().add(ifindex.0, Ipv6Addr::from(RESPONDER_IPV6).into(), 128).replace();
        // Usable at once: otherwise the kernel looks for duplicates in its own time, even where it then does not.
        address.message_mut().header.flags |= AddressHeaderFlags::Nodad;
        address.execute().await.map_err(netlink("set the responder's address on", INNER_NAME))?;
        handle
            .neighbours()
            .add(ifindex.0, GATEWAY.into())
            .link_layer_address(&METADATA_MAC)
            .replace()
            .execute()
            .await
            .map_err(netlink("set the gateway's neighbour entry on", INNER_NAME))?;
        let mut prefix = [0; 16];
        prefix[..2].copy_from_slice(&IDENTITY_PREFIX);
        let route = RouteMessageBuilder::<Ipv6Addr>::new()
            .destination_prefix(prefix.into(), IDENTITY_PREFIX_LEN)
            .gateway(GATEWAY)
            .output_interface(ifindex.0)
            .build();
        handle
            .route()
            .add(route)
            .replace()
            .execute()
            .await
            .map_err(netlink("set the route to the guests on", INNER_NAME))
    })
}

/// Writes a per-interface setting of this thread's namespace.
fn set_sysctl(family: &str, interface: &str, key: &str, value: &str) -> Result<(), NetnsError> {
    let path = PathBuf::from(format!("/proc/sys/net/{family}/conf/{interface}/{key}"));
    std::fs::write(&path, value).map_err(system("write", &path))
}
