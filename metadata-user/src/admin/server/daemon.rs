//! What may be asked of the daemon at the admin API.

use std::convert::Infallible;
use std::future::ready;
use std::io;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::stream;
use http_body_util::{BodyExt as _, Full, StreamBody};
use hyper::body::Frame;
use hyper::header::{CONNECTION, HeaderValue, UPGRADE};
use hyper::upgrade::OnUpgrade;
use hyper::{Method, Response, StatusCode};
use hyper_util::rt::TokioIo;
use serde::Serialize;
use tokio::io::AsyncReadExt as _;
use tokio::net::UnixStream;
use tokio::sync::{Semaphore, mpsc};
use tracing::{debug, info};

use super::{Answer, Asked, Body, CONNECTIONS, REQUEST_TIMEOUT, Resource, json, now, problem, respond};
use crate::admin::peer::Right;
use crate::admin::preview::{GuestAnswer, GuestRequest, PreviewError};
use crate::admin::query::value;
use crate::admin::wait::WaitFor;
use crate::admin::wire::{Accepted, Password};
use crate::admin::{ConfigDriveError, Inspect, PasswordError, TraceError, client};
use crate::metrics::Format;

/// Most connections that may wait for instances: others must find a place beside them.
static WAITING: Semaphore = Semaphore::const_new(CONNECTIONS - 16);

/// Lines of a trace that may wait for a slow reader; what comes while it is full is lost.
const TRACE_LINES: usize = 1024;

pub(in crate::admin) static RESOURCES: &[Resource<dyn Inspect>] = &[
    Resource::new(Method::GET, "/v1/status", Right::Read, |inspect, _| now(&inspect.status())),
    Resource::new(Method::GET, "/v1/security", Right::Read, |inspect, _| security(inspect)),
    Resource::new(Method::GET, "/v1/ports", Right::Read, |inspect, _| now(&inspect.ports())),
    Resource::new(Method::GET, "/v1/counters", Right::Read, |inspect, _| now(&inspect.counters())),
    Resource::new(Method::GET, "/v1/anomalies", Right::Read, |inspect, _| now(&inspect.anomalies())),
    Resource::new(Method::GET, "/v1/boots", Right::Read, |inspect, _| now(&inspect.boots())),
    Resource::new(Method::GET, "/v1/evidence", Right::Read, |inspect, _| now(&inspect.evidence())),
    Resource::new(Method::GET, "/v1/source", Right::Read, |inspect, _| now(&inspect.source())),
    Resource::new(Method::GET, "/v1/password", Right::Read, |inspect, asked| {
        of_instance(asked.query, |id| inspect.password(id).map(Password::without_secret))
    }),
    Resource::new(Method::GET, "/v1/password/secret", Right::Change, |inspect, asked| {
        of_instance(asked.query, |id| inspect.password(id))
    }),
    Resource::new(Method::POST, "/v1/password/clear", Right::Change, |inspect, asked| {
        of_instance(asked.query, |id| inspect.clear_password(id))
    }),
    // Without a version: Prometheus's formats have their own.
    Resource::new(Method::GET, "/metrics", Right::Read, |inspect, asked| metrics(inspect, asked.accept)),
    Resource::new(Method::GET, "/v1/access", Right::Read, |inspect, _| now(&inspect.access())),
    Resource::new(Method::GET, "/v1/user-data", Right::Read, |inspect, asked| {
        of_instance(asked.query, |id| inspect.user_data(id))
    }),
    Resource::new(Method::POST, "/v1/user-data/reset", Right::Change, |inspect, asked| {
        of_instance(asked.query, |id| inspect.reset_user_data(id))
    }),
    Resource::new(Method::GET, "/v1/read", Right::Read, |inspect, asked| preview(inspect, asked, false)),
    Resource::new(Method::GET, "/v1/read/secret", Right::Change, |inspect, asked| preview(inspect, asked, true)),
    Resource::new(Method::GET, "/v1/guest-attributes", Right::Read, |inspect, asked| {
        of_instance(asked.query, |id| inspect.guest_attributes(id))
    }),
    Resource::new(Method::GET, "/v1/jwks", Right::Read, |inspect, _| jwks(inspect)),
    Resource::new(Method::GET, "/v1/config-drive", Right::Change, |inspect, asked| config_drive(inspect, asked)),
    Resource::endless(Method::GET, "/v1/wait", Right::Read, |inspect, asked| wait(inspect, asked.query)),
    Resource::new(Method::POST, "/v1/source/accept", Right::Change, |inspect, _| Box::pin(accept_source(inspect))),
    // It takes as long as guests' connections may last.
    Resource::endless(Method::POST, "/v1/release", Right::Change, |inspect, _| Box::pin(release(inspect))),
    Resource::upgrading(
        Method::POST,
        "/v1/take-over",
        Right::Change,
        |_, _| Box::pin(ready(switching())),
        |upgrade, inspect| drop(tokio::spawn(take_over(upgrade, inspect))),
    ),
    // It replaces a tap's program for as long as it lasts.
    Resource::endless(Method::POST, "/v1/trace", Right::Change, |inspect, asked| Box::pin(trace(inspect, asked.query))),
];

