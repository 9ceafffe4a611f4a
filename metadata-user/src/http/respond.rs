//! The answer as HTTP.

use std::borrow::Cow;

use bytes::Bytes;
use http_body_util::Full;
use hyper::header::{CONTENT_LENGTH, CONTENT_TYPE, HeaderMap, HeaderValue, RETRY_AFTER};
use hyper::{Response, StatusCode};

use crate::api::Answer;

/// What every path answers until the content has arrived. Ohai takes it for a session token where it has asked for one, and sends it
/// as a header from then on: so it has no line break, which Ruby would refuse, nor anything else that a header cannot have.
pub(super) const NOT_READY: &str = "The metadata of this instance is not ready yet. Ask again in a second.";

/// Builds a response in the table of the request's headers, which hyper takes back for the next request.
pub(super) fn respond(headers: HeaderMap, answer: Answer, head: bool) -> Response<Full<Bytes>> {
    let status = StatusCode::from_u16(answer.status.code()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let mut response = build(headers, status, answer.content_type, answer.body, head);
    if matches!(status, StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE) {
        response.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static("1"));
    }
    response
}

/// Builds the answer of an instance without content.
pub(super) fn not_ready(headers: HeaderMap, head: bool) -> Response<Full<Bytes>> {
    let (content_type, body) = (Cow::Borrowed("text/plain; charset=UTF-8"), Bytes::from_static(NOT_READY.as_bytes()));
    let mut response = build(headers, StatusCode::SERVICE_UNAVAILABLE, Some(content_type), body, head);
    response.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static("1"));
    response
}

/// Here, and nowhere else, HEAD loses its body and keeps the body's length.
fn build(
    mut headers: HeaderMap,
    status: StatusCode,
    content_type: Option<Cow<'static, str>>,
    body: Bytes,
    head: bool,
) -> Response<Full<Bytes>> {
    headers.clear();
    let value = content_type.and_then(|content_type| match content_type {
        Cow::Borrowed(text) => Some(HeaderValue::from_static(text)),
        Cow::Owned(text) => HeaderValue::from_str(&text).ok(),
    });
    if let Some(value) = value {
        headers.insert(CONTENT_TYPE, value);
    }
    if head && status != StatusCode::NOT_MODIFIED {
        // Otherwise hyper writes it, from the body, without a detour.
        headers.insert(CONTENT_LENGTH, body.len().into());
    }
    let mut response = Response::new(Full::new(if head { Bytes::new() } else { body }));
    *response.headers_mut() = headers;
    *response.status_mut() = status;
    response
}
