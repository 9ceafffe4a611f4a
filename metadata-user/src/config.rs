//! The configuration: read from TOML as written (`raw`), then turned into a [`Config`] that holds no impossible value.
//!
//! Promises: an unknown key, a wrong type and an impossible value are refused with file, line, column and the remedy;
//! every default is a documented constant of [`defaults`]; an empty file is a valid configuration.
//!
//! Left out: opening what the configuration names (directories, sockets, the vendor-data file): whoever uses it does that.

pub mod defaults;
mod error;
pub mod etcd;
pub mod facts;
pub mod nova;
pub mod pass;
pub mod pattern;
mod raw;
pub mod snapshot;
pub mod target;

use std::path::{Path, PathBuf};
use std::time::Duration;

pub use error::ConfigError;
use etcd::Etcd;
use facts::Facts;
use nova::Nova;
use pattern::NamePattern;
use snapshot::Snapshot;
use target::Target;

use crate::policy::Policy;

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
    /// `[facts]`: who on this node says whose a device is.
    pub facts: Facts,
    /// `[snapshot]`: what the node keeps on disk.
    pub snapshot: Snapshot,
    /// `[cloud]`: what all instances have in common.
    pub cloud: Cloud,
    /// `[http]`: time-outs and limits towards guests.
    pub http: Http,
    /// `[admin]`: the socket that the command line talks to.
    pub admin: Admin,
    /// `[log]`: what is logged and how.
    pub log: Log,
}

/// `[responder]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Responder {
    /// Name of the network namespace, as `ip netns` shows it.
    pub namespace: String,
    /// Name of the host's end of the pair; the far end has the same name inside the namespace.
    pub interface: String,
    /// TCP port on which guests are answered.
    pub port: u16,
}

/// `[ports]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ports {
    /// Interfaces whose name matches one of these are guests'. Never empty.
    pub patterns: Vec<NamePattern>,
    /// What becomes of metadata requests on a port that no document claims.
    pub unbound: Unbound,
    /// Protocols and ports of the metadata addresses that are left to the network.
    pub pass: Vec<pass::PassedPort>,
}

impl Ports {
    /// Tells whether an interface of this name is a guest's.
    #[must_use]
    pub fn matches(&self, name: &str) -> bool {
        self.patterns.iter().any(|pattern| pattern.matches(name))
    }
}

/// What becomes of metadata requests on a port that no document claims.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unbound {
    /// They are answered with 503, so that the guest asks again.
    Hold,
    /// They pass untouched, to whatever answered them before metadatad came.
    Pass,
}

/// `[bpf]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bpf {
    /// Directory of the bpf file system in which maps and links are pinned.
    pub pin_dir: PathBuf,
    /// How programs are attached to interfaces.
    pub attach: Attach,
}

/// How programs are attached to interfaces.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Attach {
    /// With tcx where the kernel has it, else clsact.
    Auto,
    /// With tcx (Linux 6.6).
    Tcx,
    /// With a clsact queueing discipline.
    Clsact,
}

/// `[source]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// `kind = "directory"`: a directory of `*.json`, one document per instance.
    Directory {
        /// The directory.
        path: PathBuf,
    },
    /// `kind = "etcd"`: keys of an etcd cluster.
    Etcd(Etcd),
    /// `kind = "nova"`: an unchanged OpenStack's metadata API.
    Nova(Nova),
}

/// `[cloud]`. Keys are named as Nova's options.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cloud {
    /// Nova's `dhcp_domain`: appended to every host name; empty for none.
    pub dhcp_domain: String,
    /// Nova's `vendordata_providers`, in order.
    pub vendordata_providers: Vec<VendordataProvider>,
    /// Nova's `vendordata_jsonfile_path`.
    pub vendordata_jsonfile_path: Option<PathBuf>,
    /// The options whose names start with `vendordata_dynamic_`.
    pub vendordata_dynamic: VendordataDynamic,
}

impl Cloud {
    /// Returns the targets that are asked: none unless `DynamicJSON` is among the providers.
    #[must_use]
    pub fn asked_targets(&self) -> &[Target] {
        let is_provided = self.vendordata_providers.contains(&VendordataProvider::DynamicJson);
        if is_provided { &self.vendordata_dynamic.asked } else { &[] }
    }

    /// Tells in words what is configured and of no use.
    #[must_use]
    pub fn warnings(&self) -> Vec<String> {
        let dynamic = &self.vendordata_dynamic;
        let skipped = dynamic.skipped.iter().map(|target| {
            format!(
                "cloud.vendordata_dynamic_targets: `{target}` is skipped, as Nova does: write it as name@url, with a \
                 name that no other target has"
            )
        });
        let mut warnings: Vec<_> = skipped.collect();
        if self.asked_targets().len() < dynamic.asked.len() {
            warnings.push(
                "cloud.vendordata_dynamic_targets are not asked: add \"DynamicJSON\" to cloud.vendordata_providers"
                    .to_owned(),
            );
        }
        warnings
    }
}

