//! What a node signs, verified by other implementations (PyJWT, jose): docs/identity.md's own commands and its service, with real guests.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use anyhow::{Context as _, Result};
use lab::fetched::collection;
use lab::{Guest, Node, NodePlan, Page, command, wait};
use serde_json::{Value, json};
use tempfile::TempDir;

const ISSUER: &str = "https://identity.cloud.example";
const AUDIENCE: &str = "https://vault.example";
const NAME: &str = "compute-1";
/// Of the lab's documents.
const PROJECT: &str = "f7ac731cc11f40efbc03a9f9e1d1d21f";
const JWKS: &str = "http://127.0.0.1:9169/.well-known/jwks.json";
const DOCUMENT: &str = "http://169.254.169.254/latest/dynamic/instance-identity";

fn page() -> Page {
    Page::read("docs/identity.md").unwrap()
}

/// A node that signs with a key that the page's command made.
struct Signing {
    node: Node,
    keys: TempDir,
}

impl Signing {
    fn start(further: &str) -> Self {
        let keys = tempfile::tempdir().unwrap();
        make(keys.path(), 0);
        let config = format!(
            "[identity]\nkey_file = {:?}\nissuer = \"{ISSUER}\"\nnode = \"{NAME}\"\n\n[metrics]\n\
             listen = \"127.0.0.1:9169\"\n{further}",
            keys.path().join("identity.pem")
        );
        Self { node: NodePlan::default().further(&config).start().unwrap(), keys }
    }

    /// Runs a block of the page where the keys are.
    fn run_block(&self, at: usize) {
        make(self.keys.path(), at);
    }

    /// Returns the names of the keys that are published; the first one's signs.
    fn key_ids(&self) -> Result<Vec<String>> {
        Ok(serde_json::from_value(self.node.status()?["identity"]["key_ids"].clone())?)
    }

    /// Waits until the keys are as they should be, and returns their names.
    fn wait_keys(&self, what: &str, is: impl Fn(&[String]) -> bool) -> Vec<String> {
        wait::until(what, || Ok(Some(self.key_ids()?).filter(|ids| is(ids)))).unwrap()
    }

    fn jwks(&self) -> Value {
        serde_json::from_str(&self.node.ask(&["jwks"]).unwrap()).unwrap()
    }
}

/// Runs one of the page's blocks of commands.
fn make(directory: &Path, at: usize) {
    let page = page();
    let block = page.blocks("sh")[at];
    command::run(Command::new("sh").args(["-e", "-c", &format!("umask 077\n{block}")]).current_dir(directory), "")
        .unwrap();
}

fn token(guest: &Guest, audience: &str, nonce: &str) -> String {
    let url = format!("http://169.254.169.254/openstack/latest/identity?audience={audience}&nonce={nonce}");
    guest.curl(&["-sS", "--fail", &url]).unwrap()
}

/// The page's service, which runs in the node's namespace.
struct Service<'n> {
    node: &'n Node,
    child: Child,
    _script: TempDir,
}

impl<'n> Service<'n> {
    const PORT: u16 = 8143;

    fn start(node: &'n Node) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let script = directory.path().join("service.py");
        fs::write(&script, page().blocks("python")[0]).unwrap();
        let mut python = node.namespace().command(python().to_str().unwrap()).unwrap();
        python.arg(script).args([NAME, JWKS, ISSUER, AUDIENCE, &Self::PORT.to_string()]);
        python.env("no_proxy", "*").stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let service = Self { node, child: python.spawn().unwrap(), _script: directory };
        wait::until("the service answers", || Ok(service.ask("GET", "").ok())).unwrap();
        service
    }

