//! TLS on listening sockets, towards guests and whoever reads metrics: the certificate that they see, and handshakes.
//!
//! Promises: a handshake uses the certificate that was read last and fits its key. When one of the two files changes, both
//! are read again; while they cannot be used, the former ones stay in force, and the log and `status` tell why. A connection
//! keeps the certificate that it began with.
//!
//! TLS 1.2 and 1.3. Sessions are not resumed: nothing is kept for a client after its connection, and no ticket of one guest
//! is of use to another. HTTP/1.1 is what is negotiated.
//!
//! Left out: limits and time-outs, which `http` applies to a handshake as to a request's head; client certificates, since
//! who a guest is comes from its port alone.

mod certificate;

use std::fmt;
use std::fs;
use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use arc_swap::ArcSwapOption;
use parking_lot::Mutex;
use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::NoServerSessionStorage;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::TlsAcceptor;
use tracing::{info, warn};
use zeroize::Zeroizing;

use crate::config;
use crate::error_text;
use crate::state_view::StateView;
use crate::watched_directory::WatchedDirectory;
use crate::worker::{Stop, Worker};
use certificate::Certificate;

/// A connection after its handshake.
pub type Stream<S> = tokio_rustls::server::TlsStream<S>;

/// How long the files must rest before they are read again: whoever renews a certificate writes two of them.
const QUIET: Duration = Duration::from_millis(200);

/// How long before its end a certificate is warned of.
const EXPIRES_SOON: Duration = Duration::from_secs(14 * 24 * 3600);

/// How often the end of the certificate is looked at.
const DAY: Duration = Duration::from_secs(24 * 3600);

/// The addresses that guests connect to.
const ADDRESSES: [IpAddr; 2] = [
    IpAddr::V4(std::net::Ipv4Addr::new(169, 254, 169, 254)),
    IpAddr::V6(std::net::Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0xa9fe, 0xa9fe)),
];

/// A table of the configuration that names a certificate and its key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Table {
    /// What guests see.
    Https,
    /// What readers of metrics see.
    Metrics,
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Https => "https",
            Self::Metrics => "metrics",
        })
    }
}

/// Why the certificate cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum HttpsError {
    /// A file cannot be read.
    #[error("reading {table}.{key} {}: correct the path, or the file's owner and mode", path.display())]
    Read {
        /// The table of the configuration that names it.
        table: Table,
        /// The key there.
        key: &'static str,
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A file is not PEM, or of another kind.
    #[error("{table}.{key} {} has no {what} in PEM: write one, as `openssl` does", path.display())]
    Pem {
        /// The table of the configuration that names it.
        table: Table,
        /// The key there.
        key: &'static str,
        /// The file.
        path: PathBuf,
        /// What is missing.
        what: &'static str,
        /// Why.
        source: pem::Error,
    },
    /// The first certificate cannot be read as one.
    #[error("{table}.cert_file {}: its first certificate is damaged ({problem}): issue it again", path.display())]
    Certificate {
        /// The table of the configuration that names it.
        table: Table,
        /// The file.
        path: PathBuf,
        /// What is wrong.
        problem: String,
    },
    /// The library refuses the two together.
    #[error(
        "{table}.cert_file {} and {table}.key_file {}: they cannot be used together: the key must be the one of the first \
         certificate",
        cert.display(), key.display()
    )]
    Pair {
        /// The table of the configuration that names them.
        table: Table,
        /// The file with the certificate.
        cert: PathBuf,
        /// The file with its key.
        key: PathBuf,
        /// Why.
        source: rustls::Error,
    },
}

/// The state of the certificate.
#[derive(Clone, Debug, Default)]
pub struct HttpsState {
    /// When the one in use was read; `None`: none could be read yet, and every handshake fails.
    pub loaded_at: Option<SystemTime>,
    /// When it ends.
    pub not_after: Option<SystemTime>,
    /// Why the files as they are now are not used, and the remedy.
    pub error: Option<String>,
}

/// A certificate and its key, and whom they are for.
#[derive(Clone, Debug)]
struct Pair {
    /// The table of the configuration that names them.
    table: Table,
    /// The thread that reads them again.
    thread: &'static str,
    cert_file: PathBuf,
    key_file: PathBuf,
    /// Addresses that the certificate must be for, as far as they are known here.
    addresses: &'static [IpAddr],
    /// What follows while no certificate could be read.
    without: &'static str,
}

