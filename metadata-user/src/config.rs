//! The configuration: TOML, read table by table, into a [`Config`] that holds no impossible value.
//!
//! Promises: an unknown key, a wrong type and an impossible value are refused with file, line, column and the remedy. Each
//! table is a file, which declares its keys with type, range, default, meaning and reason; the example, the reference and
//! the JSON Schema (`reference`) are made from these declarations. An empty file is a valid configuration. Reading is
//! bounded, and takes time linear in the size of the file.
//!
//! To add a key: declare it in the file of its table, list it in `TABLE` (and among its `live` keys, if [`ConfigFile`]'s reload
//! applies it), read it in `read`; then `cargo xtask schema`.
//!
//! Left out: opening what the configuration names (directories, sockets, the vendor-data file): whoever uses it does that.

mod access;
mod admin;
mod audit;
mod bpf;
mod changes;
mod cloud;
mod configdrive;
pub mod controller;
mod error;
pub mod etcd;
pub mod facts;
mod guests;
mod http;
mod https;
mod identity;
mod key;
mod kind;
mod log;
mod metrics;
pub mod nova;
pub mod partial;
pub mod pass;
pub mod patience;
pub mod pattern;
mod ports;
pub mod reference;
mod refusal;
mod responder;
mod security;
pub mod snapshot;
mod source;
pub mod target;
mod text;
mod written;

use std::path::Path;

use toml::de::DeTable;

pub use admin::Admin;
pub use audit::{Audit, AuditTarget};
pub use bpf::{AttachMode, Bpf};
pub use changes::{Changed, ConfigFile};
pub use cloud::{Cloud, VendordataDynamic, VendordataProvider};
pub use configdrive::{AutoDrive, ConfigDrive, DriveFormat};
pub use error::ConfigError;
pub use http::Http;
pub use https::Https;
pub use identity::{Identity, Signer};
pub use log::{Log, LogFormat};
pub use metrics::{Metrics, MetricsTls};
pub use ports::{Guard, Ports, Unbound};
pub use responder::Responder;
pub use security::Security;
pub use source::Source;

use facts::Facts;
use refusal::{Fault, Refusal};
use snapshot::Snapshot;
use written::Reader;

use crate::error_text::visible;
use crate::policy::{Access, Extensions, Policy};

/// Where the configuration is read from without `--config`.
pub const CONFIG_PATH: &str = "/etc/metadatad/metadatad.toml";

/// What `metadatad schema` calls the example.
const EXAMPLE: &str = "example";

/// Everything an operator may set, checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// `[responder]`: the network namespace in which guests are answered.
    pub responder: Responder,
    /// `[ports]`: which interfaces are guests'.
    pub ports: Ports,
    /// `[bpf]`: where and how programs live in the kernel.
    pub bpf: Bpf,
    /// `[source]`: where documents come from.
    pub source: Source,
    /// `[snapshot]`: what the node keeps on disk.
    pub snapshot: Snapshot,
    /// `[configdrive]`: images of config drives.
    pub configdrive: ConfigDrive,
    /// `[facts]`: the observers of this node, Open vSwitch and libvirt.
    pub facts: Facts,
    /// `[cloud]`: what all instances have in common.
    pub cloud: Cloud,
    /// `[access]`: what instances may read, and how.
    pub access: Access,
    /// `[http]`: time-outs and limits towards guests.
    pub http: Http,
    /// `[guests]`: what guests have beyond Nova's trees.
    pub guests: Extensions,
    /// `[identity]`: signed proof of what an instance is.
    pub identity: Identity,
    /// `[audit]`: where the record of each request goes.
    pub audit: Audit,
    /// `[https]`: answering guests over TLS too; `None`: they are not.
    pub https: Option<Https>,
    /// `[metrics]`: metrics over TCP; `None`: they are not.
    pub metrics: Option<Metrics>,
    /// `[admin]`: the socket that the command line talks to.
    pub admin: Admin,
    /// `[security]`: what the daemon gives up.
    pub security: Security,
    /// `[log]`: what is logged and how.
    pub log: Log,
}

