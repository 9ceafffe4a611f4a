//! Metrics: what is counted of guests, and who gets to read it over TCP.

use std::collections::BTreeSet;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result};
use lab::{Node, NodePlan, Request, Tls, command, wait};

/// Where the daemon answers readers: an address of the node's namespace.
const LISTEN: &str = "127.0.0.1:9169";
const CONFIG: &str = "[metrics]\nlisten = \"127.0.0.1:9169\"\n";

fn connect(node: &Node) -> Result<TcpStream> {
    let address: SocketAddr = LISTEN.parse()?;
    node.namespace().run(|| Ok(TcpStream::connect_timeout(&address, wait::PATIENCE)?))
}

/// Sends a request over TCP, and returns the answer, head and body.
fn scrape(node: &Node, head: &str) -> Result<String> {
    let mut stream = connect(node)?;
    stream.set_read_timeout(Some(wait::PATIENCE))?;
    stream.write_all(format!("{head}\r\n\r\n").as_bytes())?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).context("the answer")?;
    Ok(answer)
}

/// Returns the value of a series.
pub(crate) fn value(text: &str, series: &str) -> Option<f64> {
    let line = text.lines().find(|line| line.strip_prefix(series).is_some_and(|rest| rest.starts_with(' ')))?;
    line.rsplit(' ').next()?.parse().ok()
}

/// Returns all series, without their values.
fn series(text: &str) -> BTreeSet<String> {
    let samples = text.lines().filter(|line| !line.starts_with('#'));
    samples.filter_map(|line| line.rsplit_once(' ')).map(|(series, _)| series.to_owned()).collect()
}

#[test]
fn requests_are_counted_by_status_and_family_with_their_time_and_packets_by_verdict() {
    let node = Node::start().unwrap();
    let guest = node.guest("a").boot().unwrap();
    for _ in 0..3 {
        assert_eq!(guest.get("/openstack").unwrap().status, 200);
    }
    assert_eq!(guest.get6("/openstack").unwrap().status, 200);
    assert_eq!(guest.get("/none").unwrap().status, 404);
    let text = node.metrics().unwrap();
    for (series, expected) in [
        ("metadatad_http_responses_total{code=\"200\",family=\"ipv4\"}", 3.0),
        ("metadatad_http_responses_total{code=\"200\",family=\"ipv6\"}", 1.0),
        ("metadatad_http_responses_total{code=\"404\",family=\"ipv4\"}", 1.0),
        ("metadatad_http_responses_total{code=\"503\",family=\"ipv4\"}", 0.0),
        ("metadatad_http_request_duration_seconds_count", 5.0),
        ("metadatad_http_request_duration_seconds_bucket{le=\"+Inf\"}", 5.0),
        ("metadatad_ready", 1.0),
        ("metadatad_instances", 1.0),
        ("metadatad_ports{state=\"bound\"}", 1.0),
        ("metadatad_ports{state=\"failed\"}", 0.0),
        ("metadatad_source_info{kind=\"directory\"}", 1.0),
        ("metadatad_source_up", 1.0),
        ("metadatad_threads_unconfined", 0.0),
        ("metadatad_threads_privileged", 0.0),
        ("metadatad_threads{profile=\"ports\"}", 1.0),
        ("metadatad_packets_total{result=\"spoofed_ip\"}", 0.0),
    ] {
        assert_eq!(value(&text, series), Some(expected), "{series}: {text}");
    }
    for series in [
        "metadatad_packets_total{result=\"to_responder\"}",
        "metadatad_packets_total{result=\"to_guest\"}",
        "metadatad_http_request_duration_seconds_sum",
        "metadatad_source_synced_timestamp_seconds",
        "process_resident_memory_bytes",
        "process_open_fds",
        "process_cpu_seconds_total",
        "process_start_time_seconds",
    ] {
        assert!(value(&text, series).is_some_and(|value| value > 0.0), "{series}: {text}");
    }
    assert!(value(&text, "metadatad_certificate_up{table=\"https\"}").is_none(), "there is none: {text}");
}

