//! Reads of Nova's compute API: servers, their unfinished moves, and which cloud it is.
//!
//! Microversion 2.79 (Train, 2019), always: it has moves by server (2.59), a status of its own for servers whose cell is down (2.69), ids of
//! services (2.53) and strict query parameters (2.75). A Nova without it says so, and is too old.
//!
//! Promises: a server counts as gone only where Nova itself says so (its JSON, its microversion, this id), and, asked afterwards, still is
//! the cloud that is expected. Anything else is an error, of which nothing follows.

use serde_json::Value;
use tokio::sync::Mutex;
use tokio::time::Instant;

use super::cloud::{CloudId, ServicesAnswer};
use super::error::{AskError, Failure, Service};
use super::gate::Urgency;
use super::server::{MigrationFields, MigrationsAnswer, Move, Server, ServerAnswer, ServersAnswer, Unusable};
use super::session::{Answer, Api, Asked, Session};
use crate::record::InstanceId;

/// The header that names the microversion, and our value of it.
pub(super) const VERSION_HEADER: (&str, &str) = ("OpenStack-API-Version", "compute 2.79");
/// Headers of each request.
pub(super) const HEADERS: &[(&str, &str)] = &[VERSION_HEADER];
/// Smallest page that is asked for where a larger one does not fit.
const SMALLEST_PAGE: u32 = 10;

/// Where a list of servers goes on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Marker {
    after: Option<InstanceId>,
}

impl Marker {
    /// The beginning of a list of all servers.
    #[must_use]
    pub fn start() -> Self {
        Self::default()
    }
}

/// Which cloud is expected, and when it was last seen to be that.
#[derive(Debug, Default)]
pub(super) struct Expected {
    cloud: Mutex<Seen>,
}

#[derive(Debug, Default)]
struct Seen {
    cloud: Option<CloudId>,
    /// When the last question was begun that was answered by the expected cloud.
    seen_at: Option<Instant>,
}

impl Expected {
    pub(super) async fn set(&self, api: &Api, cloud: CloudId) {
        *self.cloud.lock().await = Seen { cloud: Some(cloud), seen_at: None };
        api.gate.confirmed();
    }

    /// Asks Nova whether it still is the expected cloud, unless somebody has asked since then.
    async fn confirm(&self, session: &Session, api: &Api, doing: &str, since: Instant) -> Result<(), AskError> {
        let mut seen = self.cloud.lock().await;
        if seen.seen_at.is_some_and(|at| at >= since) {
            return Ok(());
        }
        let (asked_at, now) = (Instant::now(), cloud(session, api, Urgency::Change).await?);
        compare(seen.cloud.as_ref(), &now).map_err(|problem| other(api, doing, problem))?;
        seen.seen_at = Some(asked_at);
        api.gate.confirmed();
        Ok(())
    }

    /// Asks Nova which cloud it is, and refuses another than the expected one.
    pub(super) async fn check(&self, session: &Session, api: &Api) -> Result<CloudId, AskError> {
        let mut seen = self.cloud.lock().await;
        let (asked_at, now) = (Instant::now(), cloud(session, api, Urgency::Change).await?);
        if let Err(problem) = compare(seen.cloud.as_ref(), &now) {
            return Err(other(api, "asking which cloud this is", problem));
        }
        seen.seen_at = Some(asked_at);
        api.gate.confirmed();
        Ok(now)
    }
}

fn compare(expected: Option<&CloudId>, now: &CloudId) -> Result<(), &'static str> {
    match expected {
        None => Err("answers, and it is not known yet which cloud the documents are of"),
        Some(expected) if !expected.is_still(now) => {
            Err("answers for another cloud: its services are not those of before")
        }
        Some(_) => Ok(()),
    }
}

fn other(api: &Api, doing: &str, problem: &str) -> AskError {
    api.gate.failed(AskError::new(Service::Nova, doing, Failure::OtherCloud, problem), false)
}

/// Reads the cloud's identity.
pub(super) async fn cloud(session: &Session, api: &Api, urgency: Urgency) -> Result<CloudId, AskError> {
    let doing = "asking which cloud this is";
    let answer = ask(session, api, Asked { doing, path: "/os-services", urgency }).await?;
    if answer.status != 200 {
        return Err(answer.unexpected(api, doing));
    }
    let services: ServicesAnswer = answer.read(api, doing)?;
    services.cloud().ok_or_else(|| other(api, doing, "has no service at all: its database may be empty"))
}

