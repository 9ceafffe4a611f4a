//! Tests of `admin::server`.

use std::collections::BTreeMap;
use std::path::PathBuf;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::sync::mpsc;

use super::*;
use crate::admin::client::{Client, ClientError};
use crate::admin::preview::{GuestAnswer, GuestRequest, PreviewError};
use crate::admin::wait::WaitFor;
use crate::admin::wire::{PortCounters, PortStatus, State, Status};
use crate::admin::{
    Accepting, ConfigDriveError, NoInstance, PasswordError, Previewing, Releasing, TraceError, Tracing, Waiting, wire,
};
use crate::metrics::Format;
use crate::sockets::passing;

/// A node with one bound port, one broken document and nobody behind.
pub(crate) struct Sample;

impl Inspect for Sample {
    /// Sends a socket at once.
    fn take_over(&self, stream: std::os::unix::net::UnixStream) -> bool {
        let socket = std::net::TcpListener::bind("127.0.0.1:0").expect("a socket");
        stream.set_nonblocking(false).expect("a connection");
        passing::send(&stream, &[("one".to_owned(), socket.into())]).is_ok()
    }

    fn release(&self) -> Releasing<'_> {
        Box::pin(std::future::ready(Ok(wire::Released { at: 1_700_000_000, taps: 2, ..wire::Released::default() })))
    }

    fn status(&self) -> Status {
        Status {
            version: "1.2.3".to_owned(),
            pid: 42,
            started_at: 1_700_000_000,
            ready: true,
            source: wire::Source {
                kind: "directory".to_owned(),
                place: "/docs".to_owned(),
                synced_at: Some(1_700_000_001),
                instances: 1,
                broken: vec![wire::Broken {
                    name: "b.json".to_owned(),
                    line: Some(3),
                    column: Some(9),
                    problem: "line 3, column 9: not so; write it so".to_owned(),
                    serves_last_good: true,
                }],
                ..wire::Source::default()
            },
            snapshot: Some(wire::Snapshot {
                path: "/s".to_owned(),
                written_at: Some(1_700_000_000),
                bytes: 900,
                instances: 3,
                error: None,
                refused: Some("/s is torn".to_owned()),
                restored: Some(wire::Restored { instances: 2, as_of: 1_699_999_911, confirmed: false }),
            }),
            vendordata: Some(wire::Vendordata {
                reachable: 0,
                failing: 1,
                targets: vec![wire::VendordataTarget {
                    name: "join".to_owned(),
                    url: "http://x/".to_owned(),
                    on_demand: false,
                    instances: 2,
                    failing: 1,
                    failing_since: Some(1_700_000_031),
                    answered_at: Some(1_700_000_001),
                    failed_at: Some(1_700_000_032),
                    error: Some("connecting: refused".to_owned()),
                }],
            }),
            ports: BTreeMap::from([("bound".to_owned(), 1)]),
            http: wire::Http { open: 1, accepted: 2, answers: [(200, 5), (503, 1)].into(), ..Default::default() },
            ..Status::default()
        }
    }

    fn security(&self) -> io::Result<wire::Security> {
        let thread = |id, name: &str| wire::Thread {
            id,
            name: name.to_owned(),
            no_new_privileges: true,
            seccomp: "off".to_owned(),
            ..wire::Thread::default()
        };
        let net_admin = vec!["CAP_NET_ADMIN".to_owned()];
        let reason = Some("attach programs to taps".to_owned());
        let main = wire::Thread { bounding: vec!["CAP_CHOWN".to_owned(); 40], ..thread(7, "metadatad") };
        let ports = wire::Thread {
            capabilities: vec![wire::HeldCapability { name: net_admin[0].clone(), reason }],
            permitted: net_admin.clone(),
            bounding: net_admin,
            ..thread(8, "ports")
        };
        let guests = wire::Thread {
            seccomp: "filter".to_owned(),
            landlock: Some("no file (version 1)".to_owned()),
            ..thread(9, "guests")
        };
        let no_user = Some("there is no user `metadatad`".to_owned());
        let threads = vec![main, ports, guests];
        Ok(wire::Security { no_user, refused_calls: 3, last_refused_call: Some(59), threads })
    }

    fn guest_attributes(&self, instance: &str) -> Result<wire::GuestAttributes, NoInstance> {
        Ok(wire::GuestAttributes { instance: instance.to_owned(), ..Default::default() })
    }

    fn jwks(&self) -> Option<String> {
        Some("{\"keys\":[]}".to_owned())
    }

    fn anomalies(&self) -> Vec<wire::InstanceAnomalies> {
        let anomaly = wire::Anomaly { kind: "odd_host".to_owned(), count: 3, last_at: 1_700_000_000 };
        vec![wire::InstanceAnomalies {
            instance: "11111111-0000-0000-0000-000000000001".to_owned(),
            project: Some("p".to_owned()),
            anomalies: vec![anomaly],
        }]
    }

    fn boots(&self) -> Vec<wire::PortBoots> {
        let boot = wire::BootShown { outcome: "complete".to_owned(), ..wire::BootShown::default() };
        vec![wire::PortBoots { instance: None, tap: Some("tap1".to_owned()), boots: vec![boot] }]
    }

    fn evidence(&self) -> wire::Evidence {
        let claim = wire::TapClaim { tap: "tap1".to_owned(), instances: vec!["a".to_owned()] };
        wire::Evidence { claims: vec![claim], ..wire::Evidence::default() }
    }

    fn source(&self) -> wire::Source {
        self.status().source
    }

    fn password(&self, instance: &str) -> Result<wire::Password, PasswordError> {
        match instance {
            "a" => Ok(wire::Password::new(instance.to_owned(), Some("cipher".to_owned()))),
            _ => Err(NoInstance.into()),
        }
    }

    fn clear_password(&self, instance: &str) -> Result<wire::Password, PasswordError> {
        match instance {
            "a" => Ok(wire::Password::new(instance.to_owned(), None)),
            _ => Err(PasswordError::KeptByNova),
        }
    }

    fn user_data(&self, instance: &str) -> Result<wire::UserData, NoInstance> {
        match instance {
            "a" => Ok(wire::UserData { instance: instance.to_owned(), read_at: Some(1_700_000_000) }),
            _ => Err(NoInstance),
        }
    }

    fn reset_user_data(&self, instance: &str) -> Result<wire::UserData, NoInstance> {
        self.user_data(instance).map(|user_data| wire::UserData { read_at: None, ..user_data })
    }

    fn access(&self) -> Vec<wire::InstanceAccess> {
        vec![wire::InstanceAccess {
            instance: "11111111-0000-0000-0000-000000000001".to_owned(),
            session: "optional".to_owned(),
            privileged: vec!["user_data".to_owned()],
            unprivileged: [("everything", 9), ("password", 1)].map(|(name, count)| (name.to_owned(), count)).into(),
            refused_unprivileged: 2,
            tokens_issued: 3,
            with_token: 4,
            without_token: 5,
            refused_token: 6,
            clients: vec![
                wire::TokenlessClient { user_agent: "Ohai".to_owned(), requests: 4, last_seen: 1_700_000_000 },
                wire::TokenlessClient { user_agent: String::new(), requests: 1, last_seen: 1_699_999_000 },
            ],
            clients_forgotten: 7,
        }]
    }

    fn accept_source(&self) -> Accepting<'_> {
        Box::pin(async { Err("there is nothing to accept".to_owned()) })
    }

    fn ports(&self) -> Vec<PortStatus> {
        vec![PortStatus {
            ifindex: 5,
            tap: "tap1".to_owned(),
            name: "tap1".to_owned(),
            tag: Some(9),
            state: State::Bound,
            instance: Some("11111111-0000-0000-0000-000000000001".to_owned()),
            project: Some("p".to_owned()),
            port: None,
            origin: Some("libvirt".to_owned()),
            mac: Some("fa:16:3e:00:00:01".to_owned()),
            sources: vec![wire::Allowed { mac: "fa:16:3e:00:00:01".to_owned(), prefix: "10.0.0.1/32".to_owned() }],
            attached: Some("tcx".to_owned()),
            guarded: false,
            guard: None,
            guard_missing: None,
            reason: None,
        }]
    }

    fn counters(&self) -> Vec<PortCounters> {
        let packets = [("to_guest", 7), ("spoofed_ip", 0)].map(|(name, count)| (name.to_owned(), count)).into();
        vec![PortCounters { ifindex: 5, tap: "tap1".to_owned(), name: "tap1".to_owned(), packets }]
    }

    fn preview(&self, asked: GuestRequest) -> Previewing<'_> {
        Box::pin(async move {
            let secret = asked.path.contains("secret");
            let body = if asked.head { Vec::new() } else { b"\xffbody\n".to_vec() };
            let status = if asked.path.contains("none") { "404 Not Found" } else { "200 OK" };
            let head = format!("HTTP/1.1 {status}\r\nContent-Length: 6\r\n\r\n");
            match asked.instance.as_str() {
                "a" => Ok((GuestAnswer { head, body: Some(body) }, secret)),
                _ => Err(PreviewError::NoInstance(asked.instance)),
            }
        })
    }

    fn config_drive(&self, instance: &str) -> Result<wire::ConfigDrive, ConfigDriveError> {
        match instance {
            "web" => Ok(wire::ConfigDrive { instance: "1".to_owned(), ..wire::ConfigDrive::default() }),
            other => Err(PreviewError::NoInstance(other.to_owned()).into()),
        }
    }

    fn wait(&self, asked: WaitFor) -> Waiting<'_> {
        Box::pin(async move {
            let missing = asked.port.map(|port| format!("no {port}"));
            Ok(wire::Waited { instance: asked.instance, ready: missing.is_none(), waited_ms: 1, missing })
        })
    }

    fn metrics(&self, format: Format) -> String {
        format!("{format:?}")
    }

    fn trace(&self, port: String, lines: mpsc::Sender<String>) -> Tracing<'_> {
        Box::pin(async move {
            match port.as_str() {
                "tap1" => {
                    lines.try_send("first".to_owned()).expect("room");
                    lines.try_send("second".to_owned()).expect("room");
                    Ok(())
                }
                "busy %" => Err(TraceError::Refused { port, reason: "another trace is running".to_owned() }),
                _ => Err(TraceError::NoSuchPort(port)),
            }
        })
    }
}

