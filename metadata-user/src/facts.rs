//! Local facts: which instance each device of this node belongs to, as programs on the node report it.
//!
//! Promises: a fact is about a device by its name, and comes from one observer; it stays until the observer reports
//! otherwise, so that an observer that is restarted moves no port; where an observer contradicts itself all of its facts
//! are kept, so that no reader decides on a part of them; subscribers get the names of the devices that changed.
//!
//! Where facts come from: `openvswitch`, `libvirt`. What becomes of them: `port` binds devices, `source` prefetches for
//! the instances of this node.

pub mod libvirt;
pub mod observers;
pub mod openvswitch;
pub mod report;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use parking_lot::{Mutex, MutexGuard};
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
    /// Returns its name as operators know it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::OpenVswitch => "Open vSwitch",
            Self::Libvirt => "libvirt",
        }
    }
}

/// What an observer reports of a device.
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
    /// Differs after a change of the instance that nothing else here shows, such as another flavor, image or disk; valid in this
    /// process only. `None`: the observer knows nothing of that kind.
    pub fingerprint: Option<u64>,
}

/// Devices whose facts may have changed. Subscribers ask [`Facts::of`] again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FactsChange {
    /// Device names, ascending, none twice.
    pub devices: Vec<String>,
}

/// An instance that has a device on this node, according to some observer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LocalInstance {
    /// Its project, where an observer knows it.
    pub project: Option<ProjectId>,
    /// Its addresses on all devices, where an observer knows them.
    pub addresses: BTreeSet<IpAddr>,
    /// See [`Fact::fingerprint`].
    pub fingerprint: Option<u64>,
    /// Its devices.
    pub devices: BTreeSet<String>,
}

#[derive(Debug, Default)]
struct Table {
    /// By device, then by observer. More than one fact, and no two alike: the observer contradicts itself.
    facts: BTreeMap<String, BTreeMap<Observer, Vec<Fact>>>,
    /// The devices of each instance, so that a changed document finds its devices without a scan of all facts.
    devices: BTreeMap<InstanceId, BTreeSet<String>>,
    subscribers: Vec<mpsc::UnboundedSender<FactsChange>>,
}

/// All facts of all observers. Cheap to clone; clones share them.
#[derive(Clone, Debug, Default)]
pub struct Facts(Arc<Mutex<Table>>);

impl Facts {
    /// Returns an empty table.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Replaces all facts of an observer. A device may come more than once.
    pub fn replace(&self, observer: Observer, facts: impl IntoIterator<Item = (String, Fact)>) {
        let mut table = self.lock();
        let mut by_device: BTreeMap<String, Vec<Fact>> = BTreeMap::new();
        for (device, fact) in facts {
            let reported = by_device.entry(device).or_default();
            if !reported.contains(&fact) {
                reported.push(fact);
            }
        }
        let known: Vec<String> = table.facts.iter().filter(|(_, by)| by.contains_key(&observer)).map(name).collect();
        let mut changed = BTreeSet::new();
        for device in known {
            let reported = by_device.remove(&device).unwrap_or_default();
            if table.put(observer, &device, reported) {
                changed.insert(device);
            }
        }
        for (device, reported) in by_device {
            table.put(observer, &device, reported);
            changed.insert(device);
        }
        table.notify(changed);
    }

    /// Replaces an observer's facts of one device; `None`: it has none.
    pub fn set(&self, observer: Observer, device: &str, fact: Option<Fact>) {
        let mut table = self.lock();
        if table.put(observer, device, fact.into_iter().collect()) {
            table.notify(BTreeSet::from([device.to_owned()]));
        }
    }

    /// Returns the facts of a device, most trusted observer first.
    #[must_use]
    pub fn of(&self, device: &str) -> Vec<(Observer, Fact)> {
        let table = self.lock();
        let by = table.facts.get(device).into_iter().flatten();
        by.flat_map(|(observer, reported)| reported.iter().map(|fact| (*observer, fact.clone()))).collect()
    }

    /// Returns the devices of these instances, according to any observer; ascending.
    #[must_use]
    pub fn devices_of(&self, instances: &BTreeSet<InstanceId>) -> Vec<String> {
        let table = self.lock();
        let devices = instances.iter().filter_map(|instance| table.devices.get(instance)).flatten();
        devices.collect::<BTreeSet<_>>().into_iter().cloned().collect()
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
                local_instance.fingerprint = local_instance.fingerprint.or(fact.fingerprint);
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
        self.0.lock()
    }
}

fn name<T>((name, _): (&String, T)) -> String {
    name.clone()
}

