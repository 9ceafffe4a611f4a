//! The controller's etcd, with a real one: who leads, and what is written.

mod processes;
mod trouble;
mod writes;

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Context as _, Result};
use lab::Namespace;
use metadata_user::config::etcd::{self, Passwords};
use metadata_user::controller::etcd::election::{Candidate, Term, campaign};
use metadata_user::controller::etcd::{Cluster, Written};
use metadata_user::record::InstanceId;

/// The cloud that the documents are of.
pub(crate) const CLOUD: &str = "cloud-1";
/// An instance.
const INSTANCE: &str = "11111111-2222-4333-8444-555555555555";

/// Returns the controller's settings for a cluster.
pub(crate) fn settings(endpoints: &[String]) -> etcd::Etcd {
    etcd::Etcd {
        table: "etcd",
        endpoints: endpoints.to_vec(),
        prefix: super::etcd::PREFIX.to_owned(),
        node: String::new(),
        user: None,
        tls: None,
        connect_timeout: Duration::from_secs(1),
        request_timeout: Duration::from_secs(1),
        passwords: Passwords::default(),
    }
}

/// Returns a candidate whose lease is as short as etcd has it.
pub(crate) fn candidate(name: &str) -> Candidate {
    Candidate { name: name.to_owned(), host: "lab".to_owned(), admin: None, lease: Duration::from_secs(2) }
}

/// Does something asynchronous on a thread in the namespace.
pub(crate) fn inside<T: Send, F: Future<Output = Result<T>>>(
    namespace: &Namespace,
    work: impl FnOnce() -> F + Send,
) -> Result<T> {
    namespace.run(|| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        runtime.context("starting a runtime")?.block_on(work())
    })
}

/// Stands for election until elected.
pub(crate) async fn lead(cluster: &Cluster, candidate: &Candidate) -> Term {
    loop {
        match campaign(cluster, candidate).await {
            Ok(term) => return term,
            Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
        }
    }
}

pub(crate) fn id() -> InstanceId {
    INSTANCE.parse().unwrap()
}

pub(crate) fn nodes(names: &[&str]) -> BTreeSet<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

/// What a write without a note has done.
pub(crate) fn written(written: usize, removed: usize) -> Written {
    Written { written, removed, noted: false }
}
