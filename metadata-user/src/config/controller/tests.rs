//! Tests of the controller's configuration.

use std::path::Path;
use std::time::Duration;

use super::*;

/// The least that must be written.
const LEAST: &str = "[etcd]\nendpoints = ['http://a:1']\n[keystone]\nauth_url = 'http://k:5000/v3/'\n\
                     application_credential_id = 'x'\napplication_credential_secret_file = '/s'\n";

fn read(text: &str) -> Result<Controller, ConfigError> {
    Controller::parse(Path::new("c.toml"), text)
}

#[test]
fn little_needs_to_be_written() {
    let read = read(LEAST).expect("accepted");
    assert_eq!((read.etcd.table, read.etcd.node.as_str(), read.etcd.prefix.as_str()), ("etcd", "", "/metadatad"));
    assert_eq!((read.keystone.auth_url.path.as_str(), read.keystone.interface), ("/v3", Interface::Internal));
    let credential = Credential::Application { id: "x".to_owned(), secret_file: "/s".into() };
    assert_eq!((read.keystone.credential.clone(), read.lease), (credential, Duration::from_secs(6)));
    assert_eq!((read.nova, read.neutron, read.rabbitmq, read.metadata_cells.len()), (None, None, None, 0));
    assert_eq!(read.admin.socket, Path::new("/run/metadatad-controller/admin.sock"));
    assert_eq!(read.keystone.warnings().len(), 1, "a secret over http");
}

#[test]
fn all_may_be_written() {
    let text = "[controller]\nname = 'c1'\nlease = '3s'\n[etcd]\nendpoints = ['https://a:1']\n[keystone]\nauth_url = 'https://k'\n\
                username = 'u'\npassword_file = '/p'\nuser_domain = 'd'\nproject = 'q'\nproject_domain = 'e'\nregion = 'r'\n\
                interface = 'public'\nca_file = '/ca'\ncert_file = '/c'\nkey_file = '/k'\n[nova]\nendpoint = 'https://n/v2.1/'\n\
                [metadata_api]\nendpoints = ['http://m:8775']\ncells = [['http://c1'], ['http://c2', 'http://c3']]\n[neutron]\n\
                endpoint = 'https://q:9696/'\n[rabbitmq]\nurls_file = '/u'\nqueue = 'mine'\nnova_topics = ['a', 'b']\nexpiry = 60\n\
                [reconcile]\nrequests_per_second = 5\nlist_interval = 60\n";
    let read = read(text).expect("accepted");
    assert_eq!((read.name.as_str(), read.lease), ("c1", Duration::from_secs(3)));
    assert!(matches!(&read.keystone.credential, Credential::Password { project, .. } if project == "q"));
    assert_eq!(read.nova.expect("written").path, "/v2.1");
    assert_eq!(read.metadata_cells.iter().map(Vec::len).collect::<Vec<_>>(), [1, 2]);
    let rabbitmq = read.rabbitmq.expect("switched on");
    assert_eq!(
        (rabbitmq.queue.as_str(), rabbitmq.nova_topics.len(), rabbitmq.expiry),
        ("mine", 2, Duration::from_secs(60))
    );
    assert_eq!(read.reconcile.list_interval, Duration::from_secs(60));
}

#[test]
fn refusals_name_place_and_remedy() {
    const ETCD: &str = "[etcd]\nendpoints = ['http://a:1']\n";
    const URL: &str = "[keystone]\nauth_url = 'http://k'\n";
    for (text, place, problem, remedy) in [
        (String::new(), "c.toml:1:1", "no endpoint of etcd", "write etcd.endpoints"),
        (ETCD.to_owned(), "c.toml:1:1", "no URL of Keystone", "write keystone.auth_url"),
        (format!("{ETCD}{URL}"), "c.toml:3:2", "no credential", "keystone.username"),
        (
            format!("{ETCD}{URL}username = 'u'"),
            "c.toml:5:12",
            "username without password_file",
            "write password_file too",
        ),
        (format!("{ETCD}[keystone]\nauth_url = 'k:1'"), "c.toml:4:12", "not an endpoint", "https://host:port/path"),
        (format!("{LEAST}username = 'u'\npassword_file = '/p'"), "c.toml:7:12", "and a user", "write one of the two"),
        (
            format!("{LEAST}[metadata_api]\ncells = [[]]"),
            "c.toml:8:10",
            "a cell without an endpoint",
            "http://host:8775",
        ),
        (format!("{LEAST}[rabbitmq]\nqueue = 'q'"), "c.toml:7:2", "no brokers", "write rabbitmq.urls_file"),
        (format!("{LEAST}[rabbitmq]\nnova_topics = []"), "c.toml:8:15", "no topic", "remove the line"),
        (format!("{LEAST}[rabbitmq]\nurls_file = '/u'\nqueue = 'a b'"), "c.toml:9:9", "not a possible name", "letters"),
        (format!("{LEAST}[controller]\nlease = '1s'"), "c.toml:8:9", "not a possible time-out", "2s"),
        (format!("{LEAST}[ports]\n"), "c.toml:7:2", "unknown field `ports`", "`metadatad schema controller-example`"),
        (format!("{LEAST}[etcd2]\n"), "c.toml:7:2", "unknown field `etcd2`", "correct the name"),
    ] {
        let message = read(&text).expect_err(&text).to_string();
        assert!(message.starts_with(place), "{text:?}: {message}");
        assert!(message.contains(problem) && message.contains(remedy), "{text:?}: {message}");
    }
}
