//! Whether the daemon can write its files: free space on the disks, and errors of its last writes.

use super::super::evidence::{Disk, Evidence};
use super::super::finding::Finding;

/// Bytes below which the next snapshot may not fit.
const LEAST: u64 = 1 << 20;

pub(super) fn check(evidence: &Evidence) -> Vec<Finding> {
    let mut findings: Vec<_> = evidence.disks.iter().map(of_disk).collect();
    let Some(answers) = evidence.daemon.answers() else { return findings };
    let status = &answers.status;
    let snapshot = status.snapshot.as_ref();
    for error in snapshot.iter().flat_map(|snapshot| snapshot.error.iter().chain(&snapshot.refused)) {
        findings.push(Finding::reported(format!("the snapshot: {error}")));
    }
    if let Some(error) = status.config_drives.as_ref().and_then(|drives| drives.error.as_ref()) {
        findings.push(Finding::reported(format!("config drives: {error}")));
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
        Some(0) => Some("no free inodes".to_owned()),
        _ if *free < LEAST => Some(format!("only {} KiB of free space", free >> 10)),
        _ => None,
    };
    match lack {
        Some(lack) => Finding::problem(
            format!("the file system of {what} ({path}) has {lack}"),
            "free some space; the daemon then writes again by itself",
        ),
        None => Finding::passed(format!("the file system of {what} ({path}) has {} MiB of free space", free >> 20)),
    }
}