/// Serves [`Sample`] on a socket of its own, on the current runtime.
pub(crate) fn serve() -> (tempfile::TempDir, PathBuf) {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("admin.sock");
    let socket = AdminSocket::open(&path, None).expect("a socket");
    tokio::spawn(async move { run(socket, Arc::new(Sample)).await });
    (directory, path)
}

#[tokio::test]
async fn what_the_daemon_says_arrives() {
    let (_directory, path) = serve();
    let client = Client::new(&path);
    assert_eq!(client.status().await.expect("a status"), Sample.status());
    assert_eq!(client.ports().await.expect("ports"), Sample.ports());
    assert_eq!(client.jwks().await.expect("keys"), serde_json::json!({"keys": []}));
    assert_eq!(client.anomalies().await.expect("anomalies"), Sample.anomalies());
    assert_eq!(client.counters().await.expect("counters"), Sample.counters());
    let mut trace = client.trace("tap1").await.expect("a trace");
    let mut text = String::new();
    while let Some(lines) = trace.next().await.expect("lines") {
        text += std::str::from_utf8(&lines).expect("text");
    }
    assert_eq!(text, "first\nsecond\n");
}

#[tokio::test]
async fn refusals_name_the_thing() {
    let (_directory, path) = serve();
    let client = Client::new(&path);
    let unknown = client.trace("tap9").await.expect_err("no such port");
    assert!(matches!(&unknown, ClientError::NoSuchPort(text) if text.contains("tap9")), "{unknown}");
    let busy = client.trace("busy %").await.expect_err("busy");
    assert_eq!(busy.to_string(), "tracing busy %: another trace is running");
    let nobody = Client::new(&path.with_extension("none")).status().await.expect_err("no socket");
    assert!(matches!(nobody, ClientError::Unreachable { .. }), "{nobody}");
}

