//! A guest's TCP connection, which the runtime learns of when it first has to wait.
//!
//! Most connections carry one request: it is there when they are accepted (`TCP_DEFER_ACCEPT`), and one write takes the answer.
//! So the socket is read and written directly at first. Once answered, it is read again a moment later ([`super::recheck`]), and
//! registered if the guest has not closed it by then; one whose guest takes its time before that is registered at once.
//!
//! Promises: bytes, errors and ends are those of the socket, in the same order; whoever got [`Poll::Pending`] is woken.

use std::future::poll_fn;
use std::io::{self, Write as _};
use std::net::{Shutdown, SocketAddr};
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use arrayvec::ArrayVec;
use socket2::SockRef;
use tokio::io::unix::AsyncFd;
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};
use tokio::net::TcpStream;

use super::recheck::{Recheck, Rechecks};
use super::stream::{self, Cut, OtherSide};
use crate::server;

/// Bytes of an answer for which `send` of a copy costs less than `writev` of its parts.
const SMALL: usize = 1024;

/// A listening socket whose connections are not registered with the runtime.
#[derive(Debug)]
pub(super) struct Listener(AsyncFd<mio::net::TcpListener>);

impl Listener {
    /// Uses a socket that listens and does not block.
    ///
    /// # Errors
    /// If it cannot be used with this runtime.
    pub(super) fn new(listener: std::net::TcpListener) -> io::Result<Self> {
        let listener = mio::net::TcpListener::from_std(listener);
        // SAFETY: the listener keeps its descriptor for as long as it lives, and is never taken out.
        Ok(Self(unsafe { AsyncFd::register_with_interest(listener, Interest::READABLE) }?))
    }
}

impl server::Listener for Listener {
    type Stream = Socket;
    type Peer = SocketAddr;

    /// For one task at a time: who asked last is woken.
    async fn accept(&self) -> io::Result<(Socket, SocketAddr)> {
        let (stream, peer) = poll_fn(|cx| {
            loop {
                let mut ready = ready!(self.0.poll_read_ready(cx))?;
                if let Ok(accepted) = ready.try_io(|listener| listener.get_ref().accept()) {
                    return Poll::Ready(accepted);
                }
            }
        })
        .await?;
        Ok((Socket::new(OwnedFd::from(stream).into()), peer))
    }
}

/// A connection.
#[derive(Debug)]
pub(super) struct Socket {
    state: State,
    /// Where it asks to be looked at again when its first request is answered; `None`: it does not.
    rechecks: Option<Arc<Rechecks>>,
}

#[derive(Debug)]
enum State {
    /// Not registered.
    Direct {
        stream: std::net::TcpStream,
        next: Next,
    },
    Registered(TcpStream),
    /// The runtime refused to register it.
    Lost,
}

/// What a connection that is not registered does when it is to be read.
#[derive(Debug)]
enum Next {
    Read,
    /// Nothing more was there when it was last read.
    Register,
    /// The same, and it was written to since.
    Recheck,
    /// It waits to be looked at again.
    Wait(Recheck),
}

impl Socket {
    /// Takes a connection that does not block.
    fn new(stream: std::net::TcpStream) -> Self {
        Self { state: State::Direct { stream, next: Next::Read }, rechecks: None }
    }

    /// Has its end looked for there when its first request is answered.
    pub(super) fn recheck_at(&mut self, rechecks: &Arc<Rechecks>) {
        self.rechecks = Some(Arc::clone(rechecks));
    }

    /// Gives it at most so much room in the kernel for what is unsent; the kernel doubles it.
    ///
    /// # Errors
    /// If the socket refuses.
    pub(super) fn set_send_buffer_size(&self, bytes: usize) -> io::Result<()> {
        self.fd().map_or_else(|| Err(lost()), |fd| SockRef::from(&fd).set_send_buffer_size(bytes))
    }

    /// Registers it, if it is not.
    fn registered(&mut self) -> io::Result<&mut TcpStream> {
        self.state = match std::mem::replace(&mut self.state, State::Lost) {
            State::Direct { stream, .. } => State::Registered(TcpStream::from_std(stream)?),
            other => other,
        };
        match &mut self.state {
            State::Registered(stream) => Ok(stream),
            State::Direct { .. } | State::Lost => Err(lost()),
        }
    }

