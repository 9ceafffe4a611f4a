//! The admin API: HTTP/1 and JSON over a Unix socket, for the command line and for whoever watches a node.
//!
//! | request | answer |
//! |---|---|
//! | `GET /v1/status` | [`wire::Status`] |
//! | `GET /v1/security` | [`wire::Security`]: what each thread of the daemon may do |
//! | `GET /v1/ports` | list of [`wire::PortStatus`] |
//! | `GET /v1/counters` | list of [`wire::PortCounters`] |
//! | `GET /v1/anomalies` | list of [`wire::InstanceAnomalies`] |
//! | `GET /v1/boots` | list of [`wire::PortBoots`]: what guests asked when they booted |
//! | `GET /v1/evidence` | [`wire::Evidence`]: what the daemon knows about the path of guests' requests |
//! | `GET /v1/source` | [`wire::Source`] |
//! | `GET /v1/password?instance=UUID` | [`wire::Password`], without the secret: whether there is a password |
//! | `GET /v1/password/secret?instance=UUID` | [`wire::Password`]: what the guest reads as its password |
//! | `POST /v1/password/clear?instance=UUID` | [`wire::Password`], without one: the guest may post another |
//! | `GET /v1/user-data?instance=UUID` | [`wire::UserData`]: when the guest first read its user data |
//! | `POST /v1/user-data/reset?instance=UUID` | [`wire::UserData`]: the guest may read its user data as in its first boot |
//! | `GET /metrics` | all metrics, in OpenMetrics or Prometheus's text format, by `Accept` |
//! | `GET /v1/access` | list of [`wire::InstanceAccess`]: what policies allow, and what guests ask for |
//! | `GET /v1/read?instance=NAME&path=PATH` | `message/http`: what that guest would read; its body only where it holds no secret |
//! | `GET /v1/read/secret?instance=NAME&path=PATH` | the same, with its body |
//! | `GET /v1/guest-attributes?instance=UUID` | [`wire::GuestAttributes`]: what the guest wrote for its operator |
//! | `GET /v1/jwks` | a JSON Web Key set: the public keys that the node signs with |
//! | `GET /v1/config-drive?instance=NAME` | [`wire::ConfigDrive`]: the files of a config drive, secrets included |
//! | `GET /v1/wait?instance=UUID&timeout_ms=N` | [`wire::Waited`], once the instance can be answered, or after the time-out |
//! | `POST /v1/source/accept` | [`wire::Accepted`]: the controller that answers now is confirmed as authoritative |
//! | `POST /v1/release` | [`wire::Released`]: no program is on a tap any more, until the daemon's next start |
//! | `POST /v1/trace?port=NAME` | the programs' lines about that port, as they come |
//! | `POST /v1/take-over` | 101: from here on the connection speaks the protocol of a take-over (`metadatad run --take-over`) |
//!
//! Promises: root and the daemon's user may use all of it; members of `admin.group` what
//! changes nothing and tells no secret; nobody else gets anything ([`peer`]); a socket on which a daemon answers is never taken over;
//! errors are [`wire::Problem`] with the remedy. Within `/v1` members are only ever added.
//!
//! Left out: changing what a node serves. Its configuration and its source decide that; the operator only confirms a
//! controller that has replaced another one, clears a password that a guest posted, opens user data again that was read, and has
//! the taps released.

pub mod client;
pub mod controller;
#[doc(hidden)]
pub mod fuzzing;
mod peer;
pub mod preview;
mod query;
pub mod server;
pub mod socket;
pub mod wait;
pub mod wire;

use std::future::Future;
use std::io;
use std::os::unix::net::UnixStream;
use std::pin::Pin;

use tokio::sync::mpsc;

use crate::metrics::Format;
use preview::{GuestAnswer, GuestRequest, PreviewError};
use wait::WaitFor;
use wire::{
    ConfigDrive, Evidence, GuestAttributes, InstanceAccess, InstanceAnomalies, Password, PortBoots, PortCounters,
    PortStatus, Released, Security, Source, Status, UserData, Waited,
};

