//! Refusals by an instance's policy: ours, not Nova's, in the form of Nova's errors.
//!
//! Promises: the text says why, in words for whoever runs the guest; it holds nothing of the request.

use std::borrow::Cow;

use super::error::Refusal;
use super::{Answer, Request};

/// Why an instance's policy refuses a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Denial {
    /// 404: there is no such path for this instance, now.
    Absent,
    /// 403: metadata is switched off.
    MetadataOff,
    /// 403: metadata over IPv6 is switched off.
    Ipv6Off,
    /// 403: the source port is 1024 or above.
    Unprivileged,
    /// 403: a proxy forwards the request for a session token.
    Forwarded,
    /// 400: a session token is wanted for no time, or for a time that is not possible.
    TokenTtl,
    /// 405: a session token is had by PUT.
    TokenMethod,
    /// 401: there is no session token.
    TokenMissing,
    /// 401: the session token is not valid.
    TokenInvalid,
}

impl Denial {
    /// Returns the answer. Unlike Nova's errors it is the same with every method: a preflight request is refused too.
    #[must_use]
    pub fn answer(self, request: &Request<'_>) -> Answer {
        let refusal = Refusal::Denied(self);
        let (content_type, body) = refusal.body(request.accept);
        Answer { status: refusal.status(), content_type: Some(Cow::Borrowed(content_type)), body }
    }
}
