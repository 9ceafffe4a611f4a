//! `metadatad get`: what a guest would read, through the service that answers guests.
//!
//! Promises: a body is printed unchanged; one that may hold a secret only with `--secrets`, for users who may change things. The
//! guest's switches and counters do not change.

use std::io::Write;

use super::error::CliError;
use super::{converse, exit};
use crate::admin::client::Client;
use crate::admin::preview::{GuestAnswer, GuestRequest};

#[derive(Debug, clap::Args)]
#[expect(clippy::struct_excessive_bools, reason = "each is a flag of the command line")]
pub(super) struct Verb {
    /// The instance: its UUID, the name of its tap, or its host name
    #[arg(value_name = "INSTANCE")]
    instance: String,

    /// The path, for example /openstack/latest/meta_data.json
    #[arg(value_name = "PATH")]
    path: String,

    /// Print status and headers before the body
    #[arg(short, long)]
    include: bool,

    /// Print only status and headers; the request is a HEAD
    #[arg(short = 'I', long)]
    head: bool,

    /// Print a body that may hold secrets, such as meta_data.json, user data or a password
    #[arg(long)]
    secrets: bool,

    /// Ask over IPv6
    #[arg(short = '6', long)]
    ipv6: bool,

    /// Ask as an unprivileged process of the guest, from a source port of 1024 or above
    #[arg(long)]
    unprivileged: bool,

    /// Ask without a session token
    #[arg(long)]
    without_token: bool,
}

impl Verb {
    pub(super) fn execute(&self, client: &Client, out: &mut dyn Write, notes: &mut dyn Write) -> Result<u8, CliError> {
        let asked = GuestRequest {
            instance: self.instance.clone(),
            path: self.path.clone(),
            head: self.head,
            over_ipv6: self.ipv6,
            unprivileged: self.unprivileged,
            without_token: self.without_token,
        };
        let answer = converse(async { Ok(client.preview(&asked, self.secrets).await?) })?;
        self.print(&answer, out, notes)
    }

    fn print(&self, answer: &GuestAnswer, out: &mut dyn Write, notes: &mut dyn Write) -> Result<u8, CliError> {
        let Some(body) = &answer.body else { return Err(CliError::BodyWithheld(self.path.clone())) };
        let is_ok = answer.status() == Some(200);
        if self.include || self.head {
            out.write_all(answer.head.as_bytes())?;
        } else if !is_ok {
            writeln!(notes, "metadatad: the guest gets {}", answer.status_line())?;
        }
        out.write_all(body)?;
        Ok(if is_ok { exit::OK } else { exit::NOT_WELL })
    }
}