#[test]
fn nothing_that_a_guest_sends_adds_a_series_or_is_in_one() {
    let node = Node::start().unwrap();
    let guest = node.guest("a").boot().unwrap();
    guest.get("/openstack").unwrap();
    // Before that it has no series.
    let written = || Ok(value(&node.metrics()?, "metadatad_snapshot_written_timestamp_seconds"));
    wait::until("the snapshot is written", written).unwrap();
    let before = series(&node.metrics().unwrap());
    for method in ["GET", "POST", "PUT", "DELETE", "MARKER"] {
        for path in ["/", "/latest/api/token", "/marker\"}", "/openstack/marker/%0a%22", "/latest/user-data?marker"] {
            let request =
                Request::get(path).method(method).header("User-Agent", "marker\"} 1").header("Host", "marker");
            let request = request.header("X-Instance-ID", "marker").header("X-Forwarded-For", "marker");
            guest.send(&request).unwrap();
        }
    }
    let text = node.metrics().unwrap();
    assert_eq!(series(&text), before, "the same series");
    assert!(!text.to_ascii_lowercase().contains("marker"), "{text}");
    for name in [guest.uuid(), guest.port(), guest.tap()] {
        assert!(!text.contains(name), "{name}: {text}");
    }
}

#[test]
fn over_tcp_the_same_is_read_in_the_format_that_the_reader_names() {
    let node = NodePlan::default().further(CONFIG).start().unwrap();
    let guest = node.guest("a").boot().unwrap();
    assert_eq!(guest.get("/openstack").unwrap().status, 200);
    let plain = scrape(&node, "GET /metrics HTTP/1.1\r\nHost: x").unwrap();
    assert!(plain.contains("content-type: text/plain; version=0.0.4; charset=utf-8\r\n"), "{plain}");
    let (_, body) = plain.split_once("\r\n\r\n").unwrap();
    assert_eq!(series(body), series(&node.metrics().unwrap()), "as on the admin socket");
    let accept = "Accept: application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5,*/*;q=0.1";
    let open = scrape(&node, &format!("GET /metrics HTTP/1.1\r\nHost: x\r\n{accept}")).unwrap();
    assert!(open.contains("content-type: application/openmetrics-text; version=1.0.0; charset=utf-8\r\n"), "{open}");
    assert!(open.ends_with("# EOF\n"), "{open}");
    assert!(scrape(&node, "GET / HTTP/1.1\r\nHost: x").unwrap().starts_with("HTTP/1.1 404 "));
    assert!(scrape(&node, "GET /v1/status HTTP/1.1\r\nHost: x").unwrap().starts_with("HTTP/1.1 404 "));
    assert!(scrape(&node, "DELETE /metrics HTTP/1.1\r\nHost: x").unwrap().starts_with("HTTP/1.1 405 "));
    // The guest reaches its own metadata and nothing else of the daemon's.
    assert!(guest.send(&Request::get("/metrics").port(9169).patience(Duration::from_secs(1))).is_err());
    assert_eq!(guest.get("/metrics").unwrap().status, 404);
    assert_eq!(node.status().unwrap()["metrics"]["listen"], LISTEN);
    node.ask(&["status", "--check"]).unwrap();
}

#[test]
fn silent_readers_lock_nobody_out_and_cost_few_files() {
    let node = NodePlan::default().further(CONFIG).start().unwrap();
    let silent: Vec<_> = (0..200).map(|_| connect(&node).unwrap()).collect();
    let answer = scrape(&node, "GET /metrics HTTP/1.1\r\nHost: x").unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    let (_, body) = answer.split_once("\r\n\r\n").unwrap();
    // Without readers it has some 80.
    assert!(value(body, "process_open_fds").unwrap() < 150.0, "{body}");
    drop(silent);
}

