//! `metadatad doctor`: checks each step of a guest's request, and names each problem with its remedy.
//!
//! Promises: it changes nothing. The evidence is gathered first (`gather`), partly by the daemon and partly from the kernel, so it also
//! works while the daemon is down. Each check is a function from that evidence to findings (`check`), and a finding is one
//! sentence.

mod check;
mod evidence;
mod finding;
mod gather;
mod report;
mod target;

use std::io::Write;
use std::path::{Path, PathBuf};

use super::error::CliError;
use super::{Form, exit, print_json};
use finding::Level;
use report::Report;

#[derive(Debug, clap::Args)]
pub(super) struct Verb {
    /// Only this port: its tap, its UUID, its instance's UUID, or an address of its guest [default: the node and all ports]
    #[arg(value_name = "PORT|INSTANCE|IP")]
    target: Option<String>,

    /// Also show checks that passed
    #[arg(long)]
    all: bool,

    #[command(flatten)]
    form: Form,
}

impl Verb {
    /// Gathers and judges. `socket` is the admin socket if it was given.
    pub(super) fn execute(&self, config: &Path, socket: Option<PathBuf>, out: &mut dyn Write) -> Result<u8, CliError> {
        let evidence = gather::gather(config, socket)?;
        let ports = match &self.target {
            Some(target) => target::find(target, &evidence.ports).ok_or_else(|| {
                let is_complete = evidence.daemon.answers().is_some();
                CliError::NothingToDiagnose { target: target.clone(), is_complete }
            })?,
            None => evidence.ports.iter().collect(),
        };
        let findings = check::run(&evidence, &ports);
        // For a single port, notes are shown too.
        let least = match (self.all, &self.target) {
            (true, _) => Level::Passed,
            (false, Some(_)) => Level::Note,
            (false, None) => Level::Problem,
        };
        let report = Report::new(&evidence, ports.len(), findings, least);
        if self.form.json {
            print_json(&report, out)?;
        } else {
            report.print(out)?;
        }
        Ok(if report.problems > 0 { exit::NOT_WELL } else { exit::OK })
    }
}
