//! Whether the tap exists here, is up, and has a running guest.

use super::super::evidence::{Evidence, Port};
use super::super::finding::Finding;

pub(super) fn check(evidence: &Evidence, port: &Port) -> Vec<Finding> {
    let tap = &port.tap;
    if let Some(namespace) = &port.elsewhere {
        return vec![Finding::problem(
            format!("{tap} is in {namespace}, where this daemon does not see it"),
            "run metadatad in the namespace in which the hypervisor creates its taps, or create them here",
        )];
    }
    let Some(link) = &port.link else {
        if evidence.kernel.is_err() {
            return Vec::new();
        }
        return vec![Finding::note(format!(
            "there is no interface {tap} here: its instance does not run on this node now, or its document names the wrong tap"
        ))];
    };
    if !link.is_up {
        return vec![Finding::problem(
            format!("{tap} is down, so no packet of its guest arrives"),
            format!("`ip link set {tap} up`"),
        )];
    }
    if !link.has_carrier {
        return vec![Finding::note(format!("{tap} has no carrier: no running guest uses it"))];
    }
    vec![Finding::passed(format!("{tap} (index {}) is up and a guest uses it", link.ifindex))]
}
