//! Asks as a guest would: bytes into the very service that hyper serves, bytes out of it, in process.

use std::sync::Arc;
use std::time::Duration;

use lab::Response;
use metadata_user::api::{Date, RenderedInstance, Write, Written};
use metadata_user::boots::History;
use metadata_user::drain::Drain;
use metadata_user::http::service::{Access, Resolution};
use metadata_user::http::{Counters, Times, connection};
use metadata_user::record::{InstanceId, InstanceRecord};
use metadata_user::store::Store;
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
    instance: InstanceId,
    store: Arc<Store>,
    counters: Arc<Counters>,
}

/// Returns the case's instance, as the daemon holds it.
pub(crate) fn instance(case: &Case) -> RenderedInstance {
    let record = case.record();
    let results = Arc::new(case.golden.cloud.results(&record));
    let cloud = Arc::new(case.golden.cloud.settings());
    RenderedInstance::new(Arc::new(record), cloud).with_dynamic(results)
}

/// What a connection of the guest may read, on the day of the captures.
struct Connection {
    instance: InstanceId,
    store: Arc<Store>,
    history: History,
}

impl Access for Connection {
    fn resolve(&self) -> Resolution {
        self.store.served(self.instance).map_or(Resolution::NotReady, Resolution::Ready)
    }

    async fn ready(&self) {
        self.store.wait(self.instance).content().await;
    }

    async fn keep(&self, instance: InstanceId, write: Write) -> Written {
        match write {
            Write::Store(password) => self.store.set_password(instance, password),
            Write::Controller { .. } => Written::Unavailable,
        }
    }

    fn history(&self) -> Option<&History> {
        Some(&self.history)
    }

    fn today(&self) -> fn() -> Date {
        || TODAY
    }

    async fn ended(&self) {
        std::future::pending().await
    }

    fn name(&self) -> u32 {
        0
    }
}

impl Guest {
    /// Gives the case's instance to a guest.
    pub(crate) fn boot(case: &Case) -> Self {
        Self::of(case.record(), case)
    }

    /// Gives an instance of another document to a guest, in the case's cloud.
    pub(crate) fn of(record: InstanceRecord, case: &Case) -> Self {
        let (instance, results) = (record.uuid, case.golden.cloud.results(&case.record()));
        let store = Arc::new(Store::new(case.golden.cloud.settings()));
        store.put(record);
        for (target, answer) in results {
            store.set_dynamic(instance, &target, answer);
        }
        Self {
            runtime: Builder::new_current_thread().enable_all().build().expect("a runtime"),
            instance,
            store,
            counters: Arc::default(),
        }
    }

    fn connect(&self) -> Connection {
        Connection { instance: self.instance, store: Arc::clone(&self.store), history: History::default() }
    }

    /// Sends a request on a connection of its own.
    pub(crate) fn ask(&mut self, row: &Row) -> Captured {
        let (mut guest, daemon) = tokio::io::duplex(BUFFER);
        let (content, drain) = (self.connect(), Drain::new());
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

impl Guest {
    /// Sends the same request on one connection, again and again; says before each how many came before.
    pub(crate) fn ask_again_and_again(&mut self, path: &str, times: usize, mut say: impl FnMut(usize)) {
        let (mut guest, daemon) = tokio::io::duplex(BUFFER);
        let (content, drain) = (self.connect(), Drain::new());
        let request = format!("GET {path} HTTP/1.1\r\nHost: 169.254.169.254\r\n\r\n").into_bytes();
        let mut answer = vec![0; BUFFER];
        self.runtime.block_on(async {
            let exchanges = async {
                let mut whole = None;
                for number in 0..times {
                    say(number);
                    guest.write_all(&request).await.expect("the daemon takes it");
                    let mut length = guest.read(&mut answer).await.expect("an answer");
                    let is_whole = |answer: &[u8]| {
                        parse(answer).is_some_and(|got| got.content_length == Some(got.body.len() as u64))
                    };
                    // Looked at once, since looking allocates; the others are equally long.
                    while whole.map_or_else(|| !is_whole(&answer[..length]), |whole| length < whole) {
                        length += guest.read(&mut answer[length..]).await.expect("the rest of the answer");
                    }
                    whole = Some(length);
                }
                drop(guest);
            };
            let serve = connection::serve(daemon, content, Times::default(), &self.counters, &drain);
            tokio::join!(exchanges, serve);
        });
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
