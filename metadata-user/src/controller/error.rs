//! Why a controller cannot run.

use std::io;

use super::openstack::OpenStackError;
use crate::admin::socket::SocketError;
use crate::https::HttpsError;
use crate::secret::SecretError;
use crate::source::vendordata::cloud::CloudError;
use crate::telemetry::TelemetryError;

/// Why a controller cannot run.
#[derive(Debug, thiserror::Error)]
pub enum ControllerError {
    /// Logging cannot start.
    #[error(transparent)]
    Telemetry(#[from] TelemetryError),
    /// The admin socket cannot be opened.
    #[error(transparent)]
    Socket(#[from] SocketError),
    /// OpenStack cannot be asked: a file that the configuration names cannot be used.
    #[error(transparent)]
    OpenStack(#[from] OpenStackError),
    /// A secret cannot be read.
    #[error("{key}")]
    Secret {
        /// The key that names its file.
        key: &'static str,
        /// Why.
        source: SecretError,
    },
    /// What all instances have in common cannot be read.
    #[error(transparent)]
    Cloud(#[from] CloudError),
    /// A file for etcd cannot be used.
    #[error(transparent)]
    Etcd(Box<dyn std::error::Error + Send + Sync>),
    /// The certificate of metrics cannot be used.
    #[error(transparent)]
    Https(#[from] HttpsError),
    /// The system refuses.
    #[error("{0}")]
    System(&'static str, #[source] io::Error),
}
