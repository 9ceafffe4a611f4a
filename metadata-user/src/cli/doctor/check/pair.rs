//! Whether the pair into the responder's namespace exists, is up and connected, and has its two programs.

use super::super::evidence::Evidence;
use super::super::finding::Finding;

pub(super) fn check(evidence: &Evidence) -> Vec<Finding> {
    let Ok(kernel) = &evidence.kernel else { return Vec::new() };
    let Ok(view) = &kernel.responder else { return Vec::new() };
    let name = &evidence.settings.interface;
    let problem = |what: String| vec![Finding::problem(what, "`systemctl restart metadatad` restores the pair")];
    let Some(pair) = view.pair else {
        return problem(format!("the interface {name}, through which requests reach the responder, is missing"));
    };
    if !pair.is_up {
        return vec![Finding::problem(
            format!("the interface {name}, through which requests reach the responder, is down"),
            format!("`ip link set {name} up`"),
        )];
    }
    if view.inside.as_ref().is_some_and(|inside| !inside.is_joined) {
        return problem(format!("the other end of {name} is not in the namespace {}", evidence.settings.namespace));
    }
    let has = |hook: &[crate::dataplane::inspect::OnHook], program: &str, at_filter: &str| {
        hook.iter().any(|on| on.ours.as_deref().is_some_and(|ours| ours == program || ours == at_filter))
    };
    if !has(&kernel.pair_from, "to_guest", "from_guest") {
        return problem(format!("the program to_guest is not on {name}, so no reply reaches a guest"));
    }
    if !has(&kernel.pair_to, "from_host", "from_network") {
        return problem(format!("the program from_host is not on {name}, so the host can reach the responder"));
    }
    vec![Finding::passed(format!("{name} is up, connects to the namespace and has its programs"))]
}
