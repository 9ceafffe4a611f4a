//! Vendor data that is asked on demand, with the node's certificate: a guest's attestation token.
//!
//! The service is a stand-in for Keystone's SPIFFE vendor data: `POST /v4/vendordata` over mutual TLS, which answers 201 with a token for
//! one use, 403 for an instance that does not run on the node whose certificate it is, and 503 while it cannot ask Nova.

use std::collections::BTreeSet;
use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, Result};
use lab::tls::Tls;
use lab::{Guest, Node, NodePlan, wait};
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::server::WebPkiClientVerifier;
use tokio_rustls::rustls::{RootCertStore, ServerConfig, ServerConnection, StreamOwned};

const PATH: &str = "/openstack/latest/vendor_data2.json";

/// What the stand-in knows.
#[derive(Default)]
struct Known {
    /// Instances on this node.
    placed: Mutex<BTreeSet<String>>,
    is_without_nova: AtomicBool,
    given: AtomicU64,
    /// Seconds that a token is good for.
    life: AtomicU64,
}

/// Starts it in the node's namespace. Returns its port; its threads end with the process.
fn start(node: &Node, tls: &Tls, known: &Arc<Known>) -> Result<u16> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(&tls.ca)?)?;
    let verifier = WebPkiClientVerifier::builder(Arc::new(roots)).build()?;
    let chain = vec![CertificateDer::from_pem_file(&tls.cert)?];
    let config = ServerConfig::builder().with_client_cert_verifier(verifier);
    let config = Arc::new(config.with_single_cert(chain, PrivateKeyDer::from_pem_file(&tls.key)?)?);
    let listener = node.namespace().run(|| TcpListener::bind("127.0.0.1:0").context("a port"))?;
    let (port, known) = (listener.local_addr()?.port(), Arc::clone(known));
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let (config, known) = (Arc::clone(&config), Arc::clone(&known));
            // A client without a certificate gets no answer.
            std::thread::spawn(move || drop(serve(stream, config, &known)));
        }
    });
    Ok(port)
}

fn serve(stream: TcpStream, config: Arc<ServerConfig>, known: &Known) -> Result<()> {
    stream.set_read_timeout(Some(wait::PATIENCE))?;
    let mut stream = BufReader::new(StreamOwned::new(ServerConnection::new(config)?, stream));
    let (mut line, mut length) = (String::new(), 0);
    while stream.read_line(&mut line)? > 2 {
        if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length: ") {
            length = value.trim().parse()?;
        }
        line.clear();
    }
    let mut body = vec![0; length];
    stream.read_exact(&mut body)?;
    let asked: Value = serde_json::from_slice(&body)?;
    let instance = asked["instance-id"].as_str().context("an instance")?;
    let (status, body) = if known.is_without_nova.load(Ordering::SeqCst) {
        ("503 Service Unavailable", json!({}))
    } else if known.placed.lock().contains(instance) {
        let jti = known.given.fetch_add(1, Ordering::SeqCst) + 1;
        let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs();
        let expires_at = now + known.life.load(Ordering::SeqCst);
        let token = format!("one-use-{jti}-for-{instance}");
        let jwt = json!({"algorithm": "ES256", "jti": jti, "token": token, "expires_at": expires_at});
        ("201 Created", json!({"spiffe_jwt": jwt}))
    } else {
        ("403 Forbidden", json!({"error": "it does not run there"}))
    };
    let body = body.to_string();
    let head = format!("HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n", body.len());
    stream.get_mut().write_all(format!("{head}{body}").as_bytes())?;
    stream.get_mut().flush()?;
    Ok(())
}

/// Reads the token as a guest does; `None`: there is none.
fn token(guest: &Guest) -> Option<String> {
    let answer = guest.get(PATH).unwrap();
    assert_eq!(answer.status, 200, "{}", answer.text());
    Some(answer.json().unwrap()["attestation"]["spiffe_jwt"]["token"].as_str()?.to_owned())
}

