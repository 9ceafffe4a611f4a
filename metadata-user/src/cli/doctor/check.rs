//! The checks, in the order of a guest's request: the node's first, then each port's.
//!
//! A check is a function from evidence to findings, in a file of its own, about one thing. Where the evidence is missing, it has no
//! finding.

mod attachment;
mod binding;
mod certificate;
mod clock;
mod configuration;
mod content;
mod daemon;
mod disk;
mod drops;
mod entry;
mod firewall;
mod identity;
mod ipv6;
mod kernel;
mod limits;
mod link;
mod listener;
mod namespace;
mod pair;
mod requests;
mod source;

use super::evidence::{Evidence, Port};
use super::finding::Finding;

/// Judges the node.
type OfNode = fn(&Evidence) -> Vec<Finding>;
/// Judges a port.
type OfPort = fn(&Evidence, &Port) -> Vec<Finding>;

/// Checks of the node, by name.
const NODE: [(&str, OfNode); 12] = [
    ("configuration", configuration::check),
    ("daemon", daemon::check),
    ("kernel", kernel::check),
    ("namespace", namespace::check),
    ("pair", pair::check),
    ("listener", listener::check),
    ("firewall", firewall::check),
    ("source", source::check),
    ("disk", disk::check),
    ("certificate", certificate::check),
    ("identity", identity::check),
    ("clock", clock::check),
];

/// Checks of a port, by name.
const PORT: [(&str, OfPort); 9] = [
    ("link", link::check),
    ("attachment", attachment::check),
    ("entry", entry::check),
    ("binding", binding::check),
    ("content", content::check),
    ("limits", limits::check),
    ("drops", drops::check),
    ("ipv6", ipv6::check),
    ("requests", requests::check),
];

/// Runs every check, on the node and on these ports.
pub(super) fn run(evidence: &Evidence, ports: &[&Port]) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (name, check) in NODE {
        findings.extend(check(evidence).into_iter().map(|finding| Finding { check: name, ..finding }));
    }
    // Ports that the daemon has let go of are the network's, where nothing can be judged from here.
    let is_released = evidence.daemon.answers().is_some_and(|answers| answers.status.released.is_some());
    for port in ports.iter().filter(|_| !is_released) {
        for (name, check) in PORT {
            let of_port =
                |finding| Finding { check: name, tap: Some(port.tap.clone()), instance: port.instance(), ..finding };
            findings.extend(check(evidence, port).into_iter().map(of_port));
        }
    }
    findings
}

#[cfg(test)]
mod tests;
