//! Why a verb failed, and the exit status of that.

use std::error::Error;
use std::io;
use std::path::PathBuf;

use super::exit;
use super::instance::InstanceError;
use crate::admin::client::ClientError;
use crate::admin::socket::SocketError;
use crate::app::AppError;
use crate::config::ConfigError;
use crate::dataplane::detach::DetachError;
use crate::source::StartError;
use crate::source::nova::NovaStartError;
use crate::source::vendordata::TlsError;
use crate::telemetry::TelemetryError;

/// Why a verb failed.
#[derive(Debug, thiserror::Error)]
pub(super) enum CliError {
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error(transparent)]
    App(#[from] AppError),
    #[error(transparent)]
    Client(#[from] ClientError),
    #[error(transparent)]
    Detach(#[from] DetachError),
    #[error(transparent)]
    Instance(#[from] InstanceError),
    #[error("a daemon runs on this node: {} answers; stop it first", .0.display())]
    DaemonRuns(PathBuf),
    #[error("no port has the interface {0}; `metadatad ports` lists them")]
    NoSuchPort(String),
    #[error("starting a thread")]
    Runtime(#[source] io::Error),
    #[error("writing the output")]
    Output(#[from] io::Error),
}

impl CliError {
    /// Returns the error in one line, with its causes and, if a privilege is missing, the remedy.
    pub(super) fn told(&self) -> String {
        let line = chain(self);
        if self.exit() == exit::NO_PERMISSION && !line.contains("root") { format!("{line}; {PRIVILEGE}") } else { line }
    }

    /// Returns the exit status.
    pub(super) fn exit(&self) -> u8 {
        match self {
            Self::NoSuchPort(_) | Self::Client(ClientError::NoSuchPort(_)) => exit::ABSENT,
            Self::Config(ConfigError::Invalid { .. })
            | Self::App(
                AppError::VendordataJson { .. }
                | AppError::Telemetry(TelemetryError::Filter { .. })
                | AppError::Socket(SocketError::NotASocket(_))
                | AppError::Source(StartError::WithoutEtcd),
            ) => exit::CONFIG,
            Self::DaemonRuns(_)
            | Self::App(AppError::Socket(SocketError::InUse(_)))
            | Self::Client(ClientError::Unreachable { .. } | ClientError::Broken { .. }) => exit::UNAVAILABLE,
            Self::Instance(error) if let Some(status) = error.exit() => status,
            error if is_permission(error) => exit::NO_PERMISSION,
            Self::Config(ConfigError::Read { .. })
            | Self::App(
                AppError::Vendordata { .. }
                | AppError::Tls(TlsError::Read { .. } | TlsError::NoCertificate { .. })
                | AppError::Source(StartError::Nova(NovaStartError::Secret(_) | NovaStartError::Tls(_))),
            ) => exit::CONFIG,
            _ => exit::INTERNAL,
        }
    }
}

/// What to do about a missing privilege.
const PRIVILEGE: &str = "run this as root, or with the capabilities that metadatad.service lists";

/// Tells whether the system refused something for lack of privilege.
fn is_permission(error: &(dyn Error + 'static)) -> bool {
    std::iter::successors(Some(error), |error: &&(dyn Error + 'static)| (*error).source()).any(|error| {
        error.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == io::ErrorKind::PermissionDenied)
    })
}

/// Returns an error and its causes in one line.
fn chain(error: &(dyn Error + 'static)) -> String {
    let mut line = String::new();
    for error in std::iter::successors(Some(error), |error: &&(dyn Error + 'static)| (*error).source()) {
        let text = one_line(&error.to_string());
        // A transparent error has its cause's text.
        if !line.ends_with(&text) {
            if !line.is_empty() {
                line += ": ";
            }
            line += &text;
        }
    }
    line
}

/// Keeps the ends of a long text: the verifier's begins with what failed, has thousands of lines, and ends with why and
/// some statistics.
pub(crate) fn one_line(text: &str) -> String {
    let is_statistic =
        |line: &&str| ["verification time", "stack depth", "processed"].iter().any(|s| line.starts_with(s));
    let lines: Vec<&str> =
        text.lines().map(str::trim).filter(|line| !line.is_empty()).filter(|line| !is_statistic(line)).collect();
    match lines.as_slice() {
        [first, .., why] if lines.len() > 3 => format!("{first} … {why}"),
        lines => lines.join(" / "),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_privilege_comes_with_its_remedy() {
        let error = CliError::Runtime(io::Error::from(io::ErrorKind::PermissionDenied));
        assert_eq!(error.exit(), exit::NO_PERMISSION);
        assert!(error.told().ends_with(PRIVILEGE), "{}", error.told());
        assert!(!CliError::NoSuchPort("tap0".to_owned()).told().contains("root"));
    }

    #[test]
    fn an_error_is_one_line_however_long_its_cause() {
        let cause = io::Error::other("refused:\n0: a\n1: b\n2: c\nR1 is not a pointer\nprocessed 3 insns\n");
        let line = chain(&CliError::Runtime(cause));
        assert_eq!(line, "starting a thread: refused: … R1 is not a pointer");
    }
}
