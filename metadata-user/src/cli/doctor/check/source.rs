//! Whether the sources of content and the observers can be read, and how old the served content is.

use super::super::evidence::{Answers, Evidence};
use super::super::finding::Finding;
use crate::admin::wire::Status;
use crate::cli::lines::ago;

/// Seconds from which the age of unconfirmed content is a problem: a day.
const OLD: u64 = 24 * 3600;

pub(super) fn check(evidence: &Evidence) -> Vec<Finding> {
    let Some(Answers { status, .. }) = evidence.daemon.answers() else { return Vec::new() };
    let mut findings = Vec::new();
    let source = &status.source;
    let place = format!("{} {}", source.kind, source.place);
    match &source.error {
        Some(error) => findings.push(Finding::problem(
            format!("the source ({place}) cannot be read: {error}"),
            "guests read the last content meanwhile; `metadatad source` shows since when",
        )),
        None => findings.push(Finding::passed(format!("the source ({place}) is read"))),
    }
    findings.push(age(status, evidence.now));
    for document in &source.broken {
        let kept =
            if document.serves_last_good { "its last valid version is served" } else { "its instance is not served" };
        findings.push(Finding::reported(format!(
            "the document {} is broken, and {kept}: {}",
            document.name, document.problem
        )));
    }
    if !source.unconfirmed.is_empty() {
        let count = source.unconfirmed.len();
        findings.push(Finding::problem(
            format!("the controller that answers now lacks {count} instances that are served here"),
            "if it is the right one, `metadatad source accept`",
        ));
    }
    for observer in &status.facts {
        let problems = observer.error.iter().chain(&observer.unreadable);
        findings
            .extend(problems.map(|problem| Finding::reported(format!("{} cannot be read: {problem}", observer.name))));
    }
    for target in
        status.vendordata.iter().flat_map(|vendordata| &vendordata.targets).filter(|target| target.failing > 0)
    {
        let error = target.error.as_deref().unwrap_or("no good answer");
        let outdated = if target.on_demand { "" } else { " or outdated" };
        findings.push(Finding::problem(
            format!(
                "dynamic vendor data of {} is missing{outdated} for {} instances: {error}",
                target.name, target.failing
            ),
            format!("check the service at {}", target.url),
        ));
    }
    findings
}

/// Reports the age of content that the source has not confirmed.
fn age(status: &Status, now: u64) -> Finding {
    let Some(as_of) = as_of(status) else { return Finding::passed("the content is up to date with its source") };
    let age = now.saturating_sub(as_of);
    let what = format!("the source has not confirmed the content for {}", ago(now, as_of));
    if age > OLD {
        Finding::problem(what, "make the source reachable; `metadatad source` shows what fails")
    } else {
        Finding::note(what)
    }
}

/// Returns when the content was last known to equal the source's, if that is not now; seconds of Unix time.
fn as_of(status: &Status) -> Option<u64> {
    let source = &status.source;
    let restored = status.snapshot.as_ref().and_then(|snapshot| snapshot.restored.as_ref());
    match (source.synced_at, restored) {
        (None, Some(restored)) if !restored.confirmed => Some(restored.as_of),
        (Some(synced), _) if source.error.is_some() || source.lagging_since.is_some() => {
            Some(source.lagging_since.unwrap_or(synced))
        }
        _ => None,
    }
}
