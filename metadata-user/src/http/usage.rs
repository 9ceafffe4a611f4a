//! What requests of each instance a stricter policy would refuse, so that an operator sees it before switching that on: who
//! comes without a session token, and what is read from source ports that an unprivileged process can have.
//!
//! Promises: an instance costs a bounded amount of memory, whatever its guest sends: [`CLIENTS`] clients with
//! [`AGENT`] bytes each; instances that are gone go too, before they are more than the others. No token is kept. Counting is
//! an atomic addition; only a request without a token, where tokens are issued, takes the instance's own lock.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use parking_lot::Mutex;

use crate::api::Subject;
use crate::record::InstanceId;
use crate::store::Store;
use crate::table::Table;

/// The most clients that are told apart; more than any image has programs that read metadata.
const CLIENTS: usize = 16;

/// The most bytes of a `User-Agent` that are kept: enough for a program's name and version.
const AGENT: usize = 64;

/// How many instances are kept before those that are gone are looked for; then twice as many as were left, and so on.
const LOOK: usize = 256;

/// A client, by its `User-Agent`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Client {
    /// The start of its `User-Agent`; empty without one. Any bytes: the guest chooses them.
    pub agent: Box<[u8]>,
    /// Requests without a token.
    pub requests: u64,
    /// When it last came without a token, in seconds of Unix time.
    pub last_seen: u64,
}

/// What one instance's guest has asked for since the daemon started, or its content came.
#[derive(Debug, Default)]
pub struct Usage {
    unprivileged: [AtomicU64; Subject::ALL.len()],
    refused_unprivileged: AtomicU64,
    issued: AtomicU64,
    with_token: AtomicU64,
    without_token: AtomicU64,
    refused_token: AtomicU64,
    clients: Mutex<Clients>,
}

/// Those that came without a token.
#[derive(Debug, Default)]
struct Clients {
    known: Vec<Client>,
    /// How many were forgotten for others.
    forgotten: u64,
}

/// The same, at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UsageView {
    /// Requests that were answered though their source port was 1024 or above, by what they were about.
    pub unprivileged: Vec<(Subject, u64)>,
    /// Requests that were refused for that.
    pub refused_unprivileged: u64,
    /// Session tokens that were issued.
    pub issued: u64,
    /// Requests with a valid token.
    pub with_token: u64,
    /// Requests without a token, answered or not, while tokens were issued.
    pub without_token: u64,
    /// Requests whose token was refused.
    pub refused_token: u64,
    /// Those that came without a token, the last one first.
    pub clients: Vec<Client>,
    /// Clients that were forgotten for others.
    pub forgotten: u64,
}

/// What becomes of a request, as far as it is counted here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Counted {
    /// Answered, from a source port of 1024 or above.
    Unprivileged(Subject),
    /// Refused for its source port.
    RefusedUnprivileged,
    /// A token was issued.
    Issued,
    /// It has a valid token.
    WithToken,
    /// Its token was refused.
    RefusedToken,
}

impl Usage {
    /// Counts a request.
    pub(super) fn count(&self, what: Counted) {
        match what {
            Counted::Unprivileged(subject) => &self.unprivileged[subject as usize],
            Counted::RefusedUnprivileged => &self.refused_unprivileged,
            Counted::Issued => &self.issued,
            Counted::WithToken => &self.with_token,
            Counted::RefusedToken => &self.refused_token,
        }
        .fetch_add(1, Ordering::Relaxed);
    }

    /// Counts a request without a token, and who it was from.
    pub(super) fn without_token(&self, agent: &[u8], now: u64) {
        self.without_token.fetch_add(1, Ordering::Relaxed);
        let agent = &agent[..agent.len().min(AGENT)];
        let mut clients = self.clients.lock();
        if let Some(client) = clients.known.iter_mut().find(|client| *client.agent == *agent) {
            client.requests += 1;
            client.last_seen = now;
            return;
        }
        let client = Client { agent: agent.into(), requests: 1, last_seen: now };
        if clients.known.len() < CLIENTS {
            return clients.known.push(client);
        }
        clients.forgotten += 1;
        if let Some(oldest) = clients.known.iter_mut().min_by_key(|client| client.last_seen) {
            *oldest = client;
        }
    }