/// Returns the answer after which the connection speaks the protocol of a take-over.
fn switching() -> Response<Body> {
    let mut response = Response::new(Full::default().boxed_unsync());
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    response.headers_mut().insert(CONNECTION, HeaderValue::from_static("upgrade"));
    response.headers_mut().insert(UPGRADE, HeaderValue::from_static(client::TAKE_OVER_PROTOCOL));
    response
}

/// Passes the connection on once it no longer speaks HTTP.
async fn take_over(upgrade: OnUpgrade, inspect: Arc<dyn Inspect>) {
    match upgrade.await.map(|connection| connection.downcast::<TokioIo<UnixStream>>()) {
        Ok(Ok(parts)) => match listens(parts.io.into_inner(), &parts.read_buf).await {
            Ok(stream) => {
                let _ = inspect.take_over(stream);
            }
            Err(error) => debug!(%error, "the connection of a daemon that takes over cannot be used"),
        },
        Ok(Err(_)) => debug!("a client that is not a daemon asked to take over"),
        Err(error) => debug!(%error, "a daemon that was to take over disconnected"),
    }
}

/// Returns the connection once the other daemon reads from it by itself ([`client::LISTENS`]). `early`: what has been read already.
async fn listens(mut stream: UnixStream, early: &[u8]) -> io::Result<std::os::unix::net::UnixStream> {
    let first = match early {
        [] => tokio::time::timeout(REQUEST_TIMEOUT, stream.read_u8()).await.map_err(|_| io::ErrorKind::TimedOut)??,
        [first] => *first,
        _ => return Err(io::ErrorKind::InvalidData.into()),
    };
    if first == client::LISTENS { stream.into_std() } else { Err(io::ErrorKind::InvalidData.into()) }
}

fn jwks(inspect: &dyn Inspect) -> Answer<'static> {
    let response = match inspect.jwks() {
        Some(text) => respond(StatusCode::OK, "application/jwk-set+json", Full::from(text).boxed_unsync()),
        None => {
            let text = "this node signs nothing: set identity.key_file and identity.issuer, and restart the daemon";
            problem(StatusCode::NOT_FOUND, text.to_owned())
        }
    };
    Box::pin(ready(response))
}

fn metrics(inspect: &dyn Inspect, accept: Option<&str>) -> Answer<'static> {
    let format = Format::accepted(accept);
    let body = Full::from(inspect.metrics(format)).boxed_unsync();
    Box::pin(ready(respond(StatusCode::OK, format.content_type(), body)))
}

fn security(inspect: &dyn Inspect) -> Answer<'static> {
    match inspect.security() {
        Ok(security) => now(&security),
        Err(error) => {
            let text = format!("reading /proc/self/task: {error}; is /proc mounted?");
            Box::pin(ready(problem(StatusCode::INTERNAL_SERVER_ERROR, text)))
        }
    }
}

/// Answers for the instance that the query names.
fn of_instance<T: Serialize, E: Into<PasswordError>>(
    query: &str,
    act: impl FnOnce(&str) -> Result<T, E>,
) -> Answer<'static> {
    let Some(instance) = query.split('&').find_map(|pair| pair.strip_prefix("instance=")) else {
        let problem = problem(StatusCode::BAD_REQUEST, "name the instance: ?instance=UUID".to_owned());
        return Box::pin(ready(problem));
    };
    match act(instance).map_err(Into::into) {
        Ok(value) => now(&value),
        Err(error) => {
            let is_absent = matches!(error, PasswordError::NoInstance(_));
            let status = if is_absent { StatusCode::NOT_FOUND } else { StatusCode::CONFLICT };
            Box::pin(ready(problem(status, error.to_string())))
        }
    }
}

