//! The taps of this node: found over netlink, bound to instances, told to the kernel.
//!
//! Promises:
//! - every link that the configuration matches gets `from_guest` at once, bound or not;
//! - a tag is bound to one instance in its life; another instance on the same tap is another tag, and the old one ends in
//!   the kernel first and in the connections next, before anybody can read through it;
//! - facts, documents and links may come, go and change in any order: each change makes the tap what it should be now,
//!   whatever it was before;
//! - a doubt (two that say different things of one tap) is a refusal that is counted, and that `metadatad ports`
//!   explains.
//!
//! One task owns all of this, on a thread of its own: its system calls never delay a guest's answer.

pub mod netlink;
pub mod reconcile;
mod removals;
mod view;

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::Arc,
    time::Duration,
};

use tokio::{
    sync::{mpsc, oneshot},
    time::{Instant, sleep_until},
};

pub use self::view::{PortState, PortView, PortsView};
use self::{
    netlink::{Link, LinkEvent},
    reconcile::{DesiredPort, Evidence, desired, keeps_tag},
    removals::Removal,
};
use crate::{
    api::RenderedInstance,
    config,
    dataplane::{Dataplane, DataplaneError, IfIndex, PortEntry, Trace},
    error_text,
    facts::{Facts, FactsChange},
    identity::{Identities, Identity, Tag},
    record::{InstanceId, PortId},
    store::{Content, Store, StoreChange},
};

/// Something that a command asks of the task.
#[derive(Debug)]
pub enum Request {
    /// Trace a tap until the receiver of the lines is gone.
    Trace {
        /// The tap.
        ifindex: IfIndex,
        /// Where the lines go.
        lines: mpsc::Sender<String>,
        /// Whether it could be started; the reason if not.
        started: oneshot::Sender<Result<(), String>>,
    },
}

/// Why the task ended.
#[derive(Debug, thiserror::Error)]
pub enum PortsError {
    /// Links cannot be watched.
    #[error(transparent)]
    Netlink(#[from] netlink::NetlinkError),
    /// The store is gone: the daemon is ending.
    #[error("the store is gone")]
    StoreGone,
}

/// What the task knows of a tap.
#[derive(Debug)]
struct Port {
    name: String,
    binding: Option<Binding>,
}

/// A tag, and what the kernel was told with it.
#[derive(Debug)]
struct Binding {
    tag: Tag,
    /// `None`: held.
    owner: Option<Owner>,
    /// `None`: found in the kernel, not yet confirmed.
    entry: Option<PortEntry>,
}

/// Whose a tag is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Owner {
    /// The instance.
    pub instance: InstanceId,
    /// The port; `None` if only the kernel knows of the binding, which keeps no ports, or an observer that does not say.
    pub port: Option<PortId>,
}

/// What the task follows, subscribed before the first change that it must not miss.
#[derive(Debug)]
pub struct Changes {
    claims: mpsc::UnboundedReceiver<StoreChange>,
    content: mpsc::UnboundedReceiver<InstanceId>,
    facts: mpsc::UnboundedReceiver<FactsChange>,
}

impl Changes {
    /// Returns all changes from here on.
    #[must_use]
    pub fn of(store: &Store, facts: &Facts) -> Self {
        Self { claims: store.subscribe(), content: store.subscribe_to_content(), facts: facts.subscribe() }
    }
}

/// The task's state.
#[derive(Debug)]
pub struct Ports {
    dataplane: Dataplane,
    identities: Arc<Identities>,
    store: Arc<Store>,
    facts: Facts,
    rules: config::Ports,
    view: PortsView,
    ports: BTreeMap<IfIndex, Port>,
    trace: Option<Trace>,
    /// Tags that ended, each with its tap and the time from which on not even resets need to pass.
    retired: VecDeque<(Instant, IfIndex, Tag)>,
    /// When taps that failed are tried again.
    retry: Option<Instant>,
    /// Taps that may have lost their program to others, and when they are looked at.
    suspects: BTreeSet<IfIndex>,
    look: Option<Instant>,
}

/// How long a tap that failed waits for the next try.
const RETRY: Duration = Duration::from_secs(5);

/// How long whoever takes a queueing discipline away has to put its own there. Open vSwitch removes one and adds one for
/// its policing without a pause, but not in one step, and does not try again. A guest's next try comes after a second.
const POLITENESS: Duration = Duration::from_millis(250);

/// Changed documents that are looked at in one go.
const CONTENTS: usize = 1024;

