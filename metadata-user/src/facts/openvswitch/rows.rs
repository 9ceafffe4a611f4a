//! Rows of Open vSwitch's table Interface as facts about guests: pure, rows in, a report out.
//!
//! A guest's interface has in its `external_ids` an `iface-id`, which is its port, and its instance: `vm-uuid` where Nova's
//! os-vif plugged it, `vm-id` where libvirt did (a `virtualport` of type openvswitch). Where both are there they must agree:
//! a row that names two instances reports both, so that the tap is refused. Neutron's own interfaces (DHCP, routers) have
//! neither key. `iface-status` does not matter here: an interface that is not in use still belongs to its instance.
//!
//! With hybrid plugging the interface in Open vSwitch is `qvo…`, and the guest's tap, called `tap…` with the same rest, is
//! in a bridge beside it: such a row describes that tap too.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::facts::Fact;
use crate::facts::report::{Report, UnreachablePort};
use crate::record::{InstanceId, MacAddress, PortId};

/// Longest part of a foreign text that an error repeats.
const LONGEST: usize = 60;

/// The keys that name a guest's instance: os-vif's, libvirt's.
const INSTANCE_KEYS: [&str; 2] = ["vm-uuid", "vm-id"];

/// The rows as they are now.
#[derive(Debug, Default)]
pub struct Rows(BTreeMap<String, Row>);

/// A row, read.
#[derive(Debug)]
enum Row {
    /// Not a guest's interface.
    Other,
    /// A guest's interface. More than one fact: its keys contradict each other.
    Guest { device: String, facts: Vec<Fact> },
    /// A guest's interface that is not a device of the kernel.
    Unreachable(Vec<UnreachablePort>),
    /// A guest's interface with a value that cannot be read.
    Unreadable(String),
}

impl Rows {
    /// Replaces all rows by these.
    pub fn replace(&mut self, all: &Value) {
        self.0.clear();
        self.update(all);
    }

    /// Replaces or removes some rows: each comes as a whole, or not at all if it was removed.
    pub fn update(&mut self, some: &Value) {
        for (id, change) in some.as_object().into_iter().flatten() {
            match &change["new"] {
                Value::Object(_) => self.0.insert(id.clone(), read(&change["new"])),
                _ => self.0.remove(id),
            };
        }
    }

    /// Returns what all rows come to.
    #[must_use]
    pub fn report(&self) -> Report {
        let mut report = Report::default();
        for row in self.0.values() {
            match row {
                Row::Other => {}
                Row::Guest { device, facts } => {
                    let beside = device.strip_prefix("qvo").map(|rest| format!("tap{rest}"));
                    for device in beside.iter().chain([device]) {
                        report.facts.extend(facts.iter().map(|fact| (device.clone(), fact.clone())));
                    }
                }
                Row::Unreachable(ports) => report.unreachable_ports.extend_from_slice(ports),
                Row::Unreadable(problem) => report.unreadable.push(problem.clone()),
            }
        }
        report.unreadable.sort_unstable();
        report
    }
}

fn read(row: &Value) -> Row {
    let ids = &row["external_ids"];
    let value = |key| value_of(ids, key).filter(|value| !value.is_empty());
    let named: Vec<_> = INSTANCE_KEYS.into_iter().filter_map(|key| Some((key, value(key)?))).collect();
    let (Some(device), Some(iface), [first, others @ ..]) = (row["name"].as_str(), value("iface-id"), &named[..])
    else {
        return Row::Other;
    };
    let unreadable = |key: &str, value: &str, kind: &str| {
        let shorten = |text: &str| text.chars().take(LONGEST).collect::<String>();
        let (device, value) = (shorten(device), shorten(value));
        Row::Unreadable(format!(
            "interface {device}: external_ids:{key} is `{value}`, which is not a {kind}: correct or remove it"
        ))
    };
    let Ok(instance) = first.1.parse::<InstanceId>() else {
        return unreadable(first.0, first.1, "UUID");
    };
    let mut instances = vec![instance];
    // Beside a vm-uuid another plug-in may use vm-id for any text.
    instances.extend(
        others.iter().filter_map(|(_, other)| other.parse().ok()).filter(|other: &InstanceId| *other != instance),
    );
    let Ok(port) = iface.parse::<PortId>() else {
        return unreadable("iface-id", iface, "UUID");
    };
    let mac = match value("attached-mac").map(|mac| (mac, mac.parse::<MacAddress>())) {
        None => None,
        Some((_, Ok(mac))) => Some(mac),
        Some((text, Err(_))) => return unreadable("attached-mac", text, "MAC address"),
    };
    let (device, kind) = (device.to_owned(), row["type"].as_str().unwrap_or_default());
    let port = Some(port);
    if kind.starts_with("dpdk") {
        let kind = format!("{kind}: its packets bypass the kernel");
        let unreachable = |instance| UnreachablePort { device: device.clone(), instance, port, kind: kind.clone() };
        return Row::Unreachable(instances.into_iter().map(unreachable).collect());
    }
    let facts = instances.into_iter().map(|instance| Fact {
        instance,
        project: None,
        port,
        mac,
        addresses: Vec::new(),
        fingerprint: None,
    });
    Row::Guest { device, facts: facts.collect() }
}

/// Returns the value of a key in a map as OVSDB writes it: `["map", [[key, value], …]]`.
fn value_of<'a>(map: &'a Value, key: &str) -> Option<&'a str> {
    if map[0] != "map" {
        return None;
    }
    map[1].as_array()?.iter().find(|pair| pair[0] == key)?[1].as_str()
}

#[cfg(test)]
mod tests;
