//! The taps of this node: found over netlink, bound to instances, and made known to the kernel half.
//!
//! Promises:
//! - every link that the configuration matches gets `from_guest` at once, bound or not;
//! - a tag is bound to one instance in its life; another instance on the same tap is another tag, and the old one ends in
//!   the kernel first and in the connections next, before anybody can read through it (`binding`);
//! - facts, documents and links may come, go and change in any order: each change makes the tap what it should be now,
//!   whatever it was before, and looks at the taps that it concerns only;
//! - evidence that contradicts itself is a refusal that is counted, and that `metadatad ports` explains;
//! - a tap that fails is held as far as the kernel lets it, shown with the reason, and tried again (`failures`).
//!
//! One task owns all of this, on a thread of its own: its system calls never delay a guest's answer.

mod binding;
pub mod carrier;
mod failures;
mod hold;
pub mod look;
mod names;
pub mod netlink;
mod owner;
pub mod reconcile;
mod release;
mod removals;
mod taps;
mod trace;
mod view;
mod watch;

use std::{
    collections::{BTreeSet, VecDeque},
    sync::Arc,
    time::Duration,
};

use tokio::{
    sync::mpsc,
    time::{Instant, sleep_until},
};

use self::{
    binding::Retired,
    failures::Failures,
    netlink::{Link, LinkEvent},
    reconcile::{DesiredPort, Evidence, desired},
    removals::Removal,
    taps::Taps,
};
pub use self::{
    owner::Owner,
    release::NotReleased,
    trace::{Request, TraceRequest},
    view::{GuardState, PortState, PortView, PortsView},
};
use crate::{
    api::{Content, RenderedInstance},
    config,
    dataplane::{Dataplane, DataplaneError, IfIndex, Place, Trace, XdpError, responder::ResponderNetns},
    error_text,
    facts::{Facts, FactsChange},
    identity::Identities,
    pulse::Pulse,
    store::{self, Store},
};

/// Why the task ended.
#[derive(Debug, thiserror::Error)]
pub enum PortsError {
    /// Links cannot be watched.
    #[error(transparent)]
    Netlink(#[from] netlink::NetlinkError),
    /// The store is gone: the daemon ends.
    #[error("the store is gone")]
    StoreGone,
}

/// What the task follows, subscribed before the first change that it must not miss.
#[derive(Debug)]
pub struct Changes {
    store: store::Changes,
    facts: mpsc::UnboundedReceiver<FactsChange>,
}

impl Changes {
    /// Returns all changes from here on.
    #[must_use]
    pub fn of(store: &Store, facts: &Facts) -> Self {
        Self { store: store.subscribe(), facts: facts.subscribe() }
    }
}

/// The task's state.
#[derive(Debug)]
pub struct Ports {
    dataplane: Dataplane,
    responder: ResponderNetns,
    identities: Arc<Identities>,
    store: Arc<Store>,
    facts: Facts,
    rules: config::Ports,
    view: PortsView,
    taps: Taps,
    trace: Option<Trace>,
    retired: VecDeque<Retired>,
    failures: Failures,
    /// Taps that may have lost their program to others, and when they are checked.
    suspects: BTreeSet<IfIndex>,
    check: Option<Instant>,
    /// When it is next looked whether everything is still there.
    look: Instant,
    /// Programs that are to be put back, once the events about their taps so far have been handled.
    lost: BTreeSet<Place>,
    /// Whether the responder could not be mended at the last look.
    unmended: bool,
    /// Counts what has been done.
    pulse: Pulse,
    /// Taps are let go of, and no other is taken on.
    released: bool,
    /// The first taps are taken on, from whatever has served them so far.
    starting: bool,
    /// When these have arrived.
    arrival: Option<Instant>,
}

/// How long a program that removes a queueing discipline has to add its own. Open vSwitch removes one and adds one for
/// its policing without a pause, but not in one step, and does not try again. A guest's next try comes after a second.
const POLITENESS: Duration = Duration::from_millis(250);

/// Changed instances that are handled in one go.
const CHANGES: usize = 1024;

impl Ports {
    /// Makes the task's state; [`Self::run`] runs it.
    #[must_use]
    pub fn new(
        dataplane: Dataplane,
        responder: ResponderNetns,
        identities: Arc<Identities>,
        store: Arc<Store>,
        facts: Facts,
        rules: config::Ports,
        view: PortsView,
    ) -> Self {
        Self {
            dataplane,
            responder,
            identities,
            store,
            facts,
            rules,
            view,
            taps: Taps::default(),
            trace: None,
            retired: VecDeque::new(),
            failures: Failures::default(),
            suspects: BTreeSet::new(),
            check: None,
            look: Instant::now(),
            lost: BTreeSet::new(),
            unmended: false,
            pulse: Pulse::default(),
            released: false,
            starting: false,
            arrival: None,
        }
    }

