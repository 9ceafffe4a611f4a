//! Whether a limit of the port or its instance was reached.

use super::super::evidence::{Evidence, Port};
use super::super::finding::Finding;
use crate::cli::lines::ago;

/// Seconds after which a limit that was reached is only noted: an hour.
const RECENT: u64 = 3600;

pub(super) fn check(evidence: &Evidence, port: &Port) -> Vec<Finding> {
    let now = evidence.now;
    let mut findings = Vec::new();
    for (reason, setting) in
        [("limit_connections", "new_connections_per_second"), ("limit_packets", "packets_per_second")]
    {
        let count = port.count(reason);
        if count == 0 {
            continue;
        }
        let last = port.drops.iter().find(|drop| drop.reason == reason).map(|drop| drop.at);
        let what = format!("{count} packets of the guest were dropped for exceeding {setting}{}", when(last, now));
        findings.push(finding(what, last, now, setting));
    }
    if let Some(reached) = port.anomalies.iter().find(|anomaly| anomaly.kind == "limit_reached") {
        let last = Some(reached.last_at);
        let what = format!(
            "{} requests or connections of the instance were refused for exceeding its limits{}",
            reached.count,
            when(last, now)
        );
        findings.push(finding(what, last, now, "requests_per_second or connections_per_port"));
    }
    if findings.is_empty() && (evidence.kernel.is_ok() || evidence.daemon.answers().is_some()) {
        findings.push(Finding::passed("no limit was reached"));
    }
    findings
}

fn when(last: Option<u64>, now: u64) -> String {
    last.map(|last| format!("; the last one about {} ago", ago(now, last))).unwrap_or_default()
}

fn finding(what: String, last: Option<u64>, now: u64, setting: &str) -> Finding {
    if last.is_some_and(|last| now.saturating_sub(last) < RECENT) {
        let remedy = format!(
            "find out which program in the guest asks so often, or raise {setting}, in the document's `policy` or for all guests"
        );
        Finding::problem(what, remedy)
    } else {
        Finding::note(what)
    }
}
