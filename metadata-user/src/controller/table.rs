//! What the leader knows of each instance, for its rounds and for `metadatad controller list`.

use std::collections::hash_map::DefaultHasher;
use std::collections::{BTreeMap, BTreeSet};
use std::hash::{Hash as _, Hasher as _};
use std::net::IpAddr;
use std::time::SystemTime;

use super::openstack::Server;
use crate::record::{InstanceId, PortId, ProjectId};

/// An instance.
#[derive(Clone, Debug, Default)]
pub(super) struct Entry {
    /// Its project; `None`: it was not read yet.
    pub(super) project: Option<ProjectId>,
    /// Nova's status of it.
    pub(super) status: Option<String>,
    /// The nodes that have its document.
    pub(super) nodes: BTreeSet<String>,
    /// Pages beside the document, with the reasons; `None`: it was not read by this leader.
    pub(super) beside: Option<Vec<(String, String)>>,
    /// Its ports.
    pub(super) ports: Vec<PortId>,
    /// Its addresses, floating ones included.
    pub(super) addresses: Vec<IpAddr>,
    /// When it was last read.
    pub(super) read_at: Option<SystemTime>,
    /// What Nova's list said when it was read.
    seen: Option<u64>,
    /// Why the last attempt failed.
    pub(super) error: Option<String>,
}

/// All instances.
#[derive(Debug, Default)]
pub(super) struct Table(BTreeMap<InstanceId, Entry>);

/// How many instances are in which state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Counts {
    /// All.
    pub(super) known: usize,
    /// Their document alone gives Nova's answers.
    pub(super) documents: usize,
    /// They need pages beside it.
    pub(super) with_pages: usize,
    /// Their last attempt failed.
    pub(super) failed: usize,
}

impl Table {
    /// Forgets everything: a term begins.
    pub(super) fn clear(&mut self) {
        self.0.clear();
    }

    /// Returns an instance.
    pub(super) fn get(&self, id: InstanceId) -> Option<&Entry> {
        self.0.get(&id)
    }

    /// Returns all, by id.
    pub(super) fn iter(&self) -> impl Iterator<Item = (InstanceId, &Entry)> {
        self.0.iter().map(|(id, entry)| (*id, entry))
    }

    /// Notes that nodes have a document of an instance, which was not read yet.
    pub(super) fn found(&mut self, id: InstanceId, nodes: BTreeSet<String>) {
        self.0.entry(id).or_default().nodes = nodes;
    }

    /// Notes what was read and written.
    pub(super) fn read(
        &mut self,
        server: &Server,
        ports: Vec<PortId>,
        nodes: BTreeSet<String>,
        beside: Option<Vec<(String, String)>>,
    ) {
        let entry = self.0.entry(server.id).or_default();
        *entry = Entry {
            project: Some(server.project.clone()),
            status: Some(server.status.clone()),
            nodes,
            beside,
            ports,
            addresses: server.addresses.iter().map(|address| address.address).collect(),
            read_at: Some(SystemTime::now()),
            seen: Some(fingerprint(server)),
            error: None,
        };
    }

    /// Notes that an attempt failed. Returns whether the last one did not, or did for another reason.
    pub(super) fn failed(&mut self, id: InstanceId, error: &str) -> bool {
        let entry = self.0.entry(id).or_default();
        let is_news = entry.error.as_deref() != Some(error);
        entry.error = Some(error.to_owned());
        is_news
    }

    /// Returns the instances that had a port when they were read.
    pub(super) fn with_port(&self, port: PortId) -> Vec<InstanceId> {
        self.iter().filter(|(_, entry)| entry.ports.contains(&port)).map(|(id, _)| id).collect()
    }

    /// Returns the instances that had an address when they were read.
    pub(super) fn with_address(&self, address: IpAddr) -> Vec<InstanceId> {
        self.iter().filter(|(_, entry)| entry.addresses.contains(&address)).map(|(id, _)| id).collect()
    }

    /// Forgets an instance that is gone.
    pub(super) fn gone(&mut self, id: InstanceId) {
        self.0.remove(&id);
    }

    /// Returns whether an instance has to be read, given what Nova's list says of it.
    pub(super) fn differs(&self, server: &Server) -> bool {
        self.0.get(&server.id).is_none_or(|entry| entry.seen != Some(fingerprint(server)) || entry.error.is_some())
    }

    /// Returns how many there are in which state.
    pub(super) fn counts(&self) -> Counts {
        let mut counts = Counts { known: self.0.len(), ..Counts::default() };
        for entry in self.0.values() {
            match &entry.beside {
                Some(pages) if pages.is_empty() => counts.documents += 1,
                Some(_) => counts.with_pages += 1,
                None => {}
            }
            counts.failed += usize::from(entry.error.is_some());
        }
        counts
    }
}

/// Returns what tells that Nova's list says something else of a server. It is compared within one process only.
fn fingerprint(server: &Server) -> u64 {
    let Server {
        id: _,
        project,
        host,
        name,
        hostname,
        status,
        task_state,
        updated,
        image,
        metadata,
        flavor,
        security_groups,
        addresses,
        volumes,
        read_at: _,
    } = server;
    let mut hasher = DefaultHasher::new();
    (project, host, name, hostname, status, task_state, updated, image).hash(&mut hasher);
    (metadata, flavor, security_groups, volumes).hash(&mut hasher);
    for address in addresses {
        (&address.address, &address.mac, address.is_floating).hash(&mut hasher);
    }
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::controller::openstack::sample_server;

    #[test]
    fn an_instance_is_read_again_when_nova_says_something_else_of_it_or_the_last_attempt_failed() {
        let (mut table, mut server) = (Table::default(), sample_server());
        assert!(table.differs(&server), "not read yet");
        table.found(server.id, ["a".to_owned()].into());
        assert!(table.differs(&server), "a former leader has written it");
        table.read(&server, Vec::new(), ["a".to_owned()].into(), Some(Vec::new()));
        assert!(!table.differs(&server));
        server.metadata.insert("role".to_owned(), "db".to_owned());
        assert!(table.differs(&server));
        table.read(&server, Vec::new(), ["a".to_owned()].into(), Some(vec![("x".to_owned(), "y".to_owned())]));
        assert_eq!(table.counts(), Counts { known: 1, with_pages: 1, ..Counts::default() });
        assert!(table.failed(server.id, "no"));
        assert!(!table.failed(server.id, "no") && table.differs(&server));
    }
}
