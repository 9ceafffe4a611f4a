//! The daemon's side of the admin API.
//!
//! Promises: a connection carries one request and ends in bounded time, unless it is a trace; there are at most
//! [`CONNECTIONS`] at a time, and more wait for their turn; whoever connected must have the [`Right`] that a resource needs.

use std::convert::Infallible;
use std::future::{Future, ready};
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::header::{ACCEPT, ALLOW, CONNECTION, CONTENT_TYPE, HeaderValue, UPGRADE};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::upgrade::OnUpgrade;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use serde::Serialize;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite};
use tokio::net::{UnixListener, UnixStream, unix};
use tokio::sync::{Semaphore, mpsc};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info};

use super::peer::{Peer, Right};
use super::preview::{GuestAnswer, GuestRequest, PreviewError};
use super::query::value;
use super::socket::AdminSocket;
use super::wait::WaitFor;
use super::wire::{Accepted, Password, Problem};
use super::{Inspect, PasswordError, TraceError, client};
use crate::drain::Drain;
use crate::metrics::Format;
use crate::server;
use crate::server::places::{Places, Room};

/// Most connections at a time: more than any operator's commands and monitoring need, and few file descriptors.
const CONNECTIONS: usize = 64;

/// How long the head of a request may take: commands send it at once.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(5);

/// How long a connection may last, unless it is a trace: confirming a source waits for its controller.
const TIMEOUT: Duration = Duration::from_secs(60);

/// Most connections that may wait for instances: others must find a place beside them.
static WAITING: Semaphore = Semaphore::const_new(CONNECTIONS - 16);

/// Lines of a trace that may wait for a slow reader; what comes while it is full is lost.
const TRACE_LINES: usize = 1024;

type Body = UnsyncBoxBody<Bytes, Infallible>;

/// What a resource answers, sooner or later.
type Answer<'a> = Pin<Box<dyn Future<Output = Response<Body>> + Send + 'a>>;

/// What a request says beside method and path.
struct Asked<'a> {
    query: &'a str,
    accept: Option<&'a str>,
    /// Who asks.
    user: u32,
}

/// What may be asked for.
struct Resource {
    method: Method,
    path: &'static str,
    /// What the client must be allowed to do.
    right: Right,
    /// Answers.
    answer: for<'a> fn(&'a dyn Inspect, &Asked<'a>) -> Answer<'a>,
    /// Whether the answer may take as long as the client stays, or as the client asks for.
    endless: bool,
}

/// The one resource after whose answer the connection no longer speaks HTTP.
const TAKE_OVER: &str = "/v1/take-over";

impl Resource {
    const fn new(
        method: Method,
        path: &'static str,
        right: Right,
        answer: for<'a> fn(&'a dyn Inspect, &Asked<'a>) -> Answer<'a>,
        endless: bool,
    ) -> Self {
        Self { method, path, right, answer, endless }
    }
}

