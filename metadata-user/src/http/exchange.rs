//! One request on its way to an answer.

use std::cell::OnceCell;
use std::sync::Arc;

use hyper::body::Incoming;
use hyper::header::{ACCEPT, CONNECTION, ETAG, HeaderMap, HeaderName, HeaderValue};
use hyper::http::request::Parts;
use hyper::{Method, Response, Uri};
use tokio::time::Instant;
use uuid::Uuid;

use super::access::Access;
use super::body::{self, AnswerBody};
use super::error::Ended;
use super::progress::Progress;
use super::record::Outcome;
use super::session::TokenUse;
use super::terms::Terms;
use super::{record, respond, session, target};
use crate::api::{About, Answer, ETag, Own, PASSWORD_LIMIT, Request as Asked};
use crate::audit::TokenMode;
use crate::clock;
use crate::drain::Drain;
use crate::record::LONGEST_ATTRIBUTE;

/// What the requests of one connection share.
#[derive(Debug)]
pub(super) struct Shared<C> {
    pub(super) content: C,
    pub(super) progress: Arc<Progress>,
    pub(super) terms: Arc<Terms>,
    pub(super) drain: Drain,
}

/// A wait for a change.
#[derive(Clone, Copy, Debug)]
pub(super) struct Change {
    /// What the client has.
    pub(super) known: ETag,
    /// When the wait ends at the latest.
    pub(super) until: Instant,
    /// Whether it has ended: what is there now is the answer.
    pub(super) is_over: bool,
}

/// A request. It is recorded when it is answered, or when this is dropped before that. Without `Debug`, as its body may be a
/// password.
pub(super) struct Exchange<C: Access> {
    pub(super) shared: Arc<Shared<C>>,
    parts: Parts,
    body: Vec<u8>,
    /// Beside those that every answer has.
    header: Option<(HeaderName, HeaderValue)>,
    etag: Option<ETag>,
    /// What is known of the wait for a change; `None`: it does not wait for one (yet).
    pub(super) change: Option<Change>,
    token_use: Option<TokenUse>,
    /// The name of the identity token that is the answer.
    token_id: Option<Uuid>,
    about: OnceCell<About>,
    is_recorded: bool,
}

impl<C: Access> Exchange<C> {
    /// Begins with the head of a request.
    pub(super) fn new(shared: Arc<Shared<C>>, mut parts: Parts) -> Self {
        session::hide(&mut parts.headers);
        Self {
            shared,
            parts,
            body: Vec::new(),
            header: None,
            etag: None,
            change: None,
            token_use: None,
            token_id: None,
            about: OnceCell::new(),
            is_recorded: false,
        }
    }

    /// Returns the method.
    pub(super) fn method(&self) -> &Method {
        &self.parts.method
    }

    /// Returns the request target.
    pub(super) fn uri(&self) -> &Uri {
        &self.parts.uri
    }

    /// Returns the headers.
    pub(super) fn headers(&self) -> &HeaderMap {
        &self.parts.headers
    }

    /// Gives the answer one more header, instead of one that it was given before.
    pub(super) fn add_header(&mut self, name: HeaderName, value: HeaderValue) {
        self.header = Some((name, value));
    }

    /// The answer has this tag, or none.
    pub(super) fn set_etag(&mut self, etag: Option<ETag>) {
        self.etag = etag;
    }

    /// Returns what the request has to do with session tokens; `None`: that was not looked at.
    pub(super) fn token_use(&self) -> Option<TokenUse> {
        self.token_use
    }

    /// Keeps what the request has to do with session tokens.
    pub(super) fn set_token_use(&mut self, token_use: TokenUse) {
        self.token_use = Some(token_use);
    }

    /// The answer is the identity token of this name.
    pub(super) fn set_token_id(&mut self, id: Uuid) {
        self.token_id = Some(id);
    }

