//! Requests over HTTP to controllers and services: whatever asks one, asks through this client.
//!
//! Promises:
//! - a request ends within the two time-outs, and no more of an answer is held than the limit;
//! - what may be sent twice uses kept connections, and one that the other side closed meanwhile costs no request;
//! - what may not be sent twice has a connection of its own.
//!
//! Left out: redirects (an answer like others), proxies, HTTP/2.

mod connector;
pub mod tls;

use std::error::Error;
use std::fmt;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full, LengthLimitError, Limited};
use hyper::http::uri::{PathAndQuery, Scheme};
use hyper::{Request, Response, Uri};
use hyper_util::client::legacy;
use hyper_util::client::legacy::connect::{CaptureConnection, capture_connection};
use hyper_util::rt::{TokioExecutor, TokioTimer};
use tokio_rustls::TlsConnector;

use crate::config::target::TargetUrl;
use connector::Connector;

/// How long a connection is kept without a request.
const IDLE_TIMEOUT: Duration = Duration::from_secs(30);

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FetchError {
    #[error("connecting")]
    Connect(#[source] Cause),
    #[error("no connection within {0:?}")]
    ConnectTimeout(Duration),
    #[error("making the request")]
    Request(#[source] hyper::http::Error),
    #[error("exchanging a request for an answer")]
    Exchange(#[source] Cause),
    #[error("no complete answer within {0:?}")]
    ReadTimeout(Duration),
    #[error("reading the answer")]
    Body(#[source] Box<dyn Error + Send + Sync>),
    #[error("answered with more than {0} bytes")]
    TooBig(usize),
}

impl FetchError {
    /// Tells whether the other side took the request and closed the connection without an answer.
    pub(crate) fn is_unanswered(&self) -> bool {
        matches!(self, Self::Exchange(_))
    }
}

/// The cause of the HTTP client's error: its own text names only the step that failed, as [`FetchError`] does.
#[derive(Debug)]
pub(crate) struct Cause(legacy::Error);

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.source() {
            Some(cause) => fmt::Display::fmt(cause, f),
            None => fmt::Display::fmt(&self.0, f),
        }
    }
}

impl Error for Cause {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.0.source().and_then(Error::source)
    }
}

type HttpClient = legacy::Client<Connector, Full<Bytes>>;

/// What makes requests.
pub(crate) struct Client {
    connect_timeout: Duration,
    read_timeout: Duration,
    body_limit: usize,
    connector: Connector,
    /// Opens a connection for each request.
    single: HttpClient,
    /// Keeps connections for further requests.
    keeping: Option<HttpClient>,
}

impl Client {
    /// Returns a client that keeps no connection. `tls` is needed if any URL is `https`.
    pub(crate) fn new(
        connect_timeout: Duration,
        read_timeout: Duration,
        body_limit: usize,
        tls: Option<TlsConnector>,
    ) -> Self {
        let connector = Connector { timeout: connect_timeout, tls };
        let single = http_client(&connector, 0);
        Self { connect_timeout, read_timeout, body_limit, connector, single, keeping: None }
    }

    /// Keeps this many idle connections to each authority for further requests.
    pub(crate) fn keeping(self, keep: usize) -> Self {
        Self { keeping: (keep > 0).then(|| http_client(&self.connector, keep)), ..self }
    }

    /// Sends a request to where the URL is; its target is the request's own. `may_repeat` only for what may be sent twice.
    pub(crate) async fn send(
        &self,
        url: &TargetUrl,
        request: hyper::http::Result<Request<Full<Bytes>>>,
        may_repeat: bool,
    ) -> Result<Response<Bytes>, FetchError> {
        let request = request.and_then(|request| absolute(url, request)).map_err(FetchError::Request)?;
        if may_repeat && let Some(client) = &self.keeping {
            let started = Instant::now();
            let mut request = request.clone();
            let connection = capture_connection(&mut request);
            match self.exchange(client, request, connection.clone()).await {
                // The other side may have closed a kept connection at the same moment.
                Err(FetchError::Exchange(_)) if connector::opened_at(&connection).is_some_and(|at| at < started) => {}
                answer => return answer,
            }
        }
        let mut request = request;
        let connection = capture_connection(&mut request);
        self.exchange(&self.single, request, connection).await
    }

    async fn exchange(
        &self,
        client: &HttpClient,
        request: Request<Full<Bytes>>,
        mut connection: CaptureConnection,
    ) -> Result<Response<Bytes>, FetchError> {
        let answer = async {
            let answer = client.request(request).await.map_err(|error| self.error(error))?;
            let (head, body) = answer.into_parts();
            match Limited::new(body, self.body_limit).collect().await {
                Ok(body) => Ok(Response::from_parts(head, body.to_bytes())),
                Err(error) if error.is::<LengthLimitError>() => Err(FetchError::TooBig(self.body_limit)),
                Err(error) => Err(FetchError::Body(error)),
            }
        };
        // Runs from when there is a connection: until then, the connector's time-out does.
        let expiry = async {
            drop(connection.wait_for_connection_metadata().await);
            tokio::time::sleep(self.read_timeout).await;
        };
        tokio::select! {
            biased;
            answer = answer => answer,
            () = expiry => Err(FetchError::ReadTimeout(self.read_timeout)),
        }
    }

    fn error(&self, error: legacy::Error) -> FetchError {
        if error.source().is_some_and(<dyn Error>::is::<tokio::time::error::Elapsed>) {
            FetchError::ConnectTimeout(self.connect_timeout)
        } else if error.is_connect() {
            FetchError::Connect(Cause(error))
        } else {
            FetchError::Exchange(Cause(error))
        }
    }
}

/// Returns an HTTP client that keeps this many idle connections to each authority.
fn http_client(connector: &Connector, keep: usize) -> HttpClient {
    legacy::Client::builder(TokioExecutor::new())
        .pool_timer(TokioTimer::new())
        .pool_idle_timeout(IDLE_TIMEOUT)
        .pool_max_idle_per_host(keep)
        .set_host(false)
        .build(connector.clone())
}

/// Adds the URL's scheme and authority to the target of a request: they say where to connect.
fn absolute(url: &TargetUrl, mut request: Request<Full<Bytes>>) -> hyper::http::Result<Request<Full<Bytes>>> {
    let target = request.uri().path_and_query().cloned().unwrap_or_else(|| PathAndQuery::from_static("/"));
    let scheme = if url.tls { Scheme::HTTPS } else { Scheme::HTTP };
    *request.uri_mut() = Uri::builder().scheme(scheme).authority(&*url.authority).path_and_query(target).build()?;
    Ok(request)
}

#[cfg(test)]
mod tests;
