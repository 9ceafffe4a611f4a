//! Whether the configuration is valid: a running daemon may have been started with an earlier version of the file.

use super::super::evidence::Evidence;
use super::super::finding::Finding;

pub(super) fn check(evidence: &Evidence) -> Vec<Finding> {
    vec![match &evidence.settings.error {
        Some(error) => Finding::problem(
            format!("the configuration is not valid, so the next start fails ({error})"),
            "correct it; `metadatad check-config` verifies it",
        ),
        None => Finding::passed("the configuration is valid"),
    }]
}
