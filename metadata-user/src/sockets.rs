//! Every socket that the daemon listens on is made here, and handed to whoever accepts on it.
//!
//! Promises: a socket is close-on-exec, non-blocking, and listening when it is returned; none takes the place of another
//! process's. A socket belongs to the network namespace of the thread that makes it.
//!
//! Left out: sockets that come from elsewhere (systemd's file descriptor store, a predecessor) are to be adopted here too.

use std::io;
use std::net::{SocketAddr, SocketAddrV6, TcpListener};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::time::Duration;

use metadata_ebpf::addr::RESPONDER_IPV6;
use socket2::{Domain, Protocol, Socket, Type};

/// Connections that the kernel holds until they are accepted. A node's guests booting at once come to some thousands.
const BACKLOG: i32 = 4096;

/// Readers of metrics that the kernel holds until they are accepted.
const READERS: i32 = 64;

/// Opens `count` sockets on the responder's address: the kernel spreads guests' connections over them.
///
/// What a guest does not acknowledge for as long as `patience` ends its connection, in the kernel.
///
/// # Errors
/// If a socket cannot be opened: usually because another process listens there.
pub fn guests(port: u16, count: usize, patience: Duration) -> io::Result<Vec<TcpListener>> {
    // Sockets that share a port also share it with other processes of the same user. The first one does not share, so it
    // finds out whether another process listens there.
    drop(bound(port, false)?);
    let sockets = (0..count).map(|_| {
        let socket = bound(port, true)?;
        // Answers are written whole: waiting to send could only delay the last segment. Connections inherit it.
        socket.set_tcp_nodelay(true)?;
        socket.set_tcp_user_timeout(Some(patience))?;
        socket.listen(BACKLOG)?;
        Ok(socket.into())
    });
    sockets.collect()
}

fn bound(port: u16, shared: bool) -> io::Result<Socket> {
    let socket = Socket::new(Domain::IPV6, Type::STREAM.cloexec().nonblocking(), Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(shared)?;
    socket.set_only_v6(true)?;
    socket.bind(&SocketAddrV6::new(RESPONDER_IPV6.into(), port, 0, 0).into())?;
    Ok(socket)
}

/// Opens the socket of those who read metrics. The address need not exist yet.
///
/// # Errors
/// If the socket cannot be opened: usually because another process listens there.
pub fn metrics(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM.cloexec().nonblocking(), Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    match address {
        SocketAddr::V4(_) => socket.set_freebind_v4(true)?,
        SocketAddr::V6(_) => socket.set_freebind_v6(true)?,
    }
    socket.bind(&address.into())?;
    socket.listen(READERS)?;
    Ok(socket.into())
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
