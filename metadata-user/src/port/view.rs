//! The taps as they are, for whoever reads: commands, and the log.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, PoisonError, RwLock,
        atomic::{AtomicU64, Ordering},
    },
};

use super::reconcile::{Assignment, DesiredPort};
use crate::{
    dataplane::{AttachKind, IfIndex},
    identity::Tag,
};

/// What a tap is, for the daemon's commands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PortView {
    /// Name of the interface.
    pub name: String,
    /// Its binding's tag; `None` while passed or failed.
    pub tag: Option<Tag>,
    /// What it is.
    pub state: PortState,
    /// How the program is attached.
    pub attached: Option<AttachKind>,
}

/// What a tap can be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PortState {
    /// Answered with an instance's data.
    Bound(Assignment),
    /// Answered with 503: neither an observer nor a document names it.
    Held,
    /// Left to whatever else serves it.
    Passed,
    /// Answered with 503: it is not certain whose it is.
    Refused(String),
    /// Not served: something could not be done.
    Failed(String),
}

/// The taps as they are, for readers.
#[derive(Clone, Debug, Default)]
pub struct PortsView(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    ports: RwLock<BTreeMap<IfIndex, PortView>>,
    disagreements: AtomicU64,
    repairs: AtomicU64,
}

impl PortsView {
    /// Returns all taps, by interface index.
    #[must_use]
    pub fn all(&self) -> Vec<(IfIndex, PortView)> {
        let ports = self.0.ports.read().unwrap_or_else(PoisonError::into_inner);
        ports.iter().map(|(ifindex, view)| (*ifindex, view.clone())).collect()
    }

    /// Returns the interface index of the tap with this name.
    #[must_use]
    pub fn ifindex_of(&self, name: &str) -> Option<IfIndex> {
        let ports = self.0.ports.read().unwrap_or_else(PoisonError::into_inner);
        ports.iter().find(|(_, view)| view.name == name).map(|(ifindex, _)| *ifindex)
    }

    /// Returns the name of a tap.
    #[must_use]
    pub fn name_of(&self, ifindex: IfIndex) -> Option<String> {
        let ports = self.0.ports.read().unwrap_or_else(PoisonError::into_inner);
        ports.get(&ifindex).map(|view| view.name.clone())
    }

    /// Returns how often a tap became refused since the start because those who speak of it disagree.
    #[must_use]
    pub fn disagreements(&self) -> u64 {
        self.0.disagreements.load(Ordering::Relaxed)
    }

    /// Returns how often a tap's program was put back since the start because others had taken it away.
    #[must_use]
    pub fn repairs(&self) -> u64 {
        self.0.repairs.load(Ordering::Relaxed)
    }

    /// Counts a program that was put back.
    pub(super) fn count_repair(&self) {
        self.0.repairs.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts a disagreement, unless the tap is refused already.
    pub(super) fn refuse(&self, ifindex: IfIndex) {
        let ports = self.0.ports.read().unwrap_or_else(PoisonError::into_inner);
        if !matches!(ports.get(&ifindex), Some(PortView { state: PortState::Refused(_), .. })) {
            self.0.disagreements.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Returns whether that changes anything.
    pub(super) fn set(&self, ifindex: IfIndex, view: &PortView) -> bool {
        let before = self.0.ports.write().unwrap_or_else(PoisonError::into_inner).insert(ifindex, view.clone());
        before.as_ref() != Some(view)
    }

    pub(super) fn remove(&self, ifindex: IfIndex) {
        self.0.ports.write().unwrap_or_else(PoisonError::into_inner).remove(&ifindex);
    }
}

impl From<DesiredPort> for PortState {
    fn from(wanted: DesiredPort) -> Self {
        match wanted {
            DesiredPort::Passed => PortState::Passed,
            DesiredPort::Held => PortState::Held,
            DesiredPort::Refused(reason) | DesiredPort::Lacking(reason) => PortState::Refused(reason),
            DesiredPort::Bound(assignment) => PortState::Bound(assignment),
        }
    }
}

/// Writes a change of a tap to the log.
pub(super) fn log(ifindex: IfIndex, view: &PortView) {
    let (ifindex, name, tag) = (ifindex.0, &view.name, view.tag.map(|tag| tag.0));
    match &view.state {
        PortState::Bound(Assignment { instance, project, port, origin, .. }) => {
            let (port, origin) = (port.map(tracing::field::display), origin.name());
            tracing::info!(ifindex, name, tag, %instance, project, port, origin, "tap is bound");
        }
        PortState::Held => tracing::info!(ifindex, name, tag, "tap is held: nobody says whose it is"),
        PortState::Passed => tracing::info!(ifindex, name, "tap is passed: no document names it"),
        PortState::Refused(reason) => tracing::warn!(ifindex, name, tag, reason, "tap is refused"),
        PortState::Failed(reason) => tracing::error!(ifindex, name, tag, reason, "tap failed"),
    }
}
