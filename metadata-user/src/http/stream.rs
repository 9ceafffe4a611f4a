//! A guest's connection as hyper reads and writes it: its bytes are watched, odd request targets encoded, and it reads
//! when it is its turn.

use std::io;
use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite, DuplexStream, ReadBuf};
use tokio::net::TcpStream;

use super::progress::Progress;
use super::request_line::Requests;
use super::turns::Turn;
use crate::https;

/// Most bytes of one read after a chunked body, where requests are not told apart here: some ten small ones.
const OPAQUE_READ: usize = 256;

/// A stream that can be cut: closed so that nothing that is still unsent leaves.
pub trait Cut {
    /// Prepares it so that dropping it sends a reset and discards what is unsent.
    fn cut(&self);

    /// Returns whether bytes have arrived that have not been read yet.
    fn has_unread(&self) -> bool;

    /// Tells whether the other side has yet to acknowledge something, be it the end of the stream.
    fn has_unacknowledged(&self) -> bool;

    /// Completes when a read may find something: bytes, or the end.
    fn poll_readable(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>>;

    /// From here on, [`Self::poll_readable`] is pending unless something has come.
    ///
    /// # Errors
    /// If the runtime refuses to wait for it.
    fn watch(&mut self) -> io::Result<()> {
        Ok(())
    }

    /// Tells whether it is looked at again in a moment, for its end above all ([`super::recheck`]).
    fn is_rechecked(&self) -> bool {
        false
    }

    /// Says what the other side has done to the connection.
    fn other_side(&self) -> OtherSide;

    /// Sets the hop limit of the packets that leave from here on, those that are sent again included.
    ///
    /// # Errors
    /// If the socket refuses.
    fn limit_hops(&self, hop_limit: u8) -> io::Result<()>;
}

/// What the other side of a connection has done to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OtherSide {
    /// Nothing.
    Open,
    /// It sends nothing more, and may still read.
    HalfClosed,
    /// It has reset the connection.
    Gone,
}

pub(super) fn cut(socket: BorrowedFd<'_>) {
    // If the socket refuses, it is closed in the usual way; the kernel half drops packets of an ended tag anyway.
    let _ = SockRef::from(&socket).set_linger(Some(Duration::ZERO));
}

pub(super) fn has_unread(socket: BorrowedFd<'_>) -> bool {
    SockRef::from(&socket).peek(&mut [std::mem::MaybeUninit::uninit()]).is_ok_and(|length| length > 0)
}

pub(super) fn has_unacknowledged(socket: BorrowedFd<'_>) -> bool {
    let info = tcp_info(socket);
    info.is_some_and(|info| info.tcpi_state != state::CLOSED && (info.tcpi_unacked > 0 || info.tcpi_notsent_bytes > 0))
}

pub(super) fn other_side(socket: BorrowedFd<'_>) -> OtherSide {
    match tcp_info(socket).map(|info| info.tcpi_state) {
        Some(state::CLOSED) => OtherSide::Gone,
        Some(state::CLOSE_WAIT) => OtherSide::HalfClosed,
        _ => OtherSide::Open,
    }
}

/// The programs carry an IPv6 packet's hop limit over to an IPv4 guest's TTL.
pub(super) fn limit_hops(socket: BorrowedFd<'_>, hop_limit: u8) -> io::Result<()> {
    SockRef::from(&socket).set_unicast_hops_v6(hop_limit.into())
}

impl Cut for TcpStream {
    fn cut(&self) {
        cut(self.as_fd());
    }

    fn has_unread(&self) -> bool {
        has_unread(self.as_fd())
    }

    fn has_unacknowledged(&self) -> bool {
        has_unacknowledged(self.as_fd())
    }

    fn other_side(&self) -> OtherSide {
        other_side(self.as_fd())
    }

    fn poll_readable(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_read_ready(cx)
    }

