//! Errors of etcd, with their remedies.
//!
//! Promises: a wrong password, a missing permission, a TLS failure and an unreachable member are distinct errors, each
//! with its remedy; nothing secret is shown.

use std::error::Error;

use etcd_client::Error as ClientError;

use crate::error_text;

/// Why a request to etcd failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum EtcdError {
    #[error("user name or password is wrong: correct {0}.username or the file {0}.password_file")]
    WrongPassword(&'static str),
    #[error("etcd requires authentication: set {0}.username and {0}.password_file, or a client certificate")]
    NoUser(&'static str),
    #[error(
        "authentication is disabled in etcd: run `etcdctl auth enable`, or remove {0}.username and {0}.password_file"
    )]
    NoAuthentication(&'static str),
    #[error("permission denied: grant the user's role read permission for the key prefix {0}")]
    PermissionDenied(String),
    #[error("{trouble}: correct {table}.ca_file, cert_file and key_file, and the names in the member's certificate")]
    Tls { table: &'static str, trouble: String },
    #[error("the member has no leader: it is cut off from the others, or an election is under way")]
    NoLeader,
    #[error("no answer in time: the member is overloaded or hangs, or a firewall drops packets to it")]
    Silent,
    #[error(
        "it cannot be reached: {0}; check that etcd runs there, that the URL's scheme (http or https) is right, and \
         whether it requires a client certificate"
    )]
    Unreachable(String),
    #[error("the revision is compacted")]
    Compacted,
    #[error("a request or an answer is too large")]
    TooLarge,
    #[error("the authentication token has expired")]
    LoggedOut,
    #[error("etcd refuses the request: {0}")]
    Other(String),
}

impl EtcdError {
    /// Classifies an error of the client. `table` is where the configuration has the cluster, `prefix` what was asked for.
    pub(crate) fn of(error: &ClientError, table: &'static str, prefix: &str) -> Self {
        if let Some(trouble) = tls_error(error) {
            return Self::Tls { table, trouble };
        }
        let ClientError::GRpcStatus(status) = error else {
            return match error {
                ClientError::TransportError(_) | ClientError::IoError(_) => Self::Unreachable(innermost(error)),
                error => Self::Other(error.to_string()),
            };
        };
        match Self::of_text(status.message(), table, prefix) {
            Self::Other(_) if is_timeout(error) => Self::Silent,
            // An alert after the handshake arrives as text only.
            Self::Other(_) if innermost(status).contains("fatal alert") => {
                Self::Tls { table, trouble: innermost(status) }
            }
            Self::Other(_) if status.source().is_some() => Self::Unreachable(innermost(status)),
            trouble => trouble,
        }
    }

    /// Classifies an error by etcd's message, since its status codes are less specific.
    pub(crate) fn of_text(text: &str, table: &'static str, prefix: &str) -> Self {
        let says = |part: &str| text.contains(part);
        if says("authentication failed") {
            Self::WrongPassword(table)
        } else if says("user name is empty") {
            Self::NoUser(table)
        } else if says("authentication is not enabled") {
            Self::NoAuthentication(table)
        } else if says("invalid auth token") || says("revision of auth store is old") {
            Self::LoggedOut
        } else if says("permission denied") {
            Self::PermissionDenied(prefix.to_owned())
        } else if says("no leader") || says("leader changed") {
            Self::NoLeader
        } else if says("compacted") {
            Self::Compacted
        } else if says("message length too large") || says("message larger than max") || says("request is too large") {
            Self::TooLarge
        } else if says("timed out") || says("imeout expired") {
            Self::Silent
        } else {
            Self::Other(text.to_owned())
        }
    }

    /// Returns whether another member may do what this one did not.
    pub(crate) fn is_of_member(&self) -> bool {
        match self {
            Self::Unreachable(_) | Self::Silent | Self::NoLeader | Self::LoggedOut | Self::Tls { .. } => true,
            Self::Other(text) => text.contains("stopped") || text.contains("not capable") || text.contains("unhealthy"),
            _ => false,
        }
    }
}

/// Returns the innermost cause, which is the most specific.
fn innermost(error: &(dyn Error + 'static)) -> String {
    error_text::causes(error).last().map(ToString::to_string).unwrap_or_default()
}

fn is_timeout(error: &ClientError) -> bool {
    let ClientError::GRpcStatus(status) = error else { return false };
    error_text::causes(status).any(|error| {
        let text = error.to_string();
        error.downcast_ref::<std::io::Error>().is_some_and(|io| io.kind() == std::io::ErrorKind::TimedOut)
            || text.contains("timed out")
            || text.contains("deadline has elapsed")
    })
}

/// Returns the TLS error among the causes, if there is one.
fn tls_error(error: &ClientError) -> Option<String> {
    let first: &(dyn Error + 'static) = match error {
        ClientError::GRpcStatus(status) => status,
        ClientError::TransportError(error) => error,
        _ => return None,
    };
    let tls = |error: &(dyn Error + 'static)| -> Option<String> {
        if let Some(error) = error.downcast_ref::<rustls::Error>() {
            return Some(error.to_string());
        }
        let inner = error.downcast_ref::<std::io::Error>()?.get_ref()?;
        inner.downcast_ref::<rustls::Error>().map(ToString::to_string)
    };
    error_text::causes(first).find_map(tls)
}