    /// Counts each event and each tap by this pulse: many taps at once take long, in which the thread gets to nothing else.
    #[must_use]
    pub fn watched(mut self, pulse: &Pulse) -> Self {
        self.pulse = pulse.clone();
        self
    }

    /// Follows links, facts and documents until the store or the netlink socket is gone. `ready` is called when every link that
    /// was there at the start is attached.
    ///
    /// # Errors
    /// See [`PortsError`]. Failures of single taps are logged and shown, and end nothing.
    pub async fn run(
        mut self,
        mut changes: Changes,
        mut requests: mpsc::Receiver<Request>,
        ready: impl FnOnce(),
    ) -> Result<(), PortsError> {
        let (mut links, first) = netlink::watch().await?;
        // Before the first program is put anywhere.
        let mut removals = removals::watch(self.dataplane.is_removable())?;
        let started = Instant::now();
        self.arrival = Some(started + release::ARRIVAL);
        self.starting = true;
        self.resync(first);
        self.starting = false;
        self.forget_leftovers();
        self.dataplane.rebuilt();
        tracing::info!(
            ports = self.taps.len(),
            milliseconds = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX),
            "every tap that existed at the start is attached"
        );
        ready();
        let (trace_over, mut trace_ended) = mpsc::channel(1);
        loop {
            self.pulse.count();
            tokio::select! {
                event = links.next() => match event? {
                    LinkEvent::Changed(link) => self.link_changed(link),
                    LinkEvent::Gone(ifindex) => self.link_gone(ifindex),
                    LinkEvent::Resync(links) => self.resync(links),
                    LinkEvent::Settled => self.put_back(),
                },
                removal = removals.next() => self.suspect(removal?),
                () = due(self.check) => if self.check_suspects() {
                    links.settle();
                },
                () = sleep_until(self.look) => if self.look() {
                    links.settle();
                },
                changed = changes.store.next(CHANGES) => {
                    let changed = changed.ok_or(PortsError::StoreGone)?;
                    // A document need not name a device that facts give to its instance.
                    let documents: BTreeSet<_> =
                        changed.iter().filter(|change| change.document).map(|change| change.instance).collect();
                    let mut taps: BTreeSet<String> = changed.into_iter().flat_map(|change| change.taps).collect();
                    taps.extend(self.facts.devices_of(&documents));
                    self.devices_changed(&taps.into_iter().collect::<Vec<_>>());
                }
                Some(change) = changes.facts.recv() => self.devices_changed(&change.devices),
                Some(request) = requests.recv() => match request {
                    Request::Trace(request) => self.request(request, &trace_over),
                    Request::StandStill(hold) => self.stand_still(hold).await,
                    Request::Rules(rules) => self.set_rules(&rules),
                    Request::Leave(done) => {
                        self.leave();
                        // Whoever asked may be gone; it is done all the same.
                        let _ = done.send(());
                    }
                    Request::Release(done) => drop(done.send(self.release())),
                },
                Some(()) = trace_ended.recv() => self.end_trace(),
                () = due(self.arrival) => self.end_arrival(),
                () = due(self.failures.next()) => self.try_again(),
                () = due(self.next_retired()) => self.end_due(),
            }
        }
    }

    fn link_changed(&mut self, link: Link) {
        if link.ifindex == self.dataplane.pair() {
            self.look_soon();
        }
        if self.released {
            return;
        }
        let known = self.taps.name(link.ifindex);
        if !self.rules.matches(&link.name) || link.ifindex == self.dataplane.pair() {
            if known.is_some() {
                tracing::info!(ifindex = link.ifindex.0, name = link.name, "interface was renamed: no longer a tap");
                self.link_gone(link.ifindex);
            }
            return;
        }
        if known == Some(link.name.as_str()) {
            return;
        }
        if known.is_some() {
            tracing::info!(ifindex = link.ifindex.0, name = link.name, "tap was renamed");
        }
        self.taps.set_name(link.ifindex, link.name);
        self.settle(link.ifindex);
    }

