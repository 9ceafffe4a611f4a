//! Tokens of Keystone (Identity API v3), and its catalogue.
//!
//! Promises:
//! - there is one token at a time, asked for by whoever needs it first, renewed before it expires, and after a service refused it;
//! - the secret is read from its file at each authentication, so a rotated one is used without a restart;
//! - a token that is still valid stays in use while Keystone does not answer;
//! - a refused credential is not sent again for a while, unless its file changed: Keystone may lock an account that fails often;
//! - neither secret nor token is in a log, a message or `Debug`.
//!
//! Left out: federation, and tokens that are not scoped to a project.

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwapOption;
use bytes::Bytes;
use http_body_util::Full;
use hyper::header::{ACCEPT, CONTENT_TYPE, HOST, HeaderValue, USER_AGENT};
use hyper::{Request, Response};
use serde_json::{Value, json};
use tokio::sync::Mutex;
use tokio::time::Instant;
use tracing::debug;
use zeroize::Zeroizing;

use super::catalog::{Catalog, TokenAnswer, versioned};
use super::error::{AskError, Failure, Service};
use super::gate::{AGENT, Gate, Urgency};
use crate::backoff::{self, Backoff};
use crate::config::controller::{self, Credential};
use crate::config::target::TargetUrl;
use crate::error_text;
use crate::fetch;
use crate::secret::Secret;

/// A token is renewed when less than this share of its life is left, in hundredths.
const RENEWAL: u32 = 20;
/// And at most this long before its end.
const LONGEST_RENEWAL: Duration = Duration::from_secs(300);
/// How long a refused credential is not sent again.
const REFUSALS: Backoff = Backoff::new(Duration::from_secs(2), Duration::from_secs(60), 25);

/// Time between two tokens that are given up because something else failed.
const BETWEEN_DOUBTS: Duration = Duration::from_secs(10);

/// A token and the catalogue that came with it.
pub(super) struct Token {
    value: HeaderValue,
    renewed_at: Instant,
    expires_at: Instant,
    pub(super) catalog: Catalog,
}

impl std::fmt::Debug for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Token").field("expires_at", &self.expires_at).finish_non_exhaustive()
    }
}

impl Token {
    /// Returns the value of `X-Auth-Token`, which logs do not show.
    pub(super) fn header(&self) -> HeaderValue {
        self.value.clone()
    }
}

/// What asks Keystone.
pub(super) struct Keystone {
    /// `/v3` included.
    url: TargetUrl,
    credential: Credential,
    token: ArcSwapOption<Token>,
    /// Held by the one that authenticates.
    turn: Mutex<Refusals>,
    doubted_at: parking_lot::Mutex<Option<Instant>>,
    pub(super) gate: Gate,
}

impl std::fmt::Debug for Keystone {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Keystone").field("url", &self.url).field("token", &self.token.load()).finish_non_exhaustive()
    }
}

#[derive(Default)]
struct Refusals {
    times: u32,
    last: Option<Refused>,
}

/// A credential that was refused.
struct Refused {
    secret: Secret,
    error: AskError,
    until: Instant,
}

impl Keystone {
    pub(super) fn new(settings: &controller::Keystone, gate: Gate) -> Self {
        let path = versioned(&settings.auth_url.path, "v3");
        let url = TargetUrl { path, ..settings.auth_url.clone() };
        gate.set_endpoint(&url.to_string());
        Self {
            url,
            credential: settings.credential.clone(),
            token: ArcSwapOption::empty(),
            turn: Mutex::default(),
            doubted_at: parking_lot::Mutex::default(),
            gate,
        }
    }

