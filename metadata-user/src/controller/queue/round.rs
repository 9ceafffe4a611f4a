//! The slow round: when each instance is read again although nothing is known to have changed.
//!
//! Promises: each instance is due once per interval after its last read, the longest unread first; not more are given out than the rate
//! allows, so a round of too many instances for the rate takes longer than the interval ([`Round::overdue`]), and never exceeds the rate.

use std::collections::{BTreeSet, HashMap};
use std::time::{Duration, Instant};

use crate::backoff;
use crate::record::InstanceId;

/// By how many hundredths of the interval an instance may be due earlier, so that instances that were read together drift apart.
const JITTER: u32 = 10;

/// The slow round.
#[derive(Debug)]
pub struct Round {
    interval: Duration,
    /// Time between two instances: the rate.
    spacing: Duration,
    /// When the next one may be given out.
    free: Option<Instant>,
    due: BTreeSet<(Instant, InstanceId)>,
    known: HashMap<InstanceId, Instant>,
}

impl Round {
    /// Returns a round of no instance. `spacing` is the time between two instances that are given out: the requests that one takes, by the
    /// requests per second.
    #[must_use]
    pub fn new(interval: Duration, spacing: Duration) -> Self {
        Self { interval, spacing, free: None, due: BTreeSet::new(), known: HashMap::new() }
    }

    /// Adds instances that have not been read, spread evenly over the interval. Those that are known keep their time.
    pub fn spread(&mut self, ids: &[InstanceId], now: Instant) {
        let parts = u32::try_from(ids.len()).unwrap_or(u32::MAX).max(1);
        for (part, &id) in (0u32..).zip(ids) {
            if !self.known.contains_key(&id) {
                // In this order, so that short intervals of many instances are not rounded away.
                self.set(id, now + self.interval.mul_f64(f64::from(part) / f64::from(parts)));
            }
        }
    }

    /// Notes that an instance has been read. `random` is what makes the time of the next one earlier ([`crate::backoff::random`]).
    pub fn note_read(&mut self, id: InstanceId, now: Instant, random: u32) {
        self.set(id, now + backoff::shorter(self.interval, JITTER, random));
    }

    /// Adds an instance that a former leader has read, so long ago. Those that are known keep their time.
    pub fn resume(&mut self, id: InstanceId, age: Duration, now: Instant) {
        if !self.known.contains_key(&id) {
            self.set(id, now + self.interval.saturating_sub(age));
        }
    }

    /// Makes these instances due now, the longest unread first.
    pub fn hasten(&mut self, now: Instant, is_meant: impl Fn(InstanceId) -> bool) {
        let later = self.due.iter().filter(|&&(due, id)| due > now && is_meant(id));
        let order: Vec<InstanceId> = later.map(|&(_, id)| id).collect();
        for (place, id) in (0u32..).zip(order) {
            // A nanosecond each, to keep the order.
            self.set(id, now + Duration::from_nanos(u64::from(place)));
        }
    }

    /// Removes an instance that is gone.
    pub fn forget(&mut self, id: InstanceId) {
        if let Some(due) = self.known.remove(&id) {
            self.due.remove(&(due, id));
        }
    }

    /// Returns the next instance to read, if one is due and the rate allows it. It is due again after the interval, whatever becomes of it.
    pub fn next(&mut self, now: Instant) -> Option<InstanceId> {
        if self.free.is_some_and(|free| now < free) {
            return None;
        }
        let &(due, id) = self.due.first()?;
        if due > now {
            return None;
        }
        // At the rate on average when the caller is a little late, and without a burst when it was away.
        let last = self.free.filter(|free| *free + self.spacing > now).unwrap_or(now);
        self.free = Some(last + self.spacing);
        self.set(id, now + self.interval);
        Some(id)
    }

    /// Returns when [`Self::next`] has one; `None` without instances.
    #[must_use]
    pub fn wake(&self) -> Option<Instant> {
        let &(due, _) = self.due.first()?;
        Some(self.free.map_or(due, |free| free.max(due)))
    }

    /// Returns how long the longest overdue instance has been due: what the rate lacks for the interval.
    #[must_use]
    pub fn overdue(&self, now: Instant) -> Duration {
        self.due.first().map_or(Duration::ZERO, |&(due, _)| now.saturating_duration_since(due))
    }

    /// Returns the number of instances that are due.
    #[must_use]
    pub fn due(&self, now: Instant) -> usize {
        self.due.iter().take_while(|(due, _)| *due <= now).count()
    }

    /// Returns the number of instances.
    #[must_use]
    pub fn len(&self) -> usize {
        self.known.len()
    }

