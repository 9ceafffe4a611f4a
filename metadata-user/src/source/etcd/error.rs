//! What went wrong with etcd, in words for whoever has to repair it.
//!
//! Promises: a wrong password, a missing permission, a failure of TLS and a member that cannot be reached are told apart,
//! and each comes with its remedy; nothing secret is shown.

use std::error::Error;

use etcd_client::Error as ClientError;

use crate::error_text;

/// What went wrong with a request to etcd.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum EtcdError {
    #[error("user name or password is wrong: correct source.etcd.username and what is in source.etcd.password_file")]
    WrongPassword,
    #[error("etcd wants a user: set source.etcd.username and source.etcd.password_file, or a client certificate")]
    NoUser,
    #[error(
        "etcd knows no users, since its authentication is off: `etcdctl auth enable`, or remove source.etcd.username \
         and source.etcd.password_file"
    )]
    NoAuthentication,
    #[error("permission denied: the user's role must have read permission for the keys from {0}")]
    PermissionDenied(String),
    #[error("{0}: correct source.etcd.ca_file, cert_file and key_file, and the names in the member's certificate")]
    Tls(String),
    #[error("the member has no leader: it has lost the others, or they elect one")]
    NoLeader,
    #[error("no answer in time: the member hangs, or packets to it are dropped")]
    Silent,
    #[error(
        "it cannot be reached: {0}; is etcd running there, is it http or https, and does it want a client certificate?"
    )]
    Unreachable(String),
    #[error("the revision is compacted")]
    Compacted,
    #[error("an answer is too large")]
    TooLarge,
    #[error("the login has ended")]
    LoggedOut,
    #[error("etcd refuses: {0}")]
    Other(String),
}

impl EtcdError {
    /// Finds out what an error of the client means. `prefix` is what was asked for.
    pub(crate) fn of(error: &ClientError, prefix: &str) -> Self {
        if let Some(tls) = tls_error(error) {
            return Self::Tls(tls);
        }
        let ClientError::GRpcStatus(status) = error else {
            return match error {
                ClientError::TransportError(_) | ClientError::IoError(_) => Self::Unreachable(innermost(error)),
                error => Self::Other(error.to_string()),
            };
        };
        match Self::of_text(status.message(), prefix) {
            Self::Other(_) if is_timeout(error) => Self::Silent,
            // An alert that comes after the handshake is only a text by now.
            Self::Other(_) if innermost(status).contains("fatal alert") => Self::Tls(innermost(status)),
            Self::Other(_) if status.source().is_some() => Self::Unreachable(innermost(status)),
            trouble => trouble,
        }
    }

    /// Finds out what etcd's own texts mean; its codes say less.
    pub(crate) fn of_text(text: &str, prefix: &str) -> Self {
        let says = |part: &str| text.contains(part);
        if says("authentication failed") {
            Self::WrongPassword
        } else if says("user name is empty") {
            Self::NoUser
        } else if says("authentication is not enabled") {
            Self::NoAuthentication
        } else if says("invalid auth token") || says("revision of auth store is old") {
            Self::LoggedOut
        } else if says("permission denied") {
            Self::PermissionDenied(prefix.to_owned())
        } else if says("no leader") || says("leader changed") {
            Self::NoLeader
        } else if says("compacted") {
            Self::Compacted
        } else if says("message length too large") || says("message larger than max") {
            Self::TooLarge
        } else if says("timed out") || says("imeout expired") {
            Self::Silent
        } else {
            Self::Other(text.to_owned())
        }
    }
}

/// The last cause says most.
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

/// Returns what TLS complains about, if it does.
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