    fn fd(&self) -> Option<BorrowedFd<'_>> {
        match &self.state {
            State::Direct { stream, .. } => Some(stream.as_fd()),
            State::Registered(stream) => Some(stream.as_fd()),
            State::Lost => None,
        }
    }

    /// Reads without waiting. `None`: that has to be waited for.
    fn read_directly(&mut self, buf: &mut ReadBuf<'_>) -> Option<io::Result<()>> {
        let State::Direct { stream, next: next @ Next::Read } = &mut self.state else { return None };
        // SAFETY: only the kernel writes to it, so what is initialised stays so.
        let room = unsafe { buf.unfilled_mut() };
        let most = room.len();
        match SockRef::from(&*stream).recv(room) {
            Ok(count) => {
                if count < most {
                    *next = Next::Register;
                }
                // SAFETY: the kernel has written so many bytes.
                unsafe { buf.assume_init(count) };
                buf.advance(count);
                Some(Ok(()))
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => None,
            Err(error) => Some(Err(error)),
        }
    }

    /// Writes without waiting. `None`: that has to be waited for.
    fn write_directly(&mut self, slices: &[io::IoSlice<'_>]) -> Option<io::Result<usize>> {
        let State::Direct { stream, next } = &mut self.state else { return None };
        let mut copy = ArrayVec::<u8, SMALL>::new();
        let is_small = slices.iter().all(|slice| copy.try_extend_from_slice(slice).is_ok());
        let done = if is_small { stream.write(&copy) } else { stream.write_vectored(slices) };
        match done {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => None,
            done => {
                if matches!(next, Next::Register) && self.rechecks.is_some() {
                    *next = Next::Recheck;
                }
                Some(done)
            }
        }
    }

    /// Returns whether it is to wait before it is read: it is looked at again then, once in its life.
    fn waits_for_recheck(&mut self, cx: &Context<'_>) -> bool {
        let State::Direct { next, .. } = &mut self.state else { return false };
        match (&mut *next, &self.rechecks) {
            (Next::Recheck, Some(rechecks)) => {
                *next = Next::Wait(rechecks.ask(cx.waker()));
                true
            }
            (Next::Wait(recheck), Some(rechecks)) => {
                if !rechecks.is_over(recheck, cx.waker()) {
                    return true;
                }
                *next = Next::Read;
                self.rechecks = None;
                false
            }
            _ => false,
        }
    }
}

fn lost() -> io::Error {
    io::ErrorKind::NotConnected.into()
}

impl Cut for Socket {
    fn cut(&self) {
        if let Some(socket) = self.fd() {
            stream::cut(socket);
        }
    }

    fn has_unread(&self) -> bool {
        self.fd().is_some_and(stream::has_unread)
    }

    fn has_unacknowledged(&self) -> bool {
        self.fd().is_some_and(stream::has_unacknowledged)
    }

    fn poll_readable(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.waits_for_recheck(cx) {
            return Poll::Pending;
        }
        if let State::Direct { next: Next::Read, .. } = self.state {
            return Poll::Ready(Ok(()));
        }
        self.registered()?.poll_read_ready(cx)
    }

    fn is_rechecked(&self) -> bool {
        matches!(self.state, State::Direct { next: Next::Wait(_), .. })
    }

    fn watch(&mut self) -> io::Result<()> {
        self.registered().map(drop)
    }

    fn other_side(&self) -> OtherSide {
        self.fd().map_or(OtherSide::Gone, stream::other_side)
    }

    fn limit_hops(&self, hop_limit: u8) -> io::Result<()> {
        self.fd().map_or_else(|| Err(lost()), |fd| stream::limit_hops(fd, hop_limit))
    }
}

impl AsyncRead for Socket {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.waits_for_recheck(cx) {
            return Poll::Pending;
        }
        if let Some(done) = self.read_directly(buf) {
            return Poll::Ready(done);
        }
        Pin::new(self.registered()?).poll_read(cx, buf)
    }
}

