//! `metadatad boots`.

use std::io::Write;

use super::error::CliError;
use super::lines::{self, ago};
use super::selection::Selection;
use super::table::{self, plain};
use super::{converse, exit, print_json};
use crate::admin::client::Client;
use crate::admin::wire::{BootRead, BootShown, PortBoots};

#[derive(Debug, clap::Args)]
#[command(mut_arg("instance", |argument| argument.help("Only this instance, with every request of its guest")))]
pub(super) struct Verb {
    #[command(flatten)]
    selection: Selection,
}

impl Verb {
    pub(super) fn execute(&self, client: &Client, out: &mut dyn Write) -> Result<u8, CliError> {
        let ports = converse(async { Ok(client.boots().await?) })?;
        let ports = self.selection.find(ports, |port| port.instance.as_deref())?;
        if self.selection.json() {
            print_json(&ports, out)?;
        } else if self.selection.is_one() {
            for port in &ports {
                out.write_all(timeline(port).as_bytes())?;
            }
        } else {
            print(&ports, out)?;
        }
        Ok(exit::OK)
    }
}

fn print(ports: &[PortBoots], out: &mut dyn Write) -> Result<(), CliError> {
    let now = lines::now();
    let mut rows = Vec::new();
    for port in ports {
        let Some(boot) = port.boots.first() else { continue };
        let since = |at: Option<u64>| at.map(|at| format!("{} ago", ago(now, at / 1000))).unwrap_or_default();
        let client = boot.reads.iter().find_map(|read| read.client.clone());
        rows.push([
            port.instance.clone().unwrap_or_default(),
            port.tap.clone().unwrap_or_else(|| "(gone)".to_owned()),
            boot.outcome.clone(),
            since(start(boot)),
            since(boot.last_at),
            boot.requests.to_string(),
            client.unwrap_or_default(),
            boot.reason.clone(),
        ]);
    }
    let head = ["INSTANCE", "TAP", "OUTCOME", "BEGAN", "LAST", "REQUESTS", "CLIENT", "REASON"];
    Ok(table::print(head, &rows, out)?)
}

/// Returns when a boot began, as far as that is known.
fn start(boot: &BootShown) -> Option<u64> {
    boot.link_up_at.or(boot.asked_at).or(boot.connected_at)
}

/// Returns the boots of a port with every request, each with the time since the boot began.
fn timeline(port: &PortBoots) -> String {
    let name = |name: &Option<String>| plain(name.as_deref().unwrap_or("(gone)"));
    let mut text = format!("instance {}, tap {}\n", name(&port.instance), name(&port.tap));
    for (place, boot) in port.boots.iter().enumerate() {
        let which = if place == 0 { "last boot" } else { "previous boot" };
        let reason = if boot.reason.is_empty() { String::new() } else { format!(": {}", boot.reason) };
        text += &format!("{which}: {}{}\n", plain(&boot.outcome), plain(&reason));
        let Some(start) = start(boot) else { continue };
        let mut events: Vec<(u64, String)> = Vec::new();
        events.extend(boot.link_up_at.map(|at| (at, "link up".to_owned())));
        events.extend(boot.asked_at.map(|at| (at, "asked for the service's MAC (to the second)".to_owned())));
        events.extend(boot.connected_at.map(|at| (at, "first connection".to_owned())));
        events.extend(boot.reads.iter().map(|read| (read.at, of(read))));
        events.extend(boot.last_at.map(|at| (at, format!("last of {} requests", boot.requests))));
        events.sort_by_key(|(at, _)| *at);
        for (at, what) in events {
            let after = at.saturating_sub(start);
            text += &format!("  {:>5}.{:03} s  {}\n", after / 1000, after % 1000, plain(&what));
        }
        if boot.left_out > 0 {
            text += &format!("  {} requests for other paths are not shown\n", boot.left_out);
        }
    }
    text
}

fn of(read: &BootRead) -> String {
    let status = read.status.map_or_else(|| "no answer".to_owned(), |status| status.to_string());
    let times = if read.count > 1 { format!(", {} times", read.count) } else { String::new() };
    let client = read.client.as_ref().map(|client| format!("  {client}")).unwrap_or_default();
    format!("{} ({status}{times}){client}", read.path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_timeline_begins_with_the_boot() {
        let read = |path: &str, at, count, status| BootRead {
            path: path.to_owned(),
            at,
            last_at: at,
            count,
            status,
            client: Some("cloud-init/24.1".to_owned()),
        };
        let boot = BootShown {
            outcome: "complete".to_owned(),
            began: "link".to_owned(),
            link_up_at: Some(10_000),
            asked_at: Some(12_000),
            connected_at: Some(12_345),
            last_at: Some(14_000),
            requests: 3,
            left_out: 2,
            reads: vec![read("/openstack", 12_400, 2, Some(200)), read("/a\u{1b}", 13_000, 1, None)],
            ..BootShown::default()
        };
        let port = PortBoots { instance: Some("i".to_owned()), tap: None, boots: vec![boot] };
        let expected = "instance i, tap (gone)\nlast boot: complete\n      0.000 s  link up\n      \
                        2.000 s  asked for the service's MAC (to the second)\n      2.345 s  first connection\n      \
                        2.400 s  /openstack (200, 2 times)  cloud-init/24.1\n      \
                        3.000 s  /a\u{fffd} (no answer)  cloud-init/24.1\n      4.000 s  last of 3 requests\n  \
                        2 requests for other paths are not shown\n";
        assert_eq!(timeline(&port), expected);
    }
}