#[tokio::test]
async fn a_path_and_a_method_decide_and_a_connection_carries_one_request() {
    let (_directory, path) = serve();
    for (request, status) in [
        ("GET /v1/status", "200 OK"),
        ("POST /v1/status", "405 Method Not Allowed"),
        ("GET /v1/trace?port=tap1", "405 Method Not Allowed"),
        ("POST /v1/trace", "400 Bad Request"),
        ("POST /v1/source/accept", "409 Conflict"),
        ("GET /v1/nonsense", "404 Not Found"),
        ("GET /v1/status/", "404 Not Found"),
    ] {
        let mut stream = UnixStream::connect(&path).await.expect("connected");
        stream.write_all(format!("{request} HTTP/1.1\r\n\r\n").as_bytes()).await.expect("sent");
        let mut answer = String::new();
        // Ends, although the client keeps its side open.
        stream.read_to_string(&mut answer).await.expect("read");
        assert!(answer.starts_with(&format!("HTTP/1.1 {status}\r\n")), "{request}: {answer}");
        let allow = answer.lines().find(|line| line.starts_with("allow: "));
        assert_eq!(allow.is_some(), status.starts_with("405"), "{request}: {answer}");
    }
}

#[tokio::test(start_paused = true)]
async fn clients_that_send_nothing_give_way_and_lock_nobody_out() {
    let (_directory, path) = serve();
    let before = tokio::time::Instant::now();
    let mut silent = Vec::new();
    for _ in 0..CONNECTIONS * 4 {
        silent.push(UnixStream::connect(&path).await.expect("connected"));
    }
    Client::new(&path).status().await.expect("answered");
    // Four times that, if each had its time-out.
    assert!(before.elapsed() < REQUEST_TIMEOUT * 2, "{:?}", before.elapsed());
    drop(silent);
}

