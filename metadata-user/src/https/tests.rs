//! The certificate as files that others replace. Handshakes with real clients: `tests/netns/https.rs`.

use std::fs;
use std::path::Path;

use rcgen::{CertificateParams, KeyPair};
use tempfile::TempDir;

use super::*;

struct Pem {
    cert: String,
    key: String,
}

fn pem(names: &[&str], years_left: i32) -> Pem {
    let key = KeyPair::generate().expect("a key");
    let names: Vec<_> = names.iter().map(|name| (*name).to_owned()).collect();
    let mut params = CertificateParams::new(names).expect("names");
    let year = 1970
        + i32::try_from(SystemTime::UNIX_EPOCH.elapsed().expect("now").as_secs() / (365 * 24 * 3600)).expect("a year");
    params.not_before = rcgen::date_time_ymd(year - 2, 1, 1);
    params.not_after = rcgen::date_time_ymd(year + years_left, 1, 1);
    let cert = params.self_signed(&key).expect("a certificate").pem();
    Pem { cert, key: key.serialize_pem() }
}

fn files() -> (TempDir, config::Https) {
    let directory = tempfile::tempdir().expect("a directory");
    let at = |name: &str| directory.path().join(name);
    let settings = config::Https { cert_file: at("cert.pem"), key_file: at("key.pem"), port: 443 };
    (directory, settings)
}

fn write(path: &Path, text: &str) {
    fs::write(path, text).expect("written");
}

fn refused(settings: &config::Https) -> String {
    error_text::chain(&Https::check(settings).expect_err("refused"))
        .replace(&*settings.cert_file.parent().expect("a directory").display().to_string(), "")
}

#[test]
fn what_cannot_be_used_is_named_with_the_remedy() {
    let (_directory, settings) = files();
    let message = refused(&settings);
    assert!(message.starts_with("reading https.cert_file /cert.pem: correct the path"), "{message}");
    let (one, other) = (pem(&["169.254.169.254"], 2), pem(&["169.254.169.254"], 2));
    write(&settings.cert_file, &one.cert);
    let message = refused(&settings);
    assert!(message.starts_with("reading https.key_file /key.pem: correct the path"), "{message}");
    write(&settings.key_file, &other.key);
    let message = refused(&settings);
    assert!(message.contains("the key must be the one of the first certificate"), "{message}");
    write(&settings.key_file, &one.cert);
    let message = refused(&settings);
    assert!(message.starts_with("https.key_file /key.pem has no private key in PEM"), "{message}");
    write(&settings.key_file, &one.key);
    Https::check(&settings).expect("accepted");
    write(&settings.cert_file, &one.key);
    let message = refused(&settings);
    assert!(message.starts_with("https.cert_file /cert.pem has no certificate in PEM"), "{message}");
    write(&settings.cert_file, "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n");
    let message = refused(&settings);
    assert!(message.contains("its first certificate is damaged"), "{message}");
}

#[test]
fn end_and_addresses_are_read() {
    let pem = pem(&["169.254.169.254", "fe80::a9fe:a9fe", "metadata.internal"], 3);
    let der = CertificateDer::from_pem_slice(pem.cert.as_bytes()).expect("PEM");
    let certificate = Certificate::parse(&der).expect("a certificate");
    assert!(certificate.not_after > SystemTime::now() + DAY * 365);
    assert!(ADDRESSES.iter().all(|address| certificate.names(*address)));
    assert!(!certificate.names([169, 254, 169, 253].into()));
}

#[tokio::test]
async fn files_that_change_are_read_again_and_bad_ones_change_nothing() {
    let (_directory, settings) = files();
    let https = Arc::new(Https::open(&settings));
    let state = https.state();
    assert!(state.get().loaded_at.is_none() && state.get().error.is_some(), "nothing is there yet");
    let _keeping = Arc::clone(&https).keep().expect("a thread");
    // Waits for progress: a state that is as described.
    let until = async |is: &dyn Fn(&HttpsState) -> bool| {
        while !is(&state.get()) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let first = pem(&["169.254.169.254"], 2);
    write(&settings.cert_file, &first.cert);
    write(&settings.key_file, &first.key);
    until(&|state| state.loaded_at.is_some() && state.error.is_none()).await;
    let before = state.get().not_after;

    write(&settings.key_file, "damaged");
    until(&|state| state.error.as_ref().is_some_and(|error| error.contains("has no private key"))).await;
    assert_eq!(state.get().not_after, before, "the former one stays in use");
    assert!(https.config.load().is_some());

    let second = pem(&["169.254.169.254"], 4);
    write(&settings.key_file, &second.key);
    write(&settings.cert_file, &second.cert);
    until(&|state| state.error.is_none() && state.not_after != before).await;

    fs::remove_file(&settings.cert_file).expect("removed");
    until(&|state| state.error.as_ref().is_some_and(|error| error.contains("reading https.cert_file"))).await;
    write(&settings.cert_file, &second.cert);
    until(&|state| state.error.is_none()).await;
}