impl Pair {
    fn of_guests(settings: &config::Https) -> Self {
        let config::Https { cert_file, key_file, .. } = settings.clone();
        let without = "guests are answered over http alone";
        Self { table: Table::Https, thread: "https", cert_file, key_file, addresses: &ADDRESSES, without }
    }

    fn of_metrics(settings: &config::MetricsTls) -> Self {
        let config::MetricsTls { cert_file, key_file } = settings.clone();
        let without = "nobody can read metrics over TCP";
        Self { table: Table::Metrics, thread: "metrics-tls", cert_file, key_file, addresses: &[], without }
    }
}

/// TLS with the present certificate.
#[derive(Debug)]
pub struct Https {
    pair: Pair,
    config: ArcSwapOption<ServerConfig>,
    state: StateView<HttpsState>,
    /// What was read last, whether it can be used or not; `None`: it could not be read.
    read: Mutex<Option<Files>>,
}

/// What is in the two files.
#[derive(PartialEq, Eq)]
struct Files {
    cert: Vec<u8>,
    key: Zeroizing<Vec<u8>>,
}

impl Https {
    /// Reads certificate and key. What is wrong with them is logged and shown, and guests are answered over http alone
    /// until [`Self::keep`] has read others: a certificate must not keep a node from answering.
    #[must_use]
    pub fn open(settings: &config::Https) -> Self {
        Self::of(Pair::of_guests(settings))
    }

    /// Does what [`Self::open`] does, for those who read metrics.
    #[must_use]
    pub fn open_for_metrics(settings: &config::MetricsTls) -> Self {
        Self::of(Pair::of_metrics(settings))
    }

    fn of(pair: Pair) -> Self {
        let https = Self {
            pair,
            config: ArcSwapOption::empty(),
            state: StateView::new(HttpsState::default()),
            read: Mutex::new(None),
        };
        https.read_again();
        https
    }

    /// Says whether certificate and key can be read, and fit.
    ///
    /// # Errors
    /// [`HttpsError`] if they cannot be used.
    pub fn check(settings: &config::Https) -> Result<(), HttpsError> {
        let pair = Pair::of_guests(settings);
        Files::read(&pair)?.parse(&pair).map(drop)
    }

    /// Does what [`Self::check`] does, for those who read metrics.
    ///
    /// # Errors
    /// [`HttpsError`] if they cannot be used.
    pub fn check_for_metrics(settings: &config::MetricsTls) -> Result<(), HttpsError> {
        let pair = Pair::of_metrics(settings);
        Files::read(&pair)?.parse(&pair).map(drop)
    }

    /// Returns a view of the certificate's state.
    #[must_use]
    pub fn state(&self) -> StateView<HttpsState> {
        self.state.clone()
    }

    /// Performs the handshake of a connection. The caller bounds its time.
    ///
    /// # Errors
    /// If the guest sends something else, or the two have no version or algorithm in common.
    pub async fn accept<S: AsyncRead + AsyncWrite + Unpin>(&self, stream: S) -> io::Result<Stream<S>> {
        let config = self.config.load_full().ok_or_else(|| io::Error::other("no certificate could be read"))?;
        TlsAcceptor::from(config).accept(stream).await
    }

    /// Starts a thread that reads the files again whenever they change: they are root's, and the main thread may have become
    /// another user by then.
    ///
    /// # Errors
    /// If the thread cannot be started.
    pub fn keep(self: Arc<Self>) -> io::Result<Worker> {
        Worker::spawn(self.pair.thread, async move |mut stop: Stop| {
            tokio::select! {
                () = stop.requested() => {}
                () = self.keep_current() => {}
            }
        })
    }

    /// Reads the files again whenever they change. Never completes.
    async fn keep_current(&self) {
        let directory = |path: &Path| {
            let parent = path.parent().unwrap_or(Path::new("/")).to_owned();
            WatchedDirectory::new(parent, |_| true, QUIET)
        };
        let (mut cert, mut key) = (directory(&self.pair.cert_file), directory(&self.pair.key_file));
        let mut daily = tokio::time::interval_at(tokio::time::Instant::now() + DAY, DAY);
        loop {
            // What has happened does not matter: the files are compared with those that were read last.
            tokio::select! {
                _ = cert.next() => {}
                _ = key.next() => {}
                _ = daily.tick() => self.warn_of_end(),
            }
            self.read_again();
        }
    }