    /// Returns a valid token: the one that is kept, or a new one.
    pub(super) async fn token(&self, http: &fetch::Client) -> Result<Arc<Token>, AskError> {
        let is_fresh = |token: &Arc<Token>| token.renewed_at > Instant::now();
        if let Some(token) = self.token.load_full().filter(is_fresh) {
            return Ok(token);
        }
        let is_valid = |token: &Arc<Token>| token.expires_at > Instant::now();
        let mut refusals = match (self.turn.try_lock(), self.token.load_full()) {
            (Ok(refusals), _) => refusals,
            // Somebody renews it, for as long as Keystone takes; it is still good.
            (Err(_), Some(token)) if is_valid(&token) => return Ok(token),
            (Err(_), _) => self.turn.lock().await,
        };
        let kept = self.token.load_full();
        if let Some(token) = kept.clone().filter(is_fresh) {
            return Ok(token);
        }
        match self.authenticate(http, &mut refusals).await {
            Ok(token) => {
                let token = Arc::new(token);
                self.token.store(Some(Arc::clone(&token)));
                Ok(token)
            }
            Err(error) => kept.filter(is_valid).ok_or(error),
        }
    }

    /// Makes the token one that is to be renewed, and is still valid.
    #[cfg(test)]
    pub(super) fn make_due(&self) {
        let kept = self.token.swap(None).and_then(Arc::into_inner);
        self.token.store(kept.map(|kept| Arc::new(Token { renewed_at: Instant::now(), ..kept })));
    }

    /// Forgets a token that a service refused.
    pub(super) fn discard(&self, token: &Arc<Token>) {
        let kept = self.token.load();
        if kept.as_ref().is_some_and(|kept| Arc::ptr_eq(kept, token)) {
            debug!("a service refused the token: another is asked for");
            self.token.compare_and_swap(&*kept, None);
        }
    }

    /// Forgets a token that may be why a service fails, unless one was doubted a moment ago. Returns whether it is forgotten.
    pub(super) fn doubt(&self, token: &Arc<Token>) -> bool {
        let mut doubted_at = self.doubted_at.lock();
        if doubted_at.is_some_and(|at| at.elapsed() < BETWEEN_DOUBTS) {
            return false;
        }
        *doubted_at = Some(Instant::now());
        self.discard(token);
        true
    }

    /// Asks Keystone whether it answers, while it or another service does not: those hang with it.
    pub(super) async fn look_after(&self, http: &fetch::Client) {
        let Ok(places) = self.gate.enter(Urgency::Background).await else { return };
        let request = Request::get(&self.url.path)
            .header(HOST, &self.url.authority)
            .header(ACCEPT, "application/json")
            .header(USER_AGENT, AGENT);
        let answer = http.send(&self.url, request.body(Full::default()), true).await;
        drop(places);
        let problem = match answer {
            Ok(answer) if !answer.status().is_server_error() => return self.gate.reached(),
            Ok(answer) => format!("answered {}{}", answer.status(), reason(answer.body())),
            Err(error) => format!("cannot be asked: {}", error_text::chain(&error)),
        };
        let doing = format!("asking whether {} answers", self.url);
        self.gate.failed(AskError::new(Service::Keystone, &doing, Failure::Unavailable, problem), true);
    }

