//! The kernel side as the admin API sees it: taps, their counters, and what is asked of the ports' thread.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::{Arc, OnceLock};

use metadata_ebpf::abi::Counters;
use tokio::sync::{mpsc, oneshot};

use crate::admin::TraceError;
use crate::config;
use crate::dataplane::{IfIndex, PacketCounters};
use crate::error_text;
use crate::identity::Tag;
use crate::metrics::{Fault, Packets, Repair};
use crate::port::{NotReleased, PortView, PortsView, Request, TraceRequest};

/// The kernel side, which is set up after the admin API.
#[derive(Clone, Default)]
pub(super) struct Kernel(Arc<OnceLock<Parts>>);

impl std::fmt::Debug for Kernel {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Kernel").finish_non_exhaustive()
    }
}

struct Parts {
    ports: PortsView,
    counters: PacketCounters,
    requests: mpsc::Sender<Request>,
}

impl Kernel {
    /// Shows the kernel side from here on.
    pub(super) fn set(&self, ports: PortsView, counters: PacketCounters, requests: mpsc::Sender<Request>) {
        // Set once in the daemon's life.
        let _ = self.0.set(Parts { ports, counters, requests });
    }

    pub(super) fn ports(&self) -> Vec<(IfIndex, PortView)> {
        self.0.get().map(|parts| parts.ports.all()).unwrap_or_default()
    }

    pub(super) fn faults(&self) -> BTreeMap<Fault, String> {
        self.0.get().map(|parts| parts.ports.faults()).unwrap_or_default()
    }

    pub(super) fn disagreements(&self) -> u64 {
        self.0.get().map_or(0, |parts| parts.ports.disagreements())
    }

    /// Returns the counters of each tap, with its name, by interface index.
    pub(super) fn counters(&self) -> Vec<(IfIndex, String, Counters)> {
        let Some(parts) = self.0.get() else { return Vec::new() };
        let counted = parts.ports.all().into_iter();
        counted.filter_map(|(ifindex, port)| Some((ifindex, port.name, parts.counters.get(ifindex)?))).collect()
    }

    /// Returns repairs that occurred, with their number.
    pub(super) fn repairs(&self) -> Vec<(Repair, u64)> {
        let repairs = self.0.get().into_iter().flat_map(|parts| parts.ports.repairs());
        repairs.filter(|(_, count)| *count > 0).collect()
    }

    /// Applies these limits and guards to the ports.
    pub(super) async fn set_rules(&self, rules: config::Ports) {
        if let Some(parts) = self.0.get() {
            // The ports' thread is gone only when the daemon ends.
            let _ = parts.requests.send(Request::Rules(Box::new(rules))).await;
        }
    }

    /// Has new connections of every tap left to its network.
    pub(super) async fn leave(&self) -> Option<()> {
        let (done, left) = oneshot::channel();
        self.0.get()?.requests.send(Request::Leave(done)).await.ok()?;
        left.await.ok()
    }

    /// Has the programs taken off every tap; returns those that still have one. `None`: the ports are not there yet, or no more.
    pub(super) async fn release(&self) -> Option<Vec<NotReleased>> {
        let (done, released) = oneshot::channel();
        self.0.get()?.requests.send(Request::Release(done)).await.ok()?;
        released.await.ok()
    }

    /// Completes when a tap changes after this call.
    pub(super) fn port_changed(&self) -> impl Future<Output = ()> + Send + use<> {
        let changed = self.0.get().map(|parts| parts.ports.changed());
        async move {
            match changed {
                Some(changed) => changed.await,
                None => std::future::pending().await,
            }
        }
    }

    /// Returns how often the guest of a tap has asked for the service's MAC: ARP requests and neighbour solicitations.
    pub(in crate::app) fn questions(&self, ifindex: IfIndex) -> u64 {
        let counters = self.0.get().and_then(|parts| parts.counters.get(ifindex));
        counters.map_or(0, |counters| counters.answered_arp + counters.answered_neighbour)
    }

    /// Returns the tag of a tap's binding.
    pub(in crate::app) fn tag_of(&self, ifindex: IfIndex) -> Option<Tag> {
        self.0.get()?.ports.get(ifindex)?.tag
    }

    pub(super) async fn trace(&self, port: String, lines: mpsc::Sender<String>) -> Result<(), TraceError> {
        let parts = self.0.get();
        let Some((parts, ifindex)) = parts.and_then(|parts| Some((parts, parts.ports.ifindex_of(&port)?))) else {
            return Err(TraceError::NoSuchPort(port));
        };
        let (started, answer) = oneshot::channel();
        let sent = parts.requests.send(Request::Trace(TraceRequest { ifindex, lines, started })).await;
        let result = match sent {
            Ok(()) => answer.await.unwrap_or_else(|_| Err("the daemon is shutting down".to_owned())),
            Err(_) => Err("the daemon is shutting down".to_owned()),
        };
        result.map_err(|reason| TraceError::Refused { port, reason: error_text::one_line(&reason) })
    }
}

impl Packets for Kernel {
    fn totals(&self) -> Vec<(&'static str, u64)> {
        let Some(parts) = self.0.get() else { return Vec::new() };
        let named = Counters::NAMES.into_iter().zip(parts.counters.total().values());
        named.filter(|(name, _)| !name.is_empty()).collect()
    }
}
