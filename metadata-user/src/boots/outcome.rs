//! The outcome of a boot: a pure decision from what was seen of it.

use super::boot::Boot;
use super::links::{Asked, LinkTimes};
use crate::metrics::state::BOOT_OUTCOMES as BOOTS;

/// Milliseconds after the last event during which a boot is in progress.
pub(super) const GOES_ON: u64 = 60 * 1000;

/// Milliseconds after its beginning after which a boot that is not complete is counted as it is: longer than clients retry.
const SETTLES: u64 = 10 * 60 * 1000;

/// The outcome of a boot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Outcome {
    /// The instance's metadata was read, and the last request was answered.
    Complete = 0,
    /// It is in progress.
    Reading = 1,
    /// It asked before its content had arrived, and has not been answered with it since.
    Early = 2,
    /// It asked, and stopped before it had the metadata, or without an answer.
    Stopped = 3,
    /// It asked for the service's MAC address, or connected, and sent no request.
    Unconnected = 4,
    /// It never asked.
    Silent = 5,
    /// The link has no carrier: no guest runs.
    Off = 6,
    /// It began before the daemon started, and has asked for nothing since.
    Unknown = 7,
}

impl Outcome {
    /// Returns the name that commands and metrics show.
    #[must_use]
    pub const fn name(self) -> &'static str {
        BOOTS[self as usize]
    }
}

/// What was seen of a boot.
#[derive(Clone, Copy, Debug)]
pub struct Observed<'a> {
    /// Its requests; `None`: none.
    pub boot: Option<&'a Boot>,
    /// The link; `None` for an earlier boot, and for a port that is gone.
    pub link: Option<LinkTimes>,
    /// Whether the boot is the latest one.
    pub is_latest: bool,
    /// The time, in milliseconds of Unix time.
    pub now: u64,
}

/// Returns the outcome, and the reason in a sentence, which is empty if the outcome needs none.
#[must_use]
pub fn judge(observed: &Observed<'_>) -> (Outcome, String) {
    match observed.boot.filter(|boot| boot.requests > 0) {
        Some(boot) => of_requests(boot, observed),
        None => of_silence(observed),
    }
}

fn of_requests(boot: &Boot, observed: &Observed<'_>) -> (Outcome, String) {
    let last = boot.last_path().unwrap_or("a path that is not kept");
    let is_answered = boot.last_status.is_some_and(|status| status < 500);
    let is_recent = observed.is_latest && observed.now.saturating_sub(boot.last_at) < GOES_ON;
    let has_metadata = boot.reads.iter().any(|read| read.status == Some(200) && is_metadata(read.path.as_str()));
    if has_metadata && is_answered {
        let early = match boot.early {
            0 => String::new(),
            early => format!("{early} requests came before the content and were answered 503"),
        };
        return (Outcome::Complete, early);
    }
    if is_recent && is_answered {
        return (Outcome::Reading, String::new());
    }
    match boot.last_status {
        Some(503) => {
            (Outcome::Early, format!("asked {} times before its content arrived, last for {last}", boot.early))
        }
        Some(status) => (Outcome::Stopped, format!("stopped after {last}, which was answered {status}")),
        None => (Outcome::Stopped, format!("stopped after {last}, whose connection ended before the answer")),
    }
}

fn of_silence(observed: &Observed<'_>) -> (Outcome, String) {
    let has_connected = observed.boot.is_some_and(|boot| boot.connected_at.is_some());
    let connected = || (Outcome::Unconnected, "connected, and sent no request".to_owned());
    let Some(link) = observed.link else {
        return if has_connected { connected() } else { (Outcome::Silent, String::new()) };
    };
    if !link.has_carrier {
        return (Outcome::Off, "no running guest uses the tap".to_owned());
    }
    if link.up_at.is_some_and(|up_at| observed.now.saturating_sub(up_at) < GOES_ON) {
        return (Outcome::Reading, "the link has just come up".to_owned());
    }
    match link.asked {
        _ if has_connected => connected(),
        // A running guest asks for the MAC again now and then.
        Asked::At(_) | Asked::Before if link.up_at.is_none() => {
            (Outcome::Unknown, "booted before the daemon started, and has asked for nothing since".to_owned())
        }
        Asked::At(_) | Asked::Before => (
            Outcome::Unconnected,
            "asked for the service's MAC and sent no request: its client gave up, uses a proxy, or is blocked by a firewall in the \
             guest"
                .to_owned(),
        ),
        Asked::Never => {
            let since = if link.up_at.is_none() { " since the daemon started" } else { "" };
            let reasons = "it has no address (no DHCP answer), uses a config drive, or is pointed to another data source by SMBIOS or \
                           its kernel command line";
            (Outcome::Silent, format!("never asked for the service{since}: {reasons}"))
        }
    }
}

