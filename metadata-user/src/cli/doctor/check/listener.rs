//! Whether the daemon listens in the responder's namespace, and accepts connections.

use super::super::evidence::{Daemon, Evidence};
use super::super::finding::Finding;

/// Connections that may wait to be accepted: more than arrive while busy threads come round.
const WAITING: u32 = 64;

pub(super) fn check(evidence: &Evidence) -> Vec<Finding> {
    let Ok(kernel) = &evidence.kernel else { return Vec::new() };
    let Some(inside) = kernel.responder.as_ref().ok().and_then(|view| view.inside.as_ref()) else { return Vec::new() };
    let name = &evidence.settings.namespace;
    let of_port = |port: &u16| match inside.listeners.iter().find(|listener| listener.port == *port) {
        // The check of the daemon reports why it does not answer.
        None if !matches!(evidence.daemon, Daemon::Answers(_)) => None,
        None => Some(Finding::problem(
            format!(
                "nothing listens on port {port} in the namespace {name}: the daemon listens in an earlier namespace of this name"
            ),
            "`systemctl restart metadatad`",
        )),
        Some(listener) if listener.waiting > WAITING || is_stuck(evidence, listener.waiting) => Some(Finding::problem(
            format!(
                "{} connections on port {port} wait to be accepted: the daemon is stuck or too busy",
                listener.waiting
            ),
            "check whether `metadatad status` answers; if it does not, `systemctl restart metadatad`",
        )),
        Some(_) => Some(Finding::passed(format!("the daemon listens on port {port} in the namespace {name}"))),
    };
    evidence.settings.listens.iter().filter_map(of_port).collect()
}

/// Tells whether a connection waits for a daemon that does nothing.
fn is_stuck(evidence: &Evidence, waiting: u32) -> bool {
    waiting > 0 && matches!(evidence.daemon, Daemon::Silent { .. })
}
