//! Tests of `http`.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::access::{Caller, Guest};
use super::progress::Progress;
use super::service::{Access, Resolution};
use super::terms::Heads;
use super::waits::Waits;
use super::*;
use crate::api::{Cloud, NovaPages, Page, Password, Write, Written};
use crate::drain::Drain;
use crate::identity::{Identity, Tag};
use crate::on_demand::OnDemand;
use crate::origin::{self, Outcome, Want};
use crate::record::{InstanceId, PortId};
use crate::state_view::StateView;
use crate::store::tests::{id, record};

mod attributes;
mod binding;
mod change;
mod controller;
mod large;
mod leaving;
mod on_demand;
mod pages;
mod rate;
mod session;
mod signed;
mod slow;

/// A node with one binding, and a client connected through it.
struct Node {
    identities: Arc<Identities>,
    store: Arc<Store>,
    counters: Arc<Counters>,
    drain: Drain,
    origin: Option<Origin>,
    on_demand: Option<OnDemand>,
    ready: Duration,
    caller: Caller,
    tokens: Arc<TokenKey>,
    usages: Arc<Usages>,
    rates: Option<Arc<Rates>>,
    heads: Heads,
    connection: Duration,
    waits: Arc<Waits>,
    issuer: Option<Arc<Issuer>>,
    writes: Arc<Rates>,
}

impl Node {
    fn new() -> Self {
        Self {
            identities: Arc::new(Identities::new()),
            store: Arc::new(Store::new(Cloud::default())),
            counters: Arc::default(),
            drain: Drain::new(),
            origin: None,
            on_demand: None,
            ready: Duration::ZERO,
            caller: Caller::default(),
            tokens: Arc::new(TokenKey::random().expect("a key")),
            usages: Arc::default(),
            rates: None,
            heads: Heads::default(),
            connection: Duration::ZERO,
            waits: Arc::default(),
            issuer: None,
            writes: Arc::new(Rates::of_writes(Config::default().policy())),
        }
    }

    fn bind(&self, identity: Identity) {
        self.identities.bind(Tag(7), identity).expect("a new binding");
    }

    fn bind_to(&self, number: u128) {
        let instance = id(number);
        self.bind(Identity::Bound { instance, port: Some(PortId(instance.0)) });
    }

    fn connect(&self) -> (DuplexStream, JoinHandle<()>) {
        self.serve(self.guest(7))
    }

    /// What a connection of this binding may read.
    fn guest(&self, tag: u32) -> Guest {
        let lease = self.identities.lease(Tag(tag)).expect("bound");
        let settings = Config::default();
        let terms = Terms::of(&settings.http, Arc::new(Rates::new(settings.policy())), Arc::clone(&self.counters));
        let node = Guests {
            identities: Arc::clone(&self.identities),
            store: Arc::clone(&self.store),
            limits: Arc::new(Limits::new(settings.http.connections)),
            policy: StateView::new(self.caller.policy),
            terms: StateView::new(terms),
            writes: Arc::clone(&self.writes),
            counters: Arc::clone(&self.counters),
            origin: self.origin.clone().map_or_else(OnceLock::new, OnceLock::from),
            on_demand: self.on_demand.clone().map_or_else(OnceLock::new, OnceLock::from),
            audit: OnceLock::new(),
            usages: Arc::clone(&self.usages),
            tokens: OnceLock::from(Arc::clone(&self.tokens)),
            boots: Arc::default(),
        };
        Guest {
            tag,
            lease,
            node: Arc::new(node),
            over_ipv6: self.caller.over_ipv6,
            source_port: self.caller.source_port,
            source: None,
            generation: AtomicU64::new(0),
            usage: OnceLock::new(),
            history: Arc::default(),
        }
    }

    fn serve(&self, content: impl Access) -> (DuplexStream, JoinHandle<()>) {
        let (client, _, served) = self.serve_placed(content);
        (client, served)
    }

