//! Whether the daemon answers, and is ready.

use super::super::evidence::{Daemon, Evidence};
use super::super::finding::Finding;

pub(super) fn check(evidence: &Evidence) -> Vec<Finding> {
    let socket = evidence.settings.socket.display();
    let status = match &evidence.daemon {
        Daemon::Answers(answers) => &answers.status,
        Daemon::Down => {
            return vec![Finding::problem(
                format!("no daemon runs (nothing answers on {socket}), so no guest's request is answered"),
                "`systemctl start metadatad`; `journalctl -u metadatad` says why it stopped",
            )];
        }
        Daemon::Silent { process, state } => return vec![silent(*process, *state)],
        Daemon::Refuses(error) => return vec![Finding::reported(error.clone())],
    };
    if status.released.is_some() {
        let what =
            "the daemon has let go of its taps, as `metadatad detach` asked: guests' requests go on to the network";
        return vec![Finding::problem(
            what,
            "`systemctl restart metadatad` attaches again; `systemctl disable --now metadatad`, then `metadatad detach`, removes the rest",
        )];
    }
    if status.draining {
        let what = "the daemon is stopping: it finishes requests in flight and accepts no new ones";
        return vec![Finding::problem(what, "wait for the next one, or `systemctl start metadatad`")];
    }
    if !status.ready {
        let what = format!("the daemon is not ready: it waits for {}", status.waiting_for.join(", "));
        return vec![Finding::problem(what, "`metadatad status` shows why that takes so long")];
    }
    let mut findings = vec![Finding::passed(format!("process {} answers and is ready", status.pid))];
    // The check of the attachment reports programs in front, if it could look.
    let is_looked_at = |what: &str| what == "preceded" && evidence.kernel.is_ok();
    let faults = status.faults.iter().filter(|fault| !is_looked_at(&fault.what));
    findings.extend(faults.map(|fault| Finding::reported(fault.problem.clone())));
    if !status.repairs.is_empty() {
        let repairs: Vec<_> = status.repairs.iter().map(|(what, count)| format!("{what} {count} times")).collect();
        findings.push(Finding::note(format!(
            "since its start the daemon has restored what was changed or removed on the node: {}",
            repairs.join(", ")
        )));
    }
    findings
}

fn silent(process: Option<i32>, state: Option<char>) -> Finding {
    match (process, state) {
        (Some(process), Some('T' | 't')) => Finding::problem(
            format!("the daemon (process {process}) is stopped by a signal, so no guest's request is answered"),
            format!("`kill -CONT {process}`"),
        ),
        (Some(process), Some('D')) => Finding::problem(
            format!("the daemon (process {process}) hangs in the kernel, so it answers no request"),
            "look for a disk or file system that does not respond, then `systemctl restart metadatad`",
        ),
        _ => Finding::problem(
            "the daemon does not answer on its socket in time",
            "`systemctl restart metadatad`; the programs stay on the taps",
        ),
    }
}
