//! Guests that ask over TLS, with clients that verify the certificate.

use std::io::{Read as _, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::process::Command;

use lab::tls::Tls;
use lab::{Guest, Node, NodePlan, Request, command, wait};
use tempfile::TempDir;

const PATH: &str = "/openstack/latest/meta_data.json";
const ADDRESSES: [&str; 2] = ["169.254.169.254", "fe80::a9fe:a9fe"];

/// The files that the configuration names, in a directory of their own.
struct Files {
    directory: TempDir,
}

impl Files {
    fn new() -> Self {
        Self { directory: tempfile::tempdir().unwrap() }
    }

    fn cert(&self) -> PathBuf {
        self.directory.path().join("https.pem")
    }

    fn key(&self) -> PathBuf {
        self.directory.path().join("https.key")
    }

    fn config(&self) -> String {
        format!("[https]\ncert_file = {:?}\nkey_file = {:?}\n", self.cert(), self.key())
    }

    /// Puts a certificate of an authority of its own there. Returns the authority's.
    fn renew(&self) -> (TempDir, PathBuf) {
        let directory = tempfile::tempdir().unwrap();
        let tls = Tls::make_for(directory.path(), &ADDRESSES).unwrap();
        std::fs::copy(&tls.key, self.key()).unwrap();
        std::fs::copy(&tls.cert, self.cert()).unwrap();
        for path in [self.cert(), self.key()] {
            std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)).unwrap();
        }
        (directory, tls.ca)
    }
}

fn node(files: &Files, further: &str) -> Node {
    NodePlan::default().further(&files.config()).further(further).start().unwrap()
}

/// Asks for the instance's UUID with curl, and further arguments.
fn curl(guest: &Guest, ca: &std::path::Path, address: &str, further: &[&str]) -> anyhow::Result<String> {
    let url = format!("https://{address}{PATH}");
    let mut arguments = vec!["--cacert", ca.to_str().unwrap(), "--globoff", &url];
    arguments.extend(further);
    let text = guest.curl(&arguments)?;
    let json: serde_json::Value = serde_json::from_str(&text)?;
    Ok(json["uuid"].as_str().unwrap().to_owned())
}

fn counter(node: &Node, name: &str) -> u64 {
    node.status().unwrap()["http"][name].as_u64().unwrap()
}

#[test]
fn each_guest_reads_its_own_data_over_tls_and_verifies_the_certificate() {
    let files = Files::new();
    let (_made, ca) = files.renew();
    let node = node(&files, "");
    let guests = [node.guest("a").boot().unwrap(), node.guest("b").boot().unwrap()];
    for guest in &guests {
        for version in [&["--tlsv1.2", "--tls-max", "1.2"][..], &["--tlsv1.3"]] {
            assert_eq!(curl(guest, &ca, "169.254.169.254", version).unwrap(), guest.uuid(), "{version:?}");
        }
        let scoped = format!("[fe80::a9fe:a9fe%25{}]", "eth0");
        assert_eq!(curl(guest, &ca, &scoped, &[]).unwrap(), guest.uuid());
        let program = "import json, ssl, sys, urllib.request\n\
                       context = ssl.create_default_context(cafile=sys.argv[1])\n\
                       answer = urllib.request.urlopen(sys.argv[2], context=context, timeout=10)\n\
                       print(json.load(answer)['uuid'])\n";
        let mut python: Command = guest.namespace().command("python3").unwrap();
        python.args(["-c", program]).arg(&ca).arg(format!("https://169.254.169.254{PATH}"));
        assert_eq!(command::run(&mut python, "").unwrap().trim(), guest.uuid());
        // The same bytes, and http is there as before. The other document has a random seed in each answer.
        let path = "/openstack/latest/network_data.json";
        let plain = guest.get(path).unwrap();
        let tls = guest.curl(&["--cacert", ca.to_str().unwrap(), &format!("https://169.254.169.254{path}")]).unwrap();
        assert_eq!(tls, plain.text());
    }
    let (_other, foreign) = Files::new().renew();
    let error = curl(&guests[0], &foreign, "169.254.169.254", &[]).unwrap_err();
    // curl's status for a certificate that is not trusted, or whose signature is another authority's of the same name.
    let error = format!("{error:#}");
    assert!(["curl: (60)", "curl: (35)"].iter().any(|status| error.contains(status)), "{error}");
}

/// The commands of docs/https.md make what the daemon takes and clients trust.
#[test]
fn the_documented_certificate_is_trusted() {
    let page = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().join("docs/https.md");
    let page = std::fs::read_to_string(page).unwrap();
    let (_, commands) = page.split_once("```sh\n").unwrap();
    let (commands, _) = commands.split_once("```").unwrap();
    assert!(commands.lines().all(|line| line.starts_with("openssl ")), "{commands}");
    let files = Files::new();
    let directory = files.directory.path();
    command::run(Command::new("sh").args(["-e", "-c", commands]).current_dir(directory), "").unwrap();
    std::fs::rename(directory.join("https-key.pem"), files.key()).unwrap();
    let node = node(&files, "");
    let guest = node.guest("a").boot().unwrap();
    let ca = directory.join("ca.pem");
    assert_eq!(curl(&guest, &ca, "169.254.169.254", &[]).unwrap(), guest.uuid());
    assert!(!node.log().contains("is not for these addresses"), "{}", node.log());
    node.ask(&["status", "--check"]).unwrap();
}