/// All tables, in the order in which they are shown.
static TABLES: &[&key::Table] = &[
    &responder::TABLE,
    &ports::TABLE,
    &bpf::TABLE,
    &source::TABLE,
    &snapshot::TABLE,
    &configdrive::TABLE,
    &facts::TABLE,
    &cloud::TABLE,
    &access::TABLE,
    &http::TABLE,
    &guests::TABLE,
    &identity::TABLE,
    &audit::TABLE,
    &https::TABLE,
    &metrics::TABLE,
    &admin::TABLE,
    &security::TABLE,
    &log::TABLE,
];

impl Config {
    /// Reads and checks a configuration file.
    ///
    /// # Errors
    /// [`ConfigError`] if the file cannot be read, or holds what [`Config::parse`] refuses.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        Self::parse(path, &text::read(path, EXAMPLE)?)
    }

    /// Returns the text of a configuration file's bytes. `path` is only named in errors.
    ///
    /// # Errors
    /// [`ConfigError`] if it is not UTF-8.
    pub fn text_of(path: &Path, bytes: &[u8]) -> Result<String, ConfigError> {
        text::of_bytes(path, bytes)
    }

    /// Checks a configuration that is already read. `path` is only named in errors.
    ///
    /// # Errors
    /// [`ConfigError`] for TOML that is malformed, and for keys and values that are not possible.
    pub fn parse(path: &Path, text: &str) -> Result<Self, ConfigError> {
        text::parsed(path, text, EXAMPLE, Self::read)
    }

    /// Describes settings that are accepted, and probably not what is wanted.
    #[must_use]
    pub fn warnings(&self) -> Vec<String> {
        self.cloud.warnings().into_iter().chain(self.http.warnings()).map(|warning| visible(&warning)).collect()
    }

    /// Returns what an instance may do of which the document says nothing else.
    #[must_use]
    pub fn policy(&self) -> Policy {
        Policy {
            connections_per_port: self.http.connections_per_port,
            connections_per_instance: self.http.connections_per_instance,
            requests: self.http.requests(),
            access: self.access,
            extensions: self.guests,
            identity: self.identity.tokens,
        }
    }

    fn read(document: &DeTable<'_>) -> Result<Self, Refusal> {
        written::only_tables(document, TABLES)?;
        let open = |table| Reader::open(document, table);
        let (responder, ports) = (open(&responder::TABLE)?, open(&ports::TABLE)?);
        let https = open(&https::TABLE)?;
        let read = responder::read(&responder)?;
        let config = Self {
            ports: ports::read(&ports, read.port)?,
            responder: read,
            bpf: bpf::read(&open(&bpf::TABLE)?)?,
            source: source::read(&open(&source::TABLE)?)?,
            snapshot: snapshot::read(&open(&snapshot::TABLE)?)?,
            configdrive: configdrive::read(&open(&configdrive::TABLE)?)?,
            facts: facts::read(&open(&facts::TABLE)?)?,
            cloud: cloud::read(&open(&cloud::TABLE)?)?,
            access: access::read(&open(&access::TABLE)?)?,
            http: http::read(&open(&http::TABLE)?)?,
            guests: guests::read(&open(&guests::TABLE)?)?,
            identity: identity::read(&open(&identity::TABLE)?)?,
            audit: audit::read(&open(&audit::TABLE)?)?,
            https: https::read(&https)?,
            metrics: metrics::read(&open(&metrics::TABLE)?)?,
            admin: admin::read(&open(&admin::TABLE)?)?,
            security: security::read(&open(&security::TABLE)?)?,
            log: log::read(&open(&log::TABLE)?)?,
        };
        // Between two tables.
        if config.https.as_ref().is_some_and(|https| https.port == config.responder.port) {
            let problem = format!("https.port is also responder.port: {}", config.responder.port);
            let span = https.span_of("port").or_else(|| responder.span_of("port")).unwrap_or_default();
            return Err(Fault::new(problem, "choose another port for one of them").at(span));
        }
        if config.ports.matches(&config.responder.interface) {
            let problem = format!("responder.interface `{}` matches ports.match", config.responder.interface);
            let span = responder.span_of("interface").or_else(|| ports.span_of("match")).unwrap_or_default();
            return Err(Fault::new(problem, "choose a name that no pattern of ports.match matches").at(span));
        }
        Ok(config)
    }
}

impl Default for Config {
    /// What an empty file means.
    fn default() -> Self {
        Self::read(&DeTable::new()).expect("the defaults are accepted, as a test shows")
    }
}

#[cfg(test)]
mod tests;
