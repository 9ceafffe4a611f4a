//! Tests of `source::vendordata`.

mod on_demand;

use std::io::{BufRead as _, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use serde_json::json;

use super::*;
use crate::api::{self, StaticVendordata};
use crate::config::target::Target as Configured;
use crate::config::{Config, VendordataProvider};
use crate::on_demand::OnDemand;
use crate::record::InstanceRecord;
use crate::store::tests::{id, record};

/// What a service does with a request.
enum Reply {
    Answer(u16, &'static str, Vec<u8>),
    /// Closes without an answer.
    Close,
    /// Says nothing, until the client goes.
    Hang,
}

fn ok(body: &str) -> Reply {
    Reply::Answer(200, "", body.into())
}

/// A real HTTP server on a port of loopback.
struct Service {
    port: u16,
    stopped: Arc<AtomicBool>,
    requests: Arc<AtomicUsize>,
    reply: Arc<Mutex<Reply>>,
    /// Head and body of the last request.
    last: Arc<Mutex<(String, Vec<u8>)>>,
}

impl Service {
    fn start(reply: Reply) -> Self {
        Self::over(None, reply)
    }

    fn over(tls: Option<Arc<rustls::ServerConfig>>, reply: Reply) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let service = Self {
            port: listener.local_addr().expect("an address").port(),
            stopped: Arc::default(),
            requests: Arc::default(),
            reply: Arc::new(Mutex::new(reply)),
            last: Arc::default(),
        };
        let (stopped, requests) = (Arc::clone(&service.stopped), Arc::clone(&service.requests));
        let (reply, last) = (Arc::clone(&service.reply), Arc::clone(&service.last));
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                if stopped.load(Ordering::SeqCst) {
                    return;
                }
                let (stream, tls) = (stream.expect("a connection"), tls.clone());
                stream.set_read_timeout(Some(Duration::from_secs(10))).expect("bounded");
                let (requests, reply, last) = (Arc::clone(&requests), Arc::clone(&reply), Arc::clone(&last));
                std::thread::spawn(move || match tls {
                    None => serve(stream, &requests, &reply, &last),
                    Some(tls) => {
                        let session = rustls::ServerConnection::new(tls).expect("a session");
                        serve(rustls::StreamOwned::new(session, stream), &requests, &reply, &last);
                    }
                });
            }
        });
        service
    }

    fn replies(&self, reply: Reply) {
        *self.reply.lock().expect("no panic") = reply;
    }

    fn asked(&self) -> usize {
        self.requests.load(Ordering::SeqCst)
    }

    fn url(&self) -> String {
        format!("http://127.0.0.1:{}/join?x=1", self.port)
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        self.stopped.store(true, Ordering::SeqCst);
        let _ = TcpStream::connect(("127.0.0.1", self.port));
    }
}

fn serve(stream: impl Read + Write, requests: &AtomicUsize, reply: &Mutex<Reply>, last: &Mutex<(String, Vec<u8>)>) {
    let mut stream = BufReader::new(stream);
    let (mut head, mut length) = (String::new(), 0);
    loop {
        let start = head.len();
        // A client that does not trust this server, or goes.
        if stream.read_line(&mut head).unwrap_or(0) == 0 {
            return;
        }
        let line = head[start..].trim();
        if line.is_empty() {
            break;
        }
        if let Some(value) = line.strip_prefix("content-length: ") {
            length = value.parse().expect("a length");
        }
    }
    let mut body = vec![0; length];
    stream.read_exact(&mut body).expect("a body");
    *last.lock().expect("no panic") = (head, body);
    requests.fetch_add(1, Ordering::SeqCst);
    match &*reply.lock().expect("no panic") {
        Reply::Answer(status, headers, body) => {
            let head = format!("HTTP/1.1 {status} X\r\n{headers}Content-Length: {}\r\n\r\n", body.len());
            // The client may have seen enough.
            let _ = stream.get_mut().write_all(&[head.as_bytes(), body].concat());
            let _ = stream.get_mut().flush();
            return;
        }
        Reply::Close => return,
        Reply::Hang => {}
    }
    let _ = stream.read(&mut [0]);
}

fn cloud(targets: &[(&str, &str)]) -> config::Cloud {
    let mut cloud = Config::default().cloud;
    cloud.vendordata_providers = vec![VendordataProvider::StaticJson, VendordataProvider::DynamicJson];
    let dynamic = &mut cloud.vendordata_dynamic;
    let parse = |(name, url): &(&str, &str)| Configured {
        name: (*name).to_owned(),
        url: TargetUrl::parse(url).expect("a URL"),
        is_on_demand: false,
    };
    dynamic.asked = targets.iter().map(parse).collect();
    dynamic.targets = targets.iter().map(|(name, url)| format!("{name}@{url}")).collect();
    dynamic.refresh = None;
    cloud
}

struct Running {
    store: Arc<Store>,
    state: StateView<VendordataState>,
    on_demand: OnDemand,
    task: task::JoinHandle<()>,
}