    /// Sends a request, and returns status and answer.
    fn ask(&self, method: &str, body: &str) -> Result<(u16, Value)> {
        let address = SocketAddr::from(([127, 0, 0, 1], Self::PORT));
        let mut stream = self.node.namespace().run(|| Ok(TcpStream::connect_timeout(&address, wait::PATIENCE)?))?;
        stream.set_read_timeout(Some(wait::PATIENCE))?;
        write!(stream, "{method} / HTTP/1.0\r\nContent-Length: {}\r\n\r\n{body}", body.len())?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        let (head, body) = answer.split_once("\r\n\r\n").context("a head")?;
        let status = head.split(' ').nth(1).context("a status")?.parse()?;
        Ok((status, serde_json::from_str(body)?))
    }

    fn nonce(&self) -> String {
        self.ask("GET", "").unwrap().1["nonce"].as_str().unwrap().to_owned()
    }

    /// Logs in with a token. Returns who that is.
    fn log_in(&self, token: &str) -> Result<Value, String> {
        let (status, answer) = self.ask("POST", token).unwrap();
        if status == 200 { Ok(answer) } else { Err(answer["error"].as_str().unwrap_or_default().to_owned()) }
    }
}

impl Drop for Service<'_> {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn python() -> PathBuf {
    collection("clients").unwrap().join("venv/bin/python")
}

#[test]
fn a_guest_logs_in_at_a_service_that_checks_audience_nonce_and_node() {
    let signing = Signing::start("");
    let (node, service) = (&signing.node, Service::start(&signing.node));
    let facts = |guest: &Guest, who: &Value| {
        assert_eq!((&who["instance_id"], &who["port_id"]), (&json!(guest.uuid()), &json!(guest.port())));
        assert_eq!((&who["node"], &who["project_id"]), (&json!(NAME), &json!(PROJECT)));
    };
    let guests = ["a", "b"].map(|name| node.guest(name).boot().unwrap());
    for guest in &guests {
        facts(guest, &service.log_in(&token(guest, AUDIENCE, &service.nonce())).unwrap());
    }
    let guest = &guests[0];
    let used = token(guest, AUDIENCE, &service.nonce());
    service.log_in(&used).unwrap();
    for (token, problem) in [
        (used.clone(), "was used"),
        (token(guest, "https://other.example", &service.nonce()), "Audience"),
        (token(guest, AUDIENCE, "made-up"), "not one of ours"),
        // Another head or other claims under the same signature.
        (format!("{}A{}", &used[..60], &used[61..]), ""),
        ("eyJhbGciOiJub25lIn0.e30.".to_owned(), ""),
    ] {
        let refused = service.log_in(&token).unwrap_err();
        assert!(refused.contains(problem), "{problem}: {refused}");
    }
    let without = "http://169.254.169.254/openstack/latest/identity?audience=https://vault.example";
    let refused = service.log_in(&guest.curl(&["-sS", "--fail", without]).unwrap()).unwrap_err();
    assert!(refused.contains("nonce"), "{refused}");
    let identity = node.status().unwrap()["identity"].clone();
    assert_eq!((&identity["tokens"], &identity["error"]), (&json!(6), &json!(null)), "{identity}");
    let metrics = node.metrics().unwrap();
    let unrefused = "metadatad_refused_system_calls_total 0";
    assert!(metrics.lines().any(|line| line == unrefused), "signing needs no system call that is refused: {metrics}");
}

/// Verifies a token with jose.
fn verified_by_jose(jwks: &Value, token: &str, audience: &str) -> Value {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("clients/node/verify_identity.cjs");
    let mut node = Command::new("node");
    node.arg(script).args([&jwks.to_string(), token, ISSUER, audience]);
    node.env("NODE_PATH", collection("clients").unwrap().join("node/node_modules"));
    serde_json::from_str(&command::run(&mut node, "").unwrap()).unwrap()
}

