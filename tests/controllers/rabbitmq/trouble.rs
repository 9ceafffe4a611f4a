//! What is wrong with the connection is one line that names it and says what to do.

use std::net::TcpListener;

use anyhow::{Context as _, Result};
use lab::openstack::RabbitMq;
use lab::{Tls, wait};
use lapin::options::QueueDeclareOptions;
use lapin::types::FieldTable;
use metadata_user::config::controller::RabbitMq as Settings;
use metadata_user::controller::notifications::listen;
use tokio::sync::mpsc;

use super::{services, settings};

/// Consumes with these settings until something is wrong, and returns what; or nothing, when it is connected.
fn outcome(runtime: &tokio::runtime::Runtime, settings: &Settings) -> Result<Option<String>> {
    let _context = runtime.enter();
    let (sender, _receiver) = mpsc::channel(10);
    let notifications = listen(settings, 1, sender);
    let view = notifications.view();
    wait::until("an outcome", || {
        let connection = view.connection();
        Ok(match (connection.connected, connection.last_error) {
            (Some(_), _) => Some(None),
            (None, Some((error, _))) => Some(Some(error)),
            (None, None) => None,
        })
    })
}

#[test]
fn what_is_wrong_is_one_line_with_its_remedy() {
    let directory = tempfile::tempdir().unwrap();
    let tls = Tls::make(directory.path()).unwrap();
    let broker = RabbitMq::with_tls(&tls).unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let (_connection, channel) = runtime.block_on(services(&broker.url())).unwrap();
    let (url, tls_url) = (broker.url(), broker.tls_url());
    let check = |urls: &str, change: &dyn Fn(&mut Settings), expected: &[&str]| {
        let mut settings = settings(directory.path(), urls).unwrap();
        change(&mut settings);
        let outcome = outcome(&runtime, &settings).with_context(|| urls.to_owned()).unwrap();
        let Some(line) = outcome else {
            assert!(expected.is_empty(), "connected instead of {expected:?}");
            return;
        };
        assert!(!expected.is_empty(), "{line}");
        assert!(!line.contains('\n') && !line.contains("s3cret"), "{line}");
        for words in expected {
            assert!(line.contains(words), "{words} in: {line}");
        }
    };
    let as_is = |_: &mut Settings| {};
    let identity = (tls.client_cert.clone(), tls.client_key.clone());
    let trusting = |settings: &mut Settings| settings.ca_file = Some(tls.ca.clone());
    let known = |settings: &mut Settings| {
        (settings.ca_file, settings.identity) = (Some(tls.ca.clone()), Some(identity.clone()));
    };

    let wrong = url.replace("guest:guest", "guest:s3cret");
    check(&wrong, &as_is, &["refuses user guest or its password", "rabbitmqctl change_password guest"]);
    let elsewhere = url.replace("%2F", "elsewhere");
    check(
        &elsewhere,
        &as_is,
        &["no virtual host elsewhere for user guest", "rabbitmqctl set_permissions -p elsewhere guest"],
    );
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    check(
        &format!("amqp://guest:s3cret@{free}"),
        &as_is,
        &[&format!("connecting to amqp://{free}: start the broker"), "refused"],
    );
    check("", &as_is, &["is empty"]);

    // A user needs what docs/notifications.md says, and no more.
    broker.ctl(&["add_user", "metadatad", "s3cret"]).unwrap();
    let ours = url.replace("guest:guest", "metadatad:s3cret");
    check(&ours, &as_is, &["no virtual host / for user metadatad"]);
    broker.ctl(&["set_permissions", "metadatad", "^$", "^$", "^$"]).unwrap();
    check(&ours, &as_is, &["does not permit user metadatad what declaring the queue needs", "set_permissions"]);
    let [configure, write, read] = documented_permissions();
    broker.ctl(&["set_permissions", "metadatad", &configure, &write, &read]).unwrap();
    check(&ours, &as_is, &[]);
    let limit = |settings: &mut Settings| settings.length_limit = 200;
    check(&ours, &limit, &["with other properties", "rabbitmqctl delete_queue metadatad"]);
    let anothers = QueueDeclareOptions { durable: true, ..QueueDeclareOptions::default() };
    runtime.block_on(channel.queue_declare("theirs".into(), anothers, FieldTable::default())).unwrap();
    let theirs = |settings: &mut Settings| "theirs".clone_into(&mut settings.queue);
    check(&url, &theirs, &["has the queue theirs", "choose another rabbitmq.queue"]);

    check(&tls_url, &known, &[]);
    check(&tls_url, &trusting, &["set rabbitmq.cert_file and rabbitmq.key_file where the broker asks"]);
    check(&tls_url, &as_is, &["rabbitmq.ca_file", "UnknownIssuer"]);
    check(&tls_url.replace("127.0.0.1", "localhost"), &known, &["name the host as the certificate does", "localhost"]);
    check(&url.replace("amqp:", "amqps:"), &known, &["write amqp:// where the port is not for TLS"]);
    check(&tls_url.replace("amqps:", "amqp:"), &known, &["write amqps:// where the port is for TLS"]);

    // One broker that does not answer is left for the next.
    check(&format!("amqp://guest:guest@{free}\n{url}"), &theirs, &["connecting to"]);
    let settings = settings(directory.path(), &format!("amqp://guest:guest@{free}\n{url}")).unwrap();
    let _context = runtime.enter();
    let (sender, _receiver) = mpsc::channel(10);
    let view = listen(&settings, 1, sender);
    wait::until("the second broker", || Ok(view.view().connection().connected.map(|_| ()))).unwrap();
}

/// Returns the three patterns of `rabbitmqctl set_permissions` in docs/notifications.md.
fn documented_permissions() -> [String; 3] {
    let text = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/notifications.md")).unwrap();
    let line = text.lines().find(|line| line.contains("rabbitmqctl set_permissions")).unwrap();
    let quoted: Vec<&str> = line.split('\'').collect();
    [1, 3, 5].map(|place| quoted[place].to_owned())
}
