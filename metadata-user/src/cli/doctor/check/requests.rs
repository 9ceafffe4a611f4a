//! What the guest requested in its last boot.

use super::super::evidence::{Evidence, Port};
use super::super::finding::Finding;
use crate::cli::lines::ago;

pub(super) fn check(evidence: &Evidence, port: &Port) -> Vec<Finding> {
    let Some(boot) = &port.boot else { return Vec::new() };
    let last = boot.last_at.map(|at| format!(", the last time {} ago", ago(evidence.now, at / 1000)));
    let what = match (boot.requests, &*boot.outcome) {
        (0, _) => boot.reason.clone(),
        (requests, outcome) => {
            let reason = if boot.reason.is_empty() { String::new() } else { format!(", {}", boot.reason) };
            format!("in its last boot the guest asked {requests} times{}: {outcome}{reason}", last.unwrap_or_default())
        }
    };
    vec![match &*boot.outcome {
        "complete" | "reading" | "unknown" => Finding::passed(what),
        _ => Finding::note(what),
    }]
}
