//! libvirt's XML: a file's bytes into `facts::libvirt::domain`.
//!
//! Checked: a report is of one instance and bounded; a refusal is one bounded line.

use metadata_user::facts::libvirt::domain;

/// The most interfaces, with up to four ports each.
const MOST_FACTS: usize = 4 * 1024;

/// Runs an input.
pub fn run(bytes: &[u8]) {
    // As for a file: what is not UTF-8 is not read.
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    match domain::parse(text) {
        Err(error) => assert!(error.to_string().len() <= 1000, "{error}"),
        Ok(report) => {
            assert!(report.facts.len() + report.unreachable_ports.len() <= MOST_FACTS);
            assert!(report.unreadable.is_empty());
            let facts = report.facts.iter().map(|(_, fact)| fact.instance);
            let instances = facts.chain(report.unreachable_ports.iter().map(|port| port.instance));
            let mut instances: Vec<_> = instances.collect();
            instances.dedup();
            assert!(instances.len() <= 1, "one domain is one instance: {instances:?}");
            for (device, fact) in &report.facts {
                assert!(!device.is_empty());
                assert!(fact.addresses.is_sorted_by(|a, b| a < b), "{:?}", fact.addresses);
            }
        }
    }
}
