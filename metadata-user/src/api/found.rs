//! From what was found, or not, to an answer: what Nova does with HEAD, OPTIONS and errors, for every kind of instance.

use std::borrow::Cow;

use bytes::Bytes;

use super::error::Refusal;
use super::{Answer, HTML, Request, Status};

/// What was found.
pub(super) struct Found {
    pub(super) content_type: Option<Cow<'static, str>>,
    pub(super) body: Bytes,
}

impl Found {
    pub(super) fn new(content_type: &'static str, body: Bytes) -> Self {
        Self { content_type: Some(Cow::Borrowed(content_type)), body }
    }
}

/// Puts the answer together.
pub(super) fn answer(found: Result<Found, Refusal>, request: &Request<'_>) -> Answer {
    match (found, request.method) {
        (Ok(found), _) => Answer { status: Status::Ok, content_type: found.content_type, body: found.body },
        (Err(refusal), "HEAD") => empty(refusal.status(), Some(HTML)),
        // Nova's CORS filter takes every OPTIONS that fails for a preflight request.
        (Err(_), "OPTIONS") => empty(Status::Ok, None),
        (Err(refusal), _) => {
            let (content_type, body) = refusal.body(request.accept);
            Answer { status: refusal.status(), content_type: Some(Cow::Borrowed(content_type)), body }
        }
    }
}

fn empty(status: Status, content_type: Option<&'static str>) -> Answer {
    Answer { status, content_type: content_type.map(Cow::Borrowed), body: Bytes::new() }
}
