//! One term: what changes is read and written at once, everything else is compared slowly.
//!
//! Promises:
//! - changes come before the comparison and do not wait for its rate; half of the places are kept for them;
//! - a notification is acknowledged when what it is about is in etcd;
//! - whatever fails is tried again; nothing is concluded from a failure;
//! - when Nova answers for another cloud, nothing more is read or written until it is the expected one again.

mod comparison;
mod heard;
mod job;
mod listing;
mod password;

use std::collections::{BTreeSet, HashMap};
use std::pin::{Pin, pin};
use std::time::{Duration, Instant, SystemTime};

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use tokio::sync::{mpsc, oneshot};
use tracing::{info, warn};

use super::etcd::back_channel;
use super::etcd::election::{Lost, Term};
use super::notifications::{self, Notification, Receipt};
use super::queue::{Outcome, Round, Urgency};
use super::shared::{Command, Shared};
use crate::admin::controller::ControllerProblem;
use crate::admin::wire::Resigned;
use crate::backoff;
use crate::record::InstanceId;
use comparison::{ListError, Listed};
use listing::{Compare, Listing};

/// Notifications that may wait for this thread.
const HEARD: usize = 1024;
/// Requests that reading an instance takes, for the rate of the slow round.
const REQUESTS_PER_INSTANCE: u32 = 45;
/// How long to wait before etcd is asked again for passwords.
const PASSWORDS_AGAIN: Duration = Duration::from_secs(1);
/// How long after a change, or the last read that found something new, an instance is read again because a change may be hidden: longer
/// than Nova's cache lasts (15 s), so that at least one read is after its end.
const LOOKED_FOR: Duration = Duration::from_secs(30);
/// Time from a read of an instance that is on its way to another node to the next.
const MOVING: Duration = Duration::from_secs(5);

/// How a term ended.
pub(super) enum Ended {
    /// Another controller may lead.
    Lost(Lost),
    /// The operator asked for it, and waits for an answer.
    Resigned(oneshot::Sender<Result<Resigned, ControllerProblem>>),
    /// The program is to end.
    Stopped,
}

/// What has been done.
enum Done {
    /// An instance was read, or could not be.
    Job { id: InstanceId, outcome: Outcome, again: Again },
    /// What a notification names belongs to these instances.
    Resolved(Notification, Result<Vec<InstanceId>, String>),
    /// All servers were listed.
    Listed(Result<Listed, ListError>),
    /// The operator has confirmed the cloud that answers now; or it could not be.
    Accepted,
    /// The operator was answered, or a guest.
    Nothing,
}

/// When an instance that was read is to be read again, although nothing more was heard of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Again {
    /// Never: it is in step.
    No,
    /// After this time, until what Nova is doing with it is over.
    Unfinished(Duration),
    /// After this time, since a cache may have hidden a change. `is_news`: something has changed since the last read.
    Hidden { after: Duration, is_news: bool },
}

type Work<'a> = Pin<Box<dyn Future<Output = Done> + 'a>>;

/// A term, as it goes on.
struct Leader<'a> {
    shared: &'a Shared,
    term: &'a Term,
    round: Round,
    /// Jobs that run.
    jobs: usize,
    /// Those of them that no change asked for.
    unhurried: HashMap<InstanceId, Urgency>,
    /// Since when instances are read again without news, because a change may be hidden.
    looked_for: HashMap<InstanceId, Instant>,
    listing: Listing,
    /// Instances that have to be read before everything is compared.
    comparing: BTreeSet<InstanceId>,
    /// Whether Nova answers for another cloud.
    is_other_cloud: bool,
}

