//! `[metrics]`: Prometheus's metrics over TCP.

use std::net::SocketAddr;
use std::path::PathBuf;

use super::key::{OptionalKey, Table};
use super::kind::{AbsolutePath, Text};
use super::refusal::{Fault, Refusal};
use super::written::Reader;

/// `[metrics]`, where it is switched on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Metrics {
    /// Where metrics are read.
    pub listen: SocketAddr,
    /// Certificate and key; `None`: over plain HTTP.
    pub tls: Option<MetricsTls>,
}

/// The certificate that readers of metrics see.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MetricsTls {
    /// The certificate, followed by those of the authorities between it and one that they trust (PEM).
    pub cert_file: PathBuf,
    /// Its private key (PEM).
    pub key_file: PathBuf,
}

pub(super) static TABLE: Table = Table {
    name: "metrics",
    about: "Metrics for Prometheus over TCP, at /metrics. Off without an address: they can be read at the admin socket all the \
            same. docs/metrics.md lists them.",
    keys: &[&LISTEN, &CERT_FILE, &KEY_FILE],
    tables: &[],
    is_optional: false,
    live: &[],
};

static LISTEN: OptionalKey<Text<SocketAddr>> = OptionalKey {
    name: "listen",
    kind: Text { what: "an IP address and a TCP port", check: address },
    unset: "metrics cannot be read over TCP",
    example: "\"127.0.0.1:9169\"",
    about: "Address and port at which `GET /metrics` is answered, to anybody who can connect: choose the management network's, \
            in the namespace that the daemon runs in. The address need not exist yet when the daemon starts.",
};

static CERT_FILE: OptionalKey<AbsolutePath> = OptionalKey {
    name: "cert_file",
    kind: AbsolutePath::Any,
    unset: "metrics are sent over plain HTTP",
    example: "\"/etc/metadatad/metrics.pem\"",
    about: "Certificate (PEM) for the address, followed by its intermediate certificates: metrics are sent over TLS then. Needs \
            `key_file`. Both files are read again when they change.",
};

static KEY_FILE: OptionalKey<AbsolutePath> = OptionalKey {
    name: "key_file",
    kind: AbsolutePath::Any,
    unset: "metrics are sent over plain HTTP",
    example: "\"/etc/metadatad/metrics-key.pem\"",
    about: "Private key (PEM) of that certificate. Needs `cert_file`.",
};

fn address(text: &str) -> Result<SocketAddr, Fault> {
    let found = text.parse::<SocketAddr>().ok().filter(|address| address.port() > 0);
    found.ok_or_else(|| {
        let remedy =
            "write one like \"192.0.2.7:9169\" or \"[::]:9169\": a host name would make the start wait for a resolver";
        Fault::new(format!("`{text}` is not an address and a port"), remedy)
    })
}

pub(super) fn read(table: &Reader<'_>) -> Result<Option<Metrics>, Refusal> {
    let (listen, files) = (table.optional(&LISTEN)?, table.both(&CERT_FILE, &KEY_FILE)?);
    if listen.is_none() && files.is_some() {
        let fault = Fault::new("cert_file without listen", "write listen too, or remove cert_file and key_file");
        return Err(fault.at(table.span_of("cert_file").unwrap_or_default()));
    }
    let tls = files.map(|(cert_file, key_file)| MetricsTls { cert_file, key_file });
    Ok(listen.map(|listen| Metrics { listen, tls }))
}

#[cfg(test)]
mod tests {
    use super::{Metrics, MetricsTls};
    use crate::config::tests::{read, refuses};

    #[test]
    fn it_is_off_without_an_address() {
        assert_eq!(read("[metrics]\n").expect("accepted").metrics, None);
        let tls = Some(MetricsTls { cert_file: "/c".into(), key_file: "/k".into() });
        let listen = "[::1]:9".parse().expect("an address");
        let text = "[metrics]\nlisten = '[::1]:9'\ncert_file = '/c'\nkey_file = '/k'\n";
        assert_eq!(read(text).expect("accepted").metrics, Some(Metrics { listen, tls }));
    }

    #[test]
    fn refusals_name_place_and_remedy() {
        let listen = "write one like";
        refuses(&[
            ("[metrics]\nlisten = 'node:9169'\n", "m.toml:2:10", "not an address and a port", listen),
            ("[metrics]\nlisten = '192.0.2.7'\n", "m.toml:2:10", "not an address and a port", listen),
            ("[metrics]\nlisten = '192.0.2.7:0'\n", "m.toml:2:10", "not an address and a port", listen),
            ("[metrics]\nlisten = 9169\n", "m.toml:2:10", "invalid type", "write a value"),
            ("[metrics]\ncert_file = '/c'\n", "m.toml:2:13", "cert_file without key_file", "write key_file too"),
            ("[metrics]\ncert_file = '/c'\nkey_file = '/k'\n", "m.toml:2:13", "without listen", "write listen too"),
        ]);
    }
}
