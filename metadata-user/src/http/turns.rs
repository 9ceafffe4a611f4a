//! How the ports whose connections one thread serves share that thread.
//!
//! Without it, the runtime and hyper take turns by connection, up to 16 requests each: a guest with hundreds of connections
//! that always have a next request would make all others wait for thousands of answers. Here the turns are by port.
//!
//! What a connection does costs its port *units*: one for each read or write, one more for each 2 KiB read or 16 KiB written.
//! A port may use [`SHARE`] units in a round; a connection that wants to read beyond that waits. A round ends when everything
//! else that was ready on the thread has been served once; where nothing is, that is at once. So a port alone gets the whole
//! thread, and a port beside a busy one waits for at most a share of it.
//!
//! Promises: a port's connections take turns in the order in which they asked; a connection that waits is not polled
//! meanwhile, and costs nothing; a port without connections is forgotten.
//!
//! Left out: limits. Whoever waits here is served as fast as the thread allows.

use std::collections::{HashMap, VecDeque};
use std::future::poll_fn;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::task::{Context, Poll};

use futures_util::task::AtomicWaker;
use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::identity::Tag;
use crate::table::Hasher;

/// Units of one port in a round where no other one waits: some 16 small answers, a quarter of a millisecond.
const SHARE: i64 = 32;

/// Units that the ports that wait share in a round, so that it stays short where there are many.
const ROUND: i64 = 64;

/// Bytes written that cost one unit more: copying them takes about as long as a system call without any.
const BYTES: usize = 16 << 10;

/// Bytes read that cost one unit more: parsing them takes about as long as a system call.
const HEAD: usize = 2 << 10;

/// Units of a new connection: accepting it, and what serves it.
const CONNECTION: i64 = 2;

/// Units of a handshake of TLS: a signature and a key exchange, some tenths of a millisecond.
const HANDSHAKE: i64 = SHARE;

/// The turns of one thread.
#[derive(Debug, Default)]
pub(super) struct Turns {
    state: Mutex<State>,
    /// Somebody waits, for the first time since nobody did.
    waits: Notify,
}

#[derive(Debug, Default)]
struct State {
    round: u64,
    ports: HashMap<Tag, Port, Hasher>,
    /// Ports with connections that wait, in the order of their turns.
    queue: VecDeque<Tag>,
}

/// The share of one port.
#[derive(Debug)]
struct Port {
    connections: usize,
    /// Units left in `round`. Below zero: used ahead of time.
    left: i64,
    round: u64,
    waiting: VecDeque<Arc<Ticket>>,
}

/// One connection's place.
#[derive(Debug)]
pub(super) struct Turn {
    turns: Arc<Turns>,
    tag: Tag,
    ticket: Arc<Ticket>,
}

#[derive(Debug, Default)]
struct Ticket {
    state: AtomicU8,
    waker: AtomicWaker,
}

/// Where a connection stands.
mod stands {
    /// It does not wait.
    pub(super) const FREE: u8 = 0;
    /// It waits in its port's queue.
    pub(super) const WAITING: u8 = 1;
    /// It waited, and may go on.
    pub(super) const CALLED: u8 = 2;
    /// It has ended.
    pub(super) const GONE: u8 = 3;
}

impl Turns {
    /// Returns a place for a connection of this port.
    pub(super) fn place(self: &Arc<Self>, tag: Tag) -> Turn {
        let mut state = self.state.lock();
        let round = state.round;
        let port = state.ports.entry(tag).or_insert_with(|| Port::new(round));
        port.connections += 1;
        port.left -= CONNECTION;
        Turn { turns: Arc::clone(self), tag, ticket: Arc::default() }
    }

    /// Ends rounds while somebody waits. Never completes.
    pub(super) async fn run(&self) {
        loop {
            self.waits.notified().await;
            loop {
                // The runtime wakes what has yielded after everything that was ready, and a look for what became so.
                tokio::task::yield_now().await;
                if !self.next_round() {
                    break;
                }
            }
        }
    }

    /// Begins the next round, and calls who waits. Returns whether anybody still does.
    fn next_round(&self) -> bool {
        let mut state = self.state.lock();
        let State { round, ports, queue } = &mut *state;
        *round += 1;
        let share = share(queue.len());
        for _ in 0..queue.len() {
            let Some(tag) = queue.pop_front() else { break };
            let Some(port) = ports.get_mut(&tag) else { continue };
            port.enter(*round, share);
            port.call();
            if !port.waiting.is_empty() {
                queue.push_back(tag);
            }
        }
        !queue.is_empty()
    }
}

