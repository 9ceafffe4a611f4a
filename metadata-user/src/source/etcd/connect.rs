//! Connections to etcd, for the source and for the commands that write documents.
//!
//! Promises: files are read at each connection, so a replaced certificate or password takes effect with the next one;
//! keep-alive pings detect a member that hangs; a member that lost its cluster is refused.
//!
//! Left out: zeroing the password and the private key once they are handed to the client library, which keeps copies.

use std::path::{Path, PathBuf};
use std::time::Duration;

use etcd_client::{Certificate, Client, ConnectOptions, Identity, TlsOptions};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;

use super::error::EtcdError;
use crate::config::etcd::{Etcd, Tls};
use crate::secret::{Secret, SecretError};

/// Interval of keep-alive pings on an idle connection. A member closes connections that ping more often than every five
/// seconds (its `--grpc-keepalive-min-time`).
const PING: Duration = Duration::from_secs(6);

/// Why there is no connection to etcd.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConnectError {
    #[error("{table}.{key}")]
    Secret { table: &'static str, key: &'static str, source: SecretError },
    #[error("{table}.password_file {}: the password is not UTF-8; correct it", path.display())]
    Password { table: &'static str, path: PathBuf },
    #[error("reading {table}.{key} {}: correct its path, owner and mode", path.display())]
    Read { table: &'static str, key: &'static str, path: PathBuf, source: std::io::Error },
    #[error("{table}.{key} {} holds no {what}: name a PEM file with one", path.display())]
    Pem { table: &'static str, key: &'static str, path: PathBuf, what: &'static str },
    #[error("{endpoint}: {trouble}")]
    Endpoint { endpoint: String, trouble: EtcdError },
}

/// Credentials and certificates that are read from files.
pub(crate) struct Credentials {
    user: Option<(String, String)>,
    tls: Option<TlsOptions>,
}

impl Credentials {
    /// Reads the files.
    pub(crate) fn read(settings: &Etcd) -> Result<Self, ConnectError> {
        let table = settings.table;
        let user = settings.user.as_ref().map(|user| {
            let secret = Secret::read(&user.password_file).map_err(|source| ConnectError::Secret {
                table,
                key: "password_file",
                source,
            })?;
            let password = std::str::from_utf8(secret.expose())
                .map_err(|_| ConnectError::Password { table, path: user.password_file.clone() })?;
            Ok((user.name.clone(), password.to_owned()))
        });
        let tls = settings.tls.as_ref().map(|settings| tls(settings, table));
        Ok(Self { user: user.transpose()?, tls: tls.transpose()? })
    }
}

fn tls(settings: &Tls, table: &'static str) -> Result<TlsOptions, ConnectError> {
    let mut options = TlsOptions::new();
    options = match &settings.ca_file {
        Some(path) => options.ca_certificate(Certificate::from_pem(certificates(table, "ca_file", path)?)),
        None => options.with_native_roots(),
    };
    if let Some(identity) = &settings.identity {
        let certificates = certificates(table, "cert_file", &identity.cert_file)?;
        let path = &identity.key_file;
        let key = Secret::read(path).map_err(|source| ConnectError::Secret { table, key: "key_file", source })?;
        if rustls::pki_types::PrivateKeyDer::from_pem_slice(key.expose()).is_err() {
            return Err(ConnectError::Pem { table, key: "key_file", path: path.clone(), what: "private key" });
        }
        options = options.identity(Identity::from_pem(certificates, key.expose()));
    }
    Ok(options)
}

/// Reads a PEM file of certificates.
fn certificates(table: &'static str, key: &'static str, path: &Path) -> Result<Vec<u8>, ConnectError> {
    let text =
        std::fs::read(path).map_err(|source| ConnectError::Read { table, key, path: path.to_owned(), source })?;
    match CertificateDer::pem_slice_iter(&text).collect::<Result<Vec<_>, _>>() {
        Ok(certificates) if !certificates.is_empty() => Ok(text),
        _ => Err(ConnectError::Pem { table, key, path: path.to_owned(), what: "certificate" }),
    }
}

/// Connects to one member. With a user, it also logs in; otherwise nothing has been sent yet.
pub(crate) async fn connect_to(
    settings: &Etcd,
    endpoint: &str,
    credentials: &Credentials,
) -> Result<Client, ConnectError> {
    let options = options(settings, credentials).with_timeout(settings.request_timeout);
    connect_with(settings, endpoint, options).await
}

/// Connects to one member, for requests that wait for as long as it takes. A member that hangs is still noticed.
pub(crate) async fn connect_patiently(
    settings: &Etcd,
    endpoint: &str,
    credentials: &Credentials,
) -> Result<Client, ConnectError> {
    connect_with(settings, endpoint, options(settings, credentials)).await
}

fn options(settings: &Etcd, credentials: &Credentials) -> ConnectOptions {
    let mut options = ConnectOptions::new()
        .with_connect_timeout(settings.connect_timeout)
        .with_keep_alive(PING, settings.request_timeout)
        .with_keep_alive_while_idle(false)
        .with_require_leader(true)
        .with_auto_token_refresh(true);
    if let Some((name, password)) = &credentials.user {
        options = options.with_user(name, password);
    }
    if let Some(tls) = &credentials.tls {
        options = options.with_tls(tls.clone());
    }
    options
}

async fn connect_with(settings: &Etcd, endpoint: &str, options: ConnectOptions) -> Result<Client, ConnectError> {
    let failed = |trouble| ConnectError::Endpoint { endpoint: endpoint.to_owned(), trouble };
    let patience = settings.connect_timeout + settings.request_timeout;
    match tokio::time::timeout(patience, Client::connect([endpoint], Some(options))).await {
        Ok(Ok(client)) => Ok(client),
        Ok(Err(error)) => Err(failed(EtcdError::of(&error, settings.table, &settings.prefix))),
        Err(_) => Err(failed(EtcdError::Silent)),
    }
}

/// Connects to the first member that answers and has a leader.
pub(crate) async fn connect(settings: &Etcd) -> Result<Client, ConnectError> {
    let credentials = Credentials::read(settings)?;
    let mut first = None;
    for endpoint in &settings.endpoints {
        let connected = async {
            let mut client = connect_to(settings, endpoint, &credentials).await?;
            let failed = |trouble| ConnectError::Endpoint { endpoint: endpoint.clone(), trouble };
            match tokio::time::timeout(settings.connect_timeout + settings.request_timeout, client.status()).await {
                Ok(Ok(_)) => Ok(client),
                Ok(Err(error)) => Err(failed(EtcdError::of(&error, settings.table, &settings.prefix))),
                Err(_) => Err(failed(EtcdError::Silent)),
            }
        };
        match connected.await {
            Ok(client) => return Ok(client),
            Err(error) => first = first.or(Some(error)),
        }
    }
    Err(first.unwrap_or(ConnectError::Endpoint { endpoint: String::new(), trouble: EtcdError::Silent }))
}
