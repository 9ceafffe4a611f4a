//! The command line `metadatad`: a verb per file.
//!
//! Promises: what a verb prints goes to standard output and nothing else does; an error is one line that names the
//! thing and the remedy, and an exit status of [`exit`] that a service manager can act on; a reader that goes away
//! ends a verb without noise.

mod access;
mod anomalies;
mod boots;
mod check_config;
mod config_drive;
#[cfg(feature = "etcd")]
mod controller;
mod conversation;
mod counters;
mod detach;
mod doctor;
mod error;
pub mod exit;
mod get;
mod guest_attributes;
mod instance;
mod jwks;
mod lines;
mod ports;
mod prepare;
mod schema;
mod selection;
mod snapshot;
mod source;
mod status;
mod table;
mod top;
mod trace;
mod wait;

use std::ffi::OsString;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, CommandFactory as _, Parser, Subcommand};

use crate::admin::client::Client;
use crate::app;
use crate::config::partial::Partial;
use crate::config::{CONFIG_PATH, Config, ConfigError, ConfigFile};

use conversation::{converse, converse_for, converse_silently};
use error::CliError;

#[derive(Debug, Parser)]
#[command(
    name = "metadatad",
    version,
    about = "Gives every guest of this node its own metadata at http://169.254.169.254 and http://[fe80::a9fe:a9fe]",
    after_help = exit::HELP,
    disable_help_subcommand = true
)]
struct Cli {
    #[command(subcommand)]
    verb: Verb,

    /// The configuration [default: /etc/metadatad/metadatad.toml; of the controller: /etc/metadatad/controller.toml]
    #[arg(long, global = true, value_name = "PATH")]
    config: Option<PathBuf>,

    /// The daemon's admin socket [default: admin.socket of the configuration, as far as it can be read]
    #[arg(long, global = true, value_name = "PATH")]
    socket: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Run the daemon, until SIGTERM or SIGINT; requests in flight are finished first. SIGHUP reloads the configuration
    Run(Run),
    /// Make the responder's namespace and mount the BPF file system, unless they are there. `run` does so too; a unit that gives
    /// the daemon a mount namespace of its own does it first, outside
    Prepare,
    /// Show whether guests are answered, and every problem with its remedy
    Status(status::Verb),
    /// Show where content comes from: revision, age, endpoints, errors; or confirm a replaced controller
    Source(source::Verb),
    /// Show the state of every port, the instance it is bound to, which source decided that, and why if it is not bound
    Ports(Form),
    /// Show packets by verdict and drop reason, per tap
    Counters(counters::Verb),
    /// Show what is unusual about guests' traffic, per instance: forwarded headers, foreign hosts, scans, spoofed packets
    Anomalies(anomalies::Verb),
    /// Show each guest's last boot: when its link came up, what it requested, and why it stopped; with a UUID, every request in order
    Boots(boots::Verb),
    /// Show what each instance's policy allows, who comes without a session token, and what root-only reading would refuse
    Access(access::Verb),
    /// Show taps, requests, latency and drops as they change, until q is pressed
    Top(top::Verb),
    /// Show what becomes of each metadata packet of one tap, until interrupted
    Trace(trace::Verb),
    /// Print what a guest reads at a path, through the service that answers guests; it does not count as the guest's request
    Get(get::Verb),
    /// Show what an instance's guest wrote for its operator, such as its SSH host keys
    GuestAttributes(guest_attributes::Verb),
    /// Print the public keys that the node signs with, for whoever verifies what instances prove: a JSON Web Key set
    Jwks,
    /// Write an instance's config drive, as an image or a directory: the files that Nova puts there, from what the daemon answers the guest,
    /// or from a document
    ConfigDrive(config_drive::Verb),
    /// Wait until an instance can be answered: its content has arrived, and those of its taps that exist are bound
    Wait(wait::Verb),
    /// List, read, change and delete documents, in the directory or in etcd; read or clear a posted password
    #[command(subcommand, disable_help_subcommand = true)]
    Instance(instance::Verb),
    /// Check each step of a guest's request, for one port or all, and name each problem with its remedy. It changes nothing, and also works
    /// while the daemon is down
    Doctor(doctor::Verb),
    /// Run the controller, which keeps the documents of all nodes in etcd in step with an OpenStack; or ask one that runs
    #[cfg(feature = "etcd")]
    #[command(subcommand, disable_help_subcommand = true)]
    Controller(controller::Verb),
    /// Verify, export or import the content that the node keeps on disk
    #[command(subcommand, disable_help_subcommand = true)]
    Snapshot(snapshot::Verb),
    /// Validate the configuration and the files that it names, and list settings that have no effect
    CheckConfig,
    /// Take the programs off every tap, so that guests' requests go on to the network: no request is lost, and the daemon stays as it is until
    /// it is stopped or started again. Where none runs, remove every program, map and pin from this node, and the responder's namespace;
    /// the snapshot and its key are kept, and listed
    Detach(Form),
    /// Print the JSON Schema of instance documents or of the configuration, an example configuration, or its reference
    Schema(schema::Verb),
}