    fn link_gone(&mut self, ifindex: IfIndex) {
        if ifindex == self.dataplane.pair() {
            self.look_soon();
        }
        if let Some(name) = self.forget(ifindex) {
            tracing::info!(ifindex = ifindex.0, name, "tap is gone");
        }
    }

    /// Ends everything on a tap, and returns its name.
    fn forget(&mut self, ifindex: IfIndex) -> Option<String> {
        self.pulse.count();
        self.taps.contains(ifindex).then_some(())?;
        let forgotten = self.dataplane.forget(ifindex);
        let name = self.forget_known(ifindex)?;
        if let Err(error) = forgotten {
            report(ifindex, &name, &error);
        }
        Some(name)
    }

    /// Something was removed from an interface: it is checked soon.
    fn suspect(&mut self, removal: Removal) {
        match removal {
            Removal::From(ifindex) if ifindex == self.dataplane.pair() => {
                self.suspects.insert(ifindex);
            }
            Removal::From(ifindex) => self.suspects.extend(self.taps.contains(ifindex).then_some(ifindex)),
            Removal::Unknown => self.suspects.extend(self.taps.indexes().chain([self.dataplane.pair()])),
        }
        if !self.suspects.is_empty() && self.check.is_none() {
            self.check = Some(Instant::now() + POLITENESS);
        }
    }

    /// Finds out which programs are gone; `true` if any is.
    fn check_suspects(&mut self) -> bool {
        self.check = None;
        for ifindex in std::mem::take(&mut self.suspects) {
            if ifindex == self.dataplane.pair() {
                self.lost.insert(Place::ToGuest);
                continue;
            }
            let Some(name) = self.taps.name(ifindex).map(str::to_owned) else {
                continue;
            };
            if self.dataplane.attached(ifindex).is_none() || !exists(ifindex) {
                continue;
            }
            if !self.dataplane.is_attached(ifindex, &name) {
                self.lost.insert(Place::Tap(ifindex));
            } else if self.dataplane.has_lost_guard(ifindex, &name) {
                self.lost.insert(Place::Guard(ifindex));
            }
        }
        !self.lost.is_empty()
    }

    /// Makes the taps those of a complete list: after the start, or when events were lost.
    fn resync(&mut self, links: Vec<Link>) {
        let present: BTreeSet<_> = links.iter().map(|link| link.ifindex).collect();
        let gone: Vec<_> = self.taps.indexes().filter(|known| !present.contains(known)).collect();
        for ifindex in gone {
            self.link_gone(ifindex);
        }
        let new = links.iter().filter(|link| self.rules.matches(&link.name) && !self.taps.contains(link.ifindex));
        let _short_waits = self.dataplane.expedite(new.count());
        for link in links {
            // Another device may have taken the index, and even the name, unnoticed.
            if self.taps.contains(link.ifindex) {
                if self.dataplane.is_attached(link.ifindex, &link.name) {
                    if self.dataplane.has_lost_guard(link.ifindex, &link.name) {
                        self.put_guard_back(link.ifindex, &link.name);
                    }
                } else {
                    self.link_gone(link.ifindex);
                }
            }
            self.link_changed(link);
        }
    }

    /// Removes what an earlier daemon left in the kernel about interfaces that are gone by now.
    fn forget_leftovers(&mut self) {
        let mut leftovers = self.dataplane.known();
        leftovers.extend(self.dataplane.pinned_taps());
        for ifindex in leftovers {
            if !self.taps.contains(ifindex)
                && let Err(error) = self.dataplane.forget(ifindex)
            {
                report(ifindex, "", &error);
            }
        }
        if let Err(error) = self.dataplane.end_orphaned_tags() {
            tracing::error!(error = error_text::chain(&error), "cannot end tags that no port has");
        }
    }

    fn devices_changed(&mut self, devices: &[String]) {
        for ifindex in self.taps.named(devices) {
            self.settle(ifindex);
        }
    }

