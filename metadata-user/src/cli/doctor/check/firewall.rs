//! Whether netfilter affects metadata packets.
//!
//! On a tap it cannot be: the programs take metadata packets before any of netfilter's hooks sees them (tc's ingress comes first),
//! and what they redirect to a tap passes its egress hook unseen. In the responder's namespace it can.

use super::super::evidence::Evidence;
use super::super::finding::Finding;

pub(super) fn check(evidence: &Evidence) -> Vec<Finding> {
    let Ok(kernel) = &evidence.kernel else { return Vec::new() };
    let mut findings = Vec::new();
    if let Some(inside) = kernel.responder.as_ref().ok().and_then(|view| view.inside.as_ref()) {
        let name = &evidence.settings.namespace;
        findings.push(if inside.firewall.is_empty() {
            Finding::passed(format!("the namespace {name} has no firewall"))
        } else {
            let chains = inside.firewall.join("; ");
            Finding::problem(
                format!("there is a firewall in the responder's namespace {name} ({chains})"),
                format!("`ip netns exec {name} nft flush ruleset`, and exclude that namespace from the tool that made the rules"),
            )
        });
    }
    if kernel.bridge_netfilter {
        findings.push(Finding::note(
            "bridged packets pass iptables (net.bridge.bridge-nf-call-iptables or -ip6tables is 1): of metadata packets this \
             affects only those that ports.pass leaves to the network, and those of taps without a program",
        ));
    }
    findings
}
