//! What the leader knows of each instance, for its rounds and for `metadatad controller list`.

mod note;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::{Duration, SystemTime};

use self::note::Note;
pub(super) use self::note::maker;
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
    seen: Option<String>,
    /// The note that etcd has for the next leader: when the instance was read, and whether it was to be read again.
    noted: Option<(SystemTime, bool)>,
    /// Why the last attempt failed.
    pub(super) error: Option<String>,
}

impl Entry {
    /// Returns what is known of a server that was read now. `beside`: `None` if it has no document.
    pub(super) fn of(
        server: &Server,
        ports: Vec<PortId>,
        nodes: BTreeSet<String>,
        beside: Option<Vec<(String, String)>>,
    ) -> Self {
        Self {
            project: Some(server.project.clone()),
            status: Some(server.status.clone()),
            nodes,
            beside,
            ports,
            addresses: server.addresses.iter().map(|address| address.address).collect(),
            // When Nova was asked: what changes from then on may be missing.
            read_at: SystemTime::now().checked_sub(server.read_at.elapsed()),
            seen: Some(fingerprint(server)),
            noted: None,
            error: None,
        }
    }

    /// Returns what a former leader's note says, if it counts for a document of this digest that these nodes have.
    pub(super) fn recalled(note: &[u8], by: &str, document: &str, nodes: BTreeSet<String>) -> Option<Self> {
        Note::read(note, by, document).map(|note| note.entry(nodes))
    }

    /// Returns whether the instance was to be read again soon when its last note was written.
    pub(super) fn is_open(&self) -> bool {
        self.noted.is_some_and(|(_, is_open)| is_open)
    }

    /// Returns the note for the next leader, whose documents have this digest. `is_open`: the instance is to be read again soon.
    pub(super) fn note(&self, is_open: bool, by: &str, document: &str) -> Option<Vec<u8>> {
        // Writing to memory does not fail; if it did, the next leader would read the instance.
        Note::of(self, is_open, by, document).and_then(|note| serde_json::to_vec(&note).ok())
    }

    /// Returns whether the note says something else than the one of `former`, or that one is so old that it is to be renewed.
    pub(super) fn is_news_after(&self, former: Option<&Self>, is_open: bool, renewal: Duration) -> bool {
        let Some((former, noted)) = former.and_then(|former| former.noted.map(|noted| (former, noted))) else {
            return true;
        };
        let same = (&self.project, &self.status, &self.ports, &self.addresses, &self.beside, &self.seen)
            == (&former.project, &former.status, &former.ports, &former.addresses, &former.beside, &former.seen);
        let age = self.read_at.and_then(|read_at| read_at.duration_since(noted.0).ok());
        !same || noted.1 != is_open || age.is_none_or(|age| age > renewal)
    }
}

/// All instances.
#[derive(Debug, Default)]
pub(super) struct Table {
    entries: BTreeMap<InstanceId, Entry>,
    /// Whose each port and each address is.
    ports: BTreeSet<(PortId, InstanceId)>,
    addresses: BTreeSet<(IpAddr, InstanceId)>,
}

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
        *self = Self::default();
    }

    /// Returns an instance.
    pub(super) fn get(&self, id: InstanceId) -> Option<&Entry> {
        self.entries.get(&id)
    }

    /// Returns all, by id.
    pub(super) fn iter(&self) -> impl Iterator<Item = (InstanceId, &Entry)> {
        self.entries.iter().map(|(id, entry)| (*id, entry))
    }

    /// Notes that nodes have a document of an instance, which was not read yet.
    pub(super) fn found(&mut self, id: InstanceId, nodes: BTreeSet<String>) {
        self.entries.entry(id).or_default().nodes = nodes;
    }

    /// Notes what was read and written. `noted`: whether the note for the next leader was written, and that the instance is to be read again.
    pub(super) fn read(&mut self, id: InstanceId, entry: Entry, noted: Option<bool>) {
        let former = self.entries.get(&id).and_then(|entry| entry.noted);
        let noted = noted.and_then(|is_open| Some((entry.read_at?, is_open))).or(former);
        self.unlink(id);
        self.ports.extend(entry.ports.iter().map(|port| (*port, id)));
        self.addresses.extend(entry.addresses.iter().map(|address| (*address, id)));
        self.entries.insert(id, Entry { noted, ..entry });
    }

    /// Notes that an attempt failed. Returns whether the last one did not, or did for another reason.
    pub(super) fn failed(&mut self, id: InstanceId, error: &str) -> bool {
        let entry = self.entries.entry(id).or_default();
        let is_news = entry.error.as_deref() != Some(error);
        entry.error = Some(error.to_owned());
        is_news
    }

    /// Returns the instances that had a port when they were read.
    pub(super) fn with_port(&self, port: PortId) -> Vec<InstanceId> {
        of(&self.ports, port)
    }

    /// Returns the instances that had an address when they were read.
    pub(super) fn with_address(&self, address: IpAddr) -> Vec<InstanceId> {
        of(&self.addresses, address)
    }

    /// Forgets an instance that is gone.
    pub(super) fn gone(&mut self, id: InstanceId) {
        self.unlink(id);
        self.entries.remove(&id);
    }

    /// Returns whether an instance has to be read, given what Nova's list says of it.
    pub(super) fn differs(&self, server: &Server) -> bool {
        let differs = |entry: &Entry| entry.error.is_some() || entry.seen.as_ref() != Some(&fingerprint(server));
        self.entries.get(&server.id).is_none_or(differs)
    }

    /// Returns why the last attempt for one of those that failed did.
    pub(super) fn an_error(&self) -> Option<&str> {
        self.entries.values().find_map(|entry| entry.error.as_deref())
    }

    /// Returns how many there are in which state.
    pub(super) fn counts(&self) -> Counts {
        let mut counts = Counts { known: self.entries.len(), ..Counts::default() };
        for entry in self.entries.values() {
            match &entry.beside {
                Some(pages) if pages.is_empty() => counts.documents += 1,
                Some(_) => counts.with_pages += 1,
                None => {}
            }
            counts.failed += usize::from(entry.error.is_some());
        }
        counts
    }

    /// Forgets which ports and addresses are an instance's.
    fn unlink(&mut self, id: InstanceId) {
        let Some(entry) = self.entries.get(&id) else { return };
        for port in &entry.ports {
            self.ports.remove(&(*port, id));
        }
        for address in &entry.addresses {
            self.addresses.remove(&(*address, id));
        }
    }
}

