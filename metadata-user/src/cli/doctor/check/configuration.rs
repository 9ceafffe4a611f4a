//! Whether the configuration is accepted: a daemon that runs may have been started with another.

use super::super::evidence::Evidence;
use super::super::finding::Finding;

pub(super) fn check(evidence: &Evidence) -> Vec<Finding> {
    vec![match &evidence.settings.error {
        Some(error) => Finding::problem(
            format!("the configuration is not accepted, so the next start fails ({error})"),
            "correct it; `metadatad check-config` says when it is",
        ),
        None => Finding::passed("the configuration is accepted"),
    }]
}
