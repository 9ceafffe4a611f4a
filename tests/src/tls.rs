//! Certificates for controllers that use TLS, and for their clients.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};

/// Files for TLS, all PEM.
#[derive(Clone, Debug)]
pub struct Tls {
    /// Certificate of the authority, for both sides.
    pub ca: PathBuf,
    /// The server's certificate.
    pub cert: PathBuf,
    /// Its key.
    pub key: PathBuf,
    /// A client's certificate, with the name `client`.
    pub client_cert: PathBuf,
    /// Its key.
    pub client_key: PathBuf,
}

impl Tls {
    /// Makes an authority, a server's certificate for 127.0.0.1 and a client's, in this directory.
    ///
    /// # Errors
    /// If a file cannot be written.
    pub fn make(directory: &Path) -> Result<Self> {
        Self::make_for(directory, &["127.0.0.1"])
    }

    /// As [`Self::make`], with a server's certificate for these names and addresses.
    ///
    /// # Errors
    /// If a file cannot be written.
    pub fn make_for(directory: &Path, names: &[&str]) -> Result<Self> {
        Self::make_until(directory, names, None)
    }

    /// As [`Self::make_for`], with certificates that ended years ago.
    ///
    /// # Errors
    /// If a file cannot be written.
    pub fn make_expired(directory: &Path, names: &[&str]) -> Result<Self> {
        Self::make_until(directory, names, Some(2020))
    }

    fn make_until(directory: &Path, names: &[&str], year: Option<i32>) -> Result<Self> {
        let write = |name: &str, text: String| -> Result<PathBuf> {
            let path = directory.join(name);
            fs::write(&path, text).with_context(|| format!("writing {}", path.display()))?;
            fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).context("its mode")?;
            Ok(path)
        };
        let mut params = CertificateParams::new(Vec::<String>::new())?;
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, "lab authority");
        let authority = CertifiedIssuer::self_signed(params, KeyPair::generate()?)?;
        let signed = |name: &str, names: &[&str]| -> Result<(PathBuf, PathBuf)> {
            let key = KeyPair::generate()?;
            let mut params = CertificateParams::new(names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>())?;
            params.distinguished_name.push(DnType::CommonName, name);
            if let Some(year) = year {
                params.not_before = rcgen::date_time_ymd(year - 1, 1, 1);
                params.not_after = rcgen::date_time_ymd(year, 1, 1);
            }
            let certificate = params.signed_by(&key, &authority)?;
            Ok((write(&format!("{name}.pem"), certificate.pem())?, write(&format!("{name}.key"), key.serialize_pem())?))
        };
        let (cert, key) = signed("server", names)?;
        let (client_cert, client_key) = signed("client", &["client"])?;
        Ok(Self { ca: write("ca.pem", authority.pem())?, cert, key, client_cert, client_key })
    }
}
