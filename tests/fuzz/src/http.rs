//! A guest's connection: its bytes into the HTTP service, as the daemon serves it, over a stream in memory.
//!
//! An input is the policy of the instance and who connects, how the bytes come, and the bytes. `@TOKEN@` in them stands for a
//! session token of this guest, `@OTHER@` for one of another guest.
//!
//! Checked: an identity token is about this guest's instance, and has nothing of the guest's but audience and nonce, of their lengths; each answer has one of the statuses and headers that the service has; none holds anything of another instance; what
//! the instance's policy forbids is in none; where tokens are required, only a token of this guest's leads to content; once the
//! binding has ended, nothing more is sent; each record of the audit log is one line of JSON, with the right instance.

mod world;

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use metadata_user::drain::Drain;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use self::world::{CONTENT, OTHER, Port, USER_DATA, World};
use crate::input::Input;
use crate::stream::{self, Answer, find};

/// Statuses of the service, of Nova's stack and of hyper. 100: the guest asks whether to send a body.
const STATUSES: [u16; 14] = [100, 200, 304, 400, 401, 403, 404, 405, 409, 413, 414, 429, 431, 503];

/// Headers of answers.
const HEADERS: [&str; 8] = [
    "content-type",
    "content-length",
    "connection",
    "retry-after",
    "allow",
    "etag",
    "x-aws-ec2-metadata-token-ttl-seconds",
    // hyper's, of its own answers.
    "date",
];

const OWN_TOKEN: &[u8] = b"@TOKEN@";
const OTHER_TOKEN: &[u8] = b"@OTHER@";

/// Longest life of a connection: what hyper and the service wait for is far shorter.
const LONG: Duration = Duration::from_secs(3600);

/// Runs an input.
pub fn run(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let [policy, access, caller, cut, end] = input.array();
    let request = input.rest();
    if [CONTENT, USER_DATA, OTHER].iter().any(|mark| find(request, mark.as_bytes()).is_some()) {
        // The guest may post anything as its password, and read it again.
        return;
    }
    stream::block_on(async {
        let world = World::new(policy, access, caller);
        let has_token = find(request, OWN_TOKEN).is_some();
        let request = world.with_tokens(request).await;
        let listening = world.listener.clone();
        let (answer, ended) = tokio::select! {
            () = listening.take_turns() => unreachable!("it never completes"),
            outcome = connect(&world, cut, end, &request) => outcome,
        };
        check(&world, has_token, ended, &answer);
    });
}

/// Sends the request and returns what came back; and whether the binding ended before the connection did.
async fn connect(world: &World, cut: u8, end: u8, request: &[u8]) -> (Vec<u8>, bool) {
    let (client, server) = tokio::io::duplex(64 << 10);
    let drain = Drain::new();
    let served = world.listener.serve(server, world.peer(), &drain);
    let is_over = AtomicBool::new(false);
    let serving = async {
        let outcome = tokio::time::timeout(LONG, served).await;
        is_over.store(true, Ordering::Relaxed);
        outcome.expect("a connection ends").is_err()
    };
    let talking = async {
        if end == 0 || end > 64 {
            return (stream::send(client, cut, request).await, false);
        }
        // After so many pieces the binding ends.
        let (mut read, mut write) = tokio::io::split(client);
        let (mut answer, mut buffer) = (Vec::new(), vec![0; 64 << 10]);
        for piece in stream::pieces(cut.max(1), request).take(usize::from(end)) {
            if write.write_all(piece).await.is_err() {
                break;
            }
            // What is sent by now was sent in time: the server has nothing to do but wait.
            while let Ok(Ok(length @ 1..)) =
                tokio::time::timeout(Duration::from_millis(1), read.read(&mut buffer)).await
            {
                answer.extend_from_slice(&buffer[..length]);
            }
        }
        let ended = !is_over.load(Ordering::Relaxed);
        world.end_binding();
        let _ = write.shutdown().await;
        let mut late = Vec::new();
        read.read_to_end(&mut late).await.expect("memory does not fail");
        assert!(late.is_empty(), "sent after the binding ended: {}", String::from_utf8_lossy(&late));
        (answer, ended)
    };
    let (refused, (answer, ended)) = tokio::join!(serving, talking);
    assert!(!refused || answer.is_empty(), "a refused connection gets no answer");
    (answer, ended)
}

