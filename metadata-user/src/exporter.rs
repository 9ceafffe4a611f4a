//! Metrics for Prometheus over TCP: `GET /metrics`, in plain HTTP or over TLS; and, for whoever verifies what guests are, the public
//! keys that the node signs with: `GET` [`JWKS_PATH`].
//!
//! Promises: off unless configured; a connection carries one request and ends within [`TIMEOUT`], there are at most
//! [`CONNECTIONS`] at a time, and silent ones give way; a request's head is bounded in bytes and fields; metrics are written at most once
//! in [`FRESH`] for each format, however many ask; nothing that guests or readers send is in them.
//!
//! The thread that reads what others send has no privilege ([`privilege::METRICS`]), so it can neither look at /proc nor at maps: the
//! main thread writes metrics for it ([`Renderer`]).
//!
//! Left out: who may read. The address is to be one that only the operator's network reaches.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::header::{ACCEPT, ALLOW, CACHE_CONTROL, CONTENT_TYPE, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, timeout};
use tracing::{debug, info, warn};

use crate::config;
use crate::drain::Drain;
use crate::https::Https;
use crate::metrics::Format;
use crate::privilege;
use crate::server::places::{Place, Places, Room};
use crate::server::{self, Handler};
use crate::signing::SigningState;
use crate::state_view::StateView;
use crate::worker::{Stop, Worker};

/// Most connections at a time: a pair of Prometheus servers has two.
const CONNECTIONS: usize = 16;

/// How long a connection may last, its handshake included: as long as Prometheus waits for an answer by default.
const TIMEOUT: Duration = Duration::from_secs(10);

/// How long the head of a request may take.
const HEAD_TIMEOUT: Duration = Duration::from_secs(5);

/// Most bytes of a request's head: the least that hyper takes.
const HEAD_BYTES: usize = 8192;

/// Most header fields; Prometheus sends five.
const HEAD_FIELDS: usize = 32;

/// For how long written metrics are given to others who ask: well below every usual interval.
const FRESH: Duration = Duration::from_millis(500);

/// Where the public keys are.
pub const JWKS_PATH: &str = "/.well-known/jwks.json";

/// For how long whoever verifies may keep them: short beside the time that a new key is published before it signs.
const JWKS_CACHE: &str = "max-age=300";

/// Readers that wait for the main thread: all that there can be.
const WAITING: usize = CONNECTIONS;

/// A reader's question to the main thread.
type Asked = (Format, oneshot::Sender<Bytes>);

/// How metrics get from the main thread to the one that sends them. Cheap to clone.
#[derive(Clone, Debug)]
struct Texts(mpsc::Sender<Asked>);

/// Writes metrics for those who read them over TCP, where everything can be read.
#[derive(Debug)]
pub struct Renderer(mpsc::Receiver<Asked>);

impl Renderer {
    /// Answers until nobody can ask any more.
    pub async fn run(mut self, write: impl Fn(Format) -> String) {
        let mut written: [Option<(Instant, Bytes)>; 2] = [None, None];
        while let Some((format, answer)) = self.0.recv().await {
            let place = &mut written[usize::from(format == Format::OpenMetrics)];
            let text = match place {
                Some((at, text)) if at.elapsed() < FRESH => text.clone(),
                _ => {
                    let text = Bytes::from(write(format));
                    *place = Some((Instant::now(), text.clone()));
                    text
                }
            };
            // Whoever asked may have left.
            let _ = answer.send(text);
        }
    }
}

/// Metrics over TCP that run. Dropping it ends that.
#[derive(Debug)]
pub struct Exporter {
    /// Where metrics are read.
    pub listen: SocketAddr,
    /// Why they cannot be, and the remedy.
    pub error: Option<String>,
    /// The certificate; `None`: plain HTTP.
    pub https: Option<Arc<Https>>,
    /// The keys that the node signs with; `None`: it signs nothing.
    jwks: Option<StateView<SigningState>>,
    socket: Option<std::net::TcpListener>,
}

/// What runs.
#[derive(Debug)]
pub struct Running {
    _answering: Worker,
    _certificate: Option<Worker>,
}

