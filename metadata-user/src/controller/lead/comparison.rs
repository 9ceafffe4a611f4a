//! The comparison of everything: whose cloud this is, which servers there are, and which of them have to be read.

use std::collections::BTreeSet;
use std::time::{Duration, Instant, SystemTime};

use tokio::sync::{mpsc, oneshot};
use tracing::{info, warn};

use super::listing::Compare;
use super::{Done, Ended, Leader};
use crate::admin::controller::ControllerProblem;
use crate::controller::etcd::election::Term;
use crate::controller::etcd::{Known, WriteError};
use crate::controller::openstack::{AskError, CloudId, Failure, Marker};
use crate::controller::queue::Urgency;
use crate::controller::shared::{Command, Shared};
use crate::controller::table::Entry;
use crate::record::InstanceId;

/// How long to wait before a term is begun again.
const AGAIN: Duration = Duration::from_secs(2);

/// What a listing of all servers has found.
pub(super) struct Listed {
    /// All servers.
    all: BTreeSet<InstanceId>,
    /// Those of which Nova says something else than when they were read; or that were not read by this leader.
    differing: Vec<InstanceId>,
    /// Those that somebody else has written in etcd.
    overwritten: Vec<InstanceId>,
}

/// Why OpenStack and etcd could not be compared.
pub(super) struct ListError {
    /// In a line, with the remedy.
    pub(super) text: String,
    /// Whether Nova answers for another cloud.
    pub(super) is_other_cloud: bool,
}

impl ListError {
    fn of_etcd(doing: &str, error: &WriteError) -> Self {
        let is_other_cloud = matches!(error, WriteError::OtherCloud { .. });
        Self { text: format!("{doing}{error}"), is_other_cloud }
    }
}

impl From<AskError> for ListError {
    fn from(error: AskError) -> Self {
        Self { text: error.to_string(), is_other_cloud: error.failure == Failure::OtherCloud }
    }
}

/// Begins a term: makes sure that etcd's documents are of this cloud, and reads what every node has.
pub(super) async fn begin(
    shared: &Shared,
    term: &Term,
    commands: &mut mpsc::UnboundedReceiver<Command>,
) -> Result<(), Ended> {
    let mut accepted = None;
    loop {
        match claim(shared, term, accepted.is_some()).await {
            Ok(()) => {
                shared.shown.lock().is_other_cloud = false;
                shared.trouble(None);
                if let Some(answer) = accepted {
                    answer_accept(answer, Ok(()));
                }
                return Ok(());
            }
            Err(error) => {
                shared.shown.lock().is_other_cloud = error.is_other_cloud;
                shared.trouble(Some(error.text.clone()));
                if let Some(answer) = accepted.take() {
                    answer_accept(answer, Err(ControllerProblem::Failed(error.text)));
                }
            }
        }
        tokio::select! {
            command = commands.recv() => match command {
                Some(Command::Resign(answer)) => return Err(Ended::Resigned(answer)),
                Some(Command::Accept(answer)) => accepted = Some(answer),
                Some(Command::Differences(_, answer)) => {
                    let problem = shared.shown.lock().trouble.clone().map(|(text, _)| text).unwrap_or_default();
                    let _ = answer.send(Err(ControllerProblem::Failed(problem)));
                }
                Some(Command::Wake) => {}
                None => return Err(Ended::Stopped),
            },
            () = tokio::time::sleep(AGAIN) => {}
        }
    }
}

/// Answers the operator, who may not wait any more.
fn answer_accept(answer: oneshot::Sender<Result<(), ControllerProblem>>, result: Result<(), ControllerProblem>) {
    let _ = answer.send(result);
}

/// Makes sure that etcd's documents are of this cloud, and reads what every node has.
async fn claim(shared: &Shared, term: &Term, is_accepted: bool) -> Result<(), ListError> {
    let kept = shared.writer.cloud().await.map_err(|error| {
        let text = format!("reading etcd: {error}");
        ListError { text, is_other_cloud: false }
    })?;
    let now = shared.openstack.cloud_id().await;
    let cloud = match (kept, now) {
        // Nothing is written until Nova has said who it is.
        (None, Err(error)) => return Err(error.into()),
        (None, Ok(now)) => now,
        (Some(kept), now) => match (kept.parse::<CloudId>(), now) {
            // It is asked again before anything follows from its answers.
            (Ok(kept), Err(error)) => {
                warn!("{error}");
                load(shared, term, &kept).await?;
                shared.openstack.expect(kept).await;
                return Ok(());
            }
            (Ok(kept), Ok(now)) if kept.is_still(&now) || is_accepted => {
                if kept != now {
                    replace(shared, term, &now).await?;
                }
                now
            }
            (Err(_), Ok(now)) if is_accepted => {
                replace(shared, term, &now).await?;
                now
            }
            (_, Ok(now)) => {
                let error = WriteError::OtherCloud { found: kept, own: now.to_string() };
                return Err(ListError::of_etcd("", &error));
            }
            (Err(_), Err(error)) => return Err(error.into()),
        },
    };
    load(shared, term, &cloud).await?;
    shared.openstack.expect(cloud).await;
    Ok(())
}

async fn replace(shared: &Shared, term: &Term, cloud: &CloudId) -> Result<(), ListError> {
    let accepted = shared.writer.accept(term, &cloud.to_string()).await;
    accepted.map(drop).map_err(|error| ListError::of_etcd("", &error))
}