    fn serve_placed(&self, content: impl Access) -> (DuplexStream, Arc<Progress>, JoinHandle<()>) {
        let (client, server) = tokio::io::duplex(64 << 10);
        let (progress, served) = self.serve_on(server, content);
        (client, progress, served)
    }

    fn serve_on(&self, server: DuplexStream, content: impl Access) -> (Arc<Progress>, JoinHandle<()>) {
        let (place, drain) = (self.place(), self.drain.clone());
        let progress = Arc::clone(&place.progress);
        let served = tokio::spawn(async move { connection::serve_placed(server, content, place, drain).await });
        (progress, served)
    }

    /// Returns the place of a connection.
    fn place(&self) -> connection::Place {
        let times = Times { ready: self.ready, connection: self.connection, ..Times::default() };
        connection::Place::alone(Terms {
            rates: self.rates.clone(),
            heads: self.heads,
            waits: Arc::clone(&self.waits),
            issuer: self.issuer.clone(),
            ..Terms::alone(times, Arc::clone(&self.counters))
        })
    }

    /// Returns the answers so far, by status.
    fn answers(&self) -> Vec<(u16, u64)> {
        self.counters.answers().collect()
    }
}

/// Instance 1 for ever.
struct Fixed(Store);

fn fixed() -> Fixed {
    let store = Store::new(Cloud::default());
    store.put(record(1, "p", &["tap1"]));
    Fixed(store)
}

impl Access for Fixed {
    fn resolve(&self) -> Resolution {
        self.0.served(id(1)).map_or(Resolution::NotReady, Resolution::Ready)
    }

    async fn ready(&self) {
        self.0.wait(id(1)).content().await;
    }

    async fn keep(&self, instance: InstanceId, write: Write) -> Written {
        match write {
            Write::Store(password) => self.0.set_password(instance, password),
            Write::Controller { .. } => Written::Unavailable,
        }
    }

    async fn ended(&self) {
        std::future::pending().await
    }

    fn name(&self) -> u32 {
        0
    }
}

/// Sends, closes its sending side, and reads all that comes back.
async fn exchange(mut client: DuplexStream, request: &[u8]) -> String {
    // The server may have answered and closed before it has read everything.
    let _ = client.write_all(request).await;
    let _ = client.shutdown().await;
    let mut answer = Vec::new();
    client.read_to_end(&mut answer).await.expect("read");
    String::from_utf8(answer).expect("text")
}

/// Reads one answer with a body of known length; leaves the connection open.
async fn one_answer(client: &mut DuplexStream) -> String {
    let mut answer = Vec::new();
    loop {
        let text = String::from_utf8_lossy(&answer).into_owned();
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length = head.lines().find_map(|line| line.strip_prefix("Content-Length: ")).expect("a length");
            if body.len() == length.parse::<usize>().expect("a number") {
                return text;
            }
        }
        answer.push(client.read_u8().await.expect("more of the answer"));
    }
}

#[tokio::test]
async fn until_content_is_there_every_path_answers_503() {
    let body = "The metadata of this instance is not ready yet. Ask again in a second.";
    let head = "HTTP/1.1 503 Service Unavailable\r\nContent-Type: text/plain; charset=UTF-8\r\n";
    for bound in [false, true] {
        let node = Node::new();
        if bound {
            node.bind_to(1)
        } else {
            node.bind(Identity::Held)
        }
        for target in ["/", "/openstack/latest/meta_data.json", "/nonsense", "*"] {
            let (client, _) = node.connect();
            let answer = exchange(client, format!("GET {target} HTTP/1.1\r\n\r\n").as_bytes()).await;
            assert_eq!(answer, format!("{head}Retry-After: 1\r\nContent-Length: {}\r\n\r\n{body}", body.len()));
        }
        let (client, _) = node.connect();
        let answer = exchange(client, b"HEAD / HTTP/1.1\r\n\r\n").await;
        assert_eq!(answer, format!("{head}Content-Length: {}\r\nRetry-After: 1\r\n\r\n", body.len()));
        assert_eq!(node.answers(), [(503, 5)]);
    }
}