impl Exporter {
    /// Takes the socket and reads the certificate. A socket that could not be opened is logged and shown: guests are answered all the
    /// same.
    #[must_use]
    pub fn open(settings: &config::Metrics, socket: io::Result<std::net::TcpListener>) -> Self {
        let listen = settings.listen;
        let (socket, error) = match socket {
            Ok(socket) => (Some(socket), None),
            Err(error) => {
                let error =
                    format!("listening on {listen}: {error}; correct metrics.listen, or end what listens there");
                warn!("metrics: {error}");
                (None, Some(error))
            }
        };
        let https = settings.tls.as_ref().map(|tls| Arc::new(Https::open_for_metrics(tls)));
        Self { listen, error, https, jwks: None, socket }
    }

    /// Lets these public keys be read too.
    #[must_use]
    pub fn with_keys(self, jwks: Option<StateView<SigningState>>) -> Self {
        Self { jwks, ..self }
    }

    /// Starts to answer, where there is a socket. What is returned besides is to run on the main thread. When the drain refuses
    /// connections, readers that have not been accepted are left to the next daemon.
    ///
    /// # Errors
    /// If a thread cannot be started.
    pub fn start(&mut self, drain: Drain) -> io::Result<Option<(Running, Renderer)>> {
        let Some(socket) = self.socket.take() else { return Ok(None) };
        let certificate = self.https.clone().map(Https::keep).transpose()?;
        let (texts, asked) = mpsc::channel(WAITING);
        let pages = Pages { texts: Texts(texts), jwks: self.jwks.clone() };
        let readers = Readers { pages, https: self.https.clone(), places: Places::new(CONNECTIONS) };
        let answering = Worker::spawn_as(&privilege::METRICS, "metrics", async move |mut stop: Stop| {
            let served = async {
                let listener = TcpListener::from_std(socket)?;
                server::serve(&listener, &drain, &readers).await;
                // Those that were accepted get their answers, and the socket stays open for the others.
                std::future::pending::<io::Result<()>>().await
            };
            tokio::select! {
                () = stop.requested() => {}
                ended = served => if let Err(error) = ended {
                    warn!(%error, "metrics: the socket cannot be used");
                },
            }
        })?;
        info!(listen = %self.listen, tls = self.https.is_some(), "metrics can be read over TCP");
        Ok(Some((Running { _answering: answering, _certificate: certificate }, Renderer(asked))))
    }
}

/// What can be read.
#[derive(Clone)]
struct Pages {
    texts: Texts,
    jwks: Option<StateView<SigningState>>,
}

/// What connections share.
struct Readers {
    pages: Pages,
    https: Option<Arc<Https>>,
    places: Places,
}

impl Handler<TcpListener> for Readers {
    type Room = Room;

    const NAME: &str = "metrics";

    async fn room(&self) -> Room {
        self.places.room().await
    }

    fn handle(&self, stream: TcpStream, peer: SocketAddr, room: Room) {
        let (pages, https, place) = (self.pages.clone(), self.https.clone(), self.places.take(room));
        tokio::spawn(async move {
            let conversation = async {
                match https {
                    None => converse(stream, &pages, &place).await,
                    Some(https) => match https.accept(stream).await {
                        Ok(stream) => converse(stream, &pages, &place).await,
                        Err(error) => debug!(%peer, %error, "no handshake with a reader of metrics"),
                    },
                }
            };
            tokio::select! {
                ended = timeout(TIMEOUT, conversation) => if ended.is_err() {
                    debug!(%peer, "a reader of metrics timed out");
                },
                () = place.leave() => debug!(%peer, "a silent reader of metrics gave way"),
            }
        });
    }
}

/// Answers one request.
async fn converse<S: AsyncRead + AsyncWrite + Unpin>(stream: S, pages: &Pages, place: &Place) {
    let service = service_fn(async |request: Request<Incoming>| {
        place.spoke();
        Ok::<_, Infallible>(answer(&request, pages).await)
    });
    let connection = http1::Builder::new()
        .keep_alive(false)
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .max_buf_size(HEAD_BYTES)
        .max_headers(HEAD_FIELDS)
        .serve_connection(TokioIo::new(stream), service);
    if let Err(error) = connection.await {
        debug!(%error, "a reader's connection ended");
    }
}

