//! Whether the node's clock was set since the daemon started.
//!
//! Session tokens, certificates and the age of content depend on that clock. What chrony slews is too little to be noticed here.

use super::super::evidence::Evidence;
use super::super::finding::Finding;
use crate::cli::lines::ago;

/// Seconds below which a difference is no jump: the clocks are read one after the other, and slewed over years.
const JUMP: u64 = 60;

pub(super) fn check(evidence: &Evidence) -> Vec<Finding> {
    let Some(jump) = evidence.clock_jump else { return Vec::new() };
    let by = jump.unsigned_abs();
    if by < JUMP {
        return vec![Finding::passed("the node's clock was not set since the daemon started")];
    }
    let way = if jump > 0 { "forward" } else { "back" };
    vec![Finding::problem(
        format!(
            "the node's clock was set {way} by {} since the daemon started; session tokens, certificates and the age of \
             content depend on it",
            ago(by, 0)
        ),
        "check the time (`timedatectl`, `chronyc tracking`), then `systemctl restart metadatad`",
    )]
}