#[tokio::test(start_paused = true)]
async fn a_request_before_its_content_waits_for_it_but_not_for_ever() {
    let node = Node { ready: Times::default().ready, ..Node::new() };
    node.bind(Identity::Held);
    let (mut client, _) = node.connect();
    let request = b"GET /openstack/nonsense HTTP/1.1\r\n\r\n";
    let before = Instant::now();
    client.write_all(request).await.expect("sent");
    assert!(one_answer(&mut client).await.starts_with("HTTP/1.1 503 "));
    assert_eq!(before.elapsed().as_secs(), Times::default().ready.as_secs());
    for bound in [false, true] {
        let before = Instant::now();
        client.write_all(request).await.expect("sent");
        tokio::time::sleep(Duration::from_secs(2)).await;
        if bound {
            node.store.put(record(1, "p", &["tap1"]));
            assert!(one_answer(&mut client).await.starts_with("HTTP/1.1 404 "));
            assert!(before.elapsed() < Duration::from_secs(3), "{:?}", before.elapsed());
        } else {
            node.bind_to(1);
            assert!(one_answer(&mut client).await.starts_with("HTTP/1.1 503 "), "bound, without content");
            assert_eq!(before.elapsed().as_secs(), Times::default().ready.as_secs());
        }
    }
    assert_eq!((node.counters.waited.get(), node.answers()), (3, [(404, 1), (503, 2)].to_vec()));
}

#[tokio::test(start_paused = true)]
async fn who_waits_for_content_is_answered_when_the_daemon_ends_and_cut_when_the_binding_does() {
    for ends in ["daemon", "binding"] {
        let node = Node { ready: Times::default().ready, ..Node::new() };
        node.bind(Identity::Held);
        let (mut client, served) = node.connect();
        let before = Instant::now();
        client.write_all(b"GET / HTTP/1.1\r\n\r\n").await.expect("sent");
        tokio::time::sleep(Duration::from_secs(1)).await;
        match ends {
            "daemon" => node.drain.close(),
            _ => node.identities.end(Tag(7)),
        }
        served.await.expect("served");
        assert_eq!(before.elapsed().as_secs(), 1, "{ends}");
        let mut answer = Vec::new();
        client.read_to_end(&mut answer).await.expect("read");
        assert_eq!(answer.starts_with(b"HTTP/1.1 503 "), ends == "daemon", "{ends}");
        assert_eq!(answer.is_empty(), ends == "binding", "{ends}");
    }
}

#[tokio::test(start_paused = true)]
async fn who_would_not_ask_again_after_a_503_is_not_answered_when_the_daemon_ends() {
    let node = Node { ready: Times::default().ready, ..Node::new() };
    node.bind(Identity::Held);
    let (mut client, served) = node.connect();
    client.write_all(b"GET / HTTP/1.1\r\nUser-Agent: Ruby\r\n\r\n").await.expect("sent");
    tokio::time::sleep(Duration::from_secs(1)).await;
    node.drain.close();
    served.await.expect("served");
    let mut answer = Vec::new();
    client.read_to_end(&mut answer).await.expect("read");
    assert!(answer.is_empty(), "{}", String::from_utf8_lossy(&answer));
    assert_eq!((node.counters.unanswered.get(), node.answers()), (1, Vec::new()));
}

#[test]
fn the_text_of_a_503_can_be_a_header() {
    assert!(respond::NOT_READY.bytes().all(|byte| byte.is_ascii_graphic() || byte == b' '));
}

