//! Opens connections for the HTTP client: TCP, and TLS where the URL is `https`.
//!
//! Promises: a connection is ready within the time-out, or there is an error; an `https` URL is never asked in the clear.
//!
//! Left out: proxies, and HTTP/2 (no ALPN).

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use futures_util::future::BoxFuture;
use hyper::Uri;
use hyper::http::uri::Scheme;
use hyper_util::client::legacy::connect::{CaptureConnection, Connected, Connection};
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tower_service::Service;

/// Opens connections to the host of a URL.
#[derive(Clone)]
pub(super) struct Connector {
    /// Longest time until a connection is ready: name resolution, TCP and TLS together.
    pub(super) timeout: Duration,
    /// Needed for `https`.
    pub(super) tls: Option<TlsConnector>,
}

impl Connector {
    async fn connect(self, url: Uri) -> io::Result<Box<dyn Stream>> {
        let is_tls = url.scheme() == Some(&Scheme::HTTPS);
        let host = url.host().unwrap_or_default().trim_start_matches('[').trim_end_matches(']').to_owned();
        let port = url.port_u16().unwrap_or(if is_tls { 443 } else { 80 });
        let stream = TcpStream::connect((host.as_str(), port)).await?;
        if !is_tls {
            return Ok(Box::new(stream));
        }
        let tls = self.tls.ok_or_else(|| io::Error::other("TLS is not set up"))?;
        let name = ServerName::try_from(host).map_err(io::Error::other)?;
        Ok(Box::new(tls.connect(name, stream).await?))
    }
}

impl Service<Uri> for Connector {
    type Response = TokioIo<Opened>;
    /// An [`io::Error`], or [`Elapsed`](tokio::time::error::Elapsed).
    type Error = Box<dyn std::error::Error + Send + Sync>;
    type Future = BoxFuture<'static, Result<Self::Response, Self::Error>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, url: Uri) -> Self::Future {
        let connector = self.clone();
        Box::pin(async move {
            let stream = timeout(connector.timeout, connector.connect(url)).await??;
            Ok(TokioIo::new(Opened { stream, at: Instant::now() }))
        })
    }
}

trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

/// A connection, and since when it is open.
pub(super) struct Opened {
    stream: Box<dyn Stream>,
    at: Instant,
}

#[derive(Clone, Copy)]
struct OpenedAt(Instant);

/// Returns when the connection that a request was sent on was opened, if it was sent.
pub(super) fn opened_at(connection: &CaptureConnection) -> Option<Instant> {
    let mut extras = hyper::http::Extensions::new();
    connection.connection_metadata().as_ref()?.get_extras(&mut extras);
    extras.get().map(|OpenedAt(at)| *at)
}

impl Connection for Opened {
    fn connected(&self) -> Connected {
        Connected::new().extra(OpenedAt(self.at))
    }
}

impl AsyncRead for Opened {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Opened {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}
