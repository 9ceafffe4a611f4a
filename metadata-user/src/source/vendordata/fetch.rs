//! One request to one target.
//!
//! Left out, compared with Nova: redirects (refused with a message), proxies, Keystone credentials, and persistent
//! connections.

use bytes::Bytes;
use http_body_util::Full;
use hyper::Request;
use hyper::header::{ACCEPT, CONTENT_TYPE, HOST, LOCATION, USER_AGENT};
use serde_json::Value;

use crate::api::vendor_data::{self, Unusable};
use crate::config;
use crate::config::target::TargetUrl;
use crate::fetch;
use crate::fetch::tls::{self, Named, TlsError};

/// Why a request to a target failed.
#[derive(Debug, thiserror::Error)]
pub(super) enum FetchError {
    #[error(transparent)]
    Fetch(fetch::FetchError),
    #[error("answered with more than {0} bytes; see cloud.vendordata_dynamic_body_limit")]
    TooBig(usize),
    #[error("answered with a redirect, which is not followed: configure the final URL")]
    Redirect,
    #[error(transparent)]
    Unusable(#[from] Unusable),
}

impl FetchError {
    /// Returns whether the service itself fails, rather than its answer for one instance.
    pub(super) fn is_of_service(&self) -> bool {
        matches!(self, Self::Fetch(_))
    }
}

impl From<fetch::FetchError> for FetchError {
    fn from(error: fetch::FetchError) -> Self {
        match error {
            fetch::FetchError::TooBig(limit) => Self::TooBig(limit),
            error => Self::Fetch(error),
        }
    }
}

/// The client for requests to targets.
pub(super) struct Client(fetch::Client);

impl Client {
    pub(super) fn new(cloud: &config::Cloud) -> Result<Self, TlsError> {
        let dynamic = &cloud.vendordata_dynamic;
        let ca = Named { key: "cloud.vendordata_dynamic_ssl_certfile", path: dynamic.ssl_certfile.as_deref() };
        let none = Named { key: "", path: None };
        let is_needed = cloud.asked_targets().iter().any(|target| target.url.tls);
        let tls = is_needed.then(|| tls::connector(ca, none, none)).transpose()?;
        Ok(Self(fetch::Client::new(dynamic.connect_timeout, dynamic.read_timeout, dynamic.body_limit, tls)))
    }

    /// Posts a body to a target and returns its answer.
    pub(super) async fn ask(&self, url: &TargetUrl, body: Bytes) -> Result<Value, FetchError> {
        let request = Request::post(&url.path)
            .header(HOST, &url.authority)
            .header(CONTENT_TYPE, "application/json")
            .header(ACCEPT, "application/json")
            .header(USER_AGENT, "openstack-nova-vendordata")
            .body(Full::new(body));
        let answer = self.0.send(url, request, false).await?;
        if answer.status().is_redirection() && answer.headers().contains_key(LOCATION) {
            return Err(FetchError::Redirect);
        }
        Ok(vendor_data::read(answer.status().as_u16(), answer.body())?)
    }
}
