//! `metadatad controller`: runs the controller, and asks one that runs.

mod status;

use std::io::Write;
use std::path::{Path, PathBuf};

use super::error::CliError;
use super::lines::{ago, now};
use super::{Form, converse, converse_for, exit, note, print_json, table};
use crate::admin::controller::ControllerClient;
use crate::admin::wire::{ControlledInstance, ControllerDifference};
use crate::config::controller::{CONTROLLER_PATH, Controller};
use crate::controller;
use crate::record::InstanceId;

#[derive(Debug, clap::Subcommand)]
pub(super) enum Verb {
    /// Run a controller, until SIGTERM or SIGINT. Of all that run, one leads: it reads OpenStack, and writes each node's documents into
    /// etcd
    Run,
    /// Show who leads, how far behind it is, and every problem with its remedy
    Status(status::Verb),
    /// List the instances that the leader knows, with their nodes and how faithful their documents are
    List(Form),
    /// Show what the leader knows of one instance, the pages beside its document included
    Show(One),
    /// Have an instance read again from OpenStack, or all of them
    Reread(Reread),
    /// Show where an instance's document and Nova's answers differ. It asks Nova, and what it prints may hold secrets
    Diff(One),
    /// Have the leader give up, so that another controller leads: before maintenance of its host
    Resign(Form),
    /// Confirm that the cloud that answers now may be written: it is not the one that the documents in etcd came from
    Accept,
    /// Validate the configuration and the files that it names
    CheckConfig,
}

/// One instance.
#[derive(Debug, clap::Args)]
pub(super) struct One {
    /// The instance
    #[arg(value_name = "UUID")]
    instance: InstanceId,

    #[command(flatten)]
    form: Form,
}

/// Which instances are read again.
#[derive(Debug, clap::Args)]
#[command(group(clap::ArgGroup::new("which").required(true).args(["instance", "all"])))]
pub(super) struct Reread {
    /// The instance
    #[arg(value_name = "UUID")]
    instance: Option<InstanceId>,

    /// Every instance, at the rate of reconcile.requests_per_second
    #[arg(long)]
    all: bool,

    #[command(flatten)]
    form: Form,
}

impl Verb {
    /// Tells whether it asks a controller that runs.
    pub(super) fn uses_socket(&self) -> bool {
        !matches!(self, Self::Run | Self::CheckConfig)
    }

    pub(super) fn execute(
        self,
        config: Option<&Path>,
        socket: Option<PathBuf>,
        out: &mut dyn Write,
        notes: &mut dyn Write,
    ) -> Result<u8, CliError> {
        let config = config.unwrap_or(Path::new(CONTROLLER_PATH));
        match self {
            Self::Run => {
                controller::run(Controller::load(config)?)?;
                return Ok(exit::OK);
            }
            Self::CheckConfig => {
                let settings = Controller::load(config)?;
                controller::check(&settings)?;
                for warning in settings.warnings() {
                    writeln!(out, "{}: warning: {warning}", config.display())?;
                }
                writeln!(out, "{}: accepted", config.display())?;
                return Ok(exit::OK);
            }
            _ => {}
        }
        let client = ControllerClient::new(&socket_of(config, socket, notes)?);
        match self {
            Self::Run | Self::CheckConfig => {}
            Self::Status(verb) => return verb.execute(&client, out),
            Self::List(form) => {
                let all = converse(async { Ok(client.instances().await?) })?;
                if form.json { print_json(&all, out)? } else { list(&all, out)? }
            }
            Self::Show(One { instance, form }) => {
                let all = converse(async { Ok(client.instances().await?) })?;
                let id = instance.to_string();
                let found = all.into_iter().find(|known| known.instance == id);
                let found = found.ok_or(CliError::UnknownInstance(id))?;
                if form.json { print_json(&found, out)? } else { show(&found, out)? }
            }
            Self::Reread(Reread { instance, form, .. }) => {
                let reread = converse(async { Ok(client.reread(instance).await?) })?;
                if form.json {
                    print_json(&reread, out)?;
                } else {
                    writeln!(out, "{} will be read again", super::lines::counted(reread.instances, "instance"))?;
                }
            }
            Self::Diff(One { instance, form }) => {
                let differences = converse_for("Nova's answers", async { Ok(client.differences(instance).await?) })?;
                if form.json {
                    print_json(&differences, out)?
                } else {
                    diff(&differences, out)?
                }
                return Ok(if differences.is_empty() { exit::OK } else { exit::NOT_WELL });
            }
            Self::Resign(form) => {
                let resigned = converse_for("another leader", async { Ok(client.resign().await?) })?;
                match resigned.leader {
                    _ if form.json => print_json(&resigned, out)?,
                    Some(leader) => writeln!(out, "{} leads now", leader.name)?,
                    None => writeln!(out, "resigned; no other controller leads yet")?,
                }
            }
            Self::Accept => {
                converse(async { Ok(client.accept().await?) })?;
                writeln!(out, "accepted; the documents of this cloud are written from now on")?;
            }
        }
        Ok(exit::OK)
    }
}