#[tokio::test]
async fn odd_requests_are_answered_as_http_says() {
    let long = format!("GET / HTTP/1.1\r\nX: {}\r\n\r\n", "x".repeat(64 << 10));
    for (request, statuses) in [
        (&b"GET /nonsense HTTP/1.1\r\n\r\n"[..], &["HTTP/1.1 404"][..]),
        (b"GET /nonsense HTTP/1.0\r\n\r\n", &["HTTP/1.0 404"]),
        (b"GET //nonsense?a=b HTTP/1.1\r\nHost: x\r\n\r\n", &["HTTP/1.1 404"]),
        (b"GET http://other/nonsense HTTP/1.1\r\n\r\n", &["HTTP/1.1 404"]),
        (b"GET /nonsense%2f%00%ff HTTP/1.1\r\n\r\n", &["HTTP/1.1 404"]),
        ("GET /nonsens\u{e9} HTTP/1.1\r\n\r\n".as_bytes(), &["HTTP/1.1 404"]),
        (b"NONSENSE /nonsense HTTP/1.1\r\n\r\n", &["HTTP/1.1 404"]),
        (b"GET * HTTP/1.1\r\n\r\n", &["HTTP/1.1 404"]),
        (b"GET /nonsense HTTP/1.1\r\n\r\nGET /other HTTP/1.1\r\n\r\n", &["HTTP/1.1 404", "HTTP/1.1 404"]),
        (b"GET /a HTTP/1.1\r\nConnection: close\r\n\r\nGET /b HTTP/1.1\r\n\r\n", &["HTTP/1.1 404"]),
        (b"PUT /nonsense HTTP/1.1\r\nContent-Length: 3\r\n\r\nabc", &["HTTP/1.1 404"]),
        (b"POST /nonsense HTTP/1.1\r\nContent-Length: 3\r\n\r\nabc", &["HTTP/1.1 404"]),
        (b"POST /nonsense HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n", &["HTTP/1.1 404"]),
        (b"GET /\xff HTTP/1.1\r\n\r\n", &["HTTP/1.1 404"]),
        (b"GET /a<b>c`d|e\"f{g}h\\i^j HTTP/1.1\r\n\r\n", &["HTTP/1.1 404"]),
        (b"GET /?a<b\xff HTTP/1.1\r\n\r\nGET /<\xff HTTP/1.1\r\n\r\n", &["HTTP/1.1 200", "HTTP/1.1 404"]),
        (b"POST /a HTTP/1.1\r\nContent-Length: 9\r\n\r\nA /< B\r\n\r\nGET /< HTTP/1.1\r\n\r\n", &["HTTP/1.1 404"; 2]),
        (b"HEAD /a<b HTTP/1.1\r\n\r\n", &["HTTP/1.1 404"]),
        // No success: that would be a tunnel (RFC 9110, section 9.3.6).
        (b"CONNECT 169.254.169.254:80 HTTP/1.1\r\nHost: x\r\n\r\n", &["HTTP/1.1 404"]),
        (b"CONNECT example.org:443 HTTP/1.1\r\n\r\nGET / HTTP/1.1\r\n\r\n", &["HTTP/1.1 404", "HTTP/1.1 200"]),
        (b"CONNECT example.org HTTP/1.0\r\n\r\n", &["HTTP/1.0 404"]),
        (b"CONNECT / HTTP/1.1\r\n\r\n", &["HTTP/1.1 404"]),
        (b"GET 169.254.169.254:80 HTTP/1.1\r\n\r\n", &["HTTP/1.1 404"]),
        (b"GET ftp://169.254.169.254/ HTTP/1.1\r\n\r\n", &["HTTP/1.1 404"]),
        (b"GET http://169.254.169.254 HTTP/1.1\r\n\r\n", &["HTTP/1.1 200"]),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", &["HTTP/1.1 400"]),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", &["HTTP/1.1 400"]),
        (b"GET\r\n\r\n", &["HTTP/1.1 400"]),
        (long.as_bytes(), &["HTTP/1.1 431"]),
        (b"", &[]),
    ] {
        let node = Node::new();
        let (client, served) = node.serve(fixed());
        let answer = exchange(client, request).await;
        let found: Vec<_> = answer.match_indices("HTTP/1.").map(|(at, _)| &answer[at..at + 12]).collect();
        assert_eq!(found, statuses, "{:?}: {answer}", String::from_utf8_lossy(request));
        served.await.expect("served");
    }
}

