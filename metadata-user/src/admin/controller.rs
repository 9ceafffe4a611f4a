//! The controller's admin API: as the daemon's, at a socket of its own.
//!
//! | request | answer |
//! |---|---|
//! | `GET /v1/status` | [`ControllerStatus`] |
//! | `GET /v1/instances` | list of [`ControlledInstance`] |
//! | `POST /v1/reread` | [`Reread`]: all instances are read again |
//! | `POST /v1/reread?instance=UUID` | [`Reread`]: this one is |
//! | `GET /v1/differences?instance=UUID` | list of [`ControllerDifference`]: Nova is asked |
//! | `POST /v1/resign` | [`Resigned`]: another controller may lead |
//! | `POST /v1/accept` | the cloud that Nova is now may be written |
//! | `GET /metrics` | all metrics |
//!
//! Promises: those of the daemon's admin API.

use std::future::{Future, ready};
use std::io;
use std::pin::Pin;
use std::sync::Arc;

use http_body_util::{BodyExt as _, Full};
use hyper::{Method, StatusCode};
use serde::Serialize;

use super::client::{Client, ClientError};
use super::peer::Right;
use super::query::value;
use super::server::{Answer, Resource, json, now, problem, respond, run_with};
use super::socket::AdminSocket;
use super::wire::{ControlledInstance, ControllerDifference, ControllerStatus, Reread, Resigned};
use crate::metrics::Format;
use crate::record::InstanceId;

/// What a controller could not do, and the remedy.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ControllerProblem {
    /// Another controller leads.
    #[error("{0}")]
    NotLeading(String),
    /// There is no such instance.
    #[error("no instance {0} is known here; `metadatad controller list` shows those that are")]
    NoInstance(InstanceId),
    /// Something that was asked does not answer.
    #[error("{0}")]
    Failed(String),
}

/// What a controller was asked, sooner or later.
pub type Acting<'a, T> = Pin<Box<dyn Future<Output = Result<T, ControllerProblem>> + Send + 'a>>;

/// What the controller's admin API shows.
pub trait InspectController: Send + Sync + 'static {
    /// Returns how it is doing.
    fn status(&self) -> ControllerStatus;

    /// Returns all instances, by id.
    ///
    /// # Errors
    /// If this controller does not lead.
    fn instances(&self) -> Result<Vec<ControlledInstance>, ControllerProblem>;

    /// Reads an instance again, or all.
    ///
    /// # Errors
    /// If this controller does not lead, or does not know the instance.
    fn reread(&self, instance: Option<InstanceId>) -> Result<Reread, ControllerProblem>;

    /// Compares what an instance's document gives with what Nova answers now.
    fn differences(&self, instance: InstanceId) -> Acting<'_, Vec<ControllerDifference>>;

    /// Gives up the leadership. Completes when another controller leads, or after a few seconds.
    fn resign(&self) -> Acting<'_, Resigned>;

    /// Confirms that the cloud that Nova is now may be written.
    fn accept(&self) -> Acting<'_, ()>;

    /// Returns all metrics, written so.
    fn metrics(&self, format: Format) -> String;
}

/// Answers for the controller until it is dropped.
///
/// # Errors
/// If the socket cannot be used with this runtime.
pub fn run(socket: AdminSocket, inspect: Arc<dyn InspectController>) -> impl Future<Output = io::Result<()>> + Send {
    run_with(socket, inspect, RESOURCES)
}

static RESOURCES: &[Resource<dyn InspectController>] = &[
    Resource::new(Method::GET, "/v1/status", Right::Read, |inspect, _| now(&inspect.status())),
    Resource::new(Method::GET, "/v1/instances", Right::Read, |inspect, _| acted(inspect.instances())),
    Resource::new(Method::POST, "/v1/reread", Right::Change, |inspect, asked| {
        let instance = value(asked.query, "instance").map(|text| text.parse::<InstanceId>());
        acted(match instance {
            None => inspect.reread(None),
            Some(Ok(id)) => inspect.reread(Some(id)),
            Some(Err(_)) => return named_badly(),
        })
    }),
    // What Nova answers is as secret as a guest's user data.
    Resource::new(Method::GET, "/v1/differences", Right::Change, |inspect, asked| {
        match value(asked.query, "instance").and_then(|text| text.parse::<InstanceId>().ok()) {
            Some(id) => acting(inspect.differences(id)),
            None => named_badly(),
        }
    }),
    Resource::new(Method::POST, "/v1/resign", Right::Change, |inspect, _| acting(inspect.resign())),
    Resource::new(Method::POST, "/v1/accept", Right::Change, |inspect, _| acting(inspect.accept())),
    Resource::new(Method::GET, "/metrics", Right::Read, |inspect, asked| {
        let format = Format::accepted(asked.accept);
        let body = Full::from(inspect.metrics(format)).boxed_unsync();
        Box::pin(ready(respond(StatusCode::OK, format.content_type(), body)))
    }),
];

fn named_badly() -> Answer<'static> {
    Box::pin(ready(problem(StatusCode::BAD_REQUEST, "name the instance: ?instance=UUID".to_owned())))
}

fn acted<T: Serialize>(result: Result<T, ControllerProblem>) -> Answer<'static> {
    Box::pin(ready(match result {
        Ok(value) => json(StatusCode::OK, &value),
        Err(error) => refused(&error),
    }))
}

fn acting<T: Serialize + 'static>(acting: Acting<'_, T>) -> Answer<'_> {
    Box::pin(async move {
        match acting.await {
            Ok(value) => json(StatusCode::OK, &value),
            Err(error) => refused(&error),
        }
    })
}

fn refused(error: &ControllerProblem) -> hyper::Response<super::server::Body> {
    let status = match error {
        ControllerProblem::NotLeading(_) => StatusCode::CONFLICT,
        ControllerProblem::NoInstance(_) => StatusCode::NOT_FOUND,
        ControllerProblem::Failed(_) => StatusCode::BAD_GATEWAY,
    };
    problem(status, error.to_string())
}

/// A connection per request to the controller behind a socket.
#[derive(Clone, Debug)]
pub struct ControllerClient(Client);

impl ControllerClient {
    /// Names the socket; nothing is opened yet.
    #[must_use]
    pub fn new(socket: &std::path::Path) -> Self {
        Self(Client::new(socket))
    }

    /// Asks how the controller is doing.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn status(&self) -> Result<ControllerStatus, ClientError> {
        self.0.get("/v1/status").await
    }

    /// Asks for all instances.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn instances(&self) -> Result<Vec<ControlledInstance>, ClientError> {
        self.0.get("/v1/instances").await
    }

    /// Has an instance read again, or all.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn reread(&self, instance: Option<InstanceId>) -> Result<Reread, ClientError> {
        let query = instance.map(|id| format!("?instance={id}")).unwrap_or_default();
        self.0.ask(Method::POST, &format!("/v1/reread{query}")).await
    }

    /// Asks where an instance's document and Nova's answers differ.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn differences(&self, instance: InstanceId) -> Result<Vec<ControllerDifference>, ClientError> {
        self.0.get(&format!("/v1/differences?instance={instance}")).await
    }

    /// Asks the controller to give up the leadership.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn resign(&self) -> Result<Resigned, ClientError> {
        self.0.ask(Method::POST, "/v1/resign").await
    }

    /// Confirms that the cloud that Nova is now may be written.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn accept(&self) -> Result<(), ClientError> {
        self.0.ask(Method::POST, "/v1/accept").await
    }

    /// Asks for all metrics, in Prometheus's text format.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn metrics(&self) -> Result<String, ClientError> {
        self.0.metrics().await
    }
}
