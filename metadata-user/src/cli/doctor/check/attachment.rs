//! Whether the programs are on the tap, and which other programs see its packets first.

use super::super::evidence::{Daemon, Evidence, Port};
use super::super::finding::Finding;
use crate::admin::wire::State;
use crate::dataplane::inspect::OnHook;

fn is_ours(program: &str) -> impl Fn(&OnHook) -> bool {
    move |on| on.ours.as_deref() == Some(program)
}

pub(super) fn check(evidence: &Evidence, port: &Port) -> Vec<Finding> {
    let (Ok(_), Some(_)) = (&evidence.kernel, &port.link) else { return Vec::new() };
    let tap = &port.tap;
    let Some(place) = port.from_guest.iter().position(is_ours("from_guest")) else {
        return vec![Finding::problem(
            format!(
                "the program from_guest is not on {tap}, so its guest's requests go to its network, where others may answer them"
            ),
            match evidence.daemon {
                Daemon::Answers(_) => {
                    "the daemon attaches it again by itself; if it does not, `systemctl restart metadatad`"
                }
                _ => "`systemctl restart metadatad` attaches it again",
            },
        )];
    };
    let mut findings = Vec::new();
    let before = port.from_guest.iter().take(place).filter(|on| on.ours.is_none() && !on.is_policing);
    let before: Vec<_> = before.map(|on| on.what.as_str()).collect();
    if before.is_empty() {
        findings.push(Finding::passed(format!("from_guest is on {tap}, and sees its packets first")));
    } else {
        findings.push(Finding::problem(
            format!(
                "{} on {tap} sees the guest's packets before from_guest, and may drop or answer its requests",
                before.join(" and ")
            ),
            format!("detach it, or attach it after from_guest (`bpftool net show dev {tap}` lists both)"),
        ));
    }
    let is_guarded = port.status.as_ref().is_some_and(|status| status.guarded);
    if is_guarded && !port.to_guest.iter().any(is_ours("from_network")) {
        findings.push(Finding::problem(
            format!("the guard against impersonation (from_network) is not on {tap}"),
            "`systemctl restart metadatad` attaches it again",
        ));
    }
    if let Some(status) = port.status.as_ref().filter(|status| status.state == State::Failed) {
        let reason = status.reason.clone().unwrap_or_default();
        findings.push(Finding::reported(format!("{tap} failed: {reason}")));
    }
    findings
}
