//! Local facts: what programs on this node say about whose a device is.
//!
//! Promises: a fact is about a device by its name, and comes from one observer; what an observer said stays until it says
//! otherwise, so that an observer that is restarted moves no port; an observer that contradicts itself is heard in full,
//! so that nobody takes half of its word; whoever follows is told the devices that changed.
//!
//! Left out: where facts come from (`port`), what becomes of them (`port` binds devices, `source` reads ahead for the
//! instances that live here).

pub mod libvirt;
pub mod observers;
pub mod openvswitch;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::mpsc;

use crate::record::{InstanceId, MacAddress, PortId, ProjectId};

/// A program on this node that knows devices. In order of trust, most first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Observer {
    /// Open vSwitch's database: `external_ids` of an interface.
    OpenVswitch,
    /// libvirt's domain XML.
    Libvirt,
}

impl Observer {
    /// Returns its name, for people.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::OpenVswitch => "Open vSwitch",
            Self::Libvirt => "libvirt",
        }
    }
}

/// What an observer says of a device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fact {
    /// The instance that has the device.
    pub instance: InstanceId,
    /// Its project, where the observer knows it.
    pub project: Option<ProjectId>,
    /// The port that the device is, where the observer knows it.
    pub port: Option<PortId>,
    /// The MAC that the instance uses on it.
    pub mac: Option<MacAddress>,
    /// The addresses that the instance has on it, where the observer knows them; ascending.
    pub addresses: Vec<IpAddr>,
}

/// Devices whose facts may have changed. Whoever reads it asks [`Facts::of`] again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FactsChange {
    /// Device names, ascending, none twice.
    pub devices: Vec<String>,
}

/// An instance that some observer says has a device on this node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LocalInstance {
    /// Its project, where an observer knows it.
    pub project: Option<ProjectId>,
    /// Its addresses on all devices, where an observer knows them.
    pub addresses: BTreeSet<IpAddr>,
    /// Its devices.
    pub devices: BTreeSet<String>,
}

#[derive(Debug, Default)]
struct Table {
    /// By device, then by observer. More than one fact, and no two alike: the observer contradicts itself.
    facts: BTreeMap<String, BTreeMap<Observer, Vec<Fact>>>,
    subscribers: Vec<mpsc::UnboundedSender<FactsChange>>,
}

/// Everything that observers say. Cheap to clone; clones share it.
#[derive(Clone, Debug, Default)]
pub struct Facts(Arc<Mutex<Table>>);

impl Facts {
    /// Returns a table in which no observer has said anything.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Replaces all that an observer has said. A device may come more than once.
    pub fn replace(&self, observer: Observer, facts: impl IntoIterator<Item = (String, Fact)>) {
        let mut table = self.lock();
        let mut by_device: BTreeMap<String, Vec<Fact>> = BTreeMap::new();
        for (device, fact) in facts {
            let said = by_device.entry(device).or_default();
            if !said.contains(&fact) {
                said.push(fact);
            }
        }
        let known: Vec<String> = table.facts.iter().filter(|(_, by)| by.contains_key(&observer)).map(name).collect();
        let mut changed = BTreeSet::new();
        for device in known {
            let said = by_device.remove(&device).unwrap_or_default();
            if table.put(observer, &device, said) {
                changed.insert(device);
            }
        }
        for (device, said) in by_device {
            table.put(observer, &device, said);
            changed.insert(device);
        }
        table.tell(changed);
    }

    /// Replaces what an observer has said of one device; `None`: it knows no such device.
    pub fn set(&self, observer: Observer, device: &str, fact: Option<Fact>) {
        let mut table = self.lock();
        if table.put(observer, device, fact.into_iter().collect()) {
            table.tell(BTreeSet::from([device.to_owned()]));
        }
    }

    /// Returns what is said of a device, most trusted observer first.
    #[must_use]
    pub fn of(&self, device: &str) -> Vec<(Observer, Fact)> {
        let table = self.lock();
        let by = table.facts.get(device).into_iter().flatten();
        by.flat_map(|(observer, said)| said.iter().map(|fact| (*observer, fact.clone()))).collect()
    }

    /// Returns the devices that some observer says one of these instances has, ascending.
    #[must_use]
    pub fn devices_of(&self, instances: &BTreeSet<InstanceId>) -> Vec<String> {
        let table = self.lock();
        let has =
            |by: &BTreeMap<Observer, Vec<Fact>>| by.values().flatten().any(|fact| instances.contains(&fact.instance));
        table.facts.iter().filter(|(_, by)| has(by)).map(name).collect()
    }

