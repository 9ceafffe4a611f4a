//! metadatad, as a library with a thin binary, so that tests can drive its parts in process.
//!
//! Which module may use which is written in ARCHITECTURE.md.

pub mod admin;
pub mod allowance;
pub mod api;
pub mod app;
pub mod audit;
pub mod backoff;
pub mod base64;
pub mod boots;
pub mod cli;
pub mod clock;
pub mod config;
pub mod config_drive;
#[cfg(feature = "etcd")]
pub mod controller;
pub mod dataplane;
pub mod drain;
mod durable;
mod encoding;
pub mod error_text;
pub mod exporter;
pub mod facts;
pub mod fetch;
pub mod hold;
pub mod http;
pub mod https;
pub mod identity;
mod links;
pub mod metrics;
pub mod nova_metadata;
pub mod on_demand;
mod on_wake;
pub mod open_files;
pub mod origin;
mod percent;
pub mod policy;
pub mod port;
pub mod privilege;
pub mod pulse;
pub mod readiness;
pub mod record;
pub mod secret;
pub mod server;
pub mod signing;
mod slowness;
pub mod snapshot;
pub mod sockets;
pub mod source;
pub mod state_view;
pub mod store;
pub mod table;
pub mod telemetry;
mod watched_directory;
pub mod worker;
