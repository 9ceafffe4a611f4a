//! `metadatad status`.

mod security;

use std::io::Write;

use super::error::CliError;
use super::lines::{self, Lines, ago, counted, last};
use super::{Form, converse, exit, print_json};
use crate::admin::client::Client;
use crate::admin::wire::{
    Audit, ConfigDrives, Fault, Http, Https, Identity, Observer, Released, Reload, Restored, Snapshot, Source, Status,
    UnreachablePort, VendordataTarget,
};

#[derive(Debug, clap::Args)]
pub(super) struct Verb {
    #[command(flatten)]
    form: Form,

    /// Exit with 1 also if a document is broken, the source cannot be read, the snapshot, the audit log or a config drive cannot be written, a
    /// reloaded configuration is not accepted, a target of vendor data fails, Open vSwitch, libvirt or a certificate cannot be read,
    /// metrics cannot be read over TCP, a port is refused or failed, or something that guests' requests depend on cannot be repaired
    #[arg(long)]
    check: bool,

    /// Show what each thread of the daemon may do instead: user, capabilities, no_new_privs, seccomp, landlock
    #[arg(long, conflicts_with = "check")]
    security: bool,
}

impl Verb {
    pub(super) fn execute(&self, client: &Client, out: &mut dyn Write) -> Result<u8, CliError> {
        if self.security {
            let shown = converse(async { Ok(client.security().await?) })?;
            if self.form.json {
                print_json(&shown, out)?;
            } else {
                security::describe(&shown, out)?;
            }
            return Ok(exit::OK);
        }
        let status = converse(async { Ok(client.status().await?) })?;
        if self.form.json {
            print_json(&status, out)?;
        } else {
            out.write_all(describe(&status, lines::now()).as_bytes())?;
        }
        let healthy = if self.check { status.is_healthy() } else { status.ready };
        Ok(if healthy { exit::OK } else { exit::NOT_WELL })
    }
}

fn describe(status: &Status, now: u64) -> String {
    let mut lines = Lines::default();
    daemon(status, now, &mut lines);
    if let Some(last) = &status.reload {
        reload(last, now, &mut lines);
    }
    source(&status.source, now, &mut lines);
    if let Some(kept) = &status.snapshot {
        snapshot(kept, now, &mut lines);
    }
    if let Some(drives) = &status.config_drives {
        config_drives(drives, &mut lines);
    }
    for target in status.vendordata.iter().flat_map(|vendordata| &vendordata.targets) {
        vendordata(target, now, &mut lines);
    }
    for reporter in &status.facts {
        observer(reporter, now, &mut lines);
    }
    ports(status, &mut lines);
    repairs(status, &mut lines);
    if let Some(certificate) = &status.https {
        https("https", certificate, now, &mut lines);
    }
    if let Some(metrics) = &status.metrics {
        lines.line("metrics", &metrics.listen);
        lines::error(metrics.error.as_ref(), &mut lines);
        if let Some(certificate) = &metrics.tls {
            https("metrics tls", certificate, now, &mut lines);
        }
    }
    if let Some(signed) = &status.identity {
        identity(signed, &mut lines);
    }
    connections(&status.http, &mut lines);
    if let Some(log) = &status.audit {
        audit(log, &mut lines);
    }
    if !status.anomalies.is_empty() {
        let kinds: Vec<String> = status.anomalies.iter().map(|(kind, count)| format!("{count} {kind}")).collect();
        lines.line("anomalies", &format!("{}: see `metadatad anomalies`", kinds.join(", ")));
    }
    lines.into_text()
}

fn config_drives(drives: &ConfigDrives, lines: &mut Lines) {
    let ConfigDrives { directory, current, waiting, failed, error } = drives;
    let mut text = format!("{current} current in {directory}");
    for (count, what) in [(waiting, "waiting for content"), (failed, "failed")] {
        if *count > 0 {
            text += &format!(", {count} {what}");
        }
    }
    lines.line("drives", &text);
    lines::error(error.as_ref(), lines);
}

fn daemon(status: &Status, now: u64, lines: &mut Lines) {
    let state = match (&status.released, status.draining, status.ready) {
        (Some(_), _, _) => "released".to_owned(),
        (None, true, _) => "draining".to_owned(),
        (None, false, true) => "ready".to_owned(),
        (None, false, false) => format!("not ready, waiting for {}", status.waiting_for.join(", ")),
    };
    lines.line("state", &state);
    if let Some(last) = &status.released {
        released(last, now, lines);
    }
    let age = ago(now, status.started_at);
    lines.line("daemon", &format!("version {}, process {}, started {age} ago", status.version, status.pid));
}

