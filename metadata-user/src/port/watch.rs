//! Detects that programs, pins, map entries or the responder's pair were changed or removed, and restores them.
//!
//! Promises: what nobody reports (a detached link, a removed pin) is noticed within [`LOOKS`]; a program is put back with its tap's
//! binding as it was, so connections go on, but only after every event about links that came before: it is certain then that the tap
//! is the same device. What cannot be put back is a failed port, or a fault ([`super::PortsView::set_fault`]).

use std::collections::BTreeSet;
use std::time::Duration;

use tokio::time::Instant;

use super::netlink::Link;
use super::{Ports, exists, is_gone, report};
use crate::dataplane::{Found, IfIndex, Place};
use crate::error_text;
use crate::metrics::{Fault, Repair};

/// How often it is looked. While a tap is without its program, its guest's requests go on to the network, and a client sends its
/// first packet again after a second: by then they are answered.
const LOOKS: Duration = Duration::from_millis(500);

/// How long a change of the pair is given to be complete; what was put back is reported as a change as well.
const SOON: Duration = Duration::from_millis(20);

/// Taps that a message names.
const NAMED: usize = 3;

impl Ports {
    /// Looks at everything soon, as the pair to the responder has changed.
    pub(super) fn look_soon(&mut self) {
        self.look = self.look.min(Instant::now() + SOON);
    }

    /// Looks at everything; `true`: a program is gone.
    pub(super) fn look(&mut self) -> bool {
        self.look = Instant::now() + LOOKS;
        self.mend_responder();
        let found = self.dataplane.look();
        self.pin_again(&found.unpinned);
        self.note_preceded(&found);
        self.write_again();
        self.lost.extend(found.detached);
        !self.lost.is_empty()
    }

    /// Puts every program back that is gone.
    pub(super) fn put_back(&mut self) {
        let lost = std::mem::take(&mut self.lost);
        if lost.iter().any(|place| place.tap().is_none()) {
            self.put_pair_back();
        }
        for place in lost {
            let Some(ifindex) = place.tap().filter(|_| !self.released) else { continue };
            let Some(name) = self.taps.name(ifindex).filter(|_| exists(ifindex)).map(str::to_owned) else { continue };
            match place {
                Place::Tap(_) => self.put_from_guest_back(ifindex, name),
                Place::Guard(_) => self.put_guard_back(ifindex, &name),
                Place::Xdp(_) => self.put_xdp_back(ifindex, &name),
                Place::ToGuest | Place::FromHost => {}
            }
        }
    }

    fn put_from_guest_back(&mut self, ifindex: IfIndex, name: String) {
        match self.dataplane.attach_again(ifindex, &name, self.rules.impersonation_guard) {
            Ok(()) => {
                self.view.count_repair(Repair::FromGuest);
                tracing::warn!(
                    ifindex = ifindex.0,
                    name,
                    "from_guest was detached from the tap; attached it again. Requests sent meanwhile went to the tap's network"
                );
                self.settle(ifindex);
            }
            Err(error) if is_gone(&error) => {}
            Err(error) => {
                // Whatever is known of it is forgotten: it is shown as failed, and tried again.
                report(ifindex, &name, &error);
                self.forget(ifindex);
                self.link_changed(Link { ifindex, name });
            }
        }
    }

    /// Puts the guard against impersonation back if it alone is gone; the binding stays.
    pub(super) fn put_guard_back(&mut self, ifindex: IfIndex, name: &str) {
        self.dataplane.note_lost_guard(ifindex);
        self.settle(ifindex);
        if self.dataplane.is_guarded(ifindex) {
            self.view.count_repair(Repair::FromNetwork);
            tracing::warn!(
                ifindex = ifindex.0,
                name,
                "from_network was detached from the tap; attached it again. The tap was not guarded meanwhile"
            );
        }
    }

    fn put_xdp_back(&mut self, ifindex: IfIndex, name: &str) {
        self.dataplane.note_lost_xdp(ifindex);
        self.settle(ifindex);
        if self.dataplane.has_xdp(ifindex) {
            self.view.count_repair(Repair::FromGuestXdp);
            tracing::warn!(ifindex = ifindex.0, name, "from_guest_xdp was detached from the tap; attached it again");
        }
    }

    fn put_pair_back(&mut self) {
        let ifindex = self.dataplane.pair();
        match self.dataplane.restore_pair() {
            Ok(false) => {}
            Ok(true) => {
                self.view.count_repair(Repair::PairProgram);
                tracing::warn!(
                    ifindex = ifindex.0,
                    "a program was detached from the responder's pair; attached it again"
                );
            }
            Err(error) => report(ifindex, "the pair", &error),
        }
    }