impl Running {
    fn start(cloud: &config::Cloud) -> Self {
        let store = Arc::new(Store::new(api::Cloud {
            vendordata_providers: vec![api::VendordataProvider::StaticJson, api::VendordataProvider::DynamicJson],
            vendordata_static: StaticVendordata::from(&json!({"s": 1})),
            vendordata_dynamic_targets: cloud.targets_ahead(),
            ..api::Cloud::default()
        }));
        let vendordata = Vendordata::new(cloud).expect("prepared").expect("targets");
        let state = vendordata.state();
        let (on_demand, asks) = crate::on_demand::channel();
        let task = tokio::spawn(vendordata.run(Arc::clone(&store), store.subscribe(), asks));
        Self { store, state, on_demand, task }
    }

    /// What the guest of instance 1 reads at this moment.
    fn read(&self) -> String {
        let request = api::Request {
            method: "GET",
            target: "/openstack/latest/vendor_data2.json",
            accept: None,
            content_length: None,
            body: &[],
            today: crate::clock::today,
            seed: &|_| {},
        };
        let answer = self.store.get(id(1)).expect("an instance").reply(&request).into_answer().expect("an answer");
        assert_eq!(answer.status, api::Status::Ok);
        String::from_utf8(answer.body.to_vec()).expect("text")
    }

    async fn reads(&self, expected: &str) {
        until(|| self.read() == expected, || format!("{}, not {expected}: {:?}", self.read(), self.state.get())).await;
    }

