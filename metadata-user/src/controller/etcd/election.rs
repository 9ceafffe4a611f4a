//! Who leads: an election by a lease in etcd.
//!
//! Promises:
//! - a candidate leads when its key is the oldest, which etcd says (its election API, so `etcdctl elect --listen` shows the leader);
//! - the lease is renewed three times in its life. A leader whose renewals fail has lost ([`Term::lost`]) before the lease can
//!   have ended, by the clock that the system's time does not change;
//! - who has lost has lost for good: a renewal that succeeds late brings nothing back;
//! - an election key that somebody deletes ends the term with the next renewal, and with the next write at once.
//!
//! So another leads after at most the lease's time and a second when the leader dies, hangs or is cut off, and at once when it
//! resigns. That a leader which was stopped cannot write when it goes on is not promised here: each write is fenced ([`Fence`]).

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use etcd_client::{
    Client, Compare, CompareOp, Error as ClientError, GetOptions, LeaderKey, PutOptions, SortOrder, SortTarget, Txn,
    TxnOp, TxnOpResponse,
};
use serde_json::{Value, json};
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, sleep_until};
use tracing::{debug, info, warn};

use super::keys;
use crate::clock;
use crate::source::etcd::cluster::{Cluster, ClusterError, after};

/// Renewals in the life of a lease.
const RENEWALS: u32 = 3;
/// By which part of its life a lease is taken to end earlier.
const MARGIN: u32 = 10;
/// How long after a renewal that failed the next one is tried.
const AGAIN: Duration = Duration::from_millis(200);

/// Who stands for election.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// The controller's name.
    pub name: String,
    /// The host that it runs on.
    pub host: String,
    /// Where it can be asked: the path of its admin socket, or an address.
    pub admin: Option<String>,
    /// How long a leader that is silent stays the leader; whole seconds, rounded up. etcd makes it longer if it is
    /// shorter than its own elections take.
    pub lease: Duration,
}

/// A candidate, as etcd has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Leader {
    /// The controller's name.
    pub name: String,
    /// The host that it runs on.
    pub host: String,
    /// Where it can be asked.
    pub admin: Option<String>,
    /// Since when it leads, or waits, in seconds of Unix time.
    pub since: u64,
}

impl Leader {
    fn write(candidate: &Candidate) -> Vec<u8> {
        let value = json!({
            "name": candidate.name, "host": candidate.host, "admin": candidate.admin, "since": clock::unix(),
        });
        value.to_string().into_bytes()
    }

    /// Reads a candidate's value. Another program's is shown as it is.
    fn read(value: &[u8]) -> Self {
        let fields: Value = serde_json::from_slice(value).unwrap_or_default();
        let text = |name: &str| fields[name].as_str().map(str::to_owned);
        Self {
            name: text("name").unwrap_or_else(|| String::from_utf8_lossy(value).into_owned()),
            host: text("host").unwrap_or_default(),
            admin: text("admin"),
            since: fields["since"].as_u64().unwrap_or_default(),
        }
    }
}

/// Why a term has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Lost {
    /// etcd could not be reached for so long that the lease may have ended.
    #[error("etcd did not renew the lease in time")]
    Silent,
    /// etcd says that the lease has ended.
    #[error("the lease has ended: this controller was stopped, or cut off from etcd")]
    Expired,
    /// The election key is gone.
    #[error("the election key was deleted")]
    Deleted,
    /// This controller has resigned.
    #[error("it has resigned")]
    Resigned,
}

/// Until when a term lasts for certain.
#[derive(Clone, Copy, Debug)]
struct Standing {
    until: Instant,
    lost: Option<Lost>,
}

impl Standing {
    fn lost(self) -> Option<Lost> {
        self.lost.or_else(|| (Instant::now() >= self.until).then_some(Lost::Silent))
    }
}

/// A lease that is renewed until this is dropped. Then it is given up, with its keys, or else it runs out.
#[derive(Debug)]
struct Lease {
    cluster: Cluster,
    id: i64,
    standing: Arc<watch::Sender<Standing>>,
    /// The election key, once it has won, with its `create_revision`.
    key: Arc<OnceLock<(Vec<u8>, i64)>>,
    keeper: JoinHandle<()>,
    is_revoked: bool,
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.keeper.abort();
        // A key that nobody renews would hold up the next election until its lease runs out.
        if let (false, Ok(runtime)) = (self.is_revoked, Handle::try_current()) {
            let revoked = revoke(self.cluster.clone(), self.id);
            runtime.spawn(async move {
                if let Err(error) = revoked.await {
                    debug!("a lease is left to run out: {error}");
                }
            });
        }
    }
}

