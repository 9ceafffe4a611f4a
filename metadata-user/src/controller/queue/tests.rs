//! What the queue promises, by example and for any order of events.

use std::collections::HashMap;
use std::rc::Rc;

use proptest::prelude::*;
use uuid::Uuid;

use super::*;

const MS: Duration = Duration::from_millis(1);

fn id(number: u8) -> InstanceId {
    InstanceId(Uuid::from_u128(u128::from(number)))
}

fn ids(queue: &mut Queue, now: Instant) -> Vec<InstanceId> {
    std::iter::from_fn(|| queue.next(Urgency::Slow, now)).map(|job| job.id).collect()
}

#[test]
fn changes_come_first_each_in_the_order_of_its_push() {
    let mut queue = Queue::new();
    let now = Instant::now();
    for number in 1..=3 {
        queue.push(id(number), Urgency::Slow, now, None);
    }
    for number in 4..=6 {
        queue.push(id(number), Urgency::Change, now, None);
    }
    queue.push(id(4), Urgency::Change, now, None);
    queue.push(id(2), Urgency::Change, now, None);
    assert_eq!(ids(&mut queue, now), [4, 5, 6, 2, 1, 3].map(id));
    assert_eq!(queue.backlog().running, 6);
}

#[test]
fn what_is_slow_waits_where_only_changes_are_wanted() {
    let mut queue: Queue = Queue::new();
    let now = Instant::now();
    queue.push(id(1), Urgency::Slow, now, None);
    assert_eq!(queue.next(Urgency::Change, now), None);
    queue.push(id(1), Urgency::Change, now, None);
    assert_eq!(queue.next(Urgency::Change, now).map(|job| job.urgency), Some(Urgency::Change));
}

#[test]
fn the_more_urgent_is_first_and_of_the_same_urgency_what_was_pushed_before() {
    let mut queue: Queue = Queue::new();
    let now = Instant::now();
    let pushed = [Urgency::Slow, Urgency::Again, Urgency::Change, Urgency::Again, Urgency::Change];
    for (number, urgency) in (0..).zip(pushed) {
        queue.push(id(number), urgency, now, None);
    }
    let order: Vec<InstanceId> = std::iter::from_fn(|| queue.next(Urgency::Again, now)).map(|job| job.id).collect();
    assert_eq!(order, [2, 4, 1, 3].map(id));
    assert_eq!(queue.next(Urgency::Slow, now).map(|job| job.id), Some(id(0)));
}

#[test]
fn pushes_are_one_job_and_what_comes_meanwhile_is_another() {
    let mut queue: Queue = Queue::new();
    let now = Instant::now();
    queue.push(id(1), Urgency::Change, now + MS, Some(()));
    queue.push(id(1), Urgency::Change, now, None);
    let job = queue.next(Urgency::Slow, now + 5 * MS);
    assert_eq!(job, Some(Job { id: id(1), urgency: Urgency::Change, since: now, is_notified: true, failures: 0 }));
    queue.push(id(1), Urgency::Slow, now + 6 * MS, None);
    assert_eq!(queue.next(Urgency::Slow, now + 6 * MS), None, "its job runs");
    let backlog = queue.backlog();
    assert_eq!((backlog.changed, backlog.slow, backlog.oldest_change), (1, 0, Some(now)));
    queue.done(id(1), Outcome::Done, now + 7 * MS, 0);
    let job = queue.next(Urgency::Slow, now + 7 * MS);
    assert_eq!(
        job,
        Some(Job { id: id(1), urgency: Urgency::Slow, since: now + 6 * MS, is_notified: false, failures: 0 })
    );
    queue.done(id(1), Outcome::Done, now + 7 * MS, 0);
    assert!(queue.is_empty());
    queue.done(id(1), Outcome::Done, now + 7 * MS, 0);
    assert!(queue.is_empty(), "the end of a job that is not known changes nothing");
}

