//! What can be wrong with the connection to RabbitMQ, and what an operator does about it.

use std::io;

use lapin::ErrorKind;
use lapin::protocol::{AMQPErrorKind, AMQPHardError, AMQPSoftError};

use super::broker::{Broker, UrlsError};
use crate::fetch::tls::TlsError;

/// Why notifications are not received.
#[derive(Debug, thiserror::Error)]
pub enum AmqpError {
    /// No broker is known.
    #[error(transparent)]
    Urls(#[from] UrlsError),
    /// There is no TCP connection.
    #[error("connecting to {broker}: start the broker, or correct its address in rabbitmq.urls_file")]
    Connect {
        /// The broker.
        broker: String,
        /// Why.
        source: io::Error,
    },
    /// TLS cannot be set up.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// There is no TLS connection.
    #[error(
        "TLS handshake with {broker}: set rabbitmq.ca_file to the authority of its certificate, name the host as the certificate does, \
         and write amqp:// where the port is not for TLS"
    )]
    Handshake {
        /// The broker.
        broker: String,
        /// Why.
        source: io::Error,
    },
    /// The broker did not answer.
    #[error("{broker} does not answer when {doing}: see its log")]
    Silent {
        /// The broker.
        broker: String,
        /// What was being done.
        doing: &'static str,
    },
    /// The broker refuses the user or the password.
    #[error(
        "{broker} refuses user {user} or its password: correct rabbitmq.urls_file, or set the password with `rabbitmqctl change_password \
         {user}`"
    )]
    Login {
        /// The broker.
        broker: String,
        /// The user.
        user: String,
    },
    /// The virtual host does not exist, or is closed to the user.
    #[error(
        "{broker} has no virtual host {vhost} for user {user}: correct rabbitmq.urls_file, or allow it with `rabbitmqctl set_permissions \
         -p {vhost} {user}`, as docs/notifications.md says"
    )]
    VirtualHost {
        /// The broker.
        broker: String,
        /// The virtual host.
        vhost: String,
        /// The user.
        user: String,
    },
    /// The user may not do what is necessary.
    #[error(
        "{broker} does not permit user {user} what {doing} needs: allow it with `rabbitmqctl set_permissions`, as docs/notifications.md says"
    )]
    Permission {
        /// The broker.
        broker: String,
        /// The user.
        user: String,
        /// What was being done.
        doing: &'static str,
        /// What the broker says.
        source: Box<lapin::Error>,
    },
    /// A queue or an exchange exists with other properties.
    #[error(
        "{broker} has the queue {queue}, or what belongs to it, with other properties: delete it with `rabbitmqctl delete_queue {queue}`, \
         so that it is declared anew, or choose another rabbitmq.queue"
    )]
    Properties {
        /// The broker.
        broker: String,
        /// The queue.
        queue: String,
        /// What the broker says.
        source: Box<lapin::Error>,
    },
    /// The queue was deleted while it was consumed.
    #[error("{broker} has ended the consumer of {queue}: the queue was deleted, or its member of the cluster is lost")]
    Cancelled {
        /// The broker.
        broker: String,
        /// The queue.
        queue: String,
    },
    /// The connection has ended.
    #[error("{broker}: the connection ended when {doing}")]
    Ended {
        /// The broker.
        broker: String,
        /// What was being done.
        doing: &'static str,
        /// Why.
        source: Box<lapin::Error>,
    },
}

/// What an error of lapin's was about, to name it.
#[derive(Clone, Copy, Debug)]
pub(super) struct About<'a> {
    pub(super) broker: &'a Broker,
    pub(super) queue: &'a str,
    /// Whether there is a client certificate.
    pub(super) has_certificate: bool,
}

impl About<'_> {
    /// Returns the error of something that was being done.
    pub(super) fn error(self, doing: &'static str, source: lapin::Error) -> AmqpError {
        let (broker, user) = (self.broker.to_string(), self.broker.user.clone());
        let reason = soft(&source);
        let source = Box::new(source);
        match reason {
            Some(AMQPSoftError::ACCESSREFUSED) => AmqpError::Permission { broker, user, doing, source },
            Some(AMQPSoftError::PRECONDITIONFAILED | AMQPSoftError::RESOURCELOCKED) => {
                AmqpError::Properties { broker, queue: self.queue.to_owned(), source }
            }
            _ => AmqpError::Ended { broker, doing, source },
        }
    }

    /// Returns the error of logging in.
    pub(super) fn login_error(self, source: lapin::Error) -> AmqpError {
        let (broker, user) = (self.broker.to_string(), self.broker.user.clone());
        if soft(&source) == Some(AMQPSoftError::ACCESSREFUSED) {
            return AmqpError::Login { broker, user };
        }
        if let ErrorKind::ProtocolError(error) = source.kind()
            && *error.kind() == AMQPErrorKind::Hard(AMQPHardError::NOTALLOWED)
        {
            return AmqpError::VirtualHost { broker, user, vhost: self.broker.vhost.clone() };
        }
        let has_ended = source.is_io_error();
        let doing = match self.broker.tls {
            // A port for TLS answers with an alert, or closes the connection.
            false if has_ended || matches!(source.kind(), ErrorKind::ParsingError(_)) => {
                "logging in (write amqps:// where the port is for TLS)"
            }
            // With TLS 1.3 this comes after the handshake.
            true if has_ended && !self.has_certificate => {
                "logging in (set rabbitmq.cert_file and rabbitmq.key_file where the broker asks for a certificate)"
            }
            _ => "logging in",
        };
        AmqpError::Ended { broker, doing, source: Box::new(source) }
    }
}

/// Returns the reason for which the broker has closed a channel, or refused a login.
pub(super) fn soft(error: &lapin::Error) -> Option<AMQPSoftError> {
    match error.kind() {
        ErrorKind::ProtocolError(error) => match error.kind() {
            AMQPErrorKind::Soft(soft) => Some(soft.clone()),
            AMQPErrorKind::Hard(_) => None,
        },
        _ => None,
    }
}