    async fn authenticate(&self, http: &fetch::Client, refusals: &mut Refusals) -> Result<Token, AskError> {
        let doing = format!("authenticating at {}", self.url);
        let fail = |failure, problem: String| AskError::new(Service::Keystone, &doing, failure, problem);
        let file = match &self.credential {
            Credential::Application { secret_file, .. } => secret_file,
            Credential::Password { password_file, .. } => password_file,
        };
        let unreadable = |error: String| fail(Failure::Refused, format!("was not asked: {error}"));
        let secret = match Secret::read(file) {
            Ok(secret) => secret,
            Err(error) => return Err(self.gate.failed(unreadable(error_text::chain(&error)), false)),
        };
        if let Some(refused) = &refusals.last
            && refused.secret.expose() == secret.expose()
            && refused.until > Instant::now()
        {
            return Err(refused.error.clone());
        }
        let Ok(text) = std::str::from_utf8(secret.expose()) else {
            return Err(self.gate.failed(unreadable(format!("{} is not text", file.display())), false));
        };
        let body = Zeroizing::new(body(&self.credential, text).to_string());
        let request = Request::post(format!("{}/auth/tokens", self.url.path))
            .header(HOST, &self.url.authority)
            .header(CONTENT_TYPE, "application/json")
            .header(ACCEPT, "application/json")
            .header(USER_AGENT, AGENT)
            .body(Full::new(Bytes::copy_from_slice(body.as_bytes())));
        let places = self.gate.enter(Urgency::Change).await?;
        let asked_at = Instant::now();
        let answer = http.send(&self.url, request, false).await;
        drop(places);
        let answer = answer.map_err(|error| {
            let problem = format!("cannot be asked: {}", error_text::chain(&error));
            self.gate.failed(fail(Failure::Unavailable, problem), true)
        })?;
        match answer.status().as_u16() {
            201 => {}
            401 | 403 => {
                let problem = format!("refuses the credential ({}){}", answer.status(), reason(answer.body()));
                let error = self.gate.failed(fail(Failure::Refused, problem), false);
                refusals.times = refusals.times.saturating_add(1);
                let until = Instant::now() + REFUSALS.delay(refusals.times, backoff::random());
                refusals.last = Some(Refused { secret, error: error.clone(), until });
                return Err(error);
            }
            status => {
                let failure =
                    if status >= 500 || status == 429 { Failure::Unavailable } else { Failure::NotUnderstood };
                let problem = format!("answered {}{}", answer.status(), reason(answer.body()));
                return Err(self.gate.failed(fail(failure, problem), failure == Failure::Unavailable));
            }
        }
        let token = read(&answer, asked_at)
            .map_err(|problem| self.gate.failed(fail(Failure::NotUnderstood, problem), false))?;
        self.gate.answered();
        *refusals = Refusals::default();
        debug!(valid = ?token.expires_at.saturating_duration_since(asked_at), "Keystone gave a token");
        Ok(token)
    }
}

/// Returns the body of a request for a token.
fn body(credential: &Credential, secret: &str) -> Value {
    match credential {
        Credential::Application { id, .. } => json!({"auth": {"identity": {
            "methods": ["application_credential"],
            "application_credential": {"id": id, "secret": secret},
        }}}),
        Credential::Password { username, user_domain, project, project_domain, .. } => json!({"auth": {
            "identity": {
                "methods": ["password"],
                "password": {"user": {"name": username, "domain": {"name": user_domain}, "password": secret}},
            },
            "scope": {"project": {"name": project, "domain": {"name": project_domain}}},
        }}),
    }
}

/// Reads an answer with a token; the problem otherwise. Times in it are by Keystone's clock: only their difference counts.
fn read(answer: &Response<Bytes>, asked_at: Instant) -> Result<Token, String> {
    let mut value = answer.headers().get("X-Subject-Token").cloned().ok_or("answered without X-Subject-Token")?;
    value.set_sensitive(true);
    let fields = serde_json::from_slice::<TokenAnswer>(answer.body());
    let fields = fields.map_err(|error| format!("answered with a token that cannot be read: {error}"))?.token;
    let time = |text: &str| text.parse::<jiff::Timestamp>().map_err(|_| format!("answered with the time `{text}`"));
    let life = time(&fields.issued_at)?.duration_until(time(&fields.expires_at)?);
    let life = Duration::try_from(life).map_err(|_| "answered with a token that has expired")?;
    let early = (life * RENEWAL / 100).min(LONGEST_RENEWAL);
    Ok(Token { value, renewed_at: asked_at + (life - early), expires_at: asked_at + life, catalog: fields.catalog })
}

/// Returns what an error of Keystone says, with a colon before it.
fn reason(body: &[u8]) -> String {
    let parsed: Option<Value> = serde_json::from_slice(body).ok();
    let message = parsed.as_ref().and_then(|parsed| parsed.pointer("/error/message")?.as_str());
    message.map(|message| format!(": {}", error_text::one_line(message).trim_end_matches('.'))).unwrap_or_default()
}