fn released(released: &Released, now: u64, lines: &mut Lines) {
    lines.more(&format!(
        "{} released {} ago: guests' requests go on to the network",
        counted(released.taps, "tap"),
        ago(now, released.at)
    ));
    for left in &released.left {
        lines.detail("left", &format!("{}: {}", left.tap, left.problem));
    }
    lines.more("`systemctl restart metadatad` attaches to the taps again");
    lines.more("`systemctl disable --now metadatad`, then `metadatad detach`, removes the rest");
}

fn reload(reload: &Reload, now: u64, lines: &mut Lines) {
    let applied = if reload.applied.is_empty() { "nothing changed".to_owned() } else { reload.applied.join(", ") };
    let outcome = if reload.error.is_some() { "not accepted" } else { &applied };
    lines.line("reload", &format!("{} ago: {outcome}", ago(now, reload.at)));
    lines::error(reload.error.as_ref(), lines);
    if !reload.restart_needed.is_empty() {
        lines.detail("restart", &format!("needed for {}", reload.restart_needed.join(", ")));
    }
}

fn source(source: &Source, now: u64, lines: &mut Lines) {
    lines::place(source, lines);
    let read = last("read", source.synced_at, now);
    lines.line("documents", &format!("{} instances, {} broken, {read}", source.instances, source.broken.len()));
    lines::error(source.error.as_ref(), lines);
    lines::broken(&source.broken, lines);
}

fn snapshot(snapshot: &Snapshot, now: u64, lines: &mut Lines) {
    let Snapshot { path, instances, bytes, written_at, error, refused, restored } = snapshot;
    let written = last("written", *written_at, now);
    lines.line("snapshot", &format!("{path}, {instances} instances, {bytes} bytes, {written}"));
    if let Some(Restored { instances, as_of, .. }) = restored.as_ref().filter(|restored| !restored.confirmed) {
        let age = ago(now, *as_of);
        lines.detail("restored", &format!("{instances} instances as of {age} ago; not confirmed by the source yet"));
    }
    lines::error(error.as_ref(), lines);
    if let Some(refused) = refused {
        lines.detail("refused", refused);
    }
}

fn vendordata(target: &VendordataTarget, now: u64, lines: &mut Lines) {
    let VendordataTarget { name, url, on_demand, instances, failing, .. } = target;
    let answered = last("answered", target.answered_at, now);
    let asked = match (on_demand, failing) {
        (false, failing) => format!("{instances} instances, {failing} failing"),
        (true, failing) => format!("asked on demand, {failing} failing"),
    };
    lines.line("vendor data", &format!("{name} {url}, {asked}, {answered}"));
    lines::failing(target.failing_since, target.error.as_ref(), now, lines);
}

fn observer(observer: &Observer, now: u64, lines: &mut Lines) {
    let state = match (observer.present, &observer.error) {
        (true, _) => "connected",
        (false, None) => "not present",
        (false, Some(_)) => "not connected",
    };
    let Observer { name, place, facts, .. } = observer;
    lines.line("facts", &format!("{name} {place}, {facts} devices, {state} for {}", ago(now, observer.since)));
    lines::error(observer.error.as_ref(), lines);
    for problem in &observer.unreadable {
        lines.detail("unreadable", problem);
    }
    for UnreachablePort { device, instance, kind } in &observer.unreachable_ports {
        lines.detail("no tap", &format!("{device} of {instance}: {kind}; it needs a config drive"));
    }
}

fn ports(status: &Status, lines: &mut Lines) {
    let states: Vec<String> = status.ports.iter().map(|(state, count)| format!("{count} {state}")).collect();
    lines.line("ports", &list(&states));
    if status.ports_disagreements > 0 {
        let count = status.ports_disagreements;
        lines.more(&format!("{count} disagreements between sources since the start: see `metadatad ports`"));
    }
    if status.ports_widened > 0 {
        let count = status.ports_widened;
        lines.more(&format!("{count} with more allowed sources than the kernel holds: see `metadatad ports`"));
    }
    if let Some(guard) = &status.ports_guard {
        lines.more(&format!("{} limited at XDP", guard.xdp));
        for (reason, count) in &guard.missing {
            let why = match reason.as_str() {
                "occupied" => "another XDP program is on the tap",
                "unsupported" => "its driver has no native XDP",
                "mtu" => "its MTU is larger than XDP can have",
                _ => "it failed",
            };
            lines.more(&format!("{count} limited at tc only: {why}; see `metadatad ports`"));
        }
    }
}

fn repairs(status: &Status, lines: &mut Lines) {
    if !status.repairs.is_empty() {
        let repairs: Vec<String> = status.repairs.iter().map(|(what, count)| format!("{count} {what}")).collect();
        lines.line("repaired", &format!("{} since the start", list(&repairs)));
    }
    for Fault { problem, .. } in &status.faults {
        lines.line("broken", problem);
    }
}