/// Returns the units of each of so many ports that wait.
fn share(waiting: usize) -> i64 {
    let waiting = i64::try_from(waiting).unwrap_or(i64::MAX).max(1);
    (ROUND / waiting).clamp(2, SHARE)
}

impl Port {
    fn new(round: u64) -> Self {
        Self { connections: 0, left: SHARE, round, waiting: VecDeque::new() }
    }

    /// Gets its share of each round that has begun since it last did; what it did not use is lost.
    fn enter(&mut self, round: u64, share: i64) {
        let rounds = i64::try_from(round - self.round).unwrap_or(i64::MAX);
        self.round = round;
        self.left = self.left.saturating_add(share.saturating_mul(rounds)).min(self.left.max(share));
    }

    /// Lets those go on that waited longest, as far as the share goes.
    fn call(&mut self) {
        while self.left > 0 {
            let Some(ticket) = self.waiting.pop_front() else { return };
            let called =
                ticket.state.compare_exchange(stands::WAITING, stands::CALLED, Ordering::AcqRel, Ordering::Acquire);
            if called.is_ok() {
                self.left -= 1;
                ticket.waker.wake();
            }
        }
    }
}

impl Turn {
    /// Completes when the connection may read once more. Whoever got [`Poll::Pending`] is woken then.
    pub(super) fn poll(&self, cx: &Context<'_>) -> Poll<()> {
        match self.ticket.state.load(Ordering::Acquire) {
            stands::CALLED => {
                self.ticket.state.store(stands::FREE, Ordering::Release);
                return Poll::Ready(());
            }
            stands::WAITING => {
                self.ticket.waker.register(cx.waker());
                // Called meanwhile: the waker that was woken is an earlier one.
                let called = self.ticket.state.compare_exchange(
                    stands::CALLED,
                    stands::FREE,
                    Ordering::AcqRel,
                    Ordering::Acquire,
                );
                return if called.is_ok() { Poll::Ready(()) } else { Poll::Pending };
            }
            _ => {}
        }
        let mut state = self.turns.state.lock();
        let State { round, ports, queue } = &mut *state;
        let Some(port) = ports.get_mut(&self.tag) else { return Poll::Ready(()) };
        port.enter(*round, share(queue.len()));
        if port.left > 0 && port.waiting.is_empty() {
            port.left -= 1;
            return Poll::Ready(());
        }
        self.ticket.waker.register(cx.waker());
        self.ticket.state.store(stands::WAITING, Ordering::Release);
        port.waiting.push_back(Arc::clone(&self.ticket));
        if port.waiting.len() == 1 {
            queue.push_back(self.tag);
            if queue.len() == 1 {
                self.turns.waits.notify_one();
            }
        }
        Poll::Pending
    }

    /// Completes when the connection may perform a handshake of TLS.
    pub(super) async fn handshake(&self) {
        poll_fn(|cx| self.poll(cx)).await;
        if let Some(port) = self.turns.state.lock().ports.get_mut(&self.tag) {
            port.left = port.left.saturating_sub(HANDSHAKE);
        }
    }

    /// The connection has read so many bytes.
    pub(super) fn read(&self, bytes: usize) {
        if bytes >= HEAD {
            self.pay(bytes / HEAD);
        }
    }

    /// The connection has written so many bytes.
    pub(super) fn wrote(&self, bytes: usize) {
        self.pay(1 + bytes / BYTES);
    }