#[test]
fn a_receipt_is_held_until_a_job_that_began_after_it_has_ended_well() {
    let mut queue = Queue::new();
    let now = Instant::now();
    let (first, second) = (Rc::new(()), Rc::new(()));
    let held = |receipt: &Rc<()>| Rc::strong_count(receipt) > 1;
    queue.push(id(1), Urgency::Change, now, Some(Rc::clone(&first)));
    queue.next(Urgency::Slow, now).unwrap();
    queue.push(id(1), Urgency::Change, now, Some(Rc::clone(&second)));
    queue.done(id(1), Outcome::Failed, now, 0);
    assert!(held(&first) && held(&second));
    queue.next(Urgency::Slow, now).unwrap();
    assert!(held(&first) && held(&second));
    queue.done(id(1), Outcome::Done, now, 0);
    assert!(!held(&first) && !held(&second));
}

#[test]
fn what_is_pushed_for_later_is_read_then_beside_what_is_read_now() {
    let mut queue = Queue::new();
    let now = Instant::now();
    let (first, second) = (Rc::new(()), Rc::new(()));
    queue.push(id(1), Urgency::Change, now, None);
    queue.push_at(now + 3 * MS, id(1), Urgency::Change, now + 3 * MS, Some(Rc::clone(&first)));
    queue.push_at(now + 2 * MS, id(1), Urgency::Slow, now + 2 * MS, Some(Rc::clone(&second)));
    assert_eq!(queue.next(Urgency::Slow, now).map(|job| job.since), Some(now));
    queue.done(id(1), Outcome::Done, now, 0);
    assert!(!queue.is_empty());
    assert_eq!((queue.next(Urgency::Slow, now + 2 * MS), queue.wake()), (None, Some(now + 3 * MS)));
    assert_eq!((queue.backlog().later, queue.backlog().changed), (1, 0));
    let job = queue.next(Urgency::Slow, now + 3 * MS).unwrap();
    assert_eq!((job.urgency, job.since, Rc::strong_count(&first)), (Urgency::Change, now + 2 * MS, 2));
    queue.done(id(1), Outcome::Done, now + 3 * MS, 0);
    assert!(queue.is_empty() && Rc::strong_count(&first) == 1 && Rc::strong_count(&second) == 1);
}

#[test]
fn an_instance_that_fails_waits_ever_longer_and_delays_no_other() {
    let mut queue: Queue = Queue::new();
    let mut now = Instant::now();
    queue.push(id(1), Urgency::Change, now, None);
    for expected in [500, 1_000, 2_000, 4_000, 8_000, 16_000, 32_000, 64_000, 120_000, 120_000] {
        assert_eq!(queue.next(Urgency::Slow, now).map(|job| job.id), Some(id(1)));
        queue.done(id(1), Outcome::Failed, now, 0);
        queue.push(id(2), Urgency::Slow, now, None);
        assert_eq!(queue.next(Urgency::Slow, now).map(|job| job.id), Some(id(2)));
        queue.done(id(2), Outcome::Done, now, 0);
        queue.push(id(1), Urgency::Slow, now, None);
        assert_eq!(queue.next(Urgency::Slow, now), None, "the slow round does not shorten the delay");
        assert_eq!(queue.wake(), Some(now + expected * MS));
        assert_eq!(queue.backlog().failing, 1);
        now += expected * MS;
    }
    queue.next(Urgency::Slow, now).unwrap();
    queue.done(id(1), Outcome::Failed, now, 0);
    queue.push(id(1), Urgency::Change, now, None);
    assert_eq!(queue.next(Urgency::Slow, now).map(|job| job.failures), Some(11), "a new change is tried at once");
    queue.done(id(1), Outcome::Done, now, 0);
    assert!(queue.is_empty());
}

