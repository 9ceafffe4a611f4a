//! `[source.nova]`: the Nova metadata API that content comes from.

use std::path::PathBuf;
use std::time::Duration;

use toml::Spanned;

use super::key::{Key, OptionalKey, Table};
use super::kind::{AbsolutePath, List, Number, TIMEOUT, Text, Timeout};
use super::refusal::{Fault, Refusal};
use super::target::TargetUrl;
use super::written::Reader;

/// Most requests in flight: a node has no use for more, and Nova has other nodes.
const MOST_REQUESTS: usize = 256;
/// An endpoint's own path, before Nova's.
const LONGEST_PATH: usize = 255;

/// `[source.nova]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Nova {
    /// Where Nova's metadata API is. Never empty.
    pub endpoints: Vec<TargetUrl>,
    /// File that holds Nova's `metadata_proxy_shared_secret`.
    pub shared_secret_file: PathBuf,
    /// Certificates of the authorities that are trusted for https; `None`: the system's.
    pub ca_file: Option<PathBuf>,
    /// This node's client certificate, and its key.
    pub identity: Option<(PathBuf, PathBuf)>,
    /// How often an instance is compared with Nova.
    pub refresh_interval: Duration,
    /// Age at which all of an instance is read again.
    pub reread_interval: Duration,
    /// Most requests in flight.
    pub requests: usize,
    /// Longest time until a connection is established.
    pub connect_timeout: Duration,
    /// Longest time from a request to the end of its answer.
    pub read_timeout: Duration,
}

pub(super) static TABLE: Table = Table {
    name: "source.nova",
    about: "With `kind = \"nova\"`: the metadata API of an unchanged OpenStack, prefetched for every instance on this node.",
    keys: &[
        &ENDPOINTS,
        &SHARED_SECRET_FILE,
        &CA_FILE,
        &CERT_FILE,
        &KEY_FILE,
        &REFRESH_INTERVAL,
        &REREAD_INTERVAL,
        &REQUESTS,
        &CONNECT_TIMEOUT,
        &READ_TIMEOUT,
    ],
    tables: &[],
    is_optional: true,
    live: &[],
};

/// The same for the controller, which reads every instance, and adds cells.
pub(super) static CONTROLLER_TABLE: Table = Table {
    name: "metadata_api",
    about: "Nova's metadata API, which answers are read from: as Neutron's agents read it, with signed headers.",
    keys: &[&ENDPOINTS, &CELLS, &SHARED_SECRET_FILE, &CA_FILE, &CERT_FILE, &KEY_FILE, &CONNECT_TIMEOUT, &READ_TIMEOUT],
    tables: &[],
    is_optional: false,
    live: &[],
};

static CELLS: Key<List<List<Text<TargetUrl>>>> = Key {
    name: "cells",
    kind: List(List(ENDPOINT)),
    default: "[]",
    about: "Where each of Nova's cells has a metadata API of its own (`local_metadata_per_cell`): a list of endpoints for each cell. \
            Without cells, `endpoints` are asked for all instances.",
    reason: "Most clouds have one metadata API for all cells.",
};

const ENDPOINT: Text<TargetUrl> =
    Text { what: "http://host:port or https://host:port, and a path where Nova has one", check: endpoint };

static ENDPOINTS: Key<List<Text<TargetUrl>>> = Key {
    name: "endpoints",
    kind: List(ENDPOINT),
    default: "[\"http://127.0.0.1:8775\"]",
    about: "Where Nova's metadata API is. One that fails is left alone for a while, and the next is asked.",
    reason: "Where it listens by default (`metadata_listen_port`).",
};

static SHARED_SECRET_FILE: Key<AbsolutePath> = Key {
    name: "shared_secret_file",
    kind: AbsolutePath::Any,
    default: "\"/etc/metadatad/nova_shared_secret\"",
    about: "File (mode 0600) that holds `metadata_proxy_shared_secret` of nova.conf.",
    reason: "Beside the configuration, readable by root alone.",
};

