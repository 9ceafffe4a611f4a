//! `metadatad access`: what policies allow, and what guests ask for that a stricter policy would refuse.
//!
//! Promises: no token is shown; a `User-Agent` is, escaped: the guest chooses it.

use std::io::Write;

use super::error::CliError;
use super::lines::{ago, now};
use super::selection::Selection;
use super::{converse, exit, print_json, table};
use crate::admin::client::Client;
use crate::admin::wire::InstanceAccess;

#[derive(Debug, clap::Args)]
#[command(mut_arg("instance", |argument| {
    argument.help("Only this instance, with the clients that come without a session token")
}))]
pub(super) struct Verb {
    #[command(flatten)]
    selection: Selection,
}

impl Verb {
    pub(super) fn execute(&self, client: &Client, out: &mut dyn Write) -> Result<u8, CliError> {
        let all = converse(async { Ok(client.access().await?) })?;
        let all = self.selection.find(all, |access| Some(&access.instance))?;
        if self.selection.json() {
            print_json(&all, out)?;
            return Ok(exit::OK);
        }
        print(&all, out)?;
        if self.selection.is_one() {
            for access in &all {
                print_clients(access, now(), out)?;
            }
        }
        Ok(exit::OK)
    }
}

fn print(all: &[InstanceAccess], out: &mut dyn Write) -> Result<(), CliError> {
    let head = ["INSTANCE", "SESSION", "ISSUED", "WITH", "WITHOUT", "WRONG", "ROOT-ONLY", "HIGH-PORTS", "REFUSED"];
    let rows: Vec<_> = all
        .iter()
        .map(|access| {
            let high = access.unprivileged.iter().filter(|(_, count)| **count > 0);
            [
                access.instance.clone(),
                access.session.clone(),
                access.tokens_issued.to_string(),
                access.with_token.to_string(),
                access.without_token.to_string(),
                access.refused_token.to_string(),
                access.privileged.join(","),
                high.map(|(name, count)| format!("{name}={count}")).collect::<Vec<_>>().join(","),
                access.refused_unprivileged.to_string(),
            ]
        })
        .collect();
    Ok(table::print(head, &rows, out)?)
}

fn print_clients(access: &InstanceAccess, now: u64, out: &mut dyn Write) -> Result<(), CliError> {
    if access.clients.is_empty() {
        return Ok(());
    }
    let rows: Vec<_> = access
        .clients
        .iter()
        .map(|client| {
            let last = format!("{} ago", ago(now, client.last_seen));
            [client.user_agent.clone(), client.requests.to_string(), last]
        })
        .collect();
    writeln!(out)?;
    table::print(["CLIENT WITHOUT A TOKEN", "REQUESTS", "LAST"], &rows, out)?;
    if access.clients_forgotten > 0 {
        writeln!(out, "{} others are not shown", access.clients_forgotten)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admin::Inspect as _;
    use crate::admin::server::tests::Sample;

    #[test]
    fn what_would_be_refused_is_printed_with_who_asks() {
        let all = Sample.access();
        let mut out = Vec::new();
        print(&all, &mut out).expect("printed");
        print_clients(&all[0], 1_700_000_060, &mut out).expect("printed");
        assert_eq!(
            String::from_utf8(out).expect("text"),
            "INSTANCE                              SESSION   ISSUED  WITH  WITHOUT  WRONG  ROOT-ONLY  HIGH-PORTS               REFUSED\n\
             11111111-0000-0000-0000-000000000001  optional  3       4     5        6      user_data  everything=9,password=1  2\n\
             \n\
             CLIENT WITHOUT A TOKEN  REQUESTS  LAST\n\
             Ohai                    4         60 s ago\n\
             -                       1         17 min ago\n\
             7 others are not shown\n"
        );
    }
}
