//! The command line's side of the admin API.

use std::io;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use http_body_util::{BodyExt, Empty};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper::header::{CONNECTION, HeaderValue, UPGRADE};
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use serde::de::DeserializeOwned;
use tokio::io::AsyncWriteExt as _;
use tokio::net::UnixStream;

use super::preview::{GuestAnswer, GuestRequest};
use super::wait::WaitFor;
use super::wire::{
    Accepted, ConfigDrive, Evidence, GuestAttributes, InstanceAccess, InstanceAnomalies, Password, PortBoots,
    PortCounters, PortStatus, Problem, Released, Security, Source, Status, UserData, Waited,
};
use crate::api::DriveFile;
use crate::percent;
use crate::record::InstanceId;

/// What a connection speaks after `POST /v1/take-over`; another number when that changes.
pub(super) const TAKE_OVER_PROTOCOL: &str = "metadatad-take-over/2";

/// What a daemon that takes over sends when nothing of HTTP reads from the connection any more. Sockets that came before would be lost:
/// the reader of HTTP's head takes whatever has arrived, and has no place for descriptors.
pub(super) const LISTENS: u8 = b'L';

/// The daemon did not answer as asked.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// Nobody answers on the socket.
    #[error("no metadatad answers on {}; start it, or name its configuration with --config", socket.display())]
    Unreachable {
        /// The socket.
        socket: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The socket belongs to somebody else.
    #[error(
        "connecting to {}: only root may, and members of the group admin.group to read; run this as root",
        socket.display()
    )]
    NotPermitted {
        /// The socket.
        socket: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The daemon went away during the answer, or did not speak HTTP.
    #[error("talking to metadatad on {}", socket.display())]
    Broken {
        /// The socket.
        socket: PathBuf,
        /// Why.
        source: hyper::Error,
    },
    /// The answer is not what this program knows.
    #[error("reading the answer of {resource}; are the daemon and this program of the same version?")]
    Answer {
        /// What was asked for.
        resource: String,
        /// Why.
        source: serde_json::Error,
    },
    /// There is no such port.
    #[error("{0}")]
    NoSuchPort(String),
    /// There is no such instance.
    #[error("{0}")]
    NoSuchInstance(String),
    /// The daemon is busy with requests of this kind.
    #[error("{0}")]
    Busy(String),
    /// The daemon does not know what it was asked.
    #[error("the daemon answers: {0}; are the daemon and this program of the same version?")]
    Unknown(String),
    /// The answer is not HTTP.
    #[error("the answer of {0} is not an HTTP message; are the daemon and this program of the same version?")]
    Message(String),
    /// The daemon refused.
    #[error("{0}")]
    Refused(String),
}

/// A connection per request to the daemon behind a socket.
#[derive(Clone, Debug)]
pub struct Client {
    socket: PathBuf,
}

impl Client {
    /// Names the socket; nothing is opened yet.
    #[must_use]
    pub fn new(socket: &Path) -> Self {
        Self { socket: socket.to_owned() }
    }

