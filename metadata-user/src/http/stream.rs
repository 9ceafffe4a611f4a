//! A guest's connection as hyper reads and writes it: its bytes are watched, and odd request targets encoded.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite, DuplexStream, ReadBuf};
use tokio::net::TcpStream;

use super::progress::Progress;
use super::request_line::Requests;

/// A stream that can be cut: closed so that nothing that is still unsent leaves.
pub trait Cut {
    /// Prepares it so that dropping it sends a reset and discards what is unsent.
    fn cut(&self);

    /// Returns whether bytes have arrived that have not been read yet.
    fn has_unread(&self) -> bool;
}

impl Cut for TcpStream {
    fn cut(&self) {
        // If the socket refuses, it is closed in the usual way; the kernel half drops packets of an ended tag anyway.
        let _ = SockRef::from(self).set_linger(Some(Duration::ZERO));
    }

    fn has_unread(&self) -> bool {
        SockRef::from(self).peek(&mut [std::mem::MaybeUninit::uninit()]).is_ok_and(|length| length > 0)
    }
}

impl Cut for DuplexStream {
    fn cut(&self) {}

    /// A read always finds what there is.
    fn has_unread(&self) -> bool {
        false
    }
}

/// A stream between a guest and hyper.
#[derive(Debug)]
pub(super) struct Watched<S: Cut> {
    stream: S,
    requests: Requests,
    progress: Arc<Progress>,
}

impl<S: Cut> Watched<S> {
    pub(super) fn new(stream: S, progress: Arc<Progress>) -> Self {
        Self { stream, requests: Requests::new(), progress }
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
        let Self { stream, requests, progress } = &mut *self;
        requests.resume(progress.take_begun());
        if !requests.has_waiting() {
            let before = buf.filled().len();
            let poll = Pin::new(&mut *stream).poll_read(cx, buf);
            if poll.is_pending() && progress.must_leave() {
                progress.set_unread(stream.has_unread());
            }
            ready!(poll)?;
            let read = &buf.filled()[before..];
            if read.is_empty() {
                return Poll::Ready(Ok(()));
            }
            progress.read();
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
        let poll = Pin::new(&mut self.stream).poll_write(cx, bytes);
        if matches!(poll, Poll::Ready(Ok(1..))) {
            self.progress.written();
        }
        poll
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let poll = Pin::new(&mut self.stream).poll_write_vectored(cx, slices);
        if matches!(poll, Poll::Ready(Ok(1..))) {
            self.progress.written();
        }
        poll
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    /// hyper flushes when it has written everything that it has.
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(Pin::new(&mut self.stream).poll_flush(cx))?;
        self.progress.flushed();
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
