//! Nova's metadata API, simulated: answers that metadata-user renders of each instance's document, which `tests/api` holds to be Nova's
//! byte for byte.
//!
//! Promises: as Nova's, it refuses a wrong signature with 403, and knows an instance in its own project only; it answers what
//! it remembers of an instance for as long as it is told to.
//!
//! Left out: passwords, which are refused.

use std::sync::Arc;
use std::time::Duration;

use hyper::{HeaderMap, Method, StatusCode};
use metadata_user::api::{Cloud, NOT_FOUND_TEXT, Reply, Request};
use metadata_user::clock;
use metadata_user::secret::sign::Signer;
use uuid::Uuid;

use super::answer::{Answer, Asked, Contents, answer};

/// What all instances have in common.
#[derive(Debug)]
pub(super) struct Metadata {
    pub(super) signer: Signer,
    pub(super) cloud: Arc<Cloud>,
    /// How long a worker remembers an instance (`metadata_cache_expiration`).
    pub(super) cache: Duration,
}

impl Metadata {
    /// Answers a request; its path is the guest's.
    pub(super) fn answer(&self, contents: &mut Contents, asked: &Asked<'_>) -> Answer {
        let header = |name: &str| text(asked.headers, name);
        let id = header("x-instance-id");
        if header("x-instance-id-signature") != self.signer.sign(id) {
            return answer(StatusCode::FORBIDDEN, "text/plain", "Invalid proxy request signature.".into());
        }
        let server = id.parse::<Uuid>().ok().and_then(|id| contents.servers.get_mut(&id));
        let server = server.filter(|server| server.record.project_id.as_str() == header("x-tenant-id"));
        let Some(server) = server else {
            return answer(StatusCode::NOT_FOUND, "text/plain; charset=UTF-8", NOT_FOUND_TEXT.into());
        };
        if asked.method != Method::GET {
            return answer(StatusCode::BAD_REQUEST, "text/plain; charset=UTF-8", "not simulated".into());
        }
        let request = Request {
            method: "GET",
            target: asked.path,
            accept: None,
            content_length: None,
            body: &[],
            today: clock::today,
            seed: &clock::seed,
        };
        match server.answers(self.cache, &self.cloud).reply(&request) {
            Reply::Answer(given) => {
                let status = StatusCode::from_u16(given.status.code()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
                answer(status, given.content_type.as_deref().unwrap_or_default(), given.body)
            }
            Reply::Keep(_) | Reply::Fetch(_) => answer(StatusCode::INTERNAL_SERVER_ERROR, "text/plain", "".into()),
        }
    }
}

fn text<'a>(headers: &'a HeaderMap, name: &str) -> &'a str {
    headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
}