    /// Asks how the daemon is doing.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn status(&self) -> Result<Status, ClientError> {
        self.get("/v1/status").await
    }

    /// Asks what each thread of the daemon may do.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn security(&self) -> Result<Security, ClientError> {
        self.get("/v1/security").await
    }

    /// Asks for the ports.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn ports(&self) -> Result<Vec<PortStatus>, ClientError> {
        self.get("/v1/ports").await
    }

    /// Asks for what an instance's guest wrote for its operator.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn guest_attributes(&self, instance: InstanceId) -> Result<GuestAttributes, ClientError> {
        self.get(&format!("/v1/guest-attributes?instance={instance}")).await
    }

    /// Asks for the public keys that the node signs with, as a JWK set.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn jwks(&self) -> Result<serde_json::Value, ClientError> {
        self.get("/v1/jwks").await
    }

    /// Asks for the ports' counters.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn counters(&self) -> Result<Vec<PortCounters>, ClientError> {
        self.get("/v1/counters").await
    }

    /// Asks what was unusual about each instance's traffic.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn anomalies(&self) -> Result<Vec<InstanceAnomalies>, ClientError> {
        self.get("/v1/anomalies").await
    }

    /// Asks for the boots of each port.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn boots(&self) -> Result<Vec<PortBoots>, ClientError> {
        self.get("/v1/boots").await
    }

    /// Asks what the daemon knows about the path of guests' requests.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn evidence(&self) -> Result<Evidence, ClientError> {
        self.get("/v1/evidence").await
    }

    /// Asks how the source of documents is doing.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn source(&self) -> Result<Source, ClientError> {
        self.get("/v1/source").await
    }

    /// Confirms that the controller that answers now is authoritative.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn accept_source(&self) -> Result<Accepted, ClientError> {
        self.ask(Method::POST, "/v1/source/accept").await
    }

    /// Asks whether an instance has a password.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn password(&self, instance: InstanceId) -> Result<Password, ClientError> {
        self.get(&format!("/v1/password?instance={instance}")).await
    }

    /// Asks for an instance's password itself.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn password_secret(&self, instance: InstanceId) -> Result<Password, ClientError> {
        self.get(&format!("/v1/password/secret?instance={instance}")).await
    }

    /// Forgets the password that a guest posted.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn clear_password(&self, instance: InstanceId) -> Result<Password, ClientError> {
        self.ask(Method::POST, &format!("/v1/password/clear?instance={instance}")).await
    }

    /// Asks what policies allow, and what guests ask for.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn access(&self) -> Result<Vec<InstanceAccess>, ClientError> {
        self.get("/v1/access").await
    }

    /// Asks when an instance's guest first read its user data.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn user_data(&self, instance: InstanceId) -> Result<UserData, ClientError> {
        self.get(&format!("/v1/user-data?instance={instance}")).await
    }

    /// Lets an instance's guest read its user data as in its first boot.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn reset_user_data(&self, instance: InstanceId) -> Result<UserData, ClientError> {
        self.ask(Method::POST, &format!("/v1/user-data/reset?instance={instance}")).await
    }

    /// Asks in a guest's name; `secrets`: also for a body that may hold a secret.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn preview(&self, asked: &GuestRequest, secrets: bool) -> Result<GuestAnswer, ClientError> {
        let resource = format!("/v1/read{}?{}", if secrets { "/secret" } else { "" }, asked.query());
        let response = self.send(Method::GET, &resource).await?;
        let message = response.into_body().collect().await.map_err(|source| self.broken(source))?.to_bytes();
        GuestAnswer::received(&message, asked.head).ok_or(ClientError::Message(resource))
    }

    /// Asks for the files of an instance's config drive. `instance`: its UUID, the name of its tap, or its host name.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn config_drive(&self, instance: &str) -> Result<Vec<DriveFile>, ClientError> {
        let resource = format!("/v1/config-drive?instance={}", percent::encode(instance));
        let drive: ConfigDrive = self.get(&resource).await?;
        let missing = || serde::de::Error::custom("a file has no body, or one that is not base64");
        drive.decoded().ok_or_else(|| ClientError::Answer { resource, source: missing() })
    }

    /// Waits until an instance can be answered, or for the time-out.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn wait(&self, asked: &WaitFor) -> Result<Waited, ClientError> {
        self.get(&format!("/v1/wait?{}", asked.query())).await
    }

    /// Asks for all metrics, in Prometheus's text format.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn metrics(&self) -> Result<String, ClientError> {
        let response = self.send(Method::GET, "/metrics").await?;
        let body = response.into_body().collect().await.map_err(|source| self.broken(source))?.to_bytes();
        Ok(String::from_utf8_lossy(&body).into_owned())
    }

    /// Starts a trace of the port with this interface name. It ends when the value is dropped.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn trace(&self, port: &str) -> Result<Trace, ClientError> {
        let resource = format!("/v1/trace?port={}", percent::encode(port));
        let body = self.send(Method::POST, &resource).await?.into_body();
        Ok(Trace { body, socket: self.socket.clone() })
    }

    /// Asks the daemon to let go of every tap, until its next start.
    ///
    /// # Errors
    /// See [`ClientError`]; [`ClientError::Unknown`] if it is of a version that cannot.
    pub async fn release(&self) -> Result<Released, ClientError> {
        self.ask(Method::POST, "/v1/release").await
    }

    /// Asks the daemon to hand over, and returns the connection, which no longer speaks HTTP.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn take_over(&self) -> Result<std::os::unix::net::UnixStream, ClientError> {
        let response = self.send(Method::POST, "/v1/take-over").await?;
        let upgraded = hyper::upgrade::on(response).await.map_err(|source| self.broken(source))?;
        let unusable = |source| ClientError::Unreachable { socket: self.socket.clone(), source };
        let parts = upgraded.downcast::<TokioIo<UnixStream>>();
        let parts = parts.ok().filter(|parts| parts.read_buf.is_empty());
        let mut stream = parts.ok_or_else(|| unusable(io::ErrorKind::InvalidData.into()))?.io.into_inner();
        stream.write_u8(LISTENS).await.map_err(unusable)?;
        stream.into_std().map_err(unusable)
    }

    pub(super) async fn get<T: DeserializeOwned>(&self, resource: &str) -> Result<T, ClientError> {
        self.ask(Method::GET, resource).await
    }

    pub(super) async fn ask<T: DeserializeOwned>(&self, method: Method, resource: &str) -> Result<T, ClientError> {
        let response = self.send(method, resource).await?;
        let body = response.into_body().collect().await.map_err(|source| self.broken(source))?.to_bytes();
        serde_json::from_slice(&body).map_err(|source| ClientError::Answer { resource: resource.to_owned(), source })
    }

    async fn send(&self, method: Method, resource: &str) -> Result<Response<Incoming>, ClientError> {
        let stream = UnixStream::connect(&self.socket).await.map_err(|source| {
            let socket = self.socket.clone();
            match source.kind() {
                io::ErrorKind::PermissionDenied => ClientError::NotPermitted { socket, source },
                _ => ClientError::Unreachable { socket, source },
            }
        })?;
        let (mut sender, connection) =
            http1::handshake(TokioIo::new(stream)).await.map_err(|source| self.broken(source))?;
        // Its error is the request's too.
        tokio::spawn(async move { connection.with_upgrades().await.ok() });
        let mut request = Request::new(Empty::<Bytes>::new());
        *request.method_mut() = method;
        *request.uri_mut() = resource.parse().unwrap_or_default();
        if resource == "/v1/take-over" {
            request.headers_mut().insert(CONNECTION, HeaderValue::from_static("upgrade"));
            request.headers_mut().insert(UPGRADE, HeaderValue::from_static(TAKE_OVER_PROTOCOL));
        }
        let response = sender.send_request(request).await.map_err(|source| self.broken(source))?;
        let status = response.status();
        if status.is_success() || status == StatusCode::SWITCHING_PROTOCOLS {
            return Ok(response);
        }
        let body = response.into_body().collect().await.map_err(|source| self.broken(source))?.to_bytes();
        let Problem { error } = serde_json::from_slice(&body)
            .map_err(|source| ClientError::Answer { resource: resource.to_owned(), source })?;
        Err(match status {
            StatusCode::NOT_FOUND if resource.starts_with("/v1/trace") => ClientError::NoSuchPort(error),
            StatusCode::NOT_FOUND if ["/v1/read", "/v1/config-drive"].iter().any(|path| resource.starts_with(path)) => {
                ClientError::NoSuchInstance(error)
            }
            StatusCode::NOT_FOUND if resource == "/v1/release" => ClientError::Unknown(error),
            StatusCode::SERVICE_UNAVAILABLE => ClientError::Busy(error),
            _ => ClientError::Refused(error),
        })
    }

    fn broken(&self, source: hyper::Error) -> ClientError {
        ClientError::Broken { socket: self.socket.clone(), source }
    }
}

/// The lines of a trace, as they come.
#[derive(Debug)]
pub struct Trace {
    body: Incoming,
    socket: PathBuf,
}

impl Trace {
    /// Returns the next lines; `None` when the trace has ended.
    ///
    /// # Errors
    /// If the daemon went away.
    pub async fn next(&mut self) -> Result<Option<Bytes>, ClientError> {
        loop {
            match self.body.frame().await {
                None => return Ok(None),
                Some(Err(source)) => return Err(ClientError::Broken { socket: self.socket.clone(), source }),
                Some(Ok(frame)) => {
                    if let Ok(lines) = frame.into_data() {
                        return Ok(Some(lines));
                    }
                }
            }
        }
    }
}
