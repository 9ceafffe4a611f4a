//! What the tidy check holds, as tables: ARCHITECTURE.md's invariants about imports, and the levels of the modules.
//!
//! A line here is a decision. Change it together with ARCHITECTURE.md.

use super::Level;

/// The levels of the daemon's modules, from the top: a module uses what lies on a level below its own.
pub(super) const LEVELS: &[Level] = &[
    Level { name: "Command line", modules: &["cli"] },
    Level { name: "Wiring: the order of start and end; the controller", modules: &["app", "controller"] },
    Level { name: "Content on disk", modules: &["config_drive", "snapshot"] },
    Level { name: "Requests, ports and sources", modules: &["http", "port", "source"] },
    Level {
        name: "Content, kernel, admin socket and metrics",
        modules: &["admin", "boots", "clock", "dataplane", "exporter", "nova_metadata", "origin", "store"],
    },
    Level {
        name: "Answers, observers and identity",
        modules: &["api", "audit", "facts", "fetch", "https", "identity", "server", "signing", "telemetry"],
    },
    Level {
        name: "Configuration, watched directories, what is asked of services",
        modules: &["config", "on_demand", "watched_directory"],
    },
    Level {
        name: "Leaves: they use nothing above",
        modules: &[
            "allowance",
            "backoff",
            "base64",
            "drain",
            "durable",
            "encoding",
            "error_text",
            "hold",
            "links",
            "metrics",
            "on_wake",
            "open_files",
            "percent",
            "pulse",
            "readiness",
            "record",
            "secret",
            "slowness",
            "sockets",
            "state_view",
            "table",
            "worker",
        ],
    },
    Level {
        name: "Values that records and configuration share; what a thread may do",
        modules: &["policy", "privilege"],
    },
];

/// A name that only some places may use.
#[derive(Clone, Copy, Debug)]
pub(super) struct Only {
    /// Crates, or paths from `crate` on; a path covers all that is in it.
    pub(super) names: &'static [&'static str],
    /// Files and directories that may name them.
    pub(super) places: &'static [&'static str],
    /// What holds because of this.
    pub(super) why: &'static str,
}

/// In the daemon: who may name what.
pub(super) const ONLY: &[Only] = &[
    Only { names: &["aya", "aya_log"], places: &["dataplane"], why: "only dataplane knows aya (invariant 5)" },
    Only {
        names: &["rtnetlink", "netlink_packet_core", "netlink_packet_route", "netlink_proto", "netlink_sys"],
        places: &["port", "dataplane/responder", "dataplane/qdisc"],
        why: "only port, dataplane/responder and dataplane/qdisc know netlink (invariant 5)",
    },
    Only { names: &["quick_xml"], places: &["facts/libvirt"], why: "only facts/libvirt reads XML (invariant 5)" },
    Only {
        names: &["crate::facts::openvswitch", "crate::facts::libvirt"],
        places: &["facts"],
        why: "only facts knows Open vSwitch and libvirt (invariant 5)",
    },
    Only {
        names: &["aws_lc_rs"],
        places: &["secret", "fetch/tls", "https"],
        why: "only secret knows the crypto library; fetch/tls and https hand it to rustls (invariant 5)",
    },
    Only { names: &["rustls_pki_types"], places: &["secret"], why: "only secret reads keys (invariant 5)" },
    Only { names: &["ring"], places: &[], why: "aws-lc-rs is the only crypto library" },
    Only {
        names: &["rustls", "tokio_rustls"],
        places: &["source/etcd", "fetch", "nova_metadata/client", "https", "controller/notifications/amqp/transport"],
        why: "only what asks and https speak TLS",
    },
    Only {
        names: &["lapin", "async_rs"],
        places: &["controller/notifications/amqp"],
        why: "only controller/notifications/amqp knows AMQP (invariant 5)",
    },
    Only {
        names: &["etcd_client"],
        places: &["source/etcd", "controller/etcd", "cli/instance/etcd"],
        why: "only the etcd source, the controller's etcd and the commands on documents know etcd",
    },
    Only {
        names: &["hyper", "hyper_util", "http_body_util"],
        places: &[
            "admin",
            "config/target",
            "exporter",
            "fetch",
            "http",
            "nova_metadata/client",
            "server",
            "source/vendordata/fetch",
            "controller/openstack",
        ],
        why: "only what serves or asks over HTTP knows hyper",
    },
    Only {
        names: &["serde"],
        places: &[
            "admin",
            "api",
            "cli",
            "config",
            "snapshot/entry",
            "snapshot/file",
            "snapshot/history",
            "controller/openstack",
            "controller/table/note",
            "source/wire",
        ],
        why: "core types are not serialisable (invariant 3)",
    },
    Only {
        names: &["caps", "seccompiler", "landlock"],
        places: &["privilege"],
        why: "only privilege decides what a thread may do (invariant 5)",
    },
    Only { names: &["toml"], places: &["config"], why: "only config reads TOML" },
    Only { names: &["clap"], places: &["cli"], why: "only cli reads arguments" },
    Only { names: &["ratatui"], places: &["cli/top"], why: "only top draws on a terminal (invariant 5)" },
    Only { names: &["anyhow"], places: &[], why: "errors of the daemon are types" },
];