    fn pay(&self, units: usize) {
        let units = i64::try_from(units).unwrap_or(i64::MAX / 2);
        if let Some(port) = self.turns.state.lock().ports.get_mut(&self.tag) {
            port.left = port.left.saturating_sub(units);
        }
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.ticket.state.store(stands::GONE, Ordering::Release);
        let mut state = self.turns.state.lock();
        if let Some(port) = state.ports.get_mut(&self.tag) {
            port.connections -= 1;
            if port.connections == 0 {
                let waited = state.ports.remove(&self.tag).is_some_and(|port| !port.waiting.is_empty());
                if waited {
                    state.queue.retain(|tag| *tag != self.tag);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::task::Waker;

    use super::*;

    fn may_read(turn: &Turn) -> bool {
        turn.poll(&Context::from_waker(Waker::noop())).is_ready()
    }

    /// Lets a connection read and write a small answer as often as it may. Returns how often that was.
    fn use_up(turn: &Turn) -> i64 {
        let mut count = 0;
        while may_read(turn) {
            turn.wrote(200);
            count += 1;
        }
        count
    }

    #[test]
    fn a_port_that_always_has_a_request_waits_for_the_next_round_and_another_does_not() {
        let turns = Arc::new(Turns::default());
        let (busy, other) = (turns.place(Tag(1)), turns.place(Tag(2)));
        assert_eq!(use_up(&busy), (SHARE - CONNECTION) / 2);
        assert!(!may_read(&busy), "asking again changes nothing");
        assert!(may_read(&other));
        assert!(!turns.next_round(), "nobody waits any more");
        assert_eq!(use_up(&busy), SHARE / 2);
    }

    #[test]
    fn many_connections_get_no_more_than_one_and_take_turns() {
        let turns = Arc::new(Turns::default());
        let places: Vec<_> = (0..100).map(|_| turns.place(Tag(1))).collect();
        assert!(places.iter().all(|place| !may_read(place)), "what they cost to accept is not paid yet");
        let (mut answers, mut rounds) = ([0; 100], 0);
        while answers.iter().sum::<i64>() < 200 {
            turns.next_round();
            rounds += 1;
            let called: Vec<_> = (0..100).filter(|place| may_read(&places[*place])).collect();
            assert!(called.len() <= usize::try_from(SHARE).expect("small"), "{called:?}");
            for place in called {
                places[place].wrote(200);
                answers[place] += 1;
                assert!(!may_read(&places[place]), "others are before it");
            }
            let (most, least) = (answers.iter().max(), answers.iter().min());
            assert!(most.zip(least).is_some_and(|(most, least)| most - least <= 2), "{answers:?}");
        }
        let least = (200 * 2 + 100 * CONNECTION) / SHARE;
        assert!((least - 2..=least + 2).contains(&rounds), "{rounds} rounds");
    }

    #[test]
    fn large_answers_cost_more_and_are_paid_for_later() {
        let turns = Arc::new(Turns::default());
        let place = turns.place(Tag(1));
        assert!(may_read(&place));
        place.wrote(1 << 20);
        assert!(!may_read(&place));
        assert!(turns.next_round(), "one round does not pay for it");
        assert!(!may_read(&place));
        assert!(!turns.next_round());
        assert!(may_read(&place));
    }

    #[test]
    fn large_heads_cost_more() {
        let turns = Arc::new(Turns::default());
        let place = turns.place(Tag(1));
        let mut requests = 0;
        while may_read(&place) {
            place.read(8 << 10);
            place.wrote(200);
            requests += 1;
        }
        assert_eq!(requests, (SHARE - CONNECTION + 5) / 6, "a read, four for what is parsed, a write");
    }

    #[tokio::test]
    async fn a_handshake_takes_a_whole_share_of_the_next_rounds() {
        let turns = Arc::new(Turns::default());
        let (first, second) = (turns.place(Tag(1)), turns.place(Tag(1)));
        first.handshake().await;
        assert!(!may_read(&second));
        turns.next_round();
        assert!(may_read(&second));
    }

    #[test]
    fn where_many_ports_wait_each_gets_less_of_a_round() {
        let turns = Arc::new(Turns::default());
        let places: Vec<_> = (0..200).map(|tag| turns.place(Tag(tag))).collect();
        for place in &places {
            use_up(place);
        }
        while turns.next_round() {}
        let answers: i64 = places.iter().map(use_up).sum();
        assert_eq!(answers, 200, "one each");
    }

    #[test]
    fn what_has_ended_is_not_waited_for_and_a_port_without_connections_costs_nothing() {
        let turns = Arc::new(Turns::default());
        let [one, two, three] = [1, 1, 2].map(|tag| turns.place(Tag(tag)));
        use_up(&one);
        assert!(!may_read(&two) && use_up(&three) > 0);
        drop(one);
        turns.next_round();
        assert!(may_read(&two) && may_read(&three));
        use_up(&two);
        drop((two, three));
        assert!(turns.state.lock().ports.is_empty() && turns.state.lock().queue.is_empty());
    }
}