static CA_FILE: OptionalKey<AbsolutePath> = OptionalKey {
    name: "ca_file",
    kind: AbsolutePath::Any,
    unset: "the system's certificate authorities",
    example: "\"/etc/metadatad/nova-ca.pem\"",
    about: "Certificates (PEM) of the authorities that are trusted for https.",
};

static CERT_FILE: OptionalKey<AbsolutePath> = OptionalKey {
    name: "cert_file",
    kind: AbsolutePath::Any,
    unset: "no client certificate",
    example: "\"/etc/metadatad/nova-client.pem\"",
    about: "This node's certificate (PEM), where Nova asks for one. Needs `key_file`.",
};

static KEY_FILE: OptionalKey<AbsolutePath> = OptionalKey {
    name: "key_file",
    kind: AbsolutePath::Any,
    unset: "no client certificate",
    example: "\"/etc/metadatad/nova-client-key.pem\"",
    about: "Private key (PEM) of that certificate. Needs `cert_file`.",
};

static REFRESH_INTERVAL: Key<Timeout> = Key {
    name: "refresh_interval",
    kind: TIMEOUT,
    default: "\"1m\"",
    about: "How often an instance is compared with Nova, by three of its pages. Where one differs all of it is read.",
    reason: "Properties, names and interfaces reach the guest within a minute and Nova's own 15 seconds, a floating IP or a security group \
             within three; an instance that does not change costs Nova three requests a minute.",
};

static REREAD_INTERVAL: Key<Timeout> = Key {
    name: "reread_interval",
    kind: TIMEOUT,
    default: "\"60m\"",
    about: "Age at which all of an instance is read again, though nothing seems to have changed.",
    reason: "It finds what no comparison shows; it costs Nova a request a minute for each instance.",
};

static REQUESTS: Key<Number<usize>> = Key {
    name: "requests",
    kind: Number { least: 1, most: MOST_REQUESTS },
    default: "8",
    about: "Most requests in flight at a time, of the whole node.",
    reason: "Nova has other nodes to serve. Two of them are kept for guests that wait.",
};

static CONNECT_TIMEOUT: Key<Timeout> = Key {
    name: "connect_timeout",
    kind: TIMEOUT,
    default: "\"3s\"",
    about: "Longest time until a connection is established.",
    reason: "An endpoint in the same data centre connects in milliseconds, or not at all.",
};

static READ_TIMEOUT: Key<Timeout> = Key {
    name: "read_timeout",
    kind: TIMEOUT,
    default: "\"30s\"",
    about: "Longest time from a request to the end of its answer.",
    reason: "Nova without its cache asks its database and Neutron: seconds, when they are busy. Longer than a guest waits.",
};

pub(super) fn read(table: &Reader<'_>) -> Result<Nova, Refusal> {
    read_with(table, table.value(&REFRESH_INTERVAL)?, table.value(&REREAD_INTERVAL)?, table.value(&REQUESTS)?)
}

/// Reads the controller's table: how to ask Nova, by so many requests at a time, and the endpoints of each cell that has its own.
pub(super) fn read_for_controller(table: &Reader<'_>, requests: usize) -> Result<(Nova, Vec<Vec<TargetUrl>>), Refusal> {
    let cells = table.value(&CELLS)?;
    if let Some(empty) = cells.get_ref().iter().find(|cell| cell.get_ref().get_ref().is_empty()) {
        return Err(Fault::new("a cell without an endpoint", ENDPOINT_FORM).at(empty.span()));
    }
    let endpoints =
        |cell: Spanned<Vec<Spanned<TargetUrl>>>| cell.into_inner().into_iter().map(Spanned::into_inner).collect();
    let cells = cells.into_inner().into_iter().map(|cell| endpoints(cell.into_inner())).collect();
    // The controller has its own rounds.
    Ok((read_with(table, REFRESH_INTERVAL.default_value()?, REREAD_INTERVAL.default_value()?, requests)?, cells))
}

