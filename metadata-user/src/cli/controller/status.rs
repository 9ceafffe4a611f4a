//! `metadatad controller status`.

use std::io::Write;

use crate::admin::controller::ControllerClient;
use crate::admin::wire::ControllerStatus;
use crate::cli::error::CliError;
use crate::cli::lines::{Lines, ago, counted, failing, last, now};
use crate::cli::{Form, converse, exit, print_json};

#[derive(Debug, clap::Args)]
pub(in crate::cli) struct Verb {
    #[command(flatten)]
    form: Form,

    /// Exit with status 1 while something is wrong
    #[arg(long)]
    check: bool,
}

impl Verb {
    pub(super) fn execute(&self, client: &ControllerClient, out: &mut dyn Write) -> Result<u8, CliError> {
        let status = converse(async { Ok(client.status().await?) })?;
        if self.form.json {
            print_json(&status, out)?;
        } else {
            out.write_all(describe(&status, now()).as_bytes())?;
        }
        Ok(if self.check && !status.problems.is_empty() { exit::NOT_WELL } else { exit::OK })
    }
}

fn describe(status: &ControllerStatus, now: u64) -> String {
    let mut lines = Lines::default();
    let up = ago(now, status.started_at);
    lines
        .line("controller", &format!("{} {}, version {}, started {up} ago", status.name, status.state, status.version));
    lines.line(
        "leader",
        &status
            .leader
            .as_ref()
            .map_or("none".to_owned(), |leader| format!("{} for {}", leader.name, ago(now, leader.since))),
    );
    for problem in &status.problems {
        lines.line("problem", problem);
    }
    let etcd = &status.etcd;
    lines.line(
        "etcd",
        &format!(
            "{}: {} written, {} unchanged, {} removed, {} failed",
            etcd.place, etcd.documents, etcd.unchanged, etcd.removed, etcd.failed
        ),
    );
    failing(etcd.failing_since, etcd.error.as_ref(), now, &mut lines);
    for service in &status.services {
        let counts =
            format!("{} requests, {} failed, {} under way", service.reads, service.failures, service.in_flight);
        lines.line(&service.name, &format!("{}: {counts}", service.place));
        failing(service.failing_since, service.error.as_ref(), now, &mut lines);
    }
    match &status.notifications {
        None => lines.line("rabbitmq", "not configured: changes are found by the reconcile alone"),
        Some(heard) => {
            let connected = heard
                .connected_since
                .map_or("not connected".to_owned(), |at| format!("connected for {}", ago(now, at)));
            let counts = format!("{} read, {} ignored, {} malformed", heard.read, heard.ignored, heard.malformed);
            lines.line(
                "rabbitmq",
                &format!("{} {connected}, {}: {counts}", heard.place, last("heard", heard.last_at, now)),
            );
            if let Some(why) = &heard.last_gap {
                let at = last("the last one", heard.last_gap_at, now);
                lines.detail("gaps", &format!("{} in the notifications, {at}: {why}", heard.gaps));
            }
            failing(heard.failing_since, heard.error.as_ref(), now, &mut lines);
        }
    }
    let instances = &status.instances;
    lines.line(
        "instances",
        &format!(
            "{} known: {} by document, {} with pages beside it, {} failed",
            instances.known, instances.documents, instances.with_pages, instances.failed
        ),
    );
    let oldest = status.oldest_change_ms.map_or(String::new(), |age| format!(", the oldest change {age} ms ago"));
    lines.line("backlog", &format!("{}{oldest}", counted(status.backlog, "instance")));
    let lag = &status.lag;
    if lag.changes > 0 {
        lines.line(
            "lag",
            &format!(
                "median {} ms, p99 {} ms (reading from OpenStack {} and {} ms), of the last {}",
                lag.p50_ms,
                lag.p99_ms,
                lag.reading_p50_ms,
                lag.reading_p99_ms,
                counted(usize::try_from(lag.changes).unwrap_or(usize::MAX), "change")
            ),
        );
    }
    let reconcile = &status.reconcile;
    let step = last("in step", reconcile.in_step_at, now);
    lines.line(
        "reconcile",
        &format!("{} ({} servers), {step}", last("listed", reconcile.listed_at, now), reconcile.servers),
    );
    if let Some(reason) = &reconcile.reason {
        lines.detail("reason", reason);
    }
    let passwords = &status.passwords;
    if passwords.passed_on + passwords.failed > 0 {
        lines.line("passwords", &format!("{} passed on to Nova, {} failed", passwords.passed_on, passwords.failed));
    }
    lines.into_text()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admin::wire::{Leader, Service};

    #[test]
    fn what_is_wrong_comes_first() {
        let status = ControllerStatus {
            version: "1".to_owned(),
            name: "c1".to_owned(),
            state: "leading".to_owned(),
            started_at: 40,
            leader: Some(Leader { name: "c1".to_owned(), since: 70 }),
            problems: vec!["neutron cannot be asked: refused".to_owned()],
            services: vec![Service {
                name: "neutron".to_owned(),
                place: "http://n".to_owned(),
                reads: 7,
                failing_since: Some(90),
                error: Some("refused".to_owned()),
                ..Service::default()
            }],
            ..ControllerStatus::default()
        };
        let text = describe(&status, 100);
        assert!(
            text.starts_with(
                "controller   c1 leading, version 1, started 60 s ago\nleader       c1 for 30 s\nproblem "
            ),
            "{text}"
        );
        assert!(
            text.contains("neutron      http://n: 7 requests, 0 failed, 0 under way\n  failing    for 10 s: refused\n"),
            "{text}"
        );
        assert!(text.contains("rabbitmq     not configured"), "{text}");
    }
}