impl AsyncWrite for Socket {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(cx, &[io::IoSlice::new(bytes)])
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if let Some(done) = self.write_directly(slices) {
            return Poll::Ready(done);
        }
        Pin::new(self.registered()?).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    /// Nothing is buffered here.
    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.state {
            // The guest may have reset it, as the runtime's own allows.
            State::Direct { stream, .. } => Poll::Ready(match stream.shutdown(Shutdown::Write) {
                Err(error) if error.kind() == io::ErrorKind::NotConnected => Ok(()),
                ended => ended,
            }),
            State::Registered(stream) => Pin::new(stream).poll_shutdown(cx),
            State::Lost => Poll::Ready(Ok(())),
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use std::net::Ipv4Addr;
    use std::time::Duration;

    use futures_util::FutureExt as _;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::super::recheck;
    use super::*;
    use crate::server::Listener as _;

    /// The two ends of a connection, and the socket that it came from.
    pub(in crate::http) async fn pair() -> (TcpStream, Socket, Listener) {
        let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a socket");
        listener.set_nonblocking(true).expect("set");
        let address = listener.local_addr().expect("an address");
        let listener = Listener::new(listener).expect("usable");
        let client = TcpStream::connect(address).await.expect("a connection");
        let (socket, peer) = listener.accept().await.expect("accepted");
        assert_eq!(peer, client.local_addr().expect("an address"));
        (client, socket, listener)
    }

    fn is_registered(socket: &Socket) -> bool {
        matches!(socket.state, State::Registered(_))
    }

    async fn read(socket: &mut Socket) -> Vec<u8> {
        let mut buffer = [0; 16];
        let count = socket.read(&mut buffer).await.expect("read");
        buffer[..count].to_vec()
    }

    #[tokio::test]
    async fn one_request_and_its_answer_are_never_registered() {
        let (mut client, mut socket, _listener) = pair().await;
        client.write_all(b"request").await.expect("sent");
        assert_eq!(read(&mut socket).await, b"request");
        socket.write_all(b"answer").await.expect("sent");
        socket.shutdown().await.expect("ended");
        assert!(!is_registered(&socket));
        let mut answer = Vec::new();
        client.read_to_end(&mut answer).await.expect("read");
        assert_eq!(answer, b"answer");
    }

    #[tokio::test]
    async fn who_closes_soon_is_never_registered_and_who_does_not_is_after_the_look() {
        let rechecks = recheck::tests::running();
        for is_kept in [false, true] {
            let (mut client, mut socket, _listener) = pair().await;
            socket.recheck_at(&rechecks);
            client.write_all(b"request").await.expect("sent");
            assert_eq!(read(&mut socket).await, b"request");
            socket.write_all(b"answer").await.expect("sent");
            client.read_exact(&mut [0; 6]).await.expect("read");
            assert!(read(&mut socket).now_or_never().is_none(), "it waits for the look");
            if is_kept {
                let sent = async {
                    tokio::time::sleep(Duration::from_millis(20)).await;
                    client.write_all(b"next").await.expect("sent");
                };
                assert_eq!(tokio::join!(read(&mut socket), sent).0, b"next");
            } else {
                drop(client);
                assert_eq!(read(&mut socket).await, b"");
            }
            assert_eq!(is_registered(&socket), is_kept);
        }
    }

    #[tokio::test]
    async fn what_comes_late_is_waited_for() {
        let (mut client, mut socket, _listener) = pair().await;
        let reading = tokio::spawn(async move {
            let first = read(&mut socket).await;
            (first, read(&mut socket).await, is_registered(&socket))
        });
        for part in [b"one", b"two"] {
            tokio::time::sleep(Duration::from_millis(20)).await;
            client.write_all(part).await.expect("sent");
        }
        assert_eq!(reading.await.expect("it ends"), (b"one".to_vec(), b"two".to_vec(), true));
    }

    #[tokio::test]
    async fn everything_arrives_in_order_however_it_is_cut() {
        let (mut client, mut socket, _listener) = pair().await;
        let sent: Vec<u8> = (0..1 << 20).map(|at: u32| at.to_le_bytes()[1]).collect();
        let writing = tokio::spawn({
            let sent = sent.clone();
            async move {
                client.write_all(&sent).await.expect("sent");
                let mut back = Vec::new();
                client.read_to_end(&mut back).await.expect("read");
                back
            }
        });
        let mut received = vec![0; sent.len()];
        socket.read_exact(&mut received).await.expect("read");
        assert!(received == sent);
        // More than the kernel has room for.
        let mut answer = sent.repeat(8);
        answer.push(1);
        socket.write_all(&answer).await.expect("sent");
        socket.shutdown().await.expect("ended");
        assert!(writing.await.expect("it ends") == answer);
    }

    #[tokio::test]
    async fn a_reset_is_an_error_and_who_watches_is_woken_by_it() {
        let (client, mut socket, _listener) = pair().await;
        socket.watch().expect("registered");
        let watching = tokio::spawn(async move {
            std::future::poll_fn(|cx| socket.poll_readable(cx)).await.expect("readable");
            (socket.other_side(), socket.read(&mut [0; 16]).await.map_err(|error| error.kind()))
        });
        tokio::task::yield_now().await;
        SockRef::from(&client).set_linger(Some(Duration::ZERO)).expect("set");
        drop(client);
        assert_eq!(watching.await.expect("it ends"), (OtherSide::Gone, Err(io::ErrorKind::ConnectionReset)));
    }
}
