//! The cache: what every instance may read, and which devices its ports claim.
//!
//! Promises:
//! - readers get `Arc`s, never a guard, so no reader holds up a writer or another reader;
//! - a record that equals the one held changes nothing, so what is rendered stays rendered;
//! - the claims on a device come from whole records, never from a half-applied change;
//! - what dynamic vendor data was answered for an instance stays, whatever becomes of its document, until the instance
//!   goes;
//! - a password that a guest posted is readable at once, and only the first one counts, until the operator clears it or
//!   the instance goes; one of the document comes before it, and goes with the document.
//!
//! Left out: where records come from (`source`), and who is asking (`identity`).

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use dashmap::DashMap;
use parking_lot::{Mutex, MutexGuard};
use serde_json::Value;
use tokio::sync::{mpsc, watch};

use crate::api::vendor_data::DynamicResults;
use crate::api::{Cloud, Content, NovaPages, Password, RenderedInstance, Written};
use crate::record::{InstanceId, InstanceRecord, PortRecord, ProjectId};

/// A port of a document that names a device.
#[derive(Clone, Debug, PartialEq)]
pub struct Claim {
    /// The instance that the document is of.
    pub instance: InstanceId,
    /// Its project.
    pub project: ProjectId,
    /// The port that names the device.
    pub port: PortRecord,
}

/// Devices whose claims may have changed. Whoever reads it asks [`Store::claims`] again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoreChange {
    /// Device names, ascending, none twice.
    pub devices: Vec<String>,
}

/// What writers share; taken for every change, and for reading claims.
#[derive(Debug, Default)]
struct Index {
    /// Instances with at least one port that names the device, ascending.
    by_device: HashMap<String, BTreeSet<InstanceId>>,
    subscribers: Vec<mpsc::UnboundedSender<StoreChange>>,
    content_subscribers: Vec<mpsc::UnboundedSender<InstanceId>>,
}

/// How much has changed since the start: anything of an instance, its password and its vendor data included.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// Changes in all.
    pub all: u64,
    /// Instances that went.
    pub removals: u64,
}

/// What became of a posted password that was to be cleared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClearedPassword {
    /// It is gone, and the guest may post another.
    Cleared,
    /// There was none.
    None,
    /// The document has one, which the guest reads.
    InDocument,
    /// Nova keeps it.
    KeptByNova,
    /// There is no such instance.
    NoInstance,
}

/// All instances of this node.
#[derive(Debug)]
pub struct Store {
    cloud: Arc<Cloud>,
    instances: DashMap<InstanceId, Content>,
    index: Mutex<Index>,
    changes: watch::Sender<Changes>,
}

impl Store {
    /// Returns an empty store whose instances share these settings.
    #[must_use]
    pub fn new(cloud: Cloud) -> Self {
        Self {
            cloud: Arc::new(cloud),
            instances: DashMap::new(),
            index: Mutex::default(),
            changes: watch::Sender::default(),
        }
    }

    /// Returns the instance's answers, if there is such an instance.
    #[must_use]
    pub fn served(&self, id: InstanceId) -> Option<Content> {
        self.instances.get(&id).map(|instance| instance.value().clone())
    }

    /// Returns the answers from the instance's document, if there is such an instance and it has one.
    #[must_use]
    pub fn get(&self, id: InstanceId) -> Option<Arc<RenderedInstance>> {
        self.served(id)?.rendered()
    }

    /// Returns the instance's answers that are copied, if there is such an instance and they are.
    #[must_use]
    pub fn nova_pages(&self, id: InstanceId) -> Option<Arc<NovaPages>> {
        self.served(id)?.nova_pages()
    }

    /// Returns all instances, in no order. Each is as it was at some moment of the call.
    #[must_use]
    pub fn all(&self) -> Vec<Content> {
        self.instances.iter().map(|instance| instance.value().clone()).collect()
    }

    /// Returns a count of changes that wakes whoever waits for it. A change is in [`Self::all`] before it is counted.
    #[must_use]
    pub fn changes(&self) -> watch::Receiver<Changes> {
        self.changes.subscribe()
    }

    fn count(&self, removals: u64) {
        self.changes.send_modify(|changes| {
            changes.all += 1;
            changes.removals += removals;
        });
    }

