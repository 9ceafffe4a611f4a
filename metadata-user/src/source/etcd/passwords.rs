//! Passwords that guests post, where the controller keeps them (`passwords = "controller"`): the node's half of the back channel.
//!
//! A password is written under the node's own keys, and the controller's answer is watched for beside it:
//! `<prefix>/passwords/<node>/<uuid>` and `<prefix>/passwords/<node>/<uuid>/answer`.
//!
//! Promises:
//! - the guest has the controller's answer, or 503 within [`PATIENCE`]; what was kept can be read from the node at once;
//! - nothing is lost in silence: a password that was written stays until it is answered or its lease ends, and what became of it
//!   reaches the store also after the guest's 503;
//! - the passwords of one instance are decided one after the other, in the order of their posting, also across a restart of the
//!   daemon; the same password posted again joins the one that waits;
//! - no log, no error and no `Debug` output has a password.

mod wire;

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use etcd_client::{Compare, CompareOp, GetOptions, PutOptions, Txn, TxnOp, TxnOpResponse};
use parking_lot::Mutex;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, sleep, timeout_at};
use tracing::{debug, info, warn};

use super::cluster::{Cluster, ClusterError};
use crate::api::{Password, Written};
use crate::backoff::{self, Backoff};
use crate::config::etcd::Etcd;
use crate::origin::{Ask, Outcome, Want};
use crate::record::InstanceId;
use crate::store::Store;
pub(crate) use wire::{Answer, Name, Posted, answer_key, key, prefix};

/// How long a guest waits for the controller's answer: less than what gives up a request after ten seconds.
const PATIENCE: Duration = Duration::from_secs(8);
/// How long a password stays that the controller does not answer.
const LEASE: Duration = Duration::from_secs(300);
/// Most passwords of one instance that wait.
const WAITING: usize = 4;
/// Delays after requests that failed.
const DELAYS: Backoff = Backoff::new(Duration::from_millis(200), Duration::from_secs(5), 50);

/// A password that waits for the controller.
struct Pending {
    posted: Posted,
    guests: Vec<oneshot::Sender<Outcome>>,
    deadline: Instant,
}

/// What waits, by instance. An instance that is here has a task.
#[derive(Default)]
struct Rows(Mutex<HashMap<InstanceId, VecDeque<Pending>>>);

/// Passes passwords on to the controller.
struct Poster {
    cluster: Cluster,
    store: Arc<Store>,
    rows: Rows,
}

/// Takes guests' passwords, until the other end of the queue is gone.
pub(super) async fn run(settings: Etcd, store: Arc<Store>, mut asks: mpsc::Receiver<Ask>) {
    let poster = Arc::new(Poster { cluster: Cluster::new(&settings), store, rows: Rows::default() });
    while let Some(Ask { instance, want, done }) = asks.recv().await {
        // A document has all pages.
        let Want::Password { path, password } = want else { continue };
        if poster.rows.add(instance, Posted { path, password }, done) {
            let poster = Arc::clone(&poster);
            drop(tokio::spawn(async move { poster.work(instance).await }));
        }
    }
}

impl Rows {
    /// Adds a password to its instance's row. Returns whether the instance needs a task.
    fn add(&self, id: InstanceId, posted: Posted, guest: oneshot::Sender<Outcome>) -> bool {
        let mut rows = self.0.lock();
        let is_new = !rows.contains_key(&id);
        let row = rows.entry(id).or_default();
        if let Some(same) = row.iter_mut().find(|pending| pending.posted.password == posted.password) {
            same.guests.push(guest);
            same.deadline = Instant::now() + PATIENCE;
        } else if row.len() < WAITING {
            row.push_back(Pending { posted, guests: vec![guest], deadline: Instant::now() + PATIENCE });
        } else {
            // The guest's end is dropped: 503.
            debug!(instance = %id, "a guest posts too many passwords: refused");
        }
        is_new
    }

    /// Returns the first of a row. If there is none, the row is gone.
    fn first(&self, id: InstanceId) -> Option<Posted> {
        let mut rows = self.0.lock();
        let first = rows.get(&id).and_then(|row| row.front()).map(|pending| pending.posted.clone());
        if first.is_none() {
            rows.remove(&id);
        }
        first
    }

    /// Returns until when somebody waits for the first of a row; those who have waited for too long are told so.
    fn deadline(&self, id: InstanceId) -> Option<Instant> {
        let mut rows = self.0.lock();
        for pending in rows.get_mut(&id)? {
            if pending.deadline <= Instant::now() {
                for guest in pending.guests.drain(..) {
                    // The guest may have left.
                    let _ = guest.send(Outcome::Unavailable);
                }
            }
        }
        let waits = |pending: &&Pending| !pending.guests.is_empty();
        rows.get(&id)?.iter().filter(waits).map(|pending| pending.deadline).min()
    }

