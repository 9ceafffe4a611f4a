//! etcd, as the controller uses it: who leads, what each node has, and what nodes ask for.
//!
//! Promises:
//! - one controller leads at a time (`election`), and whatever it writes is one transaction that etcd refuses when it no longer
//!   leads, also when it was stopped in between (`writer`);
//! - the documents of one cloud are never written over by a controller of another (`writer`);
//! - what every node has is known without a copy of it (`known`);
//! - a password that a guest posts reaches the controller, and its answer the node (`back_channel`).
//!
//! ## Keys
//! | key | holds | written by |
//! |---|---|---|
//! | `<prefix>/nodes/<node>/instances/<uuid>` | a document | the leader |
//! | `<prefix>/passwords/<node>/<uuid>` | a posted password | the node |
//! | `<prefix>/passwords/<node>/<uuid>/answer` | what became of it | the leader |
//! | `<prefix>/controller/election/<lease>` | a candidate; the oldest leads | each controller |
//! | `<prefix>/controller/instances/<uuid>` | what the next leader is to know of an instance | the leader |
//! | `<prefix>/controller/cloud` | the id of the cloud that the documents are of | the first leader |

pub mod back_channel;
pub mod election;
mod keys;
mod known;
mod pages;
mod transaction;
mod writer;

pub use known::{Known, fingerprint};
pub use writer::{Note, WriteError, Writer, WriterCounts, Written};

pub use crate::source::etcd::cluster::{Cluster, ClusterError, ClusterState};
