//! Watches a connection's bytes, so that one timer per connection is enough for all its time-outs.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, DuplexStream, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep_until};

use super::Times;

/// A stream that can be cut: closed so that nothing that is still unsent leaves.
pub trait Cut {
    /// Prepares it so that dropping it sends a reset and discards what is unsent.
    fn cut(&self);
}

impl Cut for TcpStream {
    fn cut(&self) {
        // If the socket refuses, it is closed in the usual way; the kernel half drops packets of an ended tag anyway.
        let _ = socket2::SockRef::from(self).set_linger(Some(Duration::ZERO));
    }
}

impl Cut for DuplexStream {
    fn cut(&self) {}
}

/// Where a connection is. Written and read by its one task; atomics only since the task may change threads.
#[derive(Debug)]
pub(super) struct Progress {
    start: Instant,
    times: Times,
    /// Milliseconds from `start` to the last byte in either direction.
    moved: AtomicU64,
    /// Milliseconds from `start` to the first byte of the request that is coming in, plus 1; 0: none is.
    receiving: AtomicU64,
    cut: AtomicBool,
}

impl Progress {
    pub(super) fn new(times: Times) -> Self {
        Self {
            start: Instant::now(),
            times,
            moved: AtomicU64::new(0),
            receiving: AtomicU64::new(0),
            cut: AtomicBool::new(false),
        }
    }

    /// The request is complete.
    pub(super) fn received(&self) {
        self.receiving.store(0, Ordering::Relaxed);
    }

    /// Returns how long a complete request may wait for its answer.
    pub(super) fn patience(&self) -> Duration {
        self.times.request.min(self.times.idle)
    }

    /// Returns how long a complete request may wait for its content. Well before the connection is taken for idle.
    pub(super) fn patience_for_content(&self) -> Duration {
        self.times.ready.min(self.times.idle / 2)
    }

    /// Whatever is unsent must not leave.
    pub(super) fn cut(&self) {
        self.cut.store(true, Ordering::Relaxed);
    }

    /// Completes when a request takes too long, or the connection was idle for too long. What came in of a request
    /// while the one before was answered counts from the next byte on.
    pub(super) async fn expired(&self) {
        loop {
            let now = Instant::now();
            let deadline = match self.receiving.load(Ordering::Relaxed) {
                0 => self.at(self.moved.load(Ordering::Relaxed)) + self.times.idle,
                since => self.at(since - 1) + self.times.request,
            };
            if deadline <= now {
                return;
            }
            // A request may begin while this sleeps, so it never sleeps longer than one may take.
            sleep_until(deadline.min(now + self.times.request)).await;
        }
    }

    fn at(&self, milliseconds: u64) -> Instant {
        self.start + Duration::from_millis(milliseconds)
    }

    fn now(&self) -> u64 {
        u64::try_from(self.start.elapsed().as_millis()).unwrap_or(u64::MAX / 2)
    }

    fn read(&self) {
        let now = self.now();
        self.moved.store(now, Ordering::Relaxed);
        if self.receiving.load(Ordering::Relaxed) == 0 {
            self.receiving.store(now + 1, Ordering::Relaxed);
        }
    }

    fn written(&self) {
        self.moved.store(self.now(), Ordering::Relaxed);
    }
}

/// A stream whose bytes are watched.
#[derive(Debug)]
pub(super) struct Watched<S: Cut> {
    stream: S,
    progress: Arc<Progress>,
}

impl<S: Cut> Watched<S> {
    pub(super) fn new(stream: S, progress: Arc<Progress>) -> Self {
        Self { stream, progress }
    }
}

impl<S: Cut> Drop for Watched<S> {
    fn drop(&mut self) {
        if self.progress.cut.load(Ordering::Relaxed) {
            self.stream.cut();
        }
    }
}

impl<S: AsyncRead + Cut + Unpin> AsyncRead for Watched<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let poll = Pin::new(&mut self.stream).poll_read(cx, buf);
        if buf.filled().len() > before {
            self.progress.read();
        }
        poll
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

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
