//! Whether netfilter is in the way.
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
                format!("a firewall is in the responder's namespace {name}, where none belongs ({chains})"),
                format!("`ip netns exec {name} nft flush ruleset`, and keep what made it away from there"),
            )
        });
    }
    if kernel.bridge_netfilter {
        findings.push(Finding::note(
            "bridges give their packets to iptables and nftables (net.bridge.bridge-nf-call-iptables or -ip6tables is 1): that \
             concerns what ports.pass leaves to the network and taps without a program, and no other metadata packet",
        ));
    }
    findings
}