/// Asks as somebody with this right, and returns the status line and the body.
async fn ask_as(right: Option<Right>, request: &str) -> String {
    // Nobody that a test can be: only the group decides.
    let (user, group) = (4_000_001, 4_000_000);
    let (peer, readers) = match right {
        Some(Right::Change) => (Peer::sample(0, &[]), None),
        Some(Right::Read) => (Peer::sample(user, &[group]), Some(group)),
        None => (Peer::sample(user, &[5]), Some(group)),
    };
    let (server, mut client) = UnixStream::pair().expect("a pair");
    let sample: Arc<dyn Inspect> = Arc::new(Sample);
    tokio::spawn(async move { converse(server, sample, daemon::RESOURCES, &peer, readers, || {}).await });
    client.write_all(format!("{request} HTTP/1.1\r\n\r\n").as_bytes()).await.expect("sent");
    let mut answer = Vec::new();
    client.read_to_end(&mut answer).await.expect("read");
    String::from_utf8_lossy(&answer).into_owned()
}

#[tokio::test]
async fn reading_and_changing_are_separate_rights_of_each_resource() {
    for resource in daemon::RESOURCES {
        let request = format!("{} {}?instance=a&port=tap1&path=/x&timeout_ms=1", resource.method, resource.path);
        for (right, granted) in
            [(None, false), (Some(Right::Read), resource.right == Right::Read), (Some(Right::Change), true)]
        {
            let answer = ask_as(right, &request).await;
            assert_eq!(!answer.starts_with("HTTP/1.1 403"), granted, "{right:?} {request}: {answer}");
            if !granted {
                assert!(answer.contains("user 4000001") && answer.contains("as root"), "{answer}");
            }
        }
    }
}

#[tokio::test]
async fn metrics_come_in_the_format_that_the_client_names() {
    for (accept, content_type, body) in [
        ("*/*", "text/plain; version=0.0.4; charset=utf-8", "Text"),
        (
            "application/openmetrics-text;version=1.0.0,text/plain;q=0.5",
            "application/openmetrics-text; version=1.0.0; charset=utf-8",
            "OpenMetrics",
        ),
    ] {
        let answer = ask_as(Some(Right::Read), &format!("GET /metrics HTTP/1.1\r\nAccept: {accept}\r\nx: y")).await;
        assert!(answer.contains(&format!("content-type: {content_type}\r\n")) && answer.ends_with(body), "{answer}");
    }
}

#[tokio::test]
async fn who_may_only_read_gets_no_secret() {
    let answer = ask_as(Some(Right::Read), "GET /v1/password?instance=a").await;
    assert!(answer.contains("\"is_set\":true") && !answer.contains("cipher"), "{answer}");
    let secret = ask_as(Some(Right::Change), "GET /v1/password/secret?instance=a").await;
    assert!(secret.contains("cipher"), "{secret}");
    for (request, has_body) in [("read?instance=a&path=/x", true), ("read?instance=a&path=/secret", false)] {
        let answer = ask_as(Some(Right::Read), &format!("GET /v1/{request}")).await;
        assert_eq!(answer.contains("body"), has_body, "{answer}");
    }
    let secret = ask_as(Some(Right::Change), "GET /v1/read/secret?instance=a&path=/secret").await;
    assert!(secret.contains("body"), "{secret}");
    for resource in daemon::RESOURCES.iter().filter(|resource| resource.right == Right::Read) {
        assert_eq!(resource.method, Method::GET, "{} changes something", resource.path);
    }
}

#[tokio::test]
async fn a_socket_that_is_sent_at_once_is_not_lost_behind_the_answer() {
    let (_directory, path) = serve();
    for _ in 0..20 {
        let stream = Client::new(&path).take_over().await.expect("a connection");
        let received = tokio::task::spawn_blocking(move || {
            stream.set_nonblocking(false).expect("a connection");
            passing::receive(&stream).expect("sockets")
        });
        let received = received.await.expect("a thread");
        assert_eq!(received.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>(), ["one"]);
    }
}
