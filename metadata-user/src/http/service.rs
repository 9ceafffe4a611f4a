//! One request: who is asking, what they may read, the answer.
//!
//! Promises: the owner of the connection is looked at for every request; the path that decides is the one on the
//! request line, percent-encoding and all; where the body is rendered already, answering allocates nothing (the
//! response takes over the request's header table).
//!
//! Nothing here waits for a source, but for two requests to an instance of an unchanged OpenStack: a path that was not
//! read ahead, and the POST of a password. They wait no longer than a request may take, and are 503 then.
//!
//! A request that comes before its content waits for it, since some clients ask but once or twice: see
//! [`super::Times::ready`].

use std::borrow::Cow;
use std::future::{Future, Ready, ready};
use std::pin::Pin;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::{Body, Incoming};
use hyper::header::{ACCEPT, CONTENT_LENGTH, CONTENT_TYPE, HeaderMap, HeaderValue, RETRY_AFTER};
use hyper::http::request::Parts;
use hyper::{Method, Request, Response, StatusCode};
use tokio::time::{Instant, sleep_until, timeout_at};
use tracing::{debug, info};

use super::body::AnswerBody;
use super::counters::count;
use super::error::Ended;
use super::progress::Progress;
use super::{Counters, target};
use crate::api::{Answer, Date, Effect, NovaPages, PASSWORD_LIMIT, RenderedInstance, Reply, Request as Asked};
use crate::clock;
use crate::drain::Drain;
use crate::identity::{Identity, Lease};
use crate::origin::{Origin, Outcome, Want};
use crate::record::InstanceId;
use crate::store::{Content, Store};

/// What every path answers until the content is there.
const NOT_READY: &str = "The metadata of this instance is not ready yet. Ask again in a second.\n";

/// How often a request that waits looks for its content. Looking is cheap, and many may wait while thousands of documents
/// arrive, each of which would wake all of them.
const LOOK: Duration = Duration::from_millis(100);

/// Headers by which Neutron's agents and load balancers tell Nova who is asking, in hyper's lower case. Nova trusts
/// them; here they mean nothing, but a guest that sends one is trying something.
const IDENTITY_HEADERS: [&str; 5] =
    ["x-instance-id", "x-instance-id-signature", "x-tenant-id", "x-metadata-provider", "x-metadata-provider-signature"];

/// What may be read on a connection.
pub trait Access: Send + Sync + 'static {
    /// Says who is asking, now.
    fn resolve(&self) -> Resolution;

    /// Keeps the password that the guest posted, unless there is one. Returns whether it is kept.
    fn keep_password(&self, instance: InstanceId, password: Arc<str>) -> bool;

    /// Asks the controller, and waits for what becomes of it.
    fn ask(&self, _: InstanceId, _: Want) -> impl Future<Output = Outcome> + Send {
        ready(Outcome::Unavailable)
    }

    /// Returns the date, UTC.
    fn today(&self) -> Date {
        clock::today()
    }

    /// Completes when nothing may be read any more.
    fn ended(&self) -> impl Future<Output = ()> + Send;

    /// Names the connection in the log.
    fn name(&self) -> u32;
}

/// Who is asking.
#[derive(Clone, Debug)]
pub enum Resolution {
    /// Nobody any more: close without an answer.
    Ended,
    /// Somebody whose content is not there (yet).
    NotReady,
    /// This instance.
    Ready(Content),
}

/// What the holder of a lease may read.
#[derive(Debug)]
pub(super) struct Guest {
    pub(super) tag: u32,
    pub(super) lease: Lease,
    pub(super) store: Arc<Store>,
    pub(super) origin: Option<Origin>,
}

impl Access for Guest {
    fn resolve(&self) -> Resolution {
        let Some(identity) = self.lease.identity() else {
            return Resolution::Ended;
        };
        match &*identity {
            Identity::Held => Resolution::NotReady,
            Identity::Bound { instance, .. } => {
                self.store.served(*instance).map_or(Resolution::NotReady, Resolution::Ready)
            }
        }
    }

    fn keep_password(&self, instance: InstanceId, password: Arc<str>) -> bool {
        self.store.set_password(instance, password)
    }

    async fn ask(&self, instance: InstanceId, want: Want) -> Outcome {
        match &self.origin {
            Some(origin) => origin.ask(instance, want).await,
            None => Outcome::Unavailable,
        }
    }

    async fn ended(&self) {
        self.lease.ended().await;
    }

    fn name(&self) -> u32 {
        self.tag
    }
}

/// One instance for ever, on a date of choice: for tests.
#[derive(Debug)]
pub struct Fixed {
    instance: Mutex<Arc<RenderedInstance>>,
    today: Option<Date>,
}

impl Fixed {
    /// Returns the content of this instance.
    #[must_use]
    pub fn new(instance: Arc<RenderedInstance>) -> Self {
        Self { instance: Mutex::new(instance), today: None }
    }

    /// Returns it on this date.
    #[must_use]
    pub fn on(self, today: Date) -> Self {
        Self { today: Some(today), ..self }
    }
}

