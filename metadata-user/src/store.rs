//! The cache: what every instance may read, and which devices its ports claim.
//!
//! Each instance has a slot: its content, the generation of that, and a wake-up of its own. Whoever follows all of them
//! reads one stream of changes.
//!
//! Promises:
//! - readers get `Arc`s, never a guard, so no reader holds up a writer or another reader;
//! - a record that equals the one held changes nothing, so what is rendered stays rendered;
//! - the claims on a device come from whole records, never from a half-applied change;
//! - what dynamic vendor data was answered for an instance stays, whatever becomes of its document, until the instance
//!   goes;
//! - when an instance's user data was first read stays, until user data or image change, the operator resets it or the
//!   instance goes;
//! - a password that a guest posted is readable at once, and only the first one counts, until the operator clears it or
//!   the instance goes; one of the document comes before it, and goes with the document;
//! - what a guest wrote as its attributes stays until the instance goes; instances without any cost nothing.
//!
//! Left out: where records come from (`source`), and who is asking (`identity`).

mod attributes;
mod change;
mod slot;

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use parking_lot::{Mutex, MutexGuard};
use serde_json::Value;

use crate::api::vendor_data::DynamicResults;
use crate::api::{Cloud, Content, NovaPages, Password, RenderedInstance, Written};
use crate::record::{Attributes, InstanceId, InstanceRecord, PortRecord, ProjectId};
use crate::table::Table;

use change::Subscribers;
pub use change::{Change, Changes};
use slot::Slot;

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

/// What writers share; taken for every change, and for reading claims.
#[derive(Debug, Default)]
struct Index {
    /// Instances with at least one port that names the device, ascending: one, unless documents are wrong.
    by_device: HashMap<Box<str>, Vec<InstanceId>>,
    revision: Revision,
    subscribers: Subscribers,
}

/// How much has changed since the start: anything of an instance, its password and its vendor data included.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Revision {
    /// Changes in all.
    pub changes: u64,
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

/// What is kept of an instance across a restart.
#[derive(Clone, Debug)]
pub struct Kept {
    /// Its content.
    pub content: Content,
    /// When its user data was first read, in seconds of Unix time.
    pub user_data_read: Option<u64>,
    /// What its guest wrote; `None`: nothing.
    pub attributes: Option<Arc<Attributes>>,
}

impl From<Content> for Kept {
    /// An instance whose user data was not read.
    fn from(content: Content) -> Self {
        Self { content, user_data_read: None, attributes: None }
    }
}

/// All instances of this node.
#[derive(Debug)]
pub struct Store {
    cloud: Arc<Cloud>,
    slots: Table<InstanceId, Slot>,
    /// Of those whose guests have written any.
    attributes: Table<InstanceId, Arc<Attributes>>,
    index: Mutex<Index>,
}

/// Somebody who waits for an instance's content, or for another one.
#[derive(Debug)]
pub struct Waiter<'a> {
    store: &'a Store,
    id: InstanceId,
}

impl Waiter<'_> {
    /// Waits until the instance has content; returns at once if it has. Cancel-safe.
    pub async fn content(&self) -> Content {
        loop {
            let change = match self.store.slots.get(&self.id) {
                Some(slot) => match slot.content() {
                    Some(content) => return content.clone(),
                    None => slot.next_change(),
                },
                None => None,
            };
            match change {
                Some(change) => change.await,
                // The slot stays while this waits.
                None => std::future::pending().await,
            }
        }
    }

    /// Waits until the instance's content is of another generation than this one, or gone; returns at once if it is. Cancel-safe.
    pub async fn change(&self, generation: u64) {
        loop {
            let change = match self.store.slots.get(&self.id) {
                Some(slot) if slot.content().is_some() && slot.generation() == generation => slot.next_change(),
                _ => return,
            };
            match change {
                Some(change) => change.await,
                None => return,
            }
        }
    }
}

impl Drop for Waiter<'_> {
    fn drop(&mut self) {
        if let Some(mut slot) = self.store.slots.get_mut(&self.id) {
            slot.leave();
        }
        self.store.slots.remove_if(&self.id, |_, slot| slot.is_unused());
    }
}

impl Store {
    /// Returns an empty store whose instances share these settings.
    #[must_use]
    pub fn new(cloud: Cloud) -> Self {
        Self { cloud: Arc::new(cloud), slots: Table::default(), attributes: Table::default(), index: Mutex::default() }
    }

    /// Returns the instance's content, if it has one.
    #[must_use]
    pub fn served(&self, id: InstanceId) -> Option<Content> {
        self.slots.get(&id)?.content().cloned()
    }

    /// Returns the generation of an instance's content, if it has one: the number of the store's change that it is from.
    /// No two contents of one daemon's life have the same, and later ones have higher ones.
    #[must_use]
    pub fn generation(&self, id: InstanceId) -> Option<u64> {
        self.slots.get(&id).filter(|slot| slot.content().is_some()).map(|slot| slot.generation())
    }