    /// Returns the number of instances.
    #[must_use]
    pub fn len(&self) -> usize {
        self.instances.len()
    }

    /// Tells whether there is no instance.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.instances.is_empty()
    }

    /// Returns all instances, in no order.
    #[must_use]
    pub fn ids(&self) -> Vec<InstanceId> {
        self.instances.iter().map(|entry| *entry.key()).collect()
    }

    /// Adds or replaces an instance. Returns whether anything changed.
    pub fn put(&self, record: InstanceRecord) -> bool {
        let mut index = self.lock();
        let old = self.get(record.uuid);
        if old.as_deref().is_some_and(|old| *old.record() == record) {
            return false;
        }
        let id = record.uuid;
        let changed = changed_devices(old.as_deref().map(RenderedInstance::record), Some(&record));
        index.forget(old.as_deref().map(RenderedInstance::record));
        for port in &record.ports {
            index.by_device.entry(port.device_name()).or_default().insert(id);
        }
        let mut instance = RenderedInstance::new(Arc::new(record), Arc::clone(&self.cloud));
        if let Some(posted) = old.as_deref().and_then(RenderedInstance::posted) {
            instance = instance.with_posted(Some(posted.clone()));
        }
        if let Some(old) = old {
            instance = instance.with_dynamic(Arc::clone(old.dynamic()));
        }
        self.instances.insert(id, Content::Rendered(Arc::new(instance)));
        self.count(0);
        index.tell(changed);
        index.tell_content(id);
        true
    }

    /// Adds or replaces an instance whose answers are copied. Returns whether anything changed.
    pub fn put_nova_pages(&self, copied: NovaPages) -> bool {
        let mut index = self.lock();
        let id = copied.uuid();
        let old = match self.served(id) {
            Some(Content::NovaPages(old)) if *old == copied => return false,
            old => old.and_then(Content::rendered),
        };
        let old = old.as_deref().map(RenderedInstance::record);
        index.forget(old);
        self.instances.insert(id, Content::NovaPages(Arc::new(copied)));
        self.count(0);
        index.tell(changed_devices(old, None));
        index.tell_content(id);
        true
    }

    /// Removes an instance. Returns whether there was one.
    pub fn remove(&self, id: InstanceId) -> bool {
        let mut index = self.lock();
        let Some((_, old)) = self.instances.remove(&id) else {
            return false;
        };
        self.count(1);
        let old = old.rendered();
        let old = old.as_deref().map(RenderedInstance::record);
        index.forget(old);
        index.tell(changed_devices(old, None));
        index.tell_content(id);
        true
    }

    /// Removes every instance that `keep` does not name, as a source does when it has read everything. Returns those that
    /// went, ascending.
    pub fn keep_only(&self, keep: impl Fn(InstanceId) -> bool) -> Vec<InstanceId> {
        let mut gone: Vec<_> = self.instances.iter().map(|entry| *entry.key()).filter(|id| !keep(*id)).collect();
        gone.sort_unstable();
        gone.retain(|id| self.remove(*id));
        gone
    }

    /// Keeps the password that a guest posted, unless the instance has one already or is gone.
    pub fn set_password(&self, id: InstanceId, password: Password) -> Written {
        let _index = self.lock();
        match self.get(id) {
            Some(instance) if instance.password().is_none() => {
                self.instances.insert(id, Content::Rendered(Arc::new(instance.with_posted(Some(password)))));
                self.count(0);
                Written::Kept
            }
            Some(_) => Written::Exists,
            None => Written::Unavailable,
        }
    }

    /// Keeps a password that a guest posted to an earlier daemon, also where the document has one.
    pub(crate) fn restore_password(&self, id: InstanceId, password: Password) {
        let _index = self.lock();
        if let Some(instance) = self.get(id) {
            self.instances.insert(id, Content::Rendered(Arc::new(instance.with_posted(Some(password)))));
            self.count(0);
        }
    }

    /// Forgets the password that a guest posted, so that it may post another; and says what there was to forget.
    pub fn clear_password(&self, id: InstanceId) -> ClearedPassword {
        let _index = self.lock();
        let instance = match self.served(id) {
            None => return ClearedPassword::NoInstance,
            Some(Content::NovaPages(_)) => return ClearedPassword::KeptByNova,
            Some(Content::Rendered(instance)) => instance,
        };
        if instance.posted().is_some() {
            self.instances.insert(id, Content::Rendered(Arc::new(instance.with_posted(None))));
            self.count(0);
        }
        match (instance.record().password.is_some(), instance.posted().is_some()) {
            (true, _) => ClearedPassword::InDocument,
            (false, true) => ClearedPassword::Cleared,
            (false, false) => ClearedPassword::None,
        }
    }

    /// Keeps what a target of dynamic vendor data answered for an instance, unless the instance is gone. Returns whether
    /// anything changed.
    pub fn set_dynamic(&self, id: InstanceId, target: &str, answer: Value) -> bool {
        let _index = self.lock();
        let Some(instance) = self.get(id).filter(|instance| instance.dynamic().get(target) != Some(&answer)) else {
            return false;
        };
        let mut answers = DynamicResults::clone(instance.dynamic());
        answers.insert(target.to_owned(), answer);
        self.instances.insert(id, Content::Rendered(Arc::new(instance.with_dynamic(Arc::new(answers)))));
        self.count(0);
        true
    }

    /// Returns the ports that name this device, in a stable order. More than one is a conflict of documents.
    #[must_use]
    pub fn claims(&self, device: &str) -> Vec<Claim> {
        let index = self.lock();
        let mut claims = Vec::new();
        for instance in index.by_device.get(device).into_iter().flatten() {
            let Some(instance) = self.get(*instance) else {
                continue;
            };
            let record = instance.record();
            claims.extend(record.ports.iter().filter(|port| port.device_name() == device).map(|port| Claim {
                instance: record.uuid,
                project: record.project_id.clone(),
                port: port.clone(),
            }));
        }
        claims
    }

    /// Returns a stream that names the devices of every change from here on.
    #[must_use]
    pub fn subscribe(&self) -> mpsc::UnboundedReceiver<StoreChange> {
        let (sender, receiver) = mpsc::unbounded_channel();
        self.lock().subscribers.push(sender);
        receiver
    }

    /// Returns a stream that names every instance whose document comes, changes or goes from here on. Whoever reads it
    /// asks [`Store::get`] which of them it was.
    #[must_use]
    pub fn subscribe_to_content(&self) -> mpsc::UnboundedReceiver<InstanceId> {
        let (sender, receiver) = mpsc::unbounded_channel();
        self.lock().content_subscribers.push(sender);
        receiver
    }

    fn lock(&self) -> MutexGuard<'_, Index> {
        // Nothing that runs under the lock leaves it half-changed but a panic in allocation.
        self.index.lock()
    }
}