    /// Tells whether the body has to be read before there can be an answer.
    pub(super) fn wants_body(&self) -> bool {
        match self.parts.method {
            Method::POST => true,
            Method::PUT => self.means_attributes(),
            _ => false,
        }
    }

    /// Tells whether it acknowledges an event, where guests have what is beyond Nova's answers.
    pub(super) fn acknowledges(&self) -> bool {
        self.parts.method == Method::POST
            && self.about().own == Some(Own::Acknowledgement)
            && self.shared.content.caller().policy.extensions.enabled
    }

    /// Tells whether it is about attributes, where guests have them.
    pub(super) fn means_attributes(&self) -> bool {
        let may = || {
            let extensions = self.shared.content.caller().policy.extensions;
            extensions.enabled && extensions.attributes_per_instance > 0
        };
        self.about().own == Some(Own::Attributes) && may()
    }

    /// Reads the body.
    pub(super) async fn read(&mut self, incoming: Incoming) -> Result<(), Ended> {
        let most = if self.parts.method == Method::PUT { LONGEST_ATTRIBUTE } else { PASSWORD_LIMIT };
        self.body = body::read(incoming, body::content_length(&self.parts.headers), most).await?;
        Ok(())
    }

    /// The request is complete.
    pub(super) fn received(&self) {
        self.shared.progress.received();
    }

    /// Tells whether the target is longer than it may be.
    pub(super) fn is_target_too_long(&self) -> bool {
        target::of(&self.parts.method, &self.parts.uri).len() > self.shared.terms.heads.target
    }

    /// Returns what the request is about.
    pub(super) fn about(&self) -> About {
        *self.about.get_or_init(|| About::of(target::of(&self.parts.method, &self.parts.uri)))
    }

    /// Returns the request as the content takes it.
    pub(super) fn asked(&self) -> Asked<'_> {
        Asked {
            method: self.parts.method.as_str(),
            target: target::of(&self.parts.method, &self.parts.uri),
            accept: self.parts.headers.get(ACCEPT).and_then(|accept| accept.to_str().ok()),
            content_length: body::content_length(&self.parts.headers),
            body: &self.body,
            today: self.shared.content.today(),
            seed: &clock::seed,
        }
    }

    /// Ends with this answer; `None`: the content is not there.
    pub(super) fn respond(mut self, answer: Option<Answer>) -> Response<AnswerBody> {
        let head = self.parts.method == Method::HEAD;
        // Before the response takes the headers.
        let (status, bytes) = match &answer {
            Some(answer) => (answer.status.code(), answer.body.len()),
            None => (503, respond::NOT_READY.len()),
        };
        let took = self.shared.progress.since_received();
        self.record(Some(Outcome { status, bytes: if head { 0 } else { bytes as u64 }, took }));
        // The response takes over the request's table, which hyper takes back for the next request.
        let headers = std::mem::take(&mut self.parts.headers);
        let header = self.header.take();
        let mut response = match answer {
            Some(answer) => respond::respond(headers, answer, head),
            None => respond::not_ready(headers, head),
        };
        if let Some((name, value)) = header {
            response.headers_mut().insert(name, value);
        }
        if let Some(etag) = self.etag.take().and_then(|etag| HeaderValue::try_from(etag.to_string()).ok()) {
            response.headers_mut().insert(ETAG, etag);
        }
        if self.shared.drain.has_begun() || self.shared.progress.must_leave() {
            // hyper ends the connection with it.
            response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
        }
        response.map(|body| AnswerBody::new(body, &self.shared.progress))
    }

    fn record(&mut self, outcome: Option<Outcome>) {
        self.is_recorded = true;
        let tokens = record::Tokens { mode: self.token_use.map_or(TokenMode::None, TokenUse::mode), id: self.token_id };
        record::answered(&self.shared.terms.counters, &self.shared.content, &self.parts, tokens, outcome);
    }
}

impl<C: Access> Drop for Exchange<C> {
    fn drop(&mut self) {
        if !self.is_recorded {
            self.record(None);
        }
    }
}