    /// Returns the instance's content with its generation, if it has one.
    #[must_use]
    pub fn current(&self, id: InstanceId) -> Option<(Content, u64)> {
        let slot = self.slots.get(&id)?;
        Some((slot.content()?.clone(), slot.generation()))
    }

    /// Prepares to wait for the content of an instance, which need not be known yet.
    #[must_use]
    pub fn wait(&self, id: InstanceId) -> Waiter<'_> {
        self.slots.entry(id).or_default().join();
        Waiter { store: self, id }
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
        self.slots.iter().filter_map(|slot| slot.content().cloned()).collect()
    }

    /// Returns all instances with what is kept of them across a restart, in no order; as [`Self::all`].
    #[must_use]
    pub fn kept(&self) -> Vec<Kept> {
        let kept = |slot: &Slot| {
            let content = slot.content()?.clone();
            let attributes = self.attributes(content.uuid());
            Some(Kept { content, user_data_read: slot.user_data_read(), attributes })
        };
        self.slots.iter().filter_map(|slot| kept(&slot)).collect()
    }

    /// Returns how much has changed. What [`Self::kept`] returns afterwards has these changes, and maybe more.
    #[must_use]
    pub fn revision(&self) -> Revision {
        self.lock().revision
    }

    /// Returns the number of instances.
    #[must_use]
    pub fn len(&self) -> usize {
        self.slots.iter().filter(|slot| slot.content().is_some()).count()
    }

    /// Tells whether there is no instance.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.slots.iter().all(|slot| slot.content().is_none())
    }

    /// Returns all instances, in no order.
    #[must_use]
    pub fn ids(&self) -> Vec<InstanceId> {
        self.slots.iter().filter(|slot| slot.content().is_some()).map(|slot| *slot.key()).collect()
    }

    /// Returns the devices that documents name, each with the instances that name it, both ascending.
    #[must_use]
    pub fn devices(&self) -> Vec<(String, Vec<InstanceId>)> {
        let index = self.lock();
        let mut devices: Vec<_> = index
            .by_device
            .iter()
            .filter(|(_, instances)| !instances.is_empty())
            .map(|(device, instances)| (device.to_string(), instances.clone()))
            .collect();
        devices.sort_unstable();
        devices
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
            index.claim(port.device_name(), id);
        }
        let mut instance = RenderedInstance::new(Arc::new(record), Arc::clone(&self.cloud));
        if let Some(posted) = old.as_deref().and_then(RenderedInstance::posted) {
            instance = instance.with_posted(Some(posted.clone()));
        }
        if let Some(old) = old {
            instance = instance.with_dynamic(Arc::clone(old.dynamic()));
        }
        self.set(&mut index, id, Some(Content::Rendered(Arc::new(instance))), Some(changed));
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
        let taps = changed_devices(old, None);
        self.set(&mut index, id, Some(Content::NovaPages(Arc::new(copied))), Some(taps));
        true
    }

    /// Removes an instance. Returns whether there was one.
    pub fn remove(&self, id: InstanceId) -> bool {
        let mut index = self.lock();
        let Some(old) = self.served(id) else {
            return false;
        };
        let old = old.rendered();
        let old = old.as_deref().map(RenderedInstance::record);
        index.forget(old);
        self.set(&mut index, id, None, Some(changed_devices(old, None)));
        true
    }

    /// Removes every instance that `keep` does not name, as a source does when it has read everything. Returns those that
    /// went, ascending.
    pub fn keep_only(&self, keep: impl Fn(InstanceId) -> bool) -> Vec<InstanceId> {
        let mut gone = self.ids();
        gone.retain(|id| !keep(*id));
        gone.sort_unstable();
        gone.retain(|id| self.remove(*id));
        gone
    }

    /// Keeps the password that a guest posted, unless the instance has one already or is gone.
    pub fn set_password(&self, id: InstanceId, password: Password) -> Written {
        let mut index = self.lock();
        match self.get(id) {
            Some(instance) if instance.password().is_none() => {
                let content = Content::Rendered(Arc::new(instance.with_posted(Some(password))));
                self.set(&mut index, id, Some(content), None);
                Written::Kept
            }
            Some(_) => Written::Exists,
            None => Written::Unavailable,
        }
    }

    /// Keeps a password that a guest posted to an earlier daemon, also where the document has one.
    pub(crate) fn restore_password(&self, id: InstanceId, password: Password) {
        let mut index = self.lock();
        if let Some(instance) = self.get(id) {
            let content = Content::Rendered(Arc::new(instance.with_posted(Some(password))));
            self.set(&mut index, id, Some(content), None);
        }
    }

    /// Forgets the password that a guest posted, so that it may post another; and says what there was to forget.
    pub fn clear_password(&self, id: InstanceId) -> ClearedPassword {
        let mut index = self.lock();
        let instance = match self.served(id) {
            None => return ClearedPassword::NoInstance,
            Some(Content::NovaPages(_)) => return ClearedPassword::KeptByNova,
            Some(Content::Rendered(instance)) => instance,
        };
        if instance.posted().is_some() {
            let content = Content::Rendered(Arc::new(instance.with_posted(None)));
            self.set(&mut index, id, Some(content), None);
        }
        match (instance.record().password.is_some(), instance.posted().is_some()) {
            (true, _) => ClearedPassword::InDocument,
            (false, true) => ClearedPassword::Cleared,
            (false, false) => ClearedPassword::None,
        }
    }

    /// Returns when the instance's user data was first read, in seconds of Unix time.
    #[must_use]
    pub fn user_data_read(&self, id: InstanceId) -> Option<u64> {
        self.slots.get(&id)?.user_data_read()
    }

    /// Keeps when the instance's user data was first read, in seconds of Unix time, unless it was read before or the instance
    /// is gone.
    pub fn note_user_data_read(&self, id: InstanceId, now: u64) {
        if self.user_data_read(id).is_none() {
            self.set_user_data_read(id, Some(now));
        }
    }

    /// Forgets when the instance's user data was first read. Returns whether there is such an instance.
    pub fn reset_user_data(&self, id: InstanceId) -> bool {
        self.set_user_data_read(id, None)
    }

    fn set_user_data_read(&self, id: InstanceId, at: Option<u64>) -> bool {
        let mut index = self.lock();
        match self.slots.get_mut(&id) {
            Some(mut slot) if slot.content().is_some() => slot.set_user_data_read(at),
            _ => return false,
        }
        index.revision.changes += 1;
        index.subscribers.publish(&Change { instance: id, taps: BTreeSet::new(), document: false, removed: false });
        true
    }

    /// Keeps what a target of dynamic vendor data answered for an instance, unless the instance is gone. Returns whether
    /// anything changed.
    pub fn set_dynamic(&self, id: InstanceId, target: &str, answer: Value) -> bool {
        let mut index = self.lock();
        let Some(instance) = self.get(id).filter(|instance| instance.dynamic().get(target) != Some(&answer)) else {
            return false;
        };
        let mut answers = DynamicResults::clone(instance.dynamic());
        answers.insert(target.to_owned(), answer);
        let content = Content::Rendered(Arc::new(instance.with_dynamic(Arc::new(answers))));
        self.set(&mut index, id, Some(content), None);
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

    /// Returns a stream of every change from here on.
    #[must_use]
    pub fn subscribe(&self) -> Changes {
        self.lock().subscribers.add()
    }

    /// Changes a slot's content and reports it. `taps`: those whose claims change; `None` if it is not the document that
    /// changes.
    fn set(&self, index: &mut Index, id: InstanceId, content: Option<Content>, taps: Option<BTreeSet<String>>) {
        let removed = content.is_none();
        index.revision.changes += 1;
        index.revision.removals += u64::from(removed);
        self.slots.entry(id).or_default().set(content, index.revision.changes);
        self.slots.remove_if(&id, |_, slot| slot.is_unused());
        if removed {
            self.attributes.remove(&id);
        }
        let document = taps.is_some();
        index.subscribers.publish(&Change { instance: id, taps: taps.unwrap_or_default(), document, removed });
    }

    fn lock(&self) -> MutexGuard<'_, Index> {
        // Nothing that runs under the lock leaves it half-changed but a panic in allocation.
        self.index.lock()
    }
}

impl Index {
    fn claim(&mut self, device: String, id: InstanceId) {
        let instances = self.by_device.entry(device.into()).or_default();
        if let Err(place) = instances.binary_search(&id) {
            instances.reserve_exact(1);
            instances.insert(place, id);
        }
    }

    fn forget(&mut self, old: Option<&InstanceRecord>) {
        let Some(old) = old else { return };
        for port in &old.ports {
            let device = port.device_name();
            if let Some(instances) = self.by_device.get_mut(&*device) {
                instances.retain(|id| *id != old.uuid);
                if instances.is_empty() {
                    self.by_device.remove(&*device);
                }
            }
        }
    }
}

/// Names the devices on which the two records' claims differ, or what their ports may do.
fn changed_devices(old: Option<&InstanceRecord>, new: Option<&InstanceRecord>) -> BTreeSet<String> {
    let of_all = |record: Option<&InstanceRecord>| record.map(|record| (record.project_id.clone(), record.policy));
    let same_for_all = of_all(old) == of_all(new);
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
        .filter(|device| !same_for_all || old.get(*device) != new.get(*device))
        .cloned()
        .collect()
}

#[cfg(test)]
pub(crate) mod tests;
