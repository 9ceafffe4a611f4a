//! TLS of requests: trusted CAs and the client certificate for an `https` controller or service.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore};
use tokio_rustls::TlsConnector;

/// Why no `https` connection can be made.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file cannot be read.
    #[error("reading {key} {}: set it to a PEM file of the right kind", path.display())]
    Read {
        /// The key of the configuration that names it.
        key: &'static str,
        /// The file.
        path: PathBuf,
        /// Why.
        source: pem::Error,
    },
    /// No CA certificate was found.
    #[error(
        "no usable CA certificate in {place}: https connections need one; set {key}, or install the system's CA \
         certificates (package ca-certificates)"
    )]
    NoCertificate {
        /// Where certificates were looked for.
        place: String,
        /// The key of the configuration that names a file of them.
        key: &'static str,
    },
    /// The library refuses a certificate, a key, or its own defaults.
    #[error("setting up TLS")]
    Library(#[from] rustls::Error),
}

/// A file that the configuration names.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Named<'a> {
    /// The key of the configuration.
    pub(crate) key: &'static str,
    /// Its value.
    pub(crate) path: Option<&'a Path>,
}

/// Returns a connector that trusts the certificates of `ca`, or the system's, and presents the client certificate `cert`
/// with its `key`, if these are set.
pub(crate) fn connector(ca: Named<'_>, cert: Named<'_>, key: Named<'_>) -> Result<TlsConnector, TlsError> {
    let (certificates, place) = match ca.path {
        Some(path) => (certificates(ca.key, path)?, path.display().to_string()),
        // An unreadable file of the system's matters only if no certificate is left.
        None => (rustls_native_certs::load_native_certs().certs, "the system's CA certificates".to_owned()),
    };
    let mut roots = RootCertStore::empty();
    if roots.add_parsable_certificates(certificates).0 == 0 {
        return Err(TlsError::NoCertificate { place, key: ca.key });
    }
    // Explicit, since the process has no default provider.
    let config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots);
    let config = match cert.path.zip(key.path) {
        None => config.with_no_client_auth(),
        Some((cert_path, key_path)) => {
            let private = PrivateKeyDer::from_pem_file(key_path);
            let private = private.map_err(|source| read_error(key.key, key_path, source))?;
            config.with_client_auth_cert(self::certificates(cert.key, cert_path)?, private)?
        }
    };
    Ok(TlsConnector::from(Arc::new(config)))
}

fn certificates(key: &'static str, path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let certificates = CertificateDer::pem_file_iter(path).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    certificates.map_err(|source| read_error(key, path, source))
}

fn read_error(key: &'static str, path: &Path, source: pem::Error) -> TlsError {
    TlsError::Read { key, path: path.to_owned(), source }
}
