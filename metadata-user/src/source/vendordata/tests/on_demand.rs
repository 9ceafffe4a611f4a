//! Targets that are asked when a guest reads.

use rustls::RootCertStore;
use rustls::server::WebPkiClientVerifier;

use super::*;
use crate::on_demand::Member;

/// A cloud with one target that is asked ahead and one on demand, on these ports.
fn two(ahead: &Service, url: &str) -> config::Cloud {
    let mut cloud = cloud(&[("ahead", &ahead.url()), ("jwt", url)]);
    cloud.vendordata_dynamic.asked[1].is_on_demand = true;
    cloud
}

impl Running {
    /// Asks as a guest of instance 1 does; the answer's text, or `None`.
    async fn asks(&self) -> Option<String> {
        let members = self.on_demand.ask(id(1)).await?;
        let text = |member: Member| format!("{}: {}", member.name, String::from_utf8_lossy(&member.value));
        Some(members.into_iter().map(text).collect::<Vec<_>>().join(", "))
    }
}

#[tokio::test]
async fn it_is_asked_for_each_reader_and_for_nobody_else() {
    let (ahead, service) = (Service::start(ok("1")), Service::start(ok("{\"n\": 0}")));
    let running = Running::start(&two(&ahead, &service.url()));
    assert_eq!(running.asks().await, None, "no such instance");
    running.store.put(renamed("web"));
    running.reads(r#"{"static": {"s": 1}, "ahead": 1}"#).await;
    assert_eq!(service.asked(), 0, "nobody has read");
    for number in 1..=2 {
        service.replies(Reply::Answer(201, "", format!("{{\"n\": {number}}}").into()));
        assert_eq!(running.asks().await, Some(format!("jwt: {{\"n\": {number}}}")));
        assert_eq!(service.asked(), number);
    }
    let body: Value = serde_json::from_slice(&service.last.lock().expect("no panic").1).expect("JSON");
    assert_eq!((&body["instance-id"], &body["hostname"]), (&json!(id(1).to_string()), &json!("web")));
    assert_eq!(running.read(), r#"{"static": {"s": 1}, "ahead": 1}"#, "it is kept nowhere");
}

#[tokio::test]
async fn readers_at_the_same_time_have_an_answer_each_and_one_that_left_costs_none() {
    let (ahead, service) = (Service::start(ok("1")), Service::start(Reply::Hang));
    let mut cloud = two(&ahead, &service.url());
    cloud.vendordata_dynamic.read_timeout = Duration::from_secs(1);
    let running = Running::start(&cloud);
    running.store.put(renamed("web"));
    let mut first = Box::pin(running.asks());
    let (mut gone, mut third) = (Box::pin(running.asks()), Box::pin(running.asks()));
    tokio::select! {
        biased;
        _ = &mut first => panic!("it hangs"),
        _ = &mut gone => panic!("it waits for the first"),
        _ = &mut third => panic!("it waits for the first"),
        () = until(|| service.asked() == 1, || "not asked".to_owned()) => {}
    }
    drop(gone);
    service.replies(ok("3"));
    assert_eq!(first.await.as_deref(), Some("jwt: {}"), "after the time-out");
    assert_eq!(third.await.as_deref(), Some("jwt: 3"));
    assert_eq!(service.asked(), 2);
}

#[tokio::test]
async fn without_a_good_answer_it_reads_as_an_empty_object_and_that_is_told() {
    let (ahead, service) = (Service::start(ok("1")), Service::start(ok("1")));
    let running = Running::start(&two(&ahead, &service.url()));
    running.store.put(renamed("web"));
    for reply in [
        Reply::Answer(403, "", "{}".into()),
        Reply::Close,
        ok("no JSON"),
        ok(r#"{"token": "x", "expires_at": "2020-01-01T00:00:00Z"}"#),
    ] {
        service.replies(reply);
        assert_eq!(running.asks().await.as_deref(), Some("jwt: {}"));
        until(|| running.state.get().targets[1].failing == 1, || format!("{:?}", running.state.get())).await;
        service.replies(ok("2"));
        assert_eq!(running.asks().await.as_deref(), Some("jwt: 2"));
        until(|| running.state.get().targets[1].failing == 0, || format!("{:?}", running.state.get())).await;
    }
    let state = running.state.get().targets[1].clone();
    assert!(state.is_on_demand && state.error.is_some_and(|(_, error)| error.contains("had expired at 2020")));
}

#[tokio::test]
async fn an_instance_that_is_refused_counts_until_it_is_answered_or_gone_whatever_others_are() {
    let (ahead, service) = (Service::start(ok("1")), Service::start(Reply::Answer(403, "", "{}".into())));
    let running = Running::start(&two(&ahead, &service.url()));
    running.store.put(renamed("web"));
    running.store.put(record(2, "p", &["tap2"]));
    assert_eq!(running.asks().await.as_deref(), Some("jwt: {}"));
    service.replies(ok("2"));
    let other = running.on_demand.ask(id(2)).await.expect("answered");
    assert_eq!(other[0].value, "2");
    let failing = || running.state.get().targets[1].failing;
    until(|| failing() == 1, || format!("{:?}", running.state.get())).await;
    let since = running.state.get().targets[1].failing_since;
    assert!(running.on_demand.ask(id(2)).await.is_some());
    assert_eq!((failing(), running.state.get().targets[1].failing_since), (1, since));
    running.store.remove(id(1));
    until(|| failing() == 0, || format!("{:?}", running.state.get())).await;
}

#[tokio::test]
async fn no_more_than_so_many_requests_of_an_instance_wait() {
    let (ahead, service) = (Service::start(ok("1")), Service::start(Reply::Hang));
    let mut cloud = two(&ahead, &service.url());
    cloud.vendordata_dynamic.read_timeout = Duration::from_secs(1);
    let running = Running::start(&cloud);
    running.store.put(renamed("web"));
    let all: Vec<_> = (0..66).map(|_| running.asks()).collect();
    let (answers, ()) = tokio::join!(futures_util::future::join_all(all), async {
        until(|| service.asked() == 1, || "not asked".to_owned()).await;
        service.replies(ok("2"));
    });
    let count = |expected: Option<&str>| answers.iter().filter(|answer| answer.as_deref() == expected).count();
    assert_eq!((count(Some("jwt: {}")), count(Some("jwt: 2")), count(None)), (1, 64, 1));
}

#[tokio::test]
async fn the_nodes_certificate_is_presented_and_a_new_one_after_it_changed() {
    let authority = |name: &str| rcgen::generate_simple_self_signed([name.to_owned()]).expect("a certificate");
    let (server, node, next) = (authority("localhost"), authority("node"), authority("next"));
    let directory = tempfile::tempdir().expect("a directory");
    let path = |name: &str| directory.path().join(name);
    let write = |name: &str, text: String| std::fs::write(path(name), text).expect("a file");
    let accepts = |client: &rcgen::CertifiedKey<rcgen::KeyPair>| {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut roots = RootCertStore::empty();
        roots.add(client.cert.der().clone()).expect("a root");
        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider));
        let private = rustls::pki_types::PrivateKeyDer::try_from(server.signing_key.serialize_der()).expect("a key");
        let tls = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_client_cert_verifier(verifier.build().expect("a verifier"))
            .with_single_cert(vec![server.cert.der().clone()], private);
        Arc::new(tls.expect("a certificate"))
    };
    let old = Service::over(Some(accepts(&node)), ok("\"old\""));
    let new = Service::over(Some(accepts(&next)), ok("\"new\""));
    write("ca.pem", server.cert.pem());
    let ahead = Service::start(ok("1"));
    let mut cloud = two(&ahead, &format!("https://localhost:{}/", old.port));
    let mut other = cloud.vendordata_dynamic.asked[1].clone();
    other.name = "other".to_owned();
    other.url = TargetUrl::parse(&format!("https://localhost:{}/", new.port)).expect("a URL");
    cloud.vendordata_dynamic.asked.push(other);
    cloud.vendordata_dynamic.ssl_certfile = Some(path("ca.pem"));
    cloud.vendordata_dynamic.client = Some((path("node.pem"), path("node.key")));
    let running = Running::start(&cloud);
    running.store.put(renamed("web"));
    running.reads(r#"{"static": {"s": 1}, "ahead": 1}"#).await;
    assert_eq!(running.asks().await.as_deref(), Some("jwt: {}, other: {}"));
    let state = running.state.get().targets[1].clone();
    assert!(state.error.is_some_and(|(_, error)| error.contains("client_certfile")), "it is not there yet");
    assert_eq!(old.asked(), 0);
    write("node.key", node.signing_key.serialize_pem());
    write("node.pem", node.cert.pem());
    assert_eq!(running.asks().await.as_deref(), Some("jwt: \"old\", other: {}"));
    // Half of a rotation: the pair before stays in use.
    write("node.pem", "not a certificate".to_owned());
    assert_eq!(running.asks().await.as_deref(), Some("jwt: \"old\", other: {}"));
    write("node.key", next.signing_key.serialize_pem());
    write("node.pem", next.cert.pem());
    assert_eq!(running.asks().await.as_deref(), Some("jwt: {}, other: \"new\""));
}
