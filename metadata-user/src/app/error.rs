//! Why the daemon does not start, or has ended.

use std::io;

use crate::admin::socket::SocketError;
use crate::dataplane::DataplaneError;
use crate::dataplane::kernel::KernelError;
use crate::dataplane::responder::NetnsError;
use crate::https::HttpsError;
use crate::port::PortsError;
use crate::privilege::PrivilegeError;
use crate::signing::SigningKeysError;
use crate::source::StartError;
use crate::source::vendordata::TlsError;
use crate::source::vendordata::cloud::CloudError;
use crate::telemetry::TelemetryError;

use super::take_over::TakeOverError;

/// Why the daemon does not start, or has ended.
#[derive(Debug, thiserror::Error)]
pub enum AppError {
    /// Logging cannot be started.
    #[error(transparent)]
    Telemetry(#[from] TelemetryError),
    /// The process may leave a core dump.
    #[error("disabling core dumps, which would contain secrets")]
    CoreDumps(#[source] io::Error),
    /// Privileges cannot be given up.
    #[error("giving up privileges")]
    Privileges(#[from] PrivilegeError),
    /// It is not known which boot of the node this is.
    #[error("reading /proc/sys/kernel/random/boot_id, which session tokens are bound to: is /proc mounted?")]
    BootId(#[source] io::Error),
    /// The runtime or the signal handlers cannot be set up.
    #[error("starting the daemon's threads")]
    Runtime(#[source] io::Error),
    /// What all instances have in common cannot be read.
    #[error(transparent)]
    Cloud(#[from] CloudError),
    /// The source cannot be started.
    #[error(transparent)]
    Source(#[from] StartError),
    /// No `https` target of dynamic vendor data can be queried.
    #[error("setting up requests to the targets of dynamic vendor data")]
    Tls(#[from] TlsError),
    /// The certificate that guests would see cannot be used.
    #[error(transparent)]
    Https(#[from] HttpsError),
    /// The keys of identity tokens cannot be used.
    #[error(transparent)]
    SigningKeys(#[from] SigningKeysError),
    /// The admin socket cannot be opened.
    #[error(transparent)]
    Socket(#[from] SocketError),
    /// The running daemon has not handed over.
    #[error(transparent)]
    TakeOver(#[from] TakeOverError),
    /// The kernel lacks something.
    #[error(transparent)]
    Kernel(#[from] KernelError),
    /// The responder's namespace cannot be made or adopted.
    #[error("setting up the responder's namespace")]
    Netns(#[from] NetnsError),
    /// The kernel half cannot be loaded.
    #[error("setting up the kernel half")]
    Dataplane(#[from] DataplaneError),
    /// The ports' thread has ended.
    #[error("the ports' thread has ended")]
    Ports(#[source] Option<PortsError>),
    /// Guests' connections are no longer accepted.
    #[error("a thread that answers guests has ended")]
    Guests(#[source] Option<io::Error>),
    /// Dynamic vendor data is no longer fetched.
    #[error("the task that fetches dynamic vendor data has ended")]
    VendordataEnded,
    /// The admin API has ended.
    #[error("the admin API has ended")]
    Admin(#[source] Option<io::Error>),
}