/// Gives a lease up, with its keys.
async fn revoke(cluster: Cluster, id: i64) -> Result<(), ClusterError> {
    cluster.request(cluster.limit(), move |mut client| async move { client.lease_revoke(id).await }).await.map(drop)
}

impl Lease {
    async fn grant(cluster: &Cluster, time: Duration) -> Result<Self, ClusterError> {
        let seconds = i64::try_from(time.as_secs() + u64::from(time.subsec_nanos() > 0)).unwrap_or(i64::MAX).max(1);
        // An attempt whose answer was lost leaves a lease without keys, which runs out.
        let (sent, granted) = cluster
            .request(cluster.limit(), move |mut client| async move {
                Ok((Instant::now(), client.lease_grant(seconds, None).await?))
            })
            .await?;
        let time = Duration::from_secs(u64::try_from(granted.ttl()).unwrap_or(0));
        let (id, time) = (granted.id(), time - time / MARGIN);
        let standing = Arc::new(watch::Sender::new(Standing { until: sent + time, lost: None }));
        let key = Arc::new(OnceLock::new());
        let keeper = tokio::spawn(keep(cluster.clone(), id, time, Arc::clone(&standing), Arc::clone(&key)));
        Ok(Self { cluster: cluster.clone(), id, standing, key, keeper, is_revoked: false })
    }

    fn lost(&self) -> impl Future<Output = Lost> + Send + 'static {
        let mut standing = self.standing.subscribe();
        async move {
            loop {
                let now = *standing.borrow_and_update();
                if let Some(lost) = now.lost() {
                    return lost;
                }
                tokio::select! {
                    changed = standing.changed() => if changed.is_err() {
                        return Lost::Silent;
                    },
                    () = sleep_until(now.until) => {}
                }
            }
        }
    }

    /// Gives the lease up, with its keys.
    async fn revoke(&mut self) -> Result<(), ClusterError> {
        self.keeper.abort();
        self.is_revoked = true;
        revoke(self.cluster.clone(), self.id).await
    }
}

/// Renews a lease until it, or the election key, is lost.
async fn keep(
    cluster: Cluster,
    id: i64,
    time: Duration,
    standing: Arc<watch::Sender<Standing>>,
    key: Arc<OnceLock<(Vec<u8>, i64)>>,
) {
    let every = time / RENEWALS;
    let mut wait = every;
    loop {
        sleep(wait).await;
        let sent = Instant::now();
        let key = key.get();
        let renewed = cluster.attempt(every, move |client| renew(client, id, key)).await;
        let until = standing.borrow().until;
        let lost = match renewed {
            // Too late: somebody may have seen the term end.
            _ if Instant::now() >= until => Some(Lost::Silent),
            Ok(lost @ Some(_)) => lost,
            Ok(None) => {
                standing.send_modify(|standing| standing.until = sent + time);
                wait = every;
                None
            }
            Err(error) => {
                debug!("the lease was not renewed: {error}");
                wait = AGAIN;
                None
            }
        };
        if lost.is_some() {
            standing.send_modify(|standing| standing.lost = standing.lost.or(lost));
            return;
        }
    }
}

/// Renews a lease once, and looks whether its key is still there; returns what is lost.
async fn renew(mut client: Client, id: i64, key: Option<&(Vec<u8>, i64)>) -> Result<Option<Lost>, ClientError> {
    // The library waits for the first answer.
    match client.lease_client().keep_alive(id).await {
        Ok(_) => {}
        Err(ClientError::LeaseKeepAliveError(_)) => return Ok(Some(Lost::Expired)),
        Err(error) => return Err(error),
    }
    let Some((key, created)) = key else { return Ok(None) };
    let found = client.get(key.clone(), Some(GetOptions::new().with_keys_only())).await?;
    let is_there = found.kvs().first().is_some_and(|pair| pair.create_revision() == *created);
    Ok((!is_there).then_some(Lost::Deleted))
}

