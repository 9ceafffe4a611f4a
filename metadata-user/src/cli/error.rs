//! Why a verb failed, and the exit status of that.

pub(super) mod instance;

use std::error::Error;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

use super::exit;
use crate::admin::client::ClientError;
use crate::admin::socket::SocketError;
use crate::app::AppError;
use crate::config::ConfigError;
use crate::config_drive::{DriveError, WriteError};
#[cfg(feature = "etcd")]
use crate::controller::ControllerError;
use crate::dataplane::detach::DetachError;
use crate::dataplane::prepare::PrepareError;
use crate::error_text;
use crate::snapshot::Refused;
use crate::snapshot::copy::CopyError;
use crate::source::StartError;
use crate::source::nova::NovaStartError;
use crate::source::vendordata::TlsError;
use crate::source::vendordata::cloud::CloudError;
use crate::telemetry::TelemetryError;
use instance::InstanceError;

/// Why a verb failed.
#[derive(Debug, thiserror::Error)]
pub(super) enum CliError {
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error(transparent)]
    App(#[from] AppError),
    #[error(transparent)]
    Client(#[from] ClientError),
    #[cfg(feature = "etcd")]
    #[error(transparent)]
    Controller(#[from] ControllerError),
    #[error(transparent)]
    Detach(#[from] DetachError),
    #[error(transparent)]
    Prepare(#[from] PrepareError),
    #[error(transparent)]
    Copy(#[from] CopyError),
    #[error(transparent)]
    Instance(#[from] InstanceError),
    #[error(
        "--socket has no effect here: it applies to commands that ask the daemon, and to detach, instance password and instance \
         user-data"
    )]
    SocketUnused,
    #[error(
        "the daemon that runs on this node cannot let go of its taps: what answers on {} is of another version, or busy; stop it first",
        .0.display()
    )]
    DaemonRuns(PathBuf),
    #[error("no port on the tap {0}; `metadatad ports` lists all taps")]
    NoSuchPort(String),
    #[error("no instance {0} is served here; `metadatad access` lists those that are")]
    NoSuchInstance(String),
    #[error("no instance {0} is known to the controller; `metadatad controller list` shows those that are")]
    UnknownInstance(String),
    #[error("the body at {0} may hold secrets: --secrets prints it, --head prints only status and headers")]
    BodyWithheld(String),
    #[error("the instance of {instance} has no config drive: {reason}")]
    NoConfigDrive { instance: String, reason: DriveError },
    #[error(transparent)]
    ConfigDrive(#[from] WriteError),
    #[error("{instance} cannot be answered after {timeout:?}: {missing}")]
    NotReady { instance: String, timeout: Duration, missing: String },
    #[error(
        "{target} is no tap, port, instance or guest address on this node{}; `metadatad ports` lists all taps",
        if *.is_complete { "" } else { " that the kernel knows, and no daemon answers" }
    )]
    NothingToDiagnose { target: String, is_complete: bool },
    #[error("standard output is not a terminal: --once prints one frame, and --once --json its figures")]
    NoTerminal,
    #[error("starting a thread")]
    Runtime(#[source] io::Error),
    #[error("writing the output")]
    Output(#[from] io::Error),
}

impl CliError {
    /// Returns the error in one line, with its causes and, if a privilege is missing, the remedy.
    pub(super) fn message(&self) -> String {
        let line = error_text::chain(self);
        if self.exit() == exit::NO_PERMISSION && !line.contains("root") { format!("{line}; {PRIVILEGE}") } else { line }
    }

    /// Returns the exit status.
    pub(super) fn exit(&self) -> u8 {
        match self {
            Self::NoSuchPort(_)
            | Self::NoSuchInstance(_)
            | Self::UnknownInstance(_)
            | Self::NothingToDiagnose { .. }
            | Self::Client(ClientError::NoSuchPort(_) | ClientError::NoSuchInstance(_)) => exit::ABSENT,
            Self::SocketUnused | Self::NoTerminal | Self::BodyWithheld(_) => exit::USAGE,
            Self::Copy(CopyError::Absent(_)) => exit::ABSENT,
            Self::Copy(CopyError::Refused(refused)) if !matches!(refused, Refused::Read { .. }) => exit::BAD_DOCUMENT,
            Self::Copy(CopyError::Incomplete { .. }) => exit::BAD_DOCUMENT,
            Self::NoConfigDrive { .. } => exit::BAD_DOCUMENT,
            Self::ConfigDrive(WriteError::Taken(_)) => exit::USAGE,
            Self::NotReady { .. } => exit::TIMED_OUT,
            Self::Client(ClientError::Busy(_)) => exit::TRY_AGAIN,
            Self::Config(ConfigError::Invalid { .. } | ConfigError::TooLarge { .. })
            | Self::App(
                AppError::Cloud(CloudError::Json { .. })
                | AppError::Telemetry(TelemetryError::Filter { .. })
                | AppError::Socket(SocketError::NotASocket(_))
                | AppError::Source(StartError::WithoutEtcd),
            ) => exit::CONFIG,
            Self::DaemonRuns(_)
            | Self::App(AppError::Socket(SocketError::InUse(_)))
            | Self::Client(ClientError::Unreachable { .. } | ClientError::Broken { .. }) => exit::UNAVAILABLE,
            Self::Instance(error) if let Some(status) = error.exit() => status,
            #[cfg(feature = "etcd")]
            Self::Controller(ControllerError::Socket(SocketError::InUse(_))) => exit::UNAVAILABLE,
            error if is_permission(error) => exit::NO_PERMISSION,
            Self::Config(ConfigError::Read { .. })
            | Self::App(
                AppError::Kernel(_)
                | AppError::Https(_)
                | AppError::SigningKeys(_)
                | AppError::Cloud(CloudError::Read { .. })
                | AppError::Tls(TlsError::Read { .. } | TlsError::NoCertificate { .. })
                | AppError::Source(StartError::Nova(NovaStartError::SetUp(_))),
            ) => exit::CONFIG,
            #[cfg(feature = "etcd")]
            Self::Controller(
                ControllerError::Telemetry(_)
                | ControllerError::Socket(SocketError::NotASocket(_))
                | ControllerError::OpenStack(_)
                | ControllerError::Cloud(_)
                | ControllerError::Etcd(_)
                | ControllerError::Https(_)
                | ControllerError::Secret { .. },
            ) => exit::CONFIG,
            _ => exit::INTERNAL,
        }
    }
}

/// What to do about a missing privilege.
const PRIVILEGE: &str = "run this as root, or with the capabilities that metadatad.service lists";

/// Tells whether the system refused something for lack of privilege.
fn is_permission(error: &(dyn Error + 'static)) -> bool {
    error_text::causes(error).any(|error| {
        error.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == io::ErrorKind::PermissionDenied)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_privilege_comes_with_its_remedy() {
        let error = CliError::Runtime(io::Error::from(io::ErrorKind::PermissionDenied));
        assert_eq!(error.exit(), exit::NO_PERMISSION);
        assert!(error.message().ends_with(PRIVILEGE), "{}", error.message());
        assert!(!CliError::NoSuchPort("tap0".to_owned()).message().contains("root"));
    }
}