    fn limit_hops(&self, hop_limit: u8) -> io::Result<()> {
        limit_hops(self.as_fd(), hop_limit)
    }
}

/// States of a connection, as the kernel counts them (`net/tcp_states.h`).
mod state {
    /// No connection any more. The kernel keeps numbers then, and nothing else.
    pub(super) const CLOSED: u8 = 7;
    /// The other side has ended its part.
    pub(super) const CLOSE_WAIT: u8 = 8;
}

/// Returns what the kernel knows of a TCP socket (tcp(7)). An `ioctl` would tell what is unacknowledged in bytes, but threads that
/// read guests' bytes may use none.
fn tcp_info(socket: BorrowedFd<'_>) -> Option<nix::libc::tcp_info> {
    // SAFETY: a tcp_info is numbers only, for which 0 is a value.
    let mut info: nix::libc::tcp_info = unsafe { std::mem::zeroed() };
    let mut length = nix::libc::socklen_t::try_from(size_of_val(&info)).unwrap_or(0);
    // SAFETY: the kernel writes at most `length` bytes to `info`, which has as many.
    let outcome = unsafe {
        nix::libc::getsockopt(
            socket.as_raw_fd(),
            nix::libc::IPPROTO_TCP,
            nix::libc::TCP_INFO,
            (&raw mut info).cast(),
            &raw mut length,
        )
    };
    (outcome == 0).then_some(info)
}

impl<S: Cut> Cut for https::Stream<S> {
    fn cut(&self) {
        self.get_ref().0.cut();
    }

    /// What has been decrypted is read before this is asked.
    fn has_unread(&self) -> bool {
        self.get_ref().0.has_unread()
    }

    fn has_unacknowledged(&self) -> bool {
        self.get_ref().0.has_unacknowledged()
    }

    fn other_side(&self) -> OtherSide {
        self.get_ref().0.other_side()
    }

    fn watch(&mut self) -> io::Result<()> {
        self.get_mut().0.watch()
    }

    fn poll_readable(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let (stream, session) = self.get_mut();
        // It wants none while it holds what it has decrypted, or has seen the end.
        if session.wants_read() { stream.poll_readable(cx) } else { Poll::Ready(Ok(())) }
    }

    fn limit_hops(&self, hop_limit: u8) -> io::Result<()> {
        self.get_ref().0.limit_hops(hop_limit)
    }
}

impl Cut for DuplexStream {
    fn cut(&self) {}

    /// A read always finds what there is.
    fn has_unread(&self) -> bool {
        false
    }

    /// What was written is with the other side.
    fn has_unacknowledged(&self) -> bool {
        false
    }

    /// A read finds out.
    fn other_side(&self) -> OtherSide {
        OtherSide::Open
    }

    fn poll_readable(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn limit_hops(&self, _: u8) -> io::Result<()> {
        Ok(())
    }
}

/// A stream between a guest and hyper.
#[derive(Debug)]
pub(super) struct Watched<S: Cut> {
    stream: S,
    requests: Requests,
    progress: Arc<Progress>,
    /// `None`: it shares its thread with nobody.
    turn: Option<Turn>,
    /// The other side has reset the connection: it is gone, and what was unsent with it.
    is_gone: bool,
}

impl<S: Cut> Watched<S> {
    pub(super) fn new(stream: S, progress: Arc<Progress>, turn: Option<Turn>) -> Self {
        Self { stream, requests: Requests::new(), progress, turn, is_gone: false }
    }

    /// Tells whether the other side has yet to acknowledge something, be it the end of the stream.
    pub(super) fn has_unacknowledged(&self) -> bool {
        !self.is_gone && self.stream.has_unacknowledged()
    }

