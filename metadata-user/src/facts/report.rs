//! What one observer reports, and how it is doing.
//!
//! Promises: facts of a report replace all that the observer reported before; an observer that was connected and is lost
//! leaves its last facts in place, and its state says so; each problem is logged once.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::SystemTime;

use tracing::{info, warn};

use super::{Fact, Facts, Observer};
use crate::config;
use crate::readiness::Blocker;
use crate::record::{InstanceId, PortId};
use crate::state_view::StateView;

/// Everything that an observer knows at one time.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Facts by device. A device may come more than once: the observer contradicts itself.
    pub facts: Vec<(String, Fact)>,
    /// Interfaces that have no tap.
    pub unreachable_ports: Vec<UnreachablePort>,
    /// What cannot be read, with the remedy.
    pub unreadable: Vec<String>,
}

/// An interface of an instance whose packets pass no tap here. The instance needs a config drive.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct UnreachablePort {
    /// Its device, MAC or what else names it.
    pub device: String,
    /// Its instance.
    pub instance: InstanceId,
    /// The port, where it is known.
    pub port: Option<PortId>,
    /// What it is.
    pub kind: String,
}

/// How an observer is doing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ObserverState {
    /// Which one.
    pub observer: Observer,
    /// Its socket or directory.
    pub place: String,
    /// Whether it is connected now.
    pub present: bool,
    /// Since when.
    pub since: SystemTime,
    /// Number of facts that it reported.
    pub facts: usize,
    /// Why it is not connected, and the remedy; `None` also if it never ran.
    pub error: Option<String>,
    /// Parts of its last report that cannot be read.
    pub unreadable: Vec<String>,
    /// Interfaces that have no tap.
    pub unreachable_ports: Vec<UnreachablePort>,
}

/// A view of an observer's state.
pub type ObserverView = StateView<ObserverState>;

/// An observer's way to the rest of the daemon: its reports go to the table of facts, its state to the view.
#[derive(Debug)]
pub(super) struct Reporter {
    observer: Observer,
    facts: Facts,
    rules: config::Ports,
    state: ObserverState,
    view: ObserverView,
    /// Held until the first report, or until the observer is known not to run.
    first: Option<Arc<Blocker>>,
}

impl Reporter {
    pub(super) fn new(
        observer: Observer,
        place: String,
        rules: config::Ports,
        facts: Facts,
        first: Arc<Blocker>,
    ) -> Self {
        let state = ObserverState {
            observer,
            place,
            present: false,
            since: SystemTime::now(),
            facts: 0,
            error: None,
            unreadable: Vec::new(),
            unreachable_ports: Vec::new(),
        };
        let view = StateView::new(state.clone());
        Self { observer, facts, rules, state, view, first: Some(first) }
    }

    /// Returns a view of the observer's state.
    pub(super) fn view(&self) -> ObserverView {
        self.view.clone()
    }

    /// Replaces everything that the observer reported before.
    pub(super) fn update(&mut self, report: Report) {
        let Report { facts, mut unreachable_ports, unreadable } = report;
        let of_taps: BTreeSet<_> = facts
            .iter()
            .filter(|(device, _)| self.rules.matches(device))
            .map(|(_, fact)| (fact.instance, fact.port))
            .collect();
        unreachable_ports.extend(
            facts
                .iter()
                .filter(|(device, fact)| !self.rules.matches(device) && !of_taps.contains(&(fact.instance, fact.port)))
                .map(|(device, fact)| UnreachablePort {
                    device: device.clone(),
                    instance: fact.instance,
                    port: fact.port,
                    kind: "not among ports.match".to_owned(),
                }),
        );
        unreachable_ports.sort_unstable();
        unreachable_ports.dedup();
        let name = self.observer.name();
        for device in unreachable_ports.iter().filter(|device| !self.state.unreachable_ports.contains(device)) {
            let UnreachablePort { device, instance, kind, .. } = device;
            info!(observer = name, device, %instance, kind, "no metadata on this interface: it needs a config drive");
        }
        for problem in unreadable.iter().filter(|problem| !self.state.unreadable.contains(problem)) {
            warn!(observer = name, problem, "part of an observer's data cannot be read");
        }
        if !self.state.present {
            self.state.since = SystemTime::now();
            info!(observer = name, place = self.state.place, facts = facts.len(), "connected to observer");
        }
        // While it is connected, the error is that of `limited`.
        if !std::mem::replace(&mut self.state.present, true) {
            self.state.error = None;
        }
        self.state.facts = facts.len();
        self.state.unreadable = unreadable;
        self.state.unreachable_ports = unreachable_ports;
        self.facts.replace(self.observer, facts);
        self.publish();
    }

    /// The observer is connected, but changes are noticed late for this reason; `None`: they are not.
    pub(super) fn limited(&mut self, problem: Option<&str>) {
        if !self.state.present || self.state.error.as_deref() == problem {
            return;
        }
        match problem {
            Some(problem) => warn!(observer = self.observer.name(), problem, "changes are noticed late"),
            None => info!(observer = self.observer.name(), "changes are noticed at once again"),
        }
        self.state.error = problem.map(str::to_owned);
        self.publish();
    }

    /// The observer does not run: an error only if it was connected before.
    pub(super) fn absent(&mut self) {
        if self.state.present || self.state.error.is_some() && self.state.facts > 0 {
            return self.lost("it no longer runs; its last data stays in use".to_owned());
        }
        if self.state.error.take().is_some() {
            self.state.since = SystemTime::now();
        }
        self.publish();
    }

    /// The observer is not connected, for this reason.
    pub(super) fn lost(&mut self, error: String) {
        if self.state.present || self.state.error.is_none() {
            self.state.since = SystemTime::now();
        }
        if self.state.error.as_ref() != Some(&error) {
            let message = if self.state.facts > 0 {
                "lost observer; its last data stays in use"
            } else {
                "no connection to observer"
            };
            warn!(observer = self.observer.name(), place = self.state.place, error, "{message}");
        }
        self.state.present = false;
        self.state.error = Some(error);
        self.publish();
    }

    fn publish(&mut self) {
        self.view.publish(self.state.clone());
        self.first = None;
    }
}