    fn read_again(&self) {
        let mut before = self.read.lock();
        match Files::read(&self.pair) {
            Ok(found) if before.as_ref() == Some(&found) => {}
            Ok(found) => {
                self.apply(found.parse(&self.pair));
                *before = Some(found);
            }
            Err(error) => {
                *before = None;
                self.apply(Err(error));
            }
        }
    }

    fn apply(&self, parsed: Result<(ServerConfig, Certificate), HttpsError>) {
        let before = self.state.get();
        match parsed {
            Ok((config, certificate)) => {
                self.config.store(Some(Arc::new(config)));
                let (loaded_at, not_after) = (Some(SystemTime::now()), Some(certificate.not_after));
                self.state.publish(HttpsState { loaded_at, not_after, error: None });
                info!(file = %self.pair.cert_file.display(), "{}: certificate read", self.pair.table);
                self.warn_of_end();
            }
            Err(error) => {
                let error = error_text::chain(&error);
                if before.error.as_ref() != Some(&error) {
                    let kept = if before.loaded_at.is_some() {
                        "the former certificate stays in use"
                    } else {
                        self.pair.without
                    };
                    warn!("{}: {error}; {kept}", self.pair.table);
                    self.state.publish(HttpsState { error: Some(error), ..(*before).clone() });
                }
            }
        }
    }

    fn warn_of_end(&self) {
        let Some(not_after) = self.state.get().not_after else { return };
        let left = not_after.duration_since(SystemTime::now());
        let (file, table) = (self.pair.cert_file.display(), self.pair.table);
        match left {
            Err(_) => warn!(%file, "{table}: the certificate has expired: clients refuse it; replace the file"),
            Ok(left) if left < EXPIRES_SOON => {
                warn!(%file, days = left.as_secs() / DAY.as_secs(), "{table}: the certificate ends soon; replace the file");
            }
            Ok(_) => {}
        }
    }
}

impl fmt::Debug for Files {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Files(..)")
    }
}

impl Files {
    fn read(pair: &Pair) -> Result<Self, HttpsError> {
        let read = |key, path: &Path| {
            fs::read(path).map_err(|source| HttpsError::Read { table: pair.table, key, path: path.to_owned(), source })
        };
        Ok(Self { cert: read("cert_file", &pair.cert_file)?, key: Zeroizing::new(read("key_file", &pair.key_file)?) })
    }

    fn parse(&self, pair: &Pair) -> Result<(ServerConfig, Certificate), HttpsError> {
        let Pair { cert_file, key_file, addresses, .. } = pair;
        let table = pair.table;
        let pem = |key, path: &Path, what| {
            let path = path.to_owned();
            move |source| HttpsError::Pem { table, key, path, what, source }
        };
        let chain = CertificateDer::pem_slice_iter(&self.cert).collect::<Result<Vec<_>, _>>();
        let chain = chain
            .and_then(|chain| if chain.is_empty() { Err(pem::Error::NoItemsFound) } else { Ok(chain) })
            .map_err(pem("cert_file", cert_file, "certificate"))?;
        let key = PrivateKeyDer::from_pem_slice(&self.key).map_err(pem("key_file", key_file, "private key"))?;
        let certificate = Certificate::parse(&chain[0]).map_err(|problem| HttpsError::Certificate {
            table,
            path: cert_file.clone(),
            problem,
        })?;
        let pair = |source| HttpsError::Pair { table, cert: cert_file.clone(), key: key_file.clone(), source };
        // Explicit, since the process has no default provider.
        let mut config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(pair)?
            .with_no_client_auth()
            .with_single_cert(chain, key)
            .map_err(pair)?;
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        let missing: Vec<_> = addresses.iter().filter(|address| !certificate.names(**address)).collect();
        if !missing.is_empty() {
            warn!(
                file = %cert_file.display(), ?missing,
                "{table}: the certificate is not for these addresses: guests that connect to them refuse it"
            );
        }
        Ok((config, certificate))
    }
}

#[cfg(test)]
mod tests;