    /// Notes what became of a write.
    fn wrote(&self, written: &Poll<io::Result<usize>>) {
        match written {
            Poll::Ready(Ok(count @ 1..)) => {
                self.progress.written(*count);
                if let Some(turn) = &self.turn {
                    turn.wrote(*count);
                }
            }
            Poll::Ready(_) => {}
            Poll::Pending => self.progress.blocked(),
        }
    }
}

impl<S: Cut> Watched<S> {
    /// Comes before each write, so that an answer never leaves with more hops than it may take.
    fn limit_hops(&self) -> io::Result<()> {
        self.progress.take_hop_limit().map_or(Ok(()), |hop_limit| self.stream.limit_hops(hop_limit))
    }
}

impl<S: Cut> Watched<S> {
    /// Looks whether the guest leaves while its request waits, when hyper does not read. Asks to be woken for that, unless the guest has
    /// sent more than is read yet: then it is found when hyper reads.
    fn look_for_guest(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        self.stream.watch()?;
        if self.stream.poll_readable(cx)?.is_pending() {
            return Ok(());
        }
        match self.stream.other_side() {
            OtherSide::Open => Ok(()),
            OtherSide::HalfClosed => {
                self.progress.half_closed();
                Ok(())
            }
            OtherSide::Gone => {
                self.is_gone = true;
                Err(io::ErrorKind::ConnectionReset.into())
            }
        }
    }
}

impl<S: Cut> Drop for Watched<S> {
    fn drop(&mut self) {
        if self.progress.is_cut() {
            self.stream.cut();
        }
    }
}

impl<S: AsyncRead + Cut + Unpin> AsyncRead for Watched<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let Self { stream, requests, progress, turn, is_gone } = &mut *self;
        requests.resume(progress.take_begun());
        if let Some(turn) = turn {
            // A connection that has nothing to read waits for that, and for no turn.
            if !requests.has_waiting() && stream.poll_readable(cx)?.is_pending() {
                progress.set_rechecked(stream.is_rechecked());
                if progress.must_leave() {
                    progress.set_unread(stream.has_unread());
                }
                return Poll::Pending;
            }
            progress.set_rechecked(false);
            if turn.poll(cx).is_pending() {
                progress.set_unread(true);
                return Poll::Pending;
            }
        }
        if !requests.has_waiting() {
            let before = buf.filled().len();
            let poll = if requests.is_opaque() {
                // hyper sees all requests in it at once, and they are answered before the connection's next turn.
                let mut part = ReadBuf::new(buf.initialize_unfilled_to(OPAQUE_READ.min(buf.remaining())));
                let poll = Pin::new(&mut *stream).poll_read(cx, &mut part);
                let length = part.filled().len();
                buf.advance(length);
                poll
            } else {
                Pin::new(&mut *stream).poll_read(cx, buf)
            };
            if poll.is_pending() && progress.must_leave() {
                progress.set_unread(stream.has_unread());
            }
            if let Poll::Ready(Err(error)) = &poll {
                *is_gone |= error.kind() == io::ErrorKind::ConnectionReset;
            }
            ready!(poll)?;
            let read = &buf.filled()[before..];
            if read.is_empty() {
                return Poll::Ready(Ok(()));
            }
            progress.read();
            if let Some(turn) = turn {
                turn.read(read.len());
            }
            let unchanged = requests.take(read);
            buf.set_filled(before + unchanged);
            if unchanged > 0 {
                return Poll::Ready(Ok(()));
            }
        }
        progress.read();
        let length = requests.give(buf.initialize_unfilled());
        buf.advance(length);
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Cut + Unpin> AsyncWrite for Watched<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.limit_hops()?;
        let poll = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.wrote(&poll);
        poll
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.limit_hops()?;
        let poll = Pin::new(&mut self.stream).poll_write_vectored(cx, slices);
        self.wrote(&poll);
        poll
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    /// hyper flushes when it has written everything that it has, and whenever it has been woken.
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(Pin::new(&mut self.stream).poll_flush(cx))?;
        self.progress.flushed();
        if self.progress.is_held() {
            self.look_for_guest(cx)?;
        }
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.is_gone {
            return Poll::Ready(Ok(()));
        }
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
