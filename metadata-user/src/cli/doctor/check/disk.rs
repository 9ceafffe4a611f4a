//! Whether the daemon can write what it keeps: room on the disks, and what it reported of its last writes.

use super::super::evidence::{Disk, Evidence};
use super::super::finding::Finding;

/// Room that a snapshot needs at least: with less, the next one may not fit.
const LEAST: u64 = 1 << 20;

pub(super) fn check(evidence: &Evidence) -> Vec<Finding> {
    let mut findings: Vec<_> = evidence.disks.iter().map(of_disk).collect();
    let Some(answers) = evidence.daemon.answers() else { return findings };
    let status = &answers.status;
    let snapshot = status.snapshot.as_ref();
    for error in snapshot.iter().flat_map(|snapshot| snapshot.error.iter().chain(&snapshot.refused)) {
        findings.push(Finding::reported(format!("the snapshot: {error}")));
    }
    if let Some(error) = status.audit.as_ref().and_then(|audit| audit.error.as_ref()) {
        findings.push(Finding::reported(format!("the audit log cannot be written, and records are lost: {error}")));
    }
    findings
}

fn of_disk(disk: &Disk) -> Finding {
    let Disk { what, path, free, free_files } = disk;
    let path = path.parent().unwrap_or(path).display();
    let lack = match free_files {
        Some(0) => Some("files".to_owned()),
        _ if *free < LEAST => Some(format!("bytes ({} KiB left)", free >> 10)),
        _ => None,
    };
    match lack {
        Some(lack) => Finding::problem(
            format!("the disk that {what} is on ({path}) has no room for more {lack}"),
            "make room there; the daemon writes again by itself",
        ),
        None => Finding::passed(format!("{path} has room for {what}: {} MiB", free >> 20)),
    }
}
