//! The taps as they are now, for commands and for the log.

use std::{collections::BTreeMap, sync::Arc};

use parking_lot::RwLock;
use tokio::sync::Notify;
use tokio::sync::futures::OwnedNotified;

use super::names::Names;
use super::reconcile::{Assignment, DesiredPort};
use crate::{
    dataplane::{AttachKind, IfIndex},
    identity::Tag,
    metrics::{self, Fault, Repair},
};

/// A tap, as commands show it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PortView {
    /// Name of the interface.
    pub name: String,
    /// Its binding's tag; `None` while passed or failed.
    pub tag: Option<Tag>,
    /// Its state.
    pub state: PortState,
    /// How the program is attached.
    pub attached: Option<AttachKind>,
    /// Whether frames that claim to come from the metadata service are kept from the guest.
    pub guarded: bool,
    /// Whether its limits are applied at XDP too.
    pub guard: GuardState,
}

/// Whether a tap's limits are applied at XDP too.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum GuardState {
    /// Not asked for, or there are no limits.
    #[default]
    Off,
    /// They are, in the driver.
    Xdp,
    /// They are to be, and cannot.
    Missing {
        /// A name that does not change.
        name: &'static str,
        /// The reason, for people.
        reason: String,
    },
}

/// The state of a tap.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PortState {
    /// Answered with an instance's data.
    Bound(Assignment),
    /// Answered with 503: neither an observer nor a document names it.
    Held,
    /// Its requests pass to whatever else serves them.
    Passed,
    /// Answered with 503: the evidence is contradictory or not enough.
    Refused(String),
    /// Something could not be done. Answered with 503 as far as the kernel allows.
    Failed(String),
}

impl PortState {
    /// Returns why the tap is in this state, for people; of a bound one, what is not as its document asks.
    #[must_use]
    pub fn reason(&self) -> Option<String> {
        match self {
            Self::Bound(assignment) => assignment.warning.clone(),
            Self::Held => Some("no document, and neither Open vSwitch nor libvirt, names this tap".to_owned()),
            Self::Passed => Some("no document names this tap, and ports.unbound is \"pass\"".to_owned()),
            Self::Refused(reason) | Self::Failed(reason) => Some(reason.clone()),
        }
    }
}

/// The taps as they are, for readers.
#[derive(Clone, Debug, Default)]
pub struct PortsView(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    table: RwLock<Table>,
    changed: Arc<Notify>,
    counters: metrics::Ports,
    faults: RwLock<BTreeMap<Fault, String>>,
}

#[derive(Debug, Default)]
struct Table {
    by_index: BTreeMap<IfIndex, PortView>,
    by_name: Names,
}

impl PortsView {
    /// Returns a view without taps, that counts there.
    #[must_use]
    pub fn new(counters: metrics::Ports) -> Self {
        Self(Arc::new(Shared { counters, ..Shared::default() }))
    }

    /// Returns all taps, by interface index.
    #[must_use]
    pub fn all(&self) -> Vec<(IfIndex, PortView)> {
        self.0.table.read().by_index.iter().map(|(ifindex, view)| (*ifindex, view.clone())).collect()
    }

    /// Returns the interface index of the tap with this name.
    #[must_use]
    pub fn ifindex_of(&self, name: &str) -> Option<IfIndex> {
        self.0.table.read().by_name.get(name).last().copied()
    }

    /// Returns the name of a tap.
    #[must_use]
    pub fn name_of(&self, ifindex: IfIndex) -> Option<String> {
        self.0.table.read().by_index.get(&ifindex).map(|view| view.name.clone())
    }

    /// Returns a tap.
    #[must_use]
    pub fn get(&self, ifindex: IfIndex) -> Option<PortView> {
        self.0.table.read().by_index.get(&ifindex).cloned()
    }

    /// Completes when a tap changes, comes or goes after this call.
    pub fn changed(&self) -> OwnedNotified {
        // `notify_waiters` wakes what was made before it, polled or not.
        Arc::clone(&self.0.changed).notified_owned()
    }

    /// Returns how often a tap became refused since the start because the evidence about it contradicts itself.
    #[must_use]
    pub fn disagreements(&self) -> u64 {
        self.0.counters.disagreements.get()
    }

    /// Returns how often each thing was repaired since the start.
    pub fn repairs(&self) -> impl Iterator<Item = (Repair, u64)> {
        Repair::ALL.into_iter().map(|repair| (repair, self.0.counters.repairs.of(repair).get()))
    }

    /// Counts something that was repaired.
    pub(super) fn count_repair(&self, repair: Repair) {
        self.count_repairs(repair, 1);
    }

    /// Counts so many of them.
    pub(super) fn count_repairs(&self, repair: Repair, count: usize) {
        self.0.counters.repairs.of(repair).inc_by(count as u64);
    }

    /// Returns what is wrong and cannot be repaired from here: each with its remedy.
    #[must_use]
    pub fn faults(&self) -> BTreeMap<Fault, String> {
        self.0.faults.read().clone()
    }

