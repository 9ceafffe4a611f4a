//! The observers that run: each follows its program on the thread `facts`, and reports to the table of facts.
//!
//! Promises: neither guests nor ports wait for an observer, except for its first report at the start; a program that does
//! not run is looked for again, and is no error.

use std::io;
use std::sync::Arc;

use super::report::{ObserverView, Reporter};
use super::{Facts, Observer, libvirt, openvswitch};
use crate::config;
use crate::privilege;
use crate::readiness::Blocker;
use crate::worker::{Stop, Worker};

/// The running observers. Dropping it ends them.
#[derive(Debug)]
pub struct Observers {
    views: Vec<ObserverView>,
    _worker: Worker,
}

impl Observers {
    /// Starts those that the configuration names. `first` is dropped when each has reported once, or does not run.
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
        let views = ovs.iter().chain(&libvirt).map(|(_, reporter)| reporter.view()).collect();
        let worker = Worker::spawn_as(&privilege::FACTS, "facts", async move |mut stop: Stop| {
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