/// Reads a page of the list of all servers, by id. Servers of a cell that is down are missing from it: absence is no proof.
pub(super) async fn servers(
    session: &Session,
    api: &Api,
    marker: &Marker,
    page: u32,
) -> Result<(Vec<Server>, Option<Marker>), AskError> {
    let doing = "listing servers";
    let mut limit = page;
    loop {
        let mut path = format!("/servers/detail?all_tenants=1&sort_key=uuid&sort_dir=asc&limit={limit}");
        if let Some(after) = marker.after {
            path += &format!("&marker={after}");
        }
        let read_at = Instant::now();
        let answer = match ask(session, api, Asked { doing, path: &path, urgency: Urgency::Background }).await {
            Err(error) if error.failure == Failure::TooLarge && limit > SMALLEST_PAGE => {
                limit = (limit / 4).max(SMALLEST_PAGE);
                continue;
            }
            answer => answer?,
        };
        if answer.status == 400 && marker.after.is_some_and(|after| names_marker(&answer, after)) {
            let problem = "no longer knows the last server of the page before";
            return Err(AskError::new(Service::Nova, doing, Failure::MarkerGone, problem));
        }
        if answer.status != 200 {
            return Err(answer.unexpected(api, doing));
        }
        let list: ServersAnswer = answer.read(api, doing)?;
        let last = list.servers.last().map(|server| InstanceId(server.id)).filter(|_| list.goes_on());
        if last.is_some() && last == marker.after {
            let problem = "has a list without an end";
            return Err(api.gate.count_failure(AskError::new(Service::Nova, doing, Failure::NotUnderstood, problem)));
        }
        let next = last.map(|last| Marker { after: Some(last) });
        let mut servers = Vec::with_capacity(list.servers.len());
        for fields in list.servers {
            match fields.server(read_at) {
                Ok(server) => servers.push(server),
                Err(Unusable::CellDown) => {}
                Err(Unusable::HostHidden) => return Err(hidden(api, doing)),
            }
        }
        return Ok((servers, next));
    }
}

/// Reads a server; `None`: it is gone.
pub(super) async fn server(
    session: &Session,
    api: &Api,
    expected: &Expected,
    id: InstanceId,
    urgency: Urgency,
) -> Result<Option<Server>, AskError> {
    let doing = format!("reading the server {id}");
    let read_at = Instant::now();
    let answer = ask(session, api, Asked { doing: &doing, path: &format!("/servers/{id}"), urgency }).await?;
    if answer.status == 404 {
        if !says_gone(&answer, id) {
            return Err(answer.unexpected(api, &doing));
        }
        expected.confirm(session, api, &doing, read_at).await?;
        return Ok(None);
    }
    if answer.status != 200 {
        return Err(answer.unexpected(api, &doing));
    }
    let fields = answer.read::<ServerAnswer>(api, &doing)?.server;
    if fields.id != id.0 {
        let problem = format!("answered with another server, {}", fields.id);
        return Err(api.gate.count_failure(AskError::new(Service::Nova, &doing, Failure::NotUnderstood, problem)));
    }
    match fields.server(read_at) {
        Ok(server) => Ok(Some(server)),
        Err(Unusable::CellDown) => {
            let problem = "says that the server's cell is down";
            Err(api.gate.count_failure(AskError::new(Service::Nova, &doing, Failure::OneRequest, problem)))
        }
        Err(Unusable::HostHidden) => Err(hidden(api, &doing)),
    }
}

/// Reads the moves of a server that are not over.
pub(super) async fn moves(
    session: &Session,
    api: &Api,
    id: InstanceId,
    urgency: Urgency,
) -> Result<Vec<Move>, AskError> {
    let doing = format!("reading the moves of the server {id}");
    let path = format!("/os-migrations?instance_uuid={id}");
    let answer = ask(session, api, Asked { doing: &doing, path: &path, urgency }).await?;
    if answer.status != 200 {
        return Err(answer.unexpected(api, &doing));
    }
    let moves: MigrationsAnswer = answer.read(api, &doing)?;
    Ok(moves.migrations.into_iter().filter_map(MigrationFields::unfinished).collect())
}

/// Asks, and refuses what is not Nova's at our microversion.
async fn ask(session: &Session, api: &Api, asked: Asked<'_>) -> Result<Answer, AskError> {
    let answer = session.get(api, asked).await?;
    let (name, value) = VERSION_HEADER;
    if answer.headers.get_all(name).iter().any(|given| given == value) {
        return Ok(answer);
    }
    let problem = format!("answered {} without `{name}: {value}`, which Nova since Train (2019) sends", answer.status);
    Err(api.gate.failed(AskError::new(Service::Nova, asked.doing, Failure::NotUnderstood, problem), false))
}

/// Returns whether a 400 is because of the marker (`marker [ID] not found`).
fn names_marker(answer: &Answer, after: InstanceId) -> bool {
    String::from_utf8_lossy(&answer.body).contains(&format!("[{after}]"))
}

/// Returns whether a 404 is Nova's own for this server.
fn says_gone(answer: &Answer, id: InstanceId) -> bool {
    let body: Option<Value> = serde_json::from_slice(&answer.body).ok();
    body.as_ref().and_then(|body| body.get("itemNotFound")).is_some_and(|fault| {
        let message = fault.get("message").and_then(Value::as_str).unwrap_or_default();
        fault.get("code").and_then(Value::as_u64) == Some(404) && message.contains(&id.to_string())
    })
}

fn hidden(api: &Api, doing: &str) -> AskError {
    let problem = "does not show the server's host (policy os_compute_api:os-extended-server-attributes)";
    api.gate.failed(AskError::new(Service::Nova, doing, Failure::Refused, problem), false)
}
