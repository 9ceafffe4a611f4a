//! Asks Nova for one instance's pages, as Neutron's agents do.
//!
//! Promises:
//! - only status 200, or 404 with Nova's own body, counts as an answer of Nova; anything else is a failure of
//!   the endpoint, and the next one is asked;
//! - a path on which Nova crashes, or that something before Nova refuses, is distinguished from a Nova that is down by asking for
//!   a page that every instance has: no guest's path takes an endpoint away from others;
//! - a crash counts as 404 for a path of the EC2 tree only if it crashes twice, and only where nothing is known;
//! - requests in flight are bounded, in turn by who waited longest, with places of their own for those that a guest
//!   waits for;
//! - nothing of the secret leaves but signatures.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use bytes::Bytes;
use http_body_util::Full;
use hyper::header::{CONTENT_TYPE, HOST};
use hyper::{Method, Request, Response};
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio_rustls::TlsConnector;
use tracing::debug;

use super::Names;
use super::endpoints::{EndpointFailure, Endpoints};
use super::prefetch::PROOF;
use crate::allowance::Allowance;
use crate::api::{NOT_FOUND_TEXT, Page, Password, Written};
use crate::backoff;
use crate::config;
use crate::error_text;
use crate::fetch;
use crate::percent;
use crate::record::{InstanceId, ProjectId};
use crate::secret::sign::Signer;
use crate::slowness::{Slowness, Timed};

/// Most bytes of an answer: user data has at most 64 KiB, vendor data is the operator's.
const BODY_LIMIT: usize = 16 << 20;

/// Longest project, as in Nova's database.
const LONGEST_PROJECT: usize = 255;

/// Body of Nova's answer to a signature that was made with another secret.
const WRONG_SECRET: &str = "Invalid proxy request signature.";

/// The instance that a request to Nova is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Requester {
    pub(crate) instance: InstanceId,
    pub(crate) project: ProjectId,
    /// `X-Forwarded-For`: Nova shows it as `local-ipv4` where it knows no better.
    pub(crate) address: Option<IpAddr>,
}

/// What a request to Nova is for: decides which ones wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Urgency {
    /// Prefetch and refresh: at the configured rate, where there is one.
    Background,
    /// Something changed.
    #[cfg_attr(not(feature = "etcd"), expect(dead_code, reason = "the controller alone hears of changes"))]
    Change,
    /// A guest waits.
    Guest,
}

/// Why there is no usable answer from Nova.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NovaError {
    /// No endpoint answers, or all refuse the signature.
    Unavailable,
    /// Nova does not know the instance, or not in this project.
    Unknown,
    /// Nova crashes on this path alone, again and again.
    Crash,
    /// Nova gives no valid answer for this path alone.
    Broken,
}

/// What asks Nova.
pub(crate) struct Client {
    http: fetch::Client,
    pub(crate) endpoints: Endpoints,
    signer: Signer,
    all: Semaphore,
    background: Semaphore,
    /// The rate of what no change and no guest causes.
    pace: Option<Arc<Allowance>>,
    counts: Counts,
}

/// Requests so far.
#[derive(Debug, Default)]
pub(crate) struct Counts {
    pub(crate) requests: AtomicU64,
    /// Those that failed because of the endpoint.
    pub(crate) failures: AtomicU64,
    pub(crate) in_flight: AtomicUsize,
    pub(crate) slowness: Slowness,
}

/// A request in flight, until it is dropped.
struct InFlight<'a>(&'a Counts, #[expect(dead_code, reason = "held for its drop")] Timed<'a>);

impl Drop for InFlight<'_> {
    fn drop(&mut self) {
        self.0.in_flight.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Counts {
    fn begin(&self) -> InFlight<'_> {
        self.requests.fetch_add(1, Ordering::Relaxed);
        self.in_flight.fetch_add(1, Ordering::Relaxed);
        InFlight(self, self.slowness.begin())
    }
}

