//! The daemon's side of the admin API.

use std::convert::Infallible;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::header::{ALLOW, CONTENT_TYPE, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use serde::Serialize;
use tokio::net::UnixListener;
use tokio::sync::mpsc;
use tracing::{debug, warn};

use super::socket::AdminSocket;
use super::wire::{Accepted, Problem};
use super::{Inspect, TraceError};

/// Lines of a trace that may wait for a slow reader; what comes while it is full is lost.
const TRACE_LINES: usize = 1024;

type Body = UnsyncBoxBody<Bytes, Infallible>;

/// Answers until it is dropped.
///
/// # Errors
/// If the socket cannot be used with this runtime.
pub async fn run(socket: AdminSocket, inspect: Arc<dyn Inspect>) -> io::Result<()> {
    let listener = UnixListener::from_std(socket.listener.try_clone()?)?;
    loop {
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                warn!(%error, "cannot accept admin connections for now; is LimitNOFILE too small?");
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let inspect = Arc::clone(&inspect);
        tokio::spawn(async move {
            let service = service_fn(move |request| {
                let inspect = Arc::clone(&inspect);
                async move { Ok::<_, Infallible>(answer(&*inspect, &request).await) }
            });
            if let Err(error) = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await {
                debug!(%error, "admin connection ended");
            }
        });
    }
}

async fn answer(inspect: &dyn Inspect, request: &Request<Incoming>) -> Response<Body> {
    let allowed = match request.uri().path() {
        "/v1/status" | "/v1/ports" | "/v1/counters" | "/v1/source" => Method::GET,
        "/v1/trace" | "/v1/source/accept" => Method::POST,
        path => return problem(StatusCode::NOT_FOUND, format!("no such resource: {path}")),
    };
    if request.method() != allowed {
        let mut response = problem(StatusCode::METHOD_NOT_ALLOWED, format!("use {allowed}"));
        if let Ok(allowed) = HeaderValue::from_str(allowed.as_str()) {
            response.headers_mut().insert(ALLOW, allowed);
        }
        return response;
    }
    match request.uri().path() {
        "/v1/status" => json(StatusCode::OK, &inspect.status()),
        "/v1/ports" => json(StatusCode::OK, &inspect.ports()),
        "/v1/counters" => json(StatusCode::OK, &inspect.counters()),
        "/v1/source" => json(StatusCode::OK, &inspect.source()),
        "/v1/source/accept" => match inspect.accept_source().await {
            Ok(removed) => json(StatusCode::OK, &Accepted { removed }),
            Err(reason) => problem(StatusCode::CONFLICT, reason),
        },
        _ => trace(inspect, request.uri().query().unwrap_or_default()).await,
    }
}

async fn trace(inspect: &dyn Inspect, query: &str) -> Response<Body> {
    let Some(port) = query.split('&').find_map(|pair| pair.strip_prefix("port=")).and_then(decode) else {
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

/// Undoes percent-encoding.
fn decode(text: &str) -> Option<String> {
    let mut bytes = Vec::new();
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'%' => {
                let digits = [rest.next()?, rest.next()?];
                u8::from_str_radix(std::str::from_utf8(&digits).ok()?, 16).ok()?
            }
            byte => byte,
        });
    }
    String::from_utf8(bytes).ok().filter(|text| !text.is_empty())
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
