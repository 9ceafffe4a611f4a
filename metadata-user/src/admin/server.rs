//! The daemon's side of the admin API, and the controller's: what may be asked is a list of resources.
//!
//! Promises: a connection carries one request and ends in bounded time, unless it is a trace; there are at most
//! [`CONNECTIONS`] at a time, and more wait for their turn; whoever connected must have the [`Right`] that a resource needs.

pub(super) mod daemon;

use std::convert::Infallible;
use std::future::{Future, ready};
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::header::{ACCEPT, ALLOW, CONTENT_TYPE, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::upgrade::OnUpgrade;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use serde::Serialize;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{UnixListener, UnixStream, unix};
use tokio_util::sync::CancellationToken;
use tracing::debug;

use super::Inspect;
use super::peer::{Peer, Right};
use super::socket::AdminSocket;
use super::wire::Problem;
use crate::drain::Drain;
use crate::server;
use crate::server::places::{Place, Places, Room};

/// Most connections at a time: more than any operator's commands and monitoring need, and few file descriptors.
const CONNECTIONS: usize = 64;

/// How long the head of a request may take: commands send it at once.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(5);

/// How long a connection may last, unless it is a trace: confirming a source waits for its controller.
const TIMEOUT: Duration = Duration::from_secs(60);

pub(super) type Body = UnsyncBoxBody<Bytes, Infallible>;

/// What a resource answers, sooner or later.
pub(super) type Answer<'a> = Pin<Box<dyn Future<Output = Response<Body>> + Send + 'a>>;

/// What a request says beside method and path.
pub(super) struct Asked<'a> {
    /// The query, encoded.
    pub(super) query: &'a str,
    /// The `Accept` header.
    pub(super) accept: Option<&'a str>,
    /// Who asks.
    pub(super) user: u32,
}

/// What may be asked for, of a program that shows itself as `I`.
pub(super) struct Resource<I: ?Sized + 'static> {
    method: Method,
    path: &'static str,
    /// What the client must be allowed to do.
    right: Right,
    /// Answers.
    answer: for<'a> fn(&'a I, &Asked<'a>) -> Answer<'a>,
    /// Whether the answer may take as long as the client stays, or as the client asks for.
    endless: bool,
    /// Takes the connection when it no longer speaks HTTP, after an answer with status 101.
    upgrade: Option<fn(OnUpgrade, Arc<I>)>,
}

impl<I: ?Sized> Resource<I> {
    pub(super) const fn new(
        method: Method,
        path: &'static str,
        right: Right,
        answer: for<'a> fn(&'a I, &Asked<'a>) -> Answer<'a>,
    ) -> Self {
        Self { method, path, right, answer, endless: false, upgrade: None }
    }

    /// Returns one whose answer may take as long as the client stays, or as the client asks for.
    pub(super) const fn endless(
        method: Method,
        path: &'static str,
        right: Right,
        answer: for<'a> fn(&'a I, &Asked<'a>) -> Answer<'a>,
    ) -> Self {
        Self { method, path, right, answer, endless: true, upgrade: None }
    }

    /// Returns one after whose answer, with status 101, the connection is for something else.
    pub(super) const fn upgrading(
        method: Method,
        path: &'static str,
        right: Right,
        answer: for<'a> fn(&'a I, &Asked<'a>) -> Answer<'a>,
        upgrade: fn(OnUpgrade, Arc<I>),
    ) -> Self {
        Self { method, path, right, answer, endless: true, upgrade: Some(upgrade) }
    }
}

/// Answers for the daemon until it is dropped.
///
/// # Errors
/// If the socket cannot be used with this runtime.
pub async fn run(socket: AdminSocket, inspect: Arc<dyn Inspect>) -> io::Result<()> {
    run_with(socket, inspect, daemon::RESOURCES).await
}

/// Answers with these resources until it is dropped.
pub(super) fn run_with<I: ?Sized + Send + Sync + 'static>(
    socket: AdminSocket,
    inspect: Arc<I>,
    resources: &'static [Resource<I>],
) -> impl Future<Output = io::Result<()>> + Send {
    let readers = socket.readers;
    let talk = move |stream: UnixStream, silent: Place| {
        let inspect = Arc::clone(&inspect);
        tokio::spawn(async move {
            match Peer::of(&stream) {
                Ok(peer) => tokio::select! {
                    () = converse(stream, inspect, resources, &peer, readers, || silent.spoke()) => {}
                    () = silent.leave() => debug!("admin connection without a request gave way"),
                },
                Err(error) => debug!(%error, "admin connection of somebody unknown"),
            }
        });
    };
    listen(socket, Admin { talk: Box::new(talk), places: Places::new(CONNECTIONS) })
}

async fn listen(socket: AdminSocket, admin: Admin) -> io::Result<()> {
    let listener = UnixListener::from_std(socket.listener.try_clone()?)?;
    // It answers until the end of the runtime: `status` says that the daemon is draining.
    server::serve(&listener, &Drain::new(), &admin).await;
    Ok(())
}

/// Everything that admin connections share.
struct Admin {
    /// Begins to talk on a connection.
    talk: Box<dyn Fn(UnixStream, Place) + Send + Sync>,
    places: Places,
}

impl server::Handler<UnixListener> for Admin {
    type Room = Room;

    const NAME: &str = "admin";

    async fn room(&self) -> Room {
        self.places.room().await
    }

    fn handle(&self, stream: UnixStream, _: unix::SocketAddr, room: Room) {
        (self.talk)(stream, self.places.take(room));
    }
}

/// Answers one request; calls `asked` when it is there.
pub(super) async fn converse<S: AsyncRead + AsyncWrite + Unpin + Send + 'static, I: ?Sized + Send + Sync + 'static>(
    stream: S,
    inspect: Arc<I>,
    resources: &'static [Resource<I>],
    peer: &Peer,
    readers: Option<u32>,
    asked: impl Fn(),
) {
    let right = peer.right(readers);
    let endless = CancellationToken::new();
    let service = service_fn(|mut request: Request<Incoming>| {
        asked();
        let resource = find(resources, &request).and_then(|resource| match right {
            Some(right) if right >= resource.right => Ok(resource),
            _ => Err(Refused::Right { user: peer.user(), needed: resource.right }),
        });
        if resource.as_ref().is_ok_and(|resource| resource.endless) {
            endless.cancel();
        }
        let (inspect, user) = (Arc::clone(&inspect), peer.user());
        if let Some(upgrade) = resource.as_ref().ok().and_then(|resource| resource.upgrade) {
            upgrade(hyper::upgrade::on(&mut request), Arc::clone(&inspect));
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

fn find<I: ?Sized>(
    resources: &'static [Resource<I>],
    request: &Request<Incoming>,
) -> Result<&'static Resource<I>, Refused> {
    let mut refused = Refused::Path;
    for resource in resources.iter().filter(|resource| resource.path == request.uri().path()) {
        if resource.method == *request.method() {
            return Ok(resource);
        }
        refused = Refused::Method(&resource.method);
    }
    Err(refused)
}

pub(super) fn now(value: &impl Serialize) -> Answer<'static> {
    Box::pin(ready(json(StatusCode::OK, value)))
}

pub(super) fn json(status: StatusCode, value: &impl Serialize) -> Response<Body> {
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

pub(super) fn problem(status: StatusCode, error: String) -> Response<Body> {
    json(status, &Problem { error })
}

pub(super) fn respond(status: StatusCode, content_type: &'static str, body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}

#[cfg(test)]
pub(crate) mod tests;