/// Reads what every node has, and what former leaders have left of each instance.
async fn load(shared: &Shared, term: &Term, cloud: &CloudId) -> Result<(), ListError> {
    let mut recalled = Vec::new();
    let note = |known: &Known, id: InstanceId, note: &[u8]| {
        let document = known.fingerprint_of(id).unwrap_or_default();
        recalled.extend(Entry::recalled(note, &shared.maker, &document, known.nodes_of(id)).map(|entry| (id, entry)));
    };
    let loaded = shared.writer.load(term, &cloud.to_string(), note).await;
    let known = loaded.map_err(|error| ListError::of_etcd("", &error))?;
    let open: Vec<_> = recalled.iter().filter(|(_, entry)| entry.is_open()).map(|&(id, _)| id).collect();
    info!(instances = known.len(), read = recalled.len(), open = open.len(), "a former leader's work is taken over");
    {
        let mut table = shared.table.lock();
        for id in known.ids() {
            table.found(id, known.nodes_of(id));
        }
        for (id, entry) in recalled {
            table.read(id, entry, None);
        }
    }
    // A change may have been on its way when that leader ended.
    shared.push(open, Urgency::Change);
    Ok(())
}

/// Takes the cloud that answers now for the right one, and answers the operator.
pub(super) async fn accept(
    shared: &Shared,
    term: &Term,
    answer: oneshot::Sender<Result<(), ControllerProblem>>,
) -> Done {
    let result = claim(shared, term, true).await.map_err(|error| ControllerProblem::Failed(error.text));
    if result.is_ok() {
        shared.shown.lock().is_other_cloud = false;
        info!("the cloud that answers now is written, as the operator asked");
        shared.trouble(None);
    }
    answer_accept(answer, result);
    Done::Accepted
}

/// Lists all servers, and compares them with what is known.
pub(super) async fn list(shared: &Shared, term: &Term) -> Done {
    Done::Listed(list_all(shared, term).await)
}

/// Asks the services that did not answer when they were last asked, so that the status is right where nothing else asks them.
pub(super) async fn look_after(shared: &Shared) -> Done {
    shared.openstack.look_after().await;
    Done::Nothing
}

async fn list_all(shared: &Shared, term: &Term) -> Result<Listed, ListError> {
    shared.openstack.check_cloud().await?;
    let compared = shared.writer.compare(term).await;
    let overwritten = compared.map_err(|error| ListError::of_etcd("comparing with etcd: ", &error))?;
    let mut listed = Listed { all: BTreeSet::new(), differing: Vec::new(), overwritten };
    let mut marker = Some(Marker::start());
    while let Some(from) = marker {
        match shared.openstack.servers(&from).await {
            Ok((servers, next)) => {
                let table = shared.table.lock();
                for server in &servers {
                    listed.all.insert(server.id);
                    if table.differs(server) {
                        listed.differing.push(server.id);
                    }
                }
                marker = next;
            }
            Err(AskError { failure: Failure::MarkerGone, .. }) => {
                listed.all.clear();
                listed.differing.clear();
                marker = Some(Marker::start());
            }
            Err(error) => return Err(error.into()),
        }
    }
    Ok(listed)
}

impl Leader<'_> {
    /// Has everything read that a listing shows to be out of step.
    pub(super) fn listed(&mut self, listed: &Listed) {
        let now = Instant::now();
        let compare = self.listing.ended(now, self.shared.settings.reconcile.list_interval);
        self.is_other_cloud = false;
        self.shared.trouble(None);
        {
            let mut shown = self.shared.shown.lock();
            shown.listed_at = Some(SystemTime::now());
            shown.servers = listed.all.len();
            shown.is_other_cloud = false;
        }
        let known = self.shared.writer.known();
        let mut gone: BTreeSet<InstanceId> = known.ids().into_iter().filter(|id| !listed.all.contains(id)).collect();
        {
            let (mut queue, table) = (self.shared.queue.lock(), self.shared.table.lock());
            gone.extend(table.iter().map(|(id, _)| id).filter(|id| !listed.all.contains(id)));
            for &id in listed.differing.iter().chain(&listed.overwritten) {
                let was_read = table.get(id).is_some_and(|entry| entry.read_at.is_some());
                // Where nothing was read yet, everything differs, and what nodes have may still be right.
                let urgency = if was_read { Urgency::Change } else { Urgency::Slow };
                if was_read || known.nodes_of(id).is_empty() {
                    queue.push(id, urgency, now, None);
                }
            }
            // Each is asked for before anything follows.
            for &id in &gone {
                queue.push(id, Urgency::Change, now, None);
            }
        }
        let all: Vec<InstanceId> = listed.all.iter().copied().collect();
        let mut due = BTreeSet::new();
        {
            let table = self.shared.table.lock();
            for &id in &listed.all {
                let read_at = table.get(id).and_then(|entry| entry.read_at);
                match read_at.map(|at| at.elapsed()) {
                    Some(Ok(age)) => self.round.resume(id, age, now),
                    // Its clock was ahead.
                    Some(Err(_)) => self.round.resume(id, Duration::ZERO, now),
                    None => {}
                }
                let is_due = match compare {
                    Compare::Known => false,
                    Compare::Unread => read_at.is_none(),
                    Compare::Before(time) => read_at.is_none_or(|at| at < time),
                };
                if is_due {
                    due.insert(id);
                }
            }
        }
        self.round.spread(&all, now);
        for id in &gone {
            self.round.forget(*id);
        }
        self.round.hasten(now, |id| due.contains(&id));
        self.comparing.extend(due);
        if compare != Compare::Known {
            self.comparing.extend(listed.differing.iter().copied());
        }
        self.comparing.retain(|id| listed.all.contains(id));
        self.settle();
    }
}
