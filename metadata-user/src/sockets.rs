//! Every socket that the daemon listens on is made here, and handed to whoever accepts on it.
//!
//! Promises: a socket is close-on-exec, non-blocking, and listening when it is returned; none takes the place of another
//! process's. A socket belongs to the network namespace of the thread that makes it.
//!
//! Those of guests and of metrics outlive the process where somebody keeps them ([`kept`]): the service manager ([`store`]), or
//! the next daemon, which takes over. The kernel goes on completing handshakes for them, so a connection waits while nobody accepts.

pub mod kept;
pub mod passing;
pub mod store;

use std::io;
use std::net::{Shutdown, SocketAddr, SocketAddrV6, TcpListener};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::time::Duration;

use metadata_ebpf::addr::RESPONDER_IPV6;
use nix::libc;
use nix::sys::socket::setsockopt;
use nix::sys::socket::sockopt::SetStruct;
use socket2::{Domain, Protocol, Socket, Type};

use kept::{Kept, Listening};

/// Connections that the kernel holds until they are accepted. A node's guests booting at once come to some thousands.
const BACKLOG: i32 = 4096;

/// Seconds that a connection may take to send something before it can be accepted without.
const SILENT: i32 = 1;

/// `TCP_DEFER_ACCEPT` (tcp(7)).
#[derive(Clone, Copy, Debug)]
struct TcpDeferAccept;

nix::setsockopt_impl!(TcpDeferAccept, libc::IPPROTO_TCP, libc::TCP_DEFER_ACCEPT, i32, SetStruct<i32>);

/// Readers of metrics that the kernel holds until they are accepted.
const READERS: i32 = 64;

/// Opens `count` sockets on the responder's address: the kernel spreads guests' connections over them. Kept ones that fit are
/// used. Where there are more of them than are wanted, the rest stops to listen, and the kernel moves the connections that wait there
/// to the others (`net.ipv4.tcp_migrate_req`).
///
/// A connection can be accepted when its first bytes have arrived, so that whoever accepts it need not wait for them. For a guest that
/// only connects, the kernel keeps a connection request, which is small.
///
/// What a guest does not acknowledge for as long as `patience` ends its connection, in the kernel.
///
/// # Errors
/// If a socket cannot be opened: usually because another process listens there.
pub fn guests(port: u16, count: usize, patience: Duration, kept: &mut Kept) -> io::Result<Vec<Listening<TcpListener>>> {
    let probe = unbound()?;
    let mut sockets = kept.take(responder(port).into(), &probe);
    let surplus = sockets.split_off(count.min(sockets.len()));
    if sockets.is_empty() {
        // Sockets that share a port also share it with other processes of the same user. The first one does not share, so it
        // finds out whether another process listens there.
        drop(bound(port, false)?);
    }
    while sockets.len() < count {
        let name = kept::free_name(&format!("guests-{port}"), sockets.iter().map(|other| other.name.as_str()));
        sockets.push(Listening { name, socket: bound(port, true)?, was_kept: false });
    }
    for Listening { socket, .. } in &sockets {
        socket.set_nonblocking(true)?;
        // Answers are written whole: waiting to send could only delay the last segment. Connections inherit it.
        socket.set_tcp_nodelay(true)?;
        socket.set_tcp_user_timeout(Some(patience))?;
        setsockopt(socket, TcpDeferAccept, &SILENT)?;
        socket.listen(BACKLOG)?;
    }
    for Listening { socket, .. } in &surplus {
        // At once, whoever else holds it.
        socket.shutdown(Shutdown::Read)?;
    }
    kept.put_back(surplus);
    let plain = |Listening { name, socket, was_kept }| Listening { name, socket: TcpListener::from(socket), was_kept };
    Ok(sockets.into_iter().map(plain).collect())
}

fn responder(port: u16) -> SocketAddrV6 {
    SocketAddrV6::new(RESPONDER_IPV6.into(), port, 0, 0)
}

fn unbound() -> io::Result<Socket> {
    Socket::new(Domain::IPV6, Type::STREAM.cloexec().nonblocking(), Some(Protocol::TCP))
}

fn bound(port: u16, shared: bool) -> io::Result<Socket> {
    let socket = unbound()?;
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(shared)?;
    socket.set_only_v6(true)?;
    socket.bind(&responder(port).into())?;
    Ok(socket)
}

/// Opens the socket of those who read metrics, unless it was kept. The address need not exist yet.
///
/// # Errors
/// If the socket cannot be opened: usually because another process listens there.
pub fn metrics(address: SocketAddr, kept: &mut Kept) -> io::Result<Listening<TcpListener>> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM.cloexec().nonblocking(), Some(Protocol::TCP))?;
    let name = "metrics".to_owned();
    let mut found = kept.take(address, &socket).into_iter();
    if let Some(Listening { socket, .. }) = found.next() {
        socket.set_nonblocking(true)?;
        kept.put_back(found);
        return Ok(Listening { name, socket: socket.into(), was_kept: true });
    }
    socket.set_reuse_address(true)?;
    match address {
        SocketAddr::V4(_) => socket.set_freebind_v4(true)?,
        SocketAddr::V6(_) => socket.set_freebind_v6(true)?,
    }
    socket.bind(&address.into())?;
    socket.listen(READERS)?;
    Ok(Listening { name, socket: socket.into(), was_kept: false })
}

/// Opens the Unix socket of the admin API, for its owner only. Nothing may exist at `path`.
///
/// # Errors
/// If the socket cannot be opened.
pub fn admin(path: &Path) -> io::Result<UnixListener> {
    let listener = UnixListener::bind(path)?;
    // Until here the umask decides, and the usual ones let only the owner write.
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

/// Lets a group connect to a socket, too.
///
/// # Errors
/// If it cannot be given to the group, for which a daemon that is no member of it needs `CAP_CHOWN`.
pub fn share(path: &Path, group: u32) -> io::Result<()> {
    std::os::unix::fs::chown(path, None, Some(group))?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o660))
}