/// Waits until the status says that the target fails, and why.
fn wait_failing(node: &Node, why: &str) {
    let is_so = |target: &Value| target["failing"] != 0 && target["error"].as_str().unwrap().contains(why);
    wait::until(&format!("the target fails with {why}"), || Ok(is_so(&target(node)).then_some(()))).unwrap();
}

fn target(node: &Node) -> Value {
    node.status().unwrap()["vendordata"]["targets"][0].clone()
}

#[test]
fn each_read_gives_a_token_of_its_own_that_is_kept_nowhere() {
    let node = NodePlan::default().make().unwrap();
    let tls = Tls::make(&directory(&node, "tls")).unwrap();
    let known = Arc::new(Known { life: AtomicU64::new(300), ..Known::default() });
    let port = start(&node, &tls, &known).unwrap();
    let config = format!(
        "{}\n[cloud]\nvendordata_providers = [\"DynamicJSON\"]\n\
         vendordata_dynamic_targets = [\"attestation@https://127.0.0.1:{port}/v4/vendordata\"]\n\
         vendordata_dynamic_on_demand = [\"attestation\"]\nvendordata_dynamic_ssl_certfile = \"{}\"\n\
         vendordata_dynamic_client_certfile = \"{}\"\nvendordata_dynamic_client_keyfile = \"{}\"\n",
        fs::read_to_string(node.config()).unwrap(),
        tls.ca.display(),
        tls.client_cert.display(),
        tls.client_key.display()
    );
    fs::write(node.config(), config).unwrap();
    node.start_daemon().unwrap();
    let (guest, other) = (node.guest("g").boot().unwrap(), node.guest("other").boot().unwrap());
    known.placed.lock().insert(guest.uuid().to_owned());
    assert_eq!(token(&guest).unwrap(), format!("one-use-1-for-{}", guest.uuid()));
    assert_eq!(token(&guest).unwrap(), format!("one-use-2-for-{}", guest.uuid()));
    assert_eq!(guest.get("/openstack/latest/meta_data.json").unwrap().status, 200);
    assert_eq!(known.given.load(Ordering::SeqCst), 2, "only what is read is asked for");

    // The service's answers for the guest that is not placed here, and while it cannot know.
    assert_eq!(token(&other), None);
    wait_failing(&node, "403");
    known.is_without_nova.store(true, Ordering::SeqCst);
    assert_eq!(token(&guest), None);
    wait_failing(&node, "503");
    known.is_without_nova.store(false, Ordering::SeqCst);
    known.life.store(0, Ordering::SeqCst);
    assert_eq!(token(&guest), None, "it has expired");
    known.life.store(300, Ordering::SeqCst);
    assert!(token(&guest).is_some());
    known.placed.lock().insert(other.uuid().to_owned());
    assert!(token(&other).is_some());
    wait::until("the target is well again", || Ok((target(&node)["failing"] == 0).then_some(()))).unwrap();

    // The node's certificate is replaced: it is the new one that counts, and one that cannot be used is told.
    fs::write(&tls.client_cert, "no certificate").unwrap();
    assert!(token(&guest).is_some(), "the one before stays in use");
    wait::until("the log says so", || Ok(node.log().contains("cannot be used: those before stay").then_some(())))
        .unwrap();
    let renewed = Tls::make(&directory(&node, "renewed")).unwrap();
    fs::copy(&renewed.client_key, &tls.client_key).unwrap();
    fs::copy(&renewed.client_cert, &tls.client_cert).unwrap();
    assert_eq!(token(&guest), None, "it is of another authority");

    // Neither the log, nor what an operator sees, nor the snapshot has a token.
    node.stop_daemon().unwrap();
    let log = node.log();
    assert!(!log.contains("one-use-"), "{log}");
    let snapshot = fs::read(node.snapshot()).unwrap_or_default();
    assert!(!snapshot.windows(8).any(|window| window == b"one-use-"));
}

fn directory(node: &Node, name: &str) -> std::path::PathBuf {
    let path = node.path(name);
    fs::create_dir(&path).unwrap();
    path
}
