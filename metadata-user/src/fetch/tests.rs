//! Which connections requests use, and how one that does not end is ended.

use std::collections::HashSet;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver};

use rustls::crypto::aws_lc_rs;
use rustls::{ClientConfig, RootCertStore};

use super::*;

const LONG: Duration = Duration::from_secs(60);

/// A request as the server takes it: the number of its connection, its place on that, and its first line.
type Taken = (usize, usize, String);

/// Answers requests, each connection in a thread. `answers` decides, by the request, whether there is an answer or the
/// connection is closed. Ends with the process.
fn serve(answers: impl Fn(&Taken) -> bool + Clone + Send + 'static) -> (TargetUrl, Receiver<Taken>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a socket");
    let url = format!("http://{}", listener.local_addr().expect("an address"));
    let (sender, taken) = mpsc::channel();
    std::thread::spawn(move || {
        for (number, stream) in listener.incoming().enumerate() {
            let (sender, answers) = (sender.clone(), answers.clone());
            std::thread::spawn(move || serve_connection(number, stream.expect("a connection"), &answers, &sender));
        }
    });
    (TargetUrl::parse(&url).expect("a URL"), taken)
}

fn serve_connection(number: usize, stream: TcpStream, answers: &impl Fn(&Taken) -> bool, sender: &mpsc::Sender<Taken>) {
    let mut stream = BufReader::new(stream);
    for place in 0.. {
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            if !stream.read_line(&mut head).is_ok_and(|read| read > 0) {
                return;
            }
        }
        let request = (number, place, head.lines().next().unwrap_or_default().to_owned());
        let is_answered = answers(&request);
        if sender.send(request).is_err() || !is_answered {
            return;
        }
        stream.get_mut().write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").expect("the client reads");
    }
}

fn client() -> Client {
    Client::new(LONG, LONG, 10, None)
}

fn get(path: &str) -> hyper::http::Result<Request<Full<Bytes>>> {
    Request::get(path).body(Full::default())
}

#[tokio::test]
async fn connections_are_kept_for_what_may_be_sent_twice_only() {
    let (url, taken) = serve(|_| true);
    let client = client().keeping(2);
    for _ in 0..20 {
        assert_eq!(client.send(&url, get("/a?b"), true).await.expect("an answer").body(), "ok");
    }
    let requests: Vec<Taken> = taken.try_iter().collect();
    assert!(requests.iter().all(|(_, _, line)| line == "GET /a?b HTTP/1.1"), "{requests:?}");
    let kept: HashSet<usize> = requests.iter().map(|request| request.0).collect();
    assert!(kept.len() < requests.len(), "no connection was used again: {requests:?}");
    for _ in 0..3 {
        client.send(&url, get("/"), false).await.expect("an answer");
    }
    for (connection, place, _) in taken.try_iter() {
        assert!(place == 0 && !kept.contains(&connection), "on a kept connection");
    }
}

#[tokio::test]
async fn a_kept_connection_that_is_closed_costs_no_request() {
    // Each connection is closed when its second request has been read: too late for the pool to notice.
    let (url, taken) = serve(|(_, place, _)| *place == 0);
    let client = client().keeping(2);
    let mut closed = 0;
    for _ in 0..1000 {
        assert_eq!(client.send(&url, get("/"), true).await.expect("an answer").body(), "ok");
        closed += taken.try_iter().filter(|(_, place, _)| *place > 0).count();
        if closed > 2 {
            return;
        }
        // So that the connection is back in the pool.
        tokio::task::yield_now().await;
    }
    panic!("no connection was used again");
}

#[tokio::test]
async fn a_new_connection_that_is_closed_is_no_answer() {
    let (url, taken) = serve(|_| false);
    for may_repeat in [true, false] {
        let error = client().keeping(2).send(&url, get("/"), may_repeat).await.expect_err("no answer");
        assert!(error.is_unanswered(), "{error:?}");
        assert_eq!(taken.try_iter().count(), 1, "sent again");
    }
}

#[tokio::test]
async fn errors_name_the_step_and_the_cause_once() {
    let unused = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("an address");
    let url = TargetUrl::parse(&format!("http://{unused}")).expect("a URL");
    let error = client().send(&url, get("/"), true).await.expect_err("nothing listens");
    assert_eq!(crate::error_text::chain(&error), "connecting: Connection refused (os error 111)");
    let https = TargetUrl { tls: true, ..serve(|_| true).0 };
    let error = client().send(&https, get("/"), true).await.expect_err("no TLS");
    assert_eq!(crate::error_text::chain(&error), "connecting: TLS is not set up");
}

#[tokio::test]
async fn both_time_outs_end_a_request() {
    // Accepts, and neither agrees on TLS nor answers.
    let silent = TcpListener::bind("127.0.0.1:0").expect("a socket");
    let url = format!("http://{}", silent.local_addr().expect("an address"));
    let url = TargetUrl::parse(&url).expect("a URL");
    let short = Duration::from_millis(20);
    let error = Client::new(LONG, short, 10, None).keeping(1).send(&url, get("/"), true).await.expect_err("no answer");
    assert!(matches!(error, FetchError::ReadTimeout(time) if time == short), "{error:?}");

    let config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_root_certificates(RootCertStore::empty())
        .with_no_client_auth();
    let client = Client::new(short, LONG, 10, Some(TlsConnector::from(Arc::new(config))));
    let error = client.send(&TargetUrl { tls: true, ..url }, get("/"), true).await.expect_err("no connection");
    assert!(matches!(error, FetchError::ConnectTimeout(time) if time == short), "{error:?}");
}