#[test]
fn jose_verifies_a_token_and_names_the_keys_as_the_node_does() {
    let signing = Signing::start("");
    let guest = signing.node.guest("a").boot().unwrap();
    signing.run_block(1);
    signing.wait_keys("both are published", |ids| ids.len() == 2);
    let (token, jwks) = (token(&guest, AUDIENCE, "n-1"), signing.jwks());
    let verified = verified_by_jose(&jwks, &token, AUDIENCE);
    let claims = &verified["claims"];
    assert_eq!((&verified["named"], &claims["nonce"]), (&json!(true), &json!("n-1")), "{verified}");
    assert_eq!(claims["sub"], format!("urn:uuid:{}", guest.uuid()));
    let life = claims["exp"].as_u64().zip(claims["iat"].as_u64()).map(|(end, begin)| end - begin);
    assert_eq!(life, Some(300));
    let refused = verified_by_jose(&jwks, &token, "https://other.example");
    assert_eq!(refused["error"], "ERR_JWT_CLAIM_VALIDATION_FAILED", "{refused}");
    let published = jwks["keys"].as_array().unwrap();
    let other = verified_by_jose(&json!({"keys": [published[1]]}), &token, AUDIENCE);
    assert_eq!(other["error"], "ERR_JWKS_NO_MATCHING_KEY", "{other}");
}

#[test]
fn during_a_rotation_tokens_of_the_old_and_of_the_new_key_are_verified() {
    let signing = Signing::start("\n[security]\nuser = \"nobody\"\n");
    let service = Service::start(&signing.node);
    let guest = signing.node.guest("a").boot().unwrap();
    let [first] = <[String; 1]>::try_from(signing.key_ids().unwrap()).unwrap();
    let before = token(&guest, AUDIENCE, &service.nonce());
    signing.run_block(1);
    let ids = signing.wait_keys("both are published", |ids| ids.len() == 2);
    assert_eq!(ids[0], first, "the old one still signs");
    let between = token(&guest, AUDIENCE, &service.nonce());
    let second = ids[1].clone();
    signing.run_block(2);
    signing.wait_keys("the new one signs", |ids| *ids == [second.clone(), first.clone()]);
    let after = token(&guest, AUDIENCE, &service.nonce());
    for token in [&before, &between, &after] {
        assert_eq!(service.log_in(token).unwrap()["instance_id"], guest.uuid());
    }
    let late = signing.jwks();
    signing.run_block(3);
    signing.wait_keys("the old one is gone", |ids| *ids == [second.clone()]);
    assert_eq!(late["keys"][0], signing.jwks()["keys"][0], "a key has the same name and value for its whole life");
    // A file that cannot be used changes nothing.
    fs::write(signing.keys.path().join("identity.pem"), "damaged").unwrap();
    wait::until("status tells of the damaged file", || {
        let error = signing.node.status()?["identity"]["error"].as_str().unwrap_or_default().to_owned();
        Ok(error.contains("no private key in PEM").then_some(()))
    })
    .unwrap();
    assert!(signing.node.ask(&["status", "--check"]).is_err());
    service.log_in(&token(&guest, AUDIENCE, &service.nonce())).unwrap();
    let log = signing.node.log();
    assert!(!log.contains("PRIVATE") && log.contains("the former keys stay in use"), "{log}");
}

#[test]
fn the_signature_of_ec2s_document_is_one_that_openssl_verifies() {
    let signing = Signing::start("");
    let guest = signing.node.guest("a").boot().unwrap();
    let document = guest.curl(&["-sS", "--fail", &format!("{DOCUMENT}/document")]).unwrap();
    let signature = guest.curl(&["-sS", "--fail", &format!("{DOCUMENT}/signature")]).unwrap();
    let shown: Value = serde_json::from_str(&document).unwrap();
    assert_eq!(shown["openstack"]["instance_id"], guest.uuid());
    let directory = signing.keys.path();
    fs::write(directory.join("document"), &document).unwrap();
    fs::write(directory.join("signature"), &signature).unwrap();
    let script = "openssl pkey -in identity.pem -pubout -out public.pem\n\
                  openssl base64 -d -A -in signature -out signature.der\n\
                  openssl dgst -sha256 -verify public.pem -signature signature.der document\n";
    let verified = || command::run(Command::new("sh").args(["-e", "-c", script]).current_dir(directory), "");
    verified().unwrap();
    fs::write(directory.join("document"), document.replace(NAME, "compute-2")).unwrap();
    verified().unwrap_err();
}

