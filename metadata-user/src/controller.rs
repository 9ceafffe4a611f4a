//! `metadatad controller run`: reads an OpenStack and keeps the documents of every node in etcd in step with it.
//!
//! Promises:
//! - one controller leads at a time, by an election in etcd, and every write is fenced by the leader's own key (`etcd`);
//! - notifications say that something changed, and never what: content is read from Nova and Neutron (`openstack`);
//! - what is written renders to Nova's own bytes, or carries Nova's pages beside the facts (`derive`);
//! - an instance is removed when Nova says that it is gone, never because a service is unreachable or answers for another cloud.
//!
//! Left out: guests, ports and the kernel. The nodes' `etcd` source follows what is written here.

pub mod derive;
mod error;
pub mod etcd;
mod lead;
mod metrics;
pub mod notifications;
pub mod openstack;
mod placement;
pub mod queue;
mod run;
mod shared;
mod table;
mod view;

pub use error::ControllerError;
pub use run::{check, run};