impl Client {
    /// Returns what asks the settings' endpoints. `tls` is needed if one is `https`.
    pub(crate) fn new(
        settings: &config::nova::Nova,
        tls: Option<TlsConnector>,
        signer: Signer,
        names: &'static Names,
    ) -> Self {
        let http = fetch::Client::new(settings.connect_timeout, settings.read_timeout, BODY_LIMIT, tls);
        let kept = (settings.requests / 4).max(1);
        Self {
            http: http.keeping(settings.requests),
            endpoints: Endpoints::new(settings.endpoints.clone(), names, backoff::random()),
            signer,
            all: Semaphore::new(settings.requests),
            background: Semaphore::new(settings.requests.saturating_sub(kept).max(1)),
            pace: None,
            counts: Counts::default(),
        }
    }

    /// Has background requests wait for their turn at this rate.
    #[cfg_attr(not(feature = "etcd"), expect(dead_code, reason = "the controller alone keeps a rate"))]
    pub(crate) fn paced(self, pace: Arc<Allowance>) -> Self {
        Self { pace: Some(pace), ..self }
    }

    #[cfg_attr(not(feature = "etcd"), expect(dead_code, reason = "the controller alone shows them"))]
    pub(crate) fn counts(&self) -> &Counts {
        &self.counts
    }

    /// Reads a page. A path that is not there is a page too, if the instance is.
    pub(crate) async fn page(&self, who: &Requester, path: &str, urgency: Urgency) -> Result<Page, NovaError> {
        let page = match self.look(who, path, urgency).await {
            Err(NovaError::Crash) if urgency == Urgency::Guest => crashed(path).ok_or(NovaError::Broken)?,
            page => page?,
        };
        if !page.is_found() && urgency == Urgency::Guest {
            // Nova answers the same for an instance that it does not know.
            self.look(who, PROOF, urgency).await?;
        }
        Ok(page)
    }

    async fn look(&self, who: &Requester, path: &str, urgency: Urgency) -> Result<Page, NovaError> {
        let _places = self.places(urgency).await;
        for endpoint in self.endpoints.awake() {
            match self.ask(endpoint, who, Method::GET, path, None).await {
                Ok(answer) => match read(&answer) {
                    Some(page) => {
                        self.endpoints.answered(endpoint);
                        return if !page.is_found() && path == PROOF { Err(NovaError::Unknown) } else { Ok(page) };
                    }
                    None if !is_about_secret(&answer) && self.is_known(endpoint, who, path).await => {
                        return Err(self.only_here(endpoint, who, path, answer.status() == 500).await);
                    }
                    None => self.refused(endpoint, &answer),
                },
                Err(error) if error.is_unanswered() && self.is_known(endpoint, who, path).await => {
                    return Err(self.only_here(endpoint, who, path, true).await);
                }
                Err(error) => self.failed(endpoint, EndpointFailure::Down, error_text::chain(&error)),
            }
        }
        Err(NovaError::Unavailable)
    }

    /// Returns whether Nova answers and takes the signature, whatever it says of the instance.
    pub(crate) async fn answers(&self, instance: InstanceId) -> bool {
        // The signature is looked at before the project.
        let who = Requester { instance, project: "unknown".into(), address: None };
        matches!(self.look(&who, PROOF, Urgency::Background).await, Ok(_) | Err(NovaError::Unknown))
    }

    /// Asks the endpoints that failed and have rested, so that their return is noticed though nobody needs them now.
    /// Returns whether there was one to ask.
    pub(crate) async fn look_after(&self, instance: InstanceId) -> bool {
        let who = Requester { instance, project: "unknown".into(), address: None };
        let rested = self.endpoints.rested();
        for endpoint in &rested {
            let _places = self.places(Urgency::Background).await;
            match self.ask(*endpoint, &who, Method::GET, PROOF, None).await {
                Ok(answer) if read(&answer).is_some() => self.endpoints.mark_healthy(*endpoint),
                Ok(answer) => self.refused(*endpoint, &answer),
                Err(error) => self.failed(*endpoint, EndpointFailure::Down, error_text::chain(&error)),
            }
        }
        !rested.is_empty()
    }

