//! Whether the responder's namespace exists, with its end of the pair, address and route.

use super::super::evidence::{Daemon, Evidence};
use super::super::finding::Finding;

pub(super) fn check(evidence: &Evidence) -> Vec<Finding> {
    let Ok(kernel) = &evidence.kernel else { return Vec::new() };
    let name = &evidence.settings.namespace;
    let view = match &kernel.responder {
        Ok(view) => view,
        Err(error) => return vec![Finding::note(format!("the namespace {name} was not checked: {error}"))],
    };
    let restart = "`systemctl restart metadatad` restores it";
    let Some(inside) = &view.inside else {
        return match &evidence.daemon {
            // The daemon keeps it alive, and reports that it has lost its name, with the command that restores the name.
            Daemon::Answers(answers) if answers.status.faults.iter().any(|fault| fault.what == "namespace") => {
                Vec::new()
            }
            Daemon::Answers(_) => {
                let what = format!("the namespace {name} was deleted; guests are answered until the daemon stops");
                vec![Finding::problem(what, restart)]
            }
            _ => vec![Finding::problem(format!("the namespace {name} was deleted, so no guest is answered"), restart)],
        };
    };
    let missing: Vec<_> = [
        (inside.end.is_some(), "its end of the pair"),
        (inside.has_address, "the responder's address fd6d::a9fe:a9fe"),
        (inside.has_route, "the route to the guests, fd6d::/16"),
    ]
    .into_iter()
    .filter_map(|(is_there, what)| (!is_there).then_some(what))
    .collect();
    if missing.is_empty() && inside.end.is_some_and(|end| !end.is_up) {
        let what = format!("the pair's end in the namespace {name} is down, so no guest is answered");
        return vec![Finding::problem(what, restart)];
    }
    if missing.is_empty() {
        return vec![Finding::passed(format!("the namespace {name} has its end of the pair, address and route"))];
    }
    let what = format!("the namespace {name} lacks {}, so no guest is answered", missing.join(" and "));
    vec![Finding::problem(what, restart)]
}
