//! Asks as a guest would: bytes into the very service that hyper serves, bytes out of it, in process.

use std::sync::Arc;
use std::time::Duration;

use lab::Response;
use metadata_user::api::{Date, RenderedInstance};
use metadata_user::drain::Drain;
use metadata_user::http::service::{Access, Fixed, Resolution};
use metadata_user::http::{Counters, Times, connection};
use metadata_user::record::InstanceId;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::runtime::{Builder, Runtime};

use crate::case::{Captured, Case, Row};

/// The day on which the cases were captured: every version is in the past.
pub(crate) const TODAY: Date = Date::new(2026, 11, 23);

/// What a connection holds on its way: more than any answer, so that nobody waits for a reader.
const BUFFER: usize = 4 << 20;

/// A guest whose instance is a case's.
pub(crate) struct Guest {
    runtime: Runtime,
    content: Arc<Fixed>,
    counters: Arc<Counters>,
}

/// Returns the case's instance, as the daemon holds it.
pub(crate) fn instance(case: &Case) -> RenderedInstance {
    let record = case.record();
    let results = Arc::new(case.golden.cloud.results(&record));
    let cloud = Arc::new(case.golden.cloud.settings());
    RenderedInstance::new(Arc::new(record), cloud).with_dynamic(results)
}

/// One content for all connections.
struct Shared(Arc<Fixed>);

impl Access for Shared {
    fn resolve(&self) -> Resolution {
        self.0.resolve()
    }

    fn keep_password(&self, instance: InstanceId, password: Arc<str>) -> bool {
        self.0.keep_password(instance, password)
    }

    fn today(&self) -> Date {
        self.0.today()
    }

    async fn ended(&self) {
        self.0.ended().await;
    }

    fn name(&self) -> u32 {
        self.0.name()
    }
}

impl Guest {
    /// Gives the case's instance to a guest.
    pub(crate) fn boot(case: &Case) -> Self {
        Self {
            runtime: Builder::new_current_thread().enable_all().build().expect("a runtime"),
            content: Arc::new(Fixed::new(Arc::new(instance(case))).on(TODAY)),
            counters: Arc::default(),
        }
    }

    /// Sends a request on a connection of its own.
    pub(crate) fn ask(&mut self, row: &Row) -> Captured {
        let (mut guest, daemon) = tokio::io::duplex(BUFFER);
        let (content, drain) = (Shared(Arc::clone(&self.content)), Drain::new());
        let request = request(row);
        let answer = self.runtime.block_on(async {
            let exchange = async {
                guest.write_all(&request).await.expect("the daemon takes it");
                guest.shutdown().await.expect("the daemon sees the end");
                let mut answer = Vec::new();
                guest.read_to_end(&mut answer).await.expect("an answer");
                answer
            };
            let serve = connection::serve(daemon, content, Times::default(), &self.counters, &drain);
            let both = async { tokio::join!(exchange, serve).0 };
            tokio::time::timeout(Duration::from_secs(10), both).await.expect("an answer in time")
        });
        parse(&answer).unwrap_or_else(|| panic!("no HTTP: {:?}", String::from_utf8_lossy(&answer)))
    }
}

/// Writes the request as it was captured: literally.
fn request(row: &Row) -> Vec<u8> {
    let mut out = Vec::new();
    let mut line = |text: &str| {
        // One byte per character, as headers were sent.
        out.extend(text.chars().map(|c| u8::try_from(u32::from(c)).unwrap_or(b'?')));
        out.extend_from_slice(b"\r\n");
    };
    line(&format!("{} {} {}", row.method, row.path, row.protocol));
    if let Some(host) = &row.host {
        line(&format!("Host: {host}"));
    }
    for (name, value) in &row.headers {
        line(&format!("{name}: {value}"));
    }
    let body = row.request_body.as_deref();
    if let Some(body) = body
        && row.header("transfer-encoding").is_none()
        && row.header("content-length").is_none()
    {
        line(&format!("Content-Length: {}", body.len()));
    }
    line("Connection: close");
    line("");
    out.extend_from_slice(body.unwrap_or_default());
    out
}

/// Reads what is compared of an answer.
fn parse(answer: &[u8]) -> Option<Captured> {
    let answer = Response::whole(answer).ok()?;
    Some(Captured {
        status: answer.status,
        content_type: answer.header("content-type").map(str::to_owned),
        content_length: answer.header("content-length").and_then(|length| length.parse().ok()),
        body: answer.body,
    })
}
