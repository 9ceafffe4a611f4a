//! Which other packets of the guest were dropped, and why.

use super::super::evidence::{Evidence, Port};
use super::super::finding::Finding;
use crate::admin::wire::LastDrop;
use crate::cli::lines::ago;

/// Reasons that are notes only, with what each says about the packets. Limits have their own check.
const REASONS: [(&str, &str); 10] = [
    ("ipv4_options", "have IPv4 options"),
    ("fragment", "are fragments"),
    ("truncated", "are truncated or malformed"),
    ("ipv6_extension", "have an IPv6 extension header"),
    ("not_answered", "are neither TCP to the metadata port nor ARP, neighbour discovery or echo requests"),
    ("source_scope", "come from an IPv6 address that is not link-local"),
    ("tag_ended", "are replies to a binding that has ended"),
    ("mac_unknown", "are replies to an address whose MAC is no longer known"),
    ("kernel_error", "met an error in the kernel, usually a lack of memory"),
    ("impersonation", "came from the network and claimed to be from the metadata service"),
];

/// Seconds after which drops are only noted: an hour.
const RECENT: u64 = 3600;

pub(super) fn check(evidence: &Evidence, port: &Port) -> Vec<Finding> {
    let mut findings: Vec<_> =
        ["spoofed_mac", "spoofed_ip"].into_iter().filter_map(|reason| spoofed(evidence, port, reason)).collect();
    for (reason, what) in REASONS {
        let count = port.count(reason);
        if count > 0 {
            findings.push(Finding::note(format!("packets were dropped ({reason}: {count}): they {what}")));
        }
    }
    if findings.is_empty() && !port.packets.is_empty() {
        findings.push(Finding::passed("no packet was dropped"));
    }
    findings
}

/// Reports that the guest sends from a MAC or an address that is not its own.
fn spoofed(evidence: &Evidence, port: &Port, reason: &str) -> Option<Finding> {
    let count = port.count(reason);
    if count == 0 {
        return None;
    }
    let is_mac = reason == "spoofed_mac";
    let allowed = allowed(port, is_mac);
    let last: Option<&LastDrop> = port.drops.iter().find(|drop| drop.reason == reason);
    let sent = last.and_then(|drop| if is_mac { drop.mac.as_deref() } else { drop.source.as_deref() });
    let (thing, key) = if is_mac { ("MAC", "mac_address") } else { ("address", "fixed_ips or allowed_address_pairs") };
    let unknown = if is_mac { "a MAC that is not its own" } else { "an address that is not its own" };
    let sent = sent.map_or_else(|| unknown.to_owned(), |sent| format!("the {thing} {sent}"));
    let packets = if count == 1 { "1 packet of the guest was" } else { &format!("{count} packets of the guest were") };
    let seen = last.map(|last| format!("; the last one about {} ago", ago(evidence.now, last.at))).unwrap_or_default();
    let what = format!("{packets} dropped: it sends from {sent}, and the document allows {allowed}{seen}");
    let is_recent = last.is_none_or(|last| evidence.now.saturating_sub(last.at) < RECENT);
    let instance = port.instance().unwrap_or_default();
    // An old drop may have been of a single stray packet.
    Some(if is_recent {
        Finding::problem(
            what,
            format!("if that {thing} is the guest's, correct {key} of the port in the document of {instance}"),
        )
    } else {
        Finding::note(what)
    })
}

/// Returns the MACs or addresses that the port may send from.
fn allowed(port: &Port, is_mac: bool) -> String {
    let pairs: Vec<(String, String)> = match (&port.status, &port.entry) {
        (Some(status), _) if !status.sources.is_empty() => {
            status.sources.iter().map(|allowed| (allowed.mac.clone(), allowed.prefix.clone())).collect()
        }
        (_, Some(entry)) => entry.sources.iter().map(|(mac, prefix)| (mac.to_string(), prefix.to_string())).collect(),
        _ => Vec::new(),
    };
    let mut names: Vec<_> = pairs.into_iter().map(|(mac, prefix)| if is_mac { mac } else { prefix }).collect();
    names.sort_unstable();
    names.dedup();
    if names.is_empty() { "another".to_owned() } else { names.join(", ") }
}