fn https(name: &'static str, https: &Https, now: u64, lines: &mut Lines) {
    const DAY: u64 = 24 * 3600;
    let state = match https.not_after {
        None => "no certificate".to_owned(),
        Some(end) if end <= now => "the certificate has expired".to_owned(),
        Some(end) => format!("the certificate ends in {} days", (end - now) / DAY),
    };
    lines.line(name, &state);
    if let Some(error) = &https.error {
        lines.more(&format!("error: {error}"));
    }
}

fn identity(identity: &Identity, lines: &mut Lines) {
    match &*identity.key_ids {
        [] => lines.line("identity", "no key: nothing is signed"),
        [signs, others @ ..] => {
            let published =
                if others.is_empty() { String::new() } else { format!(", {} more published", others.len()) };
            let signed = format!("{} tokens and {} documents signed", identity.tokens, identity.documents);
            lines.line("identity", &format!("key {signs}{published}; {signed}"));
        }
    }
    if !identity.refused.is_empty() {
        let refused: Vec<_> = identity.refused.iter().map(|(reason, count)| format!("{count} {reason}")).collect();
        lines.more(&format!("refused: {}", refused.join(", ")));
    }
    if let Some(error) = &identity.error {
        lines.more(&format!("error: {error}"));
    }
}

fn connections(http: &Http, lines: &mut Lines) {
    lines.line("connections", &format!("{} open, {} accepted", http.open, http.accepted));
    for (count, what) in [
        (http.refused_unknown, "refused: their address belongs to no port"),
        (http.refused_port_limit, "refused: connections_per_port reached (of [http], or of the document)"),
        (http.refused_instance_limit, "refused: connections_per_instance reached (of [http], or of the document)"),
        (http.refused_total_limit, "refused: http.connections reached"),
        (http.gave_way, "closed while idle, to stay within a limit of connections"),
        (http.binding_ended, "closed: port removed or rebound to another instance"),
        (http.timed_out, "closed: http.request_timeout or http.idle_timeout reached"),
        (http.waited, "requests waited for content"),
        (http.waiting as u64, "requests wait for a change"),
        (http.waits_refused, "requests did not wait for a change: guests.waits_per_instance reached"),
        (http.limited, "requests waited: requests_per_second reached (of [http], or of the document)"),
        (http.unanswered, "requests without an answer: their connection ended"),
        (http.malformed, "closed: not HTTP"),
        (http.handshake_failed, "closed: no TLS handshake"),
        (http.claimed_identity, "requests with an identity header (ignored)"),
    ] {
        if count > 0 {
            lines.more(&format!("{count} {what}"));
        }
    }
    for (reason, count) in &http.denied {
        let what = match reason.as_str() {
            "switched_off" => "requests refused: switched off by [access] or the document",
            "unprivileged" => "requests refused: from a source port of 1024 or above",
            "token_missing" => "requests refused: without the session token that is required",
            "token_malformed" => "requests refused: with what is no session token",
            "token_foreign" => {
                "requests refused: with a session token of another port, instance or node, or an altered one"
            }
            "token_expired" => "requests refused: with an expired session token",
            "token_forwarded" => "requests for a session token refused: forwarded by a proxy",
            "token_ttl" => "requests for a session token refused: without a possible life",
            "token_method" => "requests for a session token refused: not PUT",
            other => other,
        };
        lines.more(&format!("{count} {what}"));
    }
    if http.tokens_issued > 0 {
        lines.more(&format!("{} session tokens issued: see `metadatad access`", http.tokens_issued));
    }
    let with = |(status, count): (&u16, &u64)| match status {
        0 => format!("{count} other"),
        status => format!("{count} with {status}"),
    };
    lines.line("answers", &list(&http.answers.iter().map(with).collect::<Vec<_>>()));
}

fn audit(log: &Audit, lines: &mut Lines) {
    lines.line("audit log", &format!("{} records written", log.written));
    lines::error(log.error.as_ref(), lines);
    for (count, what) in [
        (log.lost_queue_full, "records lost: more came than could be written"),
        (log.lost_write_failed, "records lost: they could not be written"),
        (log.left_out, "records of connections left out: beyond what one port may cause"),
    ] {
        if count > 0 {
            lines.more(&format!("{count} {what}"));
        }
    }
}