/// A place that may not name some things.
#[derive(Clone, Copy, Debug)]
pub(super) struct Never {
    /// A file or directory.
    pub(super) place: &'static str,
    /// Crates, paths, or words of the language.
    pub(super) names: &'static [&'static str],
    /// What holds because of this.
    pub(super) why: &'static str,
}

/// In the daemon: what some places do not know.
pub(super) const NEVER: &[Never] = &[
    Never {
        place: "api",
        names: &[
            "async",
            "await",
            "tokio",
            "std::fs",
            "std::net::TcpStream",
            "std::net::UdpSocket",
            "std::process",
            "std::thread",
            "std::env",
            "hyper",
        ],
        why: "api does no I/O and is not async (invariant 1)",
    },
    Never {
        place: "api",
        names: &["std::time::SystemTime", "std::time::Instant", "crate::clock", "rand"],
        why: "api has no clock and no randomness (invariant 1)",
    },
    Never {
        place: "http",
        names: &[
            "crate::dataplane",
            "crate::port",
            "crate::source",
            "crate::facts",
            "crate::snapshot",
            "metadata_ebpf::abi",
        ],
        why: "http sees no map, no netlink message and no type of a controller (invariant 2)",
    },
    Never {
        place: "source",
        names: &["crate::dataplane", "crate::port", "crate::http", "crate::identity"],
        why: "source only writes the store (invariant 4)",
    },
    Never {
        place: "source/vendordata/queue",
        names: &["async", "await", "tokio::net", "tokio::spawn", "std::fs", "Instant::now", "SystemTime::now"],
        why: "the queue decides without I/O or a clock (invariant 4)",
    },
    Never {
        place: "source/etcd/mirror",
        names: &["async", "await", "tokio", "std::fs", "etcd_client"],
        why: "mirror says without I/O what an answer changes",
    },
    Never {
        place: "controller/queue",
        names: &["async", "await", "tokio", "std::fs", "Instant::now", "SystemTime"],
        why: "what is read next is decided without I/O or a clock",
    },
    Never {
        place: "controller/notifications/envelope",
        names: &["async", "await", "tokio", "std::fs", "SystemTime::now", "lapin"],
        why: "what a message names is decided without I/O or a clock",
    },
    Never {
        place: "port/reconcile",
        names: &["async", "await", "tokio", "std::fs", "rtnetlink", "Instant::now"],
        why: "what a tap should be is decided without I/O or a clock",
    },
    Never {
        place: "controller/derive",
        names: &[
            "async",
            "await",
            "tokio",
            "std::fs",
            "std::net::TcpStream",
            "std::thread",
            "std::env",
            "std::time::SystemTime",
            "std::time::Instant",
            "crate::clock",
            "rand",
        ],
        why: "a document is derived without I/O or a clock",
    },
    Never { place: "record", names: &["serde", "serde_json"], why: "core types are not serialisable (invariant 3)" },
    Never { place: "store", names: &["serde"], why: "core types are not serialisable (invariant 3)" },
];