impl Access for Fixed {
    fn resolve(&self) -> Resolution {
        Resolution::Ready(Content::Rendered(Arc::clone(&self.instance.lock().unwrap_or_else(PoisonError::into_inner))))
    }

    fn keep_password(&self, _: InstanceId, password: Arc<str>) -> bool {
        let mut instance = self.instance.lock().unwrap_or_else(PoisonError::into_inner);
        let first = instance.password().is_none();
        if first {
            *instance = Arc::new(instance.with_password(password));
        }
        first
    }

    fn today(&self) -> Date {
        self.today.unwrap_or_else(clock::today)
    }

    async fn ended(&self) {
        std::future::pending().await
    }

    fn name(&self) -> u32 {
        0
    }
}

/// The service of one connection, as hyper drives it.
#[derive(Debug)]
pub(super) struct Service<C> {
    shared: Arc<Shared<C>>,
}

#[derive(Debug)]
struct Shared<C> {
    content: Arc<C>,
    counters: Arc<Counters>,
    progress: Arc<Progress>,
    drain: Drain,
}

impl<C: Access> Service<C> {
    pub(super) fn new(content: Arc<C>, counters: Arc<Counters>, progress: Arc<Progress>, drain: Drain) -> Self {
        Self { shared: Arc::new(Shared { content, counters, progress, drain }) }
    }
}

type Answered = Result<Response<AnswerBody>, Ended>;

/// An answer that is there at once, or after the body was read or the controller asked.
pub(super) enum Answering {
    Now(Ready<Answered>),
    Later(Pin<Box<dyn Future<Output = Answered> + Send>>),
}

impl Future for Answering {
    type Output = Answered;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Answered> {
        match self.get_mut() {
            Self::Now(answer) => Pin::new(answer).poll(cx),
            Self::Later(answer) => answer.as_mut().poll(cx),
        }
    }
}

impl<C: Access> hyper::service::Service<Request<Incoming>> for Service<C> {
    type Response = Response<AnswerBody>;
    type Error = Ended;
    type Future = Answering;

    fn call(&self, request: Request<Incoming>) -> Answering {
        let (parts, body) = request.into_parts();
        self.shared.progress.begin(body.size_hint().exact());
        if parts.method != Method::POST || body.is_end_stream() {
            self.shared.received(&parts);
            match self.shared.step(&parts, &[]) {
                Ok(Step::Ask(instance, want)) => {
                    let shared = Arc::clone(&self.shared);
                    return Answering::Later(Box::pin(async move { shared.ask(parts, &[], instance, want).await }));
                }
                Ok(Step::Wait) => {
                    let shared = Arc::clone(&self.shared);
                    return Answering::Later(Box::pin(async move { shared.when_ready(parts, &[]).await }));
                }
                Ok(Step::Answer(answer)) => return Answering::Now(ready(Ok(self.shared.respond(parts, answer)))),
                Err(Ended) => return Answering::Now(ready(Err(Ended))),
            }
        }
        let shared = Arc::clone(&self.shared);
        Answering::Later(Box::pin(async move {
            let body = read(body, content_length(&parts.headers)).await?;
            shared.received(&parts);
            match shared.step(&parts, &body)? {
                Step::Answer(answer) => Ok(shared.respond(parts, answer)),
                Step::Ask(instance, want) => shared.ask(parts, &body, instance, want).await,
                Step::Wait => shared.when_ready(parts, &body).await,
            }
        }))
    }
}

/// What to do next about a request.
enum Step {
    /// Answer it; `None`: the content is not there.
    Answer(Option<Answer>),
    /// Ask the controller first.
    Ask(InstanceId, Want),
    /// Wait for the content, or answer that it is not there.
    Wait,
}

/// Reads a body, at most one byte more than a password may have: `api` refuses it by its length.
async fn read(mut body: Incoming, announced: Option<u64>) -> Result<Vec<u8>, Ended> {
    let limit = PASSWORD_LIMIT + 1;
    let mut bytes = Vec::new();
    if announced.is_some_and(|length| length > PASSWORD_LIMIT as u64) {
        return Ok(bytes);
    }
    while bytes.len() < limit {
        match body.frame().await {
            None => break,
            Some(Ok(frame)) => {
                if let Some(data) = frame.data_ref() {
                    bytes.extend_from_slice(data);
                }
            }
            // The guest left, or its chunks are no chunks.
            Some(Err(_)) => return Err(Ended),
        }
    }
    bytes.truncate(limit);
    Ok(bytes)
}

