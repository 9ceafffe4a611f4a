//! The command line `metadatad`: a verb per file.
//!
//! Promises: what a verb prints goes to standard output and nothing else does; an error is one line that names the
//! thing and the remedy, and an exit status of [`exit`] that a service manager can act on; a reader that goes away
//! ends a verb without noise.

mod check_config;
mod counters;
mod detach;
mod error;
pub mod exit;
mod instance;
mod ports;
mod schema;
mod source;
mod status;
mod table;
mod trace;

use std::ffi::OsString;
use std::future::Future;
use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};

use crate::admin::client::Client;
use crate::app;
use crate::config::{CONFIG_PATH, Config};

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

    /// The configuration
    #[arg(long, global = true, value_name = "PATH", default_value = CONFIG_PATH)]
    config: PathBuf,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Run the daemon, until SIGTERM or SIGINT; requests in flight are finished first
    Run,
    /// Show how the daemon is doing: readiness, source with its broken documents, ports, connections
    Status(status::Verb),
    /// Show where documents come from: revision, age, endpoints, errors; or accept another controller
    Source(source::Verb),
    /// List the ports: whose each is, and why not where it is nobody's
    Ports(Form),
    /// Count each port's packets, by verdict and drop reason
    Counters(counters::Verb),
    /// Show what the programs decide about a port's packets, until interrupted
    Trace(trace::Verb),
    /// List, read, change and delete documents where the source keeps them: in the directory, or in etcd
    #[command(subcommand, disable_help_subcommand = true)]
    Instance(instance::Verb),
    /// Check a configuration, with what it names, and change nothing
    CheckConfig,
    /// Take every program, map and pin off this node, and the responder's namespace; the daemon must not run. The
    /// snapshot and its key stay, and are named
    Detach,
    /// Print the JSON Schema of instance documents or of the configuration, or an example configuration
    Schema(schema::Verb),
}

/// How a list is printed.
#[derive(Clone, Copy, Debug, Args)]
struct Form {
    /// Print JSON as the admin API gives it
    #[arg(long)]
    json: bool,
}

/// Runs the command line and returns the exit status.
pub fn main(words: impl IntoIterator<Item = OsString>) -> ExitCode {
    let mut out = io::stdout().lock();
    let result = execute(words, &mut out).and_then(|code| match out.flush() {
        Ok(()) => Ok(code),
        Err(error) => Err(error.into()),
    });
    match result {
        Ok(code) => code.into(),
        Err(CliError::Output(error)) if error.kind() == io::ErrorKind::BrokenPipe => exit::OK.into(),
        Err(error) => {
            // Without a standard error there is nobody to tell.
            let _ = writeln!(io::stderr(), "metadatad: {}", error.told());
            error.exit().into()
        }
    }
}

/// Does what the words say, and returns the exit status.
fn execute(words: impl IntoIterator<Item = OsString>, out: &mut dyn Write) -> Result<u8, CliError> {
    let cli = match Cli::try_parse_from(words) {
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
    match &cli.verb {
        Verb::Schema(verb) => return verb.execute(out),
        Verb::Instance(instance::Verb::Validate(verb)) => return verb.execute(out),
        _ => {}
    }
    let config = Config::load(&cli.config)?;
    let client = Client::new(&config.admin.socket);
    match cli.verb {
        Verb::Run => app::run(&config).map(|()| exit::OK).map_err(CliError::from),
        Verb::Status(verb) => verb.execute(&client, out),
        Verb::Source(verb) => verb.execute(&client, out),
        Verb::Ports(form) => ports::execute(form, &client, out),
        Verb::Counters(verb) => verb.execute(&client, out),
        Verb::Trace(verb) => verb.execute(&client, out),
        Verb::Instance(verb) => verb.execute(&config.source, out),
        Verb::CheckConfig => check_config::execute(&cli.config, &config, out),
        Verb::Detach => detach::execute(&config, &client, out),
        Verb::Schema(verb) => verb.execute(out),
    }
}

/// Runs one conversation with the daemon.
fn converse<T>(conversation: impl Future<Output = Result<T, CliError>>) -> Result<T, CliError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(CliError::Runtime)?;
    runtime.block_on(conversation)
}

/// Prints a value as JSON.
fn print_json(value: &impl serde::Serialize, out: &mut dyn Write) -> Result<(), CliError> {
    serde_json::to_writer_pretty(&mut *out, value).map_err(|error| CliError::Output(error.into()))?;
    writeln!(out)?;
    Ok(())
}

#[cfg(test)]
mod tests;