fn check(world: &World, has_token: bool, ended: bool, bytes: &[u8]) {
    let shown = || String::from_utf8_lossy(bytes).into_owned();
    assert!(find(bytes, OTHER.as_bytes()).is_none(), "another instance's content: {}", shown());
    if !world.may_read_user_data() {
        assert!(find(bytes, USER_DATA.as_bytes()).is_none(), "user data that is closed: {}", shown());
    }
    if !world.may_read() {
        assert!(find(bytes, CONTENT.as_bytes()).is_none(), "content that is closed: {}", shown());
    }
    if ended {
        // Cut anywhere.
        return check_records(world);
    }
    for Answer { status, headers, body } in stream::answers(bytes) {
        assert!(STATUSES.contains(&status), "{status}: {}", shown());
        for (name, _) in &headers {
            assert!(HEADERS.contains(&name.as_str()), "{name}: {}", shown());
        }
        let has = |name: &str| headers.iter().any(|(other, _)| other == name);
        assert_eq!(has("retry-after"), matches!(status, 429 | 503), "{}", shown());
        assert_eq!(has("allow"), status == 405, "{}", shown());
        if headers.iter().any(|(name, value)| name == "content-type" && *value == b"application/jwt")
            && !body.is_empty()
        {
            check_claims(world, body);
        }
        if status == 200 {
            assert!(world.port == Port::Bound, "content of a port without an instance: {}", shown());
            let is_token = body.len() == world::TOKEN_LENGTH || (body.is_empty() && !has("content-type"));
            assert!(world.may_read() || is_token, "what is closed: {}", shown());
            let needs_token = world.needs_token() && !has_token;
            assert!(!needs_token || is_token, "content without a token: {}", shown());
        }
    }
    check_records(world);
}

fn check_claims(world: &World, token: &[u8]) {
    let parts: Vec<_> = token.split(|byte| *byte == b'.').collect();
    let claims = URL_SAFE_NO_PAD.decode(parts[1]).expect("base64");
    let claims: serde_json::Value = serde_json::from_slice(&claims).expect("JSON");
    let facts = &claims["openstack"];
    assert_eq!((parts.len(), facts["instance_id"].as_str()), (3, world.instance().as_deref()), "{claims}");
    assert_eq!(
        (&claims["iss"], &facts["node"], &facts["project_id"]),
        (&"issuer".into(), &"node".into(), &"p1".into())
    );
    let is_printable =
        |text: &str, longest| (1..=longest).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic());
    assert!(claims["aud"].as_str().is_some_and(|text| is_printable(text, 256)), "{claims}");
    assert!(
        claims["nonce"].is_null() || claims["nonce"].as_str().is_some_and(|text| is_printable(text, 128)),
        "{claims}"
    );
}

fn check_records(world: &World) {
    for (json, entry) in world.records.take() {
        let line = json.strip_suffix(b"\n").expect("a line");
        let record: serde_json::Value = serde_json::from_slice(line).expect("JSON");
        assert!(!line.contains(&b'\n') && record.is_object());
        let instance = record["instance"].as_str();
        assert_eq!(instance, world.instance().as_deref(), "{record}");
        for secret in [CONTENT, USER_DATA, OTHER] {
            assert!(find(&json, secret.as_bytes()).is_none() && find(&entry, secret.as_bytes()).is_none());
        }
        for field in entry.split(|byte| *byte == b'\n').filter(|field| !field.is_empty()) {
            let name = field.split(|byte| *byte == b'=').next().unwrap_or_default();
            let is_name = name.iter().all(|byte| byte.is_ascii_uppercase() || *byte == b'_' || byte.is_ascii_digit());
            assert!(is_name && name.len() < field.len(), "{}", String::from_utf8_lossy(&entry));
        }
    }
}