/// What every write of a term is compared with.
#[derive(Clone, Debug)]
pub(super) struct Fence {
    key: Vec<u8>,
    created: i64,
    epoch: i64,
}

impl Fence {
    /// The comparisons that hold while the term lasts, and in its present epoch.
    pub(super) fn compares(&self) -> [Compare; 2] {
        [
            Compare::create_revision(self.key.clone(), CompareOp::Equal, self.created),
            Compare::mod_revision(self.key.clone(), CompareOp::Equal, self.epoch),
        ]
    }

    /// Reads what tells why they do not hold.
    pub(super) fn look(&self) -> TxnOp {
        TxnOp::get(self.key.clone(), Some(GetOptions::new().with_keys_only()))
    }
}

/// The time in which this controller leads. Dropping it ends it, in the background; [`Self::resign`] says when it has ended.
#[derive(Debug)]
pub struct Term {
    cluster: Cluster,
    candidate: Candidate,
    lease: Lease,
    key: Vec<u8>,
    /// The key's `create_revision`, which no other key and no later key of this name has.
    created: i64,
    /// The key's `mod_revision`. Each new one makes void what was sent before and has not arrived.
    epoch: AtomicI64,
    /// Transactions whose fate is not known.
    doubts: AtomicU64,
    /// How many of these were when the present epoch began.
    settled: AtomicU64,
}

/// Stands for election, and waits until this candidate leads.
///
/// # Errors
/// [`ClusterError`] if etcd cannot be reached, or refuses. The caller tries again after a moment. Dropping the future ends the
/// candidacy.
pub async fn campaign(cluster: &Cluster, candidate: &Candidate) -> Result<Term, ClusterError> {
    // Each attempt has a lease of its own: an attempt that etcd has not given up yet may delete its key late.
    let lease = Lease::grant(cluster, candidate.lease).await?;
    let (key, created) = elected(cluster, candidate, &lease).await?;
    // It is set once.
    let _ = lease.key.set((key.clone(), created));
    let term = Term {
        cluster: cluster.clone(),
        candidate: candidate.clone(),
        lease,
        key,
        created,
        epoch: AtomicI64::new(0),
        doubts: AtomicU64::new(1),
        settled: AtomicU64::new(0),
    };
    term.settle().await?;
    info!(name = candidate.name, revision = created, "this controller leads");
    Ok(term)
}

/// Waits until the candidate's key is the oldest; returns it with its `create_revision`.
async fn elected(cluster: &Cluster, candidate: &Candidate, lease: &Lease) -> Result<(Vec<u8>, i64), ClusterError> {
    let (client, generation) = cluster.patient().await?;
    let (name, value) = (keys::election(cluster.settings()), Leader::write(candidate));
    let mut election = client.election_client();
    tokio::select! {
        answer = election.campaign(name, value, lease.id) => match answer {
            Ok(answer) => {
                let leader = answer.leader().cloned().unwrap_or_else(LeaderKey::new);
                Ok((leader.key().to_vec(), leader.rev()))
            }
            Err(error) => Err(cluster.note(&error, generation).await),
        },
        () = cluster.left(generation) => Err(ClusterError::interrupted("the member was left while it held an election")),
        lost = lease.lost() => Err(ClusterError::interrupted(&lost.to_string())),
    }
}

