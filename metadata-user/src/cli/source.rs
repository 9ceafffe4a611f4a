//! `metadatad source`.

use std::io::Write;

use super::error::CliError;
use super::lines::{self, Lines, ago};
use super::{Form, converse, exit, print_json};
use crate::admin::client::Client;
use crate::admin::wire::Source;

/// Unconfirmed instances that are named; the others are counted.
const NAMED: usize = 20;

#[derive(Debug, clap::Args)]
pub(super) struct Verb {
    #[command(flatten)]
    form: Form,

    #[command(subcommand)]
    action: Option<Action>,
}

#[derive(Debug, clap::Subcommand)]
enum Action {
    /// Confirm that a replaced or restored controller is authoritative: stop serving the instances that it lacks
    Accept(Form),
}

impl Verb {
    pub(super) fn execute(&self, client: &Client, out: &mut dyn Write) -> Result<u8, CliError> {
        if let Some(Action::Accept(form)) = &self.action {
            let accepted = converse(async { Ok(client.accept_source().await?) })?;
            if form.json || self.form.json {
                print_json(&accepted, out)?;
            } else {
                writeln!(out, "accepted; {} instances are no longer served", accepted.removed)?;
            }
            return Ok(exit::OK);
        }
        let source = converse(async { Ok(client.source().await?) })?;
        if self.form.json {
            print_json(&source, out)?;
        } else {
            out.write_all(describe(&source, lines::now()).as_bytes())?;
        }
        Ok(exit::OK)
    }
}

fn describe(source: &Source, now: u64) -> String {
    let mut lines = Lines::default();
    lines::place(source, &mut lines);
    lines.line("state", &state(source, now));
    lines.line("read", &since(source.synced_at, now));
    lines.line("changed", &since(source.changed_at, now));
    if let Some(revision) = source.revision {
        lines.line("revision", &revision.to_string());
    }
    if let Some(cluster) = &source.cluster {
        lines.line("cluster", cluster);
    }
    lines.line("re-read", &format!("{} times since the start", source.resyncs));
    for endpoint in &source.endpoints {
        lines::endpoint(endpoint, now, &mut lines);
    }
    documents(source, &mut lines);
    lines.into_text()
}

fn state(source: &Source, now: u64) -> String {
    match (source.lagging_since, source.synced_at) {
        (Some(at), _) => format!("behind for {}", ago(now, at)),
        (None, Some(_)) => "up to date".to_owned(),
        (None, None) => "not read yet".to_owned(),
    }
}

fn since(at: Option<u64>, now: u64) -> String {
    at.map_or("never".to_owned(), |at| format!("{} ago", ago(now, at)))
}

fn documents(source: &Source, lines: &mut Lines) {
    let (broken, unconfirmed) = (source.broken.len(), source.unconfirmed.len());
    let instances = source.instances;
    lines.line("documents", &format!("{instances} instances, {broken} broken, {unconfirmed} unconfirmed"));
    lines::error(source.error.as_ref(), lines);
    lines::broken(&source.broken, lines);
    for instance in source.unconfirmed.iter().take(NAMED) {
        lines.line("unconfirmed", instance);
    }
    if unconfirmed > NAMED {
        lines.more(&format!("and {} more: --json shows all", unconfirmed - NAMED));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admin::wire::{Broken, Endpoint};

    #[test]
    fn every_line_of_a_source_is_printed() {
        let endpoint = Endpoint { url: "http://a:1".to_owned(), answered_at: Some(90), ..Endpoint::default() };
        let source = Source {
            kind: "etcd".to_owned(),
            place: "/metadatad/nodes/n/instances/".to_owned(),
            synced_at: Some(40),
            instances: 2,
            broken: vec![Broken {
                name: "/k".to_owned(),
                problem: "not so".to_owned(),
                serves_last_good: true,
                ..Broken::default()
            }],
            error: Some("etcd is another one".to_owned()),
            lagging_since: Some(98),
            revision: Some(7),
            cluster: Some("ab".to_owned()),
            endpoints: vec![
                Endpoint { in_use: true, ..endpoint.clone() },
                Endpoint { failing_since: Some(95), error: Some("dead".to_owned()), answered_at: None, ..endpoint },
            ],
            resyncs: 1,
            unconfirmed: vec!["u".to_owned()],
            ..Source::default()
        };
        assert_eq!(
            describe(&source, 100),
            "source       etcd /metadatad/nodes/n/instances/\n\
             state        behind for 2 s\n\
             read         60 s ago\n\
             changed      never\n\
             revision     7\n\
             cluster      ab\n\
             re-read      1 times since the start\n\
             endpoint     http://a:1 in use, answered 10 s ago\n\
             endpoint     http://a:1 not in use, never answered\n  \
               failing    for 5 s: dead\n\
             documents    2 instances, 1 broken, 1 unconfirmed\n  \
               error      etcd is another one\n  \
               broken     /k: not so; its last valid version is served\n\
             unconfirmed  u\n"
        );
    }
}
