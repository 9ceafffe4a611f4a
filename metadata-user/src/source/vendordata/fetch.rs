//! One request to one target.
//!
//! Promises: certificates are read again when a file has changed; one that cannot be used is told once, and the one before stays.
//!
//! Left out, compared with Nova: redirects (refused with a message), proxies, Keystone credentials, and persistent
//! connections.

use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::SystemTime;

use bytes::Bytes;
use http_body_util::Full;
use hyper::Request;
use hyper::header::{ACCEPT, CONTENT_TYPE, HOST, LOCATION, USER_AGENT};
use jiff::Timestamp;
use parking_lot::Mutex;
use serde_json::Value;
use tracing::{info, warn};

use crate::api::vendor_data::{self, Unusable};
use crate::config;
use crate::config::target::TargetUrl;
use crate::error_text;
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
    #[error("answered with what had expired at {0}: look at its clock and at this node's")]
    Expired(Timestamp),
    #[error(
        "is not asked: cloud.vendordata_dynamic_client_certfile or client_keyfile cannot be used; `metadatad check-config` says why"
    )]
    NoCertificate,
    #[error(transparent)]
    Unusable(#[from] Unusable),
}

impl FetchError {
    /// Returns whether the service itself fails, rather than its answer for one instance.
    pub(super) fn is_of_service(&self) -> bool {
        matches!(self, Self::Fetch(_) | Self::NoCertificate)
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
pub(super) struct Client {
    cloud: config::Cloud,
    used: Mutex<Used>,
}

/// The client in use, and the state of the files that it was made of.
struct Used {
    client: Arc<fetch::Client>,
    /// Whether it presents the node's certificate, if there is to be one.
    is_complete: bool,
    files: Vec<Option<FileState>>,
}

/// What tells that a file is another one, or was written.
type FileState = (u64, u64, Option<SystemTime>);

impl Client {
    /// Reads the certificates that are needed. The node's own may come later than the daemon.
    pub(super) fn new(cloud: &config::Cloud) -> Result<Self, TlsError> {
        let files = files(cloud);
        let (client, is_complete) = match client(cloud) {
            Ok(client) => (client, true),
            Err(error) => {
                let mut others = cloud.clone();
                others.vendordata_dynamic.client = None;
                let client = self::client(&others)?;
                let error = error_text::chain(&error);
                warn!(
                    error,
                    "targets of https are not asked for vendor data until this node's certificate can be used"
                );
                (client, false)
            }
        };
        let used = Used { client: Arc::new(client), is_complete, files };
        Ok(Self { cloud: cloud.clone(), used: Mutex::new(used) })
    }

    /// Says whether all certificates can be used.
    pub(super) fn check(cloud: &config::Cloud) -> Result<(), TlsError> {
        client(cloud).map(drop)
    }

    /// Returns the client, with certificates as they are now; with those before, if they cannot be used.
    ///
    /// # Errors
    /// If this node's own is needed, and could not be used yet.
    fn current(&self, url: &TargetUrl) -> Result<Arc<fetch::Client>, FetchError> {
        let mut used = self.used.lock();
        let now = files(&self.cloud);
        if now != used.files {
            used.files = now;
            match client(&self.cloud) {
                Ok(client) => {
                    (used.client, used.is_complete) = (Arc::new(client), true);
                    info!("certificates for dynamic vendor data have changed, and are in use");
                }
                Err(error) => warn!(
                    error = error_text::chain(&error),
                    "certificates for dynamic vendor data have changed and cannot be used: those before stay in use"
                ),
            }
        }
        if url.tls && !used.is_complete {
            return Err(FetchError::NoCertificate);
        }
        Ok(Arc::clone(&used.client))
    }

    /// Posts a body to a target and returns its answer.
    pub(super) async fn ask(&self, url: &TargetUrl, body: Bytes) -> Result<Value, FetchError> {
        let request = Request::post(&url.path)
            .header(HOST, &url.authority)
            .header(CONTENT_TYPE, "application/json")
            .header(ACCEPT, "application/json")
            .header(USER_AGENT, "openstack-nova-vendordata")
            .body(Full::new(body));
        let answer = self.current(url)?.send(url, request, false).await?;
        if answer.status().is_redirection() && answer.headers().contains_key(LOCATION) {
            return Err(FetchError::Redirect);
        }
        Ok(vendor_data::read(answer.status().as_u16(), answer.body())?)
    }
}

/// Makes a client with certificates as they are now.
fn client(cloud: &config::Cloud) -> Result<fetch::Client, TlsError> {
    let dynamic = &cloud.vendordata_dynamic;
    let ca = Named { key: "cloud.vendordata_dynamic_ssl_certfile", path: dynamic.ssl_certfile.as_deref() };
    let (certificate, key) = dynamic.client.as_ref().map(|(certificate, key)| (&**certificate, &**key)).unzip();
    let certificate = Named { key: "cloud.vendordata_dynamic_client_certfile", path: certificate };
    let key = Named { key: "cloud.vendordata_dynamic_client_keyfile", path: key };
    let is_needed = cloud.asked_targets().iter().any(|target| target.url.tls);
    let tls = is_needed.then(|| tls::connector(ca, certificate, key)).transpose()?;
    Ok(fetch::Client::new(dynamic.connect_timeout, dynamic.read_timeout, dynamic.body_limit, tls))
}

/// Returns the state of the files that certificates are read from.
fn files(cloud: &config::Cloud) -> Vec<Option<FileState>> {
    let dynamic = &cloud.vendordata_dynamic;
    let client = dynamic.client.iter().flat_map(|(certificate, key)| [certificate, key]);
    let state = |path: &PathBuf| {
        let file = std::fs::metadata(path).ok()?;
        Some((file.ino(), file.len(), file.modified().ok()))
    };
    dynamic.ssl_certfile.iter().chain(client).map(state).collect()
}
