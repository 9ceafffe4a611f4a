//! Whether it is certain which instance is behind the tap, and by which source.

use super::super::evidence::{Daemon, Evidence, Port};
use super::super::finding::Finding;
use crate::admin::wire::State;

pub(super) fn check(evidence: &Evidence, port: &Port) -> Vec<Finding> {
    let tap = &port.tap;
    let Some(status) = &port.status else {
        return match (&evidence.daemon, &port.link) {
            (Daemon::Answers(_), Some(_)) => vec![Finding::problem(
                format!("the daemon does not manage {tap}, although ports.match matches it"),
                "the daemon may run in another network namespace: `systemctl restart metadatad`",
            )],
            _ => Vec::new(),
        };
    };
    let reason = status.reason.clone().unwrap_or_default();
    vec![match status.state {
        State::Bound => {
            let (instance, origin) =
                (status.instance.as_deref().unwrap_or("-"), status.origin.as_deref().unwrap_or("-"));
            let bound = Finding::passed(format!("{tap} is bound to {instance}, by {origin}"));
            match &status.reason {
                None => bound,
                Some(warning) => return vec![bound, Finding::note(format!("{tap}: {warning}"))],
            }
        }
        State::Held => Finding::problem(
            format!("no source names the instance of {tap}, so its guest gets 503 ({reason})"),
            format!(
                "write its instance's document with {tap} as the port's tap, or let Open vSwitch or libvirt report the instance"
            ),
        ),
        State::Refused => Finding::reported(format!("{tap} is refused, so its guest gets 503: {reason}")),
        State::Failed => return Vec::new(),
        State::Passed => Finding::note(format!("{tap} is left to another metadata service: {reason}")),
    }]
}