impl Table {
    /// Returns whether that changes anything.
    fn put(&mut self, observer: Observer, device: &str, reported: Vec<Fact>) -> bool {
        let before = self.instances_of(device);
        let changed = self.put_facts(observer, device, reported);
        if changed {
            let now = self.instances_of(device);
            for gone in before.difference(&now) {
                if let Some(devices) = self.devices.get_mut(gone) {
                    devices.remove(device);
                    if devices.is_empty() {
                        self.devices.remove(gone);
                    }
                }
            }
            for new in now.difference(&before) {
                self.devices.entry(*new).or_default().insert(device.to_owned());
            }
        }
        changed
    }

    /// Returns the instances that any observer's facts give a device to.
    fn instances_of(&self, device: &str) -> BTreeSet<InstanceId> {
        let by = self.facts.get(device).into_iter().flat_map(BTreeMap::values);
        by.flatten().map(|fact| fact.instance).collect()
    }

    fn put_facts(&mut self, observer: Observer, device: &str, reported: Vec<Fact>) -> bool {
        if reported.is_empty() {
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
        if by.get(&observer) == Some(&reported) {
            return false;
        }
        by.insert(observer, reported);
        true
    }

    fn notify(&mut self, devices: BTreeSet<String>) {
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
        let project = project.map(Into::into);
        Fact { instance: id(instance), project, port: None, mac: None, addresses: Vec::new(), fingerprint: None }
    }

    #[test]
    fn each_observer_replaces_its_own_facts_only() {
        let facts = Facts::new();
        let mut changes = facts.subscribe();
        let mut changed = || std::iter::from_fn(|| changes.try_recv().ok()).flat_map(|change| change.devices).collect();
        facts.replace(Observer::Libvirt, [("tap1".to_owned(), fact(1, None)), ("tap2".to_owned(), fact(2, None))]);
        let first: Vec<String> = changed();
        assert_eq!(first, ["tap1", "tap2"]);
        facts.set(Observer::OpenVswitch, "tap1", Some(fact(3, None)));
        facts.replace(Observer::Libvirt, [("tap2".to_owned(), fact(2, None))]);
        let second: Vec<String> = changed();
        assert_eq!(second, ["tap1", "tap1"], "tap2 is as it was");
        assert_eq!(facts.of("tap1"), [(Observer::OpenVswitch, fact(3, None))]);
        facts.set(Observer::OpenVswitch, "tap1", None);
        facts.set(Observer::OpenVswitch, "tap1", None);
        let third: Vec<String> = changed();
        assert_eq!(third, ["tap1"]);
        assert!(facts.of("tap1").is_empty());
    }

    #[test]
    fn local_instances_are_put_together_from_all_observers() {
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
    fn all_facts_of_an_observer_that_contradicts_itself_are_kept() {
        let facts = Facts::new();
        let reported =
            [("tap1", fact(1, None)), ("tap1", fact(2, None)), ("tap1", fact(1, None)), ("tap2", fact(2, None))];
        facts.replace(Observer::Libvirt, reported.map(|(device, fact)| (device.to_owned(), fact)));
        assert_eq!(facts.of("tap1"), [(Observer::Libvirt, fact(1, None)), (Observer::Libvirt, fact(2, None))]);
        assert_eq!(facts.devices_of(&BTreeSet::from([id(1)])), ["tap1"]);
        assert_eq!(facts.devices_of(&BTreeSet::from([id(1), id(2)])), ["tap1", "tap2"]);
        assert!(facts.devices_of(&BTreeSet::from([id(3)])).is_empty());
    }

    proptest::proptest! {
        #[test]
        fn the_devices_of_an_instance_are_those_that_a_scan_of_all_facts_finds(
            changes in proptest::collection::vec((0..3_u8, 0..4_u8, 0..4_u128, 0..2_u8), 0..40)
        ) {
            let facts = Facts::new();
            for (kind, device, instance, observer) in changes {
                let observer = if observer == 0 { Observer::OpenVswitch } else { Observer::Libvirt };
                let device = format!("tap{device}");
                match kind {
                    0 => facts.set(observer, &device, None),
                    1 => facts.set(observer, &device, Some(fact(instance, None))),
                    _ => facts.replace(observer, [(device.clone(), fact(instance, None)), (device, fact(1, None))]),
                }
                for instance in 0..4 {
                    let scanned = (0..4).map(|device| format!("tap{device}")).filter(|device| {
                        facts.of(device).iter().any(|(_, fact)| fact.instance == id(instance))
                    });
                    let expected: Vec<_> = scanned.collect();
                    proptest::prop_assert_eq!(facts.devices_of(&BTreeSet::from([id(instance)])), expected);
                }
            }
        }
    }
}