#[test]
fn what_is_too_old_is_read_again_at_its_time_and_is_no_failure() {
    let mut queue = Queue::new();
    let now = Instant::now();
    let receipt = Rc::new(());
    queue.push(id(1), Urgency::Change, now, Some(Rc::clone(&receipt)));
    queue.next(Urgency::Slow, now).unwrap();
    queue.done(id(1), Outcome::TooOld(150 * MS), now, 0);
    assert_eq!((queue.next(Urgency::Slow, now), queue.wake()), (None, Some(now + 150 * MS)));
    assert_eq!((queue.backlog().failing, queue.backlog().changed, Rc::strong_count(&receipt)), (0, 1, 2));
    assert_eq!(queue.next(Urgency::Slow, now + 150 * MS).map(|job| (job.since, job.failures)), Some((now, 0)));
}

#[test]
fn receipts_that_nobody_needs_are_dropped_wherever_they_are() {
    let mut queue = Queue::new();
    let now = Instant::now();
    for number in 1..=4 {
        queue.push(id(1), Urgency::Change, now, Some(number));
        queue.push_at(now + MS, id(2), Urgency::Change, now, Some(number));
    }
    queue.next(Urgency::Slow, now).unwrap();
    queue.push(id(1), Urgency::Change, now, Some(5));
    queue.retain_receipts(|receipt| *receipt > 3);
    let mut dropped = Vec::new();
    queue.retain_receipts(|receipt| {
        dropped.push(*receipt);
        true
    });
    dropped.sort_unstable();
    assert_eq!((dropped, queue.backlog().changed), (vec![4, 4, 5], 1));
}

#[test]
fn while_a_service_is_away_one_at_a_time_tries_it_each_for_another_instance() {
    let mut queue: Queue = Queue::new();
    let mut now = Instant::now();
    for number in 1..=5 {
        queue.push(id(number), Urgency::Change, now, None);
    }
    assert_eq!(queue.next(Urgency::Slow, now).map(|job| job.id), Some(id(1)));
    assert_eq!(queue.next(Urgency::Slow, now).map(|job| job.id), Some(id(2)));
    queue.done(id(1), Outcome::Unavailable, now, 0);
    queue.done(id(2), Outcome::Unavailable, now, 0);
    for (number, ms) in [(3, 500), (4, 1_000), (5, 2_000), (1, 4_000), (2, 8_000), (3, 10_000)] {
        assert_eq!(queue.next(Urgency::Slow, now), None);
        assert_eq!(queue.wake(), Some(now + ms * MS));
        now += ms * MS;
        assert_eq!(queue.next(Urgency::Slow, now).map(|job| job.id), Some(id(number)));
        assert_eq!((queue.next(Urgency::Slow, now), queue.wake()), (None, None));
        queue.done(id(number), Outcome::Unavailable, now, 0);
    }
    assert_eq!(queue.backlog().unavailable, 7);
    now += 10_000 * MS;
    let job = queue.next(Urgency::Slow, now).unwrap();
    assert_eq!((job.id, job.failures), (id(4), 0), "it is not the instance's fault");
    queue.done(id(4), Outcome::Failed, now, 0);
    assert_eq!(ids(&mut queue, now), [5, 1, 2, 3].map(id), "the service answers");
}

/// What may happen.
#[derive(Clone, Copy, Debug)]
enum Step {
    Push(u8, Urgency),
    Next(Urgency),
    Done(u8, Outcome),
    Wait(u32),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let urgency = || prop_oneof![Just(Urgency::Slow), Just(Urgency::Change)];
    let outcome = prop_oneof![
        3 => Just(Outcome::Done),
        1 => Just(Outcome::TooOld(3_000 * MS)),
        2 => Just(Outcome::Failed),
        1 => Just(Outcome::Unavailable)
    ];
    let step = prop_oneof![
        4 => (0..6_u8, urgency()).prop_map(|(number, urgency)| Step::Push(number, urgency)),
        4 => urgency().prop_map(Step::Next),
        3 => (0..6_u8, outcome).prop_map(|(number, outcome)| Step::Done(number, outcome)),
        1 => (0..20_000_u32).prop_map(Step::Wait),
    ];
    prop::collection::vec(step, 0..200)
}