/// Answers with what a guest would read; a body that may hold a secret is left out unless `secrets`.
fn preview<'a>(inspect: &'a dyn Inspect, asked: &Asked<'_>, secrets: bool) -> Answer<'a> {
    let Some(request) = GuestRequest::from_query(asked.query) else {
        let text = "name instance and path: ?instance=NAME&path=PATH".to_owned();
        return Box::pin(ready(problem(StatusCode::BAD_REQUEST, text)));
    };
    // What guests ask is in the audit log; this is not a guest's request.
    info!(user = asked.user, instance = ?request.instance, path = ?request.path, secrets, "read in a guest's name");
    Box::pin(async move { previewed(inspect.preview(request).await, secrets) })
}

fn previewed(answer: Result<(GuestAnswer, bool), PreviewError>, secrets: bool) -> Response<Body> {
    match answer {
        Ok((GuestAnswer { head, body }, may_be_secret)) => {
            let mut message = head.into_bytes();
            if secrets || !may_be_secret {
                message.extend(body.unwrap_or_default());
            }
            respond(StatusCode::OK, "message/http", Full::from(message).boxed_unsync())
        }
        Err(error) => {
            let status = match error {
                PreviewError::NoInstance(_) => StatusCode::NOT_FOUND,
                PreviewError::Ambiguous { .. } | PreviewError::Signed(_) => StatusCode::CONFLICT,
                PreviewError::Target(_) => StatusCode::BAD_REQUEST,
                PreviewError::Broken(_) => StatusCode::INTERNAL_SERVER_ERROR,
            };
            problem(status, error.to_string())
        }
    }
}

fn config_drive(inspect: &dyn Inspect, asked: &Asked<'_>) -> Answer<'static> {
    let Some(instance) = value(asked.query, "instance") else {
        let text = "name the instance: ?instance=NAME".to_owned();
        return Box::pin(ready(problem(StatusCode::BAD_REQUEST, text)));
    };
    // What guests ask is in the audit log; this is not a guest's request.
    info!(user = asked.user, ?instance, "config drive read");
    match inspect.config_drive(&instance) {
        Ok(drive) => now(&drive),
        Err(error) => {
            let status = match error {
                ConfigDriveError::Instance(PreviewError::NoInstance(_)) => StatusCode::NOT_FOUND,
                _ => StatusCode::CONFLICT,
            };
            Box::pin(ready(problem(status, error.to_string())))
        }
    }
}

fn wait<'a>(inspect: &'a dyn Inspect, query: &str) -> Answer<'a> {
    let Some(asked) = WaitFor::from_query(query) else {
        let text = "name instance and time: ?instance=UUID&timeout_ms=N".to_owned();
        return Box::pin(ready(problem(StatusCode::BAD_REQUEST, text)));
    };
    let Ok(place) = WAITING.try_acquire() else {
        let text = "too many commands wait for instances already; try again".to_owned();
        return Box::pin(ready(problem(StatusCode::SERVICE_UNAVAILABLE, text)));
    };
    Box::pin(async move {
        let waited = inspect.wait(asked).await;
        drop(place);
        match waited {
            Ok(waited) => json(StatusCode::OK, &waited),
            Err(error) => problem(StatusCode::BAD_REQUEST, error.to_string()),
        }
    })
}

async fn accept_source(inspect: &dyn Inspect) -> Response<Body> {
    match inspect.accept_source().await {
        Ok(removed) => json(StatusCode::OK, &Accepted { removed }),
        Err(reason) => problem(StatusCode::CONFLICT, reason),
    }
}

async fn release(inspect: &dyn Inspect) -> Response<Body> {
    match inspect.release().await {
        Ok(released) => json(StatusCode::OK, &released),
        Err(error) => problem(StatusCode::SERVICE_UNAVAILABLE, error.to_string()),
    }
}

async fn trace(inspect: &dyn Inspect, query: &str) -> Response<Body> {
    let Some(port) = value(query, "port") else {
        return problem(StatusCode::BAD_REQUEST, "name the port: /v1/trace?port=NAME".to_owned());
    };
    let (sender, lines) = mpsc::channel(TRACE_LINES);
    match inspect.trace(port, sender).await {
        Ok(()) => {
            let frames = stream::unfold(lines, async |mut lines| {
                let mut line = lines.recv().await?;
                line.push('\n');
                Some((Ok::<_, Infallible>(Frame::data(Bytes::from(line))), lines))
            });
            respond(StatusCode::OK, "text/plain; charset=utf-8", StreamBody::new(frames).boxed_unsync())
        }
        Err(error @ TraceError::NoSuchPort(_)) => problem(StatusCode::NOT_FOUND, error.to_string()),
        Err(error @ TraceError::Refused { .. }) => problem(StatusCode::CONFLICT, error.to_string()),
    }
}