/// Returns the outcome of a boot that has requests or a connection, if it is final.
///
/// An earlier boot's is. The latest boot's is final a minute after its last request if it is complete, and else [`SETTLES`] after the boot
/// began, but not while it is in progress.
#[must_use]
pub(super) fn settled(boot: &Boot, is_latest: bool, now: u64) -> Option<Outcome> {
    let (outcome, _) = judge(&Observed { boot: Some(boot), link: None, is_latest, now });
    let since = |at: u64| now.saturating_sub(at);
    let is_final = !is_latest
        || match outcome {
            Outcome::Reading => false,
            Outcome::Complete if since(boot.last_at) >= GOES_ON => true,
            _ => boot.began_at().is_some_and(|began| since(began) >= SETTLES),
        };
    is_final.then_some(outcome)
}

/// Returns the outcome of a boot of which only the link is known, if it is final: [`SETTLES`] after the link came up.
#[must_use]
pub(super) fn settled_without_request(boot: Option<&Boot>, link: LinkTimes, now: u64) -> Option<Outcome> {
    let is_final = link.has_carrier && link.up_at.is_some_and(|up_at| now.saturating_sub(up_at) >= SETTLES);
    is_final.then(|| judge(&Observed { boot, link: Some(link), is_latest: true, now }).0)
}

/// Tells whether a path is of the instance's metadata: OpenStack's document, or a value of the EC2 tree.
fn is_metadata(path: &str) -> bool {
    path.ends_with("/meta_data.json") || path.split_once("/meta-data/").is_some_and(|(_, value)| !value.is_empty())
}

#[cfg(test)]
mod tests {
    use super::super::Asks;
    use super::*;

    const NOW: u64 = 1_000_000;

    fn boot(requests: &[(u64, &str, Option<u16>)]) -> Boot {
        let mut boot = Boot::default();
        for (at, path, status) in requests {
            boot.note(Asks { at: *at, path: path.as_bytes(), status: *status, agent: b"" });
        }
        boot
    }

    fn outcome(requests: &[(u64, &str, Option<u16>)]) -> (Outcome, String) {
        let boot = boot(requests);
        judge(&Observed { boot: Some(&boot), link: None, is_latest: true, now: NOW })
    }

    #[test]
    fn requests_say_what_became_of_a_boot() {
        let (list, document) = ("/openstack", "/openstack/latest/meta_data.json");
        for (requests, expected, reason) in [
            (&[(1, list, Some(200)), (2, document, Some(200))][..], Outcome::Complete, ""),
            (&[(1, "/latest/meta-data/instance-id", Some(200))], Outcome::Complete, ""),
            (&[(1, document, Some(503)), (2, document, Some(200))], Outcome::Complete, "1 requests came before"),
            (&[(NOW - 1, list, Some(200))], Outcome::Reading, ""),
            (&[(1, list, Some(200))], Outcome::Stopped, "stopped after /openstack, which was answered 200"),
            (&[(1, list, Some(503)), (2, list, Some(503))], Outcome::Early, "asked 2 times before"),
            (&[(1, document, Some(200)), (2, list, None)], Outcome::Stopped, "stopped after /openstack, whose"),
            (&[(1, "/latest/meta-data/", Some(200))], Outcome::Stopped, "stopped after /latest/meta-data/"),
        ] {
            let (found, why) = outcome(requests);
            assert_eq!(found, expected, "{requests:?}");
            assert!(why.starts_with(reason) && why.is_empty() == reason.is_empty(), "{requests:?}: {why}");
        }
    }

    #[test]
    fn silence_is_told_apart_by_the_link_and_by_what_was_asked() {
        let link = LinkTimes { has_carrier: true, ..LinkTimes::default() };
        for (link, expected, reason) in [
            (link, Outcome::Silent, "never asked for the service since the daemon started"),
            (LinkTimes { up_at: Some(1), ..link }, Outcome::Silent, "never asked for the service: it"),
            (
                LinkTimes { up_at: Some(1), asked: Asked::At(1), ..link },
                Outcome::Unconnected,
                "asked for the service's MAC",
            ),
            (LinkTimes { asked: Asked::Before, ..link }, Outcome::Unknown, "booted before the daemon"),
            (LinkTimes { asked: Asked::At(1), ..link }, Outcome::Unknown, "booted before the daemon"),
            (LinkTimes { up_at: Some(NOW - 5), ..link }, Outcome::Reading, "the link has just"),
            (LinkTimes::default(), Outcome::Off, "no running guest"),
        ] {
            let (found, why) = judge(&Observed { boot: None, link: Some(link), is_latest: true, now: NOW });
            assert_eq!(found, expected);
            assert!(why.starts_with(reason), "{why}");
        }
        for (place, name) in BOOTS.iter().enumerate() {
            assert_eq!(BOOTS.iter().filter(|other| *other == name).count(), 1, "{place}");
        }
    }
}