fn list(items: &[String]) -> String {
    if items.is_empty() { "none".to_owned() } else { items.join(", ") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admin::Inspect;
    use crate::admin::server::tests::Sample;
    use crate::admin::wire::{NotReleased, PortsGuard};

    #[test]
    fn every_section_of_a_status_is_printed() {
        let text = describe(&Sample.status(), 1_700_000_061);
        assert_eq!(
            text,
            "state        ready\n\
             daemon       version 1.2.3, process 42, started 61 s ago\n\
             source       directory /docs\n\
             documents    1 instances, 1 broken, read 60 s ago\n  \
               broken     b.json: line 3, column 9: not so; write it so; its last valid version is served\n\
             snapshot     /s, 3 instances, 900 bytes, written 61 s ago\n  \
               restored   2 instances as of 2 min ago; not confirmed by the source yet\n  \
               refused    /s is torn\n\
             vendor data  join http://x/, 2 instances, 1 failing, answered 60 s ago\n  \
               failing    for 30 s: connecting: refused\n\
             ports        1 bound\n\
             connections  1 open, 2 accepted\n\
             answers      5 with 200, 1 with 503\n"
        );
    }

    #[test]
    fn an_observer_is_connected_or_not_or_not_present() {
        let text = |present, error: Option<&str>| {
            let observer = Observer {
                name: "Open vSwitch".to_owned(),
                place: "/db.sock".to_owned(),
                present,
                since: 98,
                facts: 3,
                error: error.map(str::to_owned),
                unreadable: Vec::new(),
                unreachable_ports: Vec::new(),
            };
            describe(&Status { facts: vec![observer], ..Status::default() }, 100)
        };
        for (present, error, expected) in [
            (true, None, "facts        Open vSwitch /db.sock, 3 devices, connected for 2 s\nports"),
            (false, None, "facts        Open vSwitch /db.sock, 3 devices, not present for 2 s\nports"),
            (false, Some("refused"), "3 devices, not connected for 2 s\n  error      refused\nports"),
        ] {
            let text = text(present, error);
            assert!(text.contains(expected), "{text}");
        }
    }

    #[test]
    fn the_audit_log_and_anomalies_are_shown_once_there_are_any() {
        let audit = Audit { written: 7, lost_write_failed: 2, error: Some("no space".to_owned()), ..Audit::default() };
        let anomalies = [("odd_host".to_owned(), 3), ("path_scan".to_owned(), 1)].into();
        let text = describe(&Status { audit: Some(audit), anomalies, ..Status::default() }, 100);
        let expected = "audit log    7 records written\n  \
                          error      no space\n             \
                        2 records lost: they could not be written\n\
                        anomalies    3 odd_host, 1 path_scan: see `metadatad anomalies`\n";
        assert!(text.ends_with(expected), "{text}");
    }

    #[test]
    fn counters_are_shown_once_they_count() {
        let http = Http { refused_unknown: 1, gave_way: 2, binding_ended: 3, waited: 4, ..Http::default() };
        let guard = PortsGuard { xdp: 6, missing: [("mtu".to_owned(), 7), ("occupied".to_owned(), 1)].into() };
        let repairs = [("from_guest".to_owned(), 5), ("pin".to_owned(), 1)].into();
        let faults = vec![Fault { what: "pins".to_owned(), problem: "no pins: make some".to_owned() }];
        let text = describe(&Status { http, ports_guard: Some(guard), repairs, faults, ..Status::default() }, 100);
        let expected = "ports        none\n             \
                        6 limited at XDP\n             \
                        7 limited at tc only: its MTU is larger than XDP can have; see `metadatad ports`\n             \
                        1 limited at tc only: another XDP program is on the tap; see `metadatad ports`\n\
                        repaired     5 from_guest, 1 pin since the start\n\
                        broken       no pins: make some\n\
                        connections  0 open, 0 accepted\n             \
                        1 refused: their address belongs to no port\n             \
                        2 closed while idle, to stay within a limit of connections\n             \
                        3 closed: port removed or rebound to another instance\n             \
                        4 requests waited for content\n\
                        answers      none\n";
        assert!(text.ends_with(expected), "{text}");
    }

    #[test]
    fn a_daemon_that_has_let_go_of_its_taps_says_so_and_how_to_go_on() {
        let left = vec![NotReleased { tap: "tap1".to_owned(), problem: "no".to_owned() }];
        let released = Some(Released { at: 95, taps: 2, cut: false, left });
        let text = describe(&Status { released, started_at: 90, ..Status::default() }, 100);
        let expected = "state        released\n             \
                        2 taps released 5 s ago: guests' requests go on to the network\n  left       tap1: no\n             \
                        `systemctl restart metadatad` attaches to the taps again\n             \
                        `systemctl disable --now metadatad`, then `metadatad detach`, removes the rest\n";
        assert!(text.starts_with(expected), "{text}");
    }
}
