//! Whether the responder's namespace is there, and has what leads guests' packets in and replies out.

use super::super::evidence::{Daemon, Evidence};
use super::super::finding::Finding;

pub(super) fn check(evidence: &Evidence) -> Vec<Finding> {
    let Ok(kernel) = &evidence.kernel else { return Vec::new() };
    let name = &evidence.settings.namespace;
    let view = match &kernel.responder {
        Ok(view) => view,
        Err(error) => return vec![Finding::note(format!("the namespace {name} was not looked at: {error}"))],
    };
    let restart = "`systemctl restart metadatad` makes it again";
    let Some(inside) = &view.inside else {
        let so = match &evidence.daemon {
            Daemon::Answers(_) => "guests are answered only as long as this daemon keeps what is left of it",
            _ => "no guest can be answered",
        };
        return vec![Finding::problem(format!("the namespace {name} was deleted, and {so}"), restart)];
    };
    let missing: Vec<_> = [
        (inside.end.is_some(), "its end of the pair"),
        (inside.has_address, "the responder's address fd6d::a9fe:a9fe"),
        (inside.has_route, "the route to the guests, fd6d::/16"),
        (inside.end.is_none_or(|end| end.is_up), "an end of the pair that is up"),
    ]
    .into_iter()
    .filter_map(|(is_there, what)| (!is_there).then_some(what))
    .collect();
    if missing.is_empty() {
        return vec![Finding::passed(format!("the namespace {name} has its end of the pair, address and route"))];
    }
    let what = format!("the namespace {name} lacks {}, so no guest is answered", missing.join(" and "));
    vec![Finding::problem(what, restart)]
}