    /// Shows a fault, or that it is over, and logs each change.
    pub(super) fn set_fault(&self, fault: Fault, problem: Option<String>) {
        if self.0.faults.read().get(&fault) == problem.as_ref() {
            return;
        }
        let mut faults = self.0.faults.write();
        match problem {
            Some(problem) => {
                tracing::error!(fault = fault.name(), problem, "a fault that metadatad cannot repair");
                faults.insert(fault, problem);
            }
            None => {
                tracing::info!(fault = fault.name(), "a fault is over");
                faults.remove(&fault);
            }
        }
    }

    /// Counts a disagreement, unless the tap is refused already.
    pub(super) fn refuse(&self, ifindex: IfIndex) {
        let table = self.0.table.read();
        if !matches!(table.by_index.get(&ifindex), Some(PortView { state: PortState::Refused(_), .. })) {
            self.0.counters.disagreements.inc();
        }
    }

    /// Shows a tap. Returns whether that changes anything.
    pub(super) fn set(&self, ifindex: IfIndex, view: &PortView) -> bool {
        let mut table = self.0.table.write();
        let before = table.by_index.insert(ifindex, view.clone());
        if before.as_ref().is_none_or(|before| before.name != view.name) {
            if let Some(before) = &before {
                table.by_name.remove(before.name.as_str(), ifindex);
            }
            table.by_name.insert(view.name.clone(), ifindex);
        }
        let is_new = before.as_ref() != Some(view);
        drop(table);
        if is_new {
            self.0.changed.notify_waiters();
        }
        is_new
    }

    /// Shows a tap as failed for this reason, if it is shown.
    pub(super) fn fail(&self, ifindex: IfIndex, reason: String) {
        if let Some(view) = self.get(ifindex) {
            self.set(ifindex, &PortView { state: PortState::Failed(reason), tag: None, ..view });
        }
    }

    pub(super) fn remove(&self, ifindex: IfIndex) {
        let mut table = self.0.table.write();
        if let Some(view) = table.by_index.remove(&ifindex) {
            table.by_name.remove(view.name.as_str(), ifindex);
        }
        drop(table);
        self.0.changed.notify_waiters();
    }
}

impl From<DesiredPort> for PortState {
    fn from(desired: DesiredPort) -> Self {
        match desired {
            DesiredPort::Passed => PortState::Passed,
            DesiredPort::Held => PortState::Held,
            DesiredPort::Refused(reason) | DesiredPort::Lacking(reason) => PortState::Refused(reason),
            DesiredPort::Bound(assignment) => PortState::Bound(assignment),
        }
    }
}

/// Logs a change of a tap.
pub(super) fn log(ifindex: IfIndex, view: &PortView) {
    let (ifindex, name, tag) = (ifindex.0, &view.name, view.tag.map(|tag| tag.0));
    match &view.state {
        PortState::Bound(Assignment { instance, project, port, origin, warning, .. }) => {
            let (port, origin) = (port.map(tracing::field::display), origin.name());
            tracing::info!(ifindex, name, tag, %instance, project, port, origin, "tap is bound");
            if let Some(warning) = warning {
                tracing::warn!(ifindex, name, %instance, port, warning, "tap is bound with other sources than documented");
            }
        }
        PortState::Held => tracing::info!(ifindex, name, tag, "tap is held: its owner is unknown"),
        PortState::Passed => tracing::info!(ifindex, name, "tap is passed: no document names it"),
        PortState::Refused(reason) => tracing::warn!(ifindex, name, tag, reason, "tap is refused"),
        PortState::Failed(reason) => tracing::error!(ifindex, name, tag, reason, "tap failed"),
    }
    if let GuardState::Missing { reason, .. } = &view.guard {
        tracing::warn!(ifindex, name, reason, "the tap's limits are applied at tc only, not at XDP");
    }
}

#[cfg(test)]
impl PortView {
    /// Returns a tap that is bound to no instance.
    pub(crate) fn held(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            tag: None,
            state: PortState::Held,
            attached: None,
            guarded: false,
            guard: GuardState::Off,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tap_is_found_by_the_name_that_it_has_now() {
        let view = PortsView::default();
        assert!(view.set(IfIndex(1), &PortView::held("tap1")));
        assert!(!view.set(IfIndex(1), &PortView::held("tap1")));
        assert_eq!(view.ifindex_of("tap1"), Some(IfIndex(1)));
        // Its successor has taken the name; the event of its own end comes later.
        assert!(view.set(IfIndex(2), &PortView::held("tap1")));
        assert_eq!(view.ifindex_of("tap1"), Some(IfIndex(2)));
        view.remove(IfIndex(1));
        assert_eq!((view.ifindex_of("tap1"), view.name_of(IfIndex(1))), (Some(IfIndex(2)), None));
        assert!(view.set(IfIndex(2), &PortView::held("tap2")));
        assert_eq!((view.ifindex_of("tap1"), view.ifindex_of("tap2")), (None, Some(IfIndex(2))));
    }

    #[test]
    fn every_state_but_a_plain_binding_has_a_reason() {
        for state in [PortState::Held, PortState::Passed] {
            assert!(state.reason().is_some_and(|reason| reason.contains("document")));
        }
        for state in [PortState::Refused("why".to_owned()), PortState::Failed("why".to_owned())] {
            assert_eq!(state.reason().as_deref(), Some("why"));
        }
    }
}