fn content_length(headers: &HeaderMap) -> Option<u64> {
    headers.get(CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

impl<C: Access> Shared<C> {
    fn received(&self, parts: &Parts) {
        self.progress.received();
        if let Some(header) = IDENTITY_HEADERS.iter().find(|header| parts.headers.contains_key(**header)) {
            let times = self.counters.claimed_identity.fetch_add(1, Ordering::Relaxed) + 1;
            // The 1st, 2nd, 4th, 8th …: a guest cannot fill the log with it.
            if times.is_power_of_two() {
                info!(tag = self.content.name(), header, times, "a guest sent an identity header: ignored");
            }
        }
    }

    fn asked<'a>(&self, parts: &'a Parts, body: &'a [u8]) -> Asked<'a> {
        Asked {
            method: parts.method.as_str(),
            target: target::of(&parts.method, &parts.uri),
            accept: parts.headers.get(ACCEPT).and_then(|accept| accept.to_str().ok()),
            content_length: content_length(&parts.headers),
            body,
            today: self.content.today(),
            seed: &clock::seed,
        }
    }

    fn step(&self, parts: &Parts, body: &[u8]) -> Result<Step, Ended> {
        let asked = self.asked(parts, body);
        let instance = match self.content.resolve() {
            Resolution::Ended => {
                self.progress.cut();
                return Err(Ended);
            }
            Resolution::NotReady => return Ok(Step::Wait),
            Resolution::Ready(Content::Rendered(instance)) => instance,
            Resolution::Ready(Content::NovaPages(copied)) => {
                return Ok(match copied.reply(&asked) {
                    Reply::Answer(answer) => Step::Answer(Some(answer)),
                    Reply::Missing(path) => Step::Ask(copied.uuid(), Want::Page(path)),
                    Reply::Password { path, password } => Step::Ask(copied.uuid(), Want::Password { path, password }),
                });
            }
        };
        let mut answer = Some(instance.answer(&asked));
        if let Some(Answer { effect: Some(Effect::SetPassword(password)), .. }) = &answer {
            answer = self.set_password(instance.record().uuid, Arc::clone(password), &asked, answer.clone())?;
        }
        Ok(Step::Answer(answer))
    }

    /// Answers as soon as the content is there; that it is not, when the time is over or the daemon ends.
    async fn when_ready(&self, parts: Parts, body: &[u8]) -> Answered {
        let deadline = Instant::now() + self.progress.patience_for_content();
        count(&self.counters.waited);
        loop {
            let now = Instant::now();
            if now >= deadline || self.drain.has_begun() {
                return Ok(self.respond(parts, None));
            }
            tokio::select! {
                () = sleep_until(deadline.min(now + LOOK)) => {}
                () = self.drain.begun() => {}
            }
            match self.step(&parts, body)? {
                Step::Wait => {}
                Step::Answer(answer) => return Ok(self.respond(parts, answer)),
                Step::Ask(instance, want) => return self.ask(parts, body, instance, want).await,
            }
        }
    }

    /// Waits for the controller, then answers. Who is asking is looked at again after it.
    async fn ask(&self, parts: Parts, body: &[u8], instance: InstanceId, want: Want) -> Answered {
        let deadline = Instant::now() + self.progress.patience();
        let mut next = (instance, want);
        loop {
            let is_page = matches!(next.1, Want::Page(_));
            let outcome =
                timeout_at(deadline, self.content.ask(next.0, next.1.clone())).await.unwrap_or(Outcome::Unavailable);
            if let Outcome::Posted(status) = outcome {
                let answer = match self.content.resolve() {
                    Resolution::Ended => {
                        self.progress.cut();
                        return Err(Ended);
                    }
                    Resolution::Ready(now) if now.uuid() == next.0 => {
                        NovaPages::posted(status, &self.asked(&parts, body))
                    }
                    _ => None,
                };
                return Ok(self.respond(parts, answer));
            }
            match self.step(&parts, body)? {
                Step::Answer(answer) => return Ok(self.respond(parts, answer)),
                // The page was read first, to know whether there is a password.
                Step::Ask(instance, want @ Want::Password { .. }) if is_page && outcome == Outcome::Kept => {
                    next = (instance, want);
                }
                Step::Ask(..) | Step::Wait => return Ok(self.respond(parts, None)),
            }
        }
    }

    fn respond(&self, parts: Parts, answer: Option<Answer>) -> Response<AnswerBody> {
        let status = answer.as_ref().map_or(503, |answer| answer.status);
        self.counters.answered(status);
        debug!(
            tag = self.content.name(),
            method = parts.method.as_str(),
            target = target::of(&parts.method, &parts.uri),
            status,
            "answered"
        );
        let head = parts.method == Method::HEAD;
        let response = match answer {
            Some(answer) => respond(parts.headers, answer, head),
            None => not_ready(parts.headers, head),
        };
        response.map(|body| AnswerBody::new(body, &self.progress))
    }

    /// Keeps a password, then returns the answer; where another request was first, that of the changed instance.
    fn set_password(
        &self,
        instance: InstanceId,
        password: Arc<str>,
        asked: &Asked<'_>,
        answer: Option<Answer>,
    ) -> Result<Option<Answer>, Ended> {
        if self.content.keep_password(instance, password) {
            return Ok(answer);
        }
        match self.content.resolve() {
            Resolution::Ready(Content::Rendered(instance)) => Ok(Some(instance.answer(asked))),
            Resolution::Ready(Content::NovaPages(_)) | Resolution::NotReady => Ok(None),
            Resolution::Ended => Err(Ended),
        }
    }
}

/// Builds a response in the table of the request's headers, which hyper takes back for the next request.
fn respond(mut headers: HeaderMap, answer: Answer, head: bool) -> Response<Full<Bytes>> {
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

fn not_ready(headers: HeaderMap, head: bool) -> Response<Full<Bytes>> {
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