    /// Answers the first of a row, and takes it out.
    fn finish(&self, id: InstanceId, written: Written) {
        let pending = self.0.lock().get_mut(&id).and_then(VecDeque::pop_front);
        for guest in pending.into_iter().flat_map(|pending| pending.guests) {
            let _ = guest.send(Outcome::Posted(written));
        }
    }
}

/// A password in etcd.
struct Request {
    /// Another one of the instance, from before, in place of the one that was to be written.
    earlier: Option<Password>,
    /// The key's `mod_revision`.
    revision: i64,
    /// The key's lease.
    lease: i64,
}

impl Poster {
    /// Passes on what waits of one instance, one after the other.
    async fn work(&self, id: InstanceId) {
        while let Some(posted) = self.rows.first(id) {
            let deciding = self.decide(id, &posted);
            tokio::pin!(deciding);
            let written = loop {
                let deadline = self.rows.deadline(id).unwrap_or_else(|| Instant::now() + PATIENCE);
                if let Ok(written) = timeout_at(deadline, &mut deciding).await {
                    break written;
                }
            };
            if written == Written::Kept {
                self.keep(id, posted.password.clone());
            }
            self.rows.finish(id, written);
        }
    }

    /// Lets the guest read what the controller keeps, before the document has it.
    fn keep(&self, id: InstanceId, password: Password) {
        if self.store.set_password(id, password) == Written::Kept {
            info!(instance = %id, "the controller keeps the password that the guest posted");
        }
    }

    /// Has the controller decide on a password.
    async fn decide(&self, id: InstanceId, posted: &Posted) -> Written {
        if self.store.get(id).is_some_and(|instance| instance.password().is_some()) {
            return Written::Exists;
        }
        let end = Instant::now() + LEASE;
        loop {
            let request = match self.write(id, posted).await {
                Ok(request) => request,
                // If it was written all the same, the guest's next attempt finds it.
                Err(error) => {
                    warn!(instance = %id, "a password that a guest posted cannot be passed on to the controller: {error}");
                    return Written::Unavailable;
                }
            };
            let written = self.answer(id, &request, end).await;
            self.clear(request.lease).await;
            match request.earlier {
                None => return written.unwrap_or(Written::Unavailable),
                Some(earlier) if written == Some(Written::Kept) => self.keep(id, earlier),
                Some(_) => {}
            }
        }
    }

    /// Writes a password, unless the instance has one in etcd already.
    async fn write(&self, id: InstanceId, posted: &Posted) -> Result<Request, ClusterError> {
        let (cluster, settings) = (&self.cluster, self.cluster.settings());
        let seconds = i64::try_from(LEASE.as_secs()).unwrap_or(i64::MAX);
        let granted = cluster
            .request(cluster.limit(), |mut client| async move { client.lease_grant(seconds, None).await })
            .await?;
        let (key, value, lease) = (key(settings, &settings.node, id), posted.write(), granted.id());
        let answer = cluster
            .request(cluster.limit(), |mut client| {
                let absent = Compare::create_revision(key.clone(), CompareOp::Equal, 0);
                let put = TxnOp::put(key.clone(), value.clone(), Some(PutOptions::new().with_lease(lease)));
                let txn = Txn::new().when([absent]).and_then([put]).or_else([TxnOp::get(key.clone(), None)]);
                async move { client.txn(txn).await }
            })
            .await?;
        let revision = answer.header().map_or(0, |header| header.revision());
        let found = answer.op_responses().into_iter().next();
        let Some(TxnOpResponse::Get(found)) = found.filter(|_| !answer.succeeded()) else {
            return Ok(Request { earlier: None, revision, lease });
        };
        let Some(pair) = found.kvs().first() else { return Ok(Request { earlier: None, revision, lease }) };
        if pair.lease() != lease {
            self.clear(lease).await;
        }
        // The same one: from an attempt whose answer was lost, or from before this daemon's start.
        let found = Posted::read(pair.value()).map(|found| found.password);
        let earlier = found.filter(|found| *found != posted.password);
        Ok(Request { earlier, revision: pair.mod_revision(), lease: pair.lease() })
    }

