//! Whether proofs of identity can be signed, and whether the keys are rotated.

use super::super::evidence::Evidence;
use super::super::finding::Finding;
use crate::admin::wire::Identity;
use crate::cli::lines::ago;

/// Seconds in which a rotation ends: verifiers read the keys again within minutes, and tokens expire within an hour.
const ROTATION: u64 = 7 * 24 * 3600;

/// Seconds after which a key is old.
const OLD: u64 = 365 * 24 * 3600;

pub(super) fn check(evidence: &Evidence) -> Vec<Finding> {
    let Some(identity) = evidence.daemon.answers().and_then(|answers| answers.status.identity.as_ref()) else {
        return Vec::new();
    };
    let mut findings = vec![of_keys(identity)];
    findings.extend(evidence.identity_changed_at.and_then(|changed| of_age(identity, changed, evidence.now)));
    findings
}

fn of_keys(identity: &Identity) -> Finding {
    match (&*identity.key_ids, &identity.error) {
        ([], error) => {
            let error = error.as_deref().unwrap_or("no key was read");
            Finding::reported(format!(
                "nothing is signed, and guests that ask for a proof of identity get 503: {error}"
            ))
        }
        ([signs, ..], Some(error)) => Finding::reported(format!(
            "the keys of [identity] cannot be used as they are now, so the former ones stay in use, and {signs} signs: {error}"
        )),
        ([signs, ..], None) => Finding::passed(format!("proofs of identity are signed with the key {signs}")),
    }
}

/// Notes what a file of keys that has rested for long leaves undone.
fn of_age(identity: &Identity, changed: u64, now: u64) -> Option<Finding> {
    let rested = now.saturating_sub(changed);
    let since = format!("identity.key_file has not changed for {}", ago(now, changed));
    match identity.key_ids.len() {
        0 => None,
        1 => (rested > OLD).then(|| Finding::note(format!("{since}: rotate the key from time to time"))),
        keys => (rested > ROTATION).then(|| {
            Finding::note(format!("{since}, and has {keys} keys, of which one signs: a rotation may not be finished"))
        }),
    }
}
