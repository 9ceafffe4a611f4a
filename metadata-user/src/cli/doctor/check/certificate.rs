//! Whether the certificates for guests and for metrics are valid, and for how long.

use super::super::evidence::Evidence;
use super::super::finding::Finding;
use crate::admin::wire::Https;
use crate::cli::lines::ago;

/// Seconds before its expiry from which a certificate is a problem: enough to renew it on a working day.
const SOON: u64 = 3 * 24 * 3600;

pub(super) fn check(evidence: &Evidence) -> Vec<Finding> {
    let Some(answers) = evidence.daemon.answers() else { return Vec::new() };
    let guests = answers.status.https.as_ref().map(|https| ("[https]", https));
    let metrics = answers.status.metrics.as_ref().and_then(|metrics| metrics.tls.as_ref());
    let mut findings = Vec::new();
    if let Some(error) = answers.status.metrics.as_ref().and_then(|metrics| metrics.error.as_ref()) {
        findings.push(Finding::reported(format!("metrics cannot be read over TCP: {error}")));
    }
    for (table, https) in guests.into_iter().chain(metrics.map(|https| ("[metrics]", https))) {
        findings.extend(of(table, https, evidence.now));
    }
    findings
}

fn of(table: &str, https: &Https, now: u64) -> Vec<Finding> {
    let renew = format!("replace the files named in {table}; they are read again at once");
    let validity = match https.not_after {
        None => Finding::problem(format!("{table} has no certificate, so every handshake fails"), renew),
        Some(end) if end <= now => Finding::problem(
            format!("the certificate of {table} expired {} ago, so clients refuse it", ago(now, end)),
            renew,
        ),
        Some(end) if end - now < SOON => {
            Finding::problem(format!("the certificate of {table} expires in {}", ago(end, now)), renew)
        }
        Some(end) => Finding::passed(format!("the certificate of {table} is valid for {}", ago(end, now))),
    };
    let unread = https.error.iter().map(|error| {
        Finding::reported(format!(
            "the files named in {table} cannot be used, so the previous certificate stays in use: {error}"
        ))
    });
    std::iter::once(validity).chain(unread).collect()
}