    /// Returns the instances that live on this node, according to any observer.
    #[must_use]
    pub fn local_instances(&self) -> BTreeMap<InstanceId, LocalInstance> {
        let table = self.lock();
        let mut local_instances: BTreeMap<InstanceId, LocalInstance> = BTreeMap::new();
        for (device, by) in &table.facts {
            for fact in by.values().flatten() {
                let local_instance = local_instances.entry(fact.instance).or_default();
                local_instance.devices.insert(device.clone());
                local_instance.addresses.extend(&fact.addresses);
                if local_instance.project.is_none() {
                    local_instance.project.clone_from(&fact.project);
                }
            }
        }
        local_instances
    }

    /// Returns a stream that names the devices of every change from here on.
    #[must_use]
    pub fn subscribe(&self) -> mpsc::UnboundedReceiver<FactsChange> {
        let (sender, receiver) = mpsc::unbounded_channel();
        self.lock().subscribers.push(sender);
        receiver
    }

    fn lock(&self) -> MutexGuard<'_, Table> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn name<T>((name, _): (&String, T)) -> String {
    name.clone()
}

impl Table {
    /// Returns whether that changes anything.
    fn put(&mut self, observer: Observer, device: &str, said: Vec<Fact>) -> bool {
        if said.is_empty() {
            let Some(by) = self.facts.get_mut(device) else {
                return false;
            };
            let changed = by.remove(&observer).is_some();
            if by.is_empty() {
                self.facts.remove(device);
            }
            return changed;
        }
        let by = self.facts.entry(device.to_owned()).or_default();
        if by.get(&observer) == Some(&said) {
            return false;
        }
        by.insert(observer, said);
        true
    }

    fn tell(&mut self, devices: BTreeSet<String>) {
        if devices.is_empty() {
            return;
        }
        let change = FactsChange { devices: devices.into_iter().collect() };
        self.subscribers.retain(|subscriber| subscriber.send(change.clone()).is_ok());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::tests::id;

    fn fact(instance: u128, project: Option<&str>) -> Fact {
        Fact { instance: id(instance), project: project.map(Into::into), port: None, mac: None, addresses: Vec::new() }
    }

    #[test]
    fn each_observer_replaces_its_own_word_only() {
        let facts = Facts::new();
        let mut changes = facts.subscribe();
        let mut told = || std::iter::from_fn(|| changes.try_recv().ok()).flat_map(|change| change.devices).collect();
        facts.replace(Observer::Libvirt, [("tap1".to_owned(), fact(1, None)), ("tap2".to_owned(), fact(2, None))]);
        let first: Vec<String> = told();
        assert_eq!(first, ["tap1", "tap2"]);
        facts.set(Observer::OpenVswitch, "tap1", Some(fact(3, None)));
        facts.replace(Observer::Libvirt, [("tap2".to_owned(), fact(2, None))]);
        let second: Vec<String> = told();
        assert_eq!(second, ["tap1", "tap1"], "tap2 is as it was");
        assert_eq!(facts.of("tap1"), [(Observer::OpenVswitch, fact(3, None))]);
        facts.set(Observer::OpenVswitch, "tap1", None);
        facts.set(Observer::OpenVswitch, "tap1", None);
        let third: Vec<String> = told();
        assert_eq!(third, ["tap1"]);
        assert!(facts.of("tap1").is_empty());
    }

    #[test]
    fn residents_are_put_together_from_all_observers() {
        let facts = Facts::new();
        facts.set(Observer::OpenVswitch, "tap1", Some(fact(1, None)));
        facts.set(Observer::Libvirt, "tap1", Some(fact(1, Some("p"))));
        facts.set(Observer::Libvirt, "tap2", Some(fact(1, Some("p"))));
        let local_instances = facts.local_instances();
        assert_eq!(local_instances.len(), 1);
        assert_eq!(local_instances[&id(1)].project, Some("p".into()));
        assert_eq!(local_instances[&id(1)].devices.len(), 2);
    }
    #[test]
    fn an_observer_that_contradicts_itself_is_heard_in_full() {
        let facts = Facts::new();
        let said = [("tap1", fact(1, None)), ("tap1", fact(2, None)), ("tap1", fact(1, None)), ("tap2", fact(2, None))];
        facts.replace(Observer::Libvirt, said.map(|(device, fact)| (device.to_owned(), fact)));
        assert_eq!(facts.of("tap1"), [(Observer::Libvirt, fact(1, None)), (Observer::Libvirt, fact(2, None))]);
        assert_eq!(facts.devices_of(&BTreeSet::from([id(1)])), ["tap1"]);
        assert_eq!(facts.devices_of(&BTreeSet::from([id(1), id(2)])), ["tap1", "tap2"]);
        assert!(facts.devices_of(&BTreeSet::from([id(3)])).is_empty());
    }
}