static RESOURCES: &[Resource] = &[
    Resource::new(Method::GET, "/v1/status", Right::Read, |inspect, _| now(&inspect.status()), false),
    Resource::new(Method::GET, "/v1/security", Right::Read, |inspect, _| security(inspect), false),
    Resource::new(Method::GET, "/v1/ports", Right::Read, |inspect, _| now(&inspect.ports()), false),
    Resource::new(Method::GET, "/v1/counters", Right::Read, |inspect, _| now(&inspect.counters()), false),
    Resource::new(Method::GET, "/v1/anomalies", Right::Read, |inspect, _| now(&inspect.anomalies()), false),
    Resource::new(Method::GET, "/v1/boots", Right::Read, |inspect, _| now(&inspect.boots()), false),
    Resource::new(Method::GET, "/v1/evidence", Right::Read, |inspect, _| now(&inspect.evidence()), false),
    Resource::new(Method::GET, "/v1/source", Right::Read, |inspect, _| now(&inspect.source()), false),
    Resource::new(
        Method::GET,
        "/v1/password",
        Right::Read,
        |inspect, asked| of_instance(asked.query, |id| inspect.password(id).map(Password::without_secret)),
        false,
    ),
    Resource::new(
        Method::GET,
        "/v1/password/secret",
        Right::Change,
        |inspect, asked| of_instance(asked.query, |id| inspect.password(id)),
        false,
    ),
    Resource::new(
        Method::POST,
        "/v1/password/clear",
        Right::Change,
        |inspect, asked| of_instance(asked.query, |id| inspect.clear_password(id)),
        false,
    ),
    // Without a version: Prometheus's formats have their own.
    Resource::new(Method::GET, "/metrics", Right::Read, |inspect, asked| metrics(inspect, asked.accept), false),
    Resource::new(Method::GET, "/v1/access", Right::Read, |inspect, _| now(&inspect.access()), false),
    Resource::new(
        Method::GET,
        "/v1/user-data",
        Right::Read,
        |inspect, asked| of_instance(asked.query, |id| inspect.user_data(id)),
        false,
    ),
    Resource::new(
        Method::POST,
        "/v1/user-data/reset",
        Right::Change,
        |inspect, asked| of_instance(asked.query, |id| inspect.reset_user_data(id)),
        false,
    ),
    Resource::new(Method::GET, "/v1/read", Right::Read, |inspect, asked| preview(inspect, asked, false), false),
    Resource::new(Method::GET, "/v1/read/secret", Right::Change, |inspect, asked| preview(inspect, asked, true), false),
    Resource::new(Method::GET, "/v1/wait", Right::Read, |inspect, asked| wait(inspect, asked.query), true),
    Resource::new(
        Method::POST,
        "/v1/source/accept",
        Right::Change,
        |inspect, _| Box::pin(accept_source(inspect)),
        false,
    ),
    // It takes as long as guests' connections may last.
    Resource::new(Method::POST, "/v1/release", Right::Change, |inspect, _| Box::pin(release(inspect)), true),
    Resource::new(Method::POST, TAKE_OVER, Right::Change, |_, _| Box::pin(ready(switching())), true),
    // It replaces a tap's program for as long as it lasts.
    Resource::new(
        Method::POST,
        "/v1/trace",
        Right::Change,
        |inspect, asked| Box::pin(trace(inspect, asked.query)),
        true,
    ),
];

/// Answers until it is dropped.
///
/// # Errors
/// If the socket cannot be used with this runtime.
pub async fn run(socket: AdminSocket, inspect: Arc<dyn Inspect>) -> io::Result<()> {
    let listener = UnixListener::from_std(socket.listener.try_clone()?)?;
    let admin = Admin { inspect, readers: socket.readers, places: Places::new(CONNECTIONS) };
    // It answers until the end of the runtime: `status` says that the daemon is draining.
    server::serve(&listener, &Drain::new(), &admin).await;
    Ok(())
}

/// Everything that admin connections share.
struct Admin {
    inspect: Arc<dyn Inspect>,
    /// The group whose members may read.
    readers: Option<u32>,
    places: Places,
}

impl server::Handler<UnixListener> for Admin {
    type Room = Room;

    const NAME: &str = "admin";

    async fn room(&self) -> Room {
        self.places.room().await
    }

    fn handle(&self, stream: UnixStream, _: unix::SocketAddr, room: Room) {
        let (inspect, readers, silent) = (Arc::clone(&self.inspect), self.readers, self.places.take(room));
        tokio::spawn(async move {
            match Peer::of(&stream) {
                Ok(peer) => tokio::select! {
                    () = converse(stream, inspect, &peer, readers, || silent.spoke()) => {}
                    () = silent.leave() => debug!("admin connection without a request gave way"),
                },
                Err(error) => debug!(%error, "admin connection of somebody unknown"),
            }
        });
    }
}

