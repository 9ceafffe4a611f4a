//! Requests to controllers and services.
//!
//! Promises: a request ends within the two time-outs, and no more of an answer is held than the limit; connections that
//! may be used again are, and one that the other side had closed meanwhile costs no request.
//!
//! Left out: redirects (an answer like others), proxies, HTTP/2.

use std::collections::HashMap;
use std::io;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full, LengthLimitError, Limited};
use hyper::client::conn::http1::{self, SendRequest};
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use crate::config::target::TargetUrl;

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub(super) enum FetchError {
    #[error("connecting")]
    Connect(#[source] io::Error),
    #[error("no connection within {0:?}")]
    ConnectTimeout(Duration),
    #[error("exchanging a request for an answer")]
    Exchange(#[source] hyper::Error),
    #[error("no complete answer within {0:?}")]
    ReadTimeout(Duration),
    #[error("reading the answer")]
    Body(#[source] Box<dyn std::error::Error + Send + Sync>),
    #[error("answered with more than {0} bytes")]
    TooBig(usize),
}

impl FetchError {
    /// Tells whether the other side took the request and closed the connection without an answer.
    pub(super) fn is_unanswered(&self) -> bool {
        matches!(self, Self::Exchange(_))
    }
}

trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

/// What makes requests.
pub(super) struct Client {
    connect_timeout: Duration,
    read_timeout: Duration,
    body_limit: usize,
    /// There if anything is `https`.
    tls: Option<TlsConnector>,
    /// Connections that wait for their next request, by authority; at most `keep` of each.
    idle: Mutex<HashMap<String, Vec<SendRequest<Full<Bytes>>>>>,
    keep: usize,
}

impl Client {
    /// Returns a client that keeps no connection.
    pub(super) fn new(
        connect_timeout: Duration,
        read_timeout: Duration,
        body_limit: usize,
        tls: Option<TlsConnector>,
    ) -> Self {
        Self { connect_timeout, read_timeout, body_limit, tls, idle: Mutex::default(), keep: 0 }
    }

    /// Keeps this many connections to each authority for further requests.
    pub(super) fn keeping(self, keep: usize) -> Self {
        Self { keep, ..self }
    }

    /// Sends a request to where the URL is; its target is the request's own. `again` makes the request anew, if the
    /// connection turns out to be gone: only for what may be sent twice.
    pub(super) async fn send(
        &self,
        url: &TargetUrl,
        request: impl Fn() -> hyper::http::Result<Request<Full<Bytes>>>,
        may_repeat: bool,
    ) -> Result<Response<Bytes>, FetchError> {
        let make = || request().map_err(|error| FetchError::Body(error.into()));
        while may_repeat && let Some(sender) = self.take(url) {
            match self.timed(url, sender, make()?).await {
                // The other side may have closed it at the same moment.
                Err(FetchError::Exchange(_)) => {}
                answer => return answer,
            }
        }
        let stream = timeout(self.connect_timeout, self.connect(url)).await;
        let stream = stream.map_err(|_| FetchError::ConnectTimeout(self.connect_timeout))?;
        let stream = stream.map_err(FetchError::Connect)?;
        let (sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(FetchError::Exchange)?;
        // It ends with its sender; its error is the exchange's too.
        tokio::spawn(async move { drop(connection.await) });
        self.timed(url, sender, make()?).await
    }

    async fn timed(
        &self,
        url: &TargetUrl,
        sender: SendRequest<Full<Bytes>>,
        request: Request<Full<Bytes>>,
    ) -> Result<Response<Bytes>, FetchError> {
        let answer = timeout(self.read_timeout, self.exchange(url, sender, request)).await;
        answer.map_err(|_| FetchError::ReadTimeout(self.read_timeout))?
    }

    async fn exchange(
        &self,
        url: &TargetUrl,
        mut sender: SendRequest<Full<Bytes>>,
        request: Request<Full<Bytes>>,
    ) -> Result<Response<Bytes>, FetchError> {
        let (head, body) = sender.send_request(request).await.map_err(FetchError::Exchange)?.into_parts();
        let body = match Limited::new(body, self.body_limit).collect().await {
            Ok(body) => body.to_bytes(),
            Err(error) if error.is::<LengthLimitError>() => return Err(FetchError::TooBig(self.body_limit)),
            Err(error) => return Err(FetchError::Body(error)),
        };
        self.give_back(url, sender);
        Ok(Response::from_parts(head, body))
    }

    async fn connect(&self, url: &TargetUrl) -> io::Result<Box<dyn Stream>> {
        let stream = TcpStream::connect((url.host.as_str(), url.port)).await?;
        match &self.tls {
            Some(tls) if url.tls => {
                let name = ServerName::try_from(url.host.clone()).map_err(io::Error::other)?;
                Ok(Box::new(tls.connect(name, stream).await?))
            }
            // Never in the clear what was to be encrypted.
            None if url.tls => Err(io::Error::other("TLS is not set up")),
            _ => Ok(Box::new(stream)),
        }
    }

    fn take(&self, url: &TargetUrl) -> Option<SendRequest<Full<Bytes>>> {
        let mut idle = self.idle.lock();
        let waiting = idle.get_mut(&url.authority)?;
        std::iter::from_fn(|| waiting.pop()).find(|sender| !sender.is_closed() && sender.is_ready())
    }

    fn give_back(&self, url: &TargetUrl, sender: SendRequest<Full<Bytes>>) {
        if self.keep == 0 || sender.is_closed() {
            return;
        }
        let mut idle = self.idle.lock();
        let waiting = idle.entry(url.authority.clone()).or_default();
        if waiting.len() < self.keep {
            waiting.push(sender);
        }
    }
}