#[test]
fn the_thread_that_readers_reach_has_no_privilege() {
    let plan = NodePlan::default().further(CONFIG).further("[security]\nuser = \"nobody\"\n");
    let node = plan.start().unwrap();
    assert!(scrape(&node, "GET /metrics HTTP/1.1\r\nHost: x").unwrap().starts_with("HTTP/1.1 200 "));
    let nobody = nix::unistd::User::from_name("nobody").unwrap().unwrap().uid.as_raw();
    let threads = node.security().unwrap().threads;
    let thread = threads.iter().find(|thread| thread.name == "metrics").unwrap();
    assert_eq!(thread.profile.as_deref(), Some("metrics"));
    for set in [&thread.permitted, &thread.inheritable, &thread.ambient, &thread.bounding] {
        assert!(set.is_empty(), "{thread:?}");
    }
    assert!(thread.capabilities.is_empty() && thread.no_new_privileges, "{thread:?}");
    assert_eq!((thread.user, thread.seccomp.as_str()), (nobody, "filter"));
    assert!(thread.landlock.as_deref().is_some_and(|landlock| landlock.starts_with("no file")), "{thread:?}");
    let text = node.metrics().unwrap();
    assert_eq!(value(&text, "metadatad_threads{profile=\"metrics\"}"), Some(1.0), "{text}");
    assert_eq!(value(&text, "metadatad_threads_unconfined"), Some(0.0), "{text}");
    // The main thread is nobody's too, and reads what the kernel knows of the process all the same.
    assert!(value(&text, "process_open_fds").is_some_and(|files| files > 0.0), "{text}");
}

#[test]
fn an_address_that_is_taken_is_a_problem_that_is_shown_and_guests_are_answered() {
    let node = NodePlan::default().further(CONFIG).make().unwrap();
    let taken = node.namespace().run(|| Ok(std::net::TcpListener::bind(LISTEN)?)).unwrap();
    node.start_daemon().unwrap();
    let guest = node.guest("a").boot().unwrap();
    assert_eq!(guest.get("/openstack").unwrap().status, 200);
    let shown = node.told(&["status", "--check"]).unwrap();
    assert!(shown.contains("correct metrics.listen"), "{shown}");
    assert!(node.ask(&["status", "--check"]).is_err());
    drop(taken);
}

#[test]
fn over_tls_a_renewed_certificate_is_used_without_a_restart() {
    let directory = tempfile::tempdir().unwrap();
    let (cert, key) = (directory.path().join("cert.pem"), directory.path().join("key.pem"));
    let renew = || {
        let made = tempfile::tempdir().unwrap();
        let tls = Tls::make_for(made.path(), &["127.0.0.1"]).unwrap();
        for (from, to) in [(&tls.key, &key), (&tls.cert, &cert)] {
            std::fs::copy(from, to).unwrap();
            std::fs::set_permissions(to, std::fs::Permissions::from_mode(0o600)).unwrap();
        }
        (made, tls.ca)
    };
    let (_first, ca) = renew();
    // The files are root's alone, and the thread that shows the certificate is not root.
    let tls = format!("cert_file = {cert:?}\nkey_file = {key:?}\n[security]\nuser = \"nobody\"\n");
    let node = NodePlan::default().further(&format!("{CONFIG}{tls}")).start().unwrap();
    let curl = |ca: &Path| {
        let mut curl = node.namespace().command("curl")?;
        curl.args(["--silent", "--show-error", "--noproxy", "*", "--cacert"]).arg(ca);
        command::run(curl.arg(format!("https://{LISTEN}/metrics")), "")
    };
    let text = curl(&ca).unwrap();
    assert!(value(&text, "metadatad_certificate_not_after_timestamp_seconds{table=\"metrics\"}").is_some(), "{text}");
    let plain = scrape(&node, "GET /metrics HTTP/1.1\r\nHost: x");
    assert!(plain.ok().is_none_or(|answer| !answer.contains("metadatad_")), "nothing without TLS");
    let (_second, ca) = renew();
    wait::until("the new certificate is used", || Ok(curl(&ca).ok())).unwrap();
    std::fs::write(&key, "damaged").unwrap();
    wait::until("status tells of the damaged key", || {
        let error = node.status()?["metrics"]["tls"]["error"].as_str().unwrap_or_default().to_owned();
        Ok(error.contains("metrics.key_file").then_some(()))
    })
    .unwrap();
    curl(&ca).expect("the former one stays in use");
    let text = node.metrics().unwrap();
    assert_eq!(value(&text, "metadatad_certificate_up{table=\"metrics\"}"), Some(0.0), "{text}");
}

/// The command that docs/metrics.md shows.
#[test]
fn the_documented_command_reads_the_admin_socket() {
    let node = Node::start().unwrap();
    let mut curl = node.namespace().command("curl").unwrap();
    curl.args(["--silent", "--unix-socket"]).arg(node.path("admin.sock")).arg("http://localhost/metrics");
    let text = command::run(&mut curl, "").unwrap();
    assert_eq!(value(&text, "metadatad_ready"), Some(1.0), "{text}");
}
