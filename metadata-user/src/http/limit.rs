//! How many connections there may be, of one port, of one instance and on the node, and which one gives way when there are
//! as many.
//!
//! Promises: while a port has an idle connection, another of its connections gets a place: the one that is idle longest
//! ends. Where the node is full, a port's own idle connections give way first, then those of the port that has most. A
//! connection with a request, complete or not, never gives way. What has given way and answers a request that arrived
//! meanwhile is bounded too: by as many as a port may have, and by a quarter of the node's.
//!
//! Idle connections are kept apart from busy ones by what they last did, not by a list: a request costs no lock. Only a
//! connection beyond a limit costs a look at the others.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use dashmap::mapref::entry::Entry;

use super::Refusal;
use super::progress::Progress;
use crate::identity::Tag;
use crate::policy::Policy;
use crate::record::InstanceId;
use crate::table::Table;

#[derive(Debug)]
pub(super) struct Limits {
    total: AtomicUsize,
    /// Places that are taken.
    open: AtomicUsize,
    /// Connections that have given way and are not closed yet.
    leaving: AtomicUsize,
    /// Ports with at least one connection.
    ports: Table<Tag, Port>,
    /// Instances with at least one connection that has a place: how many. Locked after a port, never before.
    instances: Table<InstanceId, usize>,
}

/// How many connections there may be.
#[derive(Clone, Copy, Debug)]
pub(super) struct Most {
    pub(super) per_port: usize,
    pub(super) per_instance: usize,
}

impl Most {
    /// Returns what a policy says.
    pub(super) fn of(policy: &Policy) -> Self {
        Self { per_port: policy.connections_per_port, per_instance: policy.connections_per_instance }
    }
}

/// The connections of one port.
#[derive(Debug, Default)]
struct Port {
    placed: Vec<Placed>,
    leaving: usize,
}

/// A connection that has a place, and whose it was when it got that.
#[derive(Debug)]
struct Placed {
    progress: Arc<Progress>,
    instance: Option<InstanceId>,
}

/// A place for one connection, given back by `Drop`.
#[derive(Debug)]
pub(super) struct Permit {
    limits: Arc<Limits>,
    tag: Tag,
    progress: Arc<Progress>,
    crowd: usize,
}

impl Permit {
    /// Returns how many connections of its port there were with this one, those included that give way.
    pub(super) fn crowd(&self) -> usize {
        self.crowd
    }
}

impl Limits {
    pub(super) fn new(total: usize) -> Self {
        Self {
            total: AtomicUsize::new(total),
            open: AtomicUsize::new(0),
            leaving: AtomicUsize::new(0),
            ports: Table::default(),
            instances: Table::default(),
        }
    }

    /// Returns the number of connections that have a place.
    pub(super) fn open(&self) -> usize {
        self.open.load(Ordering::Relaxed)
    }

    /// Returns the most connections that there can be.
    pub(super) fn total(&self) -> usize {
        self.total.load(Ordering::Relaxed)
    }

    /// Changes that. Connections that exist stay.
    pub(super) fn set_total(&self, total: usize) {
        self.total.store(total, Ordering::Relaxed);
    }

    /// Takes a place for a connection of a port, which is this instance's.
    pub(super) fn admit(
        self: &Arc<Self>,
        tag: Tag,
        instance: Option<InstanceId>,
        Most { per_port, per_instance }: Most,
        progress: Arc<Progress>,
    ) -> Result<Permit, Refusal> {
        let mut port = self.ports.entry(tag).or_default();
        let total = self.total();
        let node_is_full = self.open.fetch_add(1, Ordering::Relaxed) >= total;
        let may_leave = self.leaving.load(Ordering::Relaxed) < total.div_ceil(4);
        let instance_is_full = || instance.is_some_and(|instance| self.of_instance(instance) >= per_instance);
        let mut freed = 0;
        // More than one goes where the limit was lowered.
        while port.placed.len() >= per_port || instance_is_full() || (node_is_full && freed == 0) {
            let is_surplus = port.placed.len() > per_port;
            let may_go = is_surplus || freed > 0 || (may_leave && port.leaving < per_port);
            if !(may_go && self.make_longest_idle_leave(&mut port)) {
                break;
            }
            freed += 1;
        }
        self.leaving.fetch_add(freed, Ordering::Relaxed);
        self.open.fetch_sub(freed, Ordering::Relaxed);
        if port.placed.len() >= per_port {
            drop(port);
            self.open.fetch_sub(1, Ordering::Relaxed);
            return Err(Refusal::PortLimit(tag.0));
        }
        if instance_is_full() {
            drop(port);
            self.open.fetch_sub(1, Ordering::Relaxed);
            self.forget_if_unused(tag);
            return Err(Refusal::InstanceLimit(tag.0));
        }
        if node_is_full && freed == 0 {
            // Another port's lock is needed, and no two are ever held.
            drop(port);
            if !(may_leave && self.make_another_port_leave(tag)) {
                self.open.fetch_sub(1, Ordering::Relaxed);
                self.forget_if_unused(tag);
                return Err(Refusal::TotalLimit);
            }
            port = self.ports.entry(tag).or_default();
        }
        port.placed.push(Placed { progress: Arc::clone(&progress), instance });
        if let Some(instance) = instance {
            *self.instances.entry(instance).or_default() += 1;
        }
        let crowd = port.placed.len() + port.leaving;
        drop(port);
        Ok(Permit { limits: Arc::clone(self), tag, progress, crowd })
    }