/// Leads until the term ends or the operator wants another leader.
pub(super) async fn lead(shared: &Shared, term: &Term, commands: &mut mpsc::UnboundedReceiver<Command>) -> Ended {
    let mut lost = pin!(term.lost());
    tokio::select! {
        biased;
        why = &mut lost => return Ended::Lost(why),
        begun = comparison::begin(shared, term, commands) => if let Err(ended) = begun {
            return ended;
        },
    }
    let (sender, mut heard) = mpsc::channel(HEARD);
    let listening =
        shared.settings.rabbitmq.as_ref().map(|settings| notifications::listen(settings, term.number(), sender));
    shared.shown.lock().notifications = listening.as_ref().map(notifications::Notifications::view);
    let mut passwords = back_channel::requests(&shared.cluster);
    let mut passwords_at = Instant::now();
    let mut work: FuturesUnordered<Work<'_>> = FuturesUnordered::new();
    let mut leader = Leader::new(shared, term);
    loop {
        leader.start(&mut work);
        let wake = leader.wake();
        tokio::select! {
            biased;
            why = &mut lost => return Ended::Lost(why),
            command = commands.recv() => match command {
                Some(Command::Resign(answer)) => return Ended::Resigned(answer),
                Some(Command::Accept(answer)) => {
                    work.push(Box::pin(comparison::accept(shared, term, answer)));
                }
                Some(Command::Differences(id, answer)) => work.push(Box::pin(job::differences(shared, id, answer))),
                Some(Command::Wake) => {}
                None => return Ended::Stopped,
            },
            Some(done) = work.next(), if !work.is_empty() => leader.done(done),
            Some(notification) = heard.recv() => leader.heard(notification, &mut work),
            request = passwords.next(), if passwords_at <= Instant::now() => match request {
                Ok(request) => work.push(Box::pin(password::pass_on(shared, term, request))),
                Err(error) => {
                    // The status shows what is wrong with etcd.
                    warn!("watching for passwords of guests: {error}");
                    passwords_at = Instant::now() + PASSWORDS_AGAIN;
                }
            },
            () = tokio::time::sleep_until(wake.into()) => {}
        }
    }
}

impl<'a> Leader<'a> {
    fn new(shared: &'a Shared, term: &'a Term) -> Self {
        let reconcile = &shared.settings.reconcile;
        let spacing =
            Duration::from_secs_f64(f64::from(REQUESTS_PER_INSTANCE) / f64::from(reconcile.requests_per_second));
        Self {
            shared,
            term,
            round: Round::new(reconcile.reread_interval, spacing),
            jobs: 0,
            unhurried: HashMap::new(),
            looked_for: HashMap::new(),
            listing: Listing::new(Instant::now()),
            comparing: BTreeSet::new(),
            is_other_cloud: false,
        }
    }

    /// Starts whatever may run now.
    fn start(&mut self, work: &mut FuturesUnordered<Work<'a>>) {
        let now = Instant::now();
        if self.listing.begin(now) {
            work.push(Box::pin(comparison::list(self.shared, self.term)));
            work.push(Box::pin(comparison::look_after(self.shared)));
        }
        if self.is_other_cloud {
            return;
        }
        if let Some(id) = self.round.next(now) {
            self.shared.queue.lock().push(id, Urgency::Slow, now, None);
        }
        let most = self.shared.settings.reconcile.requests;
        while self.jobs < most {
            // Whatever is not urgent leaves places to changes.
            let least = if self.unhurried.len() < (most / 2).max(1) { Urgency::Slow } else { Urgency::Change };
            let Some(job) = self.shared.queue.lock().next(least, now) else { break };
            self.jobs += 1;
            if job.urgency < Urgency::Change {
                self.unhurried.insert(job.id, job.urgency);
            }
            let was_looked_for = |since: &Instant| now.duration_since(*since) >= LOOKED_FOR;
            let is_last_look = self.looked_for.get(&job.id).is_some_and(was_looked_for);
            work.push(Box::pin(job::run(self.shared, self.term, job, is_last_look)));
        }
    }

    /// Returns when something may be started that cannot be now.
    fn wake(&self) -> Instant {
        let far = Instant::now() + Duration::from_secs(3600);
        let listing = self.listing.wake();
        if self.is_other_cloud {
            return listing.unwrap_or(far);
        }
        let queue = self.shared.queue.lock().wake();
        [listing, self.round.wake(), queue].into_iter().flatten().min().unwrap_or(far)
    }

