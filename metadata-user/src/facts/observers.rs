//! Observers at work: heard on a thread of their own, their words put into the table of facts, their state shown.
//!
//! Promises: neither guests nor ports wait for an observer, but for its first word at the start; one that is not there is
//! looked for again, and is no error; one that was heard and is gone leaves its last facts, and the state says so.

use std::collections::BTreeSet;
use std::io;
use std::sync::Arc;
use std::time::SystemTime;

use tracing::{info, warn};

use super::{libvirt, openvswitch};
use crate::config;
use crate::facts::{Fact, Facts, Observer};
use crate::readiness::Blocker;
use crate::record::{InstanceId, PortId};
use crate::state_view::StateView;
use crate::worker::{Stop, Worker};

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
    /// Who it is.
    pub observer: Observer,
    /// Where it is heard.
    pub place: String,
    /// Whether it is heard now.
    pub present: bool,
    /// Since when that is so.
    pub since: SystemTime,
    /// Facts that it gave.
    pub facts: usize,
    /// Why it cannot be heard, and the remedy; `None` also where it never was there.
    pub error: Option<String>,
    /// What of its words cannot be read.
    pub unreadable: Vec<String>,
    /// Interfaces that have no tap.
    pub unreachable_ports: Vec<UnreachablePort>,
}

/// A view of an observer's state.
pub type ObserverView = StateView<ObserverState>;

/// The running observers. Dropping it ends them.
#[derive(Debug)]
pub struct Observers {
    views: Vec<ObserverView>,
    _worker: Worker,
}

impl Observers {
    /// Starts to hear those that the configuration names. `first` is dropped when each has been heard once, or is not
    /// there.
    ///
    /// # Errors
    /// If no thread can be started.
    pub fn start(
        settings: &config::facts::Facts,
        rules: &config::Ports,
        facts: &Facts,
        first: Blocker,
    ) -> io::Result<Self> {
        let first = Arc::new(first);
        let reporter =
            |observer, place: String| Reporter::new(observer, place, rules.clone(), facts.clone(), Arc::clone(&first));
        let ovs = settings.openvswitch.clone().map(|socket| {
            let reporter = reporter(Observer::OpenVswitch, socket.display().to_string());
            (socket, reporter)
        });
        let libvirt = settings.libvirt.clone().map(|dir| {
            let reporter = reporter(Observer::Libvirt, dir.display().to_string());
            (dir, reporter)
        });
        let views = ovs.iter().chain(&libvirt).map(|(_, reporter)| reporter.view.clone()).collect();
        let worker = Worker::spawn("facts", async move |mut stop: Stop| {
            if let Some((socket, reporter)) = ovs {
                tokio::spawn(openvswitch::run(socket, reporter));
            }
            if let Some((dir, reporter)) = libvirt {
                tokio::spawn(libvirt::run(dir, reporter));
            }
            stop.requested().await;
        })?;
        Ok(Self { views, _worker: worker })
    }

    /// Returns a view of each, most trusted first.
    #[must_use]
    pub fn views(&self) -> Vec<ObserverView> {
        self.views.clone()
    }
}

/// Where an observer speaks from: its words go to the table, and its state to whoever reads it.
#[derive(Debug)]
pub(super) struct Reporter {
    observer: Observer,
    facts: Facts,
    rules: config::Ports,
    state: ObserverState,
    view: ObserverView,
    /// Held until the first word.
    first: Option<Arc<Blocker>>,
}

impl Reporter {
    fn new(observer: Observer, place: String, rules: config::Ports, facts: Facts, first: Arc<Blocker>) -> Self {
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

    /// The observer has said this, and nothing else.
    pub(super) fn heard(
        &mut self,
        facts: Vec<(String, Fact)>,
        mut unreachable_ports: Vec<UnreachablePort>,
        unreadable: Vec<String>,
    ) {
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
            warn!(observer = name, problem, "what an observer says cannot be read");
        }
        if !self.state.present {
            self.state.since = SystemTime::now();
            info!(observer = name, place = self.state.place, facts = facts.len(), "observer is heard");
        }
        self.state.present = true;
        self.state.error = None;
        self.state.facts = facts.len();
        self.state.unreadable = unreadable;
        self.state.unreachable_ports = unreachable_ports;
        self.facts.replace(self.observer, facts);
        self.publish();
    }

    /// There is no such observer: an error only if it was heard before.
    pub(super) fn absent(&mut self) {
        if self.state.present || self.state.error.is_some() && self.state.facts > 0 {
            return self.lost("it is gone; what it said last stays".to_owned());
        }
        if self.state.error.take().is_some() {
            self.state.since = SystemTime::now();
        }
        self.publish();
    }

    /// The observer cannot be heard, for this reason.
    pub(super) fn lost(&mut self, error: String) {
        if self.state.present || self.state.error.is_none() {
            self.state.since = SystemTime::now();
        }
        if self.state.error.as_ref() != Some(&error) {
            warn!(observer = self.observer.name(), place = self.state.place, error, "observer is not heard");
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
