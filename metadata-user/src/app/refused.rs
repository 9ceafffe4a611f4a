//! The log of system calls that a thread's filter has refused: a sign of an attack, or of a bug.
//!
//! Promises: the 1st, 2nd, 4th, 8th … is logged, and all are counted, however many there are.

use prometheus_client::metrics::counter::Counter;
use tracing::{error, warn};

use crate::error_text;
use crate::privilege::{RefusedCall, RefusedCalls};

/// Logs and counts refused calls. Completes only if they cannot be watched.
pub(super) async fn log(counter: Counter) {
    let mut calls = match RefusedCalls::watch() {
        Ok(calls) => calls,
        Err(error) => return error!(error = error_text::chain(&error), "refused system calls are not counted"),
    };
    let (mut seen, mut next) = (0, 1);
    while let Ok(RefusedCall { count, number }) = calls.next().await {
        counter.inc_by(count.saturating_sub(seen));
        seen = seen.max(count);
        if count >= next {
            warn!(
                count,
                number,
                "a thread's seccomp filter refused a system call: an attack, or a bug to report (`ausyscall NUMBER` names the call)"
            );
            next = (count + 1).next_power_of_two();
        }
    }
}
