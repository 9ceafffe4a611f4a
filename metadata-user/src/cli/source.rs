//! `metadatad source`.

use std::io::Write;
use std::time::{SystemTime, UNIX_EPOCH};

use super::error::CliError;
use super::status::ago;
use super::table::plain;
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
    /// The controller that is there now is the right one: stop serving the instances that it lacks
    Accept(Form),
}

impl Verb {
    pub(super) fn execute(&self, client: &Client, out: &mut dyn Write) -> Result<u8, CliError> {
        if let Some(Action::Accept(form)) = &self.action {
            let accepted = converse(async { Ok(client.accept_source().await?) })?;
            if form.json || self.form.json {
                print_json(&accepted, out)?;
            } else {
                writeln!(out, "accepted; {} instances are not served any more", accepted.removed)?;
            }
            return Ok(exit::OK);
        }
        let source = converse(async { Ok(client.source().await?) })?;
        if self.form.json {
            print_json(&source, out)?;
        } else {
            let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
            out.write_all(describe(&source, now).as_bytes())?;
        }
        Ok(exit::OK)
    }
}

fn describe(source: &Source, now: u64) -> String {
    let mut text = String::new();
    let mut line = |name: &str, value: &str| text += &format!("{name:<12} {}\n", plain(value));
    let since = |at: Option<u64>| at.map_or("never".to_owned(), |at| format!("{} ago", ago(now, at)));
    line("source", &format!("{} {}", source.kind, source.place));
    match (source.lagging_since, source.synced_at) {
        (Some(at), _) => line("state", &format!("not followed for {}", ago(now, at))),
        (None, Some(_)) => line("state", "in step"),
        (None, None) => line("state", "not read yet"),
    }
    line("synced", &since(source.synced_at));
    line("changed", &since(source.changed_at));
    if let Some(revision) = source.revision {
        line("revision", &revision.to_string());
    }
    if let Some(cluster) = &source.cluster {
        line("cluster", cluster);
    }
    let (broken, unconfirmed) = (source.broken.len(), source.unconfirmed.len());
    line("documents", &format!("{} instances, {broken} broken, {unconfirmed} unconfirmed", source.instances));
    line("resyncs", &source.resyncs.to_string());
    for endpoint in &source.endpoints {
        let used = if endpoint.in_use { "in use" } else { "not in use" };
        line("endpoint", &format!("{} {used}, answered {}", endpoint.url, since(endpoint.answered_at)));
        if let (Some(at), Some(error)) = (endpoint.failing_since, &endpoint.error) {
            line("  failing", &format!("for {}: {error}", ago(now, at)));
        }
    }
    if let Some(error) = &source.error {
        line("error", error);
    }
    for broken in &source.broken {
        let kept = if broken.serves_last_good { "; its last good version is served" } else { "" };
        line("broken", &format!("{}: {}{kept}", broken.name, broken.problem));
    }
    for instance in source.unconfirmed.iter().take(NAMED) {
        line("unconfirmed", instance);
    }
    if unconfirmed > NAMED {
        line("", &format!("and {} more: --json shows all", unconfirmed - NAMED));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admin::wire::{Broken, Endpoint};

    #[test]
    fn a_source_is_told_in_words() {
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
             state        not followed for 2 s\n\
             synced       60 s ago\n\
             changed      never\n\
             revision     7\n\
             cluster      ab\n\
             documents    2 instances, 1 broken, 1 unconfirmed\n\
             resyncs      1\n\
             endpoint     http://a:1 in use, answered 10 s ago\n\
             endpoint     http://a:1 not in use, answered never\n  \
               failing    for 5 s: dead\n\
             error        etcd is another one\n\
             broken       /k: not so; its last good version is served\n\
             unconfirmed  u\n"
        );
    }
}
