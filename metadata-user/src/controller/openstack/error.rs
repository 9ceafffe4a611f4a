//! Why there is no answer of an OpenStack, and what the operator can do about it.
//!
//! Promises: a service that is unreachable, one that refuses, one that answers for another cloud and an answer that is not understood are
//! four different failures; no message holds a credential or a token.

use std::fmt;
use std::time::Duration;

use crate::fetch::tls::TlsError;
use crate::nova_metadata::SetUpError;

/// A service that is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Service {
    /// Keystone: tokens, and where the others are.
    Keystone,
    /// Nova's compute API.
    Nova,
    /// Nova's metadata API.
    Metadata,
    /// Neutron.
    Neutron,
}

impl Service {
    /// All of them, in the order in which they are shown.
    pub const ALL: [Self; 4] = [Self::Keystone, Self::Nova, Self::Metadata, Self::Neutron];

    /// Returns its name in status, metrics and the configuration.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Keystone => "keystone",
            Self::Nova => "nova",
            Self::Metadata => "metadata_api",
            Self::Neutron => "neutron",
        }
    }
}

impl Service {
    /// Returns the line for a service that takes so long for a request, with the remedy.
    #[must_use]
    pub fn slow(self, took: Duration) -> String {
        let programs = match self {
            Self::Keystone => "Keystone",
            Self::Nova => "nova-api",
            Self::Metadata => "nova-api-metadata, nova-conductor",
            Self::Neutron => "neutron-server",
        };
        let took = took.as_secs_f64();
        format!(
            "{self} is slow: a request has taken {took:.1} s, so changes come late; look at the load of {programs} and its database"
        )
    }
}

impl fmt::Display for Service {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Keystone => "Keystone",
            Self::Nova => "Nova",
            Self::Metadata => "Nova's metadata API",
            Self::Neutron => "Neutron",
        })
    }
}

/// Why OpenStack cannot be asked at all.
#[derive(Debug, thiserror::Error)]
pub enum OpenStackError {
    /// TLS cannot be set up.
    #[error("preparing to ask OpenStack over https")]
    Tls(#[from] TlsError),
    /// The metadata API's secret or a certificate cannot be read.
    #[error(transparent)]
    Metadata(#[from] SetUpError),
}

/// Why there is no answer: to be asked again later, with nothing concluded.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{doing}: {service} {problem}; {}", self.remedy())]
pub struct AskError {
    /// Who was asked.
    pub service: Service,
    /// What for.
    pub doing: String,
    /// The kind of failure.
    pub failure: Failure,
    /// What happened, as what the service does.
    pub problem: String,
}

/// A kind of failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// The service does not answer, or not as itself: nothing listens, it is slow, it fails (502 to 504), or a proxy answers for it.
    Unavailable,
    /// It refuses the credential, the token, or what is asked for.
    Refused,
    /// It answers for another cloud than the one whose documents are kept, or it is not known yet which cloud that is.
    OtherCloud,
    /// It answers, and the answer is not what its API promises.
    NotUnderstood,
    /// It fails at this request (500), or cannot answer for this server now: others may well be answered.
    OneRequest,
    /// Its answer is longer than what is held of one.
    TooLarge,
    /// The server after which a list was to go on is no longer in Nova's database: begin the list again.
    MarkerGone,
}

impl AskError {
    pub(super) fn new(service: Service, doing: &str, failure: Failure, problem: impl Into<String>) -> Self {
        Self { service, doing: doing.to_owned(), failure, problem: problem.into() }
    }

    /// Returns what the operator can do about it.
    #[must_use]
    pub fn remedy(&self) -> &'static str {
        match (self.failure, self.service) {
            (Failure::Unavailable, Service::Keystone) => "look at keystone.auth_url, and whether Keystone runs",
            (Failure::Unavailable, Service::Nova) => {
                "look whether nova-api runs, and at nova.endpoint or Keystone's catalogue"
            }
            (Failure::Unavailable, Service::Metadata) => {
                "look at metadata_api.endpoints, and whether nova-api-metadata runs"
            }
            (Failure::Unavailable, Service::Neutron) => {
                "look whether neutron-server runs, and at neutron.endpoint or Keystone's catalogue"
            }
            (Failure::Refused, Service::Keystone) => "correct the credential in [keystone] and its file",
            (Failure::Refused, Service::Metadata) => {
                "write metadata_proxy_shared_secret of nova.conf into metadata_api.shared_secret_file"
            }
            (Failure::Refused, _) => {
                "give the credential in [keystone] the role admin, or allow its role this in the service's policy"
            }
            (Failure::OtherCloud, Service::Neutron) => "look at neutron.endpoint, and at the ports of this server",
            (Failure::OtherCloud, _) => {
                "documents stay as they are; if Nova's database was replaced on purpose, run `metadatad controller accept`"
            }
            (Failure::OneRequest, Service::Metadata) => {
                "look whether nova-api-metadata of its cell runs, and at its log; the document stays as it is"
            }
            (Failure::OneRequest, _) => "look at the service's log; the documents concerned stay as they are",
            (Failure::NotUnderstood, Service::Keystone) => {
                "look at keystone.auth_url, and at the catalogue (`openstack catalog list`)"
            }
            (Failure::NotUnderstood, _) => "look at the endpoint: something else may answer there",
            (Failure::TooLarge, _) => "lower reconcile.page",
            (Failure::MarkerGone, _) => "the list is begun again",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_name_what_was_done_who_failed_and_the_remedy() {
        let error = AskError::new(Service::Nova, "reading the server x", Failure::Unavailable, "answered 503");
        assert_eq!(
            error.to_string(),
            "reading the server x: Nova answered 503; look whether nova-api runs, and at nova.endpoint or Keystone's catalogue"
        );
    }
}
