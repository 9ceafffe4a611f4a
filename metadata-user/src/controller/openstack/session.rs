//! Requests to Nova's compute API and to Neutron, with a token.
//!
//! Promises: a refused token is renewed once, and one that may be the reason of another failure; what comes back is the service's own
//! answer (JSON), or an error that says who answered what instead.

use bytes::Bytes;
use http_body_util::Full;
use hyper::header::{ACCEPT, CONTENT_TYPE, HOST, USER_AGENT};
use hyper::{HeaderMap, Request, StatusCode};
use serde::de::DeserializeOwned;
use tracing::debug;

use super::error::{AskError, Failure, Service};
use super::gate::{AGENT, Gate, Urgency};
use super::keystone::Keystone;
use crate::config::controller::Interface;
use crate::config::target::TargetUrl;
use crate::error_text;
use crate::fetch::{self, FetchError};

/// One of the two APIs.
#[derive(Debug)]
pub(super) struct Api {
    pub(super) gate: Gate,
    service: Service,
    /// Its type in the catalogue.
    kind: &'static str,
    /// The end of its endpoints' path.
    version: &'static str,
    /// Headers of each request beside the token.
    headers: &'static [(&'static str, &'static str)],
    /// Where it is, if not as the catalogue says.
    endpoint: Option<TargetUrl>,
}

impl Api {
    pub(super) fn new(
        gate: Gate,
        service: Service,
        (kind, version): (&'static str, &'static str),
        headers: &'static [(&'static str, &'static str)],
        endpoint: Option<&TargetUrl>,
    ) -> Self {
        let endpoint =
            endpoint.map(|url| TargetUrl { path: super::catalog::versioned(&url.path, version), ..url.clone() });
        if let Some(url) = &endpoint {
            gate.set_endpoint(&url.to_string());
        }
        Self { gate, service, kind, version, headers, endpoint }
    }
}

/// What asks.
pub(super) struct Session {
    pub(super) http: fetch::Client,
    pub(super) keystone: Keystone,
    pub(super) region: Option<String>,
    pub(super) interface: Interface,
}

/// A request: what for, and its path and query below the endpoint.
#[derive(Clone, Copy, Debug)]
pub(super) struct Asked<'a> {
    pub(super) doing: &'a str,
    pub(super) path: &'a str,
    pub(super) urgency: Urgency,
}

/// An answer with status 200, or 400 or 404, which depend on what was asked.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
}

impl Session {
    /// Asks one of the APIs.
    pub(super) async fn get(&self, api: &Api, asked: Asked<'_>) -> Result<Answer, AskError> {
        let fail = |failure, problem: String| AskError::new(api.service, asked.doing, failure, problem);
        let mut is_again = false;
        loop {
            let token = self.keystone.token(&self.http).await?;
            let url = match &api.endpoint {
                Some(url) => url.clone(),
                None => {
                    let found = token.catalog.endpoint(api.kind, api.version, self.interface, self.region.as_deref());
                    let url = found.map_err(|problem| {
                        AskError::new(Service::Keystone, asked.doing, Failure::NotUnderstood, problem)
                    })?;
                    api.gate.set_endpoint(&url.to_string());
                    url
                }
            };
            let mut request = Request::get(format!("{}{}", url.path, asked.path))
                .header(HOST, &url.authority)
                .header(ACCEPT, "application/json")
                .header(USER_AGENT, AGENT)
                .header("X-Auth-Token", token.header());
            for (name, value) in api.headers {
                request = request.header(*name, *value);
            }
            let places = api.gate.enter(asked.urgency).await?;
            let answer = self.http.send(&url, request.body(Full::default()), true).await;
            drop(places);
            let answer = match answer {
                Ok(answer) => answer,
                Err(error @ FetchError::TooBig(_)) => {
                    let problem = format!("at {url} {}", error_text::chain(&error));
                    return Err(api.gate.count_failure(fail(Failure::TooLarge, problem)));
                }
                Err(error) => {
                    let problem = format!("cannot be asked at {url}: {}", error_text::chain(&error));
                    return Err(api.gate.failed(fail(Failure::Unavailable, problem), true));
                }
            };
            let status = answer.status();
            debug!(%url, path = asked.path, status = status.as_u16(), "{} asked", api.service);
            match status.as_u16() {
                401 if !is_again => {
                    self.keystone.discard(&token);
                    is_again = true;
                }
                // Nova asks Neutron with our token, and may still take one itself that Neutron refuses.
                400 | 500 if !is_again && may_be_token(status, answer.body()) && self.keystone.doubt(&token) => {
                    is_again = true;
                }
                200 | 400 | 404 => {
                    let (head, body) = answer.into_parts();
                    if !is_json(&head.headers) {
                        let problem =
                            format!("answered {status} at {url}, and not as itself{}", excerpt(&head.headers, &body));
                        return Err(api.gate.failed(fail(Failure::Unavailable, problem), false));
                    }
                    api.gate.answered();
                    return Ok(Answer { status, headers: head.headers, body });
                }
                401 | 403 => {
                    let problem = format!("refuses it ({status}){}", excerpt(answer.headers(), answer.body()));
                    return Err(api.gate.failed(fail(Failure::Refused, problem), false));
                }
                code => {
                    let failure = match code {
                        413 | 429 | 501.. => Failure::Unavailable,
                        500 => Failure::OneRequest,
                        _ => Failure::NotUnderstood,
                    };
                    let problem = format!("answered {status} at {url}{}", excerpt(answer.headers(), answer.body()));
                    // One server that Nova cannot show is no reason to leave Nova alone.
                    let rests = matches!(code, 429 | 502..=504);
                    return Err(api.gate.failed(fail(failure, problem), rests));
                }
            }
        }
    }
}

impl Answer {
    /// Reads the body.
    pub(super) fn read<T: DeserializeOwned>(&self, api: &Api, doing: &str) -> Result<T, AskError> {
        serde_json::from_slice(&self.body).map_err(|error| {
            let problem = format!("answered with JSON that cannot be read: {error}");
            api.gate.count_failure(AskError::new(api.service, doing, Failure::NotUnderstood, problem))
        })
    }

    /// Returns the error for an answer that should have been 200.
    pub(super) fn unexpected(&self, api: &Api, doing: &str) -> AskError {
        let problem = format!("answered {}{}", self.status, excerpt(&self.headers, &self.body));
        api.gate.count_failure(AskError::new(api.service, doing, Failure::NotUnderstood, problem))
    }
}

/// Returns whether the token may be the reason of a failure: a service that remembers that it was valid, and asks another with it, fails
/// itself when that one refuses it. Nova says so in a list (400), and not for one server (500).
fn may_be_token(status: StatusCode, body: &[u8]) -> bool {
    status == StatusCode::INTERNAL_SERVER_ERROR
        || String::from_utf8_lossy(body).to_ascii_lowercase().contains("unauthorized")
}

fn is_json(headers: &HeaderMap) -> bool {
    let value = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
    value.is_some_and(|value| value.starts_with("application/json"))
}

/// Returns the beginning of a body as text, with a colon before it, and the id by which the service's log has the request.
fn excerpt(headers: &HeaderMap, body: &[u8]) -> String {
    let text = String::from_utf8_lossy(body);
    let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
    let text: String = text.chars().filter(|character| !character.is_control()).take(160).collect();
    let text = if text.is_empty() { text } else { format!(": {text}") };
    let id = headers.get("X-OpenStack-Request-ID").and_then(|id| id.to_str().ok()).filter(|id| id.len() < 64);
    id.map_or_else(|| text.clone(), |id| format!("{text} ({id})"))
}
