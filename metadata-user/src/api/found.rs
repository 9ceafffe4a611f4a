//! From what was found, or not, to an answer: what Nova does with HEAD, OPTIONS and errors, for every kind of instance.

use std::borrow::Cow;

use bytes::Bytes;

use super::error::Refusal;
use super::{Answer, Effect, HTML, Request};

/// What was found.
pub(super) struct Found {
    pub(super) content_type: Option<Cow<'static, str>>,
    pub(super) body: Bytes,
    pub(super) effect: Option<Effect>,
}

impl Found {
    pub(super) fn new(content_type: &'static str, body: Bytes) -> Self {
        Self { content_type: Some(Cow::Borrowed(content_type)), body, effect: None }
    }
}

/// Puts the answer together.
pub(super) fn answer(found: Result<Found, Refusal>, request: &Request<'_>) -> Answer {
    match (found, request.method) {
        (Ok(found), method) => {
            let content_length = found.body.len() as u64;
            let body = if method == "HEAD" { Bytes::new() } else { found.body };
            Answer { status: 200, content_type: found.content_type, body, content_length, effect: found.effect }
        }
        (Err(refusal), "HEAD") => empty(refusal.status(), Some(HTML)),
        // Nova's CORS filter takes every OPTIONS that fails for a preflight request.
        (Err(_), "OPTIONS") => empty(200, None),
        (Err(refusal), _) => {
            let (content_type, body) = refusal.body(request.accept);
            let content_length = body.len() as u64;
            Answer {
                status: refusal.status(),
                content_type: Some(Cow::Borrowed(content_type)),
                body,
                content_length,
                effect: None,
            }
        }
    }
}

fn empty(status: u16, content_type: Option<&'static str>) -> Answer {
    Answer {
        status,
        content_type: content_type.map(Cow::Borrowed),
        body: Bytes::new(),
        content_length: 0,
        effect: None,
    }
}
