//! The accept loop, the same for every listening socket.
//!
//! Promises: a connection is accepted only when its handler has room for it, else it waits in the kernel's queue; running
//! out of file descriptors is logged once, and ends when others are closed; nothing is accepted once the drain refuses it.
//!
//! Left out: what a connection is (its [`Handler`] decides), and where sockets come from ([`crate::sockets`]).

pub mod places;

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream, unix};
use tracing::warn;

use crate::drain::Drain;
use crate::on_wake::OnWake;

/// How long to wait when the process has no file descriptor left: others must be closed first.
const OUT_OF_FILES: Duration = Duration::from_millis(50);

/// Connections that are accepted before those that there are get their turn: a guest may make new ones faster than they
/// are served.
const IN_A_ROW: u32 = 16;

/// A socket that accepts connections.
pub trait Listener {
    /// A connection.
    type Stream;
    /// The address of the other side.
    type Peer;

    /// Accepts the next connection. Cancel-safe.
    fn accept(&self) -> impl Future<Output = io::Result<(Self::Stream, Self::Peer)>> + Send;
}

impl Listener for TcpListener {
    type Stream = TcpStream;
    type Peer = SocketAddr;

    fn accept(&self) -> impl Future<Output = io::Result<(TcpStream, SocketAddr)>> + Send {
        self.accept()
    }
}

impl Listener for UnixListener {
    type Stream = UnixStream;
    type Peer = unix::SocketAddr;

    fn accept(&self) -> impl Future<Output = io::Result<(UnixStream, unix::SocketAddr)>> + Send {
        self.accept()
    }
}

/// What becomes of connections.
pub trait Handler<L: Listener>: Sync {
    /// What a connection takes up while it lasts.
    type Room: Send;

    /// Names the connections in the log.
    const NAME: &str;

    /// Completes when there is room for another connection. Cancel-safe.
    fn room(&self) -> impl Future<Output = Self::Room> + Send;

    /// Takes a connection. Must not block.
    fn handle(&self, stream: L::Stream, peer: L::Peer, room: Self::Room);
}

/// Accepts connections until the drain refuses them. The caller keeps the socket, so that connections in the kernel's queue are
/// not reset before it wants that.
pub async fn serve<L: Listener + Sync, H: Handler<L>>(listener: &L, drain: &Drain, handler: &H) {
    let (mut failing, mut in_a_row) = (false, 0);
    let next = async || {
        let room = handler.room().await;
        (listener.accept().await, room)
    };
    let refuses = pin!(drain.refuses());
    let mut refuses = OnWake::new(refuses);
    loop {
        let (accepted, room) = tokio::select! {
            biased;
            () = &mut refuses => return,
            next = next() => next,
        };
        match accepted {
            Ok((stream, peer)) => {
                failing = false;
                handler.handle(stream, peer, room);
                in_a_row += 1;
                if in_a_row == IN_A_ROW {
                    in_a_row = 0;
                    tokio::task::yield_now().await;
                }
            }
            Err(error) => {
                if !failing {
                    warn!(%error, "cannot accept {} connections for now; is LimitNOFILE too small?", H::NAME);
                }
                failing = true;
                tokio::time::sleep(OUT_OF_FILES).await;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::linux::net::SocketAddrExt as _;
    use std::sync::{Arc, Mutex};

    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::sync::{OwnedSemaphorePermit, Semaphore};

    use super::*;

    /// Keeps connections, and has room for some.
    struct Keep {
        room: Arc<Semaphore>,
        kept: Mutex<Vec<(UnixStream, OwnedSemaphorePermit)>>,
    }

    impl Handler<UnixListener> for Keep {
        type Room = OwnedSemaphorePermit;

        const NAME: &str = "test";

        async fn room(&self) -> OwnedSemaphorePermit {
            Arc::clone(&self.room).acquire_owned().await.expect("never closed")
        }

        fn handle(&self, stream: UnixStream, _: unix::SocketAddr, room: OwnedSemaphorePermit) {
            stream.try_write(b"x").expect("sent");
            self.kept.lock().expect("one thread").push((stream, room));
        }
    }

    #[tokio::test]
    async fn connections_beyond_the_room_wait_and_a_drain_ends_accepting() {
        let name = format!("metadatad-test-{}", std::process::id());
        let address = std::os::unix::net::SocketAddr::from_abstract_name(&name).expect("a name");
        let listener = std::os::unix::net::UnixListener::bind_addr(&address).expect("a socket");
        listener.set_nonblocking(true).expect("set");
        let listener = UnixListener::from_std(listener).expect("usable");
        let connect = || {
            let stream = std::os::unix::net::UnixStream::connect_addr(&address).expect("a connection");
            stream.set_nonblocking(true).expect("set");
            UnixStream::from_std(stream).expect("usable")
        };
        let handler = Arc::new(Keep { room: Arc::new(Semaphore::new(1)), kept: Mutex::default() });
        let drain = Drain::new();
        let serving = tokio::spawn({
            let (drain, handler) = (drain.clone(), Arc::clone(&handler));
            async move {
                serve(&listener, &drain, &*handler).await;
                listener
            }
        });
        let (mut first, mut second) = (connect(), connect());
        assert_eq!(first.read_u8().await.expect("accepted"), b'x');
        assert_eq!(handler.kept.lock().expect("one thread").len(), 1, "no room for the second");
        handler.kept.lock().expect("one thread").clear();
        assert_eq!(second.read_u8().await.expect("accepted now"), b'x');
        drain.close();
        let _listener = serving.await.expect("ended");
        let mut third = connect();
        third.write_all(b"x").await.expect("in the queue, not reset");
        assert_eq!(handler.kept.lock().expect("one thread").len(), 1);
    }
}
