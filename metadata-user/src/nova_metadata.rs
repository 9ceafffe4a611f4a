//! Nova's metadata API: asked for one instance's pages, as Neutron's agents ask it. The `nova` source and the controller share it.
//!
//! Promises: all of what Nova has for an instance, as it is at one moment (`refresh`); which of its endpoints answers, and what is
//! wrong with the others.
//!
//! Left out: which instances there are, and where their pages go.

pub(crate) mod client;
pub(crate) mod endpoints;
pub(crate) mod listings;
pub(crate) mod prefetch;
pub(crate) mod refresh;

use std::time::SystemTime;

use crate::config;
use crate::fetch::tls::{self, Named, TlsError};
use crate::secret::sign::Signer;
use crate::secret::{Secret, SecretError};
use client::Client;

/// Names of what the operator writes, for messages.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Names {
    /// What is started again after a change.
    pub(crate) program: &'static str,
    /// The key of the endpoints.
    pub(crate) endpoints: &'static str,
    /// The key of the file with the shared secret.
    pub(crate) secret: &'static str,
    /// The key of the file with trusted CAs.
    pub(crate) ca: &'static str,
    /// The key of the client certificate.
    pub(crate) cert: &'static str,
    /// The key of its private key.
    pub(crate) key: &'static str,
}

/// Why Nova's metadata API cannot be asked at all.
#[derive(Debug, thiserror::Error)]
pub enum SetUpError {
    /// The secret cannot be read.
    #[error("reading {key}")]
    Secret {
        /// The configuration's key.
        key: &'static str,
        /// Why.
        source: SecretError,
    },
    /// TLS cannot be set up.
    #[error("preparing to ask Nova over https")]
    Tls(#[from] TlsError),
}

/// Reads the files that the settings name, and returns what asks their endpoints.
///
/// # Errors
/// [`SetUpError`] if the secret or a certificate cannot be read.
pub(crate) fn set_up(settings: &config::nova::Nova, names: &'static Names) -> Result<Client, SetUpError> {
    let secret = Secret::read(&settings.shared_secret_file);
    let secret = secret.map_err(|source| SetUpError::Secret { key: names.secret, source })?;
    let (cert, key) = settings.identity.as_ref().map(|(cert, key)| (cert.as_path(), key.as_path())).unzip();
    let connector = || {
        tls::connector(
            Named { key: names.ca, path: settings.ca_file.as_deref() },
            Named { key: names.cert, path: cert },
            Named { key: names.key, path: key },
        )
    };
    let tls = settings.endpoints.iter().any(|url| url.tls).then(connector).transpose()?;
    Ok(Client::new(settings, tls, Signer::new(&secret), names))
}

/// The state of an endpoint of a controller.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EndpointState {
    /// Its URL, without anything secret.
    pub url: String,
    /// Whether it is the one in use.
    pub in_use: bool,
    /// When it last answered.
    pub answered_at: Option<SystemTime>,
    /// The last error, and since when requests fail; `None`: the last request succeeded.
    pub error: Option<(SystemTime, String)>,
}
