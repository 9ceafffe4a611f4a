//! One request to one target.
//!
//! Promises: it ends within the two time-outs, and holds no more of an answer than the limit.
//!
//! Left out, against Nova: redirects (refused with a message), proxies, credentials of Keystone, and connections that
//! are used again.

use std::io;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full, LengthLimitError, Limited};
use hyper::Request;
use hyper::client::conn::http1;
use hyper::header::{ACCEPT, CONTENT_TYPE, HOST, LOCATION, USER_AGENT};
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use super::tls::{self, TlsError};
use crate::api::vendor_data::{self, Unusable};
use crate::config;
use crate::config::target::TargetUrl;

/// Why a target gave nothing.
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
    #[error("answered with more than {0} bytes; see cloud.vendordata_dynamic_body_limit")]
    TooBig(usize),
    #[error("answered with a redirect, which is not followed: configure the final URL")]
    Redirect,
    #[error(transparent)]
    Unusable(#[from] Unusable),
}

impl FetchError {
    /// Tells whether it is the service that fails, rather than its answer for one instance.
    pub(super) fn is_of_service(&self) -> bool {
        !matches!(self, Self::TooBig(_) | Self::Redirect | Self::Unusable(_))
    }
}

trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

/// What asks targets.
pub(super) struct Client {
    connect_timeout: Duration,
    read_timeout: Duration,
    body_limit: usize,
    /// There if any target is `https`.
    tls: Option<TlsConnector>,
}

impl Client {
    pub(super) fn new(cloud: &config::Cloud) -> Result<Self, TlsError> {
        let dynamic = &cloud.vendordata_dynamic;
        let is_needed = cloud.asked_targets().iter().any(|target| target.url.tls);
        let tls = is_needed.then(|| tls::connector(dynamic.ssl_certfile.as_deref())).transpose()?;
        Ok(Self {
            connect_timeout: dynamic.connect_timeout,
            read_timeout: dynamic.read_timeout,
            body_limit: dynamic.body_limit,
            tls,
        })
    }

    /// Posts a body to a target and returns its answer.
    pub(super) async fn ask(&self, url: &TargetUrl, body: Bytes) -> Result<Value, FetchError> {
        let stream = timeout(self.connect_timeout, self.connect(url)).await;
        let stream = stream.map_err(|_| FetchError::ConnectTimeout(self.connect_timeout))?;
        let stream = stream.map_err(FetchError::Connect)?;
        let answer = timeout(self.read_timeout, self.exchange(stream, url, body)).await;
        let (status, body) = answer.map_err(|_| FetchError::ReadTimeout(self.read_timeout))??;
        Ok(vendor_data::read(status, &body)?)
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

    async fn exchange(
        &self,
        stream: Box<dyn Stream>,
        url: &TargetUrl,
        body: Bytes,
    ) -> Result<(u16, Bytes), FetchError> {
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(FetchError::Exchange)?;
        let exchange = async {
            let request = Request::post(&url.path)
                .header(HOST, &url.authority)
                .header(CONTENT_TYPE, "application/json")
                .header(ACCEPT, "application/json")
                .header(USER_AGENT, "openstack-nova-vendordata")
                .body(Full::new(body))
                .map_err(|error| FetchError::Body(error.into()))?;
            let answer = sender.send_request(request).await.map_err(FetchError::Exchange)?;
            let status = answer.status();
            if status.is_redirection() && answer.headers().contains_key(LOCATION) {
                return Err(FetchError::Redirect);
            }
            let body = Limited::new(answer.into_body(), self.body_limit).collect().await;
            match body {
                Ok(body) => Ok((status.as_u16(), body.to_bytes())),
                Err(error) if error.is::<LengthLimitError>() => Err(FetchError::TooBig(self.body_limit)),
                Err(error) => Err(FetchError::Body(error)),
            }
        };
        tokio::pin!(exchange);
        tokio::select! {
            biased;
            answer = &mut exchange => return answer,
            // Its error is the exchange's too, and what was read before its end is still there.
            _ = connection => {}
        }
        exchange.await
    }
}