    fn mend_responder(&mut self) {
        self.view.set_fault(Fault::Namespace, self.responder.lost_name());
        let mended = match self.responder.mend() {
            Ok(mended) => mended,
            Err(error) => {
                let reason = error_text::chain(&error);
                // What changes while it is looked at is no fault: the next look decides.
                if !std::mem::replace(&mut self.unmended, true) {
                    tracing::debug!(reason, "the responder's pair or namespace is changing");
                    self.look_soon();
                    return;
                }
                let problem = format!(
                    "the responder's pair or namespace cannot be checked or restored, so guests may get no answer: {reason}; metadatad \
                     retries twice a second, and `systemctl restart metadatad` sets up both again"
                );
                self.view.set_fault(Fault::Responder, Some(problem));
                return;
            }
        };
        self.unmended = false;
        self.view.set_fault(Fault::Responder, None);
        for (repair, found) in mended {
            self.view.count_repair(repair);
            tracing::warn!(
                pair = self.responder.pair_name(),
                found,
                "the responder's pair or namespace was changed; restored it"
            );
            if repair == Repair::Pair {
                self.put_pair_back();
            }
        }
    }

    fn pin_again(&mut self, unpinned: &[String]) {
        if unpinned.is_empty() {
            self.view.set_fault(Fault::Pins, None);
            return;
        }
        match self.dataplane.pin_again() {
            Ok(()) => {
                self.view.count_repairs(Repair::Pin, unpinned.len());
                self.view.set_fault(Fault::Pins, None);
                let first = unpinned.first();
                tracing::warn!(count = unpinned.len(), first, "pins were removed; pinned again");
            }
            Err(error) => self.view.set_fault(Fault::Pins, Some(error_text::chain(&error))),
        }
    }

    fn write_again(&mut self) {
        for ifindex in self.unknown_to_kernel() {
            let name = self.taps.name(ifindex).unwrap_or_default().to_owned();
            self.rewrite(ifindex);
            self.settle(ifindex);
            self.view.count_repair(Repair::Port);
            tracing::warn!(
                ifindex = ifindex.0,
                name,
                "the port's entries were removed from the BPF maps; wrote them again. Requests sent meanwhile may have gone to the tap's \
                 network"
            );
        }
    }

    fn note_preceded(&mut self, found: &Found) {
        self.view.set_fault(Fault::Preceded, preceded(found, |ifindex| self.taps.name(ifindex)));
    }
}

/// Describes which other programs run before ours; `None`: none does.
fn preceded<'a>(found: &Found, name_of: impl Fn(IfIndex) -> Option<&'a str>) -> Option<String> {
    let programs: BTreeSet<u32> = found.preceded.iter().flat_map(|(_, programs)| programs).copied().collect();
    let first = programs.first()?;
    let places: Vec<_> = found
        .preceded
        .iter()
        .map(|(place, _)| {
            let interface = place.tap().map_or("the pair", |ifindex| name_of(ifindex).unwrap_or("a tap"));
            format!("{} on {interface}", place.program())
        })
        .collect();
    let (named, more) =
        (places.iter().take(NAMED).cloned().collect::<Vec<_>>().join(", "), places.len().saturating_sub(NAMED));
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    let ids = programs.iter().take(NAMED).map(ToString::to_string).collect::<Vec<_>>().join(", ");
    Some(format!(
        "other programs run before {named}{more}, and can block guests' requests or answer them: ids {ids}; `bpftool prog show id \
         {first}` shows the first; detach it, or attach it after metadatad's"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_before_ours_are_named_with_what_they_are_before() {
        assert_eq!(preceded(&Found::default(), |_| None), None);
        let mut found = Found { preceded: vec![(Place::ToGuest, vec![9])], ..Found::default() };
        found.preceded.extend((1..=4).map(|ifindex| (Place::Tap(IfIndex(ifindex)), vec![7, 9])));
        let text = preceded(&found, |ifindex| (ifindex.0 == 1).then_some("tap1")).expect("there are some");
        assert!(
            text.starts_with(
                "other programs run before to_guest on the pair, from_guest on tap1, from_guest on a tap and 2 more,"
            ),
            "{text}"
        );
        assert!(text.contains("ids 7, 9;") && text.contains("`bpftool prog show id 7`"), "{text}");
    }
}