    /// Waits for the controller's answer; `None` if the request is gone, or its time is over.
    async fn answer(&self, id: InstanceId, request: &Request, end: Instant) -> Option<Written> {
        let mut failures = 0;
        while Instant::now() < end {
            match timeout_at(end, self.look(id, request)).await.ok()? {
                Ok(found) => return found,
                Err(error) => {
                    debug!(instance = %id, "waiting for the controller's answer: {error}");
                    failures += 1;
                    sleep(DELAYS.delay(failures, backoff::random())).await;
                }
            }
        }
        None
    }

    /// Reads the answer, or follows its key until it is there.
    async fn look(&self, id: InstanceId, request: &Request) -> Result<Option<Written>, ClusterError> {
        let (cluster, settings) = (&self.cluster, self.cluster.settings());
        let own = key(settings, &settings.node, id);
        let answer = answer_key(&own);
        loop {
            let found = cluster
                .request(cluster.limit(), |mut client| {
                    let looks = [
                        TxnOp::get(own.clone(), Some(GetOptions::new().with_keys_only())),
                        TxnOp::get(answer.clone(), None),
                    ];
                    async move { client.txn(Txn::new().and_then(looks)).await }
                })
                .await?;
            let revision = found.header().map_or(0, |header| header.revision());
            let gets = found.op_responses();
            let mut pairs = gets.iter().map(|get| match get {
                TxnOpResponse::Get(get) => get.kvs().first(),
                _ => None,
            });
            let (is_there, answered) = (pairs.next().flatten(), pairs.next().flatten());
            let answered = answered.and_then(|pair| Answer::read(pair.value()));
            if let Some(answered) = answered.filter(|answered| answered.request == request.revision) {
                return Ok(Some(answered.written));
            }
            if is_there.is_none_or(|pair| pair.mod_revision() != request.revision) {
                return Ok(None);
            }
            // Both keys start with the request's.
            let mut watch = cluster.watch(&own, [own.as_bytes(), b"0"].concat(), revision + 1).await?;
            while watch.next().await?.is_empty() {}
        }
    }

    /// Takes a request away, with its answer. If etcd cannot be reached, they go when the lease ends.
    async fn clear(&self, lease: i64) {
        let cluster = &self.cluster;
        let revoked = cluster.request(cluster.limit(), |mut client| async move { client.lease_revoke(lease).await });
        if let Err(error) = revoked.await {
            debug!("a request is left until its lease ends: {error}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn posted(text: &str) -> Posted {
        Posted { path: "/openstack/latest/password".to_owned(), password: Password::new(text.to_owned()).unwrap() }
    }

    #[tokio::test]
    async fn passwords_of_an_instance_wait_in_a_row_and_the_same_one_joins() {
        let rows = Rows::default();
        let id: InstanceId = "12345678-1234-4234-8234-123456789abc".parse().unwrap();
        let add = |text: &str| {
            let (guest, outcome) = oneshot::channel();
            (rows.add(id, posted(text), guest), outcome)
        };
        let (is_new, mut first) = add("a");
        assert!(is_new);
        let (is_new, mut same) = add("a");
        assert!(!is_new);
        let (_, mut second) = add("b");
        let beyond: Vec<_> = ["c", "d", "e"].map(add).into();
        assert!(rows.deadline(id).unwrap() <= Instant::now() + PATIENCE);
        assert_eq!(rows.first(id).unwrap().password.as_str(), "a");
        rows.finish(id, Written::Kept);
        assert_eq!(first.try_recv(), Ok(Outcome::Posted(Written::Kept)));
        assert_eq!(same.try_recv(), Ok(Outcome::Posted(Written::Kept)));
        assert!(second.try_recv().is_err(), "not decided yet");
        assert_eq!(rows.first(id).unwrap().password.as_str(), "b");
        let refused = beyond.into_iter().filter_map(|(_, mut outcome)| outcome.try_recv().err());
        let closed = refused.filter(|error| *error == oneshot::error::TryRecvError::Closed).count();
        assert_eq!(closed, 1, "no more than {WAITING} wait");
        for _ in 0..3 {
            assert!(rows.first(id).is_some());
            rows.finish(id, Written::Exists);
        }
        assert!(rows.first(id).is_none() && rows.0.lock().is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn a_guest_is_told_in_time_and_its_password_goes_on_waiting() {
        let rows = Rows::default();
        let id: InstanceId = "12345678-1234-4234-8234-123456789abc".parse().unwrap();
        let (guest, mut outcome) = oneshot::channel();
        rows.add(id, posted("a"), guest);
        tokio::time::advance(PATIENCE).await;
        assert_eq!(rows.deadline(id), None);
        assert_eq!(outcome.try_recv(), Ok(Outcome::Unavailable));
        assert!(rows.first(id).is_some());
    }
}