    /// Makes an idle connection of the port that has most connections, and an idle one among them, give its place.
    fn make_another_port_leave(&self, but: Tag) -> bool {
        let mut ports: Vec<_> = self
            .ports
            .iter()
            .filter(|port| *port.key() != but && port.leaving < port.placed.len())
            .map(|port| (port.placed.len(), *port.key()))
            .collect();
        ports.sort_unstable_by(|one, other| other.cmp(one));
        let freed = ports
            .into_iter()
            .any(|(_, tag)| self.ports.get_mut(&tag).is_some_and(|mut port| self.make_longest_idle_leave(&mut port)));
        if freed {
            self.leaving.fetch_add(1, Ordering::Relaxed);
            self.open.fetch_sub(1, Ordering::Relaxed);
        }
        freed
    }

    /// Takes its place from the connection of a port that is idle longest. `false`: none is idle.
    fn make_longest_idle_leave(&self, port: &mut Port) -> bool {
        let idle = port.placed.iter().enumerate().filter_map(|(at, placed)| Some((placed.progress.idle_since()?, at)));
        let Some((_, at)) = idle.min() else {
            return false;
        };
        let placed = port.placed.swap_remove(at);
        placed.progress.make_leave();
        self.one_less(placed.instance);
        port.leaving += 1;
        true
    }

    /// Returns how many connections of an instance have a place.
    fn of_instance(&self, instance: InstanceId) -> usize {
        self.instances.get(&instance).map_or(0, |count| *count)
    }

    /// A connection of the instance has no place any more.
    fn one_less(&self, instance: Option<InstanceId>) {
        if let Some(instance) = instance
            && let Entry::Occupied(mut count) = self.instances.entry(instance)
        {
            *count.get_mut() -= 1;
            if *count.get() == 0 {
                count.remove();
            }
        }
    }

