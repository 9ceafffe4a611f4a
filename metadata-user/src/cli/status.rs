//! `metadatad status`.

use std::io::Write;
use std::time::{SystemTime, UNIX_EPOCH};

use super::error::CliError;
use super::table::plain;
use super::{Form, converse, exit, print_json};
use crate::admin::client::Client;
use crate::admin::wire::{Status, VendordataTarget};

#[derive(Debug, clap::Args)]
pub(super) struct Verb {
    #[command(flatten)]
    form: Form,

    /// Exit with 1 also if a document is broken, the source cannot be read, the snapshot cannot be written, a target of vendor data fails, or a port is
    /// refused or failed
    #[arg(long)]
    check: bool,
}

impl Verb {
    pub(super) fn execute(&self, client: &Client, out: &mut dyn Write) -> Result<u8, CliError> {
        let status = converse(async { Ok(client.status().await?) })?;
        if self.form.json {
            print_json(&status, out)?;
        } else {
            let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
            out.write_all(describe(&status, now).as_bytes())?;
        }
        let well = if self.check { status.is_healthy() } else { status.ready };
        Ok(if well { exit::OK } else { exit::NOT_WELL })
    }
}

fn describe(status: &Status, now: u64) -> String {
    let mut text = String::new();
    let mut line = |name: &str, value: &str| text += &format!("{name:<12} {}\n", plain(value));
    let state = match (status.draining, status.ready) {
        (true, _) => "draining".to_owned(),
        (false, true) => "ready".to_owned(),
        (false, false) => format!("not ready, waiting for {}", status.waiting_for.join(", ")),
    };
    line("state", &state);
    let age = ago(now, status.started_at);
    line("daemon", &format!("version {}, process {}, started {age} ago", status.version, status.pid));
    let source = &status.source;
    line("source", &format!("{} {}", source.kind, source.place));
    let read = source.synced_at.map_or("never read".to_owned(), |at| format!("read {} ago", ago(now, at)));
    line("documents", &format!("{} instances, {} broken, {read}", source.instances, source.broken.len()));
    if let Some(error) = &source.error {
        line("  error", error);
    }
    for broken in &source.broken {
        let kept = if broken.serves_last_good { "; its last good version is served" } else { "" };
        line("  broken", &format!("{}: {}{kept}", broken.name, broken.problem));
    }
    if let Some(snapshot) = &status.snapshot {
        let written =
            snapshot.written_at.map_or("never written".to_owned(), |at| format!("written {} ago", ago(now, at)));
        let (instances, bytes) = (snapshot.instances, snapshot.bytes);
        line("snapshot", &format!("{}, {instances} instances, {bytes} bytes, {written}", snapshot.path));
        if let Some(restored) = snapshot.restored.as_ref().filter(|restored| !restored.confirmed) {
            let (instances, age) = (restored.instances, ago(now, restored.as_of));
            line(
                "  restored",
                &format!("{instances} instances as of {age} ago; the source has not confirmed them yet"),
            );
        }
        for (name, problem) in [("  error", &snapshot.error), ("  refused", &snapshot.refused)] {
            if let Some(problem) = problem {
                line(name, problem);
            }
        }
    }
    for target in status.vendordata.iter().flat_map(|vendordata| &vendordata.targets) {
        let answered =
            target.answered_at.map_or("never answered".to_owned(), |at| format!("answered {} ago", ago(now, at)));
        let VendordataTarget { name, url, instances, failing, .. } = target;
        line("vendor data", &format!("{name} {url}, {instances} instances, {failing} failing, {answered}"));
        if let (Some(since), Some(error)) = (target.failing_since, &target.error) {
            line("  failing", &format!("for {}: {error}", ago(now, since)));
        }
    }
    let ports: Vec<String> = status.ports.iter().map(|(state, count)| format!("{count} {state}")).collect();
    for observer in &status.facts {
        let since = ago(now, observer.since);
        let heard = match (observer.present, &observer.error) {
            (true, _) => format!("heard for {since}"),
            (false, None) => format!("not there for {since}"),
            (false, Some(_)) => format!("not heard for {since}"),
        };
        line("facts", &format!("{} {}, {} devices, {heard}", observer.name, observer.place, observer.facts));
        if let Some(error) = &observer.error {
            line("  error", error);
        }
        for problem in &observer.unreadable {
            line("  unreadable", problem);
        }
        for device in &observer.unreachable_ports {
            line(
                "  no tap",
                &format!("{} of {}: {}; it needs a config drive", device.device, device.instance, device.kind),
            );
        }
    }
    line("ports", &list(&ports));
    if status.ports_disagreements > 0 {
        line("", &format!("{} disagreements since the start: see `metadatad ports`", status.ports_disagreements));
    }
    if status.ports_widened > 0 {
        let text = "with more allowed sources than the kernel holds: see `metadatad ports`";
        line("", &format!("{} {text}", status.ports_widened));
    }
    if status.ports_repaired > 0 {
        line("", &format!("{} programs put back since the start, which others had taken off", status.ports_repaired));
    }
    let http = &status.http;
    line("connections", &format!("{} open, {} accepted", http.open, http.accepted));
    for (count, what) in [
        (http.refused_unknown, "refused: their address belongs to no port"),
        (http.refused_port_limit, "refused: http.connections_per_port reached"),
        (http.refused_total_limit, "refused: http.connections reached"),
        (http.gave_way, "closed while idle, for new connections beyond a limit"),
        (http.binding_ended, "closed: port removed or rebound to another instance"),
        (http.timed_out, "timed out"),
        (http.waited, "requests waited for content"),
        (http.unanswered, "requests without an answer: their connection ended"),
        (http.malformed, "closed: not HTTP"),
        (http.claimed_identity, "requests with an identity header (ignored)"),
    ] {
        if count > 0 {
            line("", &format!("{count} {what}"));
        }
    }
    let answers: Vec<String> = http
        .answers
        .iter()
        .map(|(status, count)| match status {
            0 => format!("{count} other"),
            status => format!("{count} with {status}"),
        })
        .collect();
    line("answers", &list(&answers));
    text
}

fn list(items: &[String]) -> String {
    if items.is_empty() { "none".to_owned() } else { items.join(", ") }
}

pub(super) fn ago(now: u64, then: u64) -> String {
    match now.saturating_sub(then) {
        seconds @ 0..120 => format!("{seconds} s"),
        seconds @ 120..7200 => format!("{} min", seconds / 60),
        seconds @ 7200..172_800 => format!("{} h", seconds / 3600),
        seconds => format!("{} days", seconds / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admin::Inspect;
    use crate::admin::server::tests::Sample;

    #[test]
    fn a_status_is_told_in_words() {
        let text = describe(&Sample.status(), 1_700_000_061);
        assert_eq!(
            text,
            "state        ready\n\
             daemon       version 1.2.3, process 42, started 61 s ago\n\
             source       directory /docs\n\
             documents    1 instances, 1 broken, read 60 s ago\n  \
               broken     b.json: line 3, column 9: not so; write it so; its last good version is served\n\
             snapshot     /s, 3 instances, 900 bytes, written 61 s ago\n  \
               restored   2 instances as of 2 min ago; the source has not confirmed them yet\n  \
               refused    /s is torn\n\
             vendor data  join http://x/, 2 instances, 1 failing, answered 60 s ago\n  \
               failing    for 30 s: connecting: refused\n\
             ports        1 bound\n\
             connections  1 open, 2 accepted\n\
             answers      5 with 200, 1 with 503\n"
        );
    }
}