impl Index {
    fn forget(&mut self, old: Option<&InstanceRecord>) {
        let Some(old) = old else { return };
        for port in &old.ports {
            let device = port.device_name();
            if let Some(instances) = self.by_device.get_mut(&device) {
                instances.remove(&old.uuid);
                if instances.is_empty() {
                    self.by_device.remove(&device);
                }
            }
        }
    }

    fn tell_content(&mut self, id: InstanceId) {
        self.content_subscribers.retain(|subscriber| subscriber.send(id).is_ok());
    }

    fn tell(&mut self, devices: BTreeSet<String>) {
        if devices.is_empty() {
            return;
        }
        let change = StoreChange { devices: devices.into_iter().collect() };
        self.subscribers.retain(|subscriber| subscriber.send(change.clone()).is_ok());
    }
}

/// Names the devices on which the two records' claims differ.
fn changed_devices(old: Option<&InstanceRecord>, new: Option<&InstanceRecord>) -> BTreeSet<String> {
    let same_project = old.map(|record| &record.project_id) == new.map(|record| &record.project_id);
    let ports = |record: Option<&InstanceRecord>| {
        let mut by_device: HashMap<String, Vec<PortRecord>> = HashMap::new();
        for port in record.into_iter().flat_map(|record| &record.ports) {
            by_device.entry(port.device_name()).or_default().push(port.clone());
        }
        by_device
    };
    let (old, new) = (ports(old), ports(new));
    old.keys()
        .chain(new.keys())
        .filter(|device| !same_project || old.get(*device) != new.get(*device))
        .cloned()
        .collect()
}

#[cfg(test)]
pub(crate) mod tests;