    /// Returns whether there is no instance.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.known.is_empty()
    }

    fn set(&mut self, id: InstanceId, due: Instant) {
        if let Some(before) = self.known.insert(id, due) {
            self.due.remove(&(before, id));
        }
        self.due.insert((due, id));
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use uuid::Uuid;

    use super::*;

    const MS: Duration = Duration::from_millis(1);

    fn ids(count: u32) -> Vec<InstanceId> {
        (0..count).map(|number| InstanceId(Uuid::from_u128(u128::from(number)))).collect()
    }

    /// Runs a round, with a step of so much, and returns what was given out when.
    fn run(round: &mut Round, start: Instant, length: Duration, step: Duration) -> Vec<(Duration, InstanceId)> {
        let mut given = Vec::new();
        let mut elapsed = Duration::ZERO;
        while elapsed < length {
            while let Some(id) = round.next(start + elapsed) {
                given.push((elapsed, id));
            }
            elapsed += step;
        }
        given
    }

    #[test]
    fn instances_are_spread_over_the_interval_and_come_again_after_it() {
        let start = Instant::now();
        let mut round = Round::new(1_000 * MS, MS);
        round.spread(&ids(10), start);
        let given = run(&mut round, start, 2_000 * MS, 10 * MS);
        let times: Vec<u128> = given.iter().map(|(at, _)| at.as_millis()).collect();
        assert_eq!(times, (0..20).map(|place| place * 100).collect::<Vec<_>>());
        assert_eq!(round.overdue(start + 2_000 * MS), Duration::ZERO);
    }

    #[test]
    fn the_rate_is_kept_when_all_are_due_and_the_longest_unread_is_first() {
        let start = Instant::now();
        let mut round = Round::new(100 * MS, 10 * MS);
        let ids = ids(20);
        round.spread(&ids, start);
        round.hasten(start, |_| true);
        assert_eq!(round.due(start + MS), 20);
        let given = run(&mut round, start + MS, 200 * MS, MS);
        assert_eq!(given.iter().map(|(_, id)| *id).collect::<Vec<_>>(), ids);
        assert!(given.windows(2).all(|pair| pair[1].0 - pair[0].0 == 10 * MS), "{given:?}");
        assert!(
            round.overdue(start + 200 * MS) >= 90 * MS,
            "twenty in 100 ms are too many for the rate, and it says so"
        );
    }

    #[test]
    fn what_a_former_leader_has_read_is_due_an_interval_after_that_and_the_rest_at_once_if_it_is_hastened() {
        let start = Instant::now();
        let mut round = Round::new(1_000 * MS, MS);
        let ids = ids(3);
        round.resume(ids[0], 600 * MS, start);
        round.resume(ids[1], 5_000 * MS, start);
        round.spread(&ids, start);
        assert_eq!(round.wake(), Some(start), "it was due long ago");
        assert_eq!(round.next(start), Some(ids[1]));
        round.hasten(start, |id| id == ids[2]);
        let given = run(&mut round, start + MS, 500 * MS, MS);
        assert_eq!(
            given.iter().map(|(at, id)| (at.as_millis(), *id)).collect::<Vec<_>>(),
            [(0, ids[2]), (399, ids[0])]
        );
    }

    #[test]
    fn who_was_away_gets_no_burst_and_what_is_gone_never_comes() {
        let start = Instant::now();
        let mut round = Round::new(1_000 * MS, 10 * MS);
        round.spread(&ids(3), start);
        round.forget(ids(3)[1]);
        round.forget(ids(4)[3]);
        let late = start + 10_000 * MS;
        assert_eq!(round.next(late), Some(ids(3)[0]));
        assert_eq!(round.next(late), None);
        assert_eq!(round.wake(), Some(late + 10 * MS));
        assert_eq!(round.next(late + 10 * MS), Some(ids(3)[2]));
        round.note_read(ids(3)[0], late, u32::MAX);
        assert_eq!(round.wake(), Some(late + 900 * MS));
        assert_eq!((round.len(), round.is_empty()), (2, false));
    }

    proptest! {
        #[test]
        fn each_is_read_once_per_interval_where_the_rate_allows_it(count in 1..60_u32, step in 1..=10_u32, random: u32) {
            let (start, interval) = (Instant::now(), 1_000 * MS);
            let mut round = Round::new(interval, interval / 100);
            round.spread(&ids(count), start);
            let mut last: HashMap<InstanceId, Duration> = HashMap::new();
            for (at, id) in run(&mut round, start, 5 * interval, step * MS) {
                if let Some(before) = last.insert(id, at) {
                    prop_assert!(at - before >= interval && at - before <= interval + 100 * MS + step * MS, "{:?}", at - before);
                }
            }
            prop_assert_eq!(last.len(), count as usize);
            let first = ids(1)[0];
            round.note_read(first, start + 5 * interval, random);
            prop_assert!(round.known[&first] <= start + 6 * interval);
            prop_assert!(round.known[&first] + MS >= start + 6 * interval - interval / 10);
        }
    }
}
