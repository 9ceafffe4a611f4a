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
#[cfg(feature = "etcd")]
pub mod etcd;
pub mod notifications;
pub mod openstack;
pub mod queue;