#[test]
fn a_token_is_had_with_a_session_where_sessions_are_required_and_is_in_the_audit_log_by_its_name() {
    let log = tempfile::tempdir().unwrap();
    let file = log.path().join("audit.jsonl");
    let signing =
        Signing::start(&format!("\n[access]\nsession = \"required\"\n\n[audit]\nto = \"file\"\npath = {file:?}\n"));
    let guest = signing.node.guest("a").boot().unwrap();
    let url = "http://169.254.169.254/openstack/latest/identity?audience=a";
    assert!(guest.curl(&["-sS", "--fail", url]).is_err(), "without a session");
    let put = ["-sS", "-X", "PUT", "-H", "X-aws-ec2-metadata-token-ttl-seconds: 60"];
    let session = guest.curl(&[&put[..], &["http://169.254.169.254/latest/api/token"]].concat()).unwrap();
    let header = format!("X-aws-ec2-metadata-token: {session}");
    let token = guest.curl(&["-sS", "--fail", "-H", &header, url]).unwrap();
    let script = "import jwt, sys; print(jwt.decode(sys.argv[1], options={'verify_signature': False})['jti'])";
    let name = command::run(Command::new(python()).args(["-c", script, &token]), "").unwrap();
    let recorded = || {
        let text = fs::read_to_string(&file).unwrap_or_default();
        let mut records = text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        Ok(records.find(|record| record["token_id"].is_string()))
    };
    let record = wait::until("the token is in the audit log", recorded).unwrap();
    assert_eq!(record["token_id"], name.trim());
    assert_eq!((&record["instance"], &record["path"]), (&json!(guest.uuid()), &json!("/openstack/latest/identity")));
    assert!(!fs::read_to_string(&file).unwrap().contains(&token));
}

#[test]
fn nothing_is_signed_in_a_guests_name() {
    let signing = Signing::start("");
    let guest = signing.node.guest("a").boot().unwrap();
    let get = |path: &str| format!("{:#}", signing.node.ask(&["get", guest.uuid(), path, "--secrets"]).unwrap_err());
    for path in ["/openstack/latest/identity?audience=a", "/latest/dynamic/instance-identity/document"] {
        let error = get(path);
        assert!(error.contains(path) && error.contains("nothing is signed in its name: ask in the guest"), "{error}");
    }
    let error = get("/openstack/latest/identity");
    assert!(error.contains("the guest gets HTTP/1.1 400 Bad Request"), "what is refused for another reason: {error}");
}

#[test]
fn where_nothing_is_signed_everything_is_as_with_nova() {
    let node = Node::start().unwrap();
    let guest = node.guest("a").boot().unwrap();
    let unknown = guest.get("/openstack/latest/nonsense").unwrap();
    for path in ["/openstack/latest/identity?audience=a", "/latest/dynamic/instance-identity/document"] {
        let answer = guest.get(path).unwrap();
        assert_eq!((answer.status, answer.text()), (404, unknown.text()), "{path}");
    }
    assert_eq!(
        guest.get("/openstack/latest/capabilities").unwrap().json().unwrap()["capabilities"]["identity"],
        json!(null)
    );
    let error = format!("{:#}", node.ask(&["jwks"]).unwrap_err());
    assert!(error.contains("this node signs nothing: set identity.key_file"), "{error}");
}

#[test]
fn the_sessions_that_the_page_shows_are_what_a_guest_and_its_operator_get() {
    let signing = Signing::start("");
    let guest = signing.node.guest("a").boot().unwrap();
    page().run_session(&signing.node, &guest).unwrap();
}