    /// Waits for the first target's state.
    async fn target(&self, is_so: impl Fn(&TargetState) -> bool) -> TargetState {
        until(|| is_so(&self.state.get().targets[0]), || format!("{:?}", self.state.get())).await;
        self.state.get().targets[0].clone()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn until(condition: impl Fn() -> bool, message: impl Fn() -> String) {
    let deadline = Instant::now() + Duration::from_secs(10);
    while !condition() {
        assert!(Instant::now() < deadline, "{}", message());
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

fn renamed(hostname: &str) -> InstanceRecord {
    InstanceRecord { hostname: hostname.into(), ..record(1, "p", &["tap1"]) }
}

#[tokio::test]
async fn answers_are_there_before_a_guest_asks() {
    let (join, other) = (Service::start(ok("{\"b\": [1, \"é\"], \"a\": 1.50}")), Service::start(ok("\"x\"")));
    let running = Running::start(&cloud(&[("z", &join.url()), ("static", &other.url()), ("a", &other.url())]));
    running.store.put(renamed("web"));
    running.reads(r#"{"static": {"s": 1}, "z": {"b": [1, "\u00e9"], "a": 1.5}, "a": "x"}"#).await;
    // The answer to the taken key is kept too, and may come last.
    let kept = || running.store.get(id(1)).map_or(0, |instance| instance.dynamic().len());
    until(|| kept() == 3, || format!("{} answers", kept())).await;
    assert_eq!((join.asked(), other.asked()), (1, 2), "a taken key is asked for as well");
    let (head, body) = join.last.lock().expect("no panic").clone();
    assert!(head.starts_with("POST /join?x=1 HTTP/1.1\r\n"), "{head}");
    for header in [
        format!("host: 127.0.0.1:{}", join.port),
        "content-type: application/json".into(),
        "accept: application/json".into(),
        "user-agent: openstack-nova-vendordata".into(),
    ] {
        assert!(head.lines().any(|line| line == header), "{header} in {head}");
    }
    let instance = running.store.get(id(1)).expect("there");
    assert_eq!(body, vendor_data::request_body(instance.record()));

    let (before, asked) = (Arc::as_ptr(instance.dynamic()), join.asked());
    running.store.put(renamed("renamed"));
    until(|| join.asked() > asked && other.asked() >= 4, || "not asked for a changed document".into()).await;
    running.target(|_| running.state.get().targets.iter().all(|target| target.failing == 0)).await;
    let now = running.store.get(id(1)).expect("there");
    assert_eq!(Arc::as_ptr(now.dynamic()), before, "an equal answer changes nothing");
    assert!(String::from_utf8_lossy(&join.last.lock().expect("no panic").1).contains("\"renamed\""));
}

#[tokio::test]
async fn a_failure_keeps_the_last_good_answer() {
    let mut cases = JoinSet::new();
    for (reply, expected) in [
        (Reply::Answer(500, "", b"[2]".to_vec()), "status 500"),
        (Reply::Answer(404, "", b"[2]".to_vec()), "status 404"),
        (ok("no"), "not JSON"),
        (ok(&format!("\"{}\"", "x".repeat(100))), "more than 100 bytes"),
        (Reply::Answer(302, "Location: /\r\n", b"[2]".to_vec()), "redirect"),
        (Reply::Close, "exchanging"),
        (Reply::Hang, "no complete answer within 50ms"),
    ] {
        cases.spawn(fail_and_recover(reply, expected));
    }
    while let Some(case) = cases.join_next().await {
        case.expect("a case");
    }
}

async fn fail_and_recover(reply: Reply, expected: &'static str) {
    let service = Service::start(reply);
    let mut cloud = cloud(&[("a", &service.url())]);
    cloud.vendordata_dynamic.read_timeout = Duration::from_millis(50);
    cloud.vendordata_dynamic.body_limit = 100;
    let running = Running::start(&cloud);
    running.store.put(renamed("one"));
    let state = running.target(|target| target.failing == 1).await;
    assert!(state.error.as_ref().is_some_and(|(_, error)| error.contains(expected)), "{expected}: {state:?}");
    assert!(state.failing_since.is_some() && state.answered_at.is_none());
    assert_eq!(running.read(), r#"{"static": {"s": 1}, "a": {}}"#, "nothing, as Nova has it");

    let bad = std::mem::replace(&mut *service.reply.lock().expect("no panic"), ok("[1]"));
    // By itself, after its back-off.
    running.reads(r#"{"static": {"s": 1}, "a": [1]}"#).await;
    let state = running.target(|target| target.failing == 0).await;
    assert!(state.failing_since.is_none() && state.answered_at.is_some() && state.error.is_some(), "{state:?}");

    service.replies(bad);
    running.store.put(renamed("two"));
    running.target(|target| target.failing == 1).await;
    assert_eq!(running.read(), r#"{"static": {"s": 1}, "a": [1]}"#, "{expected}: the last good one");

    running.store.remove(id(1));
    running.target(|target| (target.instances, target.failing) == (0, 0)).await;
    running.store.put(renamed("two"));
    assert_eq!(running.read(), r#"{"static": {"s": 1}, "a": {}}"#, "it went with the instance");
}

#[tokio::test]
async fn an_empty_answer_is_an_answer() {
    let service = Service::start(ok("[1]"));
    let mut cloud = cloud(&[("a", &service.url())]);
    cloud.vendordata_dynamic.refresh = Some(Duration::from_millis(20));
    let running = Running::start(&cloud);
    running.store.put(renamed("one"));
    running.reads(r#"{"static": {"s": 1}, "a": [1]}"#).await;
    service.replies(ok(""));
    // A refresh, since the document stays as it is.
    running.reads(r#"{"static": {"s": 1}, "a": {}}"#).await;
    assert_eq!(running.target(|_| true).await.failing, 0);
}

#[tokio::test]
async fn a_target_that_hangs_holds_up_no_other() {
    let (bad, good) = (Service::start(Reply::Hang), Service::start(ok("1")));
    let mut cloud = cloud(&[("bad", &bad.url()), ("good", &good.url())]);
    cloud.vendordata_dynamic.requests = 3;
    let running = Running::start(&cloud);
    for number in 1..=20 {
        running.store.put(record(number, "p", &[]));
    }
    running.reads(r#"{"static": {"s": 1}, "bad": {}, "good": 1}"#).await;
    until(|| good.asked() == 20, || "held up".into()).await;
    assert!(bad.asked() <= 2, "bounded: {}", bad.asked());
}

#[tokio::test]
async fn a_target_of_https_must_be_trusted() {
    let key = rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("a certificate");
    let directory = tempfile::tempdir().expect("a directory");
    let (trusted, other) = (directory.path().join("ca.pem"), directory.path().join("other.pem"));
    std::fs::write(&trusted, key.cert.pem()).expect("a file");
    let stranger = rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("a certificate");
    std::fs::write(&other, stranger.cert.pem()).expect("a file");
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let private = rustls::pki_types::PrivateKeyDer::try_from(key.signing_key.serialize_der()).expect("a key");
    let tls = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_no_client_auth()
        .with_single_cert(vec![key.cert.der().clone()], private)
        .expect("a certificate");
    let service = Service::over(Some(Arc::new(tls)), ok("[1]"));

    let mut cloud = cloud(&[("a", &format!("https://localhost:{}/", service.port))]);
    cloud.vendordata_dynamic.ssl_certfile = Some(trusted);
    let running = Running::start(&cloud);
    running.store.put(renamed("one"));
    running.reads(r#"{"static": {"s": 1}, "a": [1]}"#).await;

    cloud.vendordata_dynamic.ssl_certfile = Some(other.clone());
    let running = Running::start(&cloud);
    running.store.put(renamed("one"));
    let state = running.target(|target| target.failing == 1).await;
    assert!(state.error.is_some_and(|(_, error)| error.contains("certificate")), "named");
    assert_eq!(service.asked(), 1, "no request without a verified certificate");

    for text in ["", "-----BEGIN CERTIFICATE-----\n!\n"] {
        std::fs::write(&other, text).expect("a file");
        let error = Vendordata::new(&cloud).err().expect("no certificate").to_string();
        assert!(error.contains("other.pem"), "{error}");
    }
}

#[test]
fn no_target_is_queried_unless_the_provider_is_configured() {
    let mut cloud = cloud(&[("a", "http://127.0.0.1:1/")]);
    cloud.vendordata_providers.pop();
    assert!(Vendordata::new(&cloud).expect("prepared").is_none());
}
