//! Findings, as people and programs read them.

use std::io::{self, Write};

use serde::Serialize;

use super::evidence::{Daemon, Evidence};
use super::finding::{Finding, Level};
use crate::cli::lines::counted;
use crate::cli::table::plain;

/// What was found.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    /// `answers`, `down`, `silent` or `refuses`.
    daemon: &'static str,
    /// Ports that were looked at.
    ports: usize,
    /// Things that were looked at.
    looked_at: usize,
    /// Things that are wrong.
    pub(super) problems: usize,
    /// What is shown of them, the node's first, then by tap.
    findings: Vec<Finding>,
}

impl Report {
    /// Shows findings of this level and worse.
    pub(super) fn new(evidence: &Evidence, ports: usize, mut findings: Vec<Finding>, least: Level) -> Self {
        let (looked_at, problems) =
            (findings.len(), findings.iter().filter(|finding| finding.level == Level::Problem).count());
        findings.retain(|finding| finding.level >= least);
        findings.sort_by(|one, other| (&one.tap, other.level).cmp(&(&other.tap, one.level)));
        let daemon = match &evidence.daemon {
            Daemon::Answers(_) => "answers",
            Daemon::Down => "down",
            Daemon::Silent { .. } => "silent",
            Daemon::Refuses(_) => "refuses",
        };
        Self { daemon, ports, looked_at, problems, findings }
    }

    /// Prints it for people: a line per finding, under the tap that it is about.
    pub(super) fn print(&self, out: &mut dyn Write) -> io::Result<()> {
        let mut last = None;
        for finding in &self.findings {
            if last != Some(&finding.tap) {
                let heading = match (&finding.tap, &finding.instance) {
                    (None, _) => "node".to_owned(),
                    (Some(tap), None) => format!("port {tap}"),
                    (Some(tap), Some(instance)) => format!("port {tap}, instance {instance}"),
                };
                writeln!(out, "{}", plain(&heading))?;
                last = Some(&finding.tap);
            }
            let level = match finding.level {
                Level::Problem => "problem",
                Level::Note => "note",
                Level::Passed => "ok",
            };
            writeln!(out, "  {level:<8} {:<13} {}", finding.check, plain(&finding.sentence()))?;
        }
        let (ports, looked_at) = (self.ports, self.looked_at);
        match self.problems {
            0 => writeln!(out, "no problems: {looked_at} checks, {}", counted(ports, "port")),
            problems => {
                writeln!(out, "{}: {looked_at} checks, {}", counted(problems, "problem"), counted(ports, "port"))
            }
        }
    }
}
