//! The taps as they are, for whoever reads: commands, and the log.

use std::{
    collections::BTreeMap,
    sync::{Arc, PoisonError, RwLock},
};

use super::reconcile::Wanted;
use crate::{
    dataplane::{AttachKind, IfIndex, join_sources},
    identity::Tag,
    store::record::{InstanceId, MacAddress, PortId},
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
    Bound {
        /// The instance.
        instance: InstanceId,
        /// Its project.
        project: String,
        /// The port.
        port: PortId,
        /// The port's MAC.
        mac: MacAddress,
        /// Allowed sources, joined.
        sources: Vec<(MacAddress, ipnet::IpNet)>,
    },
    /// Answered with 503: no document names it.
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
pub struct PortsView(Arc<RwLock<BTreeMap<IfIndex, PortView>>>);

impl PortsView {
    /// Returns all taps, by interface index.
    #[must_use]
    pub fn all(&self) -> Vec<(IfIndex, PortView)> {
        let ports = self.0.read().unwrap_or_else(PoisonError::into_inner);
        ports.iter().map(|(ifindex, view)| (*ifindex, view.clone())).collect()
    }

    /// Returns the interface index of the tap with this name.
    #[must_use]
    pub fn ifindex_of(&self, name: &str) -> Option<IfIndex> {
        let ports = self.0.read().unwrap_or_else(PoisonError::into_inner);
        ports.iter().find(|(_, view)| view.name == name).map(|(ifindex, _)| *ifindex)
    }

    /// Returns the name of a tap.
    #[must_use]
    pub fn name_of(&self, ifindex: IfIndex) -> Option<String> {
        let ports = self.0.read().unwrap_or_else(PoisonError::into_inner);
        ports.get(&ifindex).map(|view| view.name.clone())
    }

    /// Returns whether that changes anything.
    pub(super) fn set(&self, ifindex: IfIndex, view: &PortView) -> bool {
        let before = self.0.write().unwrap_or_else(PoisonError::into_inner).insert(ifindex, view.clone());
        before.as_ref() != Some(view)
    }

    pub(super) fn remove(&self, ifindex: IfIndex) {
        self.0.write().unwrap_or_else(PoisonError::into_inner).remove(&ifindex);
    }
}

impl From<Wanted> for PortState {
    fn from(wanted: Wanted) -> Self {
        match wanted {
            Wanted::Passed => PortState::Passed,
            Wanted::Held => PortState::Held,
            Wanted::Refused(reason) => PortState::Refused(reason),
            Wanted::Bound(claim) => PortState::Bound {
                instance: claim.instance,
                project: claim.project.to_string(),
                port: claim.port.id,
                mac: claim.port.mac_address,
                sources: join_sources(&claim.port.sources()),
            },
        }
    }
}

/// Writes a change of a tap to the log.
pub(super) fn log(ifindex: IfIndex, view: &PortView) {
    let (ifindex, name, tag) = (ifindex.0, &view.name, view.tag.map(|tag| tag.0));
    match &view.state {
        PortState::Bound { instance, project, port, .. } => {
            tracing::info!(ifindex, name, tag, instance = %instance.0, project, port = %port.0, "tap is bound");
        }
        PortState::Held => tracing::info!(ifindex, name, tag, "tap is held: no document names it"),
        PortState::Passed => tracing::info!(ifindex, name, "tap is passed: no document names it"),
        PortState::Refused(reason) => tracing::warn!(ifindex, name, tag, reason, "tap is refused"),
        PortState::Failed(reason) => tracing::error!(ifindex, name, tag, reason, "tap failed"),
    }
}