    /// Returns what was counted.
    #[must_use]
    pub fn view(&self) -> UsageView {
        let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let (mut clients, forgotten) = {
            let clients = self.clients.lock();
            (clients.known.clone(), clients.forgotten)
        };
        clients.sort_by(|one, other| (other.last_seen, &one.agent).cmp(&(one.last_seen, &other.agent)));
        UsageView {
            unprivileged: Subject::ALL.into_iter().zip(self.unprivileged.iter().map(get)).collect(),
            refused_unprivileged: get(&self.refused_unprivileged),
            issued: get(&self.issued),
            with_token: get(&self.with_token),
            without_token: get(&self.without_token),
            refused_token: get(&self.refused_token),
            clients,
            forgotten,
        }
    }
}

/// All instances that were asked for.
#[derive(Debug)]
pub struct Usages {
    instances: Table<InstanceId, Arc<Usage>>,
    /// At how many those that are gone are looked for.
    look_at: AtomicUsize,
}

impl Default for Usages {
    /// Of no instance.
    fn default() -> Self {
        Self { instances: Table::default(), look_at: AtomicUsize::new(LOOK) }
    }
}

impl Usages {
    /// Returns an instance's, which must be in the store.
    pub(super) fn of(&self, id: InstanceId, store: &Store) -> Arc<Usage> {
        if let Some(usage) = self.instances.get(&id) {
            return Arc::clone(&usage);
        }
        if self.instances.len() >= self.look_at.load(Ordering::Relaxed) {
            self.instances.retain(|id, _| store.served(*id).is_some());
            self.look_at.store(2 * self.instances.len() + LOOK, Ordering::Relaxed);
        }
        Arc::clone(&self.instances.entry(id).or_default())
    }

    /// Returns what was counted of an instance; `None`: nothing.
    #[must_use]
    pub fn view(&self, id: InstanceId) -> Option<UsageView> {
        self.instances.get(&id).map(|usage| usage.view())
    }

    /// Returns the instances of which something was counted, ascending.
    #[must_use]
    pub fn ids(&self) -> Vec<InstanceId> {
        let mut ids: Vec<_> = self.instances.iter().map(|usage| *usage.key()).collect();
        ids.sort_unstable();
        ids
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::Cloud;
    use crate::store::tests::{id, record};

    #[test]
    fn each_kind_of_request_moves_its_own_count() {
        let counts = |what| {
            let usage = Usage::default();
            usage.count(what);
            let view = usage.view();
            let unprivileged: u64 = view.unprivileged.iter().map(|(_, count)| count).sum();
            [unprivileged, view.refused_unprivileged, view.issued, view.with_token, view.refused_token]
        };
        for subject in Subject::ALL {
            assert_eq!(counts(Counted::Unprivileged(subject)), [1, 0, 0, 0, 0]);
        }
        assert_eq!(counts(Counted::RefusedUnprivileged), [0, 1, 0, 0, 0]);
        assert_eq!(counts(Counted::Issued), [0, 0, 1, 0, 0]);
        assert_eq!(counts(Counted::WithToken), [0, 0, 0, 1, 0]);
        assert_eq!(counts(Counted::RefusedToken), [0, 0, 0, 0, 1]);
    }

    #[test]
    fn a_guest_with_ever_new_names_is_kept_in_bounds() {
        let usage = Usage::default();
        usage.without_token(b"old", 1);
        for number in 2..1000_u64 {
            usage.without_token(format!("{number:>100}").as_bytes(), number);
            usage.without_token(number.to_string().as_bytes(), number);
            usage.without_token(b"cloud-init", number);
        }
        let view = usage.view();
        assert_eq!((view.clients.len(), view.without_token), (CLIENTS, 1 + 3 * 998));
        assert!(view.forgotten > 900);
        assert!(view.clients.iter().all(|client| client.agent.len() <= AGENT));
        let steady =
            view.clients.iter().find(|client| *client.agent == *b"cloud-init").expect("it comes again and again");
        assert_eq!((steady.requests, steady.last_seen), (998, 999));
        assert_eq!(view.clients.iter().map(|client| client.last_seen).max(), Some(view.clients[0].last_seen));
    }

    #[test]
    fn instances_that_are_gone_go_here_too() {
        let (usages, store) = (Usages::default(), Store::new(Cloud::default()));
        store.put(record(1, "p", &[]));
        usages.of(id(1), &store).count(Counted::Issued);
        for number in 2..3000 {
            usages.of(id(number), &store);
            assert!(usages.ids().len() <= LOOK + 2, "{number}");
        }
        assert_eq!(usages.view(id(1)).expect("it is there").issued, 1);
        assert_eq!(usages.view(id(9999)), None);
    }
}
