//! Standing still while another daemon takes over, and going on if that fails.
//!
//! The other daemon puts its programs into the links and filters of this one, with the same maps: packets go the same way all the
//! time. Going on is to put one's own back.

use super::{Link, Ports, report};
use crate::hold::Hold;

impl Ports {
    /// Changes nothing in the kernel until it is released. Links, facts and documents that change meanwhile wait.
    pub(super) async fn stand_still(&mut self, hold: Hold) {
        self.end_trace();
        hold.stand().await;
        tracing::warn!("no other daemon has taken over: putting the programs back");
        self.retake();
    }

    /// Puts this daemon's programs back in the place of another's. A port that the other one has bound anew is bound anew here, too.
    fn retake(&mut self) {
        self.dataplane.counters().read_again();
        if let Err(error) = self.dataplane.retake_pair() {
            report(self.dataplane.pair(), "the pair", &error);
        }
        let taps: Vec<_> = self.taps.indexes().collect();
        for ifindex in taps {
            let Some(name) = self.taps.name(ifindex).map(str::to_owned) else { continue };
            let tag = self.taps.binding(ifindex).map(|binding| binding.tag);
            let is_back = self.dataplane.attached(ifindex).is_some()
                && self.dataplane.attach_again(ifindex, &name, self.rules.impersonation_guard).is_ok()
                && self.dataplane.adopted(ifindex).map(|adopted| adopted.tag) == tag;
            if is_back {
                self.dataplane.note_lost_xdp(ifindex);
                self.settle(ifindex);
            } else {
                self.forget(ifindex);
                self.link_changed(Link { ifindex, name });
            }
        }
    }
}
