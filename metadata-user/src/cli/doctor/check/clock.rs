//! Whether somebody set the node's clock since the daemon started.
//!
//! Session tokens, certificates and the age of content are judged by that clock. What chrony slews is less than this notices.

use super::super::evidence::Evidence;
use super::super::finding::Finding;
use crate::cli::lines::ago;

/// Seconds that are no jump: two clocks that were read one after the other, and what is slewed in years.
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
            "the node's clock was set {way} by {} since the daemon started, and tokens, certificates and the age of content are \
             judged by it",
            ago(by, 0)
        ),
        "see that it is right (`timedatectl`, `chronyc tracking`), then `systemctl restart metadatad`",
    )]
}