    /// Makes a tap what it should be now.
    fn settle(&mut self, ifindex: IfIndex) {
        self.pulse.count();
        let Some(name) = self.taps.name(ifindex).map(str::to_owned) else {
            return;
        };
        if self.released && self.dataplane.attached(ifindex).is_none() {
            return;
        }
        let desired = self.desired(&name);
        if matches!(desired, DesiredPort::Refused(_)) {
            self.view.refuse(ifindex);
        }
        let attached = self.attach(ifindex, &name);
        let has_program = attached.is_ok();
        let mut guard = if self.dataplane.has_xdp(ifindex) { GuardState::Xdp } else { GuardState::Off };
        let state = match attached.and_then(|()| self.bind(ifindex, &desired)) {
            Ok(()) => {
                guard = self.guard_or_retry(ifindex, &name);
                PortState::from(desired)
            }
            Err(error) if is_gone(&error) => {
                tracing::debug!(ifindex = ifindex.0, name, "tap went away while it was being attached");
                return;
            }
            Err(error) => {
                self.failures.add(ifindex, Instant::now());
                let reason = error_text::chain(&error);
                PortState::Failed(if has_program { self.hold_failed(ifindex, reason) } else { reason })
            }
        };
        let tag = self.taps.binding(ifindex).map(|binding| binding.tag);
        let guarded = self.dataplane.is_guarded(ifindex);
        let view = PortView { name, tag, state, attached: self.dataplane.attached(ifindex), guarded, guard };
        if self.view.set(ifindex, &view) {
            view::log(ifindex, &view);
        }
    }

    /// Guards a tap against impersonation, and limits it at XDP, where that is wanted. A tap that cannot be guarded is served all the
    /// same, and tried again.
    fn guard_or_retry(&mut self, ifindex: IfIndex, name: &str) -> GuardState {
        let mut failed = false;
        if let Err(error) = self.guard(ifindex, name)
            && !is_gone(&error)
        {
            failed = true;
            let error = error_text::chain(&error);
            tracing::error!(ifindex = ifindex.0, name, error, "tap is not guarded against impersonation");
        }
        let guard = match self.guard_by_xdp(ifindex, name) {
            Ok(true) => GuardState::Xdp,
            Err(error) if exists(ifindex) => {
                // A driver does not learn it.
                failed |= !matches!(error, XdpError::Unsupported);
                GuardState::Missing { name: error.name(), reason: error_text::chain(&error) }
            }
            Ok(false) | Err(_) => GuardState::Off,
        };
        if failed {
            self.failures.add(ifindex, Instant::now())
        } else {
            self.failures.remove(ifindex)
        }
        guard
    }

    /// Holds a tap that has the program and could not be bound, and returns the reason for people: better answered with 503
    /// than passed on to a network.
    fn hold_failed(&mut self, ifindex: IfIndex, reason: String) -> String {
        if self.taps.binding(ifindex).is_some_and(|binding| binding.owner.is_some()) {
            return format!("{reason}; the port's former rules stay in force");
        }
        match self.bind(ifindex, &DesiredPort::Held) {
            Err(error) if error_text::chain(&error) != reason => {
                format!("{reason}; and it cannot be held: {}", error_text::chain(&error))
            }
            _ => reason,
        }
    }

    fn desired(&self, device: &str) -> DesiredPort {
        let facts = self.facts.of(device);
        let served = facts.first().and_then(|(_, fact)| self.store.served(fact.instance));
        let has_content = served.is_some();
        let instance = served.and_then(Content::rendered);
        let record = instance.as_deref().map(RenderedInstance::record);
        desired(
            &Evidence { device, facts: &facts, claims: &self.store.claims(device), record, has_content },
            &self.rules,
        )
    }

    /// Settles the taps whose next attempt is due.
    fn try_again(&mut self) {
        for ifindex in self.failures.due(Instant::now()) {
            self.settle(ifindex);
        }
    }
}

/// Completes at a time; never without one. Cancel-safe.
async fn due(time: Option<Instant>) {
    match time {
        Some(time) => sleep_until(time).await,
        None => std::future::pending().await,
    }
}

/// Tells whether an error only says that the tap has gone meanwhile.
fn is_gone(error: &DataplaneError) -> bool {
    matches!(error, DataplaneError::Attach { ifindex, .. } if !exists(*ifindex))
}

fn exists(ifindex: IfIndex) -> bool {
    nix::net::if_::if_indextoname(ifindex.0).is_ok()
}

fn report(ifindex: IfIndex, name: &str, error: &DataplaneError) {
    tracing::error!(ifindex = ifindex.0, name, error = error_text::chain(error), "tap");
}
