//! What lapin runs on: our tokio runtime, and connections that we make ourselves, so that TLS is the same as elsewhere (`fetch::tls`) and
//! every step has a time-out.
//!
//! lapin drives a connection on a thread of its own until it is closed. A [`Cut`] ends it at once, also where the broker no longer answers.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use async_rs::traits::{Executor, Reactor, RuntimeKit};
use async_rs::util::Task;
use async_rs::{Runtime, Tokio};
use futures_io::{AsyncRead as FuturesRead, AsyncWrite as FuturesWrite};
use lapin::tcp::AsyncTcpStream;
use lapin::uri::AMQPUri;
use lapin::{Connection, ConnectionProperties};
use parking_lot::Mutex;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_util::compat::{Compat, TokioAsyncReadCompatExt as _};
use tokio_util::sync::{CancellationToken, DropGuard, WaitForCancellationFutureOwned};

use super::broker::Broker;
use super::error::AmqpError;
use crate::config::controller::RabbitMq;
use crate::fetch::tls::{self, Named};

/// Longest time to connect, and then to complete a handshake.
pub(super) const PATIENCE: Duration = Duration::from_secs(10);

/// Ends a connection when it is dropped.
#[derive(Debug)]
pub(super) struct Cut(#[expect(dead_code, reason = "held for its drop")] DropGuard);

/// A connection to a broker.
pub(super) type Stream = Compat<Cuttable>;

/// Bytes to and from a broker, until they are cut.
pub(super) struct Cuttable {
    inner: Box<dyn Bytes>,
    cut: Pin<Box<WaitForCancellationFutureOwned>>,
}

/// What a connection is made of: TCP, or TLS over it.
trait Bytes: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Bytes for T {}

/// Connects to a broker.
///
/// # Errors
/// [`AmqpError`] if no connection comes about in time.
pub(super) async fn connect(settings: &RabbitMq, broker: &Broker) -> Result<(Stream, Cut), AmqpError> {
    let address = (broker.host.as_str(), broker.port);
    let connected = tokio::time::timeout(PATIENCE, TcpStream::connect(address)).await;
    let stream = connected
        .unwrap_or_else(|_| Err(io::Error::from(io::ErrorKind::TimedOut)))
        .map_err(|source| AmqpError::Connect { broker: broker.to_string(), source })?;
    let _ = stream.set_nodelay(true);
    let inner: Box<dyn Bytes> = if broker.tls {
        let identity = settings.identity.as_ref();
        let connector = tls::connector(
            Named { key: "rabbitmq.ca_file", path: settings.ca_file.as_deref() },
            Named { key: "rabbitmq.cert_file", path: identity.map(|(cert, _)| cert.as_path()) },
            Named { key: "rabbitmq.key_file", path: identity.map(|(_, key)| key.as_path()) },
        )?;
        let name = ServerName::try_from(broker.host.clone())
            .map_err(|error| AmqpError::Handshake { broker: broker.to_string(), source: io::Error::other(error) })?;
        let handshake = tokio::time::timeout(PATIENCE, connector.connect(name, stream)).await;
        let stream = handshake
            .unwrap_or_else(|_| Err(io::Error::from(io::ErrorKind::TimedOut)))
            .map_err(|source| AmqpError::Handshake { broker: broker.to_string(), source })?;
        Box::new(stream)
    } else {
        Box::new(stream)
    };
    let token = CancellationToken::new();
    let cut = Box::pin(token.clone().cancelled_owned());
    Ok((Cuttable { inner, cut }.compat(), Cut(token.drop_guard())))
}

/// Logs in over a connection that was made, in the name of `uri`.
///
/// # Errors
/// lapin's.
pub(super) async fn open(stream: Stream, uri: AMQPUri, properties: ConnectionProperties) -> lapin::Result<Connection> {
    let stream = Mutex::new(Some(stream));
    let taken = async move |_: AMQPUri, _: Runtime<Kit>| {
        // A second time would be lapin's reconnecting, which is off.
        let stream = stream.lock().take().ok_or_else(|| io::Error::from(io::ErrorKind::NotConnected))?;
        Ok(AsyncTcpStream::Plain(stream))
    };
    Connection::connector(uri, Runtime::new(Kit(Tokio::current())), taken, properties).await
}

impl AsyncRead for Cuttable {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.cut.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Err(io::Error::from(io::ErrorKind::ConnectionAborted)));
        }
        Pin::new(&mut self.inner).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Cuttable {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}

/// tokio, with our kind of connection.
#[derive(Clone, Debug)]
pub(super) struct Kit(Tokio);

impl RuntimeKit for Kit {}

impl Executor for Kit {
    type Task<T: Send + 'static> = <Tokio as Executor>::Task<T>;

    fn block_on<T, F: Future<Output = T>>(&self, future: F) -> T {
        self.0.block_on(future)
    }

    fn spawn<T: Send + 'static, F: Future<Output = T> + Send + 'static>(&self, future: F) -> Task<Self::Task<T>> {
        self.0.spawn(future)
    }

    fn spawn_blocking<T: Send + 'static, F: FnOnce() -> T + Send + 'static>(&self, work: F) -> Task<Self::Task<T>> {
        self.0.spawn_blocking(work)
    }
}

impl Reactor for Kit {
    type TcpStream = Stream;
    type Sleep = <Tokio as Reactor>::Sleep;

    fn register<H: io::Read + io::Write + AsFd + AsRawFd + Send + 'static>(
        &self,
        socket: H,
    ) -> io::Result<impl FuturesRead + FuturesWrite + Send + Unpin + 'static> {
        self.0.register(socket)
    }

    fn sleep(&self, duration: Duration) -> Self::Sleep {
        self.0.sleep(duration)
    }

    fn interval(&self, duration: Duration) -> impl futures_util::Stream<Item = Instant> + Send + 'static {
        self.0.interval(duration)
    }

    fn tcp_connect_addr(&self, _: SocketAddr) -> impl Future<Output = io::Result<Self::TcpStream>> + Send + 'static {
        // Connections are made by `connect`.
        std::future::ready(Err(io::Error::from(io::ErrorKind::Unsupported)))
    }
}
