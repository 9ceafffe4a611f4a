//! `metadatad instance user-data`: when a guest first read its user data, in the running daemon.
//!
//! Promises: the user data itself is not printed; after `reset` the guest may read it as in its first boot.

use std::io::Write;

use crate::admin::client::Client;
use crate::admin::wire::UserData;
use crate::cli::error::CliError;
use crate::cli::lines::{last, now};
use crate::cli::{Form, converse, exit, print_json};
use crate::record::InstanceId;

/// What is done about user data.
#[derive(Debug, clap::Subcommand)]
pub(in crate::cli) enum Verb {
    /// Print when the guest first read its user data
    Show(Of),
    /// Let the guest read its user data as in its first boot, where `access.user_data` or its document says `first-boot`
    Reset(Of),
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
            Self::Show(of) => {
                let user_data = converse(async { Ok(client.user_data(of.uuid).await?) })?;
                of.print(&user_data, out, |out| {
                    writeln!(out, "{}: {}", of.uuid, last("first read", user_data.read_at, now()))
                })
            }
            Self::Reset(of) => {
                let user_data = converse(async { Ok(client.reset_user_data(of.uuid).await?) })?;
                of.print(&user_data, out, |out| writeln!(out, "{}: reset; the guest may read its user data", of.uuid))
            }
        }
    }
}

impl Of {
    fn print(
        &self,
        user_data: &UserData,
        out: &mut dyn Write,
        text: impl FnOnce(&mut dyn Write) -> std::io::Result<()>,
    ) -> Result<u8, CliError> {
        if self.form.json {
            print_json(user_data, out)?
        } else {
            text(out)?
        }
        Ok(exit::OK)
    }
}
