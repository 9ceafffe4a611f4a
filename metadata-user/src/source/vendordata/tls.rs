//! Whom to trust when a target is `https`.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::crypto::aws_lc_rs;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::{self, PemObject};
use rustls::{ClientConfig, RootCertStore};
use tokio_rustls::TlsConnector;

/// Why no `https` target can be asked.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// The file of certificates cannot be read.
    #[error("reading cloud.vendordata_dynamic_ssl_certfile {}: name a PEM file of certificates", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: pem::Error,
    },
    /// There is no authority to trust.
    #[error(
        "no usable certificate in {place}: without one no https target of cloud.vendordata_dynamic_targets can be \
         asked; set cloud.vendordata_dynamic_ssl_certfile, or install the system's (ca-certificates)"
    )]
    NoCertificate {
        /// Where they were looked for.
        place: String,
    },
    /// The library refuses its own defaults.
    #[error("setting up TLS")]
    Library(#[from] rustls::Error),
}

/// Returns what makes TLS connections, trusting the certificates of a file, else the system's.
pub(super) fn connector(certfile: Option<&Path>) -> Result<TlsConnector, TlsError> {
    let (certificates, place) = match certfile {
        Some(path) => {
            let certificates = CertificateDer::pem_file_iter(path).and_then(Iterator::collect::<Result<Vec<_>, _>>);
            let certificates = certificates.map_err(|source| TlsError::Read { path: path.to_owned(), source })?;
            (certificates, path.display().to_string())
        }
        // A file of the system's that cannot be read matters only if nothing is left.
        None => (rustls_native_certs::load_native_certs().certs, "the system's certificates".to_owned()),
    };
    let mut roots = RootCertStore::empty();
    if roots.add_parsable_certificates(certificates).0 == 0 {
        return Err(TlsError::NoCertificate { place });
    }
    // Named, since the process has no default one.
    let config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(TlsConnector::from(Arc::new(config)))
}
