//! What rows of the table Interface say of guests: pure, rows in, facts out.
//!
//! A guest's interface has `iface-id` and `vm-uuid` in its `external_ids`; Neutron's own (DHCP, routers) lack the latter
//! and are nobody's. With hybrid plugging the interface in Open vSwitch is `qvo…`, and the guest's tap, called `tap…`
//! with the same rest, is in a bridge beside it: such a row speaks of that tap.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::facts::Fact;
use crate::facts::observers::UnreachablePort;
use crate::record::{InstanceId, MacAddress, PortId};

/// Longest text of somebody else's that an error repeats.
const LONGEST: usize = 60;

/// The rows as they are now.
#[derive(Debug, Default)]
pub struct Rows(BTreeMap<String, Row>);

/// What a row comes to.
#[derive(Debug)]
enum Row {
    /// Nothing: no guest's.
    Nobodys,
    Guests {
        device: String,
        fact: Fact,
    },
    /// Not a device of the kernel.
    UnreachablePort(UnreachablePort),
    /// A guest's, and not to be read.
    Unreadable(String),
}

/// What all rows come to.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Facts by device.
    pub facts: Vec<(String, Fact)>,
    /// Interfaces that have no tap.
    pub unreachable_ports: Vec<UnreachablePort>,
    /// Rows that cannot be read.
    pub unreadable: Vec<String>,
}

impl Rows {
    /// Takes these rows for all that there are.
    pub fn replace(&mut self, all: &Value) {
        self.0.clear();
        self.update(all);
    }

    /// Takes changed rows: each is there as a whole, or gone.
    pub fn update(&mut self, some: &Value) {
        for (id, change) in some.as_object().into_iter().flatten() {
            match &change["new"] {
                Value::Object(_) => self.0.insert(id.clone(), read(&change["new"])),
                _ => self.0.remove(id),
            };
        }
    }

    /// Returns what the rows say.
    #[must_use]
    pub fn told(&self) -> Report {
        let mut told = Report::default();
        for row in self.0.values() {
            match row {
                Row::Nobodys => {}
                Row::Guests { device, fact } => {
                    if let Some(rest) = device.strip_prefix("qvo") {
                        told.facts.push((format!("tap{rest}"), fact.clone()));
                    }
                    told.facts.push((device.clone(), fact.clone()));
                }
                Row::UnreachablePort(device) => told.unreachable_ports.push(device.clone()),
                Row::Unreadable(problem) => told.unreadable.push(problem.clone()),
            }
        }
        told.unreadable.sort_unstable();
        told
    }
}

fn read(row: &Value) -> Row {
    let ids = &row["external_ids"];
    let (Some(device), Some(vm), Some(iface)) = (row["name"].as_str(), of_map(ids, "vm-uuid"), of_map(ids, "iface-id"))
    else {
        return Row::Nobodys;
    };
    let unreadable = |key: &str, value: &str| {
        let (device, value): (String, String) =
            (device.chars().take(LONGEST).collect(), value.chars().take(LONGEST).collect());
        Row::Unreadable(format!(
            "interface {device}: external_ids:{key} is `{value}`, which is none: correct or remove it"
        ))
    };
    let Ok(instance) = vm.parse::<InstanceId>() else {
        return unreadable("vm-uuid", vm);
    };
    let Ok(port) = iface.parse::<PortId>() else {
        return unreadable("iface-id", iface);
    };
    let mac = match of_map(ids, "attached-mac").map(|mac| (mac, mac.parse::<MacAddress>())) {
        None => None,
        Some((_, Ok(mac))) => Some(mac),
        Some((text, Err(_))) => return unreadable("attached-mac", text),
    };
    let kind = row["type"].as_str().unwrap_or_default();
    if kind.starts_with("dpdk") {
        let kind = format!("{kind}: its packets go around the kernel");
        return Row::UnreachablePort(UnreachablePort { device: device.to_owned(), instance, port: Some(port), kind });
    }
    let fact = Fact { instance, project: None, port: Some(port), mac, addresses: Vec::new() };
    Row::Guests { device: device.to_owned(), fact }
}

/// Returns the value of a key in a map as OVSDB writes it: `["map", [[key, value], …]]`.
fn of_map<'a>(map: &'a Value, key: &str) -> Option<&'a str> {
    if map[0] != "map" {
        return None;
    }
    map[1].as_array()?.iter().find(|pair| pair[0] == key)?[1].as_str()
}

#[cfg(test)]
mod tests;
