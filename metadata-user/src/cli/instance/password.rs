//! `metadatad instance password`: what a guest posted as its password, in the running daemon.
//!
//! Promises: a password is printed by `get --secrets` and nowhere else; after `clear` the guest may post another.

use std::io::Write;

use crate::admin::client::Client;
use crate::admin::wire::Password;
use crate::cli::error::CliError;
use crate::cli::{Form, converse, exit, print_json};
use crate::record::InstanceId;

/// What is done with a password.
#[derive(Debug, clap::Subcommand)]
pub(in crate::cli) enum Verb {
    /// Say whether a guest posted a password; with --secrets print it, as it was posted. Exit status 66 if there is none
    Get {
        #[command(flatten)]
        of: Of,

        /// Print the password itself
        #[arg(long)]
        secrets: bool,
    },
    /// Clear the password that a guest posted, so that it may post another
    Clear(Of),
}

#[derive(Debug, clap::Args)]
pub(in crate::cli) struct Of {
    /// The instance
    uuid: InstanceId,
    #[command(flatten)]
    form: Form,
}

impl Verb {
    pub(in crate::cli) fn execute(&self, client: &Client, out: &mut dyn Write) -> Result<u8, CliError> {
        match self {
            Self::Get { of, secrets } => {
                let password = converse(async {
                    Ok(if *secrets { client.password_secret(of.uuid).await? } else { client.password(of.uuid).await? })
                })?;
                of.print(&password, out, |out| match &password.password {
                    Some(text) => writeln!(out, "{text}"),
                    None if password.is_set => writeln!(out, "{}: has a password; --secrets prints it", of.uuid),
                    None => Ok(()),
                })?;
                Ok(if password.is_set { exit::OK } else { exit::ABSENT })
            }
            Self::Clear(of) => {
                let password = converse(async { Ok(client.clear_password(of.uuid).await?) })?;
                of.print(&password, out, |out| {
                    writeln!(out, "{}: cleared; the guest may post another password", of.uuid)
                })?;
                Ok(exit::OK)
            }
        }
    }
}

impl Of {
    fn print(
        &self,
        password: &Password,
        out: &mut dyn Write,
        text: impl FnOnce(&mut dyn Write) -> std::io::Result<()>,
    ) -> Result<(), CliError> {
        if self.form.json { print_json(password, out) } else { text(out).map_err(CliError::from) }
    }
}