impl Term {
    /// Resolves when this controller may no longer lead. It does not hold on to the term.
    pub fn lost(&self) -> impl Future<Output = Lost> + Send + 'static {
        self.lease.lost()
    }

    /// Returns the candidate that leads.
    #[must_use]
    pub fn candidate(&self) -> &Candidate {
        &self.candidate
    }

    /// Returns the number of the term: the `create_revision` of its key. Later terms have higher ones.
    #[must_use]
    pub fn number(&self) -> i64 {
        self.created
    }

    /// Ends the term at once, so that another controller leads.
    ///
    /// # Errors
    /// [`ClusterError`] if etcd cannot be reached: then the lease runs out.
    pub async fn resign(mut self) -> Result<(), ClusterError> {
        self.lease.standing.send_modify(|standing| standing.lost = standing.lost.or(Some(Lost::Resigned)));
        self.lease.revoke().await?;
        info!(name = self.candidate.name, "this controller has resigned");
        Ok(())
    }

    /// Returns what to compare with in a write.
    ///
    /// # Errors
    /// If the term has ended.
    pub(super) fn fence(&self) -> Result<Fence, Lost> {
        let lost = self.lease.standing.borrow().lost();
        match lost {
            Some(lost) => Err(lost),
            None => {
                Ok(Fence { key: self.key.clone(), created: self.created, epoch: self.epoch.load(Ordering::Acquire) })
            }
        }
    }

    /// Takes in what [`Fence::look`] read when a comparison did not hold. Returns whether the term goes on, in another epoch.
    ///
    /// # Errors
    /// If the term has ended.
    pub(super) fn refenced(&self, fence: &Fence, found: Option<&TxnOpResponse>) -> Result<bool, Lost> {
        let Some(TxnOpResponse::Get(found)) = found else { return Ok(false) };
        match found.kvs().first() {
            Some(key) if key.create_revision() == self.created => {
                self.epoch.fetch_max(key.mod_revision(), Ordering::AcqRel);
                Ok(key.mod_revision() != fence.epoch)
            }
            _ => {
                self.end(Lost::Deleted);
                Err(Lost::Deleted)
            }
        }
    }

    pub(super) fn cluster(&self) -> &Cluster {
        &self.cluster
    }

    /// Records that the fate of a transaction is not known: it may be carried out late.
    pub(super) fn doubt(&self) {
        self.doubts.fetch_add(1, Ordering::AcqRel);
    }

    /// If there are doubts, begins another epoch: what was sent in an earlier one and arrives late has no effect.
    ///
    /// # Errors
    /// If etcd cannot be reached. Then nothing else is sent.
    pub(super) async fn settle(&self) -> Result<(), ClusterError> {
        let doubts = self.doubts.load(Ordering::Acquire);
        if self.settled.load(Ordering::Acquire) >= doubts {
            return Ok(());
        }
        let value = Leader::write(&self.candidate);
        let answer = self
            .cluster
            .request(self.cluster.limit(), |mut client| {
                let is_ours = Compare::create_revision(self.key.clone(), CompareOp::Equal, self.created);
                let options = PutOptions::new().with_lease(self.lease.id);
                let put = TxnOp::put(self.key.clone(), value.clone(), Some(options));
                async move { client.txn(Txn::new().when([is_ours]).and_then([put])).await }
            })
            .await?;
        if answer.succeeded() {
            let revision = answer.header().map_or(0, |header| header.revision());
            self.epoch.fetch_max(revision, Ordering::AcqRel);
            self.settled.fetch_max(doubts, Ordering::AcqRel);
        } else {
            self.end(Lost::Deleted);
        }
        Ok(())
    }

    fn end(&self, why: Lost) {
        self.lease.standing.send_modify(|standing| {
            if standing.lost.is_none() {
                warn!("this controller leads no more: {why}");
                standing.lost = Some(why);
            }
        });
    }
}

/// Returns the controllers that stand for election; the first one leads.
///
/// # Errors
/// [`ClusterError`] if etcd cannot be reached, or refuses.
pub async fn candidates(cluster: &Cluster) -> Result<Vec<Leader>, ClusterError> {
    let prefix = format!("{}/", keys::election(cluster.settings()));
    let answer = cluster
        .request(cluster.limit(), |mut client| {
            let options = GetOptions::new().with_range(after(&prefix)).with_sort(SortTarget::Create, SortOrder::Ascend);
            let prefix = prefix.clone();
            async move { client.get(prefix, Some(options)).await }
        })
        .await?;
    Ok(answer.kvs().iter().map(|key| Leader::read(key.value())).collect())
}

/// Returns the controller that leads, if one does.
///
/// # Errors
/// [`ClusterError`] if etcd cannot be reached, or refuses.
pub async fn leader(cluster: &Cluster) -> Result<Option<Leader>, ClusterError> {
    Ok(candidates(cluster).await?.into_iter().next())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_candidates_value_says_who_it_is_and_anothers_is_shown_as_it_is() {
        let candidate = Candidate {
            name: "control-1".to_owned(),
            host: "h".to_owned(),
            admin: Some("/run/x.sock".to_owned()),
            lease: Duration::from_secs(6),
        };
        let read = Leader::read(&Leader::write(&candidate));
        assert_eq!((read.name, read.host, read.admin), (candidate.name, candidate.host, candidate.admin));
        assert!(read.since > 0);
        assert_eq!(Leader::read(b"someone").name, "someone");
    }
}