/// Returns the socket of the controller: the one given, else the configuration's, else the default.
fn socket_of(config: &Path, given: Option<PathBuf>, notes: &mut dyn Write) -> Result<PathBuf, CliError> {
    if let Some(socket) = given {
        return Ok(socket);
    }
    match Controller::load(config) {
        Ok(settings) => Ok(settings.admin.socket),
        Err(error) => {
            let socket = PathBuf::from(crate::config::controller::DEFAULT_SOCKET);
            note(notes, &error, &format!("using the socket {}, the default", socket.display()))?;
            Ok(socket)
        }
    }
}

fn list(all: &[ControlledInstance], out: &mut dyn Write) -> Result<(), CliError> {
    let now = now();
    let rows: Vec<_> = all
        .iter()
        .map(|known| {
            [
                known.instance.clone(),
                known.nodes.join(","),
                known.status.clone().unwrap_or_default(),
                fidelity(known),
                known.read_at.map(|at| format!("{} ago", ago(now, at))).unwrap_or_default(),
                known.error.clone().unwrap_or_default(),
            ]
        })
        .collect();
    Ok(table::print(["INSTANCE", "NODES", "STATUS", "FIDELITY", "READ", "PROBLEM"], &rows, out)?)
}

fn fidelity(known: &ControlledInstance) -> String {
    match known.pages.len() {
        0 => known.fidelity.clone(),
        pages => format!("{} ({pages})", known.fidelity),
    }
}

fn show(known: &ControlledInstance, out: &mut dyn Write) -> Result<(), CliError> {
    let now = now();
    let mut lines = super::lines::Lines::default();
    lines.line("instance", &known.instance);
    lines.line("project", known.project.as_deref().unwrap_or("-"));
    lines.line("nodes", &if known.nodes.is_empty() { "none".to_owned() } else { known.nodes.join(", ") });
    lines.line("status", known.status.as_deref().unwrap_or("-"));
    lines.line("read", &known.read_at.map_or("never".to_owned(), |at| format!("{} ago", ago(now, at))));
    lines.line("fidelity", &known.fidelity);
    for page in &known.pages {
        lines.detail("page", &format!("/{}: {}", page.path, page.reason));
    }
    if let Some(error) = &known.error {
        lines.line("problem", error);
    }
    Ok(out.write_all(lines.into_text().as_bytes())?)
}

fn diff(differences: &[ControllerDifference], out: &mut dyn Write) -> Result<(), CliError> {
    if differences.is_empty() {
        writeln!(out, "the document gives Nova's answers")?;
    }
    for difference in differences {
        writeln!(out, "/{}", table::plain(&difference.path))?;
        writeln!(out, "- {}", table::plain(&difference.nova))?;
        writeln!(out, "+ {}", table::plain(&difference.document))?;
    }
    Ok(())
}