    fn done(&mut self, done: Done) {
        let now = Instant::now();
        if matches!(done, Done::Listed(_)) {
            // While a service does not answer, more and more are acknowledged without them.
            self.shared.queue.lock().retain_receipts(Receipt::is_needed);
        }
        match done {
            Done::Job { id, outcome, again } => {
                self.jobs -= 1;
                let unhurried = self.unhurried.remove(&id);
                self.shared.queue.lock().done(id, outcome, now, backoff::random());
                if let Some(after) = self.again_after(id, again, now) {
                    let urgency = match again {
                        // What nobody said to have changed is read again at the configured rate, as it was before.
                        Again::Hidden { .. } if unhurried == Some(Urgency::Slow) => Urgency::Slow,
                        Again::Hidden { .. } => Urgency::Again,
                        Again::Unfinished(_) | Again::No => Urgency::Change,
                    };
                    self.shared.queue.lock().push_at(now + after, id, urgency, now + after, None);
                }
                if outcome == Outcome::Done {
                    self.comparing.remove(&id);
                    if self.shared.table.lock().get(id).is_some() {
                        self.round.note_read(id, now, backoff::random());
                    } else {
                        self.round.forget(id);
                    }
                }
                self.settle();
            }
            Done::Resolved(notification, Ok(ids)) => self.resolved(&notification, &ids),
            Done::Resolved(notification, Err(error)) => {
                // What it belongs to cannot be found out now: the next listing finds it.
                self.shared.trouble(Some(error));
                self.list_soon(false, "a notification could not be followed");
                drop(notification);
            }
            Done::Listed(Ok(listed)) => self.listed(&listed),
            Done::Listed(Err(error)) => {
                self.listing.failed(now);
                self.is_other_cloud = error.is_other_cloud;
                self.shared.shown.lock().is_other_cloud = error.is_other_cloud;
                self.shared.trouble(Some(error.text));
            }
            Done::Accepted => self.listing.ask_at_once(now),
            Done::Nothing => {}
        }
    }

    /// Returns after how long an instance is read again.
    fn again_after(&mut self, id: InstanceId, again: Again, now: Instant) -> Option<Duration> {
        match again {
            Again::Unfinished(after) => Some(after),
            Again::Hidden { after, is_news } => {
                let since = self.looked_for.entry(id).or_insert(now);
                if is_news {
                    *since = now;
                }
                Some(after)
            }
            Again::No => {
                self.looked_for.remove(&id);
                None
            }
        }
    }

    fn push(&mut self, notification: &Notification, ids: &[InstanceId]) {
        let since = notification.since(Instant::now(), SystemTime::now());
        let mut queue = self.shared.queue.lock();
        for id in ids {
            self.looked_for.remove(id);
            queue.push(*id, notification.urgency, since, Some(notification.receipt.clone()));
        }
    }

    /// Lists all servers soon; `all`: and reads each again that was last read before now.
    fn list_soon(&mut self, all: bool, why: &str) {
        self.listing.ask(Instant::now(), if all { Compare::Before(SystemTime::now()) } else { Compare::Known });
        let mut shown = self.shared.shown.lock();
        if shown.reason.is_none() {
            info!("everything is compared: {why}");
            shown.reason = Some(why.to_owned());
        }
    }

    /// Notes that everything is in step, if nothing waits.
    fn settle(&self) {
        let is_idle = self.comparing.is_empty() && self.shared.queue.lock().is_empty();
        if is_idle && self.listing.is_settled() {
            let mut shown = self.shared.shown.lock();
            if shown.listed_at.is_some() {
                shown.in_step_at = Some(SystemTime::now());
                if let Some(reason) = shown.reason.take() {
                    info!("everything is compared, and in step ({reason})");
                }
            }
        }
    }
}