/// The options of `[cloud]` whose names start with `vendordata_dynamic_`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VendordataDynamic {
    /// Nova's `vendordata_dynamic_targets`, as written, in order.
    pub targets: Vec<String>,
    /// Those of them that Nova asks, in order.
    pub asked: Vec<Target>,
    /// Those of them that Nova skips: without `@`, or with a name that came before.
    pub skipped: Vec<String>,
    /// Nova's `vendordata_dynamic_connect_timeout`: longest time until a request can be sent.
    pub connect_timeout: Duration,
    /// Nova's `vendordata_dynamic_read_timeout`: longest time from the request to the end of its answer.
    pub read_timeout: Duration,
    /// Nova's `vendordata_dynamic_ssl_certfile`: whom to trust for https instead of the system's authorities.
    pub ssl_certfile: Option<PathBuf>,
    /// How old an answer grows until it is asked for again; `None`: until the instance's document changes.
    pub refresh: Option<Duration>,
    /// Most bytes of an answer.
    pub body_limit: usize,
    /// Most requests in flight, to all targets together.
    pub requests: usize,
}

/// A provider of vendor data, as Nova names them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VendordataProvider {
    /// The file `vendordata_jsonfile_path`.
    StaticJson,
    /// Answers of services that Nova calls.
    DynamicJson,
}

/// `[http]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Http {
    /// Longest time from the first byte of a request to the end of its head and body.
    pub request_timeout: Duration,
    /// Longest time in which a connection moves no byte.
    pub idle_timeout: Duration,
    /// Longest time that a request waits for content that is not there yet, at most half of the idle time-out; zero: not at
    /// all.
    pub ready_timeout: Duration,
    /// Longest time that requests in flight get when the daemon ends.
    pub drain_timeout: Duration,
    /// Connections of one port at a time.
    pub connections_per_port: usize,
    /// Connections in all at a time.
    pub connections: usize,
    /// Threads that answer guests.
    pub threads: usize,
}

impl Http {
    /// Returns what an instance may do of which the document says nothing else.
    #[must_use]
    pub fn policy(&self) -> Policy {
        Policy { connections_per_port: self.connections_per_port }
    }
}

/// `[admin]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Admin {
    /// Path of the Unix socket.
    pub socket: PathBuf,
}

/// `[log]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Log {
    /// A level (`info`), or directives as tracing-subscriber's `EnvFilter` reads them (`info,metadata_user::http=debug`).
    pub filter: String,
    /// Form of a line.
    pub format: LogFormat,
}

/// Form of a log line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object per line.
    Json,
}

impl Config {
    /// Reads and checks a configuration file.
    ///
    /// # Errors
    /// [`ConfigError`] if the file cannot be read, or holds what [`Config::parse`] refuses.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        let text =
            std::fs::read_to_string(path).map_err(|source| ConfigError::Read { path: path.to_owned(), source })?;
        Self::parse(path, &text)
    }

    /// Checks a configuration that is already read. `path` is only named in errors.
    ///
    /// # Errors
    /// [`ConfigError`] for TOML that is malformed, and for keys and values that are not possible.
    pub fn parse(path: &Path, text: &str) -> Result<Self, ConfigError> {
        raw::parse(path, text)
    }
}

impl Default for Config {
    fn default() -> Self {
        use defaults as d;
        Self {
            responder: Responder {
                namespace: d::NAMESPACE.to_owned(),
                interface: d::INTERFACE.to_owned(),
                port: d::PORT,
            },
            ports: Ports {
                patterns: vec![NamePattern::of(d::PORT_PATTERN)],
                unbound: d::UNBOUND,
                pass: pass::DEFAULT.to_vec(),
            },
            bpf: Bpf { pin_dir: d::PIN_DIR.into(), attach: d::ATTACH },
            source: Source::Directory { path: d::DIRECTORY.into() },
            facts: Facts::default(),
            snapshot: Snapshot::default(),
            cloud: Cloud {
                dhcp_domain: d::DHCP_DOMAIN.to_owned(),
                vendordata_providers: d::VENDORDATA_PROVIDERS.to_vec(),
                vendordata_jsonfile_path: None,
                vendordata_dynamic: VendordataDynamic {
                    targets: Vec::new(),
                    asked: Vec::new(),
                    skipped: Vec::new(),
                    connect_timeout: d::VENDORDATA_DYNAMIC_TIMEOUT,
                    read_timeout: d::VENDORDATA_DYNAMIC_TIMEOUT,
                    ssl_certfile: None,
                    refresh: Some(d::VENDORDATA_DYNAMIC_REFRESH),
                    body_limit: d::VENDORDATA_DYNAMIC_BODY_LIMIT,
                    requests: d::VENDORDATA_DYNAMIC_REQUESTS,
                },
            },
            http: Http {
                request_timeout: d::REQUEST_TIMEOUT,
                idle_timeout: d::IDLE_TIMEOUT,
                ready_timeout: d::READY_TIMEOUT,
                drain_timeout: d::DRAIN_TIMEOUT,
                connections_per_port: d::CONNECTIONS_PER_PORT,
                connections: d::CONNECTIONS,
                threads: d::THREADS,
            },
            admin: Admin { socket: d::ADMIN_SOCKET.into() },
            log: Log { filter: d::LOG_FILTER.to_owned(), format: d::LOG_FORMAT },
        }
    }
}
