//! The order and times of a target's requests, one per instance: no I/O and no clock.
//!
//! Promises:
//! - at most one request at a time for an instance; if its document changes meanwhile, another one follows;
//! - while the service itself fails, it is probed by one request at a time, with a back-off, each for another instance;
//!   when it answers, all waiting requests proceed at once;
//! - an instance for which the service has no good answer is retried with a back-off of its own.

use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

use tokio::time::Instant;

use crate::backoff::{self, Backoff};
use crate::record::InstanceId;

/// Delays between attempts on a service that fails: its recovery is noticed within the longest.
const SERVICE_BACKOFF: Backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(30), 50);
/// Delays between attempts for an instance that the service has no good answer for.
const INSTANCE_BACKOFF: Backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(300), 50);

/// How a request ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    Answered,
    /// The service's answer is unusable.
    Unusable,
    /// The service did not answer.
    Unreachable,
}

/// A request that was handed out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Ticket {
    pub(super) instance: InstanceId,
    serial: u64,
}

/// The instances that a target is asked for.
#[derive(Debug, Default)]
pub(super) struct Queue {
    refresh: Option<Duration>,
    items: HashMap<InstanceId, Item>,
    due: BTreeSet<(Instant, InstanceId)>,
    /// No request before this time, since the service fails.
    hold: Option<Instant>,
    unreachable: u32,
    in_flight: usize,
    failing: usize,
    serial: u64,
}

#[derive(Debug, Default)]
struct Item {
    due: Option<Instant>,
    in_flight: Option<u64>,
    changed: bool,
    failures: u32,
    failing: bool,
}

impl Queue {
    /// Returns a queue that refreshes answers older than `refresh`.
    pub(super) fn new(refresh: Option<Duration>) -> Self {
        Self { refresh, ..Self::default() }
    }

    /// Number of instances.
    pub(super) fn len(&self) -> usize {
        self.items.len()
    }

    /// Number of instances for which the last request failed.
    pub(super) fn failing(&self) -> usize {
        self.failing
    }

    /// Adds an instance that is new or has changed.
    pub(super) fn touch(&mut self, instance: InstanceId, now: Instant) {
        let item = self.items.entry(instance).or_default();
        item.failures = 0;
        if item.in_flight.is_some() {
            item.changed = true;
        } else {
            self.schedule(instance, now);
        }
    }

    /// Removes an instance. A request in flight for it counts until it is done.
    pub(super) fn remove(&mut self, instance: InstanceId) {
        if let Some(item) = self.items.remove(&instance) {
            self.failing -= usize::from(item.failing);
            if let Some(due) = item.due {
                self.due.remove(&(due, instance));
            }
        }
    }

    /// Takes back a request that was not made, since its instance was removed.
    pub(super) fn give_up(&mut self, ticket: Ticket) {
        self.in_flight -= 1;
        self.remove(ticket.instance);
    }

    /// Hands out a request that is due, unless as many as `most` are in flight.
    pub(super) fn next(&mut self, now: Instant, most: usize) -> Option<Ticket> {
        if self.wake(most)? > now {
            return None;
        }
        let (_, instance) = self.due.pop_first()?;
        let item = self.items.get_mut(&instance)?;
        self.serial += 1;
        item.due = None;
        item.changed = false;
        item.in_flight = Some(self.serial);
        self.in_flight += 1;
        Some(Ticket { instance, serial: self.serial })
    }

    /// Returns when there is something to hand out, if nothing else happens.
    pub(super) fn wake(&self, most: usize) -> Option<Instant> {
        let most = if self.unreachable > 0 { 1 } else { most };
        let (due, _) = self.due.first()?;
        (self.in_flight < most).then(|| self.hold.map_or(*due, |hold| hold.max(*due)))
    }

    /// Takes back a finished request. Returns whether its answer is wanted: not if its instance was removed meanwhile.
    /// `random` is the jitter that keeps nodes from sending requests at the same time.
    pub(super) fn done(&mut self, ticket: Ticket, outcome: Outcome, now: Instant, random: u32) -> bool {
        self.in_flight -= 1;
        if outcome == Outcome::Unreachable {
            self.unreachable = self.unreachable.saturating_add(1);
            self.hold = Some(now + SERVICE_BACKOFF.delay(self.unreachable, random));
        } else {
            self.unreachable = 0;
            self.hold = None;
        }
        let item = self.items.get_mut(&ticket.instance).filter(|item| item.in_flight == Some(ticket.serial));
        let Some(item) = item else {
            return false;
        };
        item.in_flight = None;
        let is_failing = outcome != Outcome::Answered;
        self.failing = self.failing + usize::from(is_failing) - usize::from(item.failing);
        item.failing = is_failing;
        let due = match outcome {
            _ if item.changed => Some(now),
            Outcome::Answered => {
                item.failures = 0;
                self.refresh.map(|refresh| now + backoff::shorter(refresh, 20, random))
            }
            Outcome::Unusable => {
                item.failures = item.failures.saturating_add(1);
                Some(now + INSTANCE_BACKOFF.delay(item.failures, random))
            }
            // The hold is the back-off; behind all that have waited longer.
            Outcome::Unreachable => Some(now),
        };
        if let Some(due) = due {
            self.schedule(ticket.instance, due);
        }
        true
    }