    /// Returns whether Nova knows the instance.
    pub(crate) async fn knows(&self, who: &Requester) -> bool {
        self.look(who, PROOF, Urgency::Background).await.is_ok()
    }

    /// Posts a password and returns what Nova made of it.
    pub(crate) async fn post(&self, who: &Requester, path: &str, password: &Password) -> Result<Written, NovaError> {
        let _places = self.places(Urgency::Guest).await;
        for endpoint in self.endpoints.awake() {
            match self.ask(endpoint, who, Method::POST, path, Some(password.bytes().clone())).await {
                Ok(answer) => match answer.status().as_u16() {
                    status @ (200 | 400 | 409 | 413) => {
                        self.endpoints.answered(endpoint);
                        return Ok(match status {
                            200 => Written::Kept,
                            409 => Written::Exists,
                            _ => Written::TooLarge,
                        });
                    }
                    404 if answer.body() == NOT_FOUND_TEXT => return Err(NovaError::Unknown),
                    // Nova's database, or a proxy before Nova, may reject what this guest posts.
                    _ if !is_about_secret(&answer) && self.is_known(endpoint, who, path).await => {
                        self.endpoints.answered(endpoint);
                        return Err(NovaError::Broken);
                    }
                    _ => self.refused(endpoint, &answer),
                },
                Err(error) if error.is_unanswered() && self.is_known(endpoint, who, path).await => {
                    self.endpoints.answered(endpoint);
                    return Err(NovaError::Broken);
                }
                // It may have been taken: asking another would turn that into a conflict.
                Err(error)
                    if !matches!(error, fetch::FetchError::Connect(_) | fetch::FetchError::ConnectTimeout(_)) =>
                {
                    self.failed(endpoint, EndpointFailure::Down, error_text::chain(&error));
                    return Err(NovaError::Unavailable);
                }
                Err(error) => self.failed(endpoint, EndpointFailure::Down, error_text::chain(&error)),
            }
        }
        Err(NovaError::Unavailable)
    }

    /// Returns whether the endpoint answers for the instance, so that only `path` is broken.
    async fn is_known(&self, endpoint: usize, who: &Requester, path: &str) -> bool {
        let asked = path != PROOF;
        asked && self.ask(endpoint, who, Method::GET, PROOF, None).await.is_ok_and(|answer| read(&answer).is_some())
    }

    /// Tells a crash of Nova on one path from anything else that keeps it from answering for that path now: a
    /// worker that is restarted looks like a crash, once.
    async fn only_here(&self, endpoint: usize, who: &Requester, path: &str, may_be_crash: bool) -> NovaError {
        self.endpoints.answered(endpoint);
        let crashes = may_be_crash
            && match self.ask(endpoint, who, Method::GET, path, None).await {
                Ok(answer) => answer.status() == 500,
                Err(error) => error.is_unanswered(),
            };
        if crashes { NovaError::Crash } else { NovaError::Broken }
    }

    async fn ask(
        &self,
        endpoint: usize,
        who: &Requester,
        method: Method,
        path: &str,
        body: Option<Bytes>,
    ) -> Result<Response<Bytes>, fetch::FetchError> {
        let url = self.endpoints.url(endpoint);
        let id = who.instance.to_string();
        let target = format!("{}/{}", url.path, percent::encode(path));
        let mut request = Request::builder()
            .method(&method)
            .uri(&target)
            .header(HOST, &url.authority)
            .header("X-Instance-ID", &id)
            .header("X-Tenant-ID", who.project.to_string())
            .header("X-Instance-ID-Signature", self.signer.sign(&id));
        if let Some(address) = who.address {
            request = request.header("X-Forwarded-For", address.to_string());
        }
        if body.is_some() {
            request = request.header(CONTENT_TYPE, "application/octet-stream");
        }
        let request = request.body(Full::new(body.unwrap_or_default()));
        let in_flight = self.counts.begin();
        let answer = self.http.send(url, request, method == Method::GET).await;
        drop(in_flight);
        let status = answer.as_ref().map_or(0, |answer| answer.status().as_u16());
        debug!(%url, instance = %who.instance, %method, path, status, "Nova asked");
        answer
    }

