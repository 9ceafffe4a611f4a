//! The answer as HTTP.

use std::borrow::Cow;

use bytes::Bytes;
use http_body_util::Full;
use hyper::header::{CONTENT_LENGTH, CONTENT_TYPE, HeaderMap, HeaderValue, RETRY_AFTER};
use hyper::{Response, StatusCode};

use crate::api::Answer;

/// What every path answers until the content is there.
const NOT_READY: &str = "The metadata of this instance is not ready yet. Ask again in a second.\n";

/// Builds a response in the table of the request's headers, which hyper takes back for the next request.
pub(super) fn respond(mut headers: HeaderMap, answer: Answer, head: bool) -> Response<Full<Bytes>> {
    headers.clear();
    if let Some(content_type) = answer.content_type {
        let value = match content_type {
            Cow::Borrowed(text) => Some(HeaderValue::from_static(text)),
            Cow::Owned(text) => HeaderValue::from_str(&text).ok(),
        };
        if let Some(value) = value {
            headers.insert(CONTENT_TYPE, value);
        }
    }
    if head {
        // Otherwise hyper writes it, from the body, without a detour.
        headers.insert(CONTENT_LENGTH, answer.content_length.into());
    }
    let body = if head { Bytes::new() } else { answer.body };
    let mut response = Response::new(Full::new(body));
    *response.headers_mut() = headers;
    *response.status_mut() = StatusCode::from_u16(answer.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    response
}

/// Builds the answer of an instance without content.
pub(super) fn not_ready(headers: HeaderMap, head: bool) -> Response<Full<Bytes>> {
    let answer = Answer {
        status: 503,
        content_type: Some(Cow::Borrowed("text/plain; charset=UTF-8")),
        body: Bytes::from_static(NOT_READY.as_bytes()),
        content_length: NOT_READY.len() as u64,
        effect: None,
    };
    let mut response = respond(headers, answer, head);
    response.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static("1"));
    response
}