async fn answer(request: &Request<Incoming>, pages: &Pages) -> Response<Full<Bytes>> {
    const PLAIN: &str = "text/plain; charset=utf-8";
    let jwks = pages.jwks.as_ref().filter(|_| request.uri().path() == JWKS_PATH);
    if jwks.is_none() && request.uri().path() != "/metrics" {
        return respond(StatusCode::NOT_FOUND, PLAIN, "metrics are at /metrics\n".into());
    }
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        let mut response = respond(StatusCode::METHOD_NOT_ALLOWED, PLAIN, "use GET\n".into());
        response.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
        return response;
    }
    if let Some(jwks) = jwks {
        let mut response = respond(StatusCode::OK, "application/jwk-set+json", jwks.get().jwks.clone().into());
        response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static(JWKS_CACHE));
        return response;
    }
    let format = Format::accepted(request.headers().get(ACCEPT).and_then(|accept| accept.to_str().ok()));
    let (sender, answer) = oneshot::channel();
    let text = match pages.texts.0.send((format, sender)).await {
        Ok(()) => answer.await.ok(),
        Err(_) => None,
    };
    match text {
        Some(text) => respond(StatusCode::OK, format.content_type(), text),
        None => respond(StatusCode::SERVICE_UNAVAILABLE, PLAIN, "the daemon is about to end\n".into()),
    }
}

fn respond(status: StatusCode, content_type: &'static str, body: Bytes) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, duplex};

    use super::*;

    /// Sends this, and returns what comes back until the end.
    async fn ask(pages: &Pages, request: &str) -> String {
        let (mut client, server) = duplex(1 << 16);
        let places = Places::new(1);
        let place = places.take(places.room().await);
        let served = converse(server, pages, &place);
        let asked = async {
            client.write_all(request.as_bytes()).await.expect("sent");
            let mut answer = String::new();
            client.read_to_string(&mut answer).await.expect("read");
            answer
        };
        tokio::join!(served, asked).1
    }

    #[tokio::test(start_paused = true)]
    async fn one_path_is_answered_in_the_format_that_is_asked_for_and_written_once_for_all_that_ask_at_once() {
        let (sender, asked) = mpsc::channel(WAITING);
        let written = std::cell::Cell::new(0);
        let renderer = Renderer(asked).run(|format| {
            written.set(written.get() + 1);
            format!("{format:?} {}\n", written.get())
        });
        let keys = SigningState { jwks: "{\"keys\":[]}\n".to_owned(), ..SigningState::default() };
        let texts = Pages { texts: Texts(sender), jwks: Some(StateView::new(keys)) };
        let questions = async {
            let get = "GET /metrics HTTP/1.1\r\nHost: x\r\n";
            for (request, status, end) in [
                (format!("{get}\r\n"), "200 OK", "Text 1\n"),
                (format!("{get}\r\n"), "200 OK", "Text 1\n"),
                (format!("{get}Accept: application/openmetrics-text\r\n\r\n"), "200 OK", "OpenMetrics 2\n"),
                ("HEAD /metrics HTTP/1.1\r\n\r\n".to_owned(), "200 OK", "\r\n\r\n"),
                (
                    "POST /metrics HTTP/1.1\r\nContent-Length: 0\r\n\r\n".to_owned(),
                    "405 Method Not Allowed",
                    "use GET\n",
                ),
                ("GET / HTTP/1.1\r\n\r\n".to_owned(), "404 Not Found", "at /metrics\n"),
                (format!("GET {JWKS_PATH} HTTP/1.1\r\n\r\n"), "200 OK", "\r\n\r\n{\"keys\":[]}\n"),
                (format!("PUT {JWKS_PATH} HTTP/1.1\r\n\r\n"), "405 Method Not Allowed", "use GET\n"),
                (format!("{get}X: {}\r\n\r\n", "x".repeat(HEAD_BYTES)), "431 Request Header Fields Too Large", ""),
                (format!("{get}{}\r\n", "X: y\r\n".repeat(HEAD_FIELDS)), "431 Request Header Fields Too Large", ""),
                ("nonsense\r\n\r\n".to_owned(), "400 Bad Request", ""),
            ] {
                let answer = ask(&texts, &request).await;
                assert!(answer.starts_with(&format!("HTTP/1.1 {status}\r\n")), "{request}: {answer}");
                assert!(answer.ends_with(end), "{request}: {answer}");
            }
            tokio::time::advance(FRESH).await;
            assert!(ask(&texts, &format!("{get}\r\n")).await.ends_with("Text 3\n"));
            assert_eq!(ask(&texts, "GET /metr").await, "", "a head that does not come is given up");
            drop(texts);
        };
        tokio::join!(renderer, questions);
    }
}