    fn refused(&self, endpoint: usize, answer: &Response<Bytes>) {
        let text = String::from_utf8_lossy(answer.body());
        if is_about_secret(answer) {
            return self.failed(
                endpoint,
                EndpointFailure::Secret,
                "refuses the signature: the shared secret does not match".to_owned(),
            );
        }
        let excerpt = text.split_whitespace().collect::<Vec<_>>().join(" ");
        let excerpt: String = excerpt.chars().take(120).collect();
        self.failed(
            endpoint,
            EndpointFailure::Down,
            format!("answered {}, which is not an answer of Nova: {excerpt}", answer.status()),
        );
    }

    fn failed(&self, endpoint: usize, failure: EndpointFailure, error: String) {
        self.counts.failures.fetch_add(1, Ordering::Relaxed);
        self.endpoints.failed(endpoint, failure, error, backoff::random());
    }

    async fn places(&self, urgency: Urgency) -> [Option<SemaphorePermit<'_>>; 2] {
        // Neither is ever closed.
        let background = match urgency {
            Urgency::Background => {
                if let Some(pace) = &self.pace {
                    pace.turn().await;
                }
                self.background.acquire().await.ok()
            }
            Urgency::Change | Urgency::Guest => None,
        };
        [background, self.all.acquire().await.ok()]
    }
}

/// Returns whether a project can be named in a header.
pub(crate) fn can_be_sent(project: &ProjectId) -> bool {
    let project = project.to_string();
    !project.is_empty() && project.len() <= LONGEST_PROJECT && project.bytes().all(|byte| byte.is_ascii_graphic())
}

/// Returns the page if the answer is Nova's own.
fn read(answer: &Response<Bytes>) -> Option<Page> {
    match answer.status().as_u16() {
        200 => {
            let content_type = answer.headers().get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
            Some(Page::found(content_type, answer.body().clone()))
        }
        404 if answer.body() == NOT_FOUND_TEXT => Some(Page::not_found()),
        _ => None,
    }
}

fn is_about_secret(answer: &Response<Bytes>) -> bool {
    answer.status() == 403 && String::from_utf8_lossy(answer.body()).contains(WRONG_SECRET)
}

/// In the EC2 tree, Nova crashes on what is not there; a document of the OpenStack tree should be there.
pub(crate) fn crashed(path: &str) -> Option<Page> {
    (!path.starts_with("openstack")).then(Page::not_found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_novas_own_answers_count() {
        let answer = |status: u16, body: &'static str| {
            Response::builder().status(status).body(Bytes::from_static(body.as_bytes())).unwrap()
        };
        assert_eq!(read(&answer(404, NOT_FOUND_TEXT)), Some(Page::not_found()));
        assert_eq!(read(&answer(200, "x")), Some(Page::found(None, Bytes::from_static(b"x"))));
        for (status, body) in [(404, "<html>nginx</html>"), (500, ""), (403, WRONG_SECRET), (301, ""), (206, "x")] {
            assert_eq!(read(&answer(status, body)), None, "{status}");
        }
    }

    #[test]
    fn projects_that_would_break_a_request_are_none() {
        assert!(can_be_sent(&"0f4e5c1d".into()) && can_be_sent(&"my-project".into()));
        for project in ["", "a b", "a\r\nX-Instance-ID: b", "a\u{1}", "\u{fc}", &"x".repeat(300)] {
            assert!(!can_be_sent(&project.into()), "{project:?}");
        }
    }
}