#[test]
fn a_renewed_certificate_is_used_without_a_restart_and_a_damaged_one_is_not() {
    let files = Files::new();
    // None is there when the daemon starts. The files are root's alone, and threads that need none of root's are not root.
    let node = node(&files, "[security]\nuser = \"nobody\"\n");
    let guest = node.guest("a").boot().unwrap();
    assert_eq!(guest.get(PATH).unwrap().json().unwrap()["uuid"], guest.uuid(), "http does not depend on it");
    assert!(node.ask(&["status", "--check"]).is_err());
    for _ in 0..2 {
        let (_made, ca) = files.renew();
        let uuid = wait::until("the new certificate is used", || Ok(curl(&guest, &ca, "169.254.169.254", &[]).ok()));
        assert_eq!(uuid.unwrap(), guest.uuid());
        std::fs::write(files.key(), "damaged").unwrap();
        wait::until("status tells of the damaged key", || {
            let error = node.status()?["https"]["error"].as_str().unwrap_or_default().to_owned();
            Ok(error.contains("has no private key in PEM").then_some(()))
        })
        .unwrap();
        assert_eq!(curl(&guest, &ca, "169.254.169.254", &[]).unwrap(), guest.uuid(), "the former one stays in use");
    }
}

#[test]
fn a_handshake_that_does_not_come_is_limited_as_a_request_is() {
    let files = Files::new();
    let (_made, ca) = files.renew();
    let node = node(&files, "[http]\nrequest_timeout = \"1s\"\nconnections_per_port = 2\n");
    let guest = node.guest("a").boot().unwrap();
    let connect = || {
        let address = std::net::SocketAddr::from(([169, 254, 169, 254], 443));
        guest.namespace().run(|| Ok(std::net::TcpStream::connect(address)?)).unwrap()
    };
    // Not TLS.
    let mut stream = connect();
    stream.write_all(b"GET / HTTP/1.1\r\n\r\n").unwrap();
    let mut rest = Vec::new();
    let _ = stream.read_to_end(&mut rest);
    assert!(!String::from_utf8_lossy(&rest).contains("HTTP"), "{rest:?}");
    wait::until("the failed handshake is counted", || Ok((counter(&node, "handshake_failed") == 1).then_some(())))
        .unwrap();
    // Nothing at all: both places are taken until the time-out.
    let mut silent = [connect(), connect()];
    for stream in &mut silent {
        let _ = stream.read(&mut [0]);
    }
    wait::until("the silent ones are counted", || Ok((counter(&node, "timed_out") == 2).then_some(()))).unwrap();
    assert_eq!(curl(&guest, &ca, "169.254.169.254", &[]).unwrap(), guest.uuid());
}

/// What a client sends first, as far as this makes one: the first bytes of a ClientHello (RFC 8446, section 4.1.2), of which 512 are
/// announced.
fn half_a_client_hello() -> Vec<u8> {
    let head = [22, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3];
    [head.as_slice(), &[7; 32], &[0]].concat()
}

#[test]
fn a_handshake_that_is_begun_and_not_finished_has_a_place_of_its_port_and_ends_in_time() {
    let files = Files::new();
    let (_made, ca) = files.renew();
    let limits = "[http]\nrequest_timeout = \"2s\"\nconnections_per_port = 2\nconnections = 8\n";
    let node = node(&files, limits);
    let [guest, other] = ["a", "b"].map(|name| node.guest(name).boot().unwrap());
    let connect = || {
        let address = std::net::SocketAddr::from(([169, 254, 169, 254], 443));
        guest.namespace().run(|| Ok(std::net::TcpStream::connect(address)?))
    };
    let begin = || {
        let mut stream = connect()?;
        stream.write_all(&half_a_client_hello())?;
        anyhow::Ok(stream)
    };
    // Both places are taken by handshakes that are under way: neither gives way, so whatever else this guest sends is refused.
    let mut open = Vec::new();
    wait::until("a further one is refused", || {
        open.extend(begin().ok());
        Ok((counter(&node, "refused_port_limit") > 0).then_some(()))
    })
    .unwrap();
    assert_eq!(counter(&node, "gave_way"), 0);
    assert_eq!(curl(&other, &ca, "169.254.169.254", &[]).unwrap(), other.uuid(), "another guest has places of its own");
    // One byte after the other keeps none of them open for longer.
    let mut timed_out = 0;
    wait::until("all have ended", || {
        open.retain_mut(|stream| {
            stream.set_read_timeout(Some(std::time::Duration::from_millis(50))).unwrap();
            let is_open = |error: std::io::Error| error.kind() == std::io::ErrorKind::WouldBlock;
            stream.write_all(&[7]).is_ok() && stream.read(&mut [0]).is_err_and(is_open)
        });
        timed_out = counter(&node, "timed_out");
        Ok((open.is_empty() && timed_out >= 2).then_some(()))
    })
    .unwrap();
    assert_eq!(curl(&guest, &ca, "169.254.169.254", &[]).unwrap(), guest.uuid());
}

#[test]
fn without_a_certificate_nothing_listens_on_443() {
    let node = Node::start().unwrap();
    let guest = node.guest("a").boot().unwrap();
    assert!(guest.send(&Request::get(PATH).port(443)).is_err());
    assert!(guest.curl(&["--insecure", &format!("https://169.254.169.254{PATH}")]).is_err());
}