    fn schedule(&mut self, instance: InstanceId, due: Instant) {
        if let Some(item) = self.items.get_mut(&instance)
            && let Some(earlier) = item.due.replace(due)
        {
            self.due.remove(&(earlier, instance));
        }
        self.due.insert((due, instance));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::tests::id;

    const MINUTE: Duration = Duration::from_secs(60);

    fn instances(queue: &mut Queue, now: Instant, most: usize) -> Vec<InstanceId> {
        std::iter::from_fn(|| queue.next(now, most)).map(|ticket| ticket.instance).collect()
    }

    #[test]
    fn requests_in_flight_are_bounded_and_one_per_instance() {
        let (mut queue, now) = (Queue::new(None), Instant::now());
        (1..=5).for_each(|number| queue.touch(id(number), now));
        let first = queue.next(now, 2).expect("due");
        let second = queue.next(now, 2).expect("due");
        assert_eq!((queue.next(now, 2), queue.wake(2)), (None, None));
        queue.touch(first.instance, now);
        assert!(queue.done(second, Outcome::Answered, now, 0));
        assert_eq!(instances(&mut queue, now, 9), [id(3), id(4), id(5)], "the one in flight is not asked for twice");
        assert!(queue.done(first, Outcome::Answered, now, 0));
        assert_eq!(instances(&mut queue, now, 9), [id(1)], "but again, since it has changed");
    }

    #[test]
    fn a_good_answer_is_refreshed_and_not_otherwise_asked_for() {
        for (refresh, expected) in [(None, None), (Some(MINUTE), Some(MINUTE))] {
            let (mut queue, now) = (Queue::new(refresh), Instant::now());
            queue.touch(id(1), now);
            let ticket = queue.next(now, 8).expect("due");
            queue.done(ticket, Outcome::Answered, now, 0);
            assert_eq!(queue.wake(8), expected.map(|after| now + after));
        }
        assert_eq!(backoff::shorter(MINUTE, 20, u32::MAX), MINUTE * 4 / 5);
    }

    #[test]
    fn an_unreachable_service_is_tried_by_one_request_at_a_time() {
        let (mut queue, mut now) = (Queue::new(None), Instant::now());
        (1..=20).for_each(|number| queue.touch(id(number), now));
        let burst: Vec<_> = std::iter::from_fn(|| queue.next(now, 8)).collect();
        assert_eq!(burst.len(), 8);
        now += SERVICE_BACKOFF.delay(1, 0);
        for ticket in burst {
            queue.done(ticket, Outcome::Unreachable, now, 0);
        }
        assert_eq!(queue.failing(), 8);
        let mut tried = Vec::new();
        for _ in 0..3 {
            assert_eq!(queue.next(now, 8), None, "held");
            now = queue.wake(8).expect("tried again");
            let ticket = queue.next(now, 8).expect("due");
            assert_eq!(queue.next(now, 8), None, "one at a time");
            queue.done(ticket, Outcome::Unreachable, now, 0);
            tried.push(ticket.instance);
        }
        assert_eq!(tried, [id(9), id(10), id(11)], "each for another instance");
        assert_eq!(queue.wake(8), Some(now + SERVICE_BACKOFF.delay(u32::MAX, 0)));
        now += SERVICE_BACKOFF.delay(u32::MAX, 0);
        let ticket = queue.next(now, 8).expect("due");
        queue.done(ticket, Outcome::Answered, now, 0);
        assert_eq!(instances(&mut queue, now, 99).len(), 19, "all go on at once");
    }

    #[test]
    fn an_instance_without_an_answer_holds_up_no_other() {
        let (mut queue, now) = (Queue::new(None), Instant::now());
        (1..=2).for_each(|number| queue.touch(id(number), now));
        let bad = queue.next(now, 1).expect("due");
        queue.done(bad, Outcome::Unusable, now, 0);
        assert_eq!(queue.next(now, 1).map(|ticket| ticket.instance), Some(id(2)));
        assert_eq!((queue.len(), queue.failing()), (2, 1));
        assert_eq!(queue.wake(8), Some(now + SERVICE_BACKOFF.delay(1, 0)));
        queue.remove(id(1));
        assert_eq!((queue.len(), queue.failing(), queue.wake(8)), (1, 0, None));
        queue.touch(id(3), now);
        let unmade = queue.next(now, 2).expect("due");
        queue.give_up(unmade);
        assert_eq!((queue.len(), queue.in_flight), (1, 1));
    }

    #[test]
    fn an_answer_for_an_instance_that_went_is_not_wanted() {
        let (mut queue, now) = (Queue::new(None), Instant::now());
        queue.touch(id(1), now);
        let old = queue.next(now, 8).expect("due");
        queue.remove(id(1));
        queue.touch(id(1), now);
        let new = queue.next(now, 8).expect("a new instance with the same id");
        assert!(!queue.done(old, Outcome::Answered, now, 0));
        assert!(queue.done(new, Outcome::Answered, now, 0));
    }

    #[test]
    fn back_offs_double_up_to_a_bound() {
        let seconds = |failures| INSTANCE_BACKOFF.delay(failures, 0).as_secs();
        assert_eq!([1, 2, 3, 9, 10, u32::MAX].map(seconds), [1, 2, 4, 256, 300, 300]);
        assert_eq!(INSTANCE_BACKOFF.delay(1, u32::MAX), INSTANCE_BACKOFF.delay(1, 0) / 2);
    }
}