proptest! {
    #[test]
    fn nothing_pushed_is_lost_and_no_instance_runs_twice_at_once(steps in steps(), random: u32) {
        let mut queue = Queue::new();
        let mut now = Instant::now();
        // The pushes of each instance that no job has ended well after, and the jobs that run with the pushes before them.
        let mut open: HashMap<InstanceId, Vec<Rc<()>>> = HashMap::new();
        let mut running: HashMap<InstanceId, usize> = HashMap::new();
        let end = |queue: &mut Queue<Rc<()>>, open: &mut HashMap<InstanceId, Vec<Rc<()>>>, id, seen: usize, outcome, now| {
            queue.done(id, outcome, now, random);
            let pushes = open.entry(id).or_default();
            if outcome == Outcome::Done {
                for settled in pushes.drain(..seen) {
                    assert_eq!(Rc::strong_count(&settled), 1, "a push that was read for is settled");
                }
            }
            assert!(pushes.iter().all(|push| Rc::strong_count(push) == 2), "a push that was not is kept");
        };
        for step in steps {
            match step {
                Step::Push(number, urgency) => {
                    let push = Rc::new(());
                    queue.push(id(number), urgency, now, Some(Rc::clone(&push)));
                    open.entry(id(number)).or_default().push(push);
                }
                Step::Next(least) => {
                    let before = queue.backlog();
                    if let Some(job) = queue.next(least, now) {
                        let seen = open.get(&job.id).map_or(0, Vec::len);
                        prop_assert!(job.urgency >= least && seen > 0);
                        prop_assert!(running.insert(job.id, seen).is_none(), "two jobs of one instance");
                        prop_assert!(job.urgency == Urgency::Change || before.running >= running.len() - 1);
                    }
                }
                Step::Done(number, outcome) => {
                    if let Some(seen) = running.remove(&id(number)) {
                        end(&mut queue, &mut open, id(number), seen, outcome, now);
                    }
                }
                Step::Wait(ms) => now += ms * MS,
            }
            let waiting = open.values().filter(|pushes| !pushes.is_empty()).count();
            prop_assert_eq!(queue.entries.len(), waiting, "an entry for each instance that is not read, and for no other");
            let backlog = queue.backlog();
            prop_assert_eq!((backlog.running, backlog.changed + backlog.slow), (running.len(), waiting));
        }
        // From here on everything ends well, and within the longest delay all has been read.
        for (id, seen) in std::mem::take(&mut running) {
            end(&mut queue, &mut open, id, seen, Outcome::Done, now);
        }
        let deadline = now + LONGEST_DELAY;
        while !queue.is_empty() {
            match queue.next(Urgency::Slow, now) {
                Some(job) => {
                    let seen = open.get(&job.id).map_or(0, Vec::len);
                    end(&mut queue, &mut open, job.id, seen, Outcome::Done, now);
                }
                None => now = queue.wake().expect("what waits has a time"),
            }
            prop_assert!(now <= deadline);
        }
        prop_assert!(open.values().all(Vec::is_empty));
    }

    #[test]
    fn no_change_waits_behind_what_is_slow(pushes in prop::collection::vec((0..20_u8, any::<bool>()), 0..60)) {
        let mut queue: Queue = Queue::new();
        let now = Instant::now();
        for (number, is_change) in pushes {
            queue.push(id(number), if is_change { Urgency::Change } else { Urgency::Slow }, now, None);
        }
        let order: Vec<Urgency> = std::iter::from_fn(|| queue.next(Urgency::Slow, now)).map(|job| job.urgency).collect();
        prop_assert!(order.is_sorted_by(|before, after| before >= after));
    }
}