/// Returns the instances that have this one.
fn of<T: Ord + Copy>(all: &BTreeSet<(T, InstanceId)>, one: T) -> Vec<InstanceId> {
    let least = InstanceId(uuid::Uuid::nil());
    all.range((one, least)..).take_while(|(other, _)| *other == one).map(|(_, id)| *id).collect()
}

/// Returns what tells that Nova's list says something else of a server.
fn fingerprint(server: &Server) -> String {
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
    let first = (project, host, name, hostname, status, task_state, updated, image);
    note::short(&format!("{first:?} {:?}", (metadata, flavor, security_groups, volumes, addresses)))
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
        let read = |server: &Server, pages: &[(&str, &str)]| {
            let pages = pages.iter().map(|(path, reason)| ((*path).to_owned(), (*reason).to_owned())).collect();
            Entry::of(server, vec![PortId(uuid::Uuid::from_u128(7))], ["a".to_owned()].into(), Some(pages))
        };
        table.read(server.id, read(&server, &[]), None);
        assert!(!table.differs(&server));
        server.metadata.insert("role".to_owned(), "db".to_owned());
        assert!(table.differs(&server));
        table.read(server.id, read(&server, &[("x", "y")]), None);
        assert_eq!(table.counts(), Counts { known: 1, with_pages: 1, ..Counts::default() });
        assert!(table.failed(server.id, "no"));
        assert!(!table.failed(server.id, "no") && table.differs(&server));
    }

    #[test]
    fn what_a_leader_leaves_counts_for_its_document_and_for_who_would_derive_the_same() {
        let (by, document, nodes) = (maker(&crate::api::Cloud::default()), "d1", BTreeSet::from(["a".to_owned()]));
        let mut server = sample_server();
        let ports = vec![PortId(uuid::Uuid::from_u128(7))];
        let pages = vec![("x".to_owned(), "y".to_owned())];
        let entry = Entry::of(&server, ports.clone(), nodes.clone(), Some(pages));
        let note = entry.note(false, &by, document).unwrap();
        let recalled = Entry::recalled(&note, &by, document, nodes.clone()).unwrap();
        let shown = |entry: &Entry| format!("{:?} {:?} {:?}", entry.project, entry.status, entry.beside);
        assert_eq!((shown(&recalled), recalled.ports.clone()), (shown(&entry), ports));
        assert_eq!((&recalled.nodes, &recalled.addresses), (&nodes, &entry.addresses));
        assert!(!recalled.is_open());
        let mut table = Table::default();
        table.read(server.id, recalled.clone(), None);
        assert!(!table.differs(&server), "the next leader need not read it");
        server.status = "SHUTOFF".to_owned();
        assert!(table.differs(&server));

        let with_domain = crate::api::Cloud { dhcp_domain: "other".to_owned(), ..crate::api::Cloud::default() };
        for (by, document) in [(by.as_str(), "d2"), (maker(&with_domain).as_str(), document)] {
            assert!(Entry::recalled(&note, by, document, nodes.clone()).is_none());
        }
        assert!(Entry::recalled(b"{}", &by, document, nodes.clone()).is_none());
        let open = entry.note(true, &by, document).unwrap();
        assert!(Entry::recalled(&open, &by, document, nodes).unwrap().is_open());

        let hour = Duration::from_secs(3600);
        assert!(entry.is_news_after(None, false, hour) && entry.is_news_after(Some(&entry), false, hour));
        assert!(!entry.is_news_after(Some(&recalled), false, hour));
        assert!(entry.is_news_after(Some(&recalled), true, hour), "it is to be read again");
        let later = Entry { read_at: entry.read_at.map(|at| at + 2 * hour), ..entry };
        assert!(later.is_news_after(Some(&recalled), false, hour));
    }

    #[test]
    fn ports_and_addresses_lead_to_the_instances_that_have_them_now() {
        let (mut table, mut server) = (Table::default(), sample_server());
        let [first, second] = [1, 2].map(|number| PortId(uuid::Uuid::from_u128(number)));
        let address = server.addresses[0].address;
        let read = |table: &mut Table, server: &Server, ports: &[PortId]| {
            table.read(server.id, Entry::of(server, ports.to_vec(), BTreeSet::new(), None), None);
        };
        let other = server.id;
        read(&mut table, &server, &[first, second]);
        server.id = InstanceId(uuid::Uuid::from_u128(3));
        read(&mut table, &server, &[second]);
        assert_eq!((table.with_port(first), table.with_port(second)), (vec![other], vec![server.id, other]));
        assert_eq!(table.with_address(address), [server.id, other]);
        server.addresses.clear();
        read(&mut table, &server, &[first]);
        table.gone(other);
        assert_eq!((table.with_port(first), table.with_port(second)), (vec![server.id], Vec::new()));
        assert_eq!(table.with_address(address), []);
    }
}