    fn forget_if_unused(&self, tag: Tag) {
        self.ports.remove_if(&tag, |_, port| port.placed.is_empty() && port.leaving == 0);
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        if let Some(mut port) = self.limits.ports.get_mut(&self.tag) {
            match port.placed.iter().position(|placed| Arc::ptr_eq(&placed.progress, &self.progress)) {
                Some(at) => {
                    let placed = port.placed.swap_remove(at);
                    self.limits.one_less(placed.instance);
                    self.limits.open.fetch_sub(1, Ordering::Relaxed);
                }
                None => {
                    port.leaving = port.leaving.saturating_sub(1);
                    self.limits.leaving.fetch_sub(1, Ordering::Relaxed);
                }
            }
        }
        self.limits.forget_if_unused(self.tag);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::http::Times;

    /// Takes a place for a connection that has a request.
    fn busy(limits: &Arc<Limits>, tag: u32, per_port: usize) -> Result<Permit, Refusal> {
        let progress = Arc::new(Progress::new(Times::default()));
        progress.read();
        limits.admit(Tag(tag), None, Most { per_port, per_instance: usize::MAX }, progress)
    }

    /// Takes a place for a connection that has none.
    fn idle(limits: &Arc<Limits>, tag: u32, per_port: usize) -> Result<Permit, Refusal> {
        let most = Most { per_port, per_instance: usize::MAX };
        limits.admit(Tag(tag), None, most, Arc::new(Progress::new(Times::default())))
    }

    #[test]
    fn an_instance_has_a_share_whatever_the_number_of_its_ports() {
        let limits = Arc::new(Limits::new(100));
        let instance = |number| Some(InstanceId(uuid::Uuid::from_u128(number)));
        let admit = |tag, number, busy| {
            let progress = Arc::new(Progress::new(Times::default()));
            if busy {
                progress.read();
            }
            limits.admit(Tag(tag), instance(number), Most { per_port: 3, per_instance: 4 }, progress)
        };
        let first: Vec<_> = (0..3).map(|_| admit(1, 1, true).expect("a place")).collect();
        let idle = admit(2, 1, false).expect("a place");
        assert_eq!(admit(3, 1, true).expect_err("four are there"), Refusal::InstanceLimit(3));
        let instead = admit(2, 1, true).expect("the idle one of this port gives way");
        assert!(idle.progress.must_leave());
        let other = admit(4, 2, true).expect("another instance");
        drop(first);
        let again = admit(3, 1, true).expect("places were given back");
        drop((idle, instead, other, again));
        assert!(limits.instances.is_empty() && limits.ports.is_empty());
    }

    #[test]
    fn places_are_counted_by_port_and_in_all_and_given_back() {
        let limits = Arc::new(Limits::new(3));
        let first = busy(&limits, 1, 2).expect("a place");
        let _second = busy(&limits, 1, 2).expect("a place");
        assert_eq!(busy(&limits, 1, 2).expect_err("full"), Refusal::PortLimit(1));
        let other = busy(&limits, 2, 2).expect("another port has places");
        assert_eq!(busy(&limits, 3, 2).expect_err("full"), Refusal::TotalLimit);
        drop(first);
        assert_eq!(limits.open(), 2);
        let _third = busy(&limits, 1, 2).expect("given back");
        drop(other);
        assert_eq!(limits.ports.len(), 1, "a port without connections costs nothing");
    }

    #[tokio::test(start_paused = true)]
    async fn the_connection_that_is_idle_longest_gives_way_and_one_with_a_request_never() {
        let limits = Arc::new(Limits::new(100));
        let mut permits = Vec::new();
        for _ in 0..3 {
            permits.push(idle(&limits, 1, 3).expect("a place"));
            tokio::time::advance(Duration::from_secs(1)).await;
        }
        permits[0].progress.read();
        permits.push(busy(&limits, 1, 3).expect("the second gives way"));
        let left = |permits: &[Permit]| permits.iter().map(|permit| permit.progress.must_leave()).collect::<Vec<_>>();
        assert_eq!(left(&permits), [false, true, false, false]);
        permits.push(busy(&limits, 1, 3).expect("the third gives way"));
        assert_eq!(left(&permits), [false, true, true, false, false]);
        assert_eq!(busy(&limits, 1, 3).expect_err("none is idle"), Refusal::PortLimit(1));
        assert_eq!(limits.open(), 3);
        permits[0].progress.received();
        assert_eq!(busy(&limits, 1, 3).expect_err("it is being answered"), Refusal::PortLimit(1));
        permits[0].progress.answered();
        assert_eq!(busy(&limits, 1, 3).expect_err("the answer is not written"), Refusal::PortLimit(1));
        permits[0].progress.flushed();
        permits.push(busy(&limits, 1, 3).expect("the first is idle again"));
        drop(permits);
        assert_eq!((limits.open(), limits.leaving.load(Ordering::Relaxed), limits.ports.len()), (0, 0, 0));
    }

    #[test]
    fn a_lower_limit_counts_from_the_next_connection_on() {
        let limits = Arc::new(Limits::new(100));
        let before: Vec<_> = (0..10).map(|_| idle(&limits, 1, 10).expect("a place")).collect();
        before[9].progress.read();
        let next = busy(&limits, 1, 3).expect("a place");
        assert_eq!((limits.open(), before.iter().filter(|permit| permit.progress.must_leave()).count()), (3, 8));
        let higher = busy(&limits, 1, 4).expect("a higher limit counts too");
        assert!(![&before[9], &next, &higher].into_iter().any(|permit| permit.progress.must_leave()));
    }

    #[test]
    fn connections_that_leave_slowly_are_bounded_too() {
        let limits = Arc::new(Limits::new(100));
        let leaving: Vec<_> = (0..4).map(|_| idle(&limits, 1, 2).expect("a place")).collect();
        assert_eq!(idle(&limits, 1, 2).expect_err("two are leaving, two are there"), Refusal::PortLimit(1));
        drop(leaving);
        idle(&limits, 1, 2).expect("a place");
    }

    #[test]
    fn on_a_full_node_the_port_with_most_connections_gives_way() {
        let limits = Arc::new(Limits::new(8));
        let few = idle(&limits, 1, 8).expect("a place");
        let many: Vec<_> = (0..4).map(|_| idle(&limits, 2, 8).expect("a place")).collect();
        let busy_ones: Vec<_> = (0..3).map(|_| busy(&limits, 3, 8).expect("a place")).collect();
        let newcomer = busy(&limits, 4, 8).expect("a place of port 2");
        assert_eq!(many.iter().filter(|permit| permit.progress.must_leave()).count(), 1);
        assert_eq!(limits.open(), 8);
        // A port with an idle connection of its own takes the place of no other port.
        let again = busy(&limits, 1, 8).expect("its own place");
        assert!(few.progress.must_leave());
        assert_eq!(busy(&limits, 5, 8).expect_err("enough are leaving"), Refusal::TotalLimit);
        drop((few, many));
        for permit in [&newcomer, &again].into_iter().chain(&busy_ones) {
            assert!(!permit.progress.must_leave());
        }
        assert_eq!((limits.open(), limits.ports.len()), (5, 3));
    }
}
