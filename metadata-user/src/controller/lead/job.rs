//! One instance: read from OpenStack, made a document, written for its nodes.

use std::time::{Duration, Instant};

use tokio::sync::oneshot;
use tracing::{debug, info, warn};

use super::{Again, Done, MOVING};
use crate::admin::controller::ControllerProblem;
use crate::admin::wire::ControllerDifference;
use crate::controller::derive::{self, DeriveError, Facts, PortFacts};
use crate::controller::etcd::election::Term;
use crate::controller::etcd::{self, Note, WriteError, Written};
use crate::controller::openstack::{self, AskError, Failure, Found, Instance, Server};
use crate::controller::placement;
use crate::controller::queue::{Job, Outcome, Urgency};
use crate::controller::shared::Shared;
use crate::controller::table::Entry;
use crate::error_text;
use crate::record::{InstanceId, InstanceRecord};

/// Nova's status of a server that its metadata API may not know yet.
const BUILDING: &str = "BUILD";
/// How long after Nova has an instance its metadata API is asked again.
const NOT_YET: Duration = Duration::from_secs(2);

/// Notes of an unchanged instance in each `reconcile.reread_interval`, at most.
const NOTES: u32 = 2;

/// Why an instance is not in step.
#[derive(Debug, thiserror::Error)]
enum Problem {
    #[error(transparent)]
    Ask(#[from] AskError),
    #[error(transparent)]
    Derive(#[from] DeriveError),
    #[error(transparent)]
    Write(#[from] WriteError),
    #[error(
        "reading the pages of the server {0}: Nova's metadata API does not know the server, or not in its project; look at \
         metadata_api.endpoints and metadata_api.cells: they may be those of another cloud, or a cell is missing"
    )]
    Unknown(InstanceId),
    /// Nova's cache hides a change; nothing is wrong.
    #[error("Nova's metadata API still answers from its cache: {what} changed")]
    Stale { what: &'static str, again_after: Duration },
}

impl Problem {
    /// Returns what it says about other instances.
    fn outcome(&self) -> Outcome {
        match self {
            Self::Ask(AskError {
                failure: Failure::NotUnderstood | Failure::TooLarge | Failure::OneRequest, ..
            })
            | Self::Derive(_) => Outcome::Failed,
            Self::Unknown(_) => Outcome::Failed,
            Self::Stale { again_after, .. } => Outcome::TooOld(*again_after),
            Self::Ask(_) => Outcome::Unavailable,
            Self::Write(WriteError::Etcd(_) | WriteError::OtherCloud { .. }) => Outcome::Unavailable,
            Self::Write(_) => Outcome::Failed,
        }
    }
}

/// Runs a job to its end. `is_last_look`: the instance was read again for long enough, because a change may have been hidden.
pub(super) async fn run(shared: &Shared, term: &Term, job: Job, is_last_look: bool) -> Done {
    let (id, urgency) = (job.id, job.urgency);
    match attempt(shared, term, id, urgency, is_last_look).await {
        Ok(Attempt { again, reading }) => {
            if job.is_notified {
                shared.lag.lock().add(Instant::now().saturating_duration_since(job.since));
                shared.reading.lock().add(reading);
            }
            Done::Job { id, outcome: Outcome::Done, again }
        }
        Err(problem) => {
            let outcome = problem.outcome();
            if let Problem::Stale { what, .. } = problem {
                debug!(instance = %id, what, "Nova's cache hides a change: the instance is read again");
            } else {
                let text = error_text::chain(&problem);
                if matches!(problem, Problem::Write(_)) {
                    shared.shown.lock().write_failures += 1;
                }
                // A service that does not answer is shown as such, once.
                if shared.table.lock().failed(id, &text) && outcome == Outcome::Failed {
                    warn!(instance = %id, "{text}");
                }
            }
            Done::Job { id, outcome, again: Again::No }
        }
    }
}

/// What came of an attempt that succeeded.
struct Attempt {
    /// When the instance is to be read again.
    again: Again,
    /// How long OpenStack took to answer.
    reading: Duration,
}

/// Brings an instance into step.
async fn attempt(
    shared: &Shared,
    term: &Term,
    id: InstanceId,
    urgency: Urgency,
    is_last_look: bool,
) -> Result<Attempt, Problem> {
    let start = Instant::now();
    let found = shared.openstack.read(id, asked(urgency)).await?;
    let reading = start.elapsed();
    let again = match found {
        Found::Gone => {
            let written = shared.writer.remove(term, id).await?;
            if written.removed > 0 {
                info!(instance = %id, nodes = written.removed, "instance is gone, and its documents");
            }
            shared.table.lock().gone(id);
            Again::No
        }
        Found::Stale { what, again_after } => return Err(Problem::Stale { what, again_after }),
        Found::WithoutPages(server) => without_pages(shared, term, &server).await?,
        Found::Instance(instance) => write(shared, term, &instance, is_last_look).await?,
    };
    Ok(Attempt { again, reading })
}

/// Nova's metadata API does not know a server: it has no answers that could be written.
async fn without_pages(shared: &Shared, term: &Term, server: &Server) -> Result<Again, Problem> {
    let again = if server.host.is_none() {
        shared.writer.remove(term, server.id).await?;
        Again::No
    } else if server.status == BUILDING && shared.writer.known().nodes_of(server.id).is_empty() {
        Again::Unfinished(NOT_YET)
    } else {
        return Err(Problem::Unknown(server.id));
    };
    note_without_document(shared, server);
    Ok(again)
}

/// Notes that a server has no document; one that nodes have stays.
fn note_without_document(shared: &Shared, server: &Server) {
    let nodes = shared.writer.known().nodes_of(server.id);
    shared.table.lock().read(server.id, Entry::of(server, Vec::new(), nodes, None), None);
}

async fn write(shared: &Shared, term: &Term, instance: &Instance, is_last_look: bool) -> Result<Again, Problem> {
    let Instance { server, moves, ports, pages, again_after } = instance;
    let nodes = placement::nodes(server, moves);
    let port_ids = ports.iter().map(|port| port.id).collect();
    if nodes.is_empty() {
        let written = shared.writer.remove(term, server.id).await?;
        shared.table.lock().read(server.id, Entry::of(server, port_ids, nodes, None), None);
        return Ok(again(instance, again_after.filter(|_| !is_last_look), written));
    }
    let facts: Vec<PortFacts> = ports.iter().map(PortFacts::from).collect();
    let facts = Facts { pages, ports: &facts, image: server.image.as_deref() };
    let derived = match derive::derive(&facts, &shared.cloud) {
        Ok(derived) => derived,
        // Nobody can ask. What nodes have stays: a Neutron that was emptied says the same.
        Err(DeriveError::NoPort(_)) => {
            note_without_document(shared, server);
            return Ok(Again::No);
        }
        Err(error) => return Err(error.into()),
    };
    let beside = derived.beside.into_iter().map(|page| (page.path.into(), page.reason)).collect();
    let entry = Entry::of(server, port_ids, nodes, Some(beside));
    // Nova's cache was over at least once since the last news: what is still the same stays so.
    let is_same = shared.writer.known().has(server.id, &derived.document);
    let hidden = again_after.filter(|_| !(is_last_look && is_same));
    let is_open = hidden.is_some() || !moves.is_empty();
    let note = entry.note(is_open, &shared.maker, &etcd::fingerprint(&derived.document));
    let renewal = shared.settings.reconcile.reread_interval / NOTES;
    let is_news = entry.is_news_after(shared.table.lock().get(server.id), is_open, renewal);
    let note = note.as_ref().map(|text| Note { text, is_news });
    let written = shared.writer.put(term, server.id, &derived.document, &entry.nodes, note).await?;
    if written.written + written.removed > 0 {
        debug!(instance = %server.id, written = written.written, removed = written.removed, "instance is in step");
    }
    shared.table.lock().read(server.id, entry, written.noted.then_some(is_open));
    Ok(again(instance, hidden, written))
}

/// Returns when an instance is to be read again, given after which time a change may have been hidden, and what was written.
fn again(instance: &Instance, hidden: Option<Duration>, written: Written) -> Again {
    let is_news = written.written + written.removed > 0;
    match hidden {
        _ if !instance.moves.is_empty() && instance.server.task_state.is_some() => Again::Unfinished(MOVING),
        Some(after) => Again::Hidden { after, is_news },
        None => Again::No,
    }
}

fn asked(urgency: Urgency) -> openstack::Urgency {
    match urgency {
        Urgency::Slow => openstack::Urgency::Background,
        Urgency::Again | Urgency::Change => openstack::Urgency::Change,
    }
}

/// Answers the operator where an instance's document and Nova's answers differ.
pub(super) async fn differences(
    shared: &Shared,
    id: InstanceId,
    answer: oneshot::Sender<Result<Vec<ControllerDifference>, ControllerProblem>>,
) -> Done {
    let result = async {
        match shared.openstack.read(id, openstack::Urgency::Change).await {
            Ok(Found::Instance(instance)) => {
                let facts: Vec<PortFacts> = instance.ports.iter().map(PortFacts::from).collect();
                let facts = Facts { pages: &instance.pages, ports: &facts, image: instance.server.image.as_deref() };
                let derived = derive::derive(&facts, &shared.cloud)
                    .map_err(|error| ControllerProblem::Failed(error_text::chain(&error)))?;
                // What the document would give without the pages beside it.
                let record = InstanceRecord { pages: Vec::new(), ..derived.record };
                let found = derive::differences(&instance.pages, &record, &shared.cloud);
                Ok(found
                    .into_iter()
                    .map(|difference| ControllerDifference {
                        path: difference.path.into(),
                        nova: difference.nova,
                        document: difference.ours,
                    })
                    .collect())
            }
            Ok(Found::Gone) => Err(ControllerProblem::NoInstance(id)),
            Ok(Found::WithoutPages(_)) => Err(ControllerProblem::Failed(format!(
                "Nova's metadata API does not know instance {id} yet; try again"
            ))),
            Ok(Found::Stale { what, .. }) => {
                let text = format!("Nova's metadata API still answers from its cache: {what} changed; try again");
                Err(ControllerProblem::Failed(text))
            }
            Err(error) => Err(ControllerProblem::Failed(error.to_string())),
        }
    };
    // The operator may not wait any more.
    let _ = answer.send(result.await);
    Done::Nothing
}