#[tokio::test]
async fn what_is_not_http_is_counted() {
    let node = Node::new();
    let (client, served) = node.serve(fixed());
    exchange(client, b"\x16\x03\x01\r\n\r\n").await;
    served.await.expect("served");
    assert_eq!(node.counters.malformed.get(), 1);
}

#[tokio::test]
async fn an_identity_header_of_a_guest_means_nothing_and_is_counted() {
    let node = Node::new();
    let (client, served) = node.serve(fixed());
    let request = "GET /openstack/latest/meta_data.json HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\
                   X-Instance-ID: 00000000-0000-0000-0000-000000000009\r\nX-Tenant-ID: other\r\n\r\n";
    let answer = exchange(client, request.as_bytes()).await;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    assert!(!answer.contains("000000000009"), "{answer}");
    served.await.expect("served");
    assert_eq!(node.counters.claimed_identity.get(), 1);
}

/// Asks on a connection of its own; returns status and body.
async fn ask(node: &Node, method: &str, target: &str, body: &str) -> (u16, String) {
    let (mut client, _) = node.connect();
    let length = body.len();
    let request = format!("{method} {target} HTTP/1.1\r\nContent-Length: {length}\r\n\r\n{body}");
    client.write_all(request.as_bytes()).await.expect("sent");
    let answer = one_answer(&mut client).await;
    let (head, body) = answer.split_once("\r\n\r\n").expect("a head");
    (head[9..12].parse().expect("a status"), body.to_owned())
}

#[tokio::test]
async fn a_password_is_readable_at_once_and_only_the_first_counts() {
    let node = Node::new();
    node.bind_to(1);
    node.store.put(record(1, "p", &["tap1"]));
    let target = "/openstack/2013-04-04/password";
    assert_eq!(ask(&node, "GET", target, "").await, (200, String::new()));
    assert_eq!(ask(&node, "POST", target, "first").await.0, 200);
    assert_eq!(ask(&node, "GET", target, "").await, (200, "first".to_owned()));
    assert_eq!(ask(&node, "POST", target, "second").await.0, 409);
    assert_eq!(ask(&node, "GET", target, "").await, (200, "first".to_owned()));
}

#[tokio::test]
async fn of_posts_at_the_same_time_one_is_kept() {
    let node = Node::new();
    node.bind_to(1);
    node.store.put(record(1, "p", &["tap1"]));
    let target = "/openstack/latest/password";
    let answers =
        tokio::join!(ask(&node, "POST", target, "a"), ask(&node, "POST", target, "b"), ask(&node, "POST", target, "c"));
    let mut statuses = [answers.0.0, answers.1.0, answers.2.0];
    statuses.sort_unstable();
    assert_eq!(statuses, [200, 409, 409]);
}

#[tokio::test]
async fn a_body_that_is_too_long_is_refused_without_being_read() {
    let node = Node::new();
    node.bind_to(1);
    node.store.put(record(1, "p", &["tap1"]));
    let (mut client, _) = node.connect();
    let head = b"POST /openstack/latest/password HTTP/1.1\r\nContent-Length: 100000000\r\n\r\n";
    client.write_all(head).await.expect("sent");
    assert!(one_answer(&mut client).await.starts_with("HTTP/1.1 400 "));
    assert!(node.store.get(id(1)).expect("there").password().is_none());
}

#[tokio::test]
async fn head_has_the_head_of_get_and_no_body() {
    let node = Node::new();
    for target in ["/", "/openstack", "/openstack/latest/network_data.json"] {
        let mut heads = Vec::new();
        for method in ["GET", "HEAD"] {
            let (client, _) = node.serve(fixed());
            let answer = exchange(client, format!("{method} {target} HTTP/1.1\r\n\r\n").as_bytes()).await;
            let (head, body) = answer.split_once("\r\n\r\n").expect("a head");
            assert_eq!(body.is_empty(), method == "HEAD", "{answer}");
            heads.push(head.to_owned());
        }
        assert_eq!(heads[0], heads[1], "{target}");
    }
}
