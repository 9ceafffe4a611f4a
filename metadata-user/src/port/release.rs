//! Taps that move: taken on from whatever else has served them, and let go of while the daemon runs, so that guests' requests go on to the
//! network again. No connection changes sides ([`Moving`]).
//!
//! Promises: a tap whose entry is out of the map passes everything, also if its program cannot be taken off; what could not be taken
//! off is named, and tried again when it is asked again; nothing puts a program back, and no tap is taken on, until the next start.

use std::time::Duration;

use super::Ports;
use super::failures::Failures;
use crate::dataplane::{IfIndex, Moving};
use crate::error_text;

/// How long connections that taps had with their network go on there after the start: haproxy, as Neutron configures it, ends those
/// that it keeps after 30 s without a request.
pub(super) const ARRIVAL: Duration = Duration::from_secs(60);

/// A tap whose program could not be taken off.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NotReleased {
    /// Name of the tap.
    pub tap: String,
    /// Why.
    pub reason: String,
}

impl Ports {
    /// Leaves new connections of every tap to its network. Those that there are go on; no further tap is taken on.
    pub(super) fn leave(&mut self) {
        self.released = true;
        self.arrival = None;
        self.failures = Failures::default();
        for ifindex in self.taps.indexes().collect::<Vec<_>>() {
            if let Err(error) = self.dataplane.set_moving(ifindex, Some(Moving::Leaving)) {
                super::report(ifindex, self.taps.name(ifindex).unwrap_or_default(), &error);
            }
            // Without the guard, which would keep the network's answers from the guest.
            self.settle(ifindex);
        }
    }

    /// Ends the time in which taps that were there at the start keep connections with their network.
    pub(super) fn end_arrival(&mut self) {
        self.arrival = None;
        for ifindex in self.dataplane.moving(Moving::Arriving) {
            if let Err(error) = self.dataplane.set_moving(ifindex, None) {
                super::report(ifindex, self.taps.name(ifindex).unwrap_or_default(), &error);
            }
            self.settle(ifindex);
        }
    }

    /// Takes the programs off every tap. Returns those that still have one.
    pub(super) fn release(&mut self) -> Vec<NotReleased> {
        self.released = true;
        self.end_trace();
        self.lost.clear();
        let mut left = Vec::new();
        for ifindex in self.taps.indexes().collect::<Vec<_>>() {
            self.pulse.count();
            let Err(error) = self.dataplane.forget(ifindex) else {
                self.forget_known(ifindex);
                continue;
            };
            let tap = self.taps.name(ifindex).unwrap_or_default().to_owned();
            let reason = error_text::chain(&error);
            tracing::error!(ifindex = ifindex.0, name = tap, reason, "the programs cannot be taken off the tap");
            if let Some(binding) = self.taps.binding_mut(ifindex).and_then(Option::take) {
                self.end(binding.tag);
            }
            self.failures.remove(ifindex);
            self.view.fail(ifindex, reason.clone());
            left.push(NotReleased { tap, reason });
        }
        left
    }

    /// Ends everything about a tap that is known here, and returns its name.
    pub(super) fn forget_known(&mut self, ifindex: IfIndex) -> Option<String> {
        let (name, binding) = self.taps.remove(ifindex)?;
        if let Some(binding) = binding {
            self.end(binding.tag);
        }
        // Not even a reset may reach another tap with this index.
        self.end_retired_on(ifindex);
        self.failures.remove(ifindex);
        self.lost.retain(|place| place.tap() != Some(ifindex));
        self.view.remove(ifindex);
        Some(name)
    }
}
