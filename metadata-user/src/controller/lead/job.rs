//! One instance: read from OpenStack, made a document, written for its nodes.

use std::time::{Duration, Instant};

use tokio::sync::oneshot;
use tracing::{debug, info, warn};

use super::{Again, Done, MOVING};
use crate::admin::controller::ControllerProblem;
use crate::admin::wire::ControllerDifference;
use crate::controller::derive::{self, DeriveError, Facts, PortFacts};
use crate::controller::etcd::WriteError;
use crate::controller::etcd::election::Term;
use crate::controller::openstack::{self, AskError, Failure, Found, Instance, Server};
use crate::controller::placement;
use crate::controller::queue::{Job, Outcome, Urgency};
use crate::controller::shared::Shared;
use crate::error_text;
use crate::record::{InstanceId, InstanceRecord};

/// How long after Nova has an instance its metadata API is asked again.
const NOT_YET: Duration = Duration::from_secs(2);

/// Why an instance is not in step.
#[derive(Debug, thiserror::Error)]
enum Problem {
    #[error(transparent)]
    Ask(#[from] AskError),
    #[error(transparent)]
    Derive(#[from] DeriveError),
    #[error(transparent)]
    Write(#[from] WriteError),
    /// Nova's cache hides a change; nothing is wrong.
    #[error("Nova's metadata API still answers from its cache: {what} changed")]
    Stale { what: &'static str, again_after: Duration },
}

impl Problem {
    /// Returns what it says about other instances.
    fn outcome(&self) -> Outcome {
        match self {
            Self::Ask(AskError { failure: Failure::NotUnderstood | Failure::TooLarge, .. }) | Self::Derive(_) => {
                Outcome::Failed
            }
            Self::Stale { again_after, .. } => Outcome::TooOld(*again_after),
            Self::Ask(_) => Outcome::Unavailable,
            Self::Write(WriteError::Etcd(_) | WriteError::OtherCloud { .. }) => Outcome::Unavailable,
            Self::Write(_) => Outcome::Failed,
        }
    }
}

/// Runs a job to its end.
pub(super) async fn run(shared: &Shared, term: &Term, job: Job) -> Done {
    let (id, urgency) = (job.id, job.urgency);
    match attempt(shared, term, id, urgency).await {
        Ok(again) => {
            if urgency == Urgency::Change {
                shared.lag.lock().add(Instant::now().saturating_duration_since(job.since));
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

/// Brings an instance into step. Returns when it is to be read again.
async fn attempt(shared: &Shared, term: &Term, id: InstanceId, urgency: Urgency) -> Result<Again, Problem> {
    match shared.openstack.read(id, asked(urgency)).await? {
        Found::Gone => {
            let written = shared.writer.remove(term, id).await?;
            if written.removed > 0 {
                info!(instance = %id, nodes = written.removed, "instance is gone, and its documents");
            }
            shared.table.lock().gone(id);
            Ok(Again::No)
        }
        Found::Stale { what, again_after } => Err(Problem::Stale { what, again_after }),
        Found::WithoutPages(server) => without_pages(shared, term, &server).await,
        Found::Instance(instance) => write(shared, term, &instance).await,
    }
}

/// Nova's metadata API does not know a server: it has no answers that could be written.
async fn without_pages(shared: &Shared, term: &Term, server: &Server) -> Result<Again, Problem> {
    let again = if server.host.is_some() {
        Again::Unfinished(NOT_YET)
    } else {
        shared.writer.remove(term, server.id).await?;
        Again::No
    };
    shared.table.lock().read(server, Vec::new(), shared.writer.known().nodes_of(server.id), None);
    Ok(again)
}

async fn write(shared: &Shared, term: &Term, instance: &Instance) -> Result<Again, Problem> {
    let Instance { server, moves, ports, pages, again_after } = instance;
    let nodes = placement::nodes(server, moves);
    let facts: Vec<PortFacts> = ports.iter().map(PortFacts::from).collect();
    let (beside, written) = if nodes.is_empty() {
        (None, shared.writer.remove(term, server.id).await?)
    } else {
        let facts = Facts { pages, ports: &facts, image: server.image.as_deref() };
        let derived = match derive::derive(&facts, &shared.cloud) {
            Ok(derived) => derived,
            // Nobody can ask. What nodes have stays: a Neutron that was emptied says the same.
            Err(DeriveError::NoPort(_)) => {
                let nodes = shared.writer.known().nodes_of(server.id);
                shared.table.lock().read(server, Vec::new(), nodes, None);
                return Ok(Again::No);
            }
            Err(error) => return Err(error.into()),
        };
        let written = shared.writer.put(term, server.id, &derived.document, &nodes).await?;
        let beside = derived.beside.into_iter().map(|page| (page.path.into(), page.reason));
        (Some(beside.collect::<Vec<_>>()), written)
    };
    if written.written + written.removed > 0 {
        debug!(instance = %server.id, written = written.written, removed = written.removed, "instance is in step");
    }
    let ids = ports.iter().map(|port| port.id).collect();
    shared.table.lock().read(server, ids, nodes, beside);
    Ok(match again_after {
        _ if !moves.is_empty() && server.task_state.is_some() => Again::Unfinished(MOVING),
        Some(after) => Again::Hidden { after: *after, is_news: written.written + written.removed > 0 },
        None => Again::No,
    })
}

fn asked(urgency: Urgency) -> openstack::Urgency {
    match urgency {
        Urgency::Slow => openstack::Urgency::Background,
        Urgency::Change => openstack::Urgency::Change,
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