/// How long an ended tag lets resets pass: its connections are cut within milliseconds.
const RETIREMENT: Duration = Duration::from_secs(5);

impl Ports {
    /// Makes the task's state; [`Self::run`] runs it.
    #[must_use]
    pub fn new(
        dataplane: Dataplane,
        identities: Arc<Identities>,
        store: Arc<Store>,
        facts: Facts,
        rules: config::Ports,
        view: PortsView,
    ) -> Self {
        Self {
            dataplane,
            identities,
            store,
            facts,
            rules,
            view,
            ports: BTreeMap::new(),
            trace: None,
            retired: VecDeque::new(),
            retry: None,
            suspects: BTreeSet::new(),
            look: None,
        }
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
        self.resync(first);
        self.forget_leftovers();
        tracing::info!(
            ports = self.ports.len(),
            milliseconds = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX),
            "every tap that was there is attached"
        );
        ready();
        let (trace_over, mut trace_ended) = mpsc::channel(1);
        let mut contents = Vec::new();
        loop {
            tokio::select! {
                event = links.next() => match event? {
                    LinkEvent::Changed(link) => self.link_changed(link),
                    LinkEvent::Gone(ifindex) => self.link_gone(ifindex),
                    LinkEvent::Resync(links) => self.resync(links),
                },
                removal = removals.next() => self.suspect(removal?),
                () = due(self.look) => self.look(),
                change = changes.claims.recv() => {
                    let change = change.ok_or(PortsError::StoreGone)?;
                    self.devices_changed(&change.devices);
                }
                Some(change) = changes.facts.recv() => self.devices_changed(&change.devices),
                _ = changes.content.recv_many(&mut contents, CONTENTS) => {
                    // A document need not name a device that facts give to its instance.
                    let instances: BTreeSet<_> = contents.drain(..).collect();
                    self.devices_changed(&self.facts.devices_of(&instances));
                }
                Some(request) = requests.recv() => self.request(request, &trace_over),
                Some(()) = trace_ended.recv() => self.end_trace(),
                () = due(self.retry) => self.try_again(),
                () = due(self.retired.front().map(|(due, ..)| *due)) => self.end_retired(|due, _| due <= Instant::now()),
            }
        }
    }

    fn link_changed(&mut self, link: Link) {
        let known = self.ports.get(&link.ifindex);
        if !self.rules.matches(&link.name) || link.ifindex == self.dataplane.pair() {
            if known.is_some() {
                tracing::info!(ifindex = link.ifindex.0, name = link.name, "interface was renamed: no longer a tap");
                self.link_gone(link.ifindex);
            }
            return;
        }
        if known.is_some_and(|port| port.name == link.name) {
            return;
        }
        if known.is_some() {
            tracing::info!(ifindex = link.ifindex.0, name = link.name, "tap was renamed");
        }
        self.ports.entry(link.ifindex).or_insert_with(|| Port { name: String::new(), binding: None }).name = link.name;
        self.settle(link.ifindex);
    }

    fn link_gone(&mut self, ifindex: IfIndex) {
        if let Some(name) = self.let_go(ifindex) {
            tracing::info!(ifindex = ifindex.0, name, "tap is gone");
        }
    }

    /// Ends all that was on a tap, and returns its name.
    fn let_go(&mut self, ifindex: IfIndex) -> Option<String> {
        let port = self.ports.remove(&ifindex)?;
        if let Err(error) = self.dataplane.forget(ifindex) {
            report(ifindex, &port.name, &error);
        }
        if let Some(binding) = port.binding {
            // `forget` ends the tag that the map names; should that have failed half-way, this is the one.
            let _ = self.dataplane.end_tag(binding.tag);
            self.identities.end(binding.tag);
        }
        // Not even a reset may reach another tap with this index.
        self.end_retired(|_, retired| retired == ifindex);
        self.view.remove(ifindex);
        Some(port.name)
    }

    /// Something was taken off an interface: soon it is looked at.
    fn suspect(&mut self, removal: Removal) {
        match removal {
            Removal::From(ifindex) => self.suspects.extend(self.ports.contains_key(&ifindex).then_some(ifindex)),
            Removal::Unknown => self.suspects.extend(self.ports.keys()),
        }
        if !self.suspects.is_empty() && self.look.is_none() {
            self.look = Some(Instant::now() + POLITENESS);
        }
    }

    /// Attaches anew where the program is gone. The binding is a new one: that it is still the same device is not certain.
    fn look(&mut self) {
        self.look = None;
        for ifindex in std::mem::take(&mut self.suspects) {
            let lost = self.dataplane.attached(ifindex).is_some();
            let Some(name) = self.ports.get(&ifindex).map(|port| port.name.clone()).filter(|_| lost) else {
                continue;
            };
            if self.dataplane.is_attached(ifindex, &name) || !is_there(ifindex) {
                continue;
            }
            self.view.count_repair();
            // Open vSwitch does so to each tap that it takes.
            tracing::info!(
                ifindex = ifindex.0,
                name,
                "another program removed the qdisc that from_guest was in: attaching it again"
            );
            self.let_go(ifindex);
            self.link_changed(Link { ifindex, name });
        }
    }

    /// Makes the taps those of a complete list: after the start, or when events were lost.
    fn resync(&mut self, links: Vec<Link>) {
        let gone: Vec<_> =
            self.ports.keys().filter(|known| !links.iter().any(|link| link.ifindex == **known)).copied().collect();
        for ifindex in gone {
            self.link_gone(ifindex);
        }
        let new = links.iter().filter(|link| self.rules.matches(&link.name) && !self.ports.contains_key(&link.ifindex));
        let _short_waits = self.dataplane.expedite(new.count());
        for link in links {
            // Another device may have taken the index, and even the name, while nobody looked.
            if self.ports.contains_key(&link.ifindex) && !self.dataplane.is_attached(link.ifindex, &link.name) {
                self.link_gone(link.ifindex);
            }
            self.link_changed(link);
        }
    }

    /// Removes what an earlier daemon knew of interfaces that are gone by now.
    fn forget_leftovers(&mut self) {
        let mut leftovers = self.dataplane.known();
        leftovers.extend(self.dataplane.pinned_taps());
        for ifindex in leftovers {
            if !self.ports.contains_key(&ifindex)
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
        let touched: Vec<_> =
            self.ports.iter().filter(|(_, port)| devices.contains(&port.name)).map(|(ifindex, _)| *ifindex).collect();
        for ifindex in touched {
            self.settle(ifindex);
        }
    }

    /// Makes a tap what it should be now.
    fn settle(&mut self, ifindex: IfIndex) {
        let Some(name) = self.ports.get(&ifindex).map(|port| port.name.clone()) else {
            return;
        };
        let wanted = self.desired(&name);
        if matches!(wanted, DesiredPort::Refused(_)) {
            self.view.refuse(ifindex);
        }
        let state = match self.make(ifindex, &name, &wanted) {
            Ok(()) => PortState::from(wanted),
            Err(error) if is_gone(&error) => {
                tracing::debug!(ifindex = ifindex.0, name, "tap went away while it was being attached");
                return;
            }
            Err(error) => {
                let mut reason = error_text::chain(&error);
                // Better held than passed on to a network, or to an instance with half its rules.
                if let Err(error) = self.make(ifindex, &name, &DesiredPort::Held) {
                    reason = format!("{reason}; and it cannot be held: {}", error_text::chain(&error));
                }
                self.retry = Some(Instant::now() + RETRY);
                PortState::Failed(reason)
            }
        };
        let port = self.ports.get(&ifindex);
        let tag = port.and_then(|port| port.binding.as_ref()).map(|binding| binding.tag);
        let view = PortView { name, tag, state, attached: self.dataplane.attached(ifindex) };
        if self.view.set(ifindex, &view) {
            view::log(ifindex, &view);
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

    /// Settles the taps that failed once more.
    fn try_again(&mut self) {
        self.retry = None;
        for (ifindex, view) in self.view.all() {
            if matches!(view.state, PortState::Failed(_)) {
                self.settle(ifindex);
            }
        }
    }

    fn make(&mut self, ifindex: IfIndex, name: &str, wanted: &DesiredPort) -> Result<(), DataplaneError> {
        let found = self.attach(ifindex, name)?;
        let Some(port) = self.ports.get_mut(&ifindex) else {
            return Ok(());
        };
        if found.is_some() {
            port.binding = found;
        }
        let current = port.binding.take();
        let (owner, entry) = match wanted {
            DesiredPort::Passed => {
                self.dataplane.clear_port(ifindex)?;
                return self.retire(ifindex, current.map(|binding| binding.tag));
            }
            DesiredPort::Held | DesiredPort::Refused(_) | DesiredPort::Lacking(_) => (None, PortEntry::Held),
            DesiredPort::Bound(assignment) => (
                Some(assignment.owner()),
                PortEntry::Bound {
                    instance: assignment.instance,
                    mac: assignment.mac,
                    sources: assignment.sources.clone(),
                    any_address: assignment.any_address,
                },
            ),
        };
        let kept = current.as_ref().filter(|binding| keeps_tag(binding.owner, owner)).map(|binding| binding.tag);
        let ended = current.as_ref().map(|binding| binding.tag).filter(|tag| Some(*tag) != kept);
        let tag = match kept {
            Some(tag) => tag,
            None => self.dataplane.new_tag()?,
        };
        // Who is behind the tag is known before the first packet carries it.
        let identity = match owner {
            Some(Owner { instance, port }) => Identity::Bound { instance, port },
            None => Identity::Held,
        };
        let bound = self.identities.bind(tag, identity);
        debug_assert!(bound.is_ok(), "keeps_tag keeps a tag for one owner only");
        let unchanged =
            current.as_ref().is_some_and(|current| current.tag == tag && current.entry.as_ref() == Some(&entry));
        let result = if unchanged { Ok(()) } else { self.dataplane.set_port(ifindex, tag, &entry) };
        if let Some(port) = self.ports.get_mut(&ifindex) {
            let entry = result.is_ok().then_some(entry);
            port.binding = Some(Binding { tag, owner, entry });
        }
        self.retire(ifindex, ended).and(result)
    }

    /// Puts the program on a tap that has not got it from this daemon. Returns the binding that an earlier daemon gave
    /// the same device.
    fn attach(&mut self, ifindex: IfIndex, name: &str) -> Result<Option<Binding>, DataplaneError> {
        if self.dataplane.attached(ifindex).is_some() || !self.dataplane.attach(ifindex, name)? {
            return Ok(None);
        }
        Ok(self.dataplane.adopted(ifindex).map(|adopted| Binding {
            tag: adopted.tag,
            owner: adopted.instance.map(|instance| Owner { instance, port: None }),
            entry: None,
        }))
    }

    /// Ends a tag: first in the kernel, but for resets, then for the connections, which are cut by one.
    fn retire(&mut self, ifindex: IfIndex, tag: Option<Tag>) -> Result<(), DataplaneError> {
        let Some(tag) = tag else {
            return Ok(());
        };
        let result = self.dataplane.retire_tag(tag);
        self.identities.end(tag);
        self.retired.push_back((Instant::now() + RETIREMENT, ifindex, tag));
        result
    }

    /// Ends the retired tags that `which` picks by due time and tap altogether.
    fn end_retired(&mut self, which: impl Fn(Instant, IfIndex) -> bool) {
        for (due, ifindex, tag) in std::mem::take(&mut self.retired) {
            if !which(due, ifindex) {
                self.retired.push_back((due, ifindex, tag));
            } else if let Err(error) = self.dataplane.end_tag(tag) {
                report(ifindex, "", &error);
            }
        }
    }

    fn request(&mut self, request: Request, trace_over: &mpsc::Sender<()>) {
        let Request::Trace { ifindex, lines, started } = request;
        if self.trace.is_some() {
            let _ = started.send(Err("another trace is running; one at a time".into()));
            return;
        }
        match self.dataplane.trace(ifindex, lines.clone()) {
            Ok((trace, passing)) => {
                self.trace = Some(trace);
                let over = trace_over.clone();
                tokio::spawn(async move {
                    tokio::select! {
                        () = lines.closed() => {}
                        _ = passing => {}
                    }
                    let _ = over.send(()).await;
                });
                let _ = started.send(Ok(()));
            }
            Err(error) => {
                let _ = started.send(Err(error_text::chain(&error)));
            }
        }
    }

    fn end_trace(&mut self) {
        if let Some(trace) = self.trace.take()
            && let Err(error) = self.dataplane.end_trace(trace)
        {
            // The tap may have gone while it was traced; its program went with it.
            tracing::info!(error = error_text::chain(&error), "the traced programs stay until the next start");
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
    matches!(error, DataplaneError::Attach { ifindex, .. } if !is_there(*ifindex))
}

fn is_there(ifindex: IfIndex) -> bool {
    nix::net::if_::if_nameindex()
        .is_ok_and(|interfaces| interfaces.iter().any(|interface| interface.index() == ifindex.0))
}

fn report(ifindex: IfIndex, name: &str, error: &DataplaneError) {
    tracing::error!(ifindex = ifindex.0, name, error = error_text::chain(error), "tap");
}