/// How the daemon starts.
#[derive(Clone, Copy, Debug, Args)]
struct Run {
    /// Take over sockets and ports from a running daemon, without losing a request. The other daemon finishes its connections and exits; if
    /// this one fails before it answers guests, the other continues
    #[arg(long)]
    take_over: bool,
}

/// How a list is printed.
#[derive(Clone, Copy, Debug, Args)]
struct Form {
    /// Print JSON as the admin API gives it
    #[arg(long)]
    json: bool,
}

/// Returns the command line as its manual pages and completions are made of it.
#[must_use]
pub fn command() -> clap::Command {
    Cli::command()
}

/// Runs the command line and returns the exit status.
pub fn main(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let mut out = io::stdout().lock();
    let result = execute(arguments, &mut out, &mut io::stderr()).and_then(|code| match out.flush() {
        Ok(()) => Ok(code),
        Err(error) => Err(error.into()),
    });
    match result {
        Ok(code) => code.into(),
        Err(CliError::Output(error)) if error.kind() == io::ErrorKind::BrokenPipe => exit::OK.into(),
        Err(error) => {
            // A closed standard error leaves nowhere to report to.
            let _ = writeln!(io::stderr(), "metadatad: {}", error.message());
            error.exit().into()
        }
    }
}

/// Runs a command line, and returns the exit status. `notes` takes remarks that are not the output.
fn execute(
    arguments: impl IntoIterator<Item = OsString>,
    out: &mut dyn Write,
    notes: &mut dyn Write,
) -> Result<u8, CliError> {
    let cli = match Cli::try_parse_from(arguments) {
        Ok(cli) => cli,
        Err(help) if !help.use_stderr() => {
            write!(out, "{}", help.render())?;
            return Ok(exit::OK);
        }
        Err(error) => {
            // As above.
            let _ = error.print();
            return Ok(exit::USAGE);
        }
    };
    let uses_socket = match &cli.verb {
        Verb::Run(_) | Verb::Prepare | Verb::CheckConfig | Verb::Schema(_) => false,
        Verb::Snapshot(verb) => matches!(verb, snapshot::Verb::Import(_)),
        #[cfg(feature = "etcd")]
        Verb::Controller(verb) => verb.uses_socket(),
        Verb::ConfigDrive(verb) => verb.needs_daemon(),
        Verb::Instance(verb) => matches!(verb, instance::Verb::Password(_) | instance::Verb::UserData(_)),
        _ => true,
    };
    if cli.socket.is_some() && !uses_socket {
        return Err(CliError::SocketUnused);
    }
    let config = cli.config.as_deref().unwrap_or(Path::new(CONFIG_PATH));
    let client = |notes: &mut dyn Write| Ok::<_, CliError>(Client::new(&socket(cli.socket.as_deref(), config, notes)?));
    match cli.verb {
        Verb::Run(Run { take_over }) => {
            app::run(&ConfigFile::load(config)?, take_over).map(|()| exit::OK).map_err(CliError::from)
        }
        Verb::Prepare => prepare::execute(&Config::load(config)?),
        Verb::Status(verb) => verb.execute(&client(notes)?, out),
        Verb::Source(verb) => verb.execute(&client(notes)?, out),
        Verb::Ports(form) => ports::execute(form, &client(notes)?, out),
        Verb::Counters(verb) => verb.execute(&client(notes)?, out),
        Verb::Anomalies(verb) => verb.execute(&client(notes)?, out),
        Verb::Boots(verb) => verb.execute(&client(notes)?, out),
        Verb::Access(verb) => verb.execute(&client(notes)?, out),
        Verb::Top(verb) => verb.execute(&client(notes)?, out),
        Verb::Trace(verb) => verb.execute(&client(notes)?, out),
        Verb::Get(verb) => verb.execute(&client(notes)?, out, notes),
        Verb::GuestAttributes(verb) => verb.execute(&client(notes)?, out),
        Verb::Jwks => jwks::execute(&client(notes)?, out),
        Verb::ConfigDrive(verb) => verb.execute(cli.config.as_deref(), || client(notes)),
        Verb::Wait(verb) => verb.execute(&client(notes)?, out),
        Verb::Doctor(verb) => verb.execute(config, cli.socket, out),
        Verb::Instance(instance::Verb::Validate(verb)) => verb.execute(out),
        Verb::Instance(instance::Verb::Password(verb)) => verb.execute(&client(notes)?, out),
        Verb::Instance(instance::Verb::UserData(verb)) => verb.execute(&client(notes)?, out),
        Verb::Instance(instance::Verb::Document(verb)) => verb.execute(&source_table(config, notes)?, out),
        #[cfg(feature = "etcd")]
        Verb::Controller(verb) => verb.execute(cli.config.as_deref(), cli.socket, out, notes),
        Verb::Snapshot(verb) => {
            let config = Config::load(config)?;
            let socket = cli.socket.as_deref().unwrap_or(&config.admin.socket);
            verb.execute(&config, socket, out)
        }
        Verb::CheckConfig => check_config::execute(config, &Config::load(config)?, out),
        Verb::Detach(form) => {
            let target = detach::Target::of(config, cli.socket, notes)?;
            detach::execute(&target, form, out)
        }
        Verb::Schema(verb) => verb.execute(out),
    }
}