fn read_with(table: &Reader<'_>, refresh: Duration, reread: Duration, requests: usize) -> Result<Nova, Refusal> {
    let endpoints = table.value(&ENDPOINTS)?;
    if endpoints.get_ref().is_empty() {
        return Err(Fault::new("no endpoint of Nova", ENDPOINT_FORM).at(endpoints.span()));
    }
    Ok(Nova {
        endpoints: endpoints.into_inner().into_iter().map(Spanned::into_inner).collect(),
        shared_secret_file: table.value(&SHARED_SECRET_FILE)?,
        ca_file: table.optional(&CA_FILE)?,
        identity: table.both(&CERT_FILE, &KEY_FILE)?,
        refresh_interval: refresh,
        reread_interval: reread,
        requests,
        connect_timeout: table.value(&CONNECT_TIMEOUT)?,
        read_timeout: table.value(&READ_TIMEOUT)?,
    })
}

const ENDPOINT_FORM: &str = "write it as \"http://host:8775\" or \"https://host:8775\"";

fn endpoint(text: &str) -> Result<TargetUrl, Fault> {
    let refuse = |problem: &str| Fault::new(format!("`{text}` is not an endpoint: {problem}"), ENDPOINT_FORM);
    let mut url = TargetUrl::parse(text).map_err(refuse)?;
    if url.path.contains('?') || url.path.len() > LONGEST_PATH {
        return Err(refuse("it has a query, or is too long"));
    }
    // Nova's paths begin with a slash.
    url.path.truncate(url.path.trim_end_matches('/').len());
    Ok(url)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::config::{Config, ConfigError, Source};

    const HEAD: &str = "[source]\nkind = 'nova'\n";

    fn read(text: &str) -> Result<Nova, ConfigError> {
        match Config::parse(Path::new("m.toml"), text)?.source {
            Source::Nova(nova) => Ok(nova),
            source => panic!("{source:?}"),
        }
    }

    #[test]
    fn all_may_be_written() {
        let nova = read(&format!(
            "{HEAD}[source.nova]\nendpoints = ['http://a', 'https://b:1/x/']\nshared_secret_file = '/s'\nca_file = '/a'\n\
             cert_file = '/c'\nkey_file = '/k'\nrefresh_interval = '1m'\nreread_interval = '2m'\nrequests = 2\nconnect_timeout = '1s'\n\
             read_timeout = '2s'\n"
        ))
        .expect("a table");
        assert_eq!(nova.endpoints.iter().map(ToString::to_string).collect::<Vec<_>>(), ["http://a", "https://b:1/x"]);
        assert_eq!(nova.identity, Some(("/c".into(), "/k".into())));
        assert_eq!((nova.refresh_interval, nova.requests), (Duration::from_secs(60), 2));
        assert_eq!(nova.reread_interval, Duration::from_secs(120));
        assert_eq!((nova.connect_timeout, nova.read_timeout), (Duration::from_secs(1), Duration::from_secs(2)));
    }

    #[test]
    fn refusals_name_place_and_remedy() {
        for (table, place, problem, remedy) in [
            ("endpoints = []", "m.toml:4:13", "no endpoint", "http://host:8775"),
            ("endpoints = ['x:8775']", "m.toml:4:14", "neither http nor https", "http://host:8775"),
            ("endpoints = ['http://x/?a']", "m.toml:4:14", "a query", "http://host:8775"),
            ("shared_secret_file = 's'", "m.toml:4:22", "not an absolute path", "from `/`"),
            ("cert_file = '/c'", "m.toml:4:13", "_file without ", "_file too"),
            ("key_file = '/c'", "m.toml:4:12", "_file without ", "_file too"),
            ("requests = 0", "m.toml:4:12", "out of range", "use 1 to 256"),
            ("read_timeout = '1'", "m.toml:4:16", "not a possible time-out", "10s"),
            ("secret = 'x'", "m.toml:4:1", "unknown field", "correct the name"),
        ] {
            let message = read(&format!("{HEAD}[source.nova]\n{table}")).expect_err(table).to_string();
            assert!(message.starts_with(place), "{table}: {message}");
            assert!(message.contains(problem) && message.contains(remedy), "{table}: {message}");
        }
    }
}