/// What the admin API shows. The rest of the daemon is behind this.
pub trait Inspect: Send + Sync + 'static {
    /// Returns how the daemon is doing.
    fn status(&self) -> Status;

    /// Returns what each thread of the daemon may do.
    ///
    /// # Errors
    /// If the kernel does not tell.
    fn security(&self) -> io::Result<Security>;

    /// Returns the ports, by interface index.
    fn ports(&self) -> Vec<PortStatus>;

    /// Returns each port's packet counters, by interface index.
    fn counters(&self) -> Vec<PortCounters>;

    /// Returns what was unusual about each instance's traffic, by instance.
    fn anomalies(&self) -> Vec<InstanceAnomalies>;

    /// Returns the boots of each port, by instance and tap.
    fn boots(&self) -> Vec<PortBoots>;

    /// Returns what is known about the path of guests' requests.
    fn evidence(&self) -> Evidence;

    /// Returns how the source of documents is doing.
    fn source(&self) -> Source;

    /// Confirms that the controller that answers now is authoritative. Completes with the number of instances that went.
    fn accept_source(&self) -> Accepting<'_>;

    /// Returns an instance's password.
    ///
    /// # Errors
    /// [`PasswordError`] if there is no such instance.
    fn password(&self, instance: &str) -> Result<Password, PasswordError>;

    /// Forgets the password that a guest posted.
    ///
    /// # Errors
    /// [`PasswordError`] if that is not this daemon's to do.
    fn clear_password(&self, instance: &str) -> Result<Password, PasswordError>;

    /// Returns when an instance's guest first read its user data.
    ///
    /// # Errors
    /// [`NoInstance`].
    fn user_data(&self, instance: &str) -> Result<UserData, NoInstance>;

    /// Forgets when an instance's guest first read its user data.
    ///
    /// # Errors
    /// [`NoInstance`].
    fn reset_user_data(&self, instance: &str) -> Result<UserData, NoInstance>;

    /// Returns what each instance's policy allows and its guest has asked for, by instance.
    fn access(&self) -> Vec<InstanceAccess>;

    /// Asks the service of guests in a guest's name. Completes with the answer, and whether its body may hold a secret.
    fn preview(&self, asked: GuestRequest) -> Previewing<'_>;

    /// Returns what an instance's guest wrote for its operator.
    ///
    /// # Errors
    /// [`NoInstance`].
    fn guest_attributes(&self, instance: &str) -> Result<GuestAttributes, NoInstance>;

    /// Returns the public keys that the node signs with, as a JWK set; `None`: it signs nothing.
    fn jwks(&self) -> Option<String>;

    /// Returns the files of an instance's config drive.
    ///
    /// # Errors
    /// [`ConfigDriveError`].
    fn config_drive(&self, instance: &str) -> Result<ConfigDrive, ConfigDriveError>;

    /// Waits until an instance can be answered, or for the time-out.
    fn wait(&self, asked: WaitFor) -> Waiting<'_>;

    /// Returns all metrics, written so.
    fn metrics(&self, format: Format) -> String;

    /// Lets go of every tap, until the daemon's next start. Completes when that is done.
    fn release(&self) -> Releasing<'_>;

    /// Hands everything over to the daemon at the other end of this connection. Returns whether it will be tried.
    fn take_over(&self, _: UnixStream) -> bool {
        false
    }

    /// Traces the port with this interface name, until the receiver of `lines` is gone. Completes when it has begun.
    fn trace(&self, port: String, lines: mpsc::Sender<String>) -> Tracing<'_>;
}

/// There is no such instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no such instance is served here; `metadatad instance list` shows those of the source")]
pub struct NoInstance;

/// A password that cannot be read or cleared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PasswordError {
    /// There is no such instance.
    #[error(transparent)]
    NoInstance(#[from] NoInstance),
    /// The document has it.
    #[error("its document has a password: remove it with `metadatad instance unset UUID --property password`")]
    InDocument,
    /// Nova has it.
    #[error(
        "Nova keeps this password: clear it there, with `nova clear-password UUID`, and it goes here with the next refresh"
    )]
    KeptByNova,
}

/// A config drive that there is not.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConfigDriveError {
    /// It is not known which instance is meant.
    #[error(transparent)]
    Instance(#[from] PreviewError),
    /// The instance has none.
    #[error("the instance {instance} has no config drive: {reason}")]
    None {
        /// The instance.
        instance: String,
        /// Why, and the remedy.
        reason: String,
    },
}

/// The end of the source's question; or why there was none.
pub type Accepting<'a> = Pin<Box<dyn Future<Output = Result<usize, String>> + Send + 'a>>;

/// The answer that a guest would get, and whether its body may hold a secret; or why there is none.
pub type Previewing<'a> = Pin<Box<dyn Future<Output = Result<(GuestAnswer, bool), PreviewError>> + Send + 'a>>;

/// The end of a wait for an instance; or why there was none.
pub type Waiting<'a> = Pin<Box<dyn Future<Output = Result<Waited, NoInstance>> + Send + 'a>>;

/// What was released; or why nothing was.
pub type Releasing<'a> = Pin<Box<dyn Future<Output = Result<Released, ReleaseError>> + Send + 'a>>;

/// Taps that cannot be released now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReleaseError {
    /// Not every tap is attached yet.
    #[error("the daemon is starting; try again when `metadatad status` says that it is ready")]
    Starting,
    /// It ends, or another daemon takes over.
    #[error("the daemon is about to end; try again when it has")]
    Ending,
}

/// The start of a trace.
pub type Tracing<'a> = Pin<Box<dyn Future<Output = Result<(), TraceError>> + Send + 'a>>;

/// A trace that cannot begin.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TraceError {
    /// There is no such port.
    #[error("no port has the interface {0}; `metadatad ports` lists them")]
    NoSuchPort(String),
    /// The kernel half cannot trace it.
    #[error("tracing {port}: {reason}")]
    Refused {
        /// Name of the interface.
        port: String,
        /// Why, and the remedy.
        reason: String,
    },
}
