//! The lab: nodes, guests and what goes between them, made of network namespaces.
//!
//! Promises: nothing is created, attached, sent or requested in the machine's own network namespace, where
//! 169.254.169.254 may be a real metadata service ([`guard`]); names are unique, so labs can run side by side; what a
//! lab made is removed with it, by `Drop`, also when a test fails; a wait has a deadline, and its error names what it
//! waited for.
//!
//! ```no_run
//! let node = lab::Node::start()?;
//! let guest = node.guest("a").boot()?;
//! assert_eq!(guest.get("/openstack")?.status, 200);
//! # anyhow::Ok(())
//! ```

pub mod agent;
pub mod asker;
pub mod bpf;
pub mod command;
pub mod controller;
pub mod counters;
pub mod crowd;
pub mod daemon;
pub mod dhcp;
pub mod document;
pub mod domain;
pub mod etcd;
pub mod fd_store;
pub mod fetched;
pub mod files;
pub mod fleet;
pub mod foreign;
pub mod frame;
pub mod golden;
pub mod guard;
pub mod guest;
pub mod http;
pub mod libvirtd;
pub mod machine;
pub mod netns;
pub mod node;
pub mod nova;
pub mod openstack;
pub mod ovsdb;
pub mod page;
pub mod plot;
pub mod prometheus;
pub mod rack;
pub mod shared;
pub mod shared_frame;
pub mod soak;
pub mod stall;
pub mod tap;
pub mod tls;
mod usage;
pub mod vlan;
pub mod vswitch;
pub mod wait;

pub use asker::Asker;
pub use crowd::Crowd;
pub use dhcp::Dhcp;
pub use document::Document;
pub use domain::Domain;
pub use etcd::{Etcd, EtcdPlan};
pub use fd_store::FdStore;
pub use frame::FrameSocket;
pub use guest::{Guest, GuestPlan, Route};
pub use http::{Request, Response};
pub use libvirtd::Libvirtd;
pub use machine::{Machine, MachinePlan, Nic, Terminal};
pub use netns::Namespace;
pub use node::{Node, NodePlan};
pub use ovsdb::Ovsdb;
pub use page::Page;
pub use prometheus::Prometheus;
pub use rack::Rack;
pub use shared::Shared;
pub use shared_frame::{Offload, SharedFrame};
pub use stall::Stall;
pub use tap::Tap;
pub use tls::Tls;
pub use vswitch::Vswitch;