/// Answers one request; calls `asked` when it is there.
pub(super) async fn converse<S: AsyncRead + AsyncWrite + Unpin + Send + 'static>(
    stream: S,
    inspect: Arc<dyn Inspect>,
    peer: &Peer,
    readers: Option<u32>,
    asked: impl Fn(),
) {
    let right = peer.right(readers);
    let endless = CancellationToken::new();
    let service = service_fn(|mut request: Request<Incoming>| {
        asked();
        let resource = find(&request).and_then(|resource| match right {
            Some(right) if right >= resource.right => Ok(resource),
            _ => Err(Refused::Right { user: peer.user(), needed: resource.right }),
        });
        if resource.as_ref().is_ok_and(|resource| resource.endless) {
            endless.cancel();
        }
        let (inspect, user) = (Arc::clone(&inspect), peer.user());
        if resource.as_ref().is_ok_and(|resource| resource.path == TAKE_OVER) {
            tokio::spawn(take_over(hyper::upgrade::on(&mut request), Arc::clone(&inspect)));
        }
        async move {
            Ok::<_, Infallible>(match resource {
                Ok(resource) => {
                    let query = request.uri().query().unwrap_or_default();
                    let accept = request.headers().get(ACCEPT).and_then(|accept| accept.to_str().ok());
                    (resource.answer)(&*inspect, &Asked { query, accept, user }).await
                }
                Err(refusal) => refusal.response(&request),
            })
        }
    });
    let connection = http1::Builder::new()
        .keep_alive(false)
        .timer(TokioTimer::new())
        .header_read_timeout(REQUEST_TIMEOUT)
        .serve_connection(TokioIo::new(stream), service)
        .with_upgrades();
    let expired = async {
        tokio::select! {
            () = endless.cancelled() => std::future::pending().await,
            () = tokio::time::sleep(TIMEOUT) => {}
        }
    };
    tokio::select! {
        result = connection => if let Err(error) = result {
            debug!(%error, "admin connection ended");
        },
        () = expired => debug!("admin connection timed out"),
    }
}

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

/// Why a request is refused.
enum Refused {
    /// No resource has this path.
    Path,
    /// The resource is used with this method.
    Method(&'static Method),
    /// The user may not do that.
    Right {
        /// Who asked.
        user: u32,
        /// What they would have to be allowed to do.
        needed: Right,
    },
}

impl Refused {
    fn response(&self, request: &Request<Incoming>) -> Response<Body> {
        match self {
            Self::Path => problem(StatusCode::NOT_FOUND, format!("no such resource: {}", request.uri().path())),
            Self::Method(method) => {
                let mut response = problem(StatusCode::METHOD_NOT_ALLOWED, format!("use {method}"));
                if let Ok(method) = HeaderValue::from_str(method.as_str()) {
                    response.headers_mut().insert(ALLOW, method);
                }
                response
            }
            Self::Right { user, needed: Right::Read } => {
                let text =
                    format!("user {user} may not read this: run it as root, or as a member of the group admin.group");
                problem(StatusCode::FORBIDDEN, text)
            }
            Self::Right { user, needed: Right::Change } => {
                let text = format!("user {user} may not do this: run it as root; the group admin.group may only read");
                problem(StatusCode::FORBIDDEN, text)
            }
        }
    }
}

fn find(request: &Request<Incoming>) -> Result<&'static Resource, Refused> {
    let mut refused = Refused::Path;
    for resource in RESOURCES.iter().filter(|resource| resource.path == request.uri().path()) {
        if resource.method == *request.method() {
            return Ok(resource);
        }
        refused = Refused::Method(&resource.method);
    }
    Err(refused)
}

fn now(value: &impl Serialize) -> Answer<'static> {
    Box::pin(ready(json(StatusCode::OK, value)))
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
                PreviewError::Ambiguous { .. } => StatusCode::CONFLICT,
                PreviewError::Target(_) => StatusCode::BAD_REQUEST,
                PreviewError::Broken(_) => StatusCode::INTERNAL_SERVER_ERROR,
            };
            problem(status, error.to_string())
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

fn json(status: StatusCode, value: &impl Serialize) -> Response<Body> {
    match serde_json::to_vec(value) {
        Ok(mut text) => {
            text.push(b'\n');
            respond(status, "application/json", Full::from(text).boxed_unsync())
        }
        Err(error) => {
            let text = format!("{{\"error\": \"writing the answer: {error}\"}}\n");
            respond(StatusCode::INTERNAL_SERVER_ERROR, "application/json", Full::from(text).boxed_unsync())
        }
    }
}

fn problem(status: StatusCode, error: String) -> Response<Body> {
    json(status, &Problem { error })
}

fn respond(status: StatusCode, content_type: &'static str, body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}

#[cfg(test)]
pub(crate) mod tests;