/// Returns the admin socket: the one given, else the configuration's as far as that can be read, else the default.
fn socket(given: Option<&Path>, config: &Path, notes: &mut dyn Write) -> Result<PathBuf, CliError> {
    if let Some(socket) = given {
        return Ok(socket.to_owned());
    }
    let partial = Partial::load(config);
    let (socket, origin) = match partial.socket() {
        Some(socket) => (socket, "as far as it can be read"),
        None => (Config::default().admin.socket, "the default"),
    };
    if let Some(error) = partial.error() {
        note(notes, error, &format!("using the socket {}, {origin}", socket.display()))?;
    }
    Ok(socket)
}

/// Returns where documents are kept, which is all of the configuration that commands on them need.
fn source_table(config: &Path, notes: &mut dyn Write) -> Result<crate::config::Source, CliError> {
    let partial = Partial::load(config);
    let source = partial.source();
    match (source, partial.into_error()) {
        (Some(source), None) => Ok(source),
        (Some(source), Some(error)) => {
            note(notes, &error, "using its [source], which is accepted")?;
            Ok(source)
        }
        (None, Some(error)) => Err(error.into()),
        (None, None) => Ok(Config::load(config)?.source),
    }
}

/// Writes a remark about a configuration that is not accepted.
fn note(notes: &mut dyn Write, error: &ConfigError, consequence: &str) -> Result<(), CliError> {
    Ok(writeln!(notes, "metadatad: warning: {}; {consequence}", crate::error_text::chain(error))?)
}

/// Prints a value as JSON.
fn print_json(value: &impl serde::Serialize, out: &mut dyn Write) -> Result<(), CliError> {
    serde_json::to_writer_pretty(&mut *out, value).map_err(|error| CliError::Output(error.into()))?;
    writeln!(out)?;
    Ok(())
}

#[cfg(test)]
mod tests;
